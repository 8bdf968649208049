/*
 * stamp.h - the stamp in front of a stamped publication: `@<epoch>:<seq>:<ts> <payload>`.
 */
#ifndef TICKCAST_PROTOCOL_STAMP_H
#define TICKCAST_PROTOCOL_STAMP_H

#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>

#define STAMP_EPOCH_MAX  32                /* bytes of [0-9A-Za-z_-] */
#define STAMP_NUMBER_MAX 9007199254740991u /* 2^53 - 1: what every JSON client can count to */
#define STAMP_BYTES_MAX  68                /* of a whole stamp, its space included */

struct stamp {
    struct slice epoch;   /* borrows */
    uint64_t seq;         /* 1 .. STAMP_NUMBER_MAX */
    uint64_t ts_ms;       /* Unix, 0 .. STAMP_NUMBER_MAX */
    struct slice payload; /* borrows; empty: the value is cleared */
};

enum stamp_result {
    STAMP_NONE, /* does not start with '@': a plain publication */
    STAMP_OK,
    STAMP_BAD, /* starts with '@' and is no stamp: to be counted and dropped */
};

enum stamp_result stamp_parse(struct slice message, struct stamp *out);

/* Could it be the epoch of a stamp: its alphabet, 1 to STAMP_EPOCH_MAX bytes? */
bool stamp_epoch_is_valid(struct slice epoch);

#endif
