/*
 * redis_link_format.c - hiredis's formatter, given slices.
 */
#include "runtime/redis_link_format.h"

#include <hiredis/hiredis.h>

enum {
    ARGS_MAX = 1024,   /* two arrays of this many on the stack: 16 KiB */
    HEADER_BYTES = 24, /* "*" or "$", digits, and the two line ends of an argument */
};

size_t redis_format_bytes(const struct slice *args, size_t count)
{
    size_t bytes = HEADER_BYTES;
    for (size_t i = 0; i < count; i++)
        bytes += HEADER_BYTES + args[i].len;
    return bytes;
}

bool redis_format_command(struct buf *out, const struct slice *args, size_t count)
{
    const char *ptrs[ARGS_MAX];
    size_t lens[ARGS_MAX];
    if (count == 0 || count > ARGS_MAX)
        return false;
    for (size_t i = 0; i < count; i++) {
        ptrs[i] = args[i].len > 0 ? args[i].ptr : "";
        lens[i] = args[i].len;
    }
    char *text = NULL;
    long long len = redisFormatCommandArgv(&text, (int)count, ptrs, lens);
    if (len < 0)
        return false;
    buf_append(out, text, (size_t)len);
    redisFreeCommand(text);
    return true;
}
