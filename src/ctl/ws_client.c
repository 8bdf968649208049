/*
 * ws_client.c - connecting, sending and receiving over a non-blocking socket and poll.
 *
 *      socket -> in[at..len) -> ws_decoder -> message, borrowed from `in` or from the decoder
 *
 * The answer to the upgrade and the first frames may arrive in one piece: what is behind the head
 * simply stays in `in`. The upgrade itself is judged in ws_upgrade.c.
 */
#include "ctl/ws_client.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
#include "ctl/ws_upgrade.h"

#include <errno.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define IN_BYTES      65536 /* one read; also the bound of the answer's head */
#define CLOSE_WAIT_MS 500   /* for the answer to our goodbye */

struct ws_client {
    int fd;
    int timeout_ms;
    bool has_deflate;
    struct rng rng; /* masks: they keep proxies from being fooled, not secrets */
    struct ws_decoder decoder;
    struct ws_decoder_config decoding;
    struct buf inflated;
    struct buf out;
    size_t at; /* bytes of in handed to the decoder */
    size_t len;
    char error[256];
    uint8_t in[IN_BYTES];
};

__attribute__((format(printf, 2, 3))) static bool fail(struct ws_client *c, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(c->error, sizeof c->error, format, args);
    va_end(args);
    return false;
}

/* Waits for the socket. False when the deadline came first; errors show in the call that follows.
 */
static bool wait_for(int fd, short events, uint64_t deadline_ms)
{
    for (;;) {
        uint64_t now = clock_mono_ms();
        uint64_t left = deadline_ms > now ? deadline_ms - now : 0;
        struct pollfd poller = {.fd = fd, .events = events};
        int ready = poll(&poller, 1, left > INT_MAX ? INT_MAX : (int)left);
        if (ready != 0 && !(ready < 0 && errno == EINTR))
            return true;
        if (ready == 0 && left <= INT_MAX)
            return false;
    }
}

/* --- connecting ----------------------------------------------------------------------------- */

static int try_address(const struct addrinfo *address, uint64_t deadline_ms)
{
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    int error = 0;
    socklen_t size = sizeof error;
    if (connect(fd, address->ai_addr, address->ai_addrlen) != 0) {
        error = errno;
        if (error == EINPROGRESS) {
            error = ETIMEDOUT;
            if (wait_for(fd, POLLOUT, deadline_ms))
                getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
        }
    }
    if (error == 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
        return fd;
    }
    close(fd);
    errno = error;
    return -1;
}

static bool dial(struct ws_client *c, const struct ws_client_url *url, uint64_t deadline_ms)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found;
    int result = getaddrinfo(url->host, url->port, &hints, &found);
    if (result != 0)
        return fail(c, "%s: %s", url->host, gai_strerror(result));
    for (const struct addrinfo *a = found; a != NULL && c->fd < 0; a = a->ai_next)
        c->fd = try_address(a, deadline_ms);
    int error = errno;
    freeaddrinfo(found);
    return c->fd >= 0 || fail(c, "%s:%s: %s", url->host, url->port, strerror(error));
}

static bool send_all(struct ws_client *c, struct slice bytes)
{
    uint64_t deadline_ms = clock_mono_ms() + (uint64_t)c->timeout_ms;
    while (bytes.len > 0) {
        ssize_t sent = send(c->fd, bytes.ptr, bytes.len, MSG_NOSIGNAL);
        if (sent >= 0)
            bytes = slice_of(bytes.ptr + sent, bytes.len - (size_t)sent);
        else if (errno == EAGAIN && !wait_for(c->fd, POLLOUT, deadline_ms))
            return fail(c, "the server does not read");
        else if (errno != EAGAIN && errno != EINTR)
            return fail(c, "%s", strerror(errno));
    }
    return true;
}

enum fill_result { FILL_OK, FILL_TIMEOUT, FILL_FAILED };

/* Reads behind what is there, once. */
static enum fill_result fill(struct ws_client *c, uint64_t deadline_ms)
{
    for (;;) {
        ssize_t got = recv(c->fd, c->in + c->len, sizeof c->in - c->len, 0);
        if (got > 0) {
            c->len += (size_t)got;
            return FILL_OK;
        }
        if (got == 0) {
            fail(c, "the server closed the connection without a close frame");
            return FILL_FAILED;
        }
        if (errno != EAGAIN && errno != EINTR) {
            fail(c, "%s", strerror(errno));
            return FILL_FAILED;
        }
        if (errno == EAGAIN && !wait_for(c->fd, POLLIN, deadline_ms))
            return FILL_TIMEOUT;
    }
}

/* Reads the answer's head; *bytes is its length. */
static bool read_head(struct ws_client *c, uint64_t deadline_ms, size_t *bytes)
{
    for (;;) {
        const char *end = memmem(c->in, c->len, "\r\n\r\n", 4);
        if (end != NULL) {
            *bytes = (size_t)(end - (const char *)c->in) + 4;
            return true;
        }
        if (c->len == sizeof c->in)
            return fail(c, "the answer to the upgrade is too long");
        enum fill_result result = fill(c, deadline_ms);
        if (result == FILL_TIMEOUT)
            return fail(c, "no answer to the upgrade");
        if (result == FILL_FAILED)
            return fail(c, "the connection ended before the answer to the upgrade");
    }
}

/* A refusal says more in its body, which is small and may lag behind. It ends where its length says
 * so: a server that keeps the connection open would have us wait for nothing. */
static bool report_refusal(struct ws_client *c, const struct ws_upgrade *upgrade, size_t head_bytes,
                           uint64_t deadline_ms)
{
    while (c->len - head_bytes < upgrade->body_bytes && c->len < sizeof c->in &&
           fill(c, deadline_ms) == FILL_OK) {
    }
    return fail(c, "refused with %s: %.*s", upgrade->error, (int)(c->len - head_bytes),
                (const char *)c->in + head_bytes);
}

static bool upgrade(struct ws_client *c, const struct ws_client_config *config,
                    uint64_t deadline_ms)
{
    struct ws_upgrade up = {.subprotocol = config->subprotocol, .deflate = config->deflate};
    size_t head_bytes = 0;
    ws_upgrade_request(&up, &c->rng, config->url->authority, buf_slice(&config->url->target),
                       &c->out);
    bool sent = send_all(c, buf_slice(&c->out));
    buf_clear(&c->out);
    if (!sent || !read_head(c, deadline_ms, &head_bytes))
        return false;
    switch (ws_upgrade_judge(&up, slice_of((const char *)c->in, head_bytes))) {
    case WS_UPGRADE_REFUSED: return report_refusal(c, &up, head_bytes, deadline_ms);
    case WS_UPGRADE_BAD: return fail(c, "%s", up.error);
    case WS_UPGRADE_DONE: break;
    }
    c->has_deflate = up.has_deflate;
    c->at = head_bytes;
    return true;
}

static void set_up_decoder(struct ws_client *c, size_t message_bytes)
{
    c->decoding.deflate = c->has_deflate;
    c->decoding.message_bytes = message_bytes;
    c->decoding.inflater = c->has_deflate ? ws_inflater_new() : NULL;
    c->decoding.inflated = &c->inflated;
}

struct ws_client *ws_client_connect(const struct ws_client_config *config, struct buf *error)
{
    uint64_t deadline_ms = clock_mono_ms() + (uint64_t)config->timeout_ms;
    struct ws_client *c = mem_zalloc(sizeof *c);
    c->fd = -1;
    c->timeout_ms = config->timeout_ms;
    rng_init_random(&c->rng);
    if (!dial(c, config->url, deadline_ms) || !upgrade(c, config, deadline_ms)) {
        buf_append_str(error, c->error);
        ws_client_free(c);
        return NULL;
    }
    set_up_decoder(c, config->message_bytes);
    return c;
}

void ws_client_free(struct ws_client *c)
{
    if (c == NULL)
        return;
    if (c->fd >= 0)
        close(c->fd);
    if (c->decoding.inflater != NULL)
        ws_inflater_free(c->decoding.inflater);
    ws_decoder_fini(&c->decoder);
    buf_fini(&c->inflated);
    buf_fini(&c->out);
    free(c);
}

bool ws_client_has_deflate(const struct ws_client *c)
{
    return c->has_deflate;
}

const char *ws_client_error(const struct ws_client *c)
{
    return c->error;
}

/* --- messages ------------------------------------------------------------------------------- */

bool ws_client_send(struct ws_client *c, enum ws_opcode opcode, struct slice payload)
{
    ws_encode_masked(&c->out, opcode, true, payload, (uint32_t)rng_next(&c->rng));
    bool sent = send_all(c, buf_slice(&c->out));
    buf_clear(&c->out);
    return sent;
}

static bool send_close(struct ws_client *c, uint16_t code)
{
    const char bytes[] = {(char)(code >> 8), (char)(code & 0xff)};
    bool has_code = code != WS_CLOSE_NO_STATUS;
    return ws_client_send(c, WS_OP_CLOSE, slice_of(bytes, has_code ? sizeof bytes : 0));
}

/* Decodes what was read. WS_NEED_MORE once all of it is used up. */
static enum ws_event decode(struct ws_client *c, struct ws_message *message)
{
    size_t used = 0;
    enum ws_event event =
        ws_decoder_next(&c->decoder, &c->decoding, c->in + c->at, c->len - c->at, &used, message);
    c->at += used;
    if (event == WS_NEED_MORE)
        c->at = c->len = 0;
    return event;
}

/* True when the event ends the wait; *result is then what to report. */
static bool handle(struct ws_client *c, enum ws_event event, const struct ws_message *message,
                   enum ws_client_event *result)
{
    switch (event) {
    case WS_MESSAGE: *result = WS_CLIENT_MESSAGE; return true;
    case WS_CLOSE:
        send_close(c, message->code); /* whether it still arrives makes no difference to us */
        *result = WS_CLIENT_CLOSED;
        return true;
    case WS_ERROR:
        send_close(c, message->code);
        fail(c, "the server broke the protocol: %s", message->why);
        *result = WS_CLIENT_FAILED;
        return true;
    case WS_PING:
        *result = WS_CLIENT_FAILED;
        return !ws_client_send(c, WS_OP_PONG, message->payload);
    case WS_PONG:
    case WS_NEED_MORE: break;
    }
    return false;
}

enum ws_client_event ws_client_receive(struct ws_client *c, uint64_t deadline_ms,
                                       struct ws_client_message *out)
{
    for (;;) {
        struct ws_message message = {0};
        enum ws_client_event result;
        enum ws_event event = decode(c, &message);
        if (handle(c, event, &message, &result)) {
            *out = (struct ws_client_message){message.opcode, message.payload, message.code};
            return result;
        }
        if (event != WS_NEED_MORE)
            continue;
        enum fill_result filled = fill(c, deadline_ms);
        if (filled != FILL_OK)
            return filled == FILL_TIMEOUT ? WS_CLIENT_TIMEOUT : WS_CLIENT_FAILED;
    }
}

void ws_client_close(struct ws_client *c)
{
    struct ws_client_message message;
    uint64_t deadline_ms = clock_mono_ms() + CLOSE_WAIT_MS;
    if (!send_close(c, WS_CLOSE_NORMAL))
        return;
    while (ws_client_receive(c, deadline_ms, &message) == WS_CLIENT_MESSAGE) {
    }
}
