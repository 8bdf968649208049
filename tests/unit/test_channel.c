/*
 * test_channel.c - the grammar of channel names.
 */
#include "protocol/channel.h"

#include "unit.h"

static bool is_valid(const char *name)
{
    return channel_is_valid(slice_str(name));
}

static void test_names_of_the_contract(void)
{
    static const char *const names[] = {
        "quote:AAPL", "trade:AAPL", "chat:lobby",
        "user:42",    "alert:all",  "a:b",
        "a:b:c",      "a::",        "q-1_x.y/z:!#$%&'()+-./09;<=>@AZ^_`az|~"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        CU_ASSERT(is_valid(names[i]));
}

static void test_both_parts_must_be_there(void)
{
    static const char *const names[] = {"", ":", "a", "a:", ":b", "::b"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        CU_ASSERT_FALSE(is_valid(names[i]));
}

static void test_every_byte(void)
{
    static const char refused[] = " ,\"\\{}*?[]";
    for (int c = 0; c < 256; c++) {
        char name[] = {'a', ':', (char)c, 'z'};
        bool want = c > 0x20 && c < 0x7f && memchr(refused, c, sizeof refused - 1) == NULL;
        CU_ASSERT_EQUAL(channel_is_valid(slice_of(name, sizeof name)), want);
    }
}

static void test_length(void)
{
    char name[CHANNEL_BYTES_MAX + 1];
    memset(name, 'x', sizeof name);
    name[1] = ':';
    CU_ASSERT(channel_is_valid(slice_of(name, CHANNEL_BYTES_MAX)));
    CU_ASSERT_FALSE(channel_is_valid(slice_of(name, CHANNEL_BYTES_MAX + 1)));
}

static void test_namespace_ends_at_the_first_colon(void)
{
    CU_ASSERT(slice_is(channel_namespace(slice_str("quote:AAPL")), "quote"));
    CU_ASSERT(slice_is(channel_namespace(slice_str("a:b:c")), "a"));
}

static const struct unit_test tests[] = {
    {"names of the contract", test_names_of_the_contract},
    {"both parts must be there", test_both_parts_must_be_there},
    {"every byte", test_every_byte},
    {"length", test_length},
    {"namespace ends at the first colon", test_namespace_ends_at_the_first_colon},
    {NULL, NULL},
};
const struct unit_suite suite_channel = {"channel", tests};
