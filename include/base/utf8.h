/*
 * utf8.h - UTF-8 validation (RFC 3629): no overlong forms, no surrogates, nothing past U+10FFFF.
 *
 * Incremental: a text may arrive in pieces, and the first impossible byte is reported at once,
 * before the sequence is complete (RFC 6455, 8.1 wants such a connection failed early).
 */
#ifndef TICKCAST_BASE_UTF8_H
#define TICKCAST_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct utf8 {
    uint32_t state; /* 0: between characters */
};

/* Feeds a piece. False once an invalid byte was seen; it stays false. */
bool utf8_feed(struct utf8 *u, const void *ptr, size_t len);

/* True when what was fed so far ends between characters. */
static inline bool utf8_is_complete(const struct utf8 *u)
{
    return u->state == 0;
}

bool utf8_is_valid(const void *ptr, size_t len); /* a whole text */

#endif
