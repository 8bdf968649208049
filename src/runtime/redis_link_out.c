/*
 * redis_link_out.c - hiredis's formatter in front of one buffer. Main thread.
 *
 *      names --500, another verb, end--> command --formatted--> bytes --send--> socket
 *
 * Sent bytes stay at the front of the buffer until it is empty, or until they outweigh the rest:
 * moving the rest for every partial send would cost more than the sending.
 */
#include "runtime/redis_link_out.h"

#include <errno.h>
#include <hiredis/hiredis.h>
#include <sys/socket.h>

enum {
    ARGS_MAX = 1024,         /* of one command; two arrays of this many on the stack: 16 KiB */
    ARG_BYTES = 24,          /* what frames an argument: "$", digits, two line ends */
    KEPT_BYTES = 256 * 1024, /* buffer kept when all is sent */
    COMPACT_BYTES = 1 << 20, /* sent bytes that are worth moving the rest for */
};

static size_t unsent_bytes(const struct redis_out *o)
{
    return o->bytes.len - o->sent;
}

static bool has_room(const struct redis_out *o, const struct slice *args, size_t count)
{
    size_t room = REDIS_OUT_MAX - unsent_bytes(o);
    for (size_t i = 0; i < count; i++) {
        if (args[i].len > REDIS_OUT_MAX || args[i].len + ARG_BYTES > room)
            return false;
        room -= args[i].len + ARG_BYTES;
    }
    return room >= ARG_BYTES;
}

bool redis_out_command(struct redis_out *o, const struct slice *args, size_t count)
{
    const char *ptrs[ARGS_MAX];
    size_t lens[ARGS_MAX];
    if (count == 0 || count > ARGS_MAX || !has_room(o, args, count))
        return false;
    for (size_t i = 0; i < count; i++) {
        ptrs[i] = args[i].len > 0 ? args[i].ptr : "";
        lens[i] = args[i].len;
    }
    char *text = NULL;
    long long len = redisFormatCommandArgv(&text, (int)count, ptrs, lens);
    if (len < 0)
        return false;
    buf_append(&o->bytes, text, (size_t)len);
    redisFreeCommand(text);
    return true;
}

bool redis_out_end_names(struct redis_out *o)
{
    if (o->verb == NULL)
        return true;
    struct slice args[REDIS_OUT_NAMES + 1] = {slice_str(o->verb)};
    size_t start = 0;
    for (size_t i = 0; i < o->names_count; i++) {
        args[i + 1] = slice_of(o->names.data + start, o->ends[i] - start);
        start = o->ends[i];
    }
    bool is_in = redis_out_command(o, args, o->names_count + 1);
    o->verb = NULL;
    o->names_count = 0;
    buf_clear(&o->names);
    return is_in;
}

bool redis_out_name(struct redis_out *o, const char *verb, struct slice name)
{
    bool is_same = o->verb == verb && o->names_count < REDIS_OUT_NAMES;
    if (!is_same && !redis_out_end_names(o))
        return false;
    o->verb = verb;
    buf_append(&o->names, name.ptr, name.len);
    o->ends[o->names_count++] = o->names.len;
    return true;
}

static void drop_sent(struct redis_out *o)
{
    if (unsent_bytes(o) == 0) {
        o->sent = 0;
        buf_clear(&o->bytes);
        if (o->bytes.cap > KEPT_BYTES)
            buf_fini(&o->bytes);
    } else if (o->sent > COMPACT_BYTES && o->sent > o->bytes.len / 2) {
        buf_consume(&o->bytes, o->sent);
        o->sent = 0;
    }
}

enum redis_out_status redis_out_send(struct redis_out *o, int fd)
{
    while (unsent_bytes(o) > 0) {
        ssize_t n = send(fd, o->bytes.data + o->sent, unsent_bytes(o), MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN || errno == EWOULDBLOCK ? REDIS_OUT_FULL : REDIS_OUT_FAILED;
        o->sent += (size_t)n;
        o->total += (uint64_t)n;
        drop_sent(o);
    }
    return REDIS_OUT_SENT;
}

size_t redis_out_unsent(const struct redis_out *o)
{
    return unsent_bytes(o);
}

void redis_out_fini(struct redis_out *o)
{
    buf_fini(&o->bytes);
    buf_fini(&o->names);
    *o = (struct redis_out){.total = o->total};
}
