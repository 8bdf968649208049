/*
 * frame.h - an immutable, shared, ready-to-send WebSocket frame.
 *
 * Encoded once and sent to everyone who wants these very bytes. The reference count is atomic,
 * because a frame is shared by the workers; the bytes never change after frame_seal.
 */
#ifndef TICKCAST_PROTOCOL_FRAME_H
#define TICKCAST_PROTOCOL_FRAME_H

#include "base/buf.h"
#include "base/slice.h"
#include "protocol/ws_codec.h"

#include <stdatomic.h>
#include <stdint.h>

struct frame {
    atomic_uint refs;
    uint32_t len;         /* header and payload */
    uint32_t plain_bytes; /* payload before compression: what the peer's window must hold */
    uint16_t items;       /* publications in it, for counting */
    uint8_t header_len;
    uint8_t bytes[];
};

/* A frame around one or two pieces of payload, copied. Returns owned, with one reference. The
 * payload must be below 2^31 bytes. */
struct frame *frame_new(enum ws_opcode opcode, bool compressed, struct slice a, struct slice b,
                        uint32_t plain_bytes);

/* A text frame of that payload size with its header in place and the payload still to be written
 * by the caller, before anyone else sees it. */
struct frame *frame_open(size_t payload_bytes);

static inline struct frame *frame_text(const struct buf *text)
{
    return frame_new(WS_OP_TEXT, false, buf_slice(text), (struct slice){0}, (uint32_t)text->len);
}

/* Bytes that are no WebSocket frame (an HTTP response), to go through the same queue. */
struct frame *frame_raw(struct slice bytes);

struct frame *frame_close(uint16_t code, const char *reason); /* reason is cut to 123 bytes */

/* Relaxed: whoever refs already holds a reference, so nothing is published by it. */
static inline struct frame *frame_ref(struct frame *f)
{
    atomic_fetch_add_explicit(&f->refs, 1, memory_order_relaxed);
    return f;
}

void frame_unref(struct frame *f);

static inline struct slice frame_payload(const struct frame *f)
{
    return slice_of((const char *)f->bytes + f->header_len, f->len - f->header_len);
}

#endif
