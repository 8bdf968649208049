/*
 * test_rtt.c - the estimator: beginnings, convergence, saturation.
 */
#include "protocol/rtt.h"

#include "unit.h"

static void nothing_is_known_before_the_first(void)
{
    struct rtt r = {0};
    CU_ASSERT_FALSE(rtt_is_known(&r));
    CU_ASSERT_FALSE(rtt_has_deviation(&r));
    CU_ASSERT_EQUAL(sizeof r, 4); /* a connection pays for it */
}

static void the_first_is_taken_as_it_is(void)
{
    struct rtt r = {0};
    rtt_add(&r, 80000);
    CU_ASSERT_EQUAL(rtt_us(&r), 80000);
    CU_ASSERT_FALSE(rtt_has_deviation(&r));
}

static void the_second_gives_a_deviation(void)
{
    struct rtt r = {0};
    rtt_add(&r, 80000);
    rtt_add(&r, 120000);
    CU_ASSERT_EQUAL(rtt_us(&r), 85000);           /* 80 + 40/8 */
    CU_ASSERT_EQUAL(rtt_deviation_us(&r), 40000); /* how far it was off */
    rtt_add(&r, 85000);                           /* not off at all */
    CU_ASSERT_EQUAL(rtt_us(&r), 85000);
    CU_ASSERT_EQUAL(rtt_deviation_us(&r), 30000); /* 40 + (0 - 40)/4 */
}

static void a_steady_one_has_none_to_speak_of(void)
{
    struct rtt r = {0};
    for (int i = 0; i < 100; i++)
        rtt_add(&r, 500000);
    CU_ASSERT_EQUAL(rtt_us(&r), 500000);
    CU_ASSERT_EQUAL(rtt_deviation_us(&r), RTT_UNIT_US);
}

static void it_follows_a_change_from_both_sides(void)
{
    static const uint64_t aims_us[] = {10000, 400000, 1000};
    struct rtt r = {0};
    for (size_t aim = 0; aim < sizeof aims_us / sizeof *aims_us; aim++) {
        for (int i = 0; i < 100; i++)
            rtt_add(&r, aims_us[aim]);
        CU_ASSERT(rtt_us(&r) <= aims_us[aim] + 500 && rtt_us(&r) + 500 >= aims_us[aim]);
        CU_ASSERT(rtt_deviation_us(&r) <= 1000);
    }
}

static void it_tells_how_much_they_vary(void)
{
    struct rtt r = {0};
    for (int i = 0; i < 200; i++)
        rtt_add(&r, i % 2 == 0 ? 100000 : 300000);
    CU_ASSERT(rtt_us(&r) > 180000 && rtt_us(&r) < 220000);
    CU_ASSERT(rtt_deviation_us(&r) > 95000 && rtt_deviation_us(&r) < 115000);
}

static void the_extremes_saturate(void)
{
    struct rtt r = {0};
    rtt_add(&r, UINT64_MAX);
    CU_ASSERT_EQUAL(rtt_us(&r), RTT_MAX_US);
    for (int i = 0; i < 200; i++)
        rtt_add(&r, 0);
    CU_ASSERT_TRUE(rtt_is_known(&r));
    CU_ASSERT_TRUE(rtt_has_deviation(&r));
    CU_ASSERT(rtt_us(&r) <= 500);
    for (int i = 0; i < 200; i++)
        rtt_add(&r, i % 2 == 0 ? 0 : UINT64_MAX);
    CU_ASSERT(rtt_us(&r) <= RTT_MAX_US && rtt_us(&r) > RTT_MAX_US / 3);
    CU_ASSERT(rtt_deviation_us(&r) <= RTT_MAX_US && rtt_deviation_us(&r) > RTT_MAX_US / 3);
}

static const struct unit_test tests[] = {
    {"nothing is known before the first", nothing_is_known_before_the_first},
    {"the first is taken as it is", the_first_is_taken_as_it_is},
    {"the second gives a deviation", the_second_gives_a_deviation},
    {"a steady one has none to speak of", a_steady_one_has_none_to_speak_of},
    {"it follows a change from both sides", it_follows_a_change_from_both_sides},
    {"it tells how much they vary", it_tells_how_much_they_vary},
    {"the extremes saturate", the_extremes_saturate},
    {NULL, NULL},
};
const struct unit_suite suite_rtt = {"rtt", tests};
