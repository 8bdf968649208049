/*
 * slice.h - a borrowed run of bytes.
 *
 * Never owns, never NUL-terminated by promise. Whoever hands one out says how long it lives.
 */
#ifndef TICKCAST_BASE_SLICE_H
#define TICKCAST_BASE_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct slice {
    const char *ptr;
    size_t len;
};

static inline struct slice slice_of(const char *ptr, size_t len)
{
    return (struct slice){.ptr = ptr, .len = len};
}

static inline struct slice slice_str(const char *text)
{
    return slice_of(text, strlen(text));
}

static inline bool slice_is(struct slice s, const char *text)
{
    return s.len == strlen(text) && (s.len == 0 || memcmp(s.ptr, text, s.len) == 0);
}

static inline bool slice_equal(struct slice a, struct slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

/* Without the bytes of `blanks` at both ends. */
static inline struct slice slice_trim(struct slice s, const char *blanks)
{
    while (s.len > 0 && s.ptr[0] != '\0' && strchr(blanks, s.ptr[0]) != NULL) {
        s.ptr++;
        s.len--;
    }
    while (s.len > 0 && s.ptr[s.len - 1] != '\0' && strchr(blanks, s.ptr[s.len - 1]) != NULL)
        s.len--;
    return s;
}

/* A whole decimal number from 0 to max, digits only; max is below 2^31 / 10. */
static inline bool slice_to_unsigned(struct slice s, unsigned max, unsigned *out)
{
    unsigned value = 0;
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] < '0' || s.ptr[i] > '9')
            return false;
        value = value * 10 + (unsigned)(s.ptr[i] - '0');
        if (value > max)
            return false;
    }
    *out = value;
    return s.len > 0;
}

#endif
