/*
 * test_stored.c - replies about stored state, which anybody may have written.
 *
 * Each reply is given as Redis sends it, and goes through the parser of the command link.
 */
#include "domain/stored.h"
#include "runtime/redis_link_parse.h"
#include "unit.h"

#include <stdio.h>
#include <string.h>

#define VALUE(e, s, t, d) "*4\r\n" e s t d
#define PTTL              ":-1\r\n"
#define NO_LOG            "*0\r\n"
#define NIL               "$-1\r\n"
#define E                 "$1\r\ne\r\n"
#define SEQ               "$1\r\n7\r\n"
#define TS                "$2\r\n55\r\n"
#define DATA              "$2\r\n{}\r\n"
#define ENTRY(id, data)   "*2\r\n" id "*4\r\n$2\r\nts\r\n$1\r\n5\r\n$4\r\ndata\r\n" data
#define SIX               "$3\r\n6-0\r\n"
#define SEVEN             "$3\r\n7-0\r\n"

struct outcome {
    struct stored_reading reading;
    char epoch[40];
    bool is_renewal;
};

static void on_reply(void *arg, const struct redis_reply_view *reply)
{
    struct outcome *o = arg;
    if (o->is_renewal)
        stored_parse_renewed(reply, &o->reading);
    else
        stored_parse(reply, &o->reading);
    snprintf(o->epoch, sizeof o->epoch, "%.*s", (int)o->reading.epoch.len,
             o->reading.epoch.ptr != NULL ? o->reading.epoch.ptr : "");
}

static const struct redis_parse_ops ops = {.on_reply = on_reply};

static void take(struct outcome *o, bool is_renewal, const char *bytes)
{
    const char *why = "";
    struct redis_parse *p = redis_parse_new(false, 1000, &ops, o);
    memset(o, 0, sizeof *o);
    o->is_renewal = is_renewal;
    CU_ASSERT(redis_parse_feed(p, bytes, strlen(bytes), &why));
    redis_parse_free(p);
}

static const struct stored_reading *parse(struct outcome *o, const char *bytes)
{
    take(o, false, bytes);
    return &o->reading;
}

static void test_a_value(void)
{
    struct outcome o;
    const struct stored_reading *r =
        parse(&o, "*4\r\n" VALUE(E, SEQ, TS, DATA) ":1500\r\n" NO_LOG ":0\r\n");
    CU_ASSERT_EQUAL(r->status, STORED_VALUE);
    CU_ASSERT_STRING_EQUAL(o.epoch, "e");
    CU_ASSERT(r->value.seq == 7 && r->value.ts_ms == 55 && r->value.data.len == 2);
    CU_ASSERT(r->ttl_ms == 1500 && r->entry_count == 0 && !r->has_more);
}

static void test_a_cleared_value(void)
{
    struct outcome o;
    const struct stored_reading *r =
        parse(&o, "*4\r\n" VALUE(E, SEQ, TS, NIL) PTTL NO_LOG ":0\r\n");
    CU_ASSERT(r->status == STORED_VALUE && r->value.data.len == 0 && !r->value.is_too_large);
}

static void test_data_that_was_not_fetched(void)
{
    struct outcome o;
    const struct stored_reading *r = parse(&o, "*4\r\n" VALUE(E, SEQ, TS, ":2000000\r\n") PTTL
                                           "*1\r\n" ENTRY(SIX, ":9000\r\n") ":0\r\n");
    CU_ASSERT(r->status == STORED_VALUE && r->value.is_too_large && r->value.data.len == 0);
    CU_ASSERT(r->entry_count == 1 && r->entries[0].is_too_large);
}

static void test_nothing_stored(void)
{
    struct outcome o;
    parse(&o, "*4\r\n" VALUE(NIL, NIL, NIL, NIL) ":-2\r\n" NO_LOG ":0\r\n");
    CU_ASSERT_EQUAL(o.reading.status, STORED_NONE);
    const struct redis_reply_view lost = {.kind = REDIS_REPLIED_LOST};
    stored_parse(&lost, &o.reading);
    CU_ASSERT_EQUAL(o.reading.status, STORED_LOST);
    stored_parse_renewed(&lost, &o.reading);
    CU_ASSERT_EQUAL(o.reading.status, STORED_LOST);
}

static void test_broken_values(void)
{
    static const char *const values[] = {
        ":0\r\n", /* a key of another type */
        VALUE("$3\r\na b\r\n", SEQ, TS, DATA),
        VALUE("$33\r\n012345678901234567890123456789012\r\n", SEQ, TS, DATA),
        VALUE(":70\r\n", SEQ, TS, DATA), /* a field too long to be ours */
        VALUE(E, NIL, TS, DATA),
        VALUE(NIL, SEQ, TS, DATA),
        VALUE(E, SEQ, NIL, DATA),
        VALUE(E, "$1\r\n0\r\n", TS, DATA),
        VALUE(E, "$2\r\n-1\r\n", TS, DATA),
        VALUE(E, "$3\r\n1e3\r\n", TS, DATA),
        VALUE(E, "$16\r\n9007199254740992\r\n", TS, DATA),
        VALUE(E, "$20\r\n99999999999999999999\r\n", TS, DATA),
        VALUE(E, "$0\r\n\r\n", TS, DATA),
        VALUE(E, SEQ, "$2\r\n5x\r\n", DATA),
        VALUE(E, SEQ, TS, NO_LOG),
        "*3\r\n" E SEQ TS,
    };
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        char bytes[512];
        struct outcome o;
        snprintf(bytes, sizeof bytes, "*4\r\n%s" PTTL "*1\r\n" ENTRY(SIX, DATA) ":0\r\n",
                 values[i]);
        CU_ASSERT_EQUAL(parse(&o, bytes)->status, STORED_BROKEN);
        CU_ASSERT_EQUAL(o.reading.entry_count, 0);
        take(&o, true, values[i]);
        CU_ASSERT_EQUAL(o.reading.status, STORED_BROKEN);
    }
}

static void test_other_replies(void)
{
    static const char *const replies[] = {
        "-NOPERM no\r\n", "+OK\r\n", ":4\r\n", NIL, "*0\r\n", "*1\r\n" VALUE(E, SEQ, TS, DATA)};
    for (size_t i = 0; i < sizeof replies / sizeof *replies; i++) {
        struct outcome o;
        CU_ASSERT_EQUAL(parse(&o, replies[i])->status, STORED_BROKEN);
        take(&o, true, replies[i]);
        CU_ASSERT_EQUAL(o.reading.status, STORED_BROKEN);
    }
}

static void test_a_log(void)
{
    struct outcome o;
    const struct stored_reading *r =
        parse(&o, "*4\r\n" VALUE(E, SEQ, TS, DATA) PTTL "*2\r\n" ENTRY(SIX, "$1\r\na\r\n")
                      ENTRY(SEVEN, "$0\r\n\r\n") ":1\r\n");
    CU_ASSERT_EQUAL_FATAL(r->entry_count, 2);
    CU_ASSERT(r->entries[0].seq == 6 && r->entries[0].ts_ms == 5 && r->entries[0].data.len == 1);
    CU_ASSERT(r->entries[1].seq == 7 && r->entries[1].data.len == 0);
    CU_ASSERT(r->has_more);
}

/* What lies behind an entry that is not ours cannot be trusted to be complete. */
static void test_a_log_ends_where_it_is_broken(void)
{
    static const char *const entries[] = {
        ENTRY("$3\r\n7-1\r\n", DATA),
        ENTRY("$3\r\n0-0\r\n", DATA),
        ENTRY("$1\r\n7\r\n", DATA),
        ENTRY("$2\r\n-0\r\n", DATA),
        ENTRY(NIL, DATA),
        ENTRY(SEVEN, NIL),
        "*2\r\n" SEVEN "*0\r\n",
        "*2\r\n" SEVEN "*4\r\n$4\r\ndata\r\n$1\r\n5\r\n$2\r\nts\r\n$1\r\n5\r\n",
        "*2\r\n" SEVEN "*4\r\n$2\r\nts\r\n$1\r\nx\r\n$4\r\ndata\r\n$1\r\n5\r\n",
        ("*1\r\n" SEVEN),
        "+x\r\n",
    };
    for (size_t i = 0; i < sizeof entries / sizeof *entries; i++) {
        char bytes[512];
        struct outcome o;
        snprintf(bytes, sizeof bytes,
                 "*4\r\n" VALUE(E, SEQ, TS, DATA) PTTL
                 "*3\r\n" ENTRY(SIX, DATA) "%s" ENTRY("$3\r\n8-0\r\n", DATA) ":1\r\n",
                 entries[i]);
        const struct stored_reading *r = parse(&o, bytes);
        CU_ASSERT_EQUAL(r->status, STORED_VALUE);
        CU_ASSERT_EQUAL(r->entry_count, 1);
        CU_ASSERT_FALSE(r->has_more);
    }
}

static const struct unit_test tests[] = {
    {"a value", test_a_value},
    {"a cleared value", test_a_cleared_value},
    {"data that was not fetched", test_data_that_was_not_fetched},
    {"nothing stored", test_nothing_stored},
    {"broken values", test_broken_values},
    {"other replies", test_other_replies},
    {"a log", test_a_log},
    {"a log ends where it is broken", test_a_log_ends_where_it_is_broken},
    {NULL, NULL},
};

const struct unit_suite suite_stored = {"stored", tests};
