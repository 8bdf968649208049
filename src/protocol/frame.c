/*
 * frame.c - shared frames: header and payload in one allocation, behind a count.
 *
 * Any thread may hold and release a reference; the last one frees. The bytes are written before
 * the frame is handed to anyone and never after.
 */
#include "protocol/frame.h"

#include "base/mem.h"

#include <assert.h>
#include <stdlib.h>

#define CLOSE_REASON_MAX (WS_CONTROL_PAYLOAD_MAX - 2)

struct frame *frame_new(enum ws_opcode opcode, bool compressed, struct slice a, struct slice b,
                        uint32_t plain_bytes)
{
    uint8_t header[WS_HEADER_MAX];
    size_t payload = a.len + b.len;
    assert(payload < (size_t)1 << 31);
    size_t header_len = ws_encode_header(header, opcode, compressed, payload);

    struct frame *f = mem_alloc(sizeof *f + header_len + payload);
    atomic_init(&f->refs, 1);
    f->len = (uint32_t)(header_len + payload);
    f->plain_bytes = plain_bytes;
    f->items = 0;
    f->header_len = (uint8_t)header_len;
    memcpy(f->bytes, header, header_len);
    if (a.len != 0)
        memcpy(f->bytes + header_len, a.ptr, a.len);
    if (b.len != 0)
        memcpy(f->bytes + header_len + a.len, b.ptr, b.len);
    return f;
}

struct frame *frame_open(size_t payload_bytes)
{
    uint8_t header[WS_HEADER_MAX];
    assert(payload_bytes < (size_t)1 << 31);
    size_t header_len = ws_encode_header(header, WS_OP_TEXT, false, payload_bytes);

    struct frame *f = mem_alloc(sizeof *f + header_len + payload_bytes);
    atomic_init(&f->refs, 1);
    f->len = (uint32_t)(header_len + payload_bytes);
    f->plain_bytes = (uint32_t)payload_bytes;
    f->items = 0;
    f->header_len = (uint8_t)header_len;
    memcpy(f->bytes, header, header_len);
    return f;
}

/* Cuts text to at most max bytes without leaving half a character at its end. */
static struct slice cut_text(const char *text, size_t max)
{
    struct slice s = slice_str(text);
    if (s.len <= max)
        return s;
    s.len = max;
    while (s.len > 0 && ((unsigned char)s.ptr[s.len] & 0xc0) == 0x80)
        s.len--;
    return s;
}

struct frame *frame_close(uint16_t code, const char *reason)
{
    struct slice none = {0};
    if (code == WS_CLOSE_NO_STATUS)
        return frame_new(WS_OP_CLOSE, false, none, none, 0);
    char status[2] = {(char)(code >> 8), (char)(code & 0xff)};
    struct slice text = reason != NULL ? cut_text(reason, CLOSE_REASON_MAX) : none;
    return frame_new(WS_OP_CLOSE, false, slice_of(status, 2), text, (uint32_t)(2 + text.len));
}

void frame_unref(struct frame *f)
{
    /* Release: what this thread did with the bytes happened before. Acquire, by the last one: what
     * all the others did happened before the memory goes. */
    if (atomic_fetch_sub_explicit(&f->refs, 1, memory_order_acq_rel) == 1)
        free(f);
}

struct frame *frame_raw(struct slice bytes)
{
    struct frame *f = mem_alloc(sizeof *f + bytes.len);
    atomic_init(&f->refs, 1);
    f->len = f->plain_bytes = (uint32_t)bytes.len;
    f->items = 0;
    f->header_len = 0;
    if (bytes.len != 0)
        memcpy(f->bytes, bytes.ptr, bytes.len);
    return f;
}
