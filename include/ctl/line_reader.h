/*
 * line_reader.h - lines of a file of any size, each bounded.
 *
 * A line is what stands before '\n', byte for byte, '\r' and NUL included; the last one may lack
 * its '\n'. A line that is too long is skipped as it is read, without being stored.
 */
#ifndef TICKCAST_CTL_LINE_READER_H
#define TICKCAST_CTL_LINE_READER_H

#include "base/buf.h"
#include "base/slice.h"

#include <stdbool.h>
#include <stddef.h>

/* Zero it, then set fd and line_bytes_max. */
struct line_reader {
    int fd;                /* borrowed */
    size_t line_bytes_max; /* without the '\n' */
    struct buf data;       /* read and not yet handed out, from `at` on */
    size_t at;
    size_t scanned; /* bytes behind `at` known to hold no '\n' */
    bool skipping;  /* inside a line that is too long */
    bool ended;     /* the file is read to its end */
};

enum line_result { LINE_OK, LINE_TOO_LONG, LINE_END, LINE_FAILED /* errno says why */ };

/* Hands out the next line; it borrows until the next call. */
enum line_result line_reader_next(struct line_reader *r, struct slice *line);
void line_reader_fini(struct line_reader *r);

#endif
