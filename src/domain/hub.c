/*
 * hub.c - a worker's channels, and the way of a publication from the bus to the cohorts.
 */
#include "domain/hub.h"

#include "base/mem.h"
#include "domain/session.h"
#include "protocol/messages.h"

#include <stdlib.h>

#define PACING_SLOTS 1024 /* of 1 ms: the longest pace_ms fits one round */

/* --- channels ------------------------------------------------------------------------------ */

struct hub_channel *hub_find(const struct hub *h, struct slice name)
{
    return map_get(&h->channels, map_hash(name), name);
}

struct hub_channel *hub_pin(struct hub *h, struct slice name, const struct config_namespace *ns)
{
    uint64_t hash = map_hash(name);
    struct hub_channel *c = map_get(&h->channels, hash, name);
    if (c == NULL) {
        c = mem_zalloc(sizeof *c + name.len);
        c->id = ++h->next_channel_id;
        c->hash = hash;
        c->ns = ns;
        c->name_len = (uint8_t)name.len;
        memcpy(c->name, name.ptr, name.len);
        map_put(&h->channels, hash, hub_channel_name(c), c);
        metrics_add(&h->worker->metrics, METRIC_CHANNELS, 1);
        h->upstream.interest(h->upstream.arg, h->worker->index, name, true);
    }
    c->pins++;
    return c;
}

void hub_unpin(struct hub *h, struct hub_channel *c)
{
    if (--c->pins > 0)
        return;
    h->upstream.interest(h->upstream.arg, h->worker->index, hub_channel_name(c), false);
    map_del(&h->channels, c->hash, hub_channel_name(c));
    metrics_add(&h->worker->metrics, METRIC_CHANNELS, (uint64_t)-1);
    if (c->last != NULL)
        publication_unref(c->last);
    free(c->cohorts);
    free(c->waiting);
    free(c->fresh);
    free(c);
}

static void set_epoch(struct hub_channel *c, const struct publication *p)
{
    c->epoch_len = p->epoch_len;
    memcpy(c->epoch, p->epoch, p->epoch_len);
}

static bool is_epoch(const struct hub_channel *c, const struct publication *p)
{
    return slice_equal(slice_of(c->epoch, c->epoch_len), publication_epoch(p));
}

static void set_last(struct hub_channel *c, struct publication *p)
{
    if (c->last != NULL)
        publication_unref(c->last);
    c->last = p != NULL ? publication_ref(p) : NULL;
}

/* --- cohorts ------------------------------------------------------------------------------- */

static struct slice cohort_key(const uint64_t *set_hash)
{
    return slice_of((const char *)set_hash, sizeof *set_hash);
}

static bool has_set(const struct cohort *c, struct cohort_format format,
                    const struct cohort_sub *subs, uint32_t count)
{
    if (c->sub_count != count || c->format.raw != format.raw ||
        c->format.deflate != format.deflate || c->format.window_bits != format.window_bits)
        return false;
    for (uint32_t i = 0; i < count; i++) {
        if (c->subs[i].channel != subs[i].channel || c->subs[i].mode != subs[i].mode ||
            c->subs[i].max_rate != subs[i].max_rate)
            return false;
    }
    return true;
}

struct cohort *hub_find_cohort(struct hub *h, struct cohort_format format,
                               const struct cohort_sub *subs, uint32_t count, uint64_t *set_hash)
{
    *set_hash = cohort_format_hash(format);
    for (uint32_t i = 0; i < count; i++)
        *set_hash += cohort_sub_hash(&subs[i]);
    struct cohort *c = map_get(&h->cohorts, *set_hash, cohort_key(set_hash));
    return c != NULL && has_set(c, format, subs, count) ? c : NULL;
}

void hub_remember_cohort(struct hub *h, struct cohort *c)
{
    struct slice key = cohort_key(&c->set_hash);
    /* Two sets of one hash do not happen by chance; the second would simply not be shared. */
    if (map_get(&h->cohorts, c->set_hash, key) == NULL)
        map_put(&h->cohorts, c->set_hash, key, c);
}

void hub_forget_cohort(struct hub *h, struct cohort *c)
{
    struct slice key = cohort_key(&c->set_hash);
    if (map_get(&h->cohorts, c->set_hash, key) == c)
        map_del(&h->cohorts, c->set_hash, key);
}

/* --- pacing -------------------------------------------------------------------------------- */

static void on_pace_due(struct wheel_timer *t, void *arg)
{
    struct hub *h = arg;
    list_append(&h->due, &list_entry(t, struct cohort, pace)->due);
}

/* One timer serves all cohorts: it fires at the earliest deadline. */
static void arm_pacing(struct hub *h, uint64_t due_ms)
{
    if (due_ms >= h->pacing_due_ms)
        return;
    h->pacing_due_ms = due_ms;
    loop_timer_set(h->pacing_timer, due_ms - loop_now_ms(h->worker->loop));
}

static void on_pacing(void *arg)
{
    struct hub *h = arg;
    uint64_t now_ms = loop_now_ms(h->worker->loop);
    wheel_advance(&h->pacing, now_ms, on_pace_due, h);
    h->pacing_due_ms = UINT64_MAX;
    if (h->pacing.count > 0)
        arm_pacing(h, now_ms + wheel_next_in_ms(&h->pacing, now_ms));
}

void hub_schedule(struct hub *h, struct cohort *c)
{
    uint64_t now_ms = loop_now_ms(h->worker->loop);
    uint64_t due_ms = c->last_flush_ms + h->pace_ms;
    if (now_ms >= due_ms) {
        list_append(&h->due, &c->due);
        return;
    }
    wheel_set(&h->pacing, &c->pace, due_ms);
    arm_pacing(h, due_ms);
}

static void flush_due(void *arg)
{
    struct hub *h = arg;
    struct list *member;
    while ((member = list_shift(&h->due)) != NULL)
        cohort_flush(list_entry(member, struct cohort, due));
}

/* --- delivery ------------------------------------------------------------------------------ */

struct frame *hub_frame(struct hub *h, struct publication *p, struct cohort_format format,
                        enum publication_form form)
{
    if (format.raw)
        form = FORM_RAW;
    if (!format.deflate)
        return publication_frame(p, form, NULL);
    struct frame *f = publication_frame(p, form, &h->worker->compressor);
    if (f != NULL && !ws_deflate_fits(f->plain_bytes, format.window_bits))
        return publication_frame(p, form, NULL);
    return f;
}

/* Sessions that were never told the epoch get this item privately, ahead of their stream. */
static void give_fresh(struct hub *h, struct hub_channel *c, struct publication *p)
{
    for (uint32_t i = 0; i < c->fresh_count; i++) {
        struct session *s = c->fresh[i];
        s->fresh_count--;
        cohort_settle(s->cohort, s->member_index);
        conn_queue_shared(s->conn, frame_ref(hub_frame(h, p, s->format, FORM_JSON_EPOCH)));
    }
}

/* They have it already: their cursors step over it. */
static void step_over(const struct hub_channel *c)
{
    for (uint32_t i = 0; i < c->fresh_count; i++) {
        const struct session *s = c->fresh[i];
        s->cohort->members[s->member_index].cursor = s->cohort->head;
    }
}

static void forget_fresh(struct hub_channel *c)
{
    free(c->fresh);
    c->fresh = NULL;
    c->fresh_count = 0;
}

static void deliver(struct hub *h, struct publication *p)
{
    struct hub_channel *c = map_get(&h->channels, p->channel_hash, publication_channel(p));
    if (c == NULL)
        return; /* the last follower left while it was on its way */
    enum publication_form form = FORM_JSON;
    bool is_numbered = p->seq != 0;
    if (is_numbered && !is_epoch(c, p)) {
        form = FORM_JSON_EPOCH;
        set_epoch(c, p);
    }
    if (is_numbered && c->ns->snapshot)
        set_last(c, p->cleared ? NULL : p);
    bool has_fresh = is_numbered && c->fresh_count > 0;
    if (has_fresh)
        give_fresh(h, c, p);
    for (uint32_t i = 0; i < c->cohort_count; i++) {
        struct cohort *cohort = c->cohorts[i].cohort;
        struct frame *f = hub_frame(h, p, cohort->format, form);
        if (f != NULL)
            cohort_append(cohort, f, p->received_ns);
    }
    if (has_fresh) {
        step_over(c);
        forget_fresh(c);
    }
}

/* --- messages from the bus ----------------------------------------------------------------- */

struct publications_message {
    struct message message;
    struct hub *hub;
    struct publication **list;
    uint32_t count;
};

static void run_publications(struct message *m)
{
    struct publications_message *pm = (struct publications_message *)m;
    for (uint32_t i = 0; i < pm->count; i++) {
        deliver(pm->hub, pm->list[i]);
        publication_unref(pm->list[i]);
    }
    free(pm->list);
    free(pm);
}

void hub_post_publications(struct hub *h, struct publication **list, uint32_t count)
{
    struct publications_message *m = mem_zalloc(sizeof *m);
    m->message.run = run_publications;
    m->hub = h;
    m->list = list;
    m->count = count;
    loop_post(h->worker->loop, &m->message);
}

struct live_message {
    struct message message;
    struct hub *hub;
    struct publication *last;
    uint8_t name_len;
    char name[];
};

static void answer_waiting(struct hub_channel *c)
{
    struct sub_request **waiting = c->waiting;
    uint32_t count = c->waiting_count;
    c->waiting = NULL;
    c->waiting_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (--waiting[i]->waiting == 0)
            session_finish_request(waiting[i]);
    }
    free(waiting);
}

static void run_live(struct message *m)
{
    struct live_message *lm = (struct live_message *)m;
    struct hub_channel *c = hub_find(lm->hub, slice_of(lm->name, lm->name_len));
    if (c != NULL) {
        c->live = true;
        if (lm->last != NULL && c->ns->snapshot && c->last == NULL && c->cohort_count == 0) {
            set_last(c, lm->last);
            set_epoch(c, lm->last);
        }
        answer_waiting(c);
    }
    if (lm->last != NULL)
        publication_unref(lm->last);
    free(lm);
}

void hub_post_live(struct hub *h, struct slice channel, struct publication *last)
{
    struct live_message *m = mem_zalloc(sizeof *m + channel.len);
    m->message.run = run_live;
    m->hub = h;
    m->last = last != NULL ? publication_ref(last) : NULL;
    m->name_len = (uint8_t)channel.len;
    memcpy(m->name, channel.ptr, channel.len);
    loop_post(h->worker->loop, &m->message);
}

struct feed_message {
    struct message message;
    struct hub *hub;
    bool ok;
    const char *reason;
};

static void tell_feed(struct conn *c, void *arg)
{
    if (c->upper != NULL)
        session_tell_feed(c->upper, arg);
}

static void answer_all(struct hub *h)
{
    struct list *member;
    while ((member = h->requests.next) != &h->requests)
        session_finish_request(list_entry(member, struct sub_request, in_hub));
}

static void run_feed(struct message *m)
{
    struct feed_message *fm = (struct feed_message *)m;
    struct hub *h = fm->hub;
    h->feed_ok = fm->ok;
    h->feed_reason = fm->reason;
    struct frame *state = message_state(fm->ok, fm->reason);
    worker_each_conn(h->worker, tell_feed, state);
    frame_unref(state);
    if (!h->feed_ok)
        answer_all(h);
    free(fm);
}

void hub_post_feed(struct hub *h, bool ok, const char *reason)
{
    struct feed_message *m = mem_zalloc(sizeof *m);
    m->message.run = run_feed;
    m->hub = h;
    m->ok = ok;
    m->reason = reason;
    loop_post(h->worker->loop, &m->message);
}

/* --- life ---------------------------------------------------------------------------------- */

struct hub *hub_new(struct worker *worker, const struct hub_upstream *upstream)
{
    struct hub *h = mem_zalloc(sizeof *h);
    h->worker = worker;
    h->upstream = *upstream;
    h->pace_ms = (uint64_t)worker->config->node.pace_ms;
    h->pacing_due_ms = UINT64_MAX;
    h->feed_reason = "starting";
    h->started_ms = loop_now_ms(worker->loop);
    h->next_session_id = rng_next(&worker->rng) >> 28; /* 36 bits: nine digits in a conn id */
    wheel_init(&h->pacing, 1, PACING_SLOTS, loop_now_ms(worker->loop));
    h->pacing_timer = loop_timer_new(worker->loop, on_pacing, h);
    list_init(&h->due);
    list_init(&h->requests);
    worker->upper = h;
    loop_on_turn_end(worker->loop, flush_due, h);
    return h;
}

void hub_free(struct hub *h)
{
    loop_timer_free(h->pacing_timer);
    wheel_fini(&h->pacing);
    map_fini(&h->channels);
    map_fini(&h->cohorts);
    buf_fini(&h->scratch);
    free(h);
}
