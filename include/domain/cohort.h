/*
 * cohort.h - clients of one worker that want the same bytes: same subscriptions, same format.
 *
 * A cohort has one stream of frames and one pacing phase; a client in it is an offset into that
 * stream. Publishing to a cohort costs the same for one member or ten thousand; flushing it costs
 * one `send` per member, all from one contiguous buffer.
 *
 *      parts     . . . . . . . . | p p p          publications: sealed into frames | still pending
 *      ring      [ frame | frame | frame ]        references, with the offset of each end
 *                tail                    head     absolute byte offsets, never wrap
 *                  │            └─ flushed: members in step have had everything before this
 *                  └─ the furthest behind of the members that the kernel holds up
 *
 *      members   {cursor, fd, conn} {cursor, fd, conn} …  dense; each flush walks them round from
 *                                                         another one, so that nobody is always last
 *
 * What comes is pending until the flush, which seals it: several publications become the items of
 * one push message, made once for all members (raw clients get one message each). The parts of a
 * sealed frame are remembered while a member may still need them, so that it is known what a frame
 * that was never sent to someone would have brought.
 *
 * A member is in one of three states:
 *
 *      IN_STEP ──the kernel refuses bytes──> HELD ──past the soft mark──> LAGGING
 *         ^ <──────caught up from its cursor───┘ (keeps its cursor)         │ no cursor: what it
 *         └───────────────caught up with the newest values──────────────────┘ has seen (catchup.h)
 *
 * A worked example: three members, two 100-byte frames pending. One flush copies both into the
 * worker's scratch buffer and sends those 200 bytes to each. The third socket takes only 150: the
 * second frame goes, with 50 bytes sent, to the front of that connection's private queue, its
 * cursor moves to the end of that frame, and the member is held. It stays in the cohort, costs
 * nothing while others are served, and catches up from its own cursor when its socket drains.
 *
 * Owner: the worker's thread. Members leave by swap, so an index is valid until the next leave.
 * cohort.c has the set and the members, cohort_stream.c the stream, cohort_send.c gives it to the
 * members, cohort_gate.c has the rates.
 * Not here: which channels exist (hub), what a client may do (session).
 */
#ifndef TICKCAST_DOMAIN_COHORT_H
#define TICKCAST_DOMAIN_COHORT_H

#include "base/list.h"
#include "base/wheel.h"
#include "domain/item.h"
#include "protocol/command.h"
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

/* One subscription of a cohort. */
struct cohort_sub {
    struct hub_channel *channel;
    uint32_t back;     /* where this cohort stands in channel->cohorts */
    uint32_t max_rate; /* updates per second as granted; 0: no limit */
    uint8_t mode;      /* enum delivery_mode, as granted */
    bool delta;        /* patches wanted */
};

/* The rate of a subscription that has one: by max_rate, or by the namespace's batch_ms. All
 * members share it, so it costs nothing per client. */
struct cohort_gate {
    struct list waiting;  /* on cohort->waiting, ordered by due_ms, while something is held back */
    uint64_t due_ms;      /* when that is let through */
    uint64_t open_ms;     /* from when on an update passes at once */
    uint64_t sent;        /* the channel's count as of the last one let through */
    uint32_t interval_ms; /* 0: no gate */
    bool is_batch;        /* nothing passes at once: by batch_ms */
    bool is_steady;       /* has found its phase */
    struct item **held; /* mode all: everything held back, in order; else only the newest counts */
    uint32_t held_count;
    uint32_t held_cap;
};

/* A publication on its way through the stream. */
struct cohort_part {
    struct item *item; /* a reference */
    /* The publication alone in its message, uncompressed; lives as long as the item. Looked up
     * while the publication is at hand: it no longer is when the cohort is flushed. */
    struct frame *single;
    uint64_t missed;         /* publications left out before it */
    uint32_t sub_index : 24; /* in subs */
    uint32_t form : 8;       /* enum publication_form */
};

struct cohort_entry {
    struct frame *frame; /* a reference */
    uint64_t end;        /* stream offset behind it */
    uint64_t part_end;   /* number behind its last part */
};

enum member_state { MEMBER_IN_STEP, MEMBER_HELD, MEMBER_LAGGING };

struct cohort_member {
    uint64_t cursor; /* stream offset of the next byte for it; always between two frames */
    struct conn *conn;
    int fd;
    uint8_t state; /* enum member_state; LAGGING: cursor means nothing */
};

/* What appending touches comes first and fits a cache line: with many small cohorts, a publication
 * goes to hundreds of them that nobody has looked at for a while. */
struct cohort {
    struct cohort_part *parts; /* part_cap slots, a power of two; numbered from 0, never wrap */
    uint64_t part_first;       /* number of the oldest one kept */
    uint64_t part_sealed;      /* those before it are in frames */
    uint64_t part_end;         /* number of the next one */
    uint64_t pending_bytes;
    struct hub *hub;
    uint32_t part_cap;
    uint32_t unflushed; /* entries at the end of the ring behind `flushed` */
    struct cohort_format format;
    bool has_latest; /* a subscription may be conflated */
    bool has_all;    /* a subscription must not */

    struct list due;        /* on the hub's list of cohorts to flush this turn */
    uint64_t oldest_ns;     /* received_ns of the first part not yet flushed */
    uint64_t last_flush_ms; /* monotonic */
    struct wheel_timer pace;

    struct cohort_member *members;
    uint32_t member_count;
    uint32_t member_cap;
    uint32_t first_served; /* where the walk over the members begins, as a fraction of 2^32 */
    uint32_t held_count;
    uint32_t lagging_count;
    uint64_t head;
    uint64_t flushed;
    struct cohort_entry *ring; /* ring_cap slots, a power of two */
    uint32_t ring_cap;
    uint32_t ring_first;
    uint32_t ring_count;

    uint32_t sub_count;
    struct cohort_sub *subs; /* ordered by channel id */
    uint64_t set_hash;       /* of format and subscriptions, whatever their order; the hub's key */
    struct cohort_gate *gates; /* sub_count of them; NULL when no subscription has a rate */
    struct list waiting;       /* gates that hold something back */
    struct wheel_timer gate_timer;
};

/* The order-independent hash of one subscription, to be added up into set_hash. */
uint64_t cohort_sub_hash(const struct cohort_sub *sub);
uint64_t cohort_format_hash(struct cohort_format format);

/* An empty cohort of these subscriptions, which it enters into the channels' lists. Copies subs,
 * which must be ordered by channel id. */
struct cohort *cohort_new(struct hub *hub, struct cohort_format format,
                          const struct cohort_sub *subs, uint32_t count, uint64_t set_hash);
void cohort_free(struct cohort *c); /* must have no members; leaves the channels' lists */

/* Replaces the subscriptions of a cohort in place, keeping its members, which must be settled. */
void cohort_set_subs(struct cohort *c, const struct cohort_sub *subs, uint32_t count,
                     uint64_t set_hash);

/* The subscription to a channel, or NULL. */
struct cohort_sub *cohort_find(const struct cohort *c, const struct hub_channel *channel);

/* Adds a member that gets what comes from now on; returns its index. */
uint32_t cohort_join(struct cohort *c, struct conn *conn);

/* Takes a member out. The one that moves into its place is told its new index. */
void cohort_leave(struct cohort *c, uint32_t index);

/* The one door for a member's state. Leaving LAGGING, it has had everything up to the head. */
void cohort_set_state(struct cohort *c, uint32_t index, enum member_state state);

/* --- the stream ---------------------------------------------------------------------------- */

/* Adds a publication to the stream: shares it. Flushed at the end of this turn, or when the pacing
 * allows. Not the end of a value where clients are raw: they are told nothing of it. */
void cohort_append(struct cohort *c, struct item *item, uint32_t sub_index,
                   enum publication_form form, uint64_t missed);

/* Makes frames of what is pending. Stream offsets then cover everything that was appended. */
void cohort_seal(struct cohort *c);

/* Moves what a member has not been sent yet into its private queue, ahead of what is queued there
 * afterwards. For when order matters: snapshots, changes of the set. One that lags has all it is to
 * have there already. */
void cohort_settle(struct cohort *c, uint32_t index);

/* A frame leaves the ring. */
void cohort_drop_frame(struct cohort *c, struct frame *f);

/* Sends what is pending to every member in step. Called by the hub at the end of a turn. */
void cohort_flush(struct cohort *c);

/* Number of the first sealed part whose frame ends behind a stream offset. */
uint64_t cohort_part_behind(const struct cohort *c, uint64_t offset);

static inline struct cohort_part *cohort_part(const struct cohort *c, uint64_t number)
{
    return &c->parts[number & (c->part_cap - 1)];
}

/* Brings the place of the next part into the cache, to be written. */
static inline void cohort_prefetch_part(const struct cohort *c)
{
    if (c->part_cap != 0) /* else there is none yet, or no more */
        __builtin_prefetch(cohort_part(c, c->part_end), 1);
}

/* A member's socket takes bytes again and its private queue is empty: a held one goes on. */
void cohort_resume(struct cohort *c, uint32_t index);

/* --- rates --------------------------------------------------------------------------------- */

/* For cohort.c: makes and ends the gates of the present subs. */
void cohort_make_gates(struct cohort *c);
void cohort_drop_gates(struct cohort *c);
bool cohort_has_present_gates(const struct cohort *c); /* would they be made like this today? */

/* A publication of a subscription with a gate: passes now, or later, or never. */
void cohort_gate_take(struct cohort *c, uint32_t sub_index, struct item *item);

/* Lets everything that waits in the gates of mode `all` through, as before a change of the set. */
void cohort_gates_release_all_mode(struct cohort *c);

/* What gates of mode `latest` hold back goes on waiting when the set changes, and what has just
 * passed counts: kept of the old set (c may be NULL), given back to a cohort of one member. Where a
 * channel's rate is another one, its gate is new. */
struct gates_kept {
    struct kept_gate *list; /* in the order of their channels' ids */
    uint32_t count;
};
struct gates_kept cohort_gates_keep(const struct cohort *c);
void cohort_gates_give_back(struct cohort *c, const struct gates_kept *kept);
void cohort_gates_forget(struct gates_kept *kept);

/* The gates whose time has come. Called by the hub. */
void cohort_gates_on_due(struct cohort *c);

static inline bool cohort_is_gated(const struct cohort *c, uint32_t sub_index)
{
    return c->gates != NULL && c->gates[sub_index].interval_ms != 0;
}

/* The channel's count up to which members in step have been served. */
uint64_t cohort_position(const struct cohort *c, uint32_t sub_index);

#endif
