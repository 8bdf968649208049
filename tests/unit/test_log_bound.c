/*
 * test_log_bound.c - so many lines per second and kind, and what is said of the others.
 */
#include "base/log_bound.h"

#include "unit.h"

#define T0 5000000u /* some second, ms */

static void reset(void)
{
    for (enum log_kind kind = 0; kind < LOG_KINDS; kind++)
        log_bound_report(kind);
    log_bound_reported(T0);
}

static unsigned take(enum log_kind kind, unsigned count, uint64_t now_ms)
{
    unsigned written = 0;
    for (unsigned i = 0; i < count; i++)
        written += log_bound_take(kind, now_ms) == LOG_WRITE;
    return written;
}

static void bounds_each_second(void)
{
    reset();
    log_bound_set(10);
    CU_ASSERT_EQUAL(take(LOG_CLIENTS, 50, T0), 10);
    CU_ASSERT_EQUAL(take(LOG_CLIENTS, 50, T0 + 999), 0);
    CU_ASSERT_EQUAL(take(LOG_CLIENTS, 50, T0 + 1000), 10);
    CU_ASSERT_EQUAL(take(LOG_CLIENTS, 3, T0 + 9000), 3);
}

static void bounds_each_kind_by_itself(void)
{
    reset();
    log_bound_set(10);
    CU_ASSERT_EQUAL(take(LOG_CLIENTS, 50, T0 + 20000), 10);
    CU_ASSERT_EQUAL(take(LOG_TRACES, 50, T0 + 20000), 10);
    CU_ASSERT_EQUAL(log_bound_report(LOG_CLIENTS), 40);
    CU_ASSERT_EQUAL(log_bound_report(LOG_TRACES), 40);
    CU_ASSERT_EQUAL(log_bound_report(LOG_FAULTS), 0);
    CU_ASSERT_EQUAL(log_bound_report(LOG_CLIENTS), 0);
}

static void reports_a_second_after_the_first(void)
{
    uint64_t now_ms = T0 + 30000;
    reset();
    log_bound_set(1);
    CU_ASSERT_EQUAL(log_bound_report_in_ms(now_ms), UINT64_MAX);
    CU_ASSERT_EQUAL(log_bound_take(LOG_CALLS, now_ms), LOG_WRITE);
    CU_ASSERT_EQUAL(log_bound_report_in_ms(now_ms), UINT64_MAX);
    CU_ASSERT_EQUAL(log_bound_take(LOG_CALLS, now_ms), LOG_SUPPRESS_FIRST);
    CU_ASSERT_EQUAL(log_bound_take(LOG_CALLS, now_ms + 1), LOG_SUPPRESS);
    CU_ASSERT_EQUAL(log_bound_report_in_ms(now_ms + 400), 600);
    CU_ASSERT_EQUAL(log_bound_report_in_ms(now_ms + 1700), 0);
    CU_ASSERT_EQUAL(log_bound_report(LOG_CALLS), 2);
    log_bound_reported(now_ms + 1700);
    CU_ASSERT_EQUAL(log_bound_report_in_ms(now_ms + 1700), UINT64_MAX);
}

static void forgets_none_that_came_during_the_report(void)
{
    uint64_t now_ms = T0 + 40000;
    reset();
    log_bound_set(1);
    take(LOG_CALLS, 3, now_ms);
    CU_ASSERT_EQUAL(log_bound_report(LOG_CALLS), 2);
    CU_ASSERT_EQUAL(log_bound_take(LOG_CALLS, now_ms), LOG_SUPPRESS);
    log_bound_reported(now_ms + 1000);
    CU_ASSERT_EQUAL(log_bound_report_in_ms(now_ms + 1000), 1000);
    CU_ASSERT_EQUAL(log_bound_report(LOG_CALLS), 1);
    reset();
}

static void has_no_bound_when_told_so(void)
{
    reset();
    log_bound_set(0);
    uint64_t before = log_bound_total();
    CU_ASSERT_EQUAL(take(LOG_FAULTS, 100000, T0 + 50000), 100000);
    CU_ASSERT_EQUAL(log_bound_total(), before);
}

static const struct unit_test tests[] = {
    {"bounds each second", bounds_each_second},
    {"bounds each kind by itself", bounds_each_kind_by_itself},
    {"reports a second after the first", reports_a_second_after_the_first},
    {"forgets none that came during the report", forgets_none_that_came_during_the_report},
    {"has no bound when told so", has_no_bound_when_told_so},
    {NULL, NULL},
};
const struct unit_suite suite_log_bound = {"log_bound", tests};
