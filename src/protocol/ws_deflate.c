/*
 * ws_deflate.c - permessage-deflate payloads over zlib.
 *
 * One owner thread per object. Streams are made once and reset for each message: making one costs
 * ten times what a small message does. Every message starts from an empty window, which is what
 * "no context takeover" means, so the streams belong to the worker and not to a connection.
 *
 * The compressed form of a message is what zlib's sync flush gives, less its last four bytes: the
 * length fields 00 00 ff ff of an empty stored block, which the receiver puts back.
 */
#include "protocol/ws_deflate.h"

#include "base/mem.h"

#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define TAIL_BYTES 4
#define MEM_LEVEL  6 /* its hash table is cleared for each message: 16 KiB, zlib's default is 64 */

static const uint8_t flush_tail[TAIL_BYTES] = {0x00, 0x00, 0xff, 0xff};

/* Streams are made at the start of a worker: there is nobody to tell but the operator. */
static void check_made(int result, const char *what)
{
    if (result == Z_OK)
        return;
    fprintf(stderr, "tickcast: zlib cannot make %s: %s\n", what, zError(result));
    abort();
}

/* --- deflating ------------------------------------------------------------------------------- */

struct ws_deflater {
    z_stream stream;
};

struct ws_deflater *ws_deflater_new(int level, int window_bits)
{
    struct ws_deflater *d = mem_zalloc(sizeof *d);
    check_made(
        deflateInit2(&d->stream, level, Z_DEFLATED, -window_bits, MEM_LEVEL, Z_DEFAULT_STRATEGY),
        "a deflate stream");
    return d;
}

void ws_deflater_free(struct ws_deflater *d)
{
    if (d == NULL)
        return;
    deflateEnd(&d->stream);
    free(d);
}

bool ws_deflater_run(struct ws_deflater *d, const void *ptr, size_t len, struct buf *out)
{
    if (len > INT_MAX) /* zlib counts in unsigned int */
        return false;
    z_stream *z = &d->stream;
    deflateReset(z);
    z->next_in = (Bytef *)(uintptr_t)ptr; /* zlib does not write there; its type says it might */
    z->avail_in = (uInt)len;
    /* A result worth sending is at most len - 1 bytes and its tail. One byte of room left over is
     * how zlib says that the flush is complete. */
    z->avail_out = (uInt)(len + TAIL_BYTES);
    z->next_out = (Bytef *)buf_reserve(out, z->avail_out);
    int result = deflate(z, Z_SYNC_FLUSH);
    size_t made = len + TAIL_BYTES - z->avail_out;
    if (result != Z_OK || z->avail_out == 0 || made < TAIL_BYTES)
        return false;
    out->len += made - TAIL_BYTES;
    return true;
}

/* --- inflating ------------------------------------------------------------------------------- */

/* What inflate leaves in data_type (zlib.h) when its bytes end exactly between two blocks: no
 * unused bits (the low six), not within the final block (64). */
#define BETWEEN_BLOCKS 128

/* Quotes shrink to a fifth to a half: often enough, the first reservation is the only one. */
#define USUAL_RATIO      4
#define OUTPUT_MIN_BYTES 1024

struct ws_inflater {
    z_stream stream;
    bool ended; /* behind a block that was marked as the final one */
};

struct ws_inflater *ws_inflater_new(void)
{
    struct ws_inflater *i = mem_zalloc(sizeof *i);
    check_made(inflateInit2(&i->stream, -MAX_WBITS), "an inflate stream");
    return i;
}

void ws_inflater_free(struct ws_inflater *i)
{
    if (i == NULL)
        return;
    inflateEnd(&i->stream);
    free(i);
}

/* Points the stream at free room of out, at most up to max bytes; when all of that is used, at one
 * spare byte, which only a message that is too large will fill. Returns the room. */
static uInt offer_room(z_stream *z, struct buf *out, size_t max, Bytef *spare)
{
    size_t room = max - out->len;
    if (room == 0) {
        z->next_out = spare;
        z->avail_out = 1;
        return 0;
    }
    size_t grow = out->len > OUTPUT_MIN_BYTES ? out->len : OUTPUT_MIN_BYTES;
    size_t ready = out->cap - out->len;
    if (ready == 0)
        ready = grow;
    if (ready > room)
        ready = room;
    if (ready > INT_MAX)
        ready = INT_MAX;
    z->next_out = (Bytef *)buf_reserve(out, ready);
    z->avail_out = (uInt)ready;
    return z->avail_out;
}

/* Feeds one run of bytes and drains what comes of it. A block may be marked as the final one
 * (RFC 7692, 7.2.3.5); what follows it starts a stream of its own. */
enum ws_inflate_result ws_inflater_feed(struct ws_inflater *i, const void *ptr, size_t len,
                                        size_t max, struct buf *out)
{
    z_stream *z = &i->stream;
    if (len > INT_MAX || out->len > max)
        return WS_INFLATE_TOO_LARGE;
    if (len == 0)
        return WS_INFLATE_OK;
    if (i->ended)
        inflateReset(z);
    z->next_in = (Bytef *)(uintptr_t)ptr; /* as in ws_deflater_run */
    z->avail_in = (uInt)len;
    for (;;) {
        Bytef spare;
        uInt room = offer_room(z, out, max, &spare);
        int result = inflate(z, Z_SYNC_FLUSH);
        if (room == 0 && z->avail_out == 0)
            return WS_INFLATE_TOO_LARGE;
        if (room != 0)
            out->len += room - z->avail_out;
        i->ended = result == Z_STREAM_END;
        if (i->ended && z->avail_in > 0)
            inflateReset(z);
        else if (result != Z_OK)
            return i->ended || (result == Z_BUF_ERROR && z->avail_in == 0) ? WS_INFLATE_OK
                                                                           : WS_INFLATE_BAD;
        else if (z->avail_in == 0 && z->avail_out > 0)
            return WS_INFLATE_OK;
    }
}

enum ws_inflate_result ws_inflater_end(struct ws_inflater *i, size_t max, struct buf *out)
{
    if (i->ended)
        return WS_INFLATE_OK;
    enum ws_inflate_result result = ws_inflater_feed(i, flush_tail, sizeof flush_tail, max, out);
    if (result != WS_INFLATE_OK)
        return result;
    return i->stream.data_type == BETWEEN_BLOCKS ? WS_INFLATE_OK : WS_INFLATE_BAD;
}

enum ws_inflate_result ws_inflater_run(struct ws_inflater *i, const void *ptr, size_t len,
                                       size_t max, struct buf *out)
{
    buf_clear(out);
    if (len == 0) /* no block at all is an empty message, though none that RFC 7692 would make */
        return WS_INFLATE_OK;
    inflateReset(&i->stream);
    i->ended = false;
    buf_reserve(out, len < max / USUAL_RATIO ? len * USUAL_RATIO : max);
    enum ws_inflate_result result = ws_inflater_feed(i, ptr, len, max, out);
    return result == WS_INFLATE_OK ? ws_inflater_end(i, max, out) : result;
}
