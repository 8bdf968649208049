/*
 * test_json_text.c - the JSON validator against texts that must and must not pass, the walk over
 * members, and the string writer.
 */
#include "protocol/json_text.h"

#include "unit.h"

#include <stdio.h>
#include <stdlib.h>

struct json_case {
    const char *text;
    size_t len;
};
#define CASE(literal)                \
    {                                \
        literal, sizeof(literal) - 1 \
    }

/* A copy of exactly the right size, so that the address sanitizer sees a read past the end. */
static bool is_valid(const char *text, size_t len)
{
    char *copy = malloc(len + 1);
    memcpy(copy + 1, text, len);
    bool valid = json_text_is_valid(slice_of(copy + 1, len));
    free(copy);
    return valid;
}

static const struct json_case must_pass[] = {
    CASE("{}"),
    CASE("[]"),
    CASE("0"),
    CASE("-0"),
    CASE("-0.0e-0"),
    CASE("true"),
    CASE("false"),
    CASE("null"),
    CASE("\"\""),
    CASE(" \t\r\n[ \t\r\n] \t\r\n"),
    CASE("[1,2, 3 ,4]"),
    CASE("[[],[[]],{}]"),
    CASE("{\"a\":1}"),
    CASE("{\"a\":{\"b\":[{\"c\":null}]},\"d\":\"e\"}"),
    CASE("{\"a\":\"b\",\"a\":\"c\"}"),
    CASE("{\"\":0}"),
    CASE("{ \"a\" : 1 , \"b\" : [ ] }"),
    CASE("123456789012345678901234567890"),
    CASE("0.1"),
    CASE("1.0e+10"),
    CASE("1E400"),
    CASE("-1e-9"),
    CASE("20e1"),
    CASE("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\""),
    CASE("\"\\u0000\\u12aB\\uD834\\uDd1e\""),
    CASE("\"\\ud800\""), /* the grammar allows a lone surrogate */
    CASE("\"\\u0060\\u012a\""),
    CASE("\"\x7f\""),
    CASE("\"\xc3\xa9\xe2\x82\xac\xf0\x9d\x84\x9e\""),
    CASE("\"a/*b*/c//d\""),
    CASE("\"more than eight plain bytes in a row\""),
    CASE("{\"price\":\"190.01\",\"volume\":100,\"t\":[1,2.5,-3e8]}"),
};

static const struct json_case must_fail[] = {
    CASE(""),
    CASE(" "),
    CASE("[1,]"),
    CASE("[,1]"),
    CASE("[1,,2]"),
    CASE("[1 2]"),
    CASE("["),
    CASE("]"),
    CASE("[1"),
    CASE("[1}"),
    CASE("{]"),
    CASE("[}"),
    CASE("{\"a\":1]"),
    CASE("[]]"),
    CASE("[][]"),
    CASE("{}{}"),
    CASE("{} x"),
    CASE("1 2"),
    CASE("{"),
    CASE("{\"a\""),
    CASE("{\"a\":"),
    CASE("{\"a\":}"),
    CASE("{\"a\" 1}"),
    CASE("{\"a\":1,}"),
    CASE("{,\"a\":1}"),
    CASE("{\"a\":1 \"b\":2}"),
    CASE("{a:1}"),
    CASE("{1:1}"),
    CASE("{null:1}"),
    CASE("{'a':1}"),
    CASE("{\"a\"::1}"),
    CASE("{\"a\":1:2}"),
    CASE("{\"a\",1}"),
    CASE("[\"a\":1]"),
    CASE("{[]:1}"),
    CASE("+1"),
    CASE("-"),
    CASE("- 1"),
    CASE("--1"),
    CASE("01"),
    CASE("-01"),
    CASE("00"),
    CASE(".5"),
    CASE("-.5"),
    CASE("1."),
    CASE("1.e1"),
    CASE("1e"),
    CASE("1e+"),
    CASE("1e-"),
    CASE("1e1.5"),
    CASE("1ee1"),
    CASE("0x1"),
    CASE("1_000"),
    CASE("1a"),
    CASE("NaN"),
    CASE("-NaN"),
    CASE("Infinity"),
    CASE("-Infinity"),
    CASE("\xef\xbc\x91"), /* a full-width digit */
    CASE("nul"),
    CASE("nulll"),
    CASE("True"),
    CASE("tru"),
    CASE("truefalse"),
    CASE("fals"),
    CASE("undefined"),
    CASE("\""),
    CASE("\"a"),
    CASE("'a'"),
    CASE("\"\\"),
    CASE("\"\\\""),
    CASE("\"\\x41\""),
    CASE("\"\\a\""),
    CASE("\"\\'\""),
    CASE("\"\\\0\""),
    CASE("\"\\u\""),
    CASE("\"\\u00\""),
    CASE("\"\\u00g0\""),
    CASE("\"\\u123\""),
    CASE("\"\\u+123\""),
    CASE("\"\\U0041\""),
    CASE("\"\\u00"),
    CASE("\"\\u123"),
    CASE("\"a\nb\""),
    CASE("\"a\tb\""),
    CASE("\"a\0b\""),
    CASE("\"\x1f\""),
    CASE("\"eight bytes, and then \x01 one\""),
    CASE("1\0"),
    CASE("\0"),
    CASE("[1]\0"),
    CASE("\xef\xbb\xbf{}"), /* a byte order mark */
    CASE("\xc2\xa0{}"),     /* not JSON's white space */
    CASE("\v{}"),
    CASE("\f{}"),
    CASE("/**/{}"),
    CASE("{}//"),
    CASE("{\"a\":1}#"),
    CASE("abc"),
    CASE("*"),
    CASE("\\u0061"),
    CASE("<null>"),
};

static void test_valid_texts(void)
{
    for (size_t i = 0; i < sizeof must_pass / sizeof must_pass[0]; i++) {
        bool valid = is_valid(must_pass[i].text, must_pass[i].len);
        if (!valid)
            printf("refused: %s\n", must_pass[i].text);
        CU_ASSERT(valid);
    }
}

static void test_invalid_texts(void)
{
    for (size_t i = 0; i < sizeof must_fail / sizeof must_fail[0]; i++) {
        bool valid = is_valid(must_fail[i].text, must_fail[i].len);
        if (valid)
            printf("accepted: %s\n", must_fail[i].text);
        CU_ASSERT_FALSE(valid);
    }
}

static void test_no_text_cut_short_is_valid(void)
{
    static const char text[] =
        "{\"price\":\"190.\\u0030\\\"\",\"v\":[1.5e+3,true,null,{\"a\":{}}]}";
    for (size_t len = 0; len < sizeof text - 1; len++)
        CU_ASSERT_FALSE(is_valid(text, len));
    CU_ASSERT(is_valid(text, sizeof text - 1));
}

/* Every byte at every place of a run of plain bytes: the eight-byte steps see what single ones do.
 */
static void test_special_bytes_at_every_place(void)
{
    for (int c = 0; c < 256; c++) {
        bool want = c >= 0x20 && c != '"' && c != '\\';
        for (size_t at = 1; at < 20; at++) {
            char text[21];
            memset(text, 'x', sizeof text);
            text[0] = text[20] = '"';
            text[at] = (char)c;
            CU_ASSERT_EQUAL(is_valid(text, sizeof text), want);
        }
    }
}

static size_t nest(char *text, size_t depth, const char *opening, char closing)
{
    size_t at = 0, len = strlen(opening);
    for (size_t i = 0; i < depth; i++, at += len)
        memcpy(text + at, opening, len);
    text[at++] = '1';
    memset(text + at, closing, depth);
    return at + depth;
}

static void test_depth(void)
{
    static char text[10 * JSON_DEPTH_MAX];
    CU_ASSERT(is_valid(text, nest(text, JSON_DEPTH_MAX, "[", ']')));
    CU_ASSERT_FALSE(is_valid(text, nest(text, JSON_DEPTH_MAX + 1, "[", ']')));
    CU_ASSERT(is_valid(text, nest(text, JSON_DEPTH_MAX, "{\"a\":", '}')));
    CU_ASSERT_FALSE(is_valid(text, nest(text, JSON_DEPTH_MAX + 1, "{\"a\":", '}')));
}

static void test_each_level_remembers_its_kind(void)
{
    static char text[10 * JSON_DEPTH_MAX];
    for (size_t wrong = 0; wrong <= 128; wrong += 2) {
        size_t at = 0, depth = 130;
        for (size_t i = 0; i < depth; i++)
            at += (size_t)sprintf(text + at, "%s", i % 2 == 0 ? "[" : "{\"a\":");
        text[at++] = '1';
        for (size_t i = depth; i-- > 0;)
            text[at++] = (i % 2 == 0) != (wrong != 0 && i == wrong) ? ']' : '}';
        CU_ASSERT_EQUAL(is_valid(text, at), wrong == 0);
    }
}

static void test_siblings_do_not_count_as_depth(void)
{
    static char text[8 * JSON_DEPTH_MAX];
    size_t at = 0;
    text[at++] = '[';
    for (size_t i = 0; i < 2 * JSON_DEPTH_MAX; i++, at += 3)
        memcpy(text + at, "[],", 3);
    text[at - 1] = ']';
    CU_ASSERT(is_valid(text, at));
}

static void test_members_are_cut_as_written(void)
{
    struct slice text = slice_str(" { \"a\" : 1.50 ,\"b\\n\":{\"c\":[1, 2]} , \"\":\"x,}\" } ");
    static const char *const want[][2] = {
        {"a", "1.50"}, {"b\\n", "{\"c\":[1, 2]}"}, {"", "\"x,}\""}};
    struct json_members m;
    struct slice key, value;
    CU_ASSERT_FATAL(json_text_is_valid(text));
    CU_ASSERT_FATAL(json_members_init(&m, text));
    for (size_t i = 0; i < 3; i++) {
        CU_ASSERT_FATAL(json_members_next(&m, &key, &value));
        CU_ASSERT(slice_is(key, want[i][0]));
        CU_ASSERT(slice_is(value, want[i][1]));
    }
    CU_ASSERT_FALSE(json_members_next(&m, &key, &value));
}

static void test_members_of_other_values(void)
{
    struct json_members m;
    struct slice key, value;
    CU_ASSERT_FALSE(json_members_init(&m, slice_str("[1]")));
    CU_ASSERT_FALSE(json_members_init(&m, slice_str("\"{\"")));
    CU_ASSERT(json_members_init(&m, slice_str("{}")));
    CU_ASSERT_FALSE(json_members_next(&m, &key, &value));
}

static void test_elements_are_cut_as_written(void)
{
    static const char *const want[] = {"1.50", "{\"a\" : [2]}", "\"],\"", "[[], 3]", "null"};
    struct json_elements e;
    struct slice value;
    CU_ASSERT_FATAL(
        json_elements_init(&e, slice_str(" [1.50,{\"a\" : [2]} , \"],\"\t,[[], 3],\nnull ] ")));
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        CU_ASSERT_FATAL(json_elements_next(&e, &value));
        CU_ASSERT(slice_is(value, want[i]));
    }
    CU_ASSERT_FALSE(json_elements_next(&e, &value));
    CU_ASSERT_FALSE(json_elements_init(&e, slice_str("{}")));
    CU_ASSERT_FALSE(json_elements_init(&e, slice_str("\"[\"")));
    CU_ASSERT(json_elements_init(&e, slice_str("[ ]")));
    CU_ASSERT_FALSE(json_elements_next(&e, &value));
}

static void test_strings_are_escaped(void)
{
    struct buf out = {0};
    json_append_string(&out, slice_of("a\"b\\c/\b\f\n\r\t\0\x1f\x7f\xc3\xa9", 16));
    UNIT_ASSERT_BYTES(out.data, out.len,
                      "\"a\\\"b\\\\c/\\b\\f\\n\\r\\t\\u0000\\u001f\x7f\xc3\xa9\"");
    buf_clear(&out);
    json_append_string(&out, (struct slice){0});
    UNIT_ASSERT_BYTES(out.data, out.len, "\"\"");
    buf_fini(&out);
}

static void test_every_byte_makes_a_valid_string(void)
{
    struct buf out = {0};
    for (int c = 0; c < 128; c++) {
        char text[] = {'x', 'y', (char)c, 'z', '1', '2', '3', '4', '5', '6'};
        buf_clear(&out);
        json_append_string(&out, slice_of(text, sizeof text));
        CU_ASSERT(is_valid(out.data, out.len));
    }
    buf_fini(&out);
}

static void test_escaped_nuls(void)
{
    static const char *const with[] = {"\"\\u0000\"", "[1,\"a\\u0000b\"]", "\"\\\\\\u0000\""};
    static const char *const without[] = {"\"\"", "\"u0000\"", "\"\\\\u0000\"",
                                          "\"\\u0001\\u000a\"", "\"\\n\""};
    for (size_t i = 0; i < sizeof with / sizeof *with; i++)
        CU_ASSERT_TRUE(json_has_escaped_nul(slice_str(with[i])));
    for (size_t i = 0; i < sizeof without / sizeof *without; i++)
        CU_ASSERT_FALSE(json_has_escaped_nul(slice_str(without[i])));
}

static const struct unit_test tests[] = {
    {"valid texts", test_valid_texts},
    {"invalid texts", test_invalid_texts},
    {"no text cut short is valid", test_no_text_cut_short_is_valid},
    {"special bytes at every place", test_special_bytes_at_every_place},
    {"depth", test_depth},
    {"each level remembers its kind", test_each_level_remembers_its_kind},
    {"siblings do not count as depth", test_siblings_do_not_count_as_depth},
    {"members are cut as written", test_members_are_cut_as_written},
    {"members of other values", test_members_of_other_values},
    {"elements are cut as written", test_elements_are_cut_as_written},
    {"strings are escaped", test_strings_are_escaped},
    {"every byte makes a valid string", test_every_byte_makes_a_valid_string},
    {"escaped NULs", test_escaped_nuls},
    {NULL, NULL},
};
const struct unit_suite suite_json_text = {"json_text", tests};
