/*
 * cohort.h - clients of one worker that want the same bytes: same channels, same format.
 *
 * A cohort has one stream of frames and one pacing phase; a client in it is an offset into that
 * stream. Publishing to a cohort costs the same for one member or ten thousand; flushing it costs
 * one `send` per member, all from one contiguous buffer.
 *
 *      ring      [ frame | frame | frame | frame ]        references, with the offset of each end
 *                tail                            head     absolute byte offsets, never wrap
 *                  │            └─ flushed: members in step have had everything before this
 *                  └─ the furthest behind of the members that the kernel holds up
 *
 *      members   {cursor, fd, conn} {cursor, fd, conn} …  dense, walked in order when flushing
 *
 * A worked example: three members, two 100-byte frames pending. One flush copies both into the
 * worker's scratch buffer and sends those 200 bytes to each. The third socket takes only 150: the
 * second frame goes, with 50 bytes sent, to the front of that connection's private queue, its
 * cursor moves to the end of that frame, and the member is held. It stays in the cohort, costs
 * nothing while others are served, and catches up from its own cursor when its socket drains.
 *
 * Owner: the worker's thread. Members leave by swap, so an index is valid until the next leave.
 * Not here: which channels exist (hub), what a client may do (session).
 */
#ifndef TICKCAST_DOMAIN_COHORT_H
#define TICKCAST_DOMAIN_COHORT_H

#include "base/list.h"
#include "base/wheel.h"
#include "protocol/command.h"
#include "protocol/publication.h"
#include "runtime/conn.h"

#include <stdbool.h>
#include <stdint.h>

struct hub;
struct hub_channel;
struct session;

/* What makes two clients' bytes differ, besides the channels. */
struct cohort_format {
    bool raw;            /* payloads alone, else protocol 1 in JSON */
    bool deflate;        /* permessage-deflate */
    uint8_t window_bits; /* with deflate: frames that need more go out uncompressed */
};

/* One channel of a cohort. */
struct cohort_sub {
    struct hub_channel *channel;
    uint32_t back;     /* where this cohort stands in channel->cohorts */
    uint32_t max_rate; /* as granted; kept for `list` */
    uint8_t mode;      /* enum delivery_mode, as granted */
};

struct cohort_entry {
    struct frame *frame; /* a reference */
    uint64_t end;        /* stream offset behind it */
};

struct cohort_member {
    uint64_t cursor; /* stream offset of the next byte for it; always between two frames */
    struct conn *conn;
    int fd;
    bool held; /* the kernel refused bytes: skipped until its socket drains */
};

struct cohort {
    struct hub *hub;
    uint64_t set_hash; /* of format and channels, whatever their order; key in the hub's map */
    struct cohort_format format;
    struct cohort_sub *subs; /* ordered by channel id */
    uint32_t sub_count;
    uint32_t member_count;
    uint32_t member_cap;
    uint32_t held_count;
    struct cohort_member *members;

    struct cohort_entry *ring; /* ring_cap slots, a power of two */
    uint32_t ring_cap;
    uint32_t ring_first;
    uint32_t ring_count;
    uint32_t unflushed; /* entries at the end of the ring behind `flushed` */
    uint64_t head;
    uint64_t flushed;
    uint64_t oldest_ns;     /* received_ns of the first entry behind `flushed` */
    uint64_t last_flush_ms; /* monotonic */
    struct wheel_timer pace;
    struct list due; /* on the hub's list of cohorts to flush this turn */
};

/* The order-independent hash of one subscription, to be added up into set_hash. */
uint64_t cohort_sub_hash(const struct cohort_sub *sub);
uint64_t cohort_format_hash(struct cohort_format format);

/* An empty cohort of these channels, which it enters into the channels' lists. Copies subs, which
 * must be ordered by channel id. */
struct cohort *cohort_new(struct hub *hub, struct cohort_format format,
                          const struct cohort_sub *subs, uint32_t count, uint64_t set_hash);
void cohort_free(struct cohort *c); /* must have no members; leaves the channels' lists */

/* Replaces the channels of a cohort in place, keeping its members. */
void cohort_set_subs(struct cohort *c, const struct cohort_sub *subs, uint32_t count,
                     uint64_t set_hash);

/* The subscription to a channel, or NULL. */
struct cohort_sub *cohort_find(const struct cohort *c, const struct hub_channel *channel);

/* Adds a member that gets what comes from now on; returns its index. */
uint32_t cohort_join(struct cohort *c, struct conn *conn);

/* Takes a member out. The one that moves into its place is told its new index. */
void cohort_leave(struct cohort *c, uint32_t index);

/* Moves what a member has not been sent yet into its private queue, ahead of what is queued there
 * afterwards. For when order matters: snapshots, changes of the set. */
void cohort_settle(struct cohort *c, uint32_t index);

/* Appends a frame to the stream: shares f. Flushed at the end of this turn, or when the pacing
 * allows. */
void cohort_append(struct cohort *c, struct frame *f, uint64_t received_ns);

/* Sends what is pending to every member in step. Called by the hub at the end of a turn. */
void cohort_flush(struct cohort *c);

/* A member's socket takes bytes again and its private queue is empty. */
void cohort_resume(struct cohort *c, uint32_t index);
void cohort_hold(struct cohort *c, uint32_t index); /* its socket refused bytes */

#endif
