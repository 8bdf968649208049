/*
 * line_reader.c - bounded lines, read in large pieces.
 *
 *      data  |handed out|line without its end yet ...|room|
 *                       at           at + scanned    len
 */
#include "ctl/line_reader.h"

#include <errno.h>
#include <unistd.h>

#define READ_BYTES 65536 /* one read: the usual line is far shorter */

/* Reads another piece, after dropping what was handed out. */
static bool read_more(struct line_reader *r)
{
    buf_consume(&r->data, r->at);
    r->at = 0;
    char *tail = buf_reserve(&r->data, READ_BYTES);
    ssize_t got;
    do
        got = read(r->fd, tail, READ_BYTES);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return false;
    r->data.len += (size_t)got;
    r->ended = got == 0;
    return true;
}

/* Looks for the end of the line in what is there. */
static bool find_end(struct line_reader *r, size_t *len)
{
    size_t left = r->data.len - r->at;
    if (left == 0)
        return false;
    const char *from = r->data.data + r->at;
    const char *end = memchr(from + r->scanned, '\n', left - r->scanned);
    r->scanned = left;
    if (end == NULL)
        return false;
    *len = (size_t)(end - from);
    return true;
}

static void take(struct line_reader *r, size_t bytes)
{
    r->at += bytes;
    r->scanned = 0;
}

static enum line_result finish_line(struct line_reader *r, size_t len, size_t end_bytes,
                                    struct slice *line)
{
    bool too_long = r->skipping || len > r->line_bytes_max;
    *line = slice_of(r->data.data + r->at, len);
    r->skipping = false;
    take(r, len + end_bytes);
    return too_long ? LINE_TOO_LONG : LINE_OK;
}

enum line_result line_reader_next(struct line_reader *r, struct slice *line)
{
    for (;;) {
        size_t len;
        if (find_end(r, &len))
            return finish_line(r, len, 1, line);
        size_t left = r->data.len - r->at;
        if (r->ended)
            return left > 0 || r->skipping ? finish_line(r, left, 0, line) : LINE_END;
        if (left > r->line_bytes_max) {
            r->skipping = true;
            take(r, left);
        }
        if (!read_more(r))
            return LINE_FAILED;
    }
}

void line_reader_fini(struct line_reader *r)
{
    buf_fini(&r->data);
}
