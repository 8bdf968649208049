/*
 * outq.h - one connection's private outbound queue: replies, snapshots, control frames.
 *
 * What many clients share does not pass through here (see domain/cohort.h). The queue holds
 * references, never copies. Control frames overtake what is queued, but never cut a frame that is
 * partly written:
 *
 *      [partly written] [control …] [data … … …]
 *        head_sent bytes gone          └─ new data goes last
 *                        └─ new control goes after the last control
 */
#ifndef TICKCAST_PROTOCOL_OUTQ_H
#define TICKCAST_PROTOCOL_OUTQ_H

#include "protocol/frame.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct outq {
    struct frame **ring; /* cap slots, a power of two */
    uint32_t cap;
    uint32_t first;     /* slot of the oldest frame */
    uint32_t count;     /* frames queued */
    uint32_t control;   /* control frames at the front, behind a partly written frame */
    uint32_t head_sent; /* bytes of the oldest frame already written */
    uint64_t bytes;     /* still to be written */
};

/* What a queued frame takes beside its bytes: its own fields, its place in the ring and what malloc
 * adds. That is most of it where frames are a few bytes long. */
#define OUTQ_FRAME_BYTES (sizeof(struct frame) + sizeof(struct frame *) + 16)

void outq_fini(struct outq *q); /* drops everything; a zeroed struct is an empty queue */

/* Each takes the caller's reference. */
void outq_push(struct outq *q, struct frame *f);
void outq_push_control(struct outq *q, struct frame *f);

/* Takes the place of the control frame that waits last, if that is of the same kind. False: there
 * is none, and the caller keeps f. */
bool outq_try_replace_control(struct outq *q, struct frame *f);

/* Puts a frame of which `sent` bytes are already on the wire in front of everything. The present
 * front must not be partly written. */
void outq_push_partial(struct outq *q, struct frame *f, uint32_t sent);

/* Fills up to max pieces from the front; returns how many. They borrow until the next call. */
int outq_gather(const struct outq *q, struct iovec *pieces, int max);

/* Drops `bytes` from the front, which gather had offered. */
void outq_consume(struct outq *q, size_t bytes);

/* Drops all but a partly written frame: what may not be cut off when a close frame must follow. */
void outq_drop_unsent(struct outq *q);

/* What the queue takes of memory, about. */
static inline uint64_t outq_memory_bytes(const struct outq *q)
{
    return q->bytes + (uint64_t)q->count * OUTQ_FRAME_BYTES;
}

/* The frame at a place counted from the front, which may be partly written. Borrowed. */
static inline const struct frame *outq_at(const struct outq *q, uint32_t index)
{
    return q->ring[(q->first + index) & (q->cap - 1)];
}

/* Is there anything but control frames? What is partly written counts as a message. */
static inline bool outq_has_message(const struct outq *q)
{
    return q->count > q->control;
}

static inline bool outq_is_empty(const struct outq *q)
{
    return q->count == 0;
}

#endif
