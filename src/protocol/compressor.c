/*
 * compressor.c - deflates whole frames.
 */
#include "protocol/compressor.h"

#define OPCODE_BITS 0x0f /* of a frame's first byte (RFC 6455, 5.2) */

struct frame *compressor_pack(struct compressor *c, struct frame *plain)
{
    struct slice payload = frame_payload(plain);
    if (payload.len < c->min_bytes)
        return frame_ref(plain);
    buf_clear(&c->scratch);
    if (!ws_deflater_run(c->deflater, payload.ptr, payload.len, &c->scratch))
        return frame_ref(plain);
    struct frame *packed = frame_new(plain->bytes[0] & OPCODE_BITS, true, buf_slice(&c->scratch),
                                     (struct slice){0}, plain->plain_bytes);
    packed->items = plain->items;
    return packed;
}

struct frame *compressor_pack_for(struct compressor *c, struct frame *plain, unsigned window_bits)
{
    if (!ws_deflate_fits(plain->plain_bytes, window_bits))
        return plain;
    struct frame *packed = compressor_pack(c, plain);
    frame_unref(plain);
    return packed;
}
