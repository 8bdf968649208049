/*
 * quality.c - windows over counters, and the judgement of alerts.
 *
 * A window keeps no events, only what its counter showed at the boundaries of its buckets: one
 * subtraction gives what came since the oldest. When nobody looked for a while, what was counted
 * meanwhile is taken to have come at the end of it; it stays a little longer rather than less.
 */
#include "domain/quality.h"

#include <assert.h>

/* Cleared below 3/4 of the threshold. */
#define CLEAR_PART 3
#define CLEAR_OF   4

#define US_PER_MS 1000

/* --- windows -------------------------------------------------------------------------------- */

void window_init(struct window *w, uint64_t span_ms, uint64_t total, uint64_t now_ms)
{
    assert(span_ms >= WINDOW_BUCKETS);
    w->bucket_ms = span_ms / WINDOW_BUCKETS;
    w->bucket = now_ms / w->bucket_ms;
    w->last = total;
    for (unsigned i = 0; i < WINDOW_BUCKETS; i++)
        w->at[i] = total;
}

uint64_t window_update(struct window *w, uint64_t total, uint64_t now_ms)
{
    uint64_t now = now_ms / w->bucket_ms;
    uint64_t begun = now - w->bucket;
    if (begun > WINDOW_BUCKETS)
        begun = WINDOW_BUCKETS;
    for (uint64_t i = 0; i < begun; i++)
        w->at[(now - i) % WINDOW_BUCKETS] = w->last;
    w->bucket = now;
    w->last = total;
    return total - w->at[(now + 1) % WINDOW_BUCKETS]; /* the oldest */
}

/* --- alerts --------------------------------------------------------------------------------- */

const char *alert_name(enum alert id)
{
    static const char *const names[ALERT_COUNT] = {
        [ALERT_LOST_HEARTBEATS] = "lost_heartbeats",
        [ALERT_RTT_DEVIATION] = "rtt_deviation",
        [ALERT_SHORT_LIVED] = "short_lived",
    };
    return names[id];
}

void quality_init(struct quality *q, const struct quality_limits *limits,
                  const struct quality_totals *totals, uint64_t now_ms)
{
    *q = (struct quality){.limits = *limits};
    window_init(&q->answered, limits->window_ms, totals->pings_answered, now_ms);
    window_init(&q->lost, limits->window_ms, totals->pings_lost, now_ms);
    window_init(&q->deviations, limits->window_ms, totals->deviations, now_ms);
    window_init(&q->deviation_us, limits->window_ms, totals->deviation_us, now_ms);
    window_init(&q->short_lived, limits->short_window_ms, totals->short_lived, now_ms);
}

/* The one door for an alert's state. True when it changed. */
static bool judge(struct quality *q, enum alert id, uint64_t value, bool is_enough)
{
    uint64_t threshold = q->limits.thresholds[id];
    bool was_raised = q->raised[id];
    q->values[id] = value;
    if (threshold == 0)
        q->raised[id] = false;
    else if (was_raised)
        q->raised[id] = value * CLEAR_OF >= threshold * CLEAR_PART;
    else
        q->raised[id] = is_enough && value >= threshold;
    return q->raised[id] != was_raised;
}

unsigned quality_update(struct quality *q, const struct quality_totals *totals, uint64_t now_ms)
{
    uint64_t lost = window_update(&q->lost, totals->pings_lost, now_ms);
    uint64_t pings = lost + window_update(&q->answered, totals->pings_answered, now_ms);
    uint64_t deviations = window_update(&q->deviations, totals->deviations, now_ms);
    uint64_t sum_us = window_update(&q->deviation_us, totals->deviation_us, now_ms);
    uint64_t short_lived = window_update(&q->short_lived, totals->short_lived, now_ms);
    uint64_t lost_percent = pings > 0 ? lost * 100 / pings : 0;
    q->deviation_mean_us = deviations > 0 ? sum_us / deviations : 0;

    unsigned changed = 0;
    if (judge(q, ALERT_LOST_HEARTBEATS, lost_percent, pings >= q->limits.min_pings))
        changed |= 1u << ALERT_LOST_HEARTBEATS;
    if (judge(q, ALERT_RTT_DEVIATION, q->deviation_mean_us / US_PER_MS,
              deviations >= q->limits.min_pings))
        changed |= 1u << ALERT_RTT_DEVIATION;
    if (judge(q, ALERT_SHORT_LIVED, short_lived, true))
        changed |= 1u << ALERT_SHORT_LIVED;
    return changed;
}
