/*
 * redis_link_out.h - what a Redis connection has yet to send. Part of redis_link; shows nothing of
 * hiredis.
 *
 * Commands become bytes when they are put in. Names to subscribe to are gathered first, so that
 * many leave in one command; order is kept, whatever verbs are mixed. What waits is bounded.
 */
#ifndef TICKCAST_RUNTIME_REDIS_LINK_OUT_H
#define TICKCAST_RUNTIME_REDIS_LINK_OUT_H

#include "base/buf.h"
#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    REDIS_OUT_NAMES = 500,            /* channels in one SUBSCRIBE */
    REDIS_OUT_MAX = 64 * 1024 * 1024, /* unsent bytes: Redis has not read for too long */
};

enum redis_out_status { REDIS_OUT_SENT, REDIS_OUT_FULL, REDIS_OUT_FAILED };

/* A zeroed struct has nothing to send and holds no memory. */
struct redis_out {
    struct buf bytes;
    size_t sent;      /* of bytes */
    uint64_t total;   /* bytes sent, on all connections so far */
    const char *verb; /* of the names gathered; NULL when there are none */
    size_t names_count;
    struct buf names;             /* one behind the other */
    size_t ends[REDIS_OUT_NAMES]; /* where in names each ends */
};

/* Both copy. False: there is no room, and what was asked is not (or not wholly) in. */
bool redis_out_command(struct redis_out *o, const struct slice *args, size_t count)
    __attribute__((warn_unused_result));

/* verb is static and compared by pointer. */
bool redis_out_name(struct redis_out *o, const char *verb, struct slice name)
    __attribute__((warn_unused_result));

/* Makes a command of the names gathered. False: as above. */
bool redis_out_end_names(struct redis_out *o) __attribute__((warn_unused_result));

/* Sends what the socket takes. FULL: call again when it is writable; FAILED: errno says why. */
enum redis_out_status redis_out_send(struct redis_out *o, int fd);

size_t redis_out_unsent(const struct redis_out *o); /* bytes that the socket has not taken */
void redis_out_fini(struct redis_out *o);           /* forgets everything but the total */

#endif
