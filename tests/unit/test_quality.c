/*
 * test_quality.c - windows that slide, and alerts that are raised and cleared once per episode.
 */
#include "domain/quality.h"

#include "base/rng.h"
#include "unit.h"

#define SPAN_MS  300000u
#define START_MS 7777777u
#define BIT(id)  (1u << (id))

/* --- windows -------------------------------------------------------------------------------- */

static void a_window_holds_what_came_in_its_span(void)
{
    struct window w;
    window_init(&w, SPAN_MS, 1000, START_MS);
    CU_ASSERT_EQUAL(window_update(&w, 1000, START_MS), 0); /* not what was before it */
    CU_ASSERT_EQUAL(window_update(&w, 1007, START_MS + 1), 7);
    CU_ASSERT_EQUAL(window_update(&w, 1010, START_MS + SPAN_MS / 2), 10);
    CU_ASSERT_EQUAL(window_update(&w, 1010, START_MS + SPAN_MS * 59 / 60 - 5000), 10);
    CU_ASSERT_EQUAL(window_update(&w, 1010, START_MS + SPAN_MS + 2), 3);
    CU_ASSERT_EQUAL(window_update(&w, 1010, START_MS + SPAN_MS * 3 / 2), 0);
}

static void nobody_looked_for_long(void)
{
    struct window w;
    window_init(&w, SPAN_MS, 0, START_MS);
    window_update(&w, 5, START_MS);
    CU_ASSERT_EQUAL(window_update(&w, 9, START_MS + 1000 * SPAN_MS), 4); /* as if just now */
    CU_ASSERT_EQUAL(window_update(&w, 9, START_MS + 1001 * SPAN_MS), 0);
}

/* Against a list of all events: an event is in for 59/60 of the span and out after the span. */
static void a_window_agrees_with_the_events(void)
{
    enum { EVENTS = 5000 };
    static uint64_t events[EVENTS];
    struct window w;
    struct rng rng;
    rng_init_seed(&rng, 42);
    uint64_t now_ms = START_MS;
    window_init(&w, 6000, 0, now_ms);
    for (uint64_t n = 0; n < EVENTS; n++) {
        now_ms += rng_below(&rng, 20) == 0 ? rng_below(&rng, 9000) : rng_below(&rng, 60);
        events[n] = now_ms;
        uint64_t held = window_update(&w, n + 1, now_ms);
        uint64_t least = 0, most = 0;
        for (uint64_t i = 0; i <= n; i++) {
            least += now_ms - events[i] < 5900;
            most += now_ms - events[i] <= 6000;
        }
        if (held < least || held > most)
            CU_FAIL_FATAL("the window forgets too early or too late");
    }
}

/* --- alerts --------------------------------------------------------------------------------- */

struct node {
    struct quality q;
    struct quality_totals totals;
    uint64_t now_ms;
    unsigned raised[ALERT_COUNT], cleared[ALERT_COUNT]; /* times */
};

static void start(struct node *n)
{
    static const struct quality_limits limits = {
        .window_ms = SPAN_MS,
        .short_window_ms = 3600000,
        .min_pings = 20,
        .thresholds =
            {[ALERT_LOST_HEARTBEATS] = 30, [ALERT_RTT_DEVIATION] = 200, [ALERT_SHORT_LIVED] = 5},
    };
    *n = (struct node){.now_ms = START_MS, .totals = {100, 100, 100, 100, 100}};
    quality_init(&n->q, &limits, &n->totals, n->now_ms);
}

static unsigned look(struct node *n, uint64_t later_ms)
{
    n->now_ms += later_ms;
    unsigned changed = quality_update(&n->q, &n->totals, n->now_ms);
    for (enum alert id = 0; id < ALERT_COUNT; id++) {
        if (changed & BIT(id))
            (n->q.raised[id] ? n->raised : n->cleared)[id]++;
    }
    return changed;
}

static void what_was_before_the_start_raises_nothing(void)
{
    struct node n;
    start(&n);
    CU_ASSERT_EQUAL(look(&n, 0), 0);
    CU_ASSERT_EQUAL(look(&n, 1000), 0);
}

static void lost_heartbeats_raise_at_their_threshold(void)
{
    struct node n;
    start(&n);
    n.totals.pings_answered += 71;
    n.totals.pings_lost += 29;
    CU_ASSERT_EQUAL(look(&n, 1000), 0);
    CU_ASSERT_EQUAL(n.q.values[ALERT_LOST_HEARTBEATS], 29);
    n.totals.pings_lost += 2; /* 31 of 102 */
    CU_ASSERT_EQUAL(look(&n, 1000), BIT(ALERT_LOST_HEARTBEATS));
    CU_ASSERT_TRUE(n.q.raised[ALERT_LOST_HEARTBEATS]);
    CU_ASSERT_EQUAL(look(&n, 1000), 0);
}

static void too_few_pings_raise_nothing(void)
{
    struct node n;
    start(&n);
    n.totals.pings_lost += 19;
    CU_ASSERT_EQUAL(look(&n, 1000), 0);
    CU_ASSERT_EQUAL(n.q.values[ALERT_LOST_HEARTBEATS], 100);
    n.totals.pings_lost += 1;
    CU_ASSERT_EQUAL(look(&n, 1000), BIT(ALERT_LOST_HEARTBEATS));
}

static void an_alert_is_cleared_below_three_quarters(void)
{
    struct node n;
    start(&n);
    n.totals.pings_lost += 40;
    n.totals.pings_answered += 60;
    CU_ASSERT_EQUAL(look(&n, 1000), BIT(ALERT_LOST_HEARTBEATS));
    n.totals.pings_answered += 70; /* 23 % */
    CU_ASSERT_EQUAL(look(&n, 1000), 0);
    n.totals.pings_answered += 10; /* 22 % */
    CU_ASSERT_EQUAL(look(&n, 1000), BIT(ALERT_LOST_HEARTBEATS));
    CU_ASSERT_FALSE(n.q.raised[ALERT_LOST_HEARTBEATS]);
}

static void an_alert_ends_with_the_window(void)
{
    struct node n;
    start(&n);
    n.totals.pings_lost += 50;
    look(&n, 1000);
    for (int i = 0; i < 290; i++)
        CU_ASSERT_EQUAL(look(&n, 1000), 0);
    CU_ASSERT_TRUE(n.q.raised[ALERT_LOST_HEARTBEATS]);
    for (int i = 0; i < 60; i++)
        look(&n, 1000);
    CU_ASSERT_EQUAL(n.cleared[ALERT_LOST_HEARTBEATS], 1);
    CU_ASSERT_EQUAL(n.raised[ALERT_LOST_HEARTBEATS], 1);
    CU_ASSERT_EQUAL(n.q.values[ALERT_LOST_HEARTBEATS], 0);
}

/* The number of pings trembles about the least that raises, the share stays: one episode. */
static void few_pings_do_not_end_an_episode(void)
{
    struct node n;
    start(&n);
    n.totals.pings_lost += 21;
    look(&n, 1000);
    look(&n, SPAN_MS - 10000);
    n.totals.pings_lost += 3;
    look(&n, 1000);
    look(&n, 15000); /* the 21 are gone */
    CU_ASSERT_EQUAL(n.q.values[ALERT_LOST_HEARTBEATS], 100);
    CU_ASSERT_EQUAL(n.raised[ALERT_LOST_HEARTBEATS], 1);
    CU_ASSERT_EQUAL(n.cleared[ALERT_LOST_HEARTBEATS], 0);
}

static void the_deviation_is_a_mean_over_measurements(void)
{
    struct node n;
    start(&n);
    n.totals.deviations += 10;
    n.totals.deviation_us += 10 * 390000u;
    CU_ASSERT_EQUAL(look(&n, 1000), 0); /* too few */
    CU_ASSERT_EQUAL(n.q.values[ALERT_RTT_DEVIATION], 390);
    n.totals.deviations += 10;
    n.totals.deviation_us += 10 * 9900u;
    CU_ASSERT_EQUAL(look(&n, 1000), 0); /* 199.95 ms */
    CU_ASSERT_EQUAL(n.q.deviation_mean_us, 199950);
    n.totals.deviations += 1;
    n.totals.deviation_us += 400000u;
    CU_ASSERT_EQUAL(look(&n, 1000), BIT(ALERT_RTT_DEVIATION));
    n.totals.deviations += 20;
    n.totals.deviation_us += 20 * 1000u;
    CU_ASSERT_EQUAL(look(&n, 1000), BIT(ALERT_RTT_DEVIATION));
    CU_ASSERT_FALSE(n.q.raised[ALERT_RTT_DEVIATION]);
}

static void short_lived_are_a_plain_count_over_an_hour(void)
{
    struct node n;
    start(&n);
    n.totals.short_lived += 4;
    CU_ASSERT_EQUAL(look(&n, 1000), 0);
    n.totals.short_lived += 1;
    CU_ASSERT_EQUAL(look(&n, 1000000), BIT(ALERT_SHORT_LIVED));
    CU_ASSERT_EQUAL(look(&n, 2400000), 0); /* all five are within the hour still */
    CU_ASSERT_EQUAL(look(&n, 300000), BIT(ALERT_SHORT_LIVED)); /* one is left */
    CU_ASSERT_EQUAL(n.q.values[ALERT_SHORT_LIVED], 1);
}

static void a_threshold_of_zero_is_off(void)
{
    struct node n;
    start(&n);
    n.q.limits.thresholds[ALERT_LOST_HEARTBEATS] = 0;
    n.q.limits.thresholds[ALERT_RTT_DEVIATION] = 0;
    n.q.limits.thresholds[ALERT_SHORT_LIVED] = 0;
    n.totals.pings_lost += 1000;
    n.totals.short_lived += 1000;
    n.totals.deviations += 1000;
    n.totals.deviation_us += 1000000000u;
    CU_ASSERT_EQUAL(look(&n, 1000), 0);
    CU_ASSERT_EQUAL(n.q.values[ALERT_LOST_HEARTBEATS], 100); /* told all the same */
}

/* Whatever happens, raised and cleared take turns, and a tremble about the threshold is silent. */
static void raised_and_cleared_take_turns(void)
{
    struct node n;
    struct rng rng;
    start(&n);
    rng_init_seed(&rng, 7);
    for (int i = 0; i < 20000; i++) {
        uint64_t bad = (uint64_t)(i / 2000 % 2);
        n.totals.pings_answered += rng_below(&rng, 10);
        n.totals.pings_lost += bad * rng_below(&rng, 20);
        look(&n, 1000);
        unsigned raised = n.raised[ALERT_LOST_HEARTBEATS];
        unsigned cleared = n.cleared[ALERT_LOST_HEARTBEATS];
        CU_ASSERT_FATAL(raised == cleared || raised == cleared + 1);
    }
    CU_ASSERT_EQUAL(n.raised[ALERT_LOST_HEARTBEATS], 5);
}

static const struct unit_test tests[] = {
    {"a window holds what came in its span", a_window_holds_what_came_in_its_span},
    {"nobody looked for long", nobody_looked_for_long},
    {"a window agrees with the events", a_window_agrees_with_the_events},
    {"what was before the start raises nothing", what_was_before_the_start_raises_nothing},
    {"lost heartbeats raise at their threshold", lost_heartbeats_raise_at_their_threshold},
    {"too few pings raise nothing", too_few_pings_raise_nothing},
    {"an alert is cleared below three quarters", an_alert_is_cleared_below_three_quarters},
    {"an alert ends with the window", an_alert_ends_with_the_window},
    {"few pings do not end an episode", few_pings_do_not_end_an_episode},
    {"the deviation is a mean over measurements", the_deviation_is_a_mean_over_measurements},
    {"short-lived are a plain count over an hour", short_lived_are_a_plain_count_over_an_hour},
    {"a threshold of zero is off", a_threshold_of_zero_is_off},
    {"raised and cleared take turns", raised_and_cleared_take_turns},
    {NULL, NULL},
};
const struct unit_suite suite_quality = {"quality", tests};
