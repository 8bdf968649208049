/*
 * test_rate_limit.c - the token bucket.
 */
#include "protocol/rate_limit.h"

#include "unit.h"

/* How many of `tries` pass at one instant. */
static unsigned take(struct rate_limit *r, uint32_t per_second, uint64_t now_ms, unsigned tries)
{
    unsigned passed = 0;
    for (unsigned i = 0; i < tries; i++)
        passed += rate_limit_try_take(r, per_second, now_ms);
    return passed;
}

static void starts_with_a_second_s_worth(void)
{
    struct rate_limit r;
    rate_limit_init(&r, 50, 1000);
    CU_ASSERT_EQUAL(take(&r, 50, 1000, 200), 50);
    CU_ASSERT_EQUAL(take(&r, 50, 1019, 5), 0); /* a token takes 20 ms */
    CU_ASSERT_EQUAL(take(&r, 50, 1020, 5), 1);
    CU_ASSERT_EQUAL(take(&r, 50, 1060, 5), 2);
}

static void never_holds_more_than_the_burst(void)
{
    struct rate_limit r;
    rate_limit_init(&r, 50, 0);
    CU_ASSERT_EQUAL(take(&r, 50, 3600000, 200), 50);
}

static void loses_no_fractions(void)
{
    struct rate_limit r;
    rate_limit_init(&r, 3, 0);
    unsigned passed = take(&r, 3, 0, 10);
    for (uint64_t now = 1; now <= 60000; now++)
        passed += take(&r, 3, now, 2);
    CU_ASSERT_EQUAL(passed, 3 + 60 * 3);
}

static void zero_is_unlimited(void)
{
    struct rate_limit r;
    rate_limit_init(&r, 0, 0);
    CU_ASSERT_EQUAL(take(&r, 0, 0, 100000), 100000);
}

static void survives_the_wrap_of_its_clock(void)
{
    struct rate_limit r;
    uint64_t wrap = (uint64_t)UINT32_MAX + 1;
    rate_limit_init(&r, 10, wrap - 50);
    CU_ASSERT_EQUAL(take(&r, 10, wrap - 50, 20), 10);
    CU_ASSERT_EQUAL(take(&r, 10, wrap + 49, 20), 0);
    CU_ASSERT_EQUAL(take(&r, 10, wrap + 50, 20), 1);
}

static void follows_a_changed_rate(void)
{
    struct rate_limit r;
    rate_limit_init(&r, 1000, 0);
    CU_ASSERT_EQUAL(take(&r, 5, 0, 100), 5); /* the old burst is not kept */
    CU_ASSERT_EQUAL(take(&r, 100, 100, 100), 10);
}

static void the_largest_rate_does_not_overflow(void)
{
    struct rate_limit r;
    rate_limit_init(&r, UINT32_MAX, 0);
    CU_ASSERT(r.tokens_milli > UINT32_MAX / 2);
    CU_ASSERT_EQUAL(take(&r, UINT32_MAX, UINT32_MAX, 1000), 1000);
}

static const struct unit_test tests[] = {
    {"starts with a second's worth", starts_with_a_second_s_worth},
    {"never holds more than the burst", never_holds_more_than_the_burst},
    {"loses no fractions", loses_no_fractions},
    {"zero is unlimited", zero_is_unlimited},
    {"survives the wrap of its clock", survives_the_wrap_of_its_clock},
    {"follows a changed rate", follows_a_changed_rate},
    {"the largest rate does not overflow", the_largest_rate_does_not_overflow},
    {NULL, NULL},
};
const struct unit_suite suite_rate_limit = {"rate_limit", tests};
