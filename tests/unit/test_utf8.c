/*
 * test_utf8.c - the boundary and malformed cases of Markus Kuhn's decoder stress test, each fed
 * whole and split at every boundary, and every lead byte against an independent rule.
 */
#include "base/utf8.h"

#include "unit.h"

#include <string.h>

struct text {
    const char *bytes;
    size_t len;
};
#define TEXT(literal)                \
    {                                \
        literal, sizeof(literal) - 1 \
    }

static const struct text valid[] = {
    TEXT(""),
    TEXT("plain ASCII, longer than eight bytes"),
    TEXT("\x00"),
    TEXT("\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5"), /* kosme */
    TEXT("\x7f"),
    TEXT("\xc2\x80"),
    TEXT("\xdf\xbf"),
    TEXT("\xe0\xa0\x80"),
    TEXT("\xed\x9f\xbf"),
    TEXT("\xee\x80\x80"),
    TEXT("\xef\xbf\xbd"),
    TEXT("\xef\xbf\xbe"), /* a noncharacter, which is still a scalar value */
    TEXT("\xef\xbf\xbf"),
    TEXT("\xf0\x90\x80\x80"),
    TEXT("\xf0\x9f\x98\x80"),
    TEXT("\xf4\x8f\xbf\xbf"),
    TEXT("1234567\xc3\xa9"), /* the character straddles the eight-byte step */
    TEXT("12345678\xe2\x82\xac"
         "12345678\xf0\x9f\x98\x80"),
};

/* `at`: the index of the first impossible byte. */
static const struct {
    struct text text;
    size_t at;
} invalid[] = {
    {TEXT("\x80"), 0},
    {TEXT("\xbf"), 0},
    {TEXT("a\x80"), 1},
    {TEXT("12345678\xff"), 8},
    {TEXT("123456781234567\x80"), 15},
    {TEXT("\xc0\x80"), 0}, /* overlong */
    {TEXT("\xc1\xbf"), 0},
    {TEXT("\xe0\x80\xaf"), 1},
    {TEXT("\xe0\x9f\xbf"), 1},
    {TEXT("\xf0\x80\x80\xaf"), 1},
    {TEXT("\xf0\x8f\xbf\xbf"), 1},
    {TEXT("\xf8\x80\x80\x80\xaf"), 0},
    {TEXT("\xfc\x80\x80\x80\x80\xaf"), 0},
    {TEXT("\xfe"), 0},
    {TEXT("\xff"), 0},
    {TEXT("\xed\xa0\x80"), 1}, /* surrogates */
    {TEXT("\xed\xbf\xbf"), 1},
    {TEXT("\xed\xad\xbf\xed\xb0\x80"), 1},
    {TEXT("\xf4\x90\x80\x80"), 1}, /* past U+10FFFF */
    {TEXT("\xf5\x80\x80\x80"), 0},
    {TEXT("\xf7\xbf\xbf\xbf"), 0},
    {TEXT("\xc3("), 1}, /* cut short */
    {TEXT("\xe2\x82("), 2},
    {TEXT("\xf0\x9f\x98z"), 3},
    {TEXT("\xc3\xc3\xa9"), 1},
    {TEXT("\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80 edited"), 12},
};

static const struct text unfinished[] = {
    TEXT("\xc3"),         TEXT("a\xc3"),        TEXT("\xe2"),         TEXT("\xe2\x82"),
    TEXT("\xf0"),         TEXT("\xf0\x9f"),     TEXT("\xf0\x9f\x98"), TEXT("\xed\x9f"),
    TEXT("\xf4\x8f\xbf"), TEXT("12345678\xe2"),
};

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* Feeds [from, to) from memory of exactly that size, so that a sanitizer sees a read too far. */
static bool feed(struct utf8 *u, struct text t, size_t from, size_t to)
{
    char copy[64];
    size_t len = to - from;
    memcpy(copy + sizeof copy - len, t.bytes + from, len);
    return utf8_feed(u, copy + sizeof copy - len, len);
}

static void check_text(struct text t, bool ok, bool complete)
{
    CU_ASSERT_EQUAL(utf8_is_valid(t.bytes, t.len), ok && complete);
    for (size_t i = 0; i <= t.len; i++) {
        for (size_t j = i; j <= t.len; j++) {
            struct utf8 u = {0};
            feed(&u, t, 0, i);
            feed(&u, t, i, j);
            CU_ASSERT_EQUAL(feed(&u, t, j, t.len), ok);
            CU_ASSERT_EQUAL(utf8_is_complete(&u), complete);
        }
    }
}

static void accepts_valid_text(void)
{
    for (size_t i = 0; i < COUNT(valid); i++)
        check_text(valid[i], true, true);
}

static void refuses_invalid_text(void)
{
    for (size_t i = 0; i < COUNT(invalid); i++)
        check_text(invalid[i].text, false, false);
}

static void knows_unfinished_text(void)
{
    for (size_t i = 0; i < COUNT(unfinished); i++)
        check_text(unfinished[i], true, false);
}

static void fails_at_the_first_impossible_byte(void)
{
    for (size_t i = 0; i < COUNT(invalid); i++) {
        struct utf8 u = {0};
        struct text t = invalid[i].text;
        for (size_t at = 0; at < t.len; at++)
            CU_ASSERT_EQUAL(utf8_feed(&u, t.bytes + at, 1), at < invalid[i].at);
        CU_ASSERT_FALSE(utf8_feed(&u, "a", 1));
        CU_ASSERT_FALSE(utf8_feed(&u, NULL, 0));
    }
}

/* Decodes by arithmetic instead of by ranges. */
static bool is_valid_by_value(const unsigned char *c, size_t len)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t need = c[0] < 0x80       ? 1
                  : c[0] >> 5 == 6  ? 2
                  : c[0] >> 4 == 14 ? 3
                  : c[0] >> 3 == 30 ? 4
                                    : 0;
    if (need == 0 || need != len)
        return false;
    uint32_t value = need == 1 ? c[0] : c[0] & (0x7fu >> need);
    for (size_t i = 1; i < need; i++) {
        if ((c[i] & 0xc0) != 0x80)
            return false;
        value = value << 6 | (c[i] & 0x3f);
    }
    return value >= least[need] && value <= 0x10ffff && (value < 0xd800 || value > 0xdfff);
}

/* Counts disagreements on the one character at c, in all lengths up to where one is complete. */
static unsigned count_wrong(const unsigned char *c)
{
    for (size_t len = 1; len <= 4; len++) {
        bool ok = is_valid_by_value(c, len);
        if (utf8_is_valid(c, len) != ok)
            return 1;
        if (ok)
            break;
    }
    return 0;
}

static void agrees_with_arithmetic(void)
{
    static const unsigned char tails[] = {0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0};
    unsigned wrong = 0;
    for (unsigned i = 0; i < 256 * 256; i++) {
        for (size_t j = 0; j < COUNT(tails) * COUNT(tails); j++) {
            wrong += count_wrong((const unsigned char[]){(unsigned char)(i >> 8), (unsigned char)i,
                                                         tails[j / COUNT(tails)],
                                                         tails[j % COUNT(tails)]});
        }
    }
    CU_ASSERT_EQUAL(wrong, 0);
}

static const struct unit_test tests[] = {
    {"accepts valid text", accepts_valid_text},
    {"refuses invalid text", refuses_invalid_text},
    {"knows unfinished text", knows_unfinished_text},
    {"fails at the first impossible byte", fails_at_the_first_impossible_byte},
    {"agrees with arithmetic on leads and boundaries", agrees_with_arithmetic},
    {NULL, NULL},
};
const struct unit_suite suite_utf8 = {"utf8", tests};
