/*
 * redis_link_format.h - writes Redis commands as bytes. Part of redis_link; shows nothing of
 * hiredis.
 */
#ifndef TICKCAST_RUNTIME_REDIS_LINK_FORMAT_H
#define TICKCAST_RUNTIME_REDIS_LINK_FORMAT_H

#include "base/buf.h"
#include "base/slice.h"

/* What the command will take when formatted, or a little more. */
size_t redis_format_bytes(const struct slice *args, size_t count);

/* Appends one command. False, with nothing appended, when there is no memory for it, or count is 0
 * or above 1,024. */
bool redis_format_command(struct buf *out, const struct slice *args, size_t count)
    __attribute__((warn_unused_result));

#endif
