/*
 * redis_link.c - the life of a connection to Redis. Main thread.
 *
 *   WAITING --timer--> DIALING --connected--> GREETING --all answered--> UP
 *      ^                  |                       |                       |
 *      |<---- fail_dial --+-----------------------+                       |
 *      |<---- go_down ----------------------------------------------------+
 *
 * Out: commands and names to subscribe to collect in redis_out. A flush event, made active by the
 * first of them, runs after the other callbacks of the turn and sends everything at once.
 *
 * In: what is read goes through redis_parse. On a command link replies meet the commands in order,
 * in the pending list; the greeting's replies are counted off before that.
 *
 * Death in two steps: every way in from outside is bracketed by enter() and leave(). A callback may
 * free the link; its socket is closed at once, its memory goes when the outermost bracket closes.
 * After each call to the owner the code here touches the link only if is_freed is still false.
 *
 * Not here: finding and connecting (redis_dial.c), anything of hiredis (redis_link_parse.c,
 * redis_link_out.c).
 */
#include "runtime/redis_link.h"

#include "base/clock.h"
#include "base/list.h"
#include "base/mem.h"
#include "base/rng.h"
#include "runtime/redis_dial.h"
#include "runtime/redis_link_out.h"
#include "runtime/redis_link_parse.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    DIAL_MS = 1000,          /* to resolve, connect and be greeted */
    STABLE_MS = 1000,        /* up for so long, the link has earned a quick redial */
    READ_CHUNK = 16 * 1024,  /* bytes per recv: what the parser takes at a time */
    READ_TURN = 1024 * 1024, /* bytes per readable event, so that others get their turn */
    GREETING_MAX = 3,        /* AUTH, CLIENT SETNAME, SELECT */
};

/* Upper bounds of the wait before a redial; the lower bound is half of it. */
static const unsigned backoff_ms[] = {50, 100, 200, 400, 500};

enum link_state { LINK_WAITING, LINK_DIALING, LINK_GREETING, LINK_UP };

/* A command whose reply is still to come. */
struct pending {
    struct list member; /* of redis_link.pending, oldest first */
    void (*on_reply)(void *arg, const struct redis_reply_view *reply);
    void *arg;
};

struct redis_link {
    struct event_base *base;
    struct redis_link_config config;
    const struct redis_link_ops *ops;
    void *arg;
    enum link_state state;
    unsigned depth; /* brackets open */
    bool is_freed;  /* by the owner, from inside a callback */

    struct redis_dial *dial;
    struct event timer; /* WAITING: time to dial; DIALING, GREETING: too late */
    struct rng rng;
    size_t backoff; /* index of the next wait */
    uint64_t up_since_ms;

    int fd; /* -1 unless GREETING or UP */
    struct event readable;
    struct event writable; /* armed only after the socket was full */
    struct event flush;
    struct redis_parse *parse;
    bool has_handed_out; /* something, to the owner, in this readable event */
    int write_error;     /* errno; reading on tells what Redis said before it went away */

    bool can_fail[GREETING_MAX]; /* for each command of the greeting: its error is passed over */
    size_t greetings;            /* sent */
    size_t greeted;              /* answered */

    struct list pending;
    struct redis_out out;
    uint64_t received_bytes;
};

static const char verb_subscribe[] = "SUBSCRIBE";
static const char verb_unsubscribe[] = "UNSUBSCRIBE";
static const char verb_psubscribe[] = "PSUBSCRIBE";

/* Errors that no command of the greeting may pass over: nothing would work after them. */
static const char *const fatal_errors[] = {
    "NOAUTH", "WRONGPASS", "LOADING", "MASTERDOWN", "DENIED", "ERR max number of clients",
};

static const struct redis_reply_view reply_lost = {.kind = REDIS_REPLIED_LOST};

static void destroy(struct redis_link *l);

static void enter(struct redis_link *l)
{
    l->depth++;
}

static void leave(struct redis_link *l)
{
    if (--l->depth == 0 && l->is_freed)
        destroy(l);
}

/* === Down ===================================================================================== */

static void timer_set(struct redis_link *l, unsigned ms)
{
    struct timeval delay = {.tv_sec = ms / 1000, .tv_usec = (suseconds_t)(ms % 1000) * 1000};
    event_add(&l->timer, &delay);
}

static void drop_connection(struct redis_link *l)
{
    redis_dial_stop(l->dial);
    redis_parse_stop(l->parse);
    if (l->fd >= 0) {
        event_del(&l->readable);
        event_del(&l->writable);
        close(l->fd);
        l->fd = -1;
    }
    event_del(&l->flush);
    redis_out_fini(&l->out);
}

static void wait_and_redial(struct redis_link *l)
{
    drop_connection(l);
    l->state = LINK_WAITING;
    unsigned cap_ms = backoff_ms[l->backoff];
    if (l->backoff + 1 < sizeof backoff_ms / sizeof *backoff_ms)
        l->backoff++;
    timer_set(l, cap_ms / 2 + (unsigned)rng_below(&l->rng, cap_ms / 2 + 1));
}

static void fail_dial(struct redis_link *l, const char *reason)
{
    wait_and_redial(l);
    if (l->ops->on_dial_failed != NULL)
        l->ops->on_dial_failed(l->arg, reason);
}

static void lose_pending(struct redis_link *l)
{
    struct list lost;
    list_init(&lost);
    list_splice(&lost, &l->pending);
    struct list *first;
    while ((first = list_shift(&lost)) != NULL) {
        struct pending *c = list_entry(first, struct pending, member);
        if (c->on_reply != NULL && !l->is_freed)
            c->on_reply(c->arg, &reply_lost);
        free(c);
    }
}

/* The one way out of UP. */
static void go_down(struct redis_link *l, const char *reason)
{
    if (clock_mono_ms() - l->up_since_ms >= STABLE_MS)
        l->backoff = 0;
    wait_and_redial(l);
    lose_pending(l);
    if (!l->is_freed && l->ops->on_down != NULL)
        l->ops->on_down(l->arg, reason);
}

static void end_connection(struct redis_link *l, const char *reason)
{
    if (l->state == LINK_UP)
        go_down(l, reason);
    else if (l->state == LINK_GREETING)
        fail_dial(l, reason);
}

/* === Out ====================================================================================== */

static void overflow(struct redis_link *l)
{
    end_connection(l, "Redis does not read what is sent to it");
}

/* A failed write does not end the connection: Redis may have said why it closes. The reader finds
 * that, or else the end. */
static void write_out(struct redis_link *l)
{
    if (l->write_error != 0)
        return;
    enum redis_out_status status = redis_out_send(&l->out, l->fd);
    if (status == REDIS_OUT_FULL) {
        event_add(&l->writable, NULL);
    } else if (status == REDIS_OUT_FAILED) {
        l->write_error = errno;
        event_active(&l->readable, EV_READ, 0);
    }
}

static void write_soon(struct redis_link *l)
{
    event_active(&l->flush, EV_TIMEOUT, 0);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    write_out(arg);
}

static void on_flush(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    struct redis_link *l = arg;
    enter(l);
    if (redis_out_end_names(&l->out))
        write_out(l);
    else
        overflow(l);
    leave(l);
}

static void gather(struct redis_link *l, const char *verb, struct slice name)
{
    if (l->state != LINK_UP || !l->config.is_subscriber)
        return;
    enter(l);
    if (redis_out_name(&l->out, verb, name))
        write_soon(l);
    else
        overflow(l);
    leave(l);
}

/* === The greeting ============================================================================= */

static void greet_with(struct redis_link *l, const char *const words[], bool can_fail)
{
    struct slice args[4];
    size_t count = 0;
    for (; words[count] != NULL; count++)
        args[count] = slice_str(words[count]);
    if (redis_out_command(&l->out, args, count)) /* it does: there is nothing before it */
        l->can_fail[l->greetings++] = can_fail;
}

static void greet(struct redis_link *l)
{
    const struct redis_url *url = &l->config.url;
    char db[12];
    snprintf(db, sizeof db, "%u", url->db);
    const char *const auth_user[] = {"AUTH", url->user, url->password, NULL};
    const char *const auth[] = {"AUTH", url->password, NULL};
    const char *const set_name[] = {"CLIENT", "SETNAME", "tickcast", NULL};
    const char *const select_db[] = {"SELECT", db, NULL};

    if (url->user[0] != '\0')
        greet_with(l, auth_user, false);
    else if (url->password[0] != '\0')
        greet_with(l, auth, false);
    greet_with(l, set_name, true);
    if (url->db != 0)
        greet_with(l, select_db, false);
}

static bool is_fatal(struct slice error)
{
    for (size_t i = 0; i < sizeof fatal_errors / sizeof *fatal_errors; i++) {
        size_t len = strlen(fatal_errors[i]);
        if (error.len >= len && memcmp(error.ptr, fatal_errors[i], len) == 0)
            return true;
    }
    return false;
}

static void go_up(struct redis_link *l)
{
    event_del(&l->timer);
    l->state = LINK_UP;
    l->up_since_ms = clock_mono_ms();
    l->has_handed_out = true;
    if (l->ops->on_up != NULL)
        l->ops->on_up(l->arg);
}

static void on_greeting_reply(struct redis_link *l, const struct redis_reply_view *reply)
{
    bool can_fail = l->can_fail[l->greeted++];
    if (reply->kind == REDIS_REPLIED_ERROR && (!can_fail || is_fatal(reply->text))) {
        char reason[256];
        snprintf(reason, sizeof reason, "%.*s",
                 (int)(reply->text.len < 200 ? reply->text.len : 200), reply->text.ptr);
        fail_dial(l, reason);
    } else if (l->greeted == l->greetings) {
        go_up(l);
    }
}

/* === In: what the parser found ================================================================ */

static void hand_out_error(struct redis_link *l, const struct redis_reply_view *reply)
{
    if (reply->kind == REDIS_REPLIED_ERROR && l->ops->on_error != NULL)
        l->ops->on_error(l->arg, reply->text);
}

static void on_reply(void *arg, const struct redis_reply_view *reply)
{
    struct redis_link *l = arg;
    if (l->state == LINK_GREETING) {
        on_greeting_reply(l, reply);
        return;
    }
    l->has_handed_out = true;
    struct list *first = list_shift(&l->pending);
    if (first == NULL) {
        hand_out_error(l, reply);
        return;
    }
    struct pending *c = list_entry(first, struct pending, member);
    if (c->on_reply != NULL)
        c->on_reply(c->arg, reply);
    free(c);
}

static void on_message(void *arg, struct slice channel, struct slice payload)
{
    struct redis_link *l = arg;
    l->has_handed_out = true;
    if (l->state == LINK_UP && l->ops->on_message != NULL)
        l->ops->on_message(l->arg, channel, payload);
}

static void on_oversize(void *arg, struct slice channel, uint64_t bytes)
{
    struct redis_link *l = arg;
    l->has_handed_out = true;
    if (l->state == LINK_UP && l->ops->on_oversize != NULL)
        l->ops->on_oversize(l->arg, channel, bytes);
}

static void on_subscribed(void *arg, struct slice channel)
{
    struct redis_link *l = arg;
    l->has_handed_out = true;
    if (l->state == LINK_UP && l->ops->on_subscribed != NULL)
        l->ops->on_subscribed(l->arg, channel);
}

static void on_unsubscribed(void *arg, struct slice channel)
{
    struct redis_link *l = arg;
    l->has_handed_out = true;
    if (l->state == LINK_UP && l->ops->on_unsubscribed != NULL)
        l->ops->on_unsubscribed(l->arg, channel);
}

static const struct redis_parse_ops parse_ops = {
    .on_message = on_message,
    .on_oversize = on_oversize,
    .on_subscribed = on_subscribed,
    .on_unsubscribed = on_unsubscribed,
    .on_reply = on_reply,
};

/* === In: bytes ================================================================================ */

/* Reads once. False when there is no more to read in this turn; *why is then set if the connection
 * is at its end. */
static bool read_some(struct redis_link *l, size_t *total, const char **why)
{
    char bytes[READ_CHUNK];
    ssize_t n = recv(l->fd, bytes, sizeof bytes, 0);
    if (n > 0) {
        *total += (size_t)n;
        l->received_bytes += (uint64_t)n;
        return redis_parse_feed(l->parse, bytes, (size_t)n, why) && (size_t)n == sizeof bytes;
    }
    if (n == 0)
        *why = "Redis closed the connection";
    else if (errno == EINTR)
        return true;
    else if (errno != EAGAIN && errno != EWOULDBLOCK)
        *why = strerror(errno);
    else if (l->write_error != 0)
        *why = strerror(l->write_error);
    return false;
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    struct redis_link *l = arg;
    enter(l);
    const char *why = NULL;
    size_t total = 0;
    l->has_handed_out = false;
    while (total < READ_TURN && read_some(l, &total, &why))
        continue;
    if (l->has_handed_out && !l->is_freed && l->ops->on_read_end != NULL)
        l->ops->on_read_end(l->arg);
    if (why != NULL && l->fd >= 0)
        end_connection(l, why);
    leave(l);
}

/* === Dialing ================================================================================== */

static void on_connected(void *arg, int fd)
{
    struct redis_link *l = arg;
    enter(l);
    l->state = LINK_GREETING;
    l->fd = fd;
    l->write_error = 0;
    l->greetings = l->greeted = 0;
    redis_parse_reset(l->parse);
    event_assign(&l->readable, l->base, fd, EV_READ | EV_PERSIST, on_readable, l);
    event_assign(&l->writable, l->base, fd, EV_WRITE, on_writable, l);
    event_add(&l->readable, NULL);
    greet(l);
    write_out(l);
    leave(l);
}

static void on_dial_failed(void *arg, const char *reason)
{
    struct redis_link *l = arg;
    enter(l);
    fail_dial(l, reason);
    leave(l);
}

static const struct redis_dial_ops dial_ops = {
    .on_connected = on_connected,
    .on_failed = on_dial_failed,
};

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    struct redis_link *l = arg;
    enter(l);
    if (l->state == LINK_WAITING) {
        l->state = LINK_DIALING;
        timer_set(l, DIAL_MS);
        redis_dial_start(l->dial, clock_mono_ms() + DIAL_MS);
    } else if (l->state == LINK_DIALING) {
        fail_dial(l, redis_dial_stage(l->dial));
    } else if (l->state == LINK_GREETING) {
        fail_dial(l, "Redis does not answer");
    }
    leave(l);
}

/* === Calls ==================================================================================== */

struct redis_link *redis_link_new(struct event_base *base, struct evdns_base *dns,
                                  const struct redis_link_config *config,
                                  const struct redis_link_ops *ops, void *arg)
{
    struct redis_link *l = mem_zalloc(sizeof *l);
    l->base = base;
    l->config = *config;
    l->ops = ops;
    l->arg = arg;
    l->fd = -1;
    list_init(&l->pending);
    rng_init_random(&l->rng);
    l->parse = redis_parse_new(config->is_subscriber, config->payload_bytes, &parse_ops, l);
    l->dial = redis_dial_new(base, dns, &l->config.url, &dial_ops, l);
    event_assign(&l->timer, base, -1, 0, on_timer, l);
    event_assign(&l->flush, base, -1, 0, on_flush, l);
    timer_set(l, 0);
    return l;
}

static void destroy(struct redis_link *l)
{
    struct list *first;
    while ((first = list_shift(&l->pending)) != NULL)
        free(list_entry(first, struct pending, member));
    redis_parse_free(l->parse);
    redis_dial_free(l->dial);
    redis_out_fini(&l->out);
    free(l);
}

void redis_link_free(struct redis_link *l)
{
    if (l == NULL || l->is_freed)
        return;
    enter(l);
    l->is_freed = true;
    drop_connection(l);
    event_del(&l->timer);
    l->state = LINK_WAITING;
    leave(l);
}

void redis_link_set_payload_bytes(struct redis_link *l, size_t payload_bytes)
{
    l->config.payload_bytes = payload_bytes;
    redis_parse_set_payload_bytes(l->parse, payload_bytes);
}

struct redis_link_traffic redis_link_traffic(const struct redis_link *l)
{
    return (struct redis_link_traffic){.received_bytes = l->received_bytes,
                                       .sent_bytes = l->out.total,
                                       .unsent_bytes = redis_out_unsent(&l->out)};
}

bool redis_link_is_up(const struct redis_link *l)
{
    return l->state == LINK_UP;
}

void redis_link_reset(struct redis_link *l, const char *reason)
{
    if (l->state != LINK_UP)
        return; /* there is none to give up; a dial has a deadline of its own */
    enter(l);
    go_down(l, reason);
    leave(l);
}

void redis_link_subscribe(struct redis_link *l, struct slice channel)
{
    gather(l, verb_subscribe, channel);
}

void redis_link_unsubscribe(struct redis_link *l, struct slice channel)
{
    gather(l, verb_unsubscribe, channel);
}

void redis_link_psubscribe(struct redis_link *l, struct slice pattern)
{
    gather(l, verb_psubscribe, pattern);
}

void redis_link_flush(struct redis_link *l)
{
    if (l->state == LINK_UP)
        on_flush(-1, 0, l);
}

void redis_link_command(struct redis_link *l, const struct slice *args, size_t count,
                        void (*reply_to)(void *arg, const struct redis_reply_view *reply),
                        void *arg)
{
    enter(l);
    bool is_in = l->state == LINK_UP && !l->config.is_subscriber;
    if (is_in && !redis_out_command(&l->out, args, count)) {
        is_in = false;
        overflow(l);
    }
    if (is_in) {
        struct pending *c = mem_alloc(sizeof *c);
        *c = (struct pending){.on_reply = reply_to, .arg = arg};
        list_append(&l->pending, &c->member);
        write_soon(l);
    } else if (reply_to != NULL && !l->is_freed) {
        reply_to(arg, &reply_lost);
    }
    leave(l);
}
