/*
 * buf.h - a growable run of bytes with one owner.
 *
 * A zeroed struct is an empty buffer that holds no memory. Bytes 0 .. len are content,
 * len .. cap are room. Appending never fails (see mem.h); bounding what a peer can make us
 * append is the caller's duty.
 */
#ifndef TICKCAST_BASE_BUF_H
#define TICKCAST_BASE_BUF_H

#include "base/slice.h"

#include <stdint.h>

struct buf {
    char *data;
    size_t len; /* bytes of content */
    size_t cap; /* bytes allocated */
};

void buf_fini(struct buf *b);                   /* releases the memory; b is empty again */
char *buf_reserve(struct buf *b, size_t extra); /* room for extra more bytes; returns the tail */
void buf_append(struct buf *b, const void *ptr, size_t len);
void buf_append_str(struct buf *b, const char *text);
void buf_append_u64(struct buf *b, uint64_t value); /* decimal */
void buf_printf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
void buf_consume(struct buf *b, size_t len); /* drops len bytes from the front */

static inline void buf_clear(struct buf *b)
{
    b->len = 0;
}

static inline struct slice buf_slice(const struct buf *b)
{
    return slice_of(b->data, b->len);
}

#endif
