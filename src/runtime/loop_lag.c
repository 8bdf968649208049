/*
 * loop_lag.c - a timer that measures itself.
 */
#include "runtime/loop_lag.h"

#include "base/clock.h"
#include "base/mem.h"

#include <stdlib.h>

#define SAMPLE_MS 100

struct loop_lag {
    struct loop_timer *timer;
    struct metrics *metrics;
    uint64_t due_ns;
};

static void plan(struct loop_lag *lag, uint64_t now_ns)
{
    lag->due_ns = now_ns + (uint64_t)SAMPLE_MS * 1000000;
    loop_timer_set(lag->timer, SAMPLE_MS);
}

static void on_due(void *arg)
{
    struct loop_lag *lag = arg;
    uint64_t now_ns = clock_mono_ns();
    /* libevent counts from its own clock of the turn, so it may be a little early. */
    metrics_observe_ns(lag->metrics, HISTOGRAM_LOOP_LAG,
                       now_ns > lag->due_ns ? now_ns - lag->due_ns : 0, 1);
    plan(lag, now_ns);
}

struct loop_lag *loop_lag_new(struct loop *l, struct metrics *metrics)
{
    struct loop_lag *lag = mem_zalloc(sizeof *lag);
    lag->metrics = metrics;
    lag->timer = loop_timer_new(l, on_due, lag);
    plan(lag, clock_mono_ns());
    return lag;
}

void loop_lag_free(struct loop_lag *lag)
{
    if (lag == NULL)
        return;
    loop_timer_free(lag->timer);
    free(lag);
}
