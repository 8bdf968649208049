/*
 * quality.h - how well a node's connections do: sliding windows over what was counted, and alerts
 * that raise and clear once per episode.
 *
 *      totals since the start ──> windows ──> a value for each alert ──> raised or not
 *
 * An alert is raised when its value reaches the threshold and enough was measured, and cleared when
 * the value has fallen below three quarters of it, however little is measured then (nothing at all
 * is a value of 0). Between the two it stays as it is, so a value that trembles about its threshold
 * is one episode.
 *
 * Pure: totals and time are given. Owner: the main thread.
 */
#ifndef TICKCAST_DOMAIN_QUALITY_H
#define TICKCAST_DOMAIN_QUALITY_H

#include <stdbool.h>
#include <stdint.h>

/* --- windows -------------------------------------------------------------------------------- */

#define WINDOW_BUCKETS 60

/*
 * What a rising counter gained in the last span_ms, give or take a sixtieth: something that was
 * counted leaves the window when it is span_ms * 59/60 to span_ms old. Kept are the counter's
 * values at the last sixty boundaries between buckets.
 */
struct window {
    uint64_t bucket_ms;
    uint64_t bucket;             /* number of the present one: now / bucket_ms */
    uint64_t last;               /* the counter when it was last looked at */
    uint64_t at[WINDOW_BUCKETS]; /* the counter when a bucket began, by number */
};

/* total: the counter now. span_ms is at least WINDOW_BUCKETS. */
void window_init(struct window *w, uint64_t span_ms, uint64_t total, uint64_t now_ms);

/* Looks at the counter, which never falls. Returns what the window holds. */
uint64_t window_update(struct window *w, uint64_t total, uint64_t now_ms);

/* --- alerts --------------------------------------------------------------------------------- */

enum alert {
    ALERT_LOST_HEARTBEATS, /* per cent of the pings that were not answered in time */
    ALERT_RTT_DEVIATION,   /* ms, the mean over all measurements of their connections' deviation */
    ALERT_SHORT_LIVED,     /* connections that ended soon after they had opened */
    ALERT_COUNT
};

/* What the node has counted since it started. */
struct quality_totals {
    uint64_t pings_answered; /* before the next one was due */
    uint64_t pings_lost;     /* not answered when the next one was due */
    uint64_t deviations;     /* measurements of a connection that has a deviation */
    uint64_t deviation_us;   /* the sum of these deviations */
    uint64_t short_lived;
};

struct quality_limits {
    uint64_t window_ms;               /* for lost heartbeats and deviation */
    uint64_t short_window_ms;         /* for short-lived connections */
    uint64_t min_pings;               /* fewer pings, or deviations, in the window raise nothing */
    uint64_t thresholds[ALERT_COUNT]; /* 0: this one is never raised */
};

struct quality {
    struct quality_limits limits;
    struct window answered, lost, deviations, deviation_us, short_lived;
    uint64_t values[ALERT_COUNT]; /* as of the last update; 0 where nothing was measured */
    uint64_t deviation_mean_us;   /* values[ALERT_RTT_DEVIATION], finer */
    bool raised[ALERT_COUNT];
};

void quality_init(struct quality *q, const struct quality_limits *limits,
                  const struct quality_totals *totals, uint64_t now_ms);

/* Judges anew. Returns which alerts have just been raised or cleared, as bits 1 << enum alert. */
unsigned quality_update(struct quality *q, const struct quality_totals *totals, uint64_t now_ms);

/* "lost_heartbeats"; static. */
const char *alert_name(enum alert id);

#endif
