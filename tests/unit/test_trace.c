/*
 * test_trace.c - trace ids and the note that carries one: what is one, and everything else.
 */
#include "protocol/trace.h"

#include "unit.h"

#include <stdlib.h>
#include <string.h>

static void test_printable_without_space(void)
{
    char longest[TRACE_BYTES_MAX + 2];
    memset(longest, 'x', sizeof longest);
    CU_ASSERT_TRUE(trace_is_valid(slice_str("a")));
    CU_ASSERT_TRUE(trace_is_valid(slice_str("order-7/{\"x\"}~!")));
    CU_ASSERT_TRUE(trace_is_valid(slice_of(longest, TRACE_BYTES_MAX)));
    CU_ASSERT_FALSE(trace_is_valid(slice_of(longest, TRACE_BYTES_MAX + 1)));
    CU_ASSERT_FALSE(trace_is_valid((struct slice){0}));
    for (unsigned c = 0; c < 256; c++) {
        char byte = (char)c;
        CU_ASSERT_EQUAL(trace_is_valid(slice_of(&byte, 1)), c > 0x20 && c < 0x7f);
    }
}

#define PARENT "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

static void test_traceparent(void)
{
    static const struct {
        const char *parent;
        bool is_one;
    } cases[] = {
        {PARENT, true},
        {"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-the-future-will-be-like",
         true},
        {"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.what", false},
        {PARENT "-more", false}, /* version 00 has no more */
        {"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", false},
        {"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", false},
        {"00-00000000000000000000000000000000-00f067aa0ba902b7-01", false},
        {"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", false},
        {"00-4bf92f3577b34da6a3ce929d0e0e473x-00f067aa0ba902b7-01", false},
        {"00 4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", false},
        {"4bf92f3577b34da6a3ce929d0e0e4736", false},
        {"", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct slice trace;
        CU_ASSERT_EQUAL(trace_of_parent(slice_str(cases[i].parent), &trace), cases[i].is_one);
        if (cases[i].is_one)
            UNIT_ASSERT_BYTES(trace.ptr, trace.len, "4bf92f3577b34da6a3ce929d0e0e4736");
        else
            CU_ASSERT_EQUAL(trace.len, 0);
    }
}

static void test_cut_short_anywhere(void)
{
    for (size_t len = 0; len < sizeof PARENT - 1; len++) {
        struct slice trace;
        char *copy = malloc(len + 1); /* so that a sanitizer sees a read behind it */
        memcpy(copy, PARENT, len);
        CU_ASSERT_FALSE(trace_of_parent(slice_of(copy, len), &trace));
        free(copy);
    }
}

static void test_note_there_and_back(void)
{
    for (int made = 0; made < 2; made++) {
        const struct trace_note note = {
            .trace = slice_str("t-1"), .channel = slice_str("quote:AAPL"), .is_made = made == 1};
        struct trace_note read;
        struct buf text = {0};
        trace_note_append(&text, &note);
        CU_ASSERT_TRUE_FATAL(trace_note_parse(buf_slice(&text), &read));
        CU_ASSERT_TRUE(slice_equal(read.trace, note.trace));
        CU_ASSERT_TRUE(slice_equal(read.channel, note.channel));
        CU_ASSERT_EQUAL(read.is_made, note.is_made);
        buf_fini(&text);
    }
}

static void test_everything_else_is_no_note(void)
{
    static const char *const texts[] = {
        "",
        " ",
        "t",
        "t ",
        "t quote",
        "t quote:",
        " quote:AAPL",
        "t  quote:AAPL",
        "t quote:A ",
        "t quote:A made ",
        "t quote:A mad",
        "t quote:A made made",
        "t quote:A MADE",
        "t\n quote:A",
        "t quote:A\n",
        "t\x01 quote:A",
        "\xc3\xa9 quote:A",
        "t quote:\xc3\xa9",
        "t quote:*",
        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx quote:A",
    };
    struct trace_note note;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        CU_ASSERT_FALSE(trace_note_parse(slice_str(texts[i]), &note));
    CU_ASSERT_FALSE(trace_note_parse(slice_of("t\0 quote:A", 10), &note));
}

static void test_made_ids_are_ids_and_differ(void)
{
    struct rng rng;
    char one[TRACE_MADE_BYTES + 1], other[TRACE_MADE_BYTES + 1];
    rng_init_seed(&rng, 7);
    trace_make(&rng, one);
    trace_make(&rng, other);
    CU_ASSERT_EQUAL(strlen(one), TRACE_MADE_BYTES);
    CU_ASSERT_TRUE(trace_is_valid(slice_str(one)));
    CU_ASSERT_STRING_NOT_EQUAL(one, other);
}

static const struct unit_test tests[] = {
    {"printable without space", test_printable_without_space},
    {"traceparent", test_traceparent},
    {"cut short anywhere", test_cut_short_anywhere},
    {"note there and back", test_note_there_and_back},
    {"everything else is no note", test_everything_else_is_no_note},
    {"made ids are ids and differ", test_made_ids_are_ids_and_differ},
    {NULL, NULL},
};
const struct unit_suite suite_trace = {"trace", tests};
