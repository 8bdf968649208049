/*
 * test_watchdog.c - fed only when every loop has answered.
 */
#include "app/watchdog.h"

#include "unit.h"

enum { PERIOD_MS = 40, FEEDS = 5, ASKED = 3 };

struct scene {
    struct loop *loop; /* the main thread's */
    struct loop *asked[ASKED];
    struct loop_timer *end;
    unsigned feeds;
    unsigned stop_after; /* feeds; 0: the timer ends it */
};

static void on_feed(void *arg)
{
    struct scene *s = arg;
    if (++s->feeds == s->stop_after)
        loop_stop(s->loop);
}

static void on_end(void *arg)
{
    struct scene *s = arg;
    loop_stop(s->loop);
}

/* count loops are asked; the first is the main one, the others nobody runs. */
static struct watchdog *set_up(struct scene *s, unsigned count)
{
    *s = (struct scene){.loop = loop_new()};
    s->asked[0] = s->loop;
    for (unsigned i = 1; i < count; i++)
        s->asked[i] = loop_new();
    s->end = loop_timer_new(s->loop, on_end, s);
    const struct watchdog_setup setup = {.loop = s->loop,
                                         .loops = s->asked,
                                         .count = count,
                                         .period_us = PERIOD_MS * 1000,
                                         .feed = on_feed,
                                         .arg = s};
    return watchdog_new(&setup);
}

static void tear_down(struct scene *s, struct watchdog *w)
{
    for (unsigned i = 1; i < ASKED && s->asked[i] != NULL; i++)
        loop_free(s->asked[i]);
    loop_drain(s->loop);
    watchdog_free(w);
    loop_timer_free(s->end);
    loop_free(s->loop);
}

static void run_for(struct scene *s, uint64_t ms)
{
    loop_timer_set(s->end, ms);
    loop_run(s->loop);
}

static void test_a_single_loop_feeds_by_turning(void)
{
    struct scene s;
    struct watchdog *w = set_up(&s, 1);
    s.stop_after = FEEDS;
    loop_run(s.loop); /* ends by the feeds, or never */
    CU_ASSERT_EQUAL(s.feeds, FEEDS);
    tear_down(&s, w);
}

/* The main loop turns as it likes: while one loop does not answer there is no feed, and its mailbox
 * holds one question, however long it takes. */
static void test_a_loop_that_does_not_turn_is_not_fed_for(void)
{
    struct scene s;
    struct watchdog *w = set_up(&s, ASKED);
    run_for(&s, 3 * PERIOD_MS);
    CU_ASSERT_EQUAL(s.feeds, 0);
    loop_drain(s.asked[1]);
    run_for(&s, PERIOD_MS);
    CU_ASSERT_EQUAL(s.feeds, 0);
    loop_drain(s.asked[2]); /* the last one answers, and at once there is the feed */
    s.stop_after = 1;
    loop_run(s.loop);
    CU_ASSERT_EQUAL(s.feeds, 1);
    s.stop_after = 0;
    run_for(&s, 3 * PERIOD_MS); /* and they hang again */
    CU_ASSERT_EQUAL(s.feeds, 1);
    tear_down(&s, w);
}

static const struct unit_test tests[] = {
    {"a single loop feeds by turning", test_a_single_loop_feeds_by_turning},
    {"a loop that does not turn is not fed for", test_a_loop_that_does_not_turn_is_not_fed_for},
    {NULL, NULL},
};
const struct unit_suite suite_watchdog = {"watchdog", tests};
