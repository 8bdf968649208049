/*
 * departures.c - a list of who leaves when, walked by a timer.
 *
 * The list is ordered by a hash of the session's id: that is the random order, and the way to find
 * a session that ended earlier.
 */
#include "domain/departures.h"

#include "base/log.h"
#include "base/mem.h"
#include "domain/resume.h"
#include "domain/session.h"
#include "domain/session_commands.h"
#include "protocol/messages.h"

#include <stdlib.h>

#define TICK_MS 50

struct departure {
    uint64_t key;            /* hash of the session's id */
    struct session *session; /* NULL: it has left */
    uint32_t due_ms;         /* since the beginning */
};

struct departures {
    struct hub *hub;
    struct loop_timer *timer;
    struct departure *list; /* ordered by key, and so by due_ms */
    size_t count;
    size_t first; /* all before it have left */
    uint64_t began_ms;
    uint64_t window_ms;
    uint64_t cut; /* closed before they had everything */
};

/* A permutation of 64-bit numbers (the finalizer of SplitMix64): two ids never collide. */
static uint64_t key_of(const struct session *s)
{
    uint64_t x = s->id + 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static int compare_keys(const void *a, const void *b)
{
    uint64_t x = ((const struct departure *)a)->key, y = ((const struct departure *)b)->key;
    return (x > y) - (x < y);
}

static struct departure *find(struct departures *d, const struct session *s)
{
    const struct departure wanted = {.key = key_of(s)};
    return bsearch(&wanted, d->list, d->count, sizeof wanted, compare_keys);
}

void departures_forget(struct departures *d, const struct session *s)
{
    struct departure *found = find(d, s);
    if (found != NULL)
        found->session = NULL;
}

static bool must_have_all(const struct session *s)
{
    return s->cohort != NULL && s->cohort->has_all;
}

/* Has it everything that must not be lost? Then nothing stands between it and its close frame. What
 * the kernel could not send yet is lost when the peer says something after we closed the socket. */
static bool is_ready(const struct session *s)
{
    const struct conn *c = s->conn;
    if (s->publish_count > 0)
        return false;
    if (!must_have_all(s))
        return true;
    return !c->blocked && c->outq == NULL && s->catchup == NULL && conn_unsent_bytes(c) == 0;
}

/* What is still pending or held back goes out first, and may have to be waited for as well. */
static void close_one(struct session *s, bool is_over)
{
    struct conn *c = s->conn;
    session_settle(s);
    catchup_queue_held(s);
    if (must_have_all(s))
        conn_flush(c);
    else
        resume_flush(s);
    if (c->state == CONN_OPEN && (is_over || is_ready(s)))
        conn_close(c, WS_CLOSE_DRAIN, "drain", METRIC_ENDED_DRAIN); /* frees s */
}

static void on_tick(void *arg)
{
    struct departures *d = arg;
    uint64_t passed_ms = loop_now_ms(d->hub->worker->loop) - d->began_ms;
    bool is_over = passed_ms >= d->window_ms + DEPARTURES_EXTRA_MS;
    for (size_t i = d->first; i < d->count && d->list[i].due_ms <= passed_ms; i++) {
        struct session *s = d->list[i].session;
        if (s == NULL)
            continue;
        bool has_all_it_must = is_ready(s);
        d->cut += is_over && !has_all_it_must;
        if (is_over || has_all_it_must)
            close_one(s, is_over);
    }
    while (d->first < d->count && d->list[d->first].session == NULL)
        d->first++;
    if (d->first < d->count)
        return;
    loop_timer_cancel(d->timer);
    if (d->cut > 0)
        log_warn("drain_cut", LOG_INT("clients", d->cut));
}

static void add(struct conn *c, void *arg)
{
    struct departures *d = arg;
    if (c->state == CONN_OPEN && c->upper != NULL)
        d->list[d->count++] = (struct departure){.key = key_of(c->upper), .session = c->upper};
    else if (c->state == CONN_OPEN)
        conn_close(c, WS_CLOSE_DRAIN, "drain", METRIC_ENDED_DRAIN); /* /echo */
}

static void tell(struct session *s, uint32_t due_ms)
{
    if (!s->format.raw)
        session_send(s, message_drain(due_ms));
}

struct departures *departures_new(struct hub *h, uint64_t window_ms)
{
    struct departures *d = mem_zalloc(sizeof *d);
    d->hub = h;
    d->window_ms = window_ms;
    d->began_ms = loop_now_ms(h->worker->loop);
    d->timer = loop_timer_new(h->worker->loop, on_tick, d);
    d->list = mem_zalloc((h->worker->conn_count + 1) * sizeof *d->list);
    worker_each_conn(h->worker, add, d);
    qsort(d->list, d->count, sizeof *d->list, compare_keys);
    for (size_t i = 0; i < d->count; i++) {
        d->list[i].due_ms = (uint32_t)(window_ms * i / d->count);
        tell(d->list[i].session, d->list[i].due_ms);
    }
    loop_timer_repeat(d->timer, TICK_MS);
    return d;
}

void departures_free(struct departures *d)
{
    if (d == NULL)
        return;
    loop_timer_free(d->timer);
    free(d->list);
    free(d);
}
