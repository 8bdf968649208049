/*
 * test_stamp.c - stamps: the one legal spelling, and all others dropped.
 */
#include "protocol/stamp.h"

#include "unit.h"

#include <stdio.h>

static enum stamp_result parse(const char *message, struct stamp *out)
{
    return stamp_parse(slice_str(message), out);
}

static void test_plain_publications_have_none(void)
{
    struct stamp s;
    CU_ASSERT_EQUAL(parse("", &s), STAMP_NONE);
    CU_ASSERT_EQUAL(parse("{\"price\":\"190.01\"}", &s), STAMP_NONE);
    CU_ASSERT_EQUAL(parse(" @e:1:2 x", &s), STAMP_NONE);
}

static void test_stamp_is_taken_apart(void)
{
    struct stamp s;
    CU_ASSERT_EQUAL_FATAL(parse("@c91e:815:1780000000340 {\"p\": \"1\"} ", &s), STAMP_OK);
    CU_ASSERT(slice_is(s.epoch, "c91e"));
    CU_ASSERT_EQUAL(s.seq, 815);
    CU_ASSERT_EQUAL(s.ts_ms, 1780000000340u);
    CU_ASSERT(slice_is(s.payload, "{\"p\": \"1\"} "));
}

static void test_payload_is_everything_behind_one_space(void)
{
    struct stamp s;
    CU_ASSERT_EQUAL_FATAL(parse("@e:1:2 ", &s), STAMP_OK);
    CU_ASSERT_EQUAL(s.payload.len, 0);
    CU_ASSERT_EQUAL_FATAL(parse("@e:1:2  @f:3:4 x", &s), STAMP_OK);
    CU_ASSERT(slice_is(s.payload, " @f:3:4 x"));
}

static void test_limits(void)
{
    struct stamp s;
    CU_ASSERT_EQUAL(parse("@Aa-_09:9007199254740991:9007199254740991 x", &s), STAMP_OK);
    CU_ASSERT_EQUAL(s.seq, STAMP_NUMBER_MAX);
    CU_ASSERT_EQUAL(s.ts_ms, STAMP_NUMBER_MAX);
    CU_ASSERT_EQUAL(parse("@e:1:0 x", &s), STAMP_OK);
    CU_ASSERT_EQUAL(s.ts_ms, 0);
    CU_ASSERT_EQUAL(parse("@12345678901234567890123456789012:1:1 x", &s), STAMP_OK);
    CU_ASSERT_EQUAL(s.epoch.len, STAMP_EPOCH_MAX);
}

static void test_everything_else_is_bad(void)
{
    static const char *const messages[] = {
        "@",
        "@ ",
        "@e",
        "@e:1",
        "@e:1:2",
        "@e:1: x",
        "@e::2 x",
        "@:1:2 x",
        "@e:0:2 x",
        "@e:01:2 x",
        "@e:1:02 x",
        "@e:+1:2 x",
        "@e:-1:2 x",
        "@e:1:-2 x",
        "@e: 1:2 x",
        "@e:1 :2 x",
        "@e:1.0:2 x",
        "@e:1e3:2 x",
        "@e:0x1:2 x",
        "@e:1:2:3 x",
        "@e:1:2\tx",
        "@e:1:2{\"a\":1}",
        "@e:9007199254740992:1 x",
        "@e:1:9007199254740992 x",
        "@e:18446744073709551617:1 x",
        "@e:1:18446744073709551617 x",
        "@e e:1:2 x",
        "@e.e:1:2 x",
        "@\xc3\xa9:1:2 x",
        "@@e:1:2 x",
        "@123456789012345678901234567890123:1:1 x",
    };
    struct stamp s;
    for (size_t i = 0; i < sizeof messages / sizeof messages[0]; i++) {
        if (parse(messages[i], &s) != STAMP_BAD)
            printf("taken for a stamp: %s\n", messages[i]);
        CU_ASSERT_EQUAL(parse(messages[i], &s), STAMP_BAD);
    }
}

static void test_cut_short_anywhere(void)
{
    static const char whole[] = "@c91e:815:1780000000340 x";
    struct stamp s;
    for (size_t len = 1; len < sizeof whole - 2; len++)
        CU_ASSERT_EQUAL(stamp_parse(slice_of(whole, len), &s), STAMP_BAD);
    CU_ASSERT_EQUAL(stamp_parse(slice_of(whole, sizeof whole - 2), &s), STAMP_OK);
}

static const struct unit_test tests[] = {
    {"plain publications have none", test_plain_publications_have_none},
    {"stamp is taken apart", test_stamp_is_taken_apart},
    {"payload is everything behind one space", test_payload_is_everything_behind_one_space},
    {"limits", test_limits},
    {"everything else is bad", test_everything_else_is_bad},
    {"cut short anywhere", test_cut_short_anywhere},
    {NULL, NULL},
};
const struct unit_suite suite_stamp = {"stamp", tests};
