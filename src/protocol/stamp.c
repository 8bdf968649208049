/*
 * stamp.c - the stamp in front of a stamped publication.
 *
 * Pure. Only the one spelling that the publishing script makes is a stamp: no signs, no leading
 * zeros, exactly one space. What looks like a stamp and is none must not reach a client, so there
 * is no lenient reading.
 *
 *      @c91e:815:1780000000340 {"price":"190.01"}
 *       epoch seq    ts_ms     payload
 */
#include "protocol/stamp.h"

static bool is_epoch_byte(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
           c == '-';
}

/* Cuts what lies before the next `stop` off the front of rest. At most max bytes are looked at. */
static bool cut_until(struct slice *rest, char stop, size_t max, struct slice *part)
{
    for (size_t i = 0; i < rest->len && i <= max; i++) {
        if (rest->ptr[i] != stop)
            continue;
        *part = slice_of(rest->ptr, i);
        *rest = slice_of(rest->ptr + i + 1, rest->len - i - 1);
        return i > 0;
    }
    return false;
}

static bool parse_number(struct slice digits, uint64_t *value)
{
    if (digits.ptr[0] == '0' && digits.len > 1)
        return false;
    *value = 0;
    for (size_t i = 0; i < digits.len; i++) {
        if (digits.ptr[i] < '0' || digits.ptr[i] > '9')
            return false;
        *value = *value * 10 + (uint64_t)(digits.ptr[i] - '0');
    }
    return *value <= STAMP_NUMBER_MAX;
}

bool stamp_epoch_is_valid(struct slice epoch)
{
    if (epoch.len == 0 || epoch.len > STAMP_EPOCH_MAX)
        return false;
    for (size_t i = 0; i < epoch.len; i++) {
        if (!is_epoch_byte(epoch.ptr[i]))
            return false;
    }
    return true;
}

enum stamp_result stamp_parse(struct slice message, struct stamp *out)
{
    enum { DIGITS_MAX = 16 }; /* of STAMP_NUMBER_MAX; keeps the sum far from overflow */

    if (message.len == 0 || message.ptr[0] != '@')
        return STAMP_NONE;
    struct slice rest = slice_of(message.ptr + 1, message.len - 1);
    struct slice seq, ts;
    if (!cut_until(&rest, ':', STAMP_EPOCH_MAX, &out->epoch) ||
        !cut_until(&rest, ':', DIGITS_MAX, &seq) || !cut_until(&rest, ' ', DIGITS_MAX, &ts))
        return STAMP_BAD;
    if (!stamp_epoch_is_valid(out->epoch) || !parse_number(seq, &out->seq) || out->seq == 0 ||
        !parse_number(ts, &out->ts_ms))
        return STAMP_BAD;
    out->payload = rest;
    return STAMP_OK;
}
