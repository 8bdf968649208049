/*
 * test_bench_tape.c - a tape as the benchmark's load: what is published when, and what is counted
 * of the messages that arrive.
 */
#include "ctl/bench_run.h"

#include "unit.h"

#include <stdlib.h>
#include <unistd.h>

static struct bench run; /* too large for a stack */

/* Writes text to a file and loads it. */
static bool load(const char *text, double speed, double rate)
{
    char path[] = "/tmp/tickcast-tape-XXXXXX";
    int fd = mkstemp(path);
    CU_ASSERT_FATAL(fd >= 0);
    CU_ASSERT_EQUAL(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    memset(&run, 0, sizeof run);
    run.options = (struct bench_options){
        .target = CTL_TARGET_DEFAULT, .space = "quote", .tape = path, .speed = speed, .rate = rate};
    bool is_loaded = bench_tape_load(&run);
    unlink(path);
    return is_loaded;
}

static void check_entry(size_t index, uint64_t due_ms, const char *channel, const char *command)
{
    struct slice found;
    const struct bench_tape_entry *entry = bench_tape_at(run.tape, index, &found);
    CU_ASSERT_PTR_NOT_NULL_FATAL(entry);
    CU_ASSERT_EQUAL(entry->due_ns / 1000000, due_ms);
    CU_ASSERT_STRING_EQUAL(bench_tape_channel(run.tape, entry->channel), channel);
    CU_ASSERT(slice_is(found, command));
}

#define PUBLISH_A(size, payload) \
    "*3\r\n$7\r\nPUBLISH\r\n$10\r\ntc:quote:A\r\n$" size "\r\n" payload "\r\n"
#define PUBLISH_B(size, payload) \
    "*3\r\n$7\r\nPUBLISH\r\n$10\r\ntc:quote:B\r\n$" size "\r\n" payload "\r\n"

static void test_a_recorded_feed(void)
{
    static const char feed[] = "wss://x <-> 1618677816.8\n"
                               "1618677817.000000: {\"product_id\":\"B\"}\n"
                               "1618677817.500000: {\"no\":\"product\"}\n"
                               "1618677818.000000: {\"product_id\":\"A\"}\n"
                               "1618677817.900000: {\"product_id\":\"B\",\"n\":1}\n"
                               "1618677816.000000: {\"product_id\":\"B\"}";
    CU_ASSERT_FATAL(load(feed, 2, 0));
    CU_ASSERT_EQUAL(run.options.channels, 2);
    CU_ASSERT_EQUAL(run.options.of, 2);
    check_entry(0, 0, "quote:B", PUBLISH_B("18", "{\"product_id\":\"B\"}"));
    check_entry(1, 500, "quote:A", PUBLISH_A("18", "{\"product_id\":\"A\"}"));
    check_entry(2, 450, "quote:B", PUBLISH_B("24", "{\"product_id\":\"B\",\"n\":1}"));
    check_entry(3, 0, "quote:B", PUBLISH_B("18", "{\"product_id\":\"B\"}"));
    struct slice none;
    CU_ASSERT_PTR_NULL(bench_tape_at(run.tape, 4, &none));
    bench_tape_free(run.tape);
}

static void test_a_tape_takes_the_rate(void)
{
    CU_ASSERT_FATAL(load("quote:A\t1\nquote:B\t2\nquote:A\t3\n", 1, 100));
    check_entry(0, 0, "quote:A", PUBLISH_A("1", "1"));
    check_entry(1, 10, "quote:B", PUBLISH_B("1", "2"));
    check_entry(2, 20, "quote:A", PUBLISH_A("1", "3"));
    CU_ASSERT_DOUBLE_EQUAL(run.options.seconds, 0.02, 1e-9);
    bench_tape_free(run.tape);
}

static void test_nothing_to_publish(void)
{
    CU_ASSERT(!load("", 1, 0));
    CU_ASSERT(run.error[0] != '\0');
    bench_tape_free(run.tape);
    CU_ASSERT(!load("no tape at all\n", 1, 0));
    bench_tape_free(run.tape);
}

static void test_a_thousand_channels_and_no_more(void)
{
    for (int count = BENCH_CHANNELS_PER_CLIENT_MAX; count < BENCH_CHANNELS_PER_CLIENT_MAX + 2;
         count++) {
        struct buf text = {0};
        for (int i = 0; i < count; i++)
            buf_printf(&text, "quote:%d\t1\nquote:%d\t2\n", i, i / 2);
        buf_append(&text, "", 1);
        CU_ASSERT_EQUAL(load(text.data, 1, 0), count == BENCH_CHANNELS_PER_CLIENT_MAX);
        bench_tape_free(run.tape);
        buf_fini(&text);
    }
}

static void test_what_is_counted(void)
{
    static const struct {
        const char *message;
        unsigned items, missed, bytes;
    } rows[] = {
        {"{\"action\":\"push\",\"items\":[{\"channel\":\"a:b\",\"seq\":1,\"ts\":2,\"data\":[1]}]}",
         1, 0, 3},
        {"{\"action\":\"push\",\"items\":[{\"channel\":\"a:b\",\"missed\":12,\"data\":{}},"
         "{\"channel\":\"a:c\",\"missed\":3,\"data\":{\"items\":[{},{}],\"missed\":9}},"
         "{\"channel\":\"a:c\",\"cleared\":true}]}",
         3, 15, 2 + 28},
        {"{\"action\":\"push\",\"items\":[{\"channel\":\"a:b\",\"snap\":true,\"data\":1},"
         "{\"channel\":\"a:c\",\"data\":\"]}\"}]}",
         1, 0, 4},
        {"{\"action\":\"push\",\"items\":[]}", 0, 0, 0},
        {"{\"action\":\"heartbeat\",\"time\":1}", 0, 0, 0},
        {"{\"action\":\"ack\",\"accepted\":1}", 0, 0, 0},
    };
    CU_ASSERT_FATAL(load("x:y\t1\n", 1, 0));
    struct bench_tape *tape = run.tape;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        memset(&run, 0, sizeof run);
        run.tape = tape;
        bench_tape_count(&run, 0, slice_str(rows[i].message));
        CU_ASSERT_EQUAL(run.deliveries, rows[i].items);
        CU_ASSERT_EQUAL(run.missed, rows[i].missed);
        CU_ASSERT_EQUAL(run.payload_bytes, rows[i].bytes);
        CU_ASSERT_EQUAL(run.out_of_order, 0);
    }
    bench_tape_count(&run, 0, slice_str("{\"action\":\"push\",\"items\":[{]}"));
    CU_ASSERT_EQUAL(run.out_of_order, 1);
    run.options.raw = true;
    bench_tape_count(&run, 0, slice_str("any text"));
    CU_ASSERT_EQUAL(run.deliveries, 1);
    CU_ASSERT_EQUAL(run.payload_bytes, 8);
    bench_tape_free(tape);
}

static void push(size_t client, const char *items, uint64_t now_ns)
{
    char message[512];
    run.read_ns = now_ns;
    snprintf(message, sizeof message, "{\"action\":\"push\",\"items\":[%s]}", items);
    bench_tape_count(&run, client, slice_str(message));
}

/* Two clients on the tape's two channels; everything of the tape is sent 1 ms apart. */
static void start_clients(void)
{
    static struct bench_slot slots[2 * 4];
    memset(slots, 0, sizeof slots);
    run.slots = slots;
    run.slot_count = 4;
    run.options.clients = 2;
    run.options.late_ms = 1000;
    bench_latency_init(&run);
    for (size_t client = 0; client < 2; client++) {
        for (uint32_t channel = 0; channel < 2; channel++) {
            uint32_t at = bench_slot_start(&run, channel);
            while (slots[client * 4 + at].channel != 0)
                at = (at + 1) & 3;
            slots[client * 4 + at].channel = channel + 1;
        }
    }
    for (size_t i = 0; i < 4; i++)
        bench_tape_sent(run.tape, i, (i + 1) * 1000000);
}

/* The n-th item of a channel is its n-th publication, those counted that were missed. */
static void test_what_is_timed(void)
{
    CU_ASSERT_FATAL(load("q:A\t1\nq:B\t2\nq:A\t3\nq:A\t4\n", 1, 0));
    start_clients();
    push(0, "{\"channel\":\"q:A\",\"data\":1},{\"channel\":\"q:B\",\"data\":2}", 2000000);
    CU_ASSERT_EQUAL(run.latency.total, 2);
    CU_ASSERT_EQUAL(run.latency.max_ns, 1000000);
    push(0, "{\"channel\":\"q:A\",\"missed\":1,\"data\":4}", 4500000);
    CU_ASSERT_EQUAL(run.latency.total, 3);
    CU_ASSERT_EQUAL(run.latency.max_ns, 1000000);
    push(1, "{\"channel\":\"q:A\",\"data\":1}", 2000000000);
    CU_ASSERT_EQUAL(run.latency.max_ns, 1999000000);
    CU_ASSERT_EQUAL(run.late, 1);
    push(0, "{\"channel\":\"q:A\",\"data\":5},{\"channel\":\"q:C\",\"data\":1}", 2000000000);
    CU_ASSERT_EQUAL(run.latency.total, 4);
    bench_latency_finish(&run);
    CU_ASSERT_EQUAL(run.last_client.total, 3);
    CU_ASSERT_EQUAL(run.last_client.max_ns, 1999000000);
    CU_ASSERT_EQUAL(run.pass.total, 1);
    CU_ASSERT_EQUAL(run.pass.max_ns, 1998000000);
    CU_ASSERT_EQUAL(run.client_mean.total, 2);
    CU_ASSERT_EQUAL(run.client_mean.max_ns, 1999000000);
    bench_latency_fini(&run);
    bench_tape_free(run.tape);
}

static const struct unit_test tests[] = {
    {"a recorded feed", test_a_recorded_feed},
    {"a tape takes the rate", test_a_tape_takes_the_rate},
    {"nothing to publish", test_nothing_to_publish},
    {"a thousand channels and no more", test_a_thousand_channels_and_no_more},
    {"what is counted", test_what_is_counted},
    {"what is timed", test_what_is_timed},
    {NULL, NULL},
};
const struct unit_suite suite_bench_tape = {"bench_tape", tests};
