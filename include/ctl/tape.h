/*
 * tape.h - lines of a recorded feed or of a plain tape, parsed.
 *
 * Pure. What kind of file it is shows in its first line that belongs to one of them:
 *
 *   recorded   1618677817.061845: {"type":"ticker","product_id":"BTC-USD",...}
 *              also `URL <-> time` and `URL <- time: text`, which are no publications;
 *              the channel is <namespace>:<product_id>, the payload all behind ": "
 *   plain      quote:AAPL<TAB>{"price":"190.01"}
 *
 * Payloads are handed out byte for byte.
 */
#ifndef TICKCAST_CTL_TAPE_H
#define TICKCAST_CTL_TAPE_H

#include "base/buf.h"
#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>

enum tape_format { TAPE_UNKNOWN, TAPE_RECORDED, TAPE_PLAIN };

/* Zero it, then set namespace. */
struct tape {
    const char *namespace; /* for recorded frames; borrowed */
    enum tape_format format;
    struct buf channel; /* of the last recorded frame */
};

/* A publication. Borrows from the line and from the tape, until the next call. */
struct tape_entry {
    uint64_t time_us; /* recorded: Unix time; plain: 0 */
    struct slice channel;
    struct slice payload;
};

/* True when the line is a publication with a legal channel name; everything else is to be skipped
 * and counted: other lines, frames without a product_id, malformed channels, lines of the other
 * format. */
bool tape_parse(struct tape *t, struct slice line, struct tape_entry *out);
void tape_fini(struct tape *t);

#endif
