/*
 * bus_priv.h - what the parts of the bus share: bus.c (interest, links, messages), bus_stored.c
 * (what is kept in Redis: first reads, healing, renewed epochs), bus_read.c (the reads themselves),
 * bus_held.c (messages that wait for them), bus_expiry.c (values that end), bus_recovery.c (positions
 * that clients come back with), bus_mirror.c (whole namespaces).
 */
#ifndef TICKCAST_DOMAIN_BUS_PRIV_H
#define TICKCAST_DOMAIN_BUS_PRIV_H

#include "base/list.h"
#include "base/map.h"
#include "base/wheel.h"
#include "domain/bus.h"
#include "domain/bus_channel.h"
#include "domain/feed_health.h"
#include "domain/hub.h"
#include "protocol/channel.h"
#include "protocol/trace.h"

#include <stdatomic.h>

#define BUS_WORKERS_MAX 64

struct bus_mirror;

struct bus_batch {
    struct publication **list; /* one reference each */
    uint32_t count;
    uint32_t cap;
};

/* The note that came last, for the very next message, and what waits for the end of the read. */
struct bus_trace {
    bool is_heard;
    bool is_made;
    uint8_t trace_len;
    uint8_t channel_len;
    char trace[TRACE_BYTES_MAX];
    char channel[CHANNEL_BYTES_MAX];
    struct list pending; /* struct delivery */
};

struct bus {
    struct bus_setup setup;
    struct slice prefix;
    struct redis_link *subscriber;
    struct redis_link *command;
    struct feed_health *health;
    struct bus_intake intake;
    struct bus_trace trace;
    struct hub **hubs;
    unsigned hub_count;
    struct bus_batch batches[BUS_WORKERS_MAX]; /* publications of the read under way, by worker */
    struct map channels;                       /* name -> bus_channel */
    uint64_t followed;                         /* channels that a worker follows */
    uint64_t unconfirmed;                      /* channels that are not live */
    struct wheel lingering;
    struct loop_timer *linger_timer;
    struct wheel expiries;
    struct loop_timer *expiry_timer;
    struct loop_timer *patience_timer;
    uint64_t patience_from_ms; /* messages are kept back without an answer; monotonic */
    uint32_t patience_count;   /* begun for a subscriber link, and nothing was read since */
    struct loop_timer *again_timer;
    bool has_answered;   /* something was read since either link came up */
    bool store_refuses;  /* by its last answer, for now: it loads, or fails over */
    bool is_unanswered;  /* the same, or the command link was lost, and nothing was read since */
    bool asks_again;     /* again_timer is set */
    struct list reads;   /* struct bus_read that wait for their turn */
    struct list looks;   /* those that wait until there are no others */
    struct list flying;  /* those that were asked */
    struct list refused; /* those that are asked again, a few at a time */
    uint32_t reads_in_flight;
    struct bus_mirror *mirrors; /* namespaces that are received whole */
    unsigned mirror_count;
    uint64_t mirrored;   /* channels that stay without a follower */
    uint64_t held_bytes; /* of messages kept back, on all channels */
    bool has_lost;       /* the subscriber link was up once before: what lies between is a hole */
    size_t reply_bytes;  /* the command link's limit */
    char admin_channel[80];
    _Atomic(const char *) reason; /* why the feed is suspect; NULL: it is ok */
};

/* --- bus.c ----------------------------------------------------------------------------------- */

struct bus_channel *bus_add_channel(struct bus *b, struct slice name);

/* Hands a publication to the workers that follow the channel, with this turn's others; takes p. */
void bus_hand_out(struct bus *b, struct bus_channel *c, struct publication *p);
void bus_post_batch(struct bus *b, unsigned worker); /* now, so that something may follow it */
void bus_post_batches(struct bus *b);                /* all that was handed out */

/* One message of a channel, whatever is being read. True when it became a publication. */
bool bus_take_now(struct bus *b, struct bus_channel *c, struct slice payload);

/* One message of a channel, now or when it was kept back. */
bool bus_take_message(struct bus *b, struct bus_channel *c, struct slice payload);

/* Nothing may hold the channel any more: it goes after linger_ms, unless somebody wants it. */
void bus_let_go(struct bus *b, struct bus_channel *c);

/* The channel is confirmed, and what is stored was read or need not be. */
void bus_go_live(struct bus *b, struct bus_channel *c);

/* --- bus_stored.c ---------------------------------------------------------------------------- */

/* Is anything of the channel kept in Redis, by its namespace or because it was found stamped? */
bool bus_is_stored(const struct bus_channel *c);

/* Reads what is stored of a channel, and heals what is missing; bus_go_live follows, maybe now. */
void bus_load(struct bus *b, struct bus_channel *c);

/* The numbers went back: has the epoch changed. The message is kept back meanwhile. */
void bus_on_regressed(struct bus *b, struct bus_channel *c, struct slice payload);

void bus_forget_stored(struct bus *b, struct bus_channel *c); /* before it is freed */
void bus_stored_init(struct bus *b);
void bus_stored_fini(struct bus *b);

/* --- bus_read.c ------------------------------------------------------------------------------ */

/* Has the store refused to tell what it has of the channel for longer than a client waits? */
bool bus_is_overdue(const struct bus_channel *c);
bool bus_is_unknown(const struct bus_channel *c); /* and nothing was published since */

void bus_ask_later(struct bus *b);       /* the store refuses for now: a little later again */
void bus_command_link_up(struct bus *b); /* reads that were lost begin again */
void bus_command_link_down(struct bus *b);
void bus_reads_init(struct bus *b);
void bus_reads_fini(struct bus *b);

/* --- bus_held.c ------------------------------------------------------------------------------ */

#define BUS_PATIENCE_MS 1500 /* with a command link that is down, or a store that refuses */

/* Are the channel's messages kept back just now? If so, takes a copy of this one. */
bool bus_hold(struct bus *b, struct bus_channel *c, struct slice payload);

/* Takes what was kept back, in order. A message that starts another read keeps the rest back. */
void bus_release_held(struct bus *b, struct bus_channel *c);
void bus_hole_behind_held(struct bus_channel *c); /* what is kept back came before it */

/* The oldest one of a list, which the caller frees; NULL when there is none. */
struct held_message *bus_shift_held(struct bus *b, struct list *held);
bool bus_held_stamp(const struct list *at, struct stamp *out); /* false: it is plain */
bool bus_is_before_hole(const struct list *at); /* the subscriber link was lost behind it */

/* Are the oldest two numbers in a row below what was seen? A stray or forged message does not do that. */
bool bus_holds_run_of_regressed(const struct bus_channel *c);

void bus_go_unanswered(struct bus *b);      /* the store refuses, or its link was lost */
void bus_subscriber_link_up(struct bus *b); /* the other one has a while to follow */
void bus_forget_held(struct bus *b, struct bus_channel *c);
void bus_held_init(struct bus *b);
void bus_held_fini(struct bus *b);

/* --- bus_expiry.c ---------------------------------------------------------------------------- */

/* The stored value lives for so long, or (negative) for ever. */
void bus_expiry_found(struct bus *b, struct bus_channel *c, int64_t ttl_ms);
void bus_expiry_on_message(struct bus *b, struct bus_channel *c); /* its life is another one */
void bus_expiry_look_again(struct bus *b, struct bus_channel *c); /* nothing was found out */
void bus_expiry_end(struct bus *b, struct bus_channel *c);        /* it is over: tells followers */
void bus_expiry_forget(struct bus *b, struct bus_channel *c);     /* before it is freed */
void bus_expiry_init(struct bus *b);
void bus_expiry_fini(struct bus *b);

/* --- bus_recovery.c -------------------------------------------------------------------------- */

/* For hub_upstream.recover: in the worker's thread. */
void bus_post_recover(void *arg, unsigned worker, struct slice channel, struct slice epoch,
                      uint64_t seq, uint64_t token);
void bus_serve_recoveries(struct bus *b, struct bus_channel *c); /* the channel is live */
void bus_give_up_recoveries(struct bus_channel *c); /* nobody can answer: snapshots will do */
void bus_forget_recoveries(struct bus_channel *c);  /* nobody waits for them any more */
void bus_record_recent(struct bus_channel *c, struct publication *p); /* shares p */

/* --- bus_publish.c --------------------------------------------------------------------------- */

/* For hub_upstream.publish: in the worker's thread. */
void bus_post_publish(void *arg, unsigned worker, struct slice channel, struct slice payload,
                      uint64_t token);

/* --- bus_trace.c ----------------------------------------------------------------------------- */

void bus_trace_up(struct bus *b); /* the subscriber link */

/* A message on no followed channel: true when it is a trace note. */
bool bus_trace_hear(struct bus *b, struct slice channel, struct slice payload);

/* Any other message: it is the one that the last note was for, if their channels agree. taken: it
 * became a publication. Called only when there is a note, or everything is to be logged. */
void bus_trace_message(struct bus *b, struct bus_channel *c, struct slice payload, bool taken);
void bus_trace_forget(struct bus *b); /* what the note was for has not come */

/* At the end of a read, behind its publications: has the workers count who got them. */
void bus_trace_post(struct bus *b);
void bus_trace_fini(struct bus *b);

#endif
