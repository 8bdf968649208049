/*
 * scripted_redis.c - the world of the link's tests: owner, server, waiting.
 */
#include "scripted_redis.h"

#include "base/clock.h"
#include "unit.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/dns.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* === The link's owner ========================================================================= */

void command(struct world *w, const char *name)
{
    const struct slice args[] = {slice_str(name), slice_str("key")};
    redis_link_command(w->link, args, 2, on_reply, w);
}

static void act(struct world *w, enum place place)
{
    if (place == AT_NONE || w->place != place)
        return;
    w->place = AT_NONE;
    switch (w->deed) {
    case DO_FREE:
        redis_link_free(w->link);
        w->link = NULL;
        break;
    case DO_RESET: redis_link_reset(w->link, "told to"); break;
    case DO_SUBSCRIBE: redis_link_subscribe(w->link, slice_str("again")); break;
    case DO_COMMAND: command(w, "AGAIN"); break;
    }
}

static void note(struct world *w, const char *what, struct slice detail, enum place place)
{
    buf_printf(&w->calls, "%s %.*s;", what, (int)detail.len, detail.ptr);
    act(w, place);
}

void on_reply(void *arg, const struct redis_reply_view *reply)
{
    if (reply->kind == REDIS_REPLIED_LOST)
        note(arg, "lost", slice_str(""), AT_REPLY);
    else
        note(arg, "reply", reply->text.ptr != NULL ? reply->text : slice_str("?"), AT_REPLY);
}

static void on_up(void *arg)
{
    note(arg, "up", slice_str(""), AT_UP);
}

static void on_down(void *arg, const char *reason)
{
    note(arg, "down", slice_str(reason), AT_DOWN);
}

void on_dial_failed(void *arg, const char *reason)
{
    note(arg, "failed", slice_str(reason), AT_DIAL_FAILED);
}

static void on_message(void *arg, struct slice channel, struct slice payload)
{
    (void)channel;
    note(arg, "msg", payload, AT_MESSAGE);
}

static void on_oversize(void *arg, struct slice channel, uint64_t bytes)
{
    (void)bytes;
    note(arg, "big", channel, AT_NONE);
}

static void on_subscribed(void *arg, struct slice channel)
{
    note(arg, "sub", channel, AT_NONE);
}

static void on_unsubscribed(void *arg, struct slice channel)
{
    note(arg, "unsub", channel, AT_NONE);
}

static void on_error(void *arg, struct slice text)
{
    note(arg, "error", text, AT_ERROR);
}

static void on_read_end(void *arg)
{
    act(arg, AT_READ_END);
}

static const struct redis_link_ops world_ops = {
    .on_up = on_up,
    .on_down = on_down,
    .on_dial_failed = on_dial_failed,
    .on_message = on_message,
    .on_oversize = on_oversize,
    .on_subscribed = on_subscribed,
    .on_unsubscribed = on_unsubscribed,
    .on_error = on_error,
    .on_read_end = on_read_end,
};

/* === The server =============================================================================== */

void server_hang_up(struct world *w)
{
    if (w->fd < 0)
        return;
    event_free(w->reading);
    close(w->fd);
    w->fd = -1;
}

static void server_read(evutil_socket_t fd, short what, void *arg)
{
    (void)what;
    struct world *w = arg;
    ssize_t n = recv(fd, buf_reserve(&w->received, 65536), 65536, 0);
    if (n > 0)
        w->received.len += (size_t)n;
    else if (n == 0 || errno != EAGAIN)
        w->is_gone = true;
    if (w->is_gone)
        event_del(w->reading);
}

void server_accept(evutil_socket_t fd, short what, void *arg)
{
    (void)what;
    struct world *w = arg;
    int accepted = accept(fd, NULL, NULL);
    if (accepted < 0)
        return;
    if (w->accepted < sizeof w->accepted_ms / sizeof *w->accepted_ms)
        w->accepted_ms[w->accepted] = clock_mono_ms();
    w->accepted++;
    if (w->is_slammer) {
        close(accepted);
        return;
    }
    server_hang_up(w);
    evutil_make_socket_nonblocking(accepted);
    w->fd = accepted;
    w->is_gone = false;
    buf_clear(&w->received);
    w->reading = event_new(w->base, accepted, EV_READ | EV_PERSIST, server_read, w);
    event_add(w->reading, NULL);
}

void server_send(struct world *w, const char *text, size_t len)
{
    CU_ASSERT_EQUAL_FATAL(send(w->fd, text, len, MSG_NOSIGNAL), (ssize_t)len);
}

void server_say(struct world *w, const char *text)
{
    server_send(w, text, strlen(text));
}

void server_listen(struct world *w)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    at.sin_port = htons(w->config.url.port);
    socklen_t len = sizeof at;
    int on = 1;
    w->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(w->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    CU_ASSERT_EQUAL_FATAL(bind(w->listener, (struct sockaddr *)&at, sizeof at), 0);
    CU_ASSERT_EQUAL_FATAL(getsockname(w->listener, (struct sockaddr *)&at, &len), 0);
    CU_ASSERT_EQUAL_FATAL(listen(w->listener, 16), 0);
    w->config.url.port = ntohs(at.sin_port);
    w->accepting = event_new(w->base, w->listener, EV_READ | EV_PERSIST, server_accept, w);
    event_add(w->accepting, NULL);
}

void server_close(struct world *w)
{
    server_hang_up(w);
    if (w->listener < 0)
        return;
    event_free(w->accepting);
    close(w->listener);
    w->listener = -1;
}

/* === The world ================================================================================ */

void world_open(struct world *w, bool is_subscriber)
{
    *w = (struct world){.fd = -1, .listener = -1};
    w->base = event_base_new();
    w->config.is_subscriber = is_subscriber;
    w->config.payload_bytes = PAYLOAD_BYTES;
    strcpy(w->config.url.host, "127.0.0.1");
    buf_reserve(&w->calls, 1);
    buf_reserve(&w->received, 1);
    server_listen(w);
}

void world_dial(struct world *w)
{
    w->link = redis_link_new(w->base, w->dns, &w->config, &world_ops, w);
}

void world_close(struct world *w)
{
    redis_link_free(w->link);
    server_close(w);
    event_base_loop(w->base, EVLOOP_NONBLOCK); /* what is deferred must find nothing freed */
    if (w->dns != NULL)
        evdns_base_free(w->dns, 0);
    event_base_free(w->base);
    buf_fini(&w->calls);
    buf_fini(&w->received);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what, (void)arg;
}

/* Turns the loop until is_done, or for ms when it is NULL. False: it did not come. */
bool pump(struct world *w, bool (*is_done)(struct world *w), unsigned ms)
{
    uint64_t end_ms = clock_mono_ms() + ms;
    struct event *tick = event_new(w->base, -1, EV_PERSIST, on_tick, NULL);
    const struct timeval period = {.tv_usec = 2000};
    event_add(tick, &period);
    bool is_seen = false;
    do {
        event_base_loop(w->base, EVLOOP_ONCE);
        is_seen = is_done != NULL && is_done(w);
    } while (!is_seen && clock_mono_ms() < end_ms);
    event_free(tick);
    return is_seen;
}

bool has_bytes(const struct buf *b, const char *text)
{
    return memmem(b->data, b->len, text, strlen(text)) != NULL;
}

static const char *awaited;

static bool is_received(struct world *w)
{
    return has_bytes(&w->received, awaited);
}

static bool is_called(struct world *w)
{
    return has_bytes(&w->calls, awaited);
}

bool is_accepted(struct world *w)
{
    return w->fd >= 0;
}

bool await_received(struct world *w, const char *text)
{
    awaited = text;
    return pump(w, is_received, PATIENCE_MS);
}

bool await_call(struct world *w, const char *text)
{
    awaited = text;
    return pump(w, is_called, PATIENCE_MS);
}

unsigned count_calls(const struct world *w, const char *text)
{
    unsigned count = 0;
    const char *at = w->calls.data;
    const char *end = at + w->calls.len;
    while ((at = memmem(at, (size_t)(end - at), text, strlen(text))) != NULL) {
        at += strlen(text);
        count++;
    }
    return count;
}

bool is_noted(const struct world *w, const char *expected)
{
    if (slice_is(buf_slice(&w->calls), expected))
        return true;
    fprintf(stderr, "\n  expected: %s\n  got:      %.*s\n", expected, (int)w->calls.len,
            w->calls.data);
    return false;
}

/* Up, with nothing noted yet. */
void world_up(struct world *w, bool is_subscriber)
{
    world_open(w, is_subscriber);
    world_dial(w);
    CU_ASSERT_FATAL(await_received(w, HELLO));
    CU_ASSERT_FALSE(redis_link_is_up(w->link));
    server_say(w, "+OK\r\n");
    CU_ASSERT_FATAL(await_call(w, "up ;"));
    CU_ASSERT(redis_link_is_up(w->link));
    buf_clear(&w->calls);
    buf_clear(&w->received);
}
