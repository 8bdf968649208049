/*
 * ws_deflate.h - permessage-deflate payloads (RFC 7692) without context takeover.
 *
 * The only user of zlib. One deflater and one inflater serve a whole worker: every message starts
 * from a clean window, so no connection has a zlib state. Not thread-safe; one owner thread each.
 */
#ifndef TICKCAST_PROTOCOL_WS_DEFLATE_H
#define TICKCAST_PROTOCOL_WS_DEFLATE_H

#include "base/buf.h"

#include <stdbool.h>

struct ws_deflater;
struct ws_inflater;

/* window_bits 9..15. Returns owned. */
struct ws_deflater *ws_deflater_new(int level, int window_bits);
void ws_deflater_free(struct ws_deflater *d);

/* Appends the compressed form of one whole message to out, without the 00 00 ff ff tail
 * (RFC 7692, 7.2.1). False when the result would be `len` bytes or more: send it plain then, out is
 * unchanged. */
bool ws_deflater_run(struct ws_deflater *d, const void *ptr, size_t len, struct buf *out);

#define WS_WINDOW_BITS \
    15 /* of the workers' deflaters: what an endpoint has unless it says less \
        */

/* May a message that was compressed with our window go to a peer that agreed to this one? A match
 * never reaches further back than the message begins, so a short message fits a small window. */
static inline bool ws_deflate_fits(size_t plain_bytes, unsigned window_bits)
{
    return window_bits >= WS_WINDOW_BITS || plain_bytes <= (size_t)1 << window_bits;
}

enum ws_inflate_result { WS_INFLATE_OK, WS_INFLATE_TOO_LARGE, WS_INFLATE_BAD };

struct ws_inflater *ws_inflater_new(void); /* accepts any window; returns owned */
void ws_inflater_free(struct ws_inflater *i);

/*
 * Inflates one whole message (all fragments joined, without the tail) into out, which is cleared
 * first. Never produces more than max bytes: TOO_LARGE the moment one more would follow. BAD for
 * corrupt data or bytes that do not end at a block boundary.
 */
enum ws_inflate_result ws_inflater_run(struct ws_inflater *i, const void *ptr, size_t len,
                                       size_t max, struct buf *out);

/* The same for a message that comes in pieces, which a new inflater may be fed one by one; each is
 * appended to out as far as it can be read. Nothing may follow a result that is not OK. */
enum ws_inflate_result ws_inflater_feed(struct ws_inflater *i, const void *ptr, size_t len,
                                        size_t max, struct buf *out);
enum ws_inflate_result ws_inflater_end(struct ws_inflater *i, size_t max, struct buf *out);

#endif
