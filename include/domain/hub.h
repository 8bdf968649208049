/*
 * hub.h - one worker's channels: who on this worker follows what.
 *
 * The hub knows the cohorts of each channel, hands publications to them, keeps the last value for
 * snapshots, and asks the bus (main thread) for channels that nobody here followed before. A
 * channel exists while a cohort follows it or a subscribe waits for it, and is deleted at once
 * when the last one leaves; the bus lets the Redis subscription linger.
 *
 * Owner: the worker's thread. The bus reaches it only through hub_post_*.
 */
#ifndef TICKCAST_DOMAIN_HUB_H
#define TICKCAST_DOMAIN_HUB_H

#include "base/list.h"
#include "base/map.h"
#include "base/wheel.h"
#include "domain/cohort.h"
#include "protocol/publication.h"
#include "runtime/worker.h"

#include <stdbool.h>
#include <stdint.h>

struct sub_request;

/* What a hub needs of the bus. Called in the worker's thread. */
struct hub_upstream {
    /* This worker follows, or no longer follows, a channel. */
    void (*interest)(void *arg, unsigned worker, struct slice channel, bool wanted);
    /* NULL while the feed is ok, else static text why it is suspect. */
    const char *(*readiness)(const void *arg);
    void *arg;
};

struct channel_follower {
    struct cohort *cohort;
    uint32_t sub_index; /* in cohort->subs */
};

struct hub_channel {
    uint64_t id; /* unique and rising within the hub: the order of subscriptions in a cohort */
    uint64_t hash;
    const struct config_namespace *ns;
    bool live;                   /* Redis confirmed the subscription */
    struct publication *last;    /* the value for snapshots, a reference, or NULL */
    char epoch[STAMP_EPOCH_MAX]; /* of the last numbered publication */
    uint8_t epoch_len;
    struct channel_follower *cohorts;
    uint32_t cohort_count;
    uint32_t cohort_cap;
    struct sub_request **waiting; /* subscribes to be answered once it is live */
    uint32_t waiting_count;
    struct session **fresh; /* sessions whose next item here must carry the epoch */
    uint32_t fresh_count;
    uint32_t pins; /* requests and builders that hold it */
    uint8_t name_len;
    char name[];
};

struct hub {
    struct worker *worker;
    struct hub_upstream upstream;
    struct map channels; /* name -> hub_channel */
    struct map cohorts;  /* set_hash -> cohort */
    struct wheel pacing; /* 1 ms ticks */
    struct loop_timer *pacing_timer;
    uint64_t pacing_due_ms; /* when pacing_timer fires; UINT64_MAX: it is not set */
    struct list due;        /* cohorts to flush at the end of this turn */
    struct list requests;   /* all subscribes that wait for Redis */
    struct buf scratch;     /* contiguous bytes of the batch being sent */
    uint64_t next_channel_id;
    uint64_t next_session_id; /* starts at random, so that ids differ after a restart */
    uint64_t started_ms;      /* monotonic */
    uint64_t pace_ms;
    bool feed_ok;
    const char *feed_reason; /* static text while not ok */
};

struct hub *hub_new(struct worker *worker, const struct hub_upstream *upstream); /* copied */
void hub_free(struct hub *h); /* after all sessions are gone */

static inline struct slice hub_channel_name(const struct hub_channel *c)
{
    return slice_of(c->name, c->name_len);
}

static inline struct hub *hub_of(const struct worker *w)
{
    return w->upper;
}

/* The channel of that name, made when there is none; asks the bus for it then. name is valid. The
 * caller gets a pin and must give it back with hub_unpin. */
struct hub_channel *hub_pin(struct hub *h, struct slice name, const struct config_namespace *ns);
void hub_unpin(struct hub *h, struct hub_channel *c);
struct hub_channel *hub_find(const struct hub *h, struct slice name); /* or NULL; no pin */

/* The cohort of exactly this set and format, or NULL; its hash either way. subs are ordered by
 * channel id. */
struct cohort *hub_find_cohort(struct hub *h, struct cohort_format format,
                               const struct cohort_sub *subs, uint32_t count, uint64_t *set_hash);
void hub_forget_cohort(struct hub *h, struct cohort *c); /* before it is freed or changed */
void hub_remember_cohort(struct hub *h, struct cohort *c);

/* For cohort.c: enters a cohort with new output into this turn's list or the pacing wheel. */
void hub_schedule(struct hub *h, struct cohort *c);

/* The frame of a publication in a cohort's format; borrows; NULL when there is nothing to send. */
struct frame *hub_frame(struct hub *h, struct publication *p, struct cohort_format format,
                        enum publication_form form);

/* From the bus, in its thread. Lists are taken; each publication's reference with them. */
void hub_post_publications(struct hub *h, struct publication **list, uint32_t count);
void hub_post_live(struct hub *h, struct slice channel, struct publication *last); /* shares last */
void hub_post_feed(struct hub *h, bool ok, const char *reason);

#endif
