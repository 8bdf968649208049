/*
 * utf8.c - incremental UTF-8 validation.
 *
 * Pure. Between two bytes of a character the state says how many bytes must follow and in which
 * range the next one must lie. Only the second byte of a character has a range narrower than
 * 80..BF, and that narrowing is all there is to overlong forms, surrogates and the upper limit
 * (Unicode 15, table 3-7). Texts are mostly ASCII, so between characters eight bytes are looked at
 * together. It does not decode.
 *
 *      state:  00000000 hhhhhhhh llllllll nnnnnnnn     next byte in l..h, n bytes to come
 */
#include "base/utf8.h"

#include <string.h>

#define STATE_INVALID          UINT32_MAX
#define STATE(left, low, high) ((uint32_t)(left) | (uint32_t)(low) << 8 | (uint32_t)(high) << 16)
#define HIGH_BITS              0x8080808080808080u /* set in every byte that is not ASCII */

/* The state behind the first byte of a character that is not ASCII. */
static uint32_t state_after_lead(uint8_t lead)
{
    if (lead < 0xc2)
        return STATE_INVALID; /* a continuation byte, or an overlong form of ASCII */
    if (lead < 0xe0)
        return STATE(1, 0x80, 0xbf);
    if (lead < 0xf0) {
        if (lead == 0xe0)
            return STATE(2, 0xa0, 0xbf);                                   /* below: overlong */
        return lead == 0xed ? STATE(2, 0x80, 0x9f) : STATE(2, 0x80, 0xbf); /* above: surrogates */
    }
    if (lead == 0xf0)
        return STATE(3, 0x90, 0xbf); /* below: overlong */
    if (lead < 0xf4)
        return STATE(3, 0x80, 0xbf);
    return lead == 0xf4 ? STATE(3, 0x80, 0x8f) : STATE_INVALID; /* past U+10FFFF */
}

static uint32_t state_after_next(uint32_t state, uint8_t byte)
{
    uint8_t low = (uint8_t)(state >> 8), high = (uint8_t)(state >> 16);
    if (byte < low || byte > high)
        return STATE_INVALID;
    uint32_t left = (state & 0xff) - 1;
    return left == 0 ? 0 : STATE(left, 0x80, 0xbf);
}

static const uint8_t *skip_ascii(const uint8_t *at, const uint8_t *end)
{
    uint64_t eight;
    while ((size_t)(end - at) >= sizeof eight) {
        memcpy(&eight, at, sizeof eight);
        if ((eight & HIGH_BITS) != 0)
            break;
        at += sizeof eight;
    }
    while (at < end && *at < 0x80)
        at++;
    return at;
}

bool utf8_feed(struct utf8 *u, const void *ptr, size_t len)
{
    if (len == 0)
        return u->state != STATE_INVALID;
    const uint8_t *at = ptr, *end = at + len;
    uint32_t state = u->state;
    while (at < end && state != STATE_INVALID) {
        if (state != 0) {
            state = state_after_next(state, *at++);
            continue;
        }
        at = skip_ascii(at, end);
        if (at < end)
            state = state_after_lead(*at++);
    }
    u->state = state;
    return state != STATE_INVALID;
}

bool utf8_is_valid(const void *ptr, size_t len)
{
    struct utf8 u = {0};
    return utf8_feed(&u, ptr, len) && utf8_is_complete(&u);
}
