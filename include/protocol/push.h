/*
 * push.h - several publications in one message: `{"action":"push","items":[…,…]}`.
 *
 * An item's text is made once, inside the frame that holds it alone (publication.h); a push of
 * several is put together from those texts by copying. Pure; no allocation but the frame's.
 *
 *      struct push w;
 *      push_open(&w, sum of push_part_bytes, count);
 *      push_put(&w, &part) …
 *      struct frame *f = push_close(&w);
 *
 * or, for bytes that are sent at once and not kept, with push_start and push_end into memory of the
 * caller's.
 */
#ifndef TICKCAST_PROTOCOL_PUSH_H
#define TICKCAST_PROTOCOL_PUSH_H

#include "protocol/frame.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PUSH_HEAD      "{\"action\":\"push\",\"items\":["
#define PUSH_TAIL      "]}"
#define PUSH_BYTES_MAX 65536 /* of the items in one message, unless one alone is larger */
#define PUSH_ITEMS_MAX 1024  /* in one message */

/* One publication to be sent. */
struct push_part {
    const struct frame *single; /* uncompressed, the publication alone; borrowed */
    uint64_t missed;            /* told in its `missed`; 0: not */
};

/* What a part adds to a message, its comma included. */
size_t push_part_bytes(const struct push_part *part);

/* A whole message of such parts: header and payload. parts_bytes: the sum of push_part_bytes. */
size_t push_frame_bytes(size_t parts_bytes);

struct push {
    struct frame *frame; /* NULL: the caller's memory is written to */
    uint8_t *at;         /* where the next byte goes */
    bool has_items;
};

void push_open(struct push *w, size_t parts_bytes, uint32_t count);
void push_put(struct push *w, const struct push_part *part);
struct frame *push_close(struct push *w); /* returns owned, plain */

/* The same into the caller's memory, of push_frame_bytes(parts_bytes), header included. */
void push_start(struct push *w, uint8_t *at, size_t parts_bytes);
void push_end(struct push *w);

#endif
