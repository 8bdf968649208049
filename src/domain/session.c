/*
 * session.c - a client's life apart from its commands: hello, liveness, membership, farewell.
 *
 * The commands are in session_commands.c. Timers: one per connection, for whichever of ping and
 * heartbeat comes first; traffic does not touch it, it looks at the clock when it fires.
 */
#include "domain/session.h"

#include "base/clock.h"
#include "base/mem.h"
#include "domain/departures.h"
#include "domain/resume.h"
#include "domain/session_commands.h"
#include "domain/session_quality.h"
#include "protocol/json_text.h"
#include "protocol/messages.h"
#include "protocol/push.h"

#include <stdio.h>
#include <stdlib.h>

#define PINGS_UNANSWERED_MAX 2
#define TICK_MS              16 /* of opened_ticks: wraps after two years */

static struct worker *worker_of(const struct session *s)
{
    return s->conn->worker;
}

static uint32_t low_ms(const struct session *s)
{
    return (uint32_t)loop_now_ms(worker_of(s)->loop);
}

void session_conn_text(const struct session *s, char *out)
{
    snprintf(out, SESSION_CONN_TEXT, "%s-%llx", worker_of(s)->config->node.id,
             (unsigned long long)s->id);
}

/* --- liveness ------------------------------------------------------------------------------ */

static uint32_t ms_until(uint32_t due_ms, uint32_t now_ms)
{
    int32_t left = (int32_t)(due_ms - now_ms);
    return left > 0 ? (uint32_t)left : 0;
}

/* When something was last sent to this client, privately or from its cohort's stream. */
static uint32_t last_sent_ms(const struct session *s)
{
    uint32_t sent_ms = s->conn->last_sent_ms;
    if (s->cohort == NULL || s->cohort->last_flush_ms == 0)
        return sent_ms;
    uint32_t flush_ms = (uint32_t)s->cohort->last_flush_ms;
    return (int32_t)(flush_ms - sent_ms) > 0 ? flush_ms : sent_ms;
}

static void arm_timer(struct session *s)
{
    const struct config *config = worker_of(s)->config;
    uint32_t now_ms = low_ms(s);
    uint32_t wait_ms = UINT32_MAX;
    if (config->node.ping_ms > 0)
        wait_ms = ms_until(s->conn->next_ping_ms, now_ms);
    if (config->node.heartbeat_ms > 0 && !s->format.raw) {
        uint32_t beat_ms = ms_until(last_sent_ms(s) + (uint32_t)config->node.heartbeat_ms, now_ms);
        wait_ms = beat_ms < wait_ms ? beat_ms : wait_ms;
    }
    if (wait_ms != UINT32_MAX)
        conn_set_timer(s->conn, wait_ms);
}

/* The next ping in 80 to 100 % of the period, so that clients who came together drift apart. */
static void plan_ping(struct session *s)
{
    uint64_t period_ms = (uint64_t)worker_of(s)->config->node.ping_ms;
    uint64_t jitter_ms = rng_below(&worker_of(s)->rng, period_ms / 5 + 1);
    s->conn->next_ping_ms = low_ms(s) + (uint32_t)(period_ms - jitter_ms);
}

/* False when the client has gone. */
static bool ping_if_due(struct session *s)
{
    const struct config *config = worker_of(s)->config;
    if (config->node.ping_ms == 0 || ms_until(s->conn->next_ping_ms, low_ms(s)) > 0)
        return true;
    session_settle_ping(s);
    if (s->conn->pings_unanswered >= PINGS_UNANSWERED_MAX) {
        conn_close(s->conn, WS_CLOSE_IDLE, "pings unanswered", METRIC_ENDED_PING);
        return false;
    }
    s->conn->pings_unanswered++;
    session_send_ping(s);
    plan_ping(s);
    return true;
}

static void beat_if_silent(struct session *s)
{
    const struct config *config = worker_of(s)->config;
    struct hub *hub = hub_of(worker_of(s));
    if (config->node.heartbeat_ms == 0 || s->format.raw || s->conn->blocked)
        return;
    if (low_ms(s) - last_sent_ms(s) < (uint32_t)config->node.heartbeat_ms)
        return;
    uint64_t up_ms = loop_now_ms(worker_of(s)->loop) - hub->started_ms;
    session_send(s, message_heartbeat(up_ms, hub->feed_ok));
    s->conn->last_sent_ms = low_ms(s);
}

void session_on_timer(struct session *s)
{
    if (!ping_if_due(s))
        return;
    beat_if_silent(s);
    arm_timer(s);
}

void session_on_periods(struct session *s, bool is_ping)
{
    if (is_ping)
        plan_ping(s); /* spread again: not all in the same moment */
    arm_timer(s);
}

/* --- membership ---------------------------------------------------------------------------- */

void session_set_member_index(void *session, uint32_t index)
{
    ((struct session *)session)->member_index = index;
}

void session_on_blocked(struct session *s)
{
    if (s->cohort != NULL && s->catchup == NULL)
        cohort_set_state(s->cohort, s->member_index, MEMBER_HELD);
}

void session_on_drained(struct session *s)
{
    if (s->catchup != NULL)
        catchup_serve(s);
    else if (s->cohort != NULL)
        cohort_resume(s->cohort, s->member_index);
}

void session_leave_cohort(struct session *s)
{
    struct cohort *c = s->cohort;
    if (c == NULL)
        return;
    cohort_leave(c, s->member_index);
    s->cohort = NULL;
    catchup_free(s->catchup);
    s->catchup = NULL;
    if (c->member_count > 0)
        return;
    hub_forget_cohort(c->hub, c);
    cohort_free(c);
}

bool session_follows(const struct session *s, struct slice channel)
{
    if (s->cohort == NULL)
        return false;
    const struct hub_channel *c = hub_find(s->cohort->hub, channel);
    return c != NULL && cohort_find(s->cohort, c) != NULL;
}

static uint32_t now_ticks(const struct conn *c)
{
    return (uint32_t)(loop_now_ms(c->worker->loop) / TICK_MS);
}

uint64_t session_age_ms(const struct session *s)
{
    return (uint64_t)(now_ticks(s->conn) - s->opened_ticks) * TICK_MS;
}

/* --- life ---------------------------------------------------------------------------------- */

struct session *session_new(struct conn *c, struct cohort_format format)
{
    struct session *s = mem_zalloc(sizeof *s);
    struct hub *hub = hub_of(c->worker);
    s->conn = c;
    s->format = format;
    s->id = hub->next_session_id++ << 8 | c->worker->index;
    rate_limit_init(&s->commands, (uint32_t)c->worker->config->limits.commands_per_s,
                    loop_now_ms(c->worker->loop));
    s->opened_ticks = now_ticks(c);
    list_init(&s->requests);
    return s;
}

void session_begin(struct session *s, struct slice channels, const char *session)
{
    struct conn *c = s->conn;
    if (!s->format.raw) {
        char conn_text[SESSION_CONN_TEXT];
        session_conn_text(s, conn_text);
        session_send(
            s, message_hello(c->worker->config, conn_text, hub_of(c->worker)->feed_ok, session));
    }
    c->last_sent_ms = low_ms(s);
    plan_ping(s);
    arm_timer(s);
    if (channels.len > 0)
        session_subscribe_list(s, channels);
}

void session_free(struct session *s)
{
    session_judge_end(s);
    resume_on_end(s); /* while it still has everything */
    struct list *member;
    while ((member = s->requests.next) != &s->requests)
        session_cancel_request(list_entry(member, struct sub_request, in_session));
    session_forget_publishes(s);
    session_forget_notes(s);
    if (hub_of(worker_of(s))->departures != NULL)
        departures_forget(hub_of(worker_of(s))->departures, s);
    session_leave_cohort(s);
    free(s);
}

void session_send(struct session *s, struct frame *f)
{
    if (s->format.deflate)
        f = compressor_pack_for(&worker_of(s)->compressor, f, s->format.window_bits);
    conn_queue(s->conn, f);
}

static void count_private(struct session *s, const struct frame *f)
{
    struct metrics *m = &worker_of(s)->metrics;
    metrics_add(m, METRIC_DELIVERIES, f->items);
    metrics_add(m, METRIC_DELIVERED_BYTES, f->len);
    metrics_add(m, METRIC_DELIVERED_PLAIN_BYTES, f->plain_bytes + f->header_len);
}

void session_queue_push(struct session *s, struct frame *push)
{
    struct frame *f = hub_pack(hub_of(worker_of(s)), push, s->format);
    count_private(s, f);
    conn_queue_shared(s->conn, f);
}

void session_queue_item(struct session *s, struct item *item, enum publication_form form,
                        uint64_t missed)
{
    struct hub *h = hub_of(worker_of(s));
    if (missed != 0 && !s->format.raw) {
        const struct push_part part = {.single = publication_frame(item->p, form, NULL),
                                       .missed = missed};
        struct push w;
        push_open(&w, push_part_bytes(&part), 1);
        push_put(&w, &part);
        session_queue_push(s, push_close(&w));
        return;
    }
    struct frame *f = hub_frame(h, item->p, s->format, form);
    if (f == NULL)
        return; /* raw clients do not hear of the end of a value */
    count_private(s, f);
    conn_queue_shared(s->conn, frame_ref(f));
}

void session_end_slow(struct session *s, uint64_t waiting_bytes)
{
    struct frame *words = s->format.raw ? NULL : message_slow(waiting_bytes, 0);
    conn_fail_slow(s->conn, words);
}

bool session_notify(struct session *s, struct frame *f)
{
    if (s->format.raw)
        return false;
    session_send(s, frame_ref(f));
    return true;
}

void session_tell_feed(struct session *s, struct frame *state)
{
    /* What was healed is in the stream, or waits for its batch: the good news must not overtake it. */
    session_settle(s);
    if (s->format.raw)
        frame_unref(state);
    else
        session_send(s, state);
}
