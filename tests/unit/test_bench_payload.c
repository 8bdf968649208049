/*
 * test_bench_payload.c - the benchmark's payloads have one length and give back what was put in.
 */
#include "unit.h"

#include "ctl/bench_payload.h"

#define SIZE_MAX_TESTED 600

static void test_every_size_is_exact(void)
{
    for (size_t size = PAYLOAD_MIN_BYTES; size < SIZE_MAX_TESTED; size++) {
        char payload[SIZE_MAX_TESTED + 1];
        struct rng random;
        rng_init_seed(&random, size);
        memset(payload, '#', sizeof payload);
        payload_init(payload, size, &random);
        CU_ASSERT(memcmp(payload, PAYLOAD_MARK, PAYLOAD_MARK_BYTES) == 0);
        CU_ASSERT(memcmp(payload + size - 2, "\"}", 2) == 0);
        CU_ASSERT(memchr(payload, '#', size) == NULL);
        CU_ASSERT_EQUAL(payload[size], '#');
    }
}

static void test_numbers_come_back(void)
{
    static const struct {
        uint64_t number, time_ns;
        uint32_t channel;
    } rows[] = {{0, 0, 0},
                {1, 1, 1},
                {815, 1234567890123, 42},
                {99999999, 99999999, 99999},
                {100000000, 10000000000000000u, 100000},
                {999999999999, 9223372036854775807, 999999}};
    char payload[PAYLOAD_MIN_BYTES];
    struct rng random;
    rng_init_seed(&random, 1);
    payload_init(payload, sizeof payload, &random);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        payload_stamp(payload, rows[i].number, rows[i].channel, rows[i].time_ns);
        CU_ASSERT_EQUAL(payload_number(payload), rows[i].number);
        CU_ASSERT_EQUAL(payload_channel(payload), rows[i].channel);
        CU_ASSERT_EQUAL(payload_time_ns(payload), rows[i].time_ns);
    }
}

static void test_the_text_is_as_documented(void)
{
    char payload[PAYLOAD_MIN_BYTES];
    struct rng random;
    rng_init_seed(&random, 1);
    payload_init(payload, sizeof payload, &random);
    payload_stamp(payload, 815, 42, 1234567890123);
    static const char text[] = "{\"n\":\"000000000815\",\"c\":\"000042\","
                               "\"t\":\"0000001234567890123\",\"q\":\"\"}";
    CU_ASSERT_EQUAL(sizeof text - 1, sizeof payload);
    CU_ASSERT(memcmp(payload, text, sizeof payload) == 0);
}

static const struct unit_test tests[] = {
    {"every size is exact", test_every_size_is_exact},
    {"numbers come back", test_numbers_come_back},
    {"the text is as documented", test_the_text_is_as_documented},
    {NULL, NULL},
};

const struct unit_suite suite_bench_payload = {"bench_payload", tests};
