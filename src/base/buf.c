/*
 * buf.c - growable byte buffer.
 */
#include "base/buf.h"

#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUF_FIRST_BYTES 256 /* one small message without a second allocation */

void buf_fini(struct buf *b)
{
    free(b->data);
    *b = (struct buf){0};
}

char *buf_reserve(struct buf *b, size_t extra)
{
    size_t need = b->len + extra;
    if (need > b->cap || b->data == NULL) {
        size_t cap = b->cap != 0 ? b->cap : BUF_FIRST_BYTES;
        while (cap < need)
            cap += cap / 2;
        b->data = mem_realloc(b->data, cap);
        b->cap = cap;
    }
    return b->data + b->len;
}

void buf_append(struct buf *b, const void *ptr, size_t len)
{
    if (len == 0)
        return;
    memcpy(buf_reserve(b, len), ptr, len);
    b->len += len;
}

void buf_append_str(struct buf *b, const char *text)
{
    buf_append(b, text, strlen(text));
}

void buf_append_u64(struct buf *b, uint64_t value)
{
    char digits[20];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    buf_append(b, digits + at, sizeof digits - at);
}

void buf_printf(struct buf *b, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (len < 0)
        return;
    char *tail = buf_reserve(b, (size_t)len + 1);
    va_start(args, format);
    vsnprintf(tail, (size_t)len + 1, format, args);
    va_end(args);
    b->len += (size_t)len;
}

void buf_consume(struct buf *b, size_t len)
{
    if (len < b->len)
        memmove(b->data, b->data + len, b->len - len);
    b->len -= len;
}
