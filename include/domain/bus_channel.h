/*
 * bus_channel.h - one channel that the node follows, and how its messages become publications.
 *
 * The numbering of a channel, as this node knows it:
 *
 *      epoch, seq   the newest publication known, from the subscriber link or from the store
 *      live_seq     the newest one seen on the subscriber link, or known before it came up
 *      retired      the epoch before the present one. Changed by us after a failover took numbers
 *                   back: what was stamped with it before belongs to the present one. Found changed
 *                   in the store: what was stamped with it up to retired_seq, the newest number
 *                   known then or stored, was said again by a copy that was behind, or went into
 *                   the value that got the new epoch, and the store covers it
 *
 * The store and the stream come over two connections, so after a read of the store, messages that
 * it already covers are still on their way: live_seq < their seq <= seq, and they are dropped. One
 * at or below live_seq is another matter: the numbers have gone back.
 *
 * Owner: the main thread. Pure apart from counting: the tests feed it payloads.
 */
#ifndef TICKCAST_DOMAIN_BUS_CHANNEL_H
#define TICKCAST_DOMAIN_BUS_CHANNEL_H

#include "base/list.h"
#include "base/rng.h"
#include "base/wheel.h"
#include "protocol/metrics.h"
#include "protocol/publication.h"

#include <stdbool.h>
#include <stdint.h>

struct bus_read;
struct config_namespace;

/* A message kept back until the channel's numbering is known. */
struct held_message {
    struct list link;
    size_t len;
    bool is_before_hole; /* the subscriber link was lost behind it */
    char bytes[];
};

struct bus_channel {
    uint64_t hash;
    const struct config_namespace *ns;
    uint64_t workers;    /* bit i: worker i follows it */
    bool confirmed;      /* Redis confirmed the subscription on the present link */
    bool live;           /* and what is stored was read */
    bool is_stamped;     /* its publishers stamp: plain messages are shown, but not numbered */
    bool has_hole;       /* something may have been lost since the last publication */
    bool is_mirrored;    /* stays without a follower: its namespace is mirrored */
    bool has_expiry;     /* the stored value has a time to live, or the last one had */
    uint8_t epoch_len;   /* 0: nothing numbered yet */
    uint8_t retired_len; /* 0: none */
    char epoch[STAMP_EPOCH_MAX];
    char retired[STAMP_EPOCH_MAX];
    uint64_t retired_seq;        /* 0: messages of the retired epoch belong to the present one */
    uint64_t seq;                /* of the newest numbered publication */
    uint64_t ts_ms;              /* of the same */
    uint64_t live_seq;           /* of the newest one seen on the subscriber link, or before it */
    uint64_t coming_seq;         /* stored, and still on its way over that link; 0: none known */
    struct publication *last;    /* its value, a reference; NULL when none or cleared */
    struct wheel_timer linger;   /* set while no worker follows it */
    struct wheel_timer expiry;   /* when it is asked again how long the value lives */
    uint64_t look_from_ms;       /* a message is no reason to ask before */
    uint32_t look_pause_ms;      /* between two questions, the last time */
    struct bus_read *read;       /* under way or queued; messages are held back meanwhile */
    struct list held;            /* struct held_message, oldest first */
    struct list recoveries;      /* struct bus_recovery that wait */
    struct publication **recent; /* while a recovery reads: what came since, one reference each */
    uint32_t recent_count;
    uint32_t recent_cap;
    uint8_t name_len;
    char name[];
};

static inline struct slice bus_channel_name(const struct bus_channel *c)
{
    return slice_of(c->name, c->name_len);
}

static inline struct slice bus_channel_epoch(const struct bus_channel *c)
{
    return slice_of(c->epoch, c->epoch_len);
}

struct bus_intake {
    struct metrics *metrics;
    struct rng rng; /* epochs of plain channels */
};

void bus_intake_init(struct bus_intake *in, struct metrics *metrics);

enum intake_result {
    INTAKE_TAKEN,     /* *out is a publication, owned by the caller */
    INTAKE_DROPPED,   /* counted: no stamp, no UTF-8, or known already */
    INTAKE_REGRESSED, /* the numbers went back; nothing was changed */
};

/* Makes a publication of one message on a channel, numbers it where it is plain, and keeps it as
 * the channel's value. */
enum intake_result bus_intake_take(struct bus_intake *in, struct bus_channel *c,
                                   struct slice message, struct publication **out);

/* A publication as it is kept in Redis. data is borrowed; empty: the value was cleared. */
struct stored_entry {
    uint64_t seq;
    uint64_t ts_ms;
    struct slice data;
    bool is_too_large; /* it has data, but more than may be sent: not fetched */
};

/* Makes a publication of a stored entry, newer than what is known or of a new epoch. NULL, with
 * the numbering as it was, when its data cannot travel. is_snapshot: see struct publication. */
struct publication *bus_intake_stored(struct bus_intake *in, struct bus_channel *c,
                                      const struct stored_entry *entry, bool is_snapshot);

/* The same without touching the channel: for what it had before. */
struct publication *bus_intake_past(struct bus_intake *in, const struct bus_channel *c,
                                    const struct stored_entry *entry);

/* The value has ended without a publication (expired, or the store lost it): returns what tells
 * followers so. The numbering is forgotten. */
struct publication *bus_intake_end(struct bus_intake *in, struct bus_channel *c);

/* The channel is numbered in this epoch from now on; its newest number is `seq`. */
void bus_intake_set_epoch(struct bus_channel *c, struct slice epoch, uint64_t seq);

/* The same as it was found in the store, where it may have been changed because of a failover. */
void bus_intake_adopt_epoch(struct bus_channel *c, struct slice epoch, uint64_t seq);

/* The present epoch was changed to this one: messages stamped with the old one belong to it. */
void bus_intake_renew(struct bus_channel *c, struct slice epoch, uint64_t seq);

#endif
