/*
 * bench_publisher.c - the benchmark's publisher thread.
 *
 * Writes PUBLISH commands in RESP by hand, pipelined: all commands have one length, so a command is
 * a copied template with digits put in place. With a rate, publication k is due k/rate seconds
 * after the first, whatever has happened in between; with a window, as many are out as the slowest
 * client allows; both may be given. Channels take turns.
 *
 * Before it measures it waits until Redis has a subscriber for every channel that a client asked
 * for, and sends a few publications with the number 0, which nobody counts.
 */
#include "base/clock.h"
#include "base/mem.h"
#include "ctl/bench_payload.h"
#include "ctl/bench_run.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define BATCH              64 /* publications per write at most */
#define FILLERS            64 /* different payloads, so that none compresses by luck */
#define REPLY_BYTES        65536
#define TAPE_WRITE_BYTES   262144  /* of a tape's commands per write at most */
#define TICK_NS            500000u /* what is due within is sent together */
#define CLOSED_TICK_NS     100000u /* how often the window is looked at */
#define WARM_UP_ROUNDS     50
#define FIRST_SUBSCRIBE_NS 3000000000u
#define ALL_SUBSCRIBES_NS  15000000000u
#define WARM_UP_GAP_NS     2000000u
#define CALM_NS            300000000u /* nobody got anything for so long: the warm-up is over */
#define CALM_LIMIT_NS      20000000000u
#define START_NS           50000000u /* for the main thread to see that it is live */
#define REDIS_TIME_S       10
#define NICE_PUBLISHER     (-10) /* it needs little, but at once; root only */

static bool give_up(struct bench_publisher *p, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static bool give_up(struct bench_publisher *p, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (p->error[0] == '\0')
        vsnprintf(p->error, sizeof p->error, format, args);
    va_end(args);
    return false;
}

static void sleep_until_ns(uint64_t due_ns)
{
    struct timespec ts = {.tv_sec = (time_t)(due_ns / 1000000000u),
                          .tv_nsec = (long)(due_ns % 1000000000u)};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
}

/* ---- Redis --------------------------------------------------------------------------------- */

static int connect_unix(const struct redis_url *url)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    snprintf(at.sun_path, sizeof at.sun_path, "%.107s", url->host);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&at, sizeof at) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static int connect_tcp(const struct redis_url *url)
{
    char port[8];
    snprintf(port, sizeof port, "%u", url->port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *found;
    if (getaddrinfo(url->host, port, &hints, &found) != 0)
        return -1;
    int fd = -1;
    for (struct addrinfo *a = found; a != NULL && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) != 0) {
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(found);
    int on = 1;
    if (fd >= 0)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

/* Counts the integer replies that are there. An error reply ends the run. */
static bool drain_replies(struct bench_publisher *p, int flags)
{
    char replies[REPLY_BYTES];
    ssize_t got = recv(p->fd, replies, sizeof replies, flags);
    if (got == 0)
        return give_up(p, "redis closed the connection");
    if (got < 0)
        return errno == EAGAIN || errno == EINTR ? true : give_up(p, "redis: %s", strerror(errno));
    for (const char *at = replies; (at = memchr(at, '\n', (size_t)(replies + got - at))); at++)
        p->replies++;
    const char *error = memchr(replies, '-', (size_t)got);
    if (error != NULL)
        return give_up(p, "redis: %.*s",
                       (int)(replies + got - error > 80 ? 80 : replies + got - error), error);
    return true;
}

/* Writes all of p->out; reads replies meanwhile, so that neither side can block the other. */
static bool flush_out(struct bench_publisher *p)
{
    size_t at = 0;
    while (at < p->out.len) {
        ssize_t sent = send(p->fd, p->out.data + at, p->out.len - at, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent > 0) {
            at += (size_t)sent;
        } else if (sent < 0 && errno == EAGAIN) {
            struct pollfd wait = {.fd = p->fd, .events = POLLIN | POLLOUT};
            if (poll(&wait, 1, REDIS_TIME_S * 1000) <= 0)
                return give_up(p, "redis takes nothing");
        } else if (sent < 0 && errno != EINTR) {
            return give_up(p, "redis: %s", strerror(errno));
        }
        if (!drain_replies(p, MSG_DONTWAIT))
            return false;
    }
    buf_clear(&p->out);
    return true;
}

static void append_command(struct buf *out, unsigned count, const char *const *words)
{
    buf_printf(out, "*%u\r\n", count);
    for (unsigned i = 0; i < count; i++)
        buf_printf(out, "$%zu\r\n%s\r\n", strlen(words[i]), words[i]);
}

/* One short command, whose reply the caller reads. */
static bool send_out(struct bench_publisher *p)
{
    ssize_t sent = send(p->fd, p->out.data, p->out.len, MSG_NOSIGNAL);
    bool is_whole = sent == (ssize_t)p->out.len;
    buf_clear(&p->out);
    return is_whole || give_up(p, "redis takes nothing");
}

static bool connect_redis(struct bench *b)
{
    struct bench_publisher *p = &b->publisher;
    const struct redis_url *url = &b->options.redis;
    p->fd = url->is_unix ? connect_unix(url) : connect_tcp(url);
    if (p->fd < 0)
        return give_up(p, "no connection to redis");
    struct timeval limit = {.tv_sec = REDIS_TIME_S};
    setsockopt(p->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (url->password[0] == '\0')
        return true;
    const char *with_user[] = {"AUTH", url->user, url->password};
    const char *without[] = {"AUTH", url->password};
    if (url->user[0] != '\0')
        append_command(&p->out, 3, with_user);
    else
        append_command(&p->out, 2, without);
    p->commands++;
    return send_out(p) && drain_replies(p, 0);
}

/* ---- waiting for subscribers ---------------------------------------------------------------- */

/* Asks how many subscribers one channel has: `*2 $<n> <name> :<count>`. -1 when redis failed. */
static int count_subscribers(struct bench *b, unsigned channel)
{
    struct bench_publisher *p = &b->publisher;
    char name[BENCH_NAME_BYTES];
    char full[2 * BENCH_NAME_BYTES];
    bench_channel_name(b, channel, name);
    snprintf(full, sizeof full, "%.255s%s", b->options.target.prefix, name);
    const char *words[] = {"PUBSUB", "NUMSUB", full};
    append_command(&p->out, 3, words);
    if (!send_out(p))
        return -1;
    char reply[1024];
    size_t len = 0;
    for (;;) {
        ssize_t got = recv(p->fd, reply + len, sizeof reply - 1 - len, 0);
        if (got <= 0)
            return -1;
        len += (size_t)got;
        reply[len] = '\0';
        const char *number = strstr(reply, "\r\n:");
        if (number != NULL && strstr(number + 3, "\r\n") != NULL)
            return atoi(number + 3);
        if (len == sizeof reply - 1)
            return -1;
    }
}

/* Waits for the node's SUBSCRIBEs. A node that has the namespace mirrored never sends any, so it
 * is no error if none comes; where one came, the others will. */
static void await_subscribers(struct bench *b, const bool *wanted)
{
    uint64_t limit_ns = clock_mono_ns() + FIRST_SUBSCRIBE_NS;
    for (unsigned channel = 0; channel < b->options.of; channel++) {
        if (!wanted[channel])
            continue;
        while (count_subscribers(b, channel) == 0) {
            if (clock_mono_ns() > limit_ns || atomic_load(&b->shared.stop))
                return;
            sleep_until_ns(clock_mono_ns() + 2000000);
        }
        limit_ns = clock_mono_ns() + ALL_SUBSCRIBES_NS;
    }
}

static bool *collect_wanted(const struct bench *b)
{
    bool *wanted = mem_zalloc((size_t)b->options.of);
    size_t slots = (size_t)b->options.clients * b->slot_count;
    for (size_t i = 0; i < slots; i++) {
        if (b->slots[i].channel != 0)
            wanted[b->slots[i].channel - 1] = true;
    }
    return wanted;
}

/* ---- publications --------------------------------------------------------------------------- */

struct maker {
    struct buf templates; /* FILLERS commands, all of one length */
    size_t command_len;
    size_t name_at; /* of the channel's digits */
    size_t payload_at;
    unsigned next; /* channel */
};

static void make_templates(struct maker *m, const struct bench_options *o)
{
    struct rng random;
    rng_init_seed(&random, (uint64_t)o->seed);
    size_t size = (size_t)o->size;
    char *payload = mem_alloc(size);
    for (unsigned i = 0; i < FILLERS; i++) {
        payload_init(payload, size, &random);
        size_t start = m->templates.len;
        buf_printf(&m->templates, "*3\r\n$7\r\nPUBLISH\r\n$%zu\r\n%s%s:B000000\r\n$%zu\r\n",
                   strlen(o->target.prefix) + strlen(o->space) + 8, o->target.prefix, o->space,
                   size);
        m->payload_at = m->templates.len - start;
        buf_append(&m->templates, payload, size);
        buf_append(&m->templates, "\r\n", 2);
        m->command_len = m->templates.len - start;
    }
    char digits[16];
    m->name_at = m->payload_at - (size_t)snprintf(digits, sizeof digits, "\r\n$%zu\r\n", size) -
                 PAYLOAD_CHANNEL_DIGITS;
    free(payload);
}

static bool publish(struct bench *b, struct maker *m, unsigned count, bool counted)
{
    struct bench_publisher *p = &b->publisher;
    uint64_t now_ns = clock_mono_ns();
    for (unsigned i = 0; i < count; i++) {
        unsigned channel = m->next;
        m->next = m->next + 1 < (unsigned)b->options.of ? m->next + 1 : 0;
        char *command = buf_reserve(&p->out, m->command_len);
        uint64_t filler = (p->total + i) % FILLERS;
        memcpy(command, m->templates.data + filler * m->command_len, m->command_len);
        payload_put_digits(command + m->name_at, PAYLOAD_CHANNEL_DIGITS, channel);
        payload_stamp(command + m->payload_at, counted ? ++p->published[channel] : 0, channel,
                      now_ns);
        p->out.len += m->command_len;
    }
    if (counted)
        p->total += count;
    p->commands += count;
    return flush_out(p);
}

/* A slow server has long to send what it was warmed up with, which is not to be measured. */
static void await_calm(struct bench *b)
{
    uint64_t limit_ns = clock_mono_ns() + CALM_LIMIT_NS;
    uint64_t calm_ns = clock_mono_ns() + CALM_NS;
    while (clock_mono_ns() < calm_ns && clock_mono_ns() < limit_ns) {
        sleep_until_ns(calm_ns);
        uint64_t heard_ns = atomic_load_explicit(&b->shared.heard_ns, memory_order_relaxed);
        calm_ns = heard_ns + CALM_NS;
    }
}

static bool warm_up(struct bench *b, struct maker *m)
{
    for (unsigned i = 0; i < WARM_UP_ROUNDS; i++) {
        if (!publish(b, m, 1, false))
            return false;
        sleep_until_ns(clock_mono_ns() + WARM_UP_GAP_NS);
    }
    m->next = 0;
    await_calm(b);
    return true;
}

/* How many publications may be out by now, by the rate. */
static uint64_t due_by_rate(const struct bench *b, uint64_t now_ns)
{
    const struct bench_options *o = &b->options;
    if (o->rate == 0)
        return UINT64_MAX;
    double passed_s = (double)(now_ns - b->publisher.first_ns) / 1e9;
    uint64_t total = (uint64_t)(o->rate * o->seconds + 0.5);
    uint64_t due = 1 + (uint64_t)(passed_s * o->rate);
    return due < total ? due : total;
}

/* And by the window. */
static uint64_t due_by_window(struct bench *b)
{
    if (b->options.window == 0)
        return UINT64_MAX;
    return atomic_load_explicit(&b->shared.slowest, memory_order_relaxed) +
           (uint64_t)b->options.window;
}

/* When it makes sense to look again. */
static uint64_t next_look_ns(const struct bench *b, uint64_t now_ns, bool is_window_full)
{
    const struct bench_publisher *p = &b->publisher;
    if (is_window_full)
        return now_ns + CLOSED_TICK_NS;
    double gap_ns = 1e9 / b->options.rate;
    if (gap_ns < TICK_NS)
        return now_ns + TICK_NS;
    return p->first_ns + (uint64_t)((double)p->total * gap_ns) + 1;
}

/* Without a window the rate says what is published, however long that takes; with one, time ends
 * it. */
static bool is_over(const struct bench *b, uint64_t now_ns)
{
    const struct bench_options *o = &b->options;
    const struct bench_publisher *p = &b->publisher;
    if (atomic_load_explicit(&b->shared.stop, memory_order_relaxed))
        return true;
    if (o->rate > 0 && p->total >= (uint64_t)(o->rate * o->seconds + 0.5))
        return true;
    return o->window > 0 && now_ns - p->first_ns >= (uint64_t)(o->seconds * 1e9);
}

/* Behind its time: as the publisher or Redis could not follow, or as the window was full. */
static void note_late(struct bench_publisher *p, uint64_t due_ns, uint64_t now_ns)
{
    if (now_ns > due_ns && now_ns - due_ns > p->late_ns)
        p->late_ns = now_ns - due_ns;
}

static void run(struct bench *b, struct maker *m)
{
    struct bench_publisher *p = &b->publisher;
    for (;;) {
        uint64_t now_ns = clock_mono_ns();
        if (is_over(b, now_ns))
            return;
        uint64_t by_rate = due_by_rate(b, now_ns);
        uint64_t by_window = due_by_window(b);
        uint64_t due = by_rate < by_window ? by_rate : by_window;
        if (due <= p->total) {
            sleep_until_ns(next_look_ns(b, now_ns, by_window <= p->total));
            continue;
        }
        uint64_t count = due - p->total < BATCH ? due - p->total : BATCH;
        if (b->options.rate > 0)
            note_late(p, p->first_ns + (uint64_t)((double)p->total * 1e9 / b->options.rate),
                      now_ns);
        if (!publish(b, m, (unsigned)count, true))
            return;
    }
}

/* Each at its time; what is due together leaves together. */
static void run_tape(struct bench *b)
{
    struct bench_publisher *p = &b->publisher;
    const struct bench_tape_entry *entry;
    struct slice command;
    for (size_t i = 0; (entry = bench_tape_at(b->tape, i, &command)) != NULL; i++) {
        uint64_t due_ns = p->first_ns + entry->due_ns;
        bool is_early = due_ns > clock_mono_ns();
        if ((is_early || p->out.len > TAPE_WRITE_BYTES) && !flush_out(p))
            return;
        if (is_early)
            sleep_until_ns(due_ns);
        if (atomic_load_explicit(&b->shared.stop, memory_order_relaxed))
            return;
        uint64_t now_ns = clock_mono_ns();
        note_late(p, due_ns, now_ns);
        bench_tape_sent(b->tape, i, now_ns);
        buf_append(&p->out, command.ptr, command.len);
        p->published[entry->channel]++;
        p->commands++;
        p->total++;
    }
    flush_out(p);
}

/* A tape is not warmed up for: whatever was published would be an item more. */
static bool prepare(struct bench *b, struct maker *m)
{
    if (b->tape != NULL)
        return true;
    make_templates(m, &b->options);
    return warm_up(b, m);
}

/* Redis has taken everything once it has answered everything. A socket that is closed with answers
 * unread is reset, and what Redis had not read yet is gone. */
static void await_replies(struct bench_publisher *p)
{
    uint64_t limit_ns = clock_mono_ns() + (uint64_t)REDIS_TIME_S * 1000000000u;
    while (p->replies < p->commands && clock_mono_ns() < limit_ns && drain_replies(p, 0))
        continue;
}

static void *publisher_main(void *arg)
{
    struct bench *b = arg;
    struct bench_publisher *p = &b->publisher;
    struct maker maker = {0};
    setpriority(PRIO_PROCESS, (id_t)gettid(), NICE_PUBLISHER); /* as good as it gets */
    bool *wanted = collect_wanted(b);
    if (connect_redis(b)) {
        await_subscribers(b, wanted);
        if (prepare(b, &maker)) {
            atomic_store(&b->shared.live, true);
            sleep_until_ns(clock_mono_ns() + START_NS);
            p->cpu_s = node_cpu_read_s(&b->options.pids);
            p->first_ns = clock_mono_ns();
            if (b->tape != NULL)
                run_tape(b);
            else
                run(b, &maker);
            p->last_ns = clock_mono_ns();
            await_replies(p);
        }
    }
    free(wanted);
    buf_fini(&maker.templates);
    atomic_store(&b->shared.finished, true);
    return NULL;
}

bool bench_publisher_start(struct bench *b)
{
    struct bench_publisher *p = &b->publisher;
    p->fd = -1;
    p->published = mem_zalloc((size_t)b->options.of * sizeof *p->published);
    return pthread_create(&p->thread, NULL, publisher_main, b) == 0;
}

void bench_publisher_join(struct bench *b)
{
    struct bench_publisher *p = &b->publisher;
    pthread_join(p->thread, NULL);
    if (p->fd >= 0)
        close(p->fd);
    buf_fini(&p->out);
}
