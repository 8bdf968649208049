/*
 * test_registry_entry.c - a registry entry as JSON, whoever wrote it, and rates of counters.
 */
#include "unit.h"

#include "protocol/json_text.h"
#include "protocol/registry_entry.h"

#include <string.h>

struct given {
    enum registry_field field;
    const char *text;
};

/* The entry of node n1 with these fields, up to the first without a text; NULL: none is left. */
static const char *entry_of(const struct given *given, size_t count)
{
    static char text[4096];
    struct slice values[REGISTRY_FIELD_COUNT] = {{0}};
    struct buf out = {0};
    for (size_t i = 0; i < count; i++)
        values[given[i].field] = slice_str(given[i].text);
    bool is_entry = registry_entry_json(slice_str("n1"), values, &out);
    CU_ASSERT_EQUAL(is_entry, out.len > 0);
    CU_ASSERT(!is_entry || json_text_is_valid(buf_slice(&out)));
    CU_ASSERT_FATAL(out.len < sizeof text);
    memcpy(text, out.len > 0 ? out.data : "", out.len);
    text[out.len] = '\0';
    buf_fini(&out);
    return is_entry ? text : NULL;
}

#define ENTRY(...)                                \
    entry_of((const struct given[]){__VA_ARGS__}, \
             sizeof((const struct given[]){__VA_ARGS__}) / sizeof(struct given))

static void test_numbers_are_numbers(void)
{
    CU_ASSERT_STRING_EQUAL(
        ENTRY({REGISTRY_STATE, "ready"}, {REGISTRY_CLIENTS, "0"},
              {REGISTRY_STARTED, "1780000000123"}),
        "{\"id\":\"n1\",\"started\":1780000000123,\"state\":\"ready\",\"clients\":0}");
}

static void test_text_is_escaped(void)
{
    CU_ASSERT_STRING_EQUAL(ENTRY({REGISTRY_ADDRESS, "a\"b\\\n"}),
                           "{\"id\":\"n1\",\"address\":\"a\\\"b\\\\\\n\"}");
}

static void test_what_is_not_ours_is_left_out(void)
{
    static const char *const no_numbers[] = {
        "",    "-1",  "1.5",  "1e3", "0x10", " 1",
        "1 ",  "007", "12a",  "inf", "nan",  "1000000000000000",
        "[1]", "\"",  "null", "+1",  "1,2",  "1}"};
    char longest[REGISTRY_VALUE_MAX + 2];
    for (size_t i = 0; i < sizeof no_numbers / sizeof *no_numbers; i++)
        CU_ASSERT_STRING_EQUAL(
            ENTRY({REGISTRY_CLIENTS, no_numbers[i]}, {REGISTRY_CHANNELS, "999999999999999"}),
            "{\"id\":\"n1\",\"channels\":999999999999999}");
    CU_ASSERT_STRING_EQUAL(ENTRY({REGISTRY_STATE, "\xff\xfe"}, {REGISTRY_PID, "1"}),
                           "{\"id\":\"n1\",\"pid\":1}");
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    CU_ASSERT_PTR_NULL(ENTRY({REGISTRY_STATE, longest}));
    longest[REGISTRY_VALUE_MAX] = '\0';
    CU_ASSERT_PTR_NOT_NULL(ENTRY({REGISTRY_STATE, longest}));
}

static void test_an_id_alone_is_no_entry(void)
{
    CU_ASSERT_PTR_NULL(ENTRY({REGISTRY_ID, "n1"}));
    CU_ASSERT_PTR_NULL(ENTRY({REGISTRY_CLIENTS, "many"}));
}

static void test_the_id_is_the_keys(void)
{
    CU_ASSERT_STRING_EQUAL(ENTRY({REGISTRY_ID, "n2"}, {REGISTRY_FEED, "ok"}),
                           "{\"id\":\"n1\",\"feed\":\"ok\"}");
}

static void test_nothing_is_appended_to_what_was_there(void)
{
    struct slice values[REGISTRY_FIELD_COUNT] = {{0}};
    struct buf out = {0};
    buf_append_str(&out, "before");
    CU_ASSERT_FALSE(registry_entry_json(slice_str("n1"), values, &out));
    UNIT_ASSERT_BYTES(out.data, out.len, "before");
    buf_fini(&out);
}

static void test_ids(void)
{
    char longest[REGISTRY_ID_MAX + 2];
    memset(longest, 'a', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    CU_ASSERT_TRUE(registry_id_is_valid(slice_str("host-1.example_2")));
    CU_ASSERT_TRUE(registry_id_is_valid(slice_of(longest, REGISTRY_ID_MAX)));
    CU_ASSERT_FALSE(registry_id_is_valid(slice_of(longest, REGISTRY_ID_MAX + 1)));
    static const char *const bad[] = {"",    " ",        "a b", "a\n", "a\"", "a:b",
                                      "{a}", "\xc3\xa9", "a/b", "-a",  ".a"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CU_ASSERT_FALSE(registry_id_is_valid(slice_str(bad[i])));
    CU_ASSERT_FALSE(registry_id_is_valid(slice_of("a\0b", 3)));
}

static void test_rates(void)
{
    struct registry_rate r = {0};
    CU_ASSERT_EQUAL(registry_rate_read(&r, 5000, 10000), 0); /* nothing to compare with */
    CU_ASSERT_EQUAL(registry_rate_read(&r, 5100, 12000), 50);
    CU_ASSERT_EQUAL(registry_rate_read(&r, 9999, 12100), 50); /* too soon */
    CU_ASSERT_EQUAL(registry_rate_read(&r, 5103, 14000), 2);  /* 1.5, rounded */
    CU_ASSERT_EQUAL(registry_rate_read(&r, 5103, 16000), 0);
    CU_ASSERT_EQUAL(registry_rate_read(&r, 10, 18000), 0); /* went back */
    CU_ASSERT_EQUAL(registry_rate_read(&r, 2010, 20000), 1000);
}

static const struct unit_test tests[] = {
    {"numbers_are_numbers", test_numbers_are_numbers},
    {"text_is_escaped", test_text_is_escaped},
    {"what_is_not_ours_is_left_out", test_what_is_not_ours_is_left_out},
    {"an_id_alone_is_no_entry", test_an_id_alone_is_no_entry},
    {"the_id_is_the_keys", test_the_id_is_the_keys},
    {"nothing_is_appended_to_what_was_there", test_nothing_is_appended_to_what_was_there},
    {"ids", test_ids},
    {"rates", test_rates},
    {0},
};

const struct unit_suite suite_registry_entry = {"registry_entry", tests};
