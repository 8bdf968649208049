/*
 * test_buf.c - the growable buffer.
 */
#include "base/buf.h"

#include "unit.h"

#include <stdio.h>
#include <stdlib.h>

static void zeroed_is_empty_and_fini_repeats(void)
{
    struct buf b = {0};
    buf_fini(&b);
    buf_append(&b, NULL, 0);
    CU_ASSERT_PTR_NULL(b.data);
    buf_append_str(&b, "x");
    buf_fini(&b);
    buf_fini(&b);
    CU_ASSERT_EQUAL(b.len + b.cap, 0);
}

static void appends_across_growth(void)
{
    struct buf b = {0};
    for (unsigned i = 0; i < 20000; i++)
        buf_append(&b, (const char[]){(char)i, (char)(i >> 8)}, 2);
    CU_ASSERT_EQUAL_FATAL(b.len, 40000);
    CU_ASSERT(b.cap >= b.len);
    unsigned wrong = 0;
    for (unsigned i = 0; i < 20000; i++)
        wrong += b.data[2 * i] != (char)i || b.data[2 * i + 1] != (char)(i >> 8);
    CU_ASSERT_EQUAL(wrong, 0);
    buf_clear(&b);
    CU_ASSERT_EQUAL(b.len, 0);
    CU_ASSERT(b.cap >= 40000);
    buf_fini(&b);
}

static void reserves_room_behind_the_content(void)
{
    struct buf b = {0};
    buf_append_str(&b, "ab");
    char *tail = buf_reserve(&b, 100000);
    CU_ASSERT_PTR_EQUAL(tail, b.data + 2);
    CU_ASSERT_EQUAL(b.len, 2);
    CU_ASSERT(b.cap >= 100002);
    memset(tail, 'z', 100000);
    UNIT_ASSERT_BYTES(b.data, b.len, "ab");
    buf_fini(&b);
    CU_ASSERT_PTR_NOT_NULL(buf_reserve(&b, 0));
    buf_fini(&b);
}

static void prints_numbers(void)
{
    struct buf b = {0};
    buf_append_u64(&b, 0);
    buf_append_str(&b, " ");
    buf_append_u64(&b, UINT64_MAX);
    buf_printf(&b, " %d/%s", -5, "text");
    UNIT_ASSERT_BYTES(b.data, b.len, "0 18446744073709551615 -5/text");
    buf_fini(&b);
}

static void printf_fills_to_the_last_byte(void)
{
    for (int len = 250; len < 260; len++) { /* around the first allocation */
        struct buf b = {0};
        buf_printf(&b, "%*s", len, "x");
        CU_ASSERT_EQUAL(b.len, (size_t)len);
        CU_ASSERT_EQUAL(b.data[len - 1], 'x');
        buf_printf(&b, "%s", "");
        CU_ASSERT_EQUAL(b.len, (size_t)len);
        buf_fini(&b);
    }
}

static void consumes_from_the_front(void)
{
    struct buf b = {0};
    buf_append_str(&b, "abcdef");
    buf_consume(&b, 0);
    buf_consume(&b, 2);
    UNIT_ASSERT_BYTES(b.data, b.len, "cdef");
    buf_append_str(&b, "g");
    struct slice s = buf_slice(&b);
    UNIT_ASSERT_BYTES(s.ptr, s.len, "cdefg");
    buf_consume(&b, 5);
    CU_ASSERT_EQUAL(b.len, 0);
    buf_fini(&b);
}

static const struct unit_test tests[] = {
    {"zeroed is empty, fini repeats", zeroed_is_empty_and_fini_repeats},
    {"appends across growth", appends_across_growth},
    {"reserves room behind the content", reserves_room_behind_the_content},
    {"prints numbers", prints_numbers},
    {"printf fills to the last byte", printf_fills_to_the_last_byte},
    {"consumes from the front", consumes_from_the_front},
    {NULL, NULL},
};
const struct unit_suite suite_buf = {"buf", tests};
