/*
 * bench_client.c - the benchmark's connections: opening, upgrading, reading.
 *
 * One epoll, edge-triggered, and one large input buffer for everybody: a client holds memory only
 * for the piece of a frame that a read has cut off. The order of clients' source addresses is round
 * robin, so that no address runs out of ports.
 */
#include "base/clock.h"
#include "base/mem.h"
#include "ctl/bench_payload.h"
#include "ctl/bench_run.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define INPUT_BYTES     (256u << 10) /* fits the second-level cache beside what the kernel needs */
#define INPUT_ROOM      (64u << 10)  /* at least so much is left for a read behind a kept tail */
#define EVENTS_PER_TURN 1024
#define HEAD_MAX_BYTES  8192

static const char upgrade_key[] = "dGhlIHNhbXBsZSBub25jZQ=="; /* RFC 6455's own example */

static bool fail(struct bench *b, const char *what)
{
    if (b->error[0] == '\0')
        snprintf(b->error, sizeof b->error, "%s", what);
    return false;
}

/* ---- setting up ---------------------------------------------------------------------------- */

/* Every client has different channels, drawn at random. */
static void draw_channels(struct bench *b, size_t index, struct rng *random)
{
    const struct bench_options *o = &b->options;
    uint32_t mask = b->slot_count - 1;
    struct bench_slot *slots = b->slots + index * b->slot_count;
    for (unsigned drawn = 0; drawn < (unsigned)o->channels;) {
        uint32_t channel =
            o->channels == o->of ? drawn : (uint32_t)rng_below(random, (uint64_t)o->of);
        uint32_t i = bench_slot_start(b, channel);
        while (slots[i].channel != 0 && slots[i].channel != channel + 1)
            i = (i + 1) & mask;
        if (slots[i].channel == 0) {
            slots[i].channel = channel + 1;
            drawn++;
        }
    }
}

static bool is_inspected(const struct bench_options *o, size_t index)
{
    return (!o->compress && o->tape == NULL) || index < (size_t)o->inflate;
}

bool bench_clients_init(struct bench *b)
{
    const struct bench_options *o = &b->options;
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
        if (limit.rlim_cur < (rlim_t)o->clients + 32u)
            return fail(b, "more clients than this process may open descriptors");
    }
    b->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (b->epoll < 0)
        return fail(b, strerror(errno));
    for (b->slot_count = 2; b->slot_count < 2 * (uint32_t)o->channels;)
        b->slot_count *= 2;
    b->clients = mem_zalloc((size_t)o->clients * sizeof *b->clients);
    b->passed = mem_zalloc((size_t)o->clients * sizeof *b->passed);
    b->slots = mem_zalloc((size_t)o->clients * b->slot_count * sizeof *b->slots);
    b->inflater = ws_inflater_new();
    bench_latency_init(b);
    buf_reserve(&b->input, INPUT_BYTES);
    if (o->raw && !o->compress && o->tape == NULL && o->size > 125 && o->size < 65536) {
        unsigned char head[4] = {0x81, 126, (unsigned char)(o->size >> 8), (unsigned char)o->size};
        memcpy(&b->frame_head, head, sizeof head);
    }
    struct rng random;
    rng_init_seed(&random, (uint64_t)o->seed);
    for (size_t i = 0; i < (size_t)o->clients; i++) {
        b->clients[i].fd = -1;
        b->clients[i].inspected = is_inspected(o, i);
        b->clients[i].stalled = i >= (size_t)(o->clients - o->stalled);
        draw_channels(b, i, &random);
    }
    return true;
}

void bench_clients_fini(struct bench *b)
{
    for (size_t i = 0; b->clients != NULL && i < (size_t)b->options.clients; i++) {
        if (b->clients[i].fd >= 0)
            close(b->clients[i].fd);
        free(b->clients[i].tail);
    }
    free(b->clients);
    free(b->passed);
    free(b->slots);
    bench_latency_fini(b);
    buf_fini(&b->input);
    buf_fini(&b->inflated);
    if (b->inflater != NULL)
        ws_inflater_free(b->inflater);
    if (b->epoll > 0)
        close(b->epoll);
}

/* ---- opening ------------------------------------------------------------------------------- */

void bench_channel_name(const struct bench *b, uint32_t channel, char *name)
{
    if (b->tape != NULL)
        snprintf(name, BENCH_NAME_BYTES, "%s", bench_tape_channel(b->tape, channel));
    else
        snprintf(name, BENCH_NAME_BYTES, "%.200s:B%06u", b->options.space, channel);
}

/* A channel's name may hold what has a meaning in a URL. */
static void append_query_text(struct buf *out, const char *text)
{
    for (; *text != '\0'; text++) {
        bool is_special = strchr("%&#+", *text) != NULL;
        buf_printf(out, is_special ? "%%%02x" : "%c", (unsigned char)*text);
    }
}

static const struct bench_server *server_of(const struct bench_options *o, size_t index)
{
    return &o->servers[index % o->server_count];
}

static void append_channels(struct bench *b, size_t index, struct buf *out)
{
    const struct bench_slot *slots = b->slots + index * b->slot_count;
    const char *between = "channels=";
    for (uint32_t i = 0; i < b->slot_count; i++) {
        if (slots[i].channel == 0)
            continue;
        char name[BENCH_NAME_BYTES];
        bench_channel_name(b, slots[i].channel - 1, name);
        buf_append_str(out, between);
        append_query_text(out, name);
        between = ",";
    }
}

static void append_request(struct bench *b, size_t index, struct buf *out)
{
    const struct bench_options *o = &b->options;
    const struct bench_server *server = server_of(o, index);
    buf_printf(out, "GET %s", server->path);
    if (!o->socketio) {
        buf_append_str(out, strchr(server->path, '?') != NULL ? "&" : "?");
        append_channels(b, index, out);
    }
    buf_printf(out,
               "%s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
               "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n%s\r\n",
               o->raw ? "&format=raw" : "", server->host, upgrade_key,
               o->compress ? "Sec-WebSocket-Extensions: permessage-deflate\r\n" : "");
}

static void send_request(struct bench *b, struct bench_client *c)
{
    struct buf request = {0};
    append_request(b, (size_t)(c - b->clients), &request);
    ssize_t sent = send(c->fd, request.data, request.len, MSG_NOSIGNAL);
    bool is_whole = sent == (ssize_t)request.len;
    buf_fini(&request);
    if (is_whole) {
        c->state = CLIENT_HEAD;
    } else {
        fail(b, "a connection took no request");
        bench_client_close(b, c);
    }
}

/* A connect on one machine is usually done when the call returns, so the request goes out at once;
 * if it is not, the event for writing brings us to send_request. */
static void start_connect(struct bench *b, size_t index)
{
    const struct bench_options *o = &b->options;
    struct bench_client *c = &b->clients[index];
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) {
        fail(b, strerror(errno));
        c->state = CLIENT_CLOSED;
        b->closed++;
        return;
    }
    b->opening++;
    c->state = CLIENT_CONNECTING;
    int on = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    struct sockaddr_in from = {.sin_family = AF_INET};
    size_t turn = index / o->server_count;
    from.sin_addr.s_addr = htonl(0x7f000002u + (uint32_t)(turn % (size_t)o->addresses));
    const struct sockaddr_in *to = &server_of(o, index)->at;
    bool is_loopback = ntohl(to->sin_addr.s_addr) >> 24 == 127;
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c};
    if ((is_loopback && bind(c->fd, (struct sockaddr *)&from, sizeof from) != 0) ||
        epoll_ctl(b->epoll, EPOLL_CTL_ADD, c->fd, &event) != 0 ||
        (connect(c->fd, (const struct sockaddr *)to, sizeof *to) != 0 && errno != EINPROGRESS)) {
        fail(b, strerror(errno));
        bench_client_close(b, c);
    }
}

void bench_clients_open(struct bench *b)
{
    while (b->started < b->options.clients && b->opening < b->options.in_flight)
        start_connect(b, b->started++);
}

void bench_client_close(struct bench *b, struct bench_client *c)
{
    if (c->state == CLIENT_CLOSED)
        return;
    if (c->state == CLIENT_OPEN)
        b->open--;
    else
        b->opening--;
    c->state = CLIENT_CLOSED;
    b->closed++;
    close(c->fd);
    c->fd = -1;
}

/* ---- reading ------------------------------------------------------------------------------- */

static void finish_upgrade(struct bench *b, struct bench_client *c, const char *head, size_t len)
{
    if (memmem(head, len, "permessage-deflate", 18) != NULL)
        b->compressed++;
    c->state = CLIENT_OPEN;
    b->opening--;
    b->open++;
    if (b->options.raw) /* no ack will come */
        bench_client_subscribed(b, c);
}

void bench_client_subscribed(struct bench *b, struct bench_client *c)
{
    c->subscribed = true;
    b->subscribed++;
    if (c->stalled)
        epoll_ctl(b->epoll, EPOLL_CTL_DEL, c->fd, NULL);
}

/* Takes the response head, and whatever came behind it. */
static bool take_head(struct bench *b, struct bench_client *c, const char *ptr, size_t len,
                      size_t *used)
{
    *used = 0;
    const char *end = memmem(ptr, len, "\r\n\r\n", 4);
    if (end == NULL)
        return len < HEAD_MAX_BYTES;
    if (len < 12 || memcmp(ptr, "HTTP/1.1 101", 12) != 0) {
        char what[sizeof b->error];
        snprintf(what, sizeof what, "upgrade refused: %.*s", (int)strcspn(ptr, "\r\n"), ptr);
        return fail(b, what);
    }
    size_t head_len = (size_t)(end + 4 - ptr);
    finish_upgrade(b, c, ptr, head_len);
    bool is_fine = bench_reader_walk(b, c, ptr + head_len, len - head_len, used);
    *used += head_len;
    return is_fine;
}

static void keep_tail(struct bench_client *c, const char *ptr, size_t len)
{
    if (len > c->tail_cap) {
        c->tail = mem_realloc(c->tail, len);
        c->tail_cap = (uint32_t)len;
    }
    if (len > 0)
        memcpy(c->tail, ptr, len);
    c->tail_len = (uint32_t)len;
}

/* One read. Returns false when there is nothing more to read for now. */
static bool read_once(struct bench *b, struct bench_client *c)
{
    if (b->input.cap < c->tail_len + INPUT_ROOM) {
        b->input.len = c->tail_len;
        buf_reserve(&b->input, INPUT_BYTES);
    }
    char *ptr = b->input.data;
    if (c->tail_len > 0)
        memcpy(ptr, c->tail, c->tail_len);
    size_t room = b->input.cap - c->tail_len;
    ssize_t got = recv(c->fd, ptr + c->tail_len, room, 0);
    if (got <= 0) {
        if (got == 0 || (errno != EAGAIN && errno != EINTR))
            bench_client_close(b, c);
        return false;
    }
    b->read_ns = 0;
    if (b->counting) {
        b->bytes += (uint64_t)got;
        b->last_ns = 0; /* filled in at the end of the turn */
    }
    size_t len = c->tail_len + (size_t)got;
    size_t used = 0;
    bool is_fine = c->state == CLIENT_HEAD ? take_head(b, c, ptr, len, &used)
                                           : bench_reader_walk(b, c, ptr, len, &used);
    if (!is_fine) {
        bench_client_close(b, c);
        return false;
    }
    keep_tail(c, ptr + used, len - used);
    return (size_t)got == room;
}

static void on_event(struct bench *b, struct bench_client *c, uint32_t events)
{
    if (c->state == CLIENT_CLOSED)
        return;
    if (c->state == CLIENT_CONNECTING) {
        if ((events & (EPOLLERR | EPOLLHUP)) != 0) {
            fail(b, "a connect failed");
            bench_client_close(b, c);
        } else if ((events & EPOLLOUT) != 0) {
            send_request(b, c);
        }
        return;
    }
    if ((events & ~(uint32_t)EPOLLOUT) == 0)
        return;
    /* A short read means that all is read, and the next event will come by itself; not so when the
     * peer has closed, for which there is no second event. */
    bool is_ending = (events & ~(uint32_t)(EPOLLIN | EPOLLOUT)) != 0;
    while (c->state != CLIENT_CLOSED && (read_once(b, c) || is_ending))
        continue;
}

/* Whoever sends to a thread that is asleep in epoll_wait pays for waking it: on loopback more than
 * for the send itself, and over a network nothing. So the reader naps instead and is never woken.
 */
static int await_events(struct bench *b, struct epoll_event *events, int timeout_ms)
{
    if (b->options.nap_us == 0)
        return epoll_wait(b->epoll, events, EVENTS_PER_TURN, timeout_ms);
    int count = epoll_wait(b->epoll, events, EVENTS_PER_TURN, 0);
    if (count == 0) {
        struct timespec nap = {.tv_nsec = (long)b->options.nap_us * 1000};
        nanosleep(&nap, NULL);
    }
    return count;
}

void bench_turn(struct bench *b, int timeout_ms)
{
    struct epoll_event events[EVENTS_PER_TURN];
    int count = await_events(b, events, timeout_ms);
    for (int i = 0; i < count; i++)
        on_event(b, events[i].data.ptr, events[i].events);
    if (b->counting && count > 0 && b->last_ns == 0)
        b->last_ns = clock_mono_ns();
}

uint64_t bench_slowest(const struct bench *b)
{
    uint64_t least = UINT64_MAX;
    for (size_t i = 0; i < (size_t)b->options.clients; i++) {
        const struct bench_client *c = &b->clients[i];
        /* The numbers first: they lie together, the clients do not. */
        if (b->passed[i] < least && c->state == CLIENT_OPEN && c->inspected && !c->stalled)
            least = b->passed[i];
    }
    return least;
}
