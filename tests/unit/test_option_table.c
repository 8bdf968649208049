/*
 * test_option_table.c - what single options refuse, beyond the bounds of their rows.
 */
#include "unit.h"

#include "protocol/option_table.h"

static const char *check(const char *section, const char *key, const char *value)
{
    return option_find(slice_str(section), slice_str(key))->check(value);
}

/* What no browser sends as Origin would let nobody in, and nobody would know why. */
static void test_origins(void)
{
    static const char *const good[] = {"",
                                       "*",
                                       "null",
                                       "https://a.example",
                                       "http://b:81 \t https://a.example ",
                                       "http://[::1]:8080",
                                       "app://x null"};
    static const char *const bad[] = {
        "a.example",  "http://a/",         "http://a/b", "http://*.a",     "http://",
        "://a",       "http://a,http://b", "http://a b", "http://u@a",     "http://a?b",
        "'http://a'", "\"http://a\"",      "http://a;",  "http://a http:/"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        CU_ASSERT_PTR_NULL(check("listen", "origins", good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CU_ASSERT_PTR_NOT_NULL(check("listen", "origins", bad[i]));
}

/* Others are told it, and cannot ask which port 0 came to. */
static void test_advertise(void)
{
    CU_ASSERT_PTR_NULL(check("node", "advertise", ""));
    CU_ASSERT_PTR_NULL(check("node", "advertise", "quotes.example.com:443"));
    CU_ASSERT_PTR_NULL(check("listen", "address", "127.0.0.1:0"));
    CU_ASSERT_PTR_NOT_NULL(check("node", "advertise", "quotes.example.com:0"));
    CU_ASSERT_PTR_NOT_NULL(check("node", "advertise", "quotes.example.com"));
}

static const struct unit_test tests[] = {
    {"origins", test_origins},
    {"advertise", test_advertise},
    {0},
};

const struct unit_suite suite_option_table = {"option_table", tests};
