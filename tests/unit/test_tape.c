/*
 * test_tape.c - lines of a tape: bounded reading, and both formats.
 */
#include "ctl/line_reader.h"
#include "ctl/tape.h"
#include "unit.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FRAME "{\"type\":\"x\",\"product_id\":\"BTC-USD\",\"price\":1.10}"

struct frame_row {
    const char *line;
    uint64_t time_us; /* 0: no publication */
    const char *channel;
    const char *payload;
};

static const struct frame_row frame_rows[] = {
    {"1618677817.061845: " FRAME, 1618677817061845u, "quote:BTC-USD", FRAME},
    {"1618677817.5: " FRAME, 1618677817500000u, "quote:BTC-USD", FRAME},
    {"1618677817.1234567: " FRAME, 1618677817123456u, "quote:BTC-USD", FRAME},
    {"1618677817.000001: " FRAME " \r", 1618677817000001u, "quote:BTC-USD", FRAME " \r"},
    {"1618677817.061845: {\"type\":\"subscriptions\"}", 0, NULL, NULL},
    {"1618677817.061845: {\"product_id\":5}", 0, NULL, NULL},
    {"1618677817.061845: {\"product_id\":\"\"}", 0, NULL, NULL},
    {"1618677817.061845: {\"product_id\":\"A B\"}", 0, NULL, NULL},
    {"1618677817.061845: {\"product_id\":\"A", 0, NULL, NULL},
    {"1618677817.061845: ", 0, NULL, NULL},
    {"1618677817.061845:" FRAME, 0, NULL, NULL},
    {"1618677817.061845", 0, NULL, NULL},
    {"1618677817.: " FRAME, 0, NULL, NULL},
    {"1618677817: " FRAME, 0, NULL, NULL},
    {"161867781.061845: " FRAME, 0, NULL, NULL},
    {"16186778170.061845: " FRAME, 0, NULL, NULL},
    {" 1618677817.061845: " FRAME, 0, NULL, NULL},
    {"wss://feed <-> 1618677816.84", 0, NULL, NULL},
    {"wss://feed <- 1618677817.02: " FRAME, 0, NULL, NULL},
    {"quote:A\t1", 0, NULL, NULL}, /* the other format */
    {"", 0, NULL, NULL},
};

static void test_recorded_frames(void)
{
    for (size_t i = 0; i < sizeof frame_rows / sizeof frame_rows[0]; i++) {
        const struct frame_row *row = &frame_rows[i];
        struct tape tape = {.namespace = "quote", .format = TAPE_RECORDED};
        struct tape_entry entry;
        bool got = tape_parse(&tape, slice_str(row->line), &entry);
        CU_ASSERT_EQUAL(got, row->time_us != 0);
        if (got && row->time_us != 0) {
            CU_ASSERT_EQUAL(entry.time_us, row->time_us);
            CU_ASSERT(slice_is(entry.channel, row->channel));
            CU_ASSERT(slice_is(entry.payload, row->payload));
        }
        tape_fini(&tape);
    }
}

/* No prefix of a frame may be read past its end; only whole ones name a product. */
static void test_frames_cut_anywhere(void)
{
    static const char line[] = "1618677817.061845: " FRAME;
    for (size_t len = 0; len < sizeof line - 1; len++) {
        char *exact = strndup(line, len);
        struct tape tape = {.namespace = "quote", .format = TAPE_RECORDED};
        struct tape_entry entry;
        CU_ASSERT(!tape_parse(&tape, slice_of(exact, len), &entry));
        tape_fini(&tape);
        free(exact);
    }
}

static void test_plain_lines(void)
{
    struct tape tape = {.namespace = "quote"};
    struct tape_entry entry;
    CU_ASSERT(!tape_parse(&tape, slice_str("# a comment"), &entry));
    CU_ASSERT_EQUAL(tape.format, TAPE_UNKNOWN);
    CU_ASSERT(tape_parse(&tape, slice_str("trade:A\t{\"a\":\t1} "), &entry));
    CU_ASSERT(slice_is(entry.channel, "trade:A"));
    CU_ASSERT(slice_is(entry.payload, "{\"a\":\t1} "));
    CU_ASSERT_EQUAL(entry.time_us, 0);
    CU_ASSERT_EQUAL(tape.format, TAPE_PLAIN);
    CU_ASSERT(tape_parse(&tape, slice_str("trade:A\t"), &entry));
    CU_ASSERT_EQUAL(entry.payload.len, 0);
    CU_ASSERT(!tape_parse(&tape, slice_str("tradeA\t1"), &entry));
    CU_ASSERT(!tape_parse(&tape, slice_str("\t1"), &entry));
    CU_ASSERT(!tape_parse(&tape, slice_str("trade:A 1"), &entry));
    CU_ASSERT(!tape_parse(&tape, slice_str(""), &entry));
    CU_ASSERT(!tape_parse(&tape, slice_str("1618677817.061845: " FRAME), &entry));
    tape_fini(&tape);
}

static void test_the_format_shows_in_the_first_line(void)
{
    struct tape tape = {.namespace = "quote"};
    struct tape_entry entry;
    CU_ASSERT(!tape_parse(&tape, slice_str("wss://feed <-> 1618677816.84"), &entry));
    CU_ASSERT_EQUAL(tape.format, TAPE_RECORDED);
    CU_ASSERT(!tape_parse(&tape, slice_str("quote:A\t1"), &entry));
    CU_ASSERT(tape_parse(&tape, slice_str("1618677817.061845: " FRAME), &entry));
    tape_fini(&tape);
}

/* --- lines ---------------------------------------------------------------------------------- */

/* Feeds text through a pipe and writes down what comes out: lines in [], ! for one too long. */
static struct buf read_lines(const char *text, size_t len, size_t max)
{
    int ends[2];
    struct buf out = {0};
    CU_ASSERT_FATAL(pipe(ends) == 0);
    CU_ASSERT_FATAL(write(ends[1], text, len) == (ssize_t)len);
    close(ends[1]);
    struct line_reader reader = {.fd = ends[0], .line_bytes_max = max};
    struct slice line;
    enum line_result result;
    while ((result = line_reader_next(&reader, &line)) != LINE_END) {
        CU_ASSERT_FATAL(result != LINE_FAILED);
        buf_append_str(&out, result == LINE_TOO_LONG ? "!" : "[");
        if (result == LINE_OK) {
            buf_append(&out, line.ptr, line.len);
            buf_append_str(&out, "]");
        }
    }
    line_reader_fini(&reader);
    close(ends[0]);
    return out;
}

static void test_lines(void)
{
    static const struct {
        const char *text;
        const char *want;
    } rows[] = {
        {"", ""},
        {"\n", "[]"},
        {"a", "[a]"},
        {"a\nb", "[a][b]"},
        {"a\r\n\nb\n", "[a\r][][b]"},
        {"12345678\n", "[12345678]"},
        {"123456789\nb\n", "![b]"},
        {"a\n123456789", "[a]!"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct buf got = read_lines(rows[i].text, strlen(rows[i].text), 8);
        CU_ASSERT(slice_is(slice_of(got.data != NULL ? got.data : "", got.len), rows[i].want));
        buf_fini(&got);
    }
}

/* Longer than one read, so that it is skipped in pieces, and kept in pieces when it may be. */
static void test_long_lines(void)
{
    static char text[60000];
    memset(text, 'x', sizeof text);
    text[59990] = '\n';
    struct buf skipped = read_lines(text, sizeof text, 1000);
    UNIT_ASSERT_BYTES(skipped.data, skipped.len, "![xxxxxxxxx]");
    struct buf kept = read_lines(text, sizeof text, 59990);
    CU_ASSERT_EQUAL(kept.len, 59990 + 9 + 4);
    buf_fini(&skipped);
    buf_fini(&kept);
}

static const struct unit_test tests[] = {
    {"recorded frames", test_recorded_frames},
    {"frames cut anywhere", test_frames_cut_anywhere},
    {"plain lines", test_plain_lines},
    {"the format shows in the first line", test_the_format_shows_in_the_first_line},
    {"lines", test_lines},
    {"long lines", test_long_lines},
    {NULL, NULL},
};
const struct unit_suite suite_tape = {"tape", tests};
