/*
 * hub.c - a worker's channels and cohorts, and when cohorts are flushed.
 */
#include "domain/hub.h"
#include "domain/departures.h"

#include "base/mem.h"
#include "domain/hub_priv.h"

#include <stdlib.h>

#define CLOCK_SLOTS 1024 /* of 1 ms: the longest pace_ms fits one round */

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
        item_unref(c->last);
    if (c->plain != NULL)
        item_unref(c->plain);
    free(c->cohorts);
    free(c->waiting);
    notes_fini(&c->notes);
    free(c->recorders);
    free(c);
}

uint64_t hub_count_subscribers(const struct hub *h, struct slice name)
{
    const struct hub_channel *c = hub_find(h, name);
    uint64_t count = 0;
    for (uint32_t i = 0; c != NULL && i < c->cohort_count; i++)
        count += c->cohorts[i].cohort->member_count;
    return count;
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
            c->subs[i].max_rate != subs[i].max_rate || c->subs[i].delta != subs[i].delta)
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

/* --- clocks ---------------------------------------------------------------------------------- */

/* One timer of the loop serves all cohorts: it fires at the earliest deadline. */
static void arm_clock(struct hub *h, struct hub_clock *clock, uint64_t due_ms)
{
    if (due_ms >= clock->due_ms)
        return;
    uint64_t now_ms = loop_now_ms(h->worker->loop);
    clock->due_ms = due_ms;
    loop_timer_set(clock->timer, due_ms > now_ms ? due_ms - now_ms : 0);
}

static void advance_clock(struct hub *h, struct hub_clock *clock,
                          void (*on_due)(struct wheel_timer *t, void *arg))
{
    uint64_t now_ms = loop_now_ms(h->worker->loop);
    clock->due_ms = UINT64_MAX;
    wheel_advance(&clock->wheel, now_ms, on_due, h);
    if (clock->wheel.count > 0)
        arm_clock(h, clock, now_ms + wheel_next_in_ms(&clock->wheel, now_ms));
}

static void on_pace_due(struct wheel_timer *t, void *arg)
{
    struct hub *h = arg;
    list_append(&h->due, &list_entry(t, struct cohort, pace)->due);
}

static void on_pacing(void *arg)
{
    struct hub *h = arg;
    advance_clock(h, &h->pacing, on_pace_due);
}

static void on_gate_due(struct wheel_timer *t, void *arg)
{
    (void)arg;
    cohort_gates_on_due(list_entry(t, struct cohort, gate_timer));
}

static void on_gates(void *arg)
{
    struct hub *h = arg;
    advance_clock(h, &h->gates, on_gate_due);
}

void hub_schedule(struct hub *h, struct cohort *c)
{
    uint64_t now_ms = loop_now_ms(h->worker->loop);
    uint64_t due_ms = c->last_flush_ms + h->pace_ms;
    /* It may be on its way with nothing in it: its set was changed since. */
    if (!list_is_empty(&c->due) || wheel_timer_is_set(&c->pace))
        return;
    if (now_ms >= due_ms) {
        list_append(&h->due, &c->due);
        return;
    }
    wheel_set(&h->pacing.wheel, &c->pace, due_ms);
    arm_clock(h, &h->pacing, due_ms);
}

void hub_schedule_now(struct hub *h, struct cohort *c)
{
    wheel_cancel(&h->pacing.wheel, &c->pace);
    list_remove(&c->due);
    list_append(&h->due, &c->due);
}

void hub_set_gate_timer(struct hub *h, struct cohort *c, uint64_t due_ms)
{
    wheel_set(&h->gates.wheel, &c->gate_timer, due_ms);
    arm_clock(h, &h->gates, due_ms);
}

static void flush_due(void *arg)
{
    struct hub *h = arg;
    struct list *member;
    while ((member = list_shift(&h->due)) != NULL)
        cohort_flush(list_entry(member, struct cohort, due));
    hub_packs_forget(h);
}

/* --- life ---------------------------------------------------------------------------------- */

static void init_clock(struct hub *h, struct hub_clock *clock, void (*on_due)(void *arg))
{
    struct loop *loop = h->worker->loop;
    clock->due_ms = UINT64_MAX;
    wheel_init(&clock->wheel, 1, CLOCK_SLOTS, loop_now_ms(loop));
    clock->timer = loop_timer_new(loop, on_due, h);
}

static void fini_clock(struct hub_clock *clock)
{
    loop_timer_free(clock->timer);
    wheel_fini(&clock->wheel);
}

struct hub *hub_new(struct worker *worker, const struct hub_upstream *upstream)
{
    struct hub *h = mem_zalloc(sizeof *h);
    h->worker = worker;
    h->upstream = *upstream;
    h->pace_ms = (uint64_t)worker->config->node.pace_ms;
    h->feed_reason = "starting";
    h->started_ms = loop_now_ms(worker->loop);
    h->next_session_id = rng_next(&worker->rng) >> 28; /* 36 bits: nine digits in a conn id */
    h->next_token = 1;
    init_clock(h, &h->pacing, on_pacing);
    init_clock(h, &h->gates, on_gates);
    list_init(&h->due);
    list_init(&h->requests);
    list_init(&h->publishes);
    h->packs = hub_packs_new();
    worker->upper = h;
    loop_on_turn_end(worker->loop, flush_due, h);
    return h;
}

void hub_free(struct hub *h)
{
    departures_free(h->departures);
    fini_clock(&h->pacing);
    fini_clock(&h->gates);
    map_fini(&h->channels);
    map_fini(&h->cohorts);
    map_fini(&h->recovering);
    map_fini(&h->resuming);
    free(h->session_ids.list);
    buf_fini(&h->scratch);
    hub_packs_forget(h);
    free(h->packs);
    free(h);
}
