/*
 * compressor.h - from a plain frame to its compressed form, where that pays.
 *
 * One per worker, with the worker's deflater. Not thread-safe; the frames it makes are shared like
 * any other.
 */
#ifndef TICKCAST_PROTOCOL_COMPRESSOR_H
#define TICKCAST_PROTOCOL_COMPRESSOR_H

#include "base/buf.h"
#include "protocol/frame.h"
#include "protocol/ws_deflate.h"

#include <stddef.h>

struct compressor {
    struct ws_deflater *deflater;
    struct buf scratch;
    size_t min_bytes; /* shorter messages stay as they are */
};

/* The frame to send to a peer with compression: a new one, or the plain one where the message is
 * short or does not shrink. Returns a reference either way; the caller keeps its own to plain. */
struct frame *compressor_pack(struct compressor *c, struct frame *plain);

/* The same for one peer's own message: takes plain. A message that does not fit the window the
 * peer agreed to stays plain. */
struct frame *compressor_pack_for(struct compressor *c, struct frame *plain, unsigned window_bits);

#endif
