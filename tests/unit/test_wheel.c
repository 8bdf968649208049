/*
 * test_wheel.c - the timer wheel: never early, at most a tick late, and whatever a callback does.
 */
#include "base/wheel.h"

#include "base/rng.h"
#include "unit.h"

#define TICK_MS  10
#define SLOTS    16
#define START_MS 1000

struct timer {
    struct wheel_timer t;
    struct wheel *wheel;
    int fired;
    int order;            /* when it fired, counting all timers */
    struct timer *cancel; /* what the callback does */
    struct timer *set;
    uint64_t set_to_ms;
};

static int fired_in_all;

static void on_due(struct wheel_timer *t, void *arg)
{
    struct timer *timer = list_entry(t, struct timer, t);
    CU_ASSERT_FALSE(wheel_timer_is_set(t));
    CU_ASSERT_PTR_EQUAL(arg, timer->wheel);
    timer->fired++;
    timer->order = ++fired_in_all;
    if (timer->cancel != NULL)
        wheel_cancel(timer->wheel, &timer->cancel->t);
    if (timer->set != NULL)
        wheel_set(timer->wheel, &timer->set->t, timer->set_to_ms);
}

static void setup(struct wheel *w, struct timer *timers, size_t count)
{
    wheel_init(w, TICK_MS, SLOTS, START_MS);
    fired_in_all = 0;
    for (size_t i = 0; i < count; i++) {
        timers[i] = (struct timer){.wheel = w};
        wheel_timer_init(&timers[i].t);
    }
}

static void fires_on_time(void)
{
    struct wheel w;
    struct timer a;
    for (uint64_t due = START_MS; due < START_MS + 5 * TICK_MS * SLOTS; due++) {
        setup(&w, &a, 1);
        wheel_set(&w, &a.t, due);
        CU_ASSERT_EQUAL(w.count, 1);
        uint64_t now = START_MS;
        for (wheel_advance(&w, now, on_due, &w); a.fired == 0; wheel_advance(&w, now, on_due, &w))
            now++;
        CU_ASSERT(now >= due);
        CU_ASSERT(now < due + TICK_MS);
        wheel_advance(&w, now + 100 * TICK_MS, on_due, &w);
        CU_ASSERT_EQUAL(a.fired, 1);
        CU_ASSERT_EQUAL(w.count, 0);
        wheel_fini(&w);
    }
}

static void far_timers_go_round(void)
{
    struct wheel w;
    struct timer timers[3];
    setup(&w, timers, 3);
    uint64_t far = START_MS + 7 * TICK_MS * SLOTS + 30; /* the same slot as the near one */
    wheel_set(&w, &timers[0].t, START_MS + 30);
    wheel_set(&w, &timers[1].t, far);
    wheel_set(&w, &timers[2].t, UINT64_MAX);
    for (uint64_t now = START_MS; now < far; now += 7) {
        wheel_advance(&w, now, on_due, &w);
        CU_ASSERT_EQUAL(timers[0].fired, now >= START_MS + 30);
        CU_ASSERT_EQUAL(timers[1].fired, 0);
    }
    wheel_advance(&w, far, on_due, &w);
    CU_ASSERT_EQUAL(timers[1].fired, 1);
    CU_ASSERT_EQUAL(timers[2].fired, 0);
    wheel_cancel(&w, &timers[2].t);
    wheel_fini(&w);
}

static void one_long_sleep_misses_none(void)
{
    struct wheel w;
    struct timer timers[200];
    setup(&w, timers, 200);
    for (unsigned i = 0; i < 200; i++)
        wheel_set(&w, &timers[i].t, START_MS + i * 9);
    wheel_advance(&w, START_MS + 100 * 9, on_due, &w);
    for (unsigned i = 0; i < 200; i++)
        CU_ASSERT_EQUAL(timers[i].fired, i <= 100);
    wheel_advance(&w, (uint64_t)1 << 60, on_due, &w); /* and does not walk every tick */
    for (unsigned i = 0; i < 200; i++)
        CU_ASSERT_EQUAL(timers[i].fired, 1);
    wheel_fini(&w);
}

static void passed_deadline_fires_next(void)
{
    struct wheel w;
    struct timer timers[2];
    setup(&w, timers, 2);
    wheel_set(&w, &timers[0].t, 5);
    wheel_set(&w, &timers[1].t, START_MS);
    CU_ASSERT_EQUAL(wheel_next_in_ms(&w, START_MS), 0);
    wheel_advance(&w, START_MS, on_due, &w); /* the clock has not moved, nor has the tick */
    CU_ASSERT_EQUAL(timers[0].fired, 1);
    CU_ASSERT_EQUAL(timers[1].fired, 1);
    wheel_fini(&w);
}

static void setting_moves_and_cancelling_repeats(void)
{
    struct wheel w;
    struct timer a;
    setup(&w, &a, 1);
    wheel_cancel(&w, &a.t);
    wheel_set(&w, &a.t, START_MS + 20);
    wheel_set(&w, &a.t, START_MS + 60);
    CU_ASSERT_EQUAL(w.count, 1);
    CU_ASSERT(wheel_timer_is_set(&a.t));
    wheel_advance(&w, START_MS + 50, on_due, &w);
    CU_ASSERT_EQUAL(a.fired, 0);
    wheel_set(&w, &a.t, START_MS + 55);
    wheel_cancel(&w, &a.t);
    wheel_cancel(&w, &a.t);
    CU_ASSERT_FALSE(wheel_timer_is_set(&a.t));
    CU_ASSERT_EQUAL(w.count, 0);
    wheel_advance(&w, START_MS + 1000, on_due, &w);
    CU_ASSERT_EQUAL(a.fired, 0);
    wheel_fini(&w);
}

static void callback_cancels_others_due(void)
{
    struct wheel w;
    struct timer timers[3];
    setup(&w, timers, 3);
    for (int i = 0; i < 3; i++)
        wheel_set(&w, &timers[i].t, START_MS + 20);
    timers[0].cancel = &timers[1]; /* due in the same advance */
    timers[2].cancel = &timers[2]; /* itself, which is not set any more */
    wheel_advance(&w, START_MS + 20, on_due, &w);
    CU_ASSERT_EQUAL(timers[0].fired, 1);
    CU_ASSERT_EQUAL(timers[1].fired, 0);
    CU_ASSERT_EQUAL(timers[2].fired, 1);
    CU_ASSERT_EQUAL(w.count, 0);
    wheel_fini(&w);
}

static void callback_sets_itself_and_others(void)
{
    struct wheel w;
    struct timer timers[3];
    setup(&w, timers, 3);
    for (int i = 0; i < 3; i++)
        wheel_set(&w, &timers[i].t, START_MS + 20);
    timers[0].set = &timers[0]; /* a deadline that has passed: the next advance, not this one */
    timers[0].set_to_ms = START_MS;
    timers[1].set = &timers[2]; /* postpones one that is due in this advance */
    timers[1].set_to_ms = START_MS + 50;
    wheel_advance(&w, START_MS + 20, on_due, &w);
    CU_ASSERT_EQUAL(timers[0].fired, 1);
    CU_ASSERT_EQUAL(timers[2].fired, 0);
    CU_ASSERT_EQUAL(w.count, 2);
    wheel_advance(&w, START_MS + 21, on_due, &w);
    CU_ASSERT_EQUAL(timers[0].fired, 2);
    CU_ASSERT_EQUAL(timers[2].fired, 0);
    timers[0].set = NULL;
    wheel_advance(&w, START_MS + 50, on_due, &w);
    CU_ASSERT_EQUAL(timers[0].fired, 3);
    CU_ASSERT_EQUAL(timers[2].fired, 1);
    CU_ASSERT_EQUAL(w.count, 0);
    wheel_fini(&w);
}

static void fires_in_order_of_ticks(void)
{
    struct wheel w;
    struct timer timers[SLOTS];
    setup(&w, timers, SLOTS);
    for (unsigned i = 0; i < SLOTS; i++)
        wheel_set(&w, &timers[i].t, START_MS + (SLOTS - i) * TICK_MS);
    wheel_advance(&w, START_MS + SLOTS * TICK_MS, on_due, &w);
    for (unsigned i = 0; i < SLOTS; i++)
        CU_ASSERT_EQUAL(timers[i].order, (int)(SLOTS - i));
    wheel_fini(&w);
}

static void clock_standing_or_stepping_back_is_harmless(void)
{
    struct wheel w;
    struct timer a;
    setup(&w, &a, 1);
    wheel_set(&w, &a.t, START_MS + 20);
    wheel_advance(&w, START_MS + 15, on_due, &w);
    wheel_advance(&w, START_MS - 500, on_due, &w);
    wheel_advance(&w, START_MS + 15, on_due, &w);
    CU_ASSERT_EQUAL(a.fired, 0);
    wheel_advance(&w, START_MS + 20, on_due, &w);
    CU_ASSERT_EQUAL(a.fired, 1);
    wheel_fini(&w);
}

static void next_is_a_lower_bound(void)
{
    struct wheel w;
    struct timer timers[20];
    struct rng rng;
    rng_init_seed(&rng, 3);
    setup(&w, timers, 20);
    CU_ASSERT_EQUAL(wheel_next_in_ms(&w, START_MS), UINT64_MAX);
    wheel_set(&w, &timers[0].t, START_MS + 33);
    CU_ASSERT_EQUAL(wheel_next_in_ms(&w, START_MS + 2), 38); /* the tick at 40 */
    CU_ASSERT_EQUAL(wheel_next_in_ms(&w, START_MS + 45), 0);
    for (unsigned i = 1; i < 20; i++)
        wheel_set(&w, &timers[i].t, START_MS + rng_below(&rng, 1000));

    /* Sleeping for what it says, and a millisecond where it says 0, misses no deadline. */
    uint64_t now = START_MS;
    unsigned advances = 0;
    while (w.count != 0) {
        uint64_t wait = wheel_next_in_ms(&w, now);
        if (wait > 1) {
            int before = fired_in_all;
            wheel_advance(&w, now + wait - 1, on_due, &w);
            CU_ASSERT_EQUAL(fired_in_all, before);
        }
        now += wait;
        wheel_advance(&w, now, on_due, &w);
        for (unsigned i = 0; i < 20; i++)
            CU_ASSERT_EQUAL(timers[i].fired, timers[i].t.due_ms + TICK_MS - 1 <= now ||
                                                 (timers[i].fired && timers[i].t.due_ms <= now));
        CU_ASSERT_FATAL(++advances < 200);
    }
    CU_ASSERT_EQUAL(wheel_next_in_ms(&w, now), UINT64_MAX);
    wheel_fini(&w);
}

static const struct unit_test tests[] = {
    {"fires on time", fires_on_time},
    {"far timers go round", far_timers_go_round},
    {"one long sleep misses none", one_long_sleep_misses_none},
    {"a passed deadline fires in the next advance", passed_deadline_fires_next},
    {"setting moves, cancelling repeats", setting_moves_and_cancelling_repeats},
    {"a callback cancels others that are due", callback_cancels_others_due},
    {"a callback sets itself and others", callback_sets_itself_and_others},
    {"fires in order of ticks", fires_in_order_of_ticks},
    {"a clock that stands or steps back is harmless", clock_standing_or_stepping_back_is_harmless},
    {"next is a lower bound", next_is_a_lower_bound},
    {NULL, NULL},
};
const struct unit_suite suite_wheel = {"wheel", tests};
