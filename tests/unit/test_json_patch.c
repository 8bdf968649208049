/*
 * test_json_patch.c - patches between two objects, byte for byte, and what is refused.
 */
#include "protocol/json_patch.h"

#include "unit.h"

#include <stdio.h>
#include <stdlib.h>

struct patch_case {
    const char *before;
    const char *after;
    const char *patch; /* NULL: refused */
};

/* A copy of exactly the right size, so that the address sanitizer sees a read past the end. */
static struct slice copy_of(const char *text)
{
    size_t len = strlen(text);
    char *copy = malloc(len + 1);
    memcpy(copy + 1, text, len);
    return slice_of(copy + 1, len);
}

static void check(const struct patch_case *c)
{
    struct slice before = copy_of(c->before), after = copy_of(c->after);
    struct buf out = {0};
    buf_append_str(&out, "kept");
    bool made = json_patch_make(&out, before, after);
    const char *want = c->patch != NULL ? c->patch : "";
    struct slice got = slice_of(out.data + 4, out.len - 4);
    if (made != (c->patch != NULL) || !slice_is(got, want))
        printf("%s -> %s: wanted %s, got %.*s\n", c->before, c->after, want, (int)got.len, got.ptr);
    CU_ASSERT_EQUAL(made, c->patch != NULL);
    CU_ASSERT(slice_is(got, want));
    CU_ASSERT(memcmp(out.data, "kept", 4) == 0);
    buf_fini(&out);
    free((char *)before.ptr - 1);
    free((char *)after.ptr - 1);
}

static void check_all(const struct patch_case *cases, size_t count)
{
    for (size_t i = 0; i < count; i++)
        check(&cases[i]);
}

static void test_what_changed(void)
{
    static const struct patch_case cases[] = {
        {"{\"a\":1,\"b\":2}", "{\"a\":1,\"b\":3}", "{\"b\":3}"},
        {"{\"a\":1,\"b\":2}", "{\"a\":2,\"b\":2}", "{\"a\":2}"},
        {"{\"a\":1,\"b\":2}", "{\"a\":1,\"b\":2}", "{}"},
        {"{\"a\":1}", "{\"a\":1,\"b\":\"x\"}", "{\"b\":\"x\"}"},
        {"{\"b\":\"x\"}", "{\"a\":1,\"b\":\"x\"}", "{\"a\":1}"},
        {"{\"a\":null,\"b\":2}", "{\"a\":1,\"b\":2}", "{\"a\":1}"},
        {"{\"a\":[null],\"b\":2}", "{\"a\":[null],\"b\":{\"c\":null}}", "{\"b\":{\"c\":null}}"},
        /* Only the top level is compared; below it a value is whole. */
        {"{\"a\":{\"x\":1,\"y\":2},\"b\":0}", "{\"a\":{\"x\":1,\"y\":3},\"b\":0}",
         "{\"a\":{\"x\":1,\"y\":3}}"},
        {"{\"\":1,\"a\":1}", "{\"\":2,\"a\":1}", "{\"\":2}"},
        {"{\"caf\xc3\xa9\":1,\"a\":1}", "{\"caf\xc3\xa9\":2,\"a\":1}", "{\"caf\xc3\xa9\":2}"},
    };
    check_all(cases, sizeof cases / sizeof cases[0]);
}

static void test_what_is_gone(void)
{
    static const struct patch_case cases[] = {
        {"{\"a\":1,\"b\":2}", "{\"b\":\"much longer\"}", NULL},
        {"{\"a\":1,\"b\":\"long enough\"}", "{\"b\":\"long enough\"}", "{\"a\":null}"},
        {"{\"a\":null,\"b\":\"long enough\"}", "{\"b\":\"long enough\"}", "{\"a\":null}"},
        {"{\"b\":\"long enough\",\"a\":1,\"z\":2}", "{\"b\":\"long enough...\"}", NULL},
        {"{\"y\":1,\"b\":\"a value that is long\",\"a\":1}",
         "{\"b\":\"a value that is long\",\"c\":4}", "{\"c\":4,\"y\":null,\"a\":null}"},
        {"{\"a\":1}", "{}", NULL},
    };
    check_all(cases, sizeof cases / sizeof cases[0]);
}

static void test_bytes_stay_as_written(void)
{
    static const struct patch_case cases[] = {
        {"{\"p\":1.0,\"q\":\"unchanged\"}", "{\"p\":1.00,\"q\":\"unchanged\"}", "{\"p\":1.00}"},
        {"{\"p\":1,\"q\":\"unchanged\"}", "{\"p\":1E400,\"q\":\"unchanged\"}", "{\"p\":1E400}"},
        {"{\"p\":\"a\",\"q\":\"unchanged\"}", "{\"p\":\"\\u0061\",\"q\":\"unchanged\"}",
         "{\"p\":\"\\u0061\"}"},
        {"{\"p\":[1,2],\"q\":\"unchanged\"}", "{\"p\":[1, 2],\"q\":\"unchanged\"}",
         "{\"p\":[1, 2]}"},
        {" \n{ \"p\" : 1 , \"q\" : 2 } ", "\t{\"p\" :1, \"q\": 3}\r\n", "{\"q\":3}"},
        {"{\"p\":1}", "{ }", NULL},
        {"{}", "{ }", "{}"},
    };
    check_all(cases, sizeof cases / sizeof cases[0]);
}

static void test_the_order_may_differ(void)
{
    static const struct patch_case cases[] = {
        {"{\"a\":1,\"b\":2,\"c\":3}", "{\"c\":3,\"b\":2,\"a\":1}", "{}"},
        {"{\"a\":1,\"b\":2,\"c\":3}", "{\"c\":4,\"a\":5,\"b\":2}", "{\"c\":4,\"a\":5}"},
        {"{\"a\":1,\"b\":2,\"c\":3,\"d\":\"some text\"}",
         "{\"d\":\"some text\",\"e\":9,\"a\":1,\"c\":3}", "{\"e\":9,\"b\":null}"},
    };
    check_all(cases, sizeof cases / sizeof cases[0]);
}

static void test_what_is_refused(void)
{
    static const struct patch_case cases[] = {
        {"", "{\"a\":1}", NULL},
        {"{\"a\":1}", "", NULL},
        {"1", "{\"a\":1}", NULL},
        {"{\"a\":1}", "1", NULL},
        {"[]", "{\"a\":1}", NULL},
        {"{\"a\":1}", "[{\"a\":1}]", NULL},
        {"\"{}\"", "{\"a\":1}", NULL},
        /* A name twice: in either, changed or not, known to the other or not. */
        {"{\"a\":1,\"a\":1,\"b\":2}", "{\"a\":1,\"b\":2}", NULL},
        {"{\"a\":1,\"b\":2}", "{\"a\":1,\"b\":2,\"a\":1}", NULL},
        {"{\"a\":1,\"a\":1,\"b\":2}", "{\"a\":1,\"a\":1,\"b\":2}", NULL},
        {"{\"x\":1,\"x\":1,\"b\":\"long enough\"}", "{\"b\":\"long enough\"}", NULL},
        {"{\"b\":\"long enough\",\"c\":1,\"b\":2}", "{\"b\":\"long enough\",\"c\":1}", NULL},
        /* A name that could be written in another way. */
        {"{\"\\u0061\":1,\"b\":\"a value that is long\"}",
         "{\"a\":1,\"b\":\"a value that is long\"}", NULL},
        {"{\"a\":1,\"b\":\"a value that is long\"}",
         "{\"\\u0061\":1,\"b\":\"a value that is long\"}", NULL},
        {"{\"\\n\":1,\"b\":\"a value that is long\"}", "{\"b\":\"a value that is long\"}", NULL},
        {"{\"\\n\":1,\"b\":2}", "{\"\\n\":1,\"b\":2}", NULL},
        /* Null would read as removed. */
        {"{\"a\":1,\"b\":2,\"c\":3}", "{\"a\":1,\"b\":null,\"c\":3}", NULL},
        {"{\"a\":null,\"b\":2}", "{\"a\":null,\"b\":2}", NULL},
        /* Not shorter. */
        {"{}", "{}", NULL},
        {"{\"a\":1}", "{\"a\":2}", NULL},
        {"{\"a\":1}", "{\"b\":2}", NULL},
        {"{\"abcd\":1,\"b\":\"12345678\"}", "{\"b\":\"12345678\"}", "{\"abcd\":null}"},
        {"{\"abcde\":1,\"b\":\"12345678\"}", "{\"b\":\"12345678\"}", "{\"abcde\":null}"},
        {"{\"abcdef\":1,\"b\":\"12345678\"}", "{\"b\":\"12345678\"}", "{\"abcdef\":null}"},
        {"{\"abcdefg\":1,\"b\":\"12345678\"}", "{\"b\":\"12345678\"}", NULL},
    };
    check_all(cases, sizeof cases / sizeof cases[0]);
}

/* {"k0":0,…}, from one number to another, last to first if so asked. */
static void write_object(struct buf *out, int from, int to, bool backwards)
{
    buf_append_str(out, "{");
    for (int i = from; i < to; i++) {
        int k = backwards ? from + to - 1 - i : i;
        buf_printf(out, "%s\"k%d\":%d", i > from ? "," : "", k, k);
    }
    buf_append_str(out, "}");
}

static bool patch_of_ranges(int before_from, int before_to, int after_from, int after_to,
                            bool backwards)
{
    struct buf before = {0}, after = {0}, out = {0};
    write_object(&before, before_from, before_to, backwards);
    write_object(&after, after_from, after_to, false);
    bool made = json_patch_make(&out, buf_slice(&before), buf_slice(&after));
    CU_ASSERT_EQUAL(made, out.len > 0);
    buf_fini(&before);
    buf_fini(&after);
    buf_fini(&out);
    return made;
}

static void test_the_limit_of_members(void)
{
    enum { MAX = JSON_PATCH_MEMBERS_MAX };
    CU_ASSERT(patch_of_ranges(0, MAX, 0, MAX, false));
    CU_ASSERT(patch_of_ranges(0, MAX, 0, MAX, true));
    CU_ASSERT(patch_of_ranges(1, MAX, 0, MAX, true));
    CU_ASSERT(patch_of_ranges(0, MAX, 1, MAX, true));
    CU_ASSERT(patch_of_ranges(1, MAX + 1, 0, MAX, false));
    CU_ASSERT(!patch_of_ranges(0, MAX + 1, 0, MAX, false));
    CU_ASSERT(!patch_of_ranges(0, MAX, 0, MAX + 1, false));
    CU_ASSERT(!patch_of_ranges(MAX, 2 * MAX, 0, MAX, false)); /* all names new: full, and longer */
}

static const struct unit_test tests[] = {
    {"what changed", test_what_changed},
    {"what is gone", test_what_is_gone},
    {"bytes stay as written", test_bytes_stay_as_written},
    {"the order may differ", test_the_order_may_differ},
    {"what is refused", test_what_is_refused},
    {"the limit of members", test_the_limit_of_members},
    {NULL, NULL},
};
const struct unit_suite suite_json_patch = {"json_patch", tests};
