/*
 * test_admission.c - who is let in, at which rate, and when the others are told to come.
 */
#include "protocol/admission.h"

#include "unit.h"

#define MS 1000000u

static void test_states(void)
{
    struct admission a = {0};
    unsigned retry_s = 0;
    CU_ASSERT_EQUAL(admission_ask(&a, 0, 1, &retry_s), ADMITTED);
    admission_set(&a, ADMISSION_LEAVING);
    CU_ASSERT_EQUAL(admission_ask(&a, 0, 1, &retry_s), ADMITTED);
    admission_set(&a, ADMISSION_SHUT);
    CU_ASSERT_EQUAL(admission_ask(&a, 0, 1, &retry_s), REFUSED_DRAINING);
    admission_set(&a, ADMISSION_OPEN);
    CU_ASSERT_EQUAL(admission_ask(&a, 0, 1, &retry_s), ADMITTED);
}

static void test_places(void)
{
    struct admission a = {0};
    CU_ASSERT_FALSE(admission_take_place(&a, 0));
    CU_ASSERT(admission_take_place(&a, 2));
    CU_ASSERT(admission_take_place(&a, 2));
    CU_ASSERT_FALSE(admission_take_place(&a, 2));
    CU_ASSERT(admission_is_full(&a, 2));
    CU_ASSERT_FALSE(admission_is_full(&a, 3));
    CU_ASSERT_FALSE(admission_take_place(&a, 1)); /* fewer since a reload */
    admission_free_place(&a);
    CU_ASSERT_FALSE(admission_take_place(&a, 1));
    CU_ASSERT(admission_take_place(&a, 2));
}

/* In any second at most so many, whenever it begins; and nearly as many are let in. */
static void check_rate(uint64_t per_second, uint64_t step_ns)
{
    enum { SECONDS = 4, MARKS = 200000 };
    static uint64_t admitted_ns[MARKS];
    struct admission a = {0};
    unsigned retry_s;
    size_t count = 0, first = 0, most = 0;
    for (uint64_t now = 7000 * MS; now < (7000 + SECONDS * 1000) * (uint64_t)MS; now += step_ns) {
        /* Many want in at every step. */
        while (count < MARKS && admission_ask(&a, per_second, now, &retry_s) == ADMITTED)
            admitted_ns[count++] = now;
        while (first < count && admitted_ns[first] + 1000 * (uint64_t)MS <= now)
            first++;
        most = count - first > most ? count - first : most;
    }
    CU_ASSERT(most <= per_second);
    CU_ASSERT(count * 100 >= per_second * SECONDS * 85);
}

static void test_rates(void)
{
    const uint64_t rates[] = {1, 2, 9, 10, 11, 100, 1000, 20000};
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++) {
        check_rate(rates[i], MS);
        check_rate(rates[i], 37 * MS);
    }
}

/* Who comes at the very nanosecond: a period that is cut would let in one more. */
static void test_the_last_nanosecond(void)
{
    const uint64_t rates[] = {1, 3, 7, 9}; /* no bursts: the next one is due at due_ns */
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++) {
        struct admission a = {0};
        unsigned retry_s;
        uint64_t begin = 5000 * (uint64_t)MS, now = begin, admitted = 0;
        while (now < begin + 1000 * (uint64_t)MS) {
            if (admission_ask(&a, rates[i], now, &retry_s) == ADMITTED)
                admitted++;
            else
                now = a.due_ns;
        }
        CU_ASSERT_EQUAL(admitted, rates[i]);
    }
}

static void test_bursts(void)
{
    struct admission a = {0};
    unsigned retry_s, admitted = 0;
    while (admission_ask(&a, 1000, 5000 * MS, &retry_s) == ADMITTED)
        admitted++;
    CU_ASSERT_EQUAL(admitted, 100);
}

/* Those who are refused come back as they are taken: not all in the same second. */
static void test_the_refused_queue_up(void)
{
    struct admission a = {0};
    unsigned counts[64] = {0}, retry_s = 0;
    uint64_t now = 5000 * (uint64_t)MS;
    while (admission_ask(&a, 100, now, &retry_s) == ADMITTED)
        continue;
    for (int i = 0; i < 450; i++) {
        CU_ASSERT_EQUAL(admission_ask(&a, 100, now, &retry_s), REFUSED_RATE);
        CU_ASSERT_FATAL(retry_s >= 1 && retry_s <= 60);
        counts[retry_s]++;
    }
    for (unsigned s = 1; s <= 4; s++)
        CU_ASSERT(counts[s] >= 70 && counts[s] <= 100);
    for (int i = 0; i < 20000; i++)
        admission_ask(&a, 100, now, &retry_s);
    CU_ASSERT_EQUAL(retry_s, 60);
    now += 61000 * (uint64_t)MS; /* they are forgotten */
    while (admission_ask(&a, 100, now, &retry_s) == ADMITTED)
        continue;
    CU_ASSERT_EQUAL(retry_s, 1);
}

static const struct unit_test tests[] = {
    {"states", test_states},
    {"places", test_places},
    {"rates", test_rates},
    {"the last nanosecond", test_the_last_nanosecond},
    {"bursts", test_bursts},
    {"the refused queue up", test_the_refused_queue_up},
    {0},
};
const struct unit_suite suite_admission = {"admission", tests};
