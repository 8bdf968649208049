/*
 * test_command.c - client commands: what is understood, and how each mistake is named.
 */
#include "protocol/command.h"

#include "base/buf.h"
#include "unit.h"

#include <stdio.h>
#include <stdlib.h>

static enum error_code parse(const char *text, struct command *out)
{
    const char *why;
    size_t len = strlen(text);
    char *copy = malloc(len + 1); /* released before anything is looked at: nothing borrows */
    memcpy(copy + 1, text, len);
    enum error_code code = command_parse(slice_of(copy + 1, len), out, &why);
    free(copy);
    CU_ASSERT_EQUAL(why == NULL, code == ERR_NONE);
    return code;
}

static void check_code(const char *text, enum error_code want)
{
    struct command c;
    enum error_code code = parse(text, &c);
    if (code != want)
        printf("wanted %s, got %s: %s\n", want != ERR_NONE ? error_table[want].name : "none",
               code != ERR_NONE ? error_table[code].name : "none", text);
    CU_ASSERT_EQUAL(code, want);
    command_fini(&c);
}

static void check_all(const char *const *texts, enum error_code want)
{
    for (size_t i = 0; texts[i] != NULL; i++)
        check_code(texts[i], want);
}

static void test_every_action(void)
{
    static const struct {
        const char *text;
        enum command_kind kind;
    } rows[] = {
        {"{\"action\":\"subscribe\",\"channels\":[\"a:b\"]}", COMMAND_SUBSCRIBE},
        {"{\"action\":\"unsubscribe\",\"channels\":[\"a:b\"]}", COMMAND_UNSUBSCRIBE},
        {"{\"action\":\"snapshot\",\"channels\":[\"a:b\"]}", COMMAND_SNAPSHOT},
        {"{\"action\":\"list\"}", COMMAND_LIST},
        {"{\"action\":\"publish\",\"channel\":\"a:b\",\"data\":{}}", COMMAND_PUBLISH},
        {"{\"action\":\"auth\",\"token\":\"x.y.z\"}", COMMAND_AUTH},
        {"{\"action\":\"ping\"}", COMMAND_PING},
        {"{\"action\":\"resume\",\"session\":\"00112233445566778899aabbccddeeff\"}",
         COMMAND_RESUME},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct command c;
        CU_ASSERT_EQUAL_FATAL(parse(rows[i].text, &c), ERR_NONE);
        CU_ASSERT_EQUAL(c.kind, rows[i].kind);
        CU_ASSERT_STRING_EQUAL(c.id, "");
        command_fini(&c);
        command_fini(&c); /* harmless again */
    }
}

static void test_resume(void)
{
    struct command c;
    CU_ASSERT_EQUAL_FATAL(
        parse("{\"action\":\"resume\",\"session\":\"00112233445566778899aabbccddeeff\",\"id\":7,"
              "\"channels\":[\"a:b\"],\"max_rate\":5,\"since\":{\"c:d\":{\"epoch\":\"e\",\"seq\":9}"
              "}}",
              &c),
        ERR_NONE);
    CU_ASSERT_STRING_EQUAL(c.id, "7");
    CU_ASSERT_EQUAL(c.session[0], 0x00);
    CU_ASSERT_EQUAL(c.session[15], 0xff);
    CU_ASSERT_EQUAL(c.channel_count, 1);
    CU_ASSERT_EQUAL(c.max_rate, 5);
    CU_ASSERT_EQUAL(c.since_count, 1);
    command_fini(&c);
    static const char *const texts[] = {
        "{\"action\":\"resume\"}",
        "{\"action\":\"resume\",\"session\":\"\"}",
        "{\"action\":\"resume\",\"session\":\"new\"}",
        "{\"action\":\"resume\",\"session\":null}",
        "{\"action\":\"resume\",\"session\":0}",
        "{\"action\":\"resume\",\"session\":\"00112233445566778899AABBCCDDEEFF\"}",
        "{\"action\":\"resume\",\"session\":\"00112233445566778899aabbccddeef\"}",
        "{\"action\":\"resume\",\"session\":\"00112233445566778899aabbccddeeff0\"}",
        "{\"action\":\"resume\",\"session\":\"\\u0030112233445566778899aabbccddeeff\"}",
        "{\"action\":\"resume\",\"session\":\"00112233445566778899aabbccddeeff\",\"channels\":[]}",
        NULL,
    };
    check_all(texts, ERR_BAD_COMMAND);
}

static void test_subscribe_with_everything(void)
{
    struct command c;
    CU_ASSERT_EQUAL_FATAL(parse(" {\"channels\":[\"quote:AAPL\",\"x\",\"\",\"caf\\u00e9:\\\"\"],"
                                "\"max_rate\":5,\"mode\":\"latest\",\"snapshot\":false,"
                                "\"delta\":true,\"since\":{\"quote:AAPL\":{\"epoch\":\"c91e\","
                                "\"seq\":815}},\"new\":[{}],"
                                "\"id\":7,\"action\":\"subscribe\"} ",
                                &c),
                          ERR_NONE);
    CU_ASSERT_EQUAL_FATAL(c.channel_count, 4);
    CU_ASSERT(slice_is(c.channels[0], "quote:AAPL"));
    CU_ASSERT(slice_is(c.channels[1], "x"));
    CU_ASSERT(slice_is(c.channels[2], ""));
    CU_ASSERT(slice_is(c.channels[3], "caf\xc3\xa9:\""));
    CU_ASSERT_EQUAL(c.max_rate, 5);
    CU_ASSERT_EQUAL(c.mode, MODE_LATEST);
    CU_ASSERT_EQUAL(c.snapshot, TRI_NO);
    CU_ASSERT_EQUAL(c.delta, TRI_YES);
    CU_ASSERT_EQUAL(c.since_count, 1);
    CU_ASSERT_STRING_EQUAL(c.id, "7");
    command_fini(&c);
}

static void test_absent_options_are_unset(void)
{
    struct command c;
    CU_ASSERT_EQUAL_FATAL(parse("{\"action\":\"subscribe\",\"channels\":[\"a:b\"]}", &c), ERR_NONE);
    CU_ASSERT_EQUAL(c.mode, MODE_UNSET);
    CU_ASSERT_EQUAL(c.max_rate, -1);
    CU_ASSERT_EQUAL(c.snapshot, TRI_UNSET);
    CU_ASSERT_EQUAL(c.delta, TRI_UNSET);
    CU_ASSERT_EQUAL(c.echo.len, 0);
    CU_ASSERT_EQUAL(c.since_count, 0);
    CU_ASSERT_PTR_NULL(command_find_since(&c, slice_str("a:b")));
    command_fini(&c);
}

static void check_id(const char *id, const char *want)
{
    char text[1024];
    struct command c;
    snprintf(text, sizeof text, "{\"id\":%s,\"action\":\"list\"}", id);
    enum error_code code = parse(text, &c);
    CU_ASSERT_EQUAL(code, want != NULL ? ERR_NONE : ERR_BAD_COMMAND);
    CU_ASSERT_STRING_EQUAL(c.id, want != NULL ? want : "");
    command_fini(&c);
}

static void test_integer_ids_keep_their_digits(void)
{
    check_id("0", "0");
    check_id("-0", "-0");
    check_id("-12", "-12");
    check_id("9007199254740991", "9007199254740991");
    check_id("9007199254740993", "9007199254740993");
    check_id("-18446744073709551617", "-18446744073709551617");
    char longest[COMMAND_ID_MAX + 2];
    memset(longest, '7', sizeof longest);
    longest[COMMAND_ID_MAX + 1] = '\0';
    check_id(longest, NULL);
    longest[COMMAND_ID_MAX] = '\0';
    check_id(longest, longest);
    check_id("1.0", NULL);
    check_id("1.5", NULL);
    check_id("1e3", NULL);
    check_id("12345678901234567890e1", NULL);
    check_id("null", NULL);
    check_id("true", NULL);
    check_id("[]", NULL);
    check_id("{}", NULL);
}

static void test_string_ids(void)
{
    char id[2 + 6 * COMMAND_ID_MAX + 7], want[sizeof id];
    check_id("\"\"", "\"\"");
    check_id("\"a-1\"", "\"a-1\"");
    check_id("\"\\u0041\\/\\\"\\n\"", "\"A/\\\"\\n\"");
    check_id("\"a\\u0000b\"", NULL);
    check_id("\"\\\\u0000\"", "\"\\\\u0000\""); /* an escaped backslash, not an escaped NUL */
    check_id("\"\\ud800\"", NULL);

    /* 64 bytes of what grows most, and one more. */
    size_t at = 0;
    id[at++] = '"';
    for (int i = 0; i < COMMAND_ID_MAX; i++, at += 6)
        memcpy(id + at, "\\u0001", 6);
    memcpy(id + at, "\"", 2);
    memcpy(want, id, sizeof want);
    check_id(id, want);
    memcpy(id + at, "x\"", 3);
    check_id(id, NULL);
}

static void test_errors_carry_the_id(void)
{
    struct command c;
    CU_ASSERT_EQUAL(parse("{\"action\":\"dance\",\"id\":5}", &c), ERR_UNKNOWN_ACTION);
    CU_ASSERT_STRING_EQUAL(c.id, "5");
    command_fini(&c);
    CU_ASSERT_EQUAL(parse("{\"id\":\"x\"}", &c), ERR_BAD_COMMAND);
    CU_ASSERT_STRING_EQUAL(c.id, "\"x\"");
    command_fini(&c);
    CU_ASSERT_EQUAL(parse("{\"action\":\"subscribe\",\"channels\":[1],\"id\":6}", &c),
                    ERR_BAD_COMMAND);
    CU_ASSERT_STRING_EQUAL(c.id, "6");
    CU_ASSERT_PTR_NULL(c.channels);
    CU_ASSERT_EQUAL(c.channel_count, 0);
    command_fini(&c);
}

static void test_what_is_not_json(void)
{
    static const char *const texts[] = {
        "",
        "ping",
        "{",
        "{\"action\":\"list\"} x",
        "{\"action\":\"list\",}",
        "{'action':'list'}",
        "{\"action\":\"list\"}{\"action\":\"list\"}",
        "{\"action\":\"list\",\"id\":01}",
        "\xef\xbb\xbf{\"action\":\"list\"}",
        NULL,
    };
    check_all(texts, ERR_BAD_JSON);
}

static void test_what_is_no_command(void)
{
    static const char *const texts[] = {
        "[]",
        "1",
        "null",
        "\"ping\"",
        "[{\"action\":\"list\"}]",
        "{}",
        "{\"Action\":\"list\"}",
        "{\"data\":{\"action\":\"list\"}}",
        "{\"action\":null}",
        "{\"action\":1}",
        "{\"action\":[\"list\"]}",
        NULL,
    };
    check_all(texts, ERR_BAD_COMMAND);
}

static void test_unknown_actions(void)
{
    static const char *const texts[] = {
        "{\"action\":\"\"}",
        "{\"action\":\"List\"}",
        "{\"action\":\"lists\"}",
        "{\"action\":\"list\\u0000\"}",
        NULL,
    };
    check_all(texts, ERR_UNKNOWN_ACTION);
}

static void test_members_of_the_wrong_type(void)
{
#define SUBSCRIBE "{\"action\":\"subscribe\","
    static const char *const texts[] = {
        SUBSCRIBE "\"x\":1}",
        SUBSCRIBE "\"channels\":[]}",
        SUBSCRIBE "\"channels\":null}",
        SUBSCRIBE "\"channels\":\"a:b\"}",
        SUBSCRIBE "\"channels\":{\"a\":\"a:b\"}}",
        SUBSCRIBE "\"channels\":[\"a:b\",1]}",
        SUBSCRIBE "\"channels\":[[\"a:b\"]]}",
        SUBSCRIBE "\"channels\":[\"a:b\\u0000\"]}",
        SUBSCRIBE "\"channels\":[\"a:\\ud800\"]}",
        SUBSCRIBE "\"channels\":[\"a:b\"],\"mode\":\"\"}",
        SUBSCRIBE "\"channels\":[\"a:b\"],\"mode\":\"Latest\"}",
        SUBSCRIBE "\"channels\":[\"a:b\"],\"mode\":1}",
        SUBSCRIBE "\"channels\":[\"a:b\"],\"mode\":null}",
        SUBSCRIBE "\"channels\":[\"a:b\"],\"max_rate\":-1}",
        SUBSCRIBE "\"channels\":[\"a:b\"],\"max_rate\":1.5}",
        SUBSCRIBE "\"channels\":[\"a:b\"],\"max_rate\":1e2}",
        SUBSCRIBE "\"channels\":[\"a:b\"],\"max_rate\":\"1\"}",
        SUBSCRIBE "\"channels\":[\"a:b\"],\"max_rate\":99999999999999999999}",
        SUBSCRIBE "\"channels\":[\"a:b\"],\"snapshot\":1}",
        SUBSCRIBE "\"channels\":[\"a:b\"],\"snapshot\":\"true\"}",
        SUBSCRIBE "\"channels\":[\"a:b\"],\"snapshot\":null}",
        SUBSCRIBE "\"channels\":[\"a:b\"],\"delta\":0}",
        "{\"action\":\"unsubscribe\"}",
        "{\"action\":\"unsubscribe\",\"channels\":[]}",
        "{\"action\":\"snapshot\",\"channel\":\"a:b\"}",
        "{\"action\":\"publish\"}",
        "{\"action\":\"publish\",\"channel\":\"a:b\"}",
        "{\"action\":\"publish\",\"data\":1}",
        "{\"action\":\"publish\",\"channel\":1,\"data\":1}",
        "{\"action\":\"publish\",\"channel\":[\"a:b\"],\"data\":1}",
        "{\"action\":\"publish\",\"channel\":\"a:b\\u0000\",\"data\":1}",
        "{\"action\":\"publish\",\"channels\":[\"a:b\"],\"data\":1}",
        NULL,
    };
    check_all(texts, ERR_BAD_COMMAND);
#undef SUBSCRIBE
}

/* A member that the action does not take may be anything. */
static void test_members_of_other_actions_are_ignored(void)
{
    static const char *const texts[] = {
        "{\"action\":\"list\",\"channels\":1,\"mode\":2,\"max_rate\":{},\"snapshot\":[]}",
        "{\"action\":\"unsubscribe\",\"channels\":[\"a:b\"],\"mode\":\"sideways\"}",
        "{\"action\":\"ping\",\"channels\":[]}",
        "{\"action\":\"snapshot\",\"channels\":[\"a:b\"],\"since\":1,\"data\":null}",
        "{\"action\":\"list\",\"since\":[]}",
        "{\"action\":\"list\",\"note\":\"a\\u0000b\"}",
        "{\"action\":\"list\",\"actio\\u0000n\":1,\"\":2}",
        NULL,
    };
    check_all(texts, ERR_NONE);
}

static void test_the_limits_of_max_rate_and_mode(void)
{
    struct command c;
    CU_ASSERT_EQUAL_FATAL(
        parse("{\"action\":\"subscribe\",\"channels\":[\"a:b\"],\"max_rate\":0,\"mode\":\"all\","
              "\"snapshot\":true,\"delta\":false}",
              &c),
        ERR_NONE);
    CU_ASSERT_EQUAL(c.max_rate, 0);
    CU_ASSERT_EQUAL(c.mode, MODE_ALL);
    CU_ASSERT_EQUAL(c.snapshot, TRI_YES);
    CU_ASSERT_EQUAL(c.delta, TRI_NO);
    command_fini(&c);
    CU_ASSERT_STRING_EQUAL(command_mode_name(MODE_LATEST), "latest");
    CU_ASSERT_STRING_EQUAL(command_mode_name(MODE_ALL), "all");
}

/* Longer than what cJSON reads as one number. */
#define TEN_DIGITS  "1234567890"
#define LONG_NUMBER TEN_DIGITS TEN_DIGITS TEN_DIGITS TEN_DIGITS TEN_DIGITS TEN_DIGITS TEN_DIGITS

static void test_echo_is_returned_byte_for_byte(void)
{
    static const char *const echoes[] = {
        "null",
        "0",
        "1.50",
        "1E400",
        LONG_NUMBER,
        "\"a\\u0000\\ud800\\/b\"",
        "{ \"a\" : [ 1.0 , {} ] , \"a\":2 }",
    };
    for (size_t i = 0; i < sizeof echoes / sizeof echoes[0]; i++) {
        char text[256];
        struct command c;
        snprintf(text, sizeof text, "{\"action\":\"ping\",\"echo\" : %s ,\"id\":1}", echoes[i]);
        CU_ASSERT_EQUAL_FATAL(parse(text, &c), ERR_NONE);
        CU_ASSERT(slice_is(c.echo, echoes[i]));
        command_fini(&c);
    }
}

static void test_keys_may_be_escaped_and_the_last_counts(void)
{
    struct command c;
    CU_ASSERT_EQUAL_FATAL(parse("{\"\\u0061ction\":\"ping\",\"echo\":1,\"ec\\u0068o\":2}", &c),
                          ERR_NONE);
    CU_ASSERT_EQUAL(c.kind, COMMAND_PING);
    CU_ASSERT(slice_is(c.echo, "2"));
    command_fini(&c);
}

static void test_no_command_cut_short_is_json(void)
{
    static const char text[] = "{\"action\":\"subscribe\",\"channels\":[\"a:b\"],\"id\":1}";
    for (size_t len = 0; len < sizeof text - 1; len++) {
        struct command c;
        const char *why;
        CU_ASSERT_EQUAL(command_parse(slice_of(text, len), &c, &why), ERR_BAD_JSON);
        command_fini(&c);
    }
}

/* --- since ----------------------------------------------------------------------------------- */

static enum error_code parse_since(const char *since, struct command *c)
{
    struct buf text = {0};
    buf_printf(&text, "{\"action\":\"subscribe\",\"channels\":[\"a:b\"],\"since\":%s}", since);
    buf_append(&text, "", 1);
    enum error_code code = parse(text.data, c);
    buf_fini(&text);
    return code;
}

static void check_position(const struct command *c, const char *channel, const char *epoch,
                           uint64_t seq)
{
    const struct command_since *position = command_find_since(c, slice_str(channel));
    CU_ASSERT_PTR_NOT_NULL_FATAL(position);
    CU_ASSERT(slice_is(position->channel, channel));
    CU_ASSERT(slice_is(position->epoch, epoch));
    CU_ASSERT_EQUAL(position->seq, seq);
}

static void test_positions(void)
{
    struct command c;
    CU_ASSERT_EQUAL_FATAL(
        parse_since(
            "{ \"b:long\" : { \"epoch\" : \"c91e\" , \"seq\" : 815 },"
            "\"b\":{\"seq\":0,\"node\":[{}],\"epoch\":\"0123456789abcdefABCDEF-_01234567\"},"
            "\"\":{\"epoch\":\"e\",\"seq\":9007199254740991},"
            "\"b:\\u006cong\\\"\":{\"\\u0065poch\":\"\\u0063\",\"seq\":3},"
            "\"a:b\":{\"epoch\":\"x\",\"epoch\":\"y\",\"seq\":1,\"seq\":2}}",
            &c),
        ERR_NONE);
    CU_ASSERT_EQUAL(c.since_count, 5);
    check_position(&c, "b:long", "c91e", 815);
    check_position(&c, "b", "0123456789abcdefABCDEF-_01234567", 0);
    check_position(&c, "", "e", 9007199254740991);
    check_position(&c, "b:long\"", "c", 3);
    check_position(&c, "a:b", "y", 2);
    CU_ASSERT_PTR_NULL(command_find_since(&c, slice_str("b:lon")));
    CU_ASSERT_PTR_NULL(command_find_since(&c, slice_str("b:longer")));
    CU_ASSERT_PTR_NULL(command_find_since(&c, slice_str("z")));
    command_fini(&c);
    CU_ASSERT_EQUAL(parse_since("{}", &c), ERR_NONE);
    CU_ASSERT_EQUAL(c.since_count, 0);
    command_fini(&c);
}

/* Enough of them that sorting does not keep their order by itself. */
static void test_of_a_channel_given_twice_the_last_counts(void)
{
    enum { CHANNELS = 2000, TIMES = 3 };
    struct buf since = {0};
    struct command c;
    for (int i = 0; i < CHANNELS * TIMES; i++)
        buf_printf(&since, "%s\"%s:%d\":{\"epoch\":\"e\",\"seq\":%d}", i > 0 ? "," : "{",
                   i % 2 == 0 ? "q" : "\\u0071", i * 7 % CHANNELS, i);
    buf_append(&since, "}", 2);
    CU_ASSERT_EQUAL_FATAL(parse_since(since.data, &c), ERR_NONE);
    CU_ASSERT_EQUAL(c.since_count, CHANNELS);
    for (int i = CHANNELS * (TIMES - 1); i < CHANNELS * TIMES; i++) {
        char channel[16];
        snprintf(channel, sizeof channel, "q:%d", i * 7 % CHANNELS);
        check_position(&c, channel, "e", (uint64_t)i);
    }
    command_fini(&c);
    buf_fini(&since);
}

static void test_what_is_no_position(void)
{
    static const char *const texts[] = {
        "null",
        "1",
        "[]",
        "\"c91e:1\"",
        "{\"a:b\":null}",
        "{\"a:b\":1}",
        "{\"a:b\":[\"e\",1]}",
        "{\"a:b\":{}}",
        "{\"a:b\":{\"epoch\":\"e\"}}",
        "{\"a:b\":{\"seq\":1}}",
        "{\"a:b\":{\"epoch\":1,\"seq\":1}}",
        "{\"a:b\":{\"epoch\":null,\"seq\":1}}",
        "{\"a:b\":{\"epoch\":\"\",\"seq\":1}}",
        "{\"a:b\":{\"epoch\":\"e f\",\"seq\":1}}",
        "{\"a:b\":{\"epoch\":\"e\\u0000\",\"seq\":1}}",
        "{\"a:b\":{\"epoch\":\"\xc3\xa9\",\"seq\":1}}",
        "{\"a:b\":{\"epoch\":\"0123456789abcdefABCDEF-_012345678\",\"seq\":1}}",
        "{\"a:b\":{\"epoch\":\"e\",\"seq\":\"1\"}}",
        "{\"a:b\":{\"epoch\":\"e\",\"seq\":-1}}",
        "{\"a:b\":{\"epoch\":\"e\",\"seq\":1.5}}",
        "{\"a:b\":{\"epoch\":\"e\",\"seq\":1e3}}",
        "{\"a:b\":{\"epoch\":\"e\",\"seq\":null}}",
        "{\"a:b\":{\"epoch\":\"e\",\"seq\":9007199254740992}}",
        "{\"a:b\":{\"epoch\":\"e\",\"seq\":99999999999999999999}}",
        "{\"a:b\\u0000\":{\"epoch\":\"e\",\"seq\":1}}",
        "{\"c:d\":{\"epoch\":\"e\",\"seq\":1},\"a:b\":{\"epoch\":\"e\",\"seq\":true}}",
        NULL,
    };
    for (size_t i = 0; texts[i] != NULL; i++) {
        struct command c;
        enum error_code code = parse_since(texts[i], &c);
        if (code != ERR_BAD_COMMAND)
            printf("accepted: %s\n", texts[i]);
        CU_ASSERT_EQUAL(code, ERR_BAD_COMMAND);
        CU_ASSERT_EQUAL(c.since_count, 0);
        CU_ASSERT_PTR_NULL(c.since);
        command_fini(&c);
    }
}

/* --- publish --------------------------------------------------------------------------------- */

static void test_data_is_published_byte_for_byte(void)
{
    static const char *const values[] = {
        "null", "1.50", "\"a\\u0000\\/b\"", "{ \"a\" : [ 1.0 , {} ] , \"a\":2 }", LONG_NUMBER,
    };
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        char text[256];
        struct command c;
        snprintf(text, sizeof text,
                 "{\"data\": %s ,\"action\":\"publish\",\"channel\":\"ch\\u0061t:\\\"x\"}",
                 values[i]);
        CU_ASSERT_EQUAL_FATAL(parse(text, &c), ERR_NONE);
        CU_ASSERT(slice_is(c.data, values[i]));
        CU_ASSERT(slice_is(c.channel, "chat:\"x"));
        CU_ASSERT_EQUAL(c.channel_count, 0);
        command_fini(&c);
    }
}

static const struct unit_test tests[] = {
    {"every action", test_every_action},
    {"resume", test_resume},
    {"subscribe with everything", test_subscribe_with_everything},
    {"absent options are unset", test_absent_options_are_unset},
    {"integer ids keep their digits", test_integer_ids_keep_their_digits},
    {"string ids", test_string_ids},
    {"errors carry the id", test_errors_carry_the_id},
    {"what is not JSON", test_what_is_not_json},
    {"what is no command", test_what_is_no_command},
    {"unknown actions", test_unknown_actions},
    {"members of the wrong type", test_members_of_the_wrong_type},
    {"members of other actions are ignored", test_members_of_other_actions_are_ignored},
    {"the limits of max_rate and mode", test_the_limits_of_max_rate_and_mode},
    {"echo is returned byte for byte", test_echo_is_returned_byte_for_byte},
    {"keys may be escaped and the last counts", test_keys_may_be_escaped_and_the_last_counts},
    {"positions", test_positions},
    {"of a channel given twice the last counts", test_of_a_channel_given_twice_the_last_counts},
    {"what is no position", test_what_is_no_position},
    {"data is published byte for byte", test_data_is_published_byte_for_byte},
    {"no command cut short is JSON", test_no_command_cut_short_is_json},
    {NULL, NULL},
};
const struct unit_suite suite_command = {"command", tests};
