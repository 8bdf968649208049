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
#include "domain/notes.h"
#include "domain/session_ids.h"
#include "domain/standing.h"
#include "protocol/errors.h"
#include "protocol/publication.h"
#include "runtime/worker.h"

#include <stdbool.h>
#include <stdint.h>

struct quality_monitor;
struct session_store;
struct sub_request;

/* What a hub needs of the bus. Called in the worker's thread. */
struct hub_upstream {
    /* This worker follows, or no longer follows, a channel. */
    void (*interest)(void *arg, unsigned worker, struct slice channel, bool wanted);
    /* What was published on a followed channel since a position; hub_post_recovery answers. */
    void (*recover)(void *arg, unsigned worker, struct slice channel, struct slice epoch,
                    uint64_t seq, uint64_t token);
    /* A client publishes; hub_post_published answers. payload is copied. */
    void (*publish)(void *arg, unsigned worker, struct slice channel, struct slice payload,
                    uint64_t token);
    /* NULL while the feed is ok, else static text why it is suspect. */
    const char *(*readiness)(const void *arg);
    void *arg;
};

struct channel_follower {
    struct cohort *cohort;
    uint32_t sub_index : 30; /* in cohort->subs */
    uint32_t is_gated : 1;
    uint32_t delta : 1;
};

/* What the bus says to a position. */
enum recovered {
    NOT_RECOVERED,
    RECOVERED,
    RECOVERED_AHEAD, /* the client is ahead of us: what it has is stored, and still to come here */
};

/* A recovery that is under way: it keeps what comes meanwhile. */
struct channel_recorder {
    struct sub_request *request;
    uint32_t recovery; /* in request->recoveries, which knows where it stands here */
};

/*
 * Publications are counted per channel and worker, those included that never arrived (gaps). That
 * count, not the publishers' seq, is what positions are kept in: it also numbers plain messages,
 * goes on over a change of the epoch, and a difference of two is what someone missed.
 */
struct hub_channel {
    uint64_t id; /* unique and rising within the hub: the order of subscriptions in a cohort */
    uint64_t hash;
    const struct config_namespace *ns;
    bool live;                   /* Redis confirmed the subscription */
    bool is_doubtful;            /* something may have been lost before the next publication */
    uint64_t count;              /* publications so far */
    uint64_t epoch_count;        /* of the first one of the present epoch */
    uint64_t snap_count;         /* of the last one that replaces what followers have */
    struct item *last;           /* the newest one with a number, or NULL */
    struct item *plain;          /* the newest one without, when it came after `last` */
    char epoch[STAMP_EPOCH_MAX]; /* of the last numbered publication, or of base before one came */
    uint8_t epoch_len;
    struct position base; /* where Redis was, when it had no value; epoch_len 0: unknown */
    struct channel_follower *cohorts;
    uint32_t cohort_count;
    uint32_t cohort_cap;
    struct sub_request **waiting; /* subscribes to be answered once it is live */
    uint32_t waiting_count;
    struct notes notes;
    uint32_t delta_count; /* followers that want patches */
    struct channel_recorder *recorders;
    uint32_t recorder_count;
    uint32_t recorder_cap;
    uint64_t asked_in; /* number of the last sub_request that it was put into */
    uint32_t pins;     /* requests and builders that hold it */
    uint8_t name_len;
    char name[];
};

/* Timers of cohorts, in ticks of 1 ms, under one timer of the loop. */
struct hub_clock {
    struct wheel wheel;
    struct loop_timer *timer;
    uint64_t due_ms; /* when `timer` fires; UINT64_MAX: it is not set */
};

struct hub {
    struct worker *worker;
    struct hub_upstream upstream;
    struct quality_monitor *monitor; /* hears of arrivals; NULL: nobody does */
    struct session_store *sessions;  /* keeps them for who comes back; NULL: nobody does */
    struct map channels;             /* name -> hub_channel */
    struct map cohorts;              /* set_hash -> cohort */
    struct map recovering;           /* number -> sub_request that waits for recoveries */
    struct map resuming;             /* session id -> resume_ask that waits for the store */
    struct session_ids session_ids;
    struct hub_clock pacing;
    struct hub_clock gates;
    struct list due;        /* cohorts to flush at the end of this turn */
    struct list requests;   /* all subscribes that wait for Redis */
    struct list publishes;  /* clients' publications that Redis has not answered */
    struct hub_pack *packs; /* compressed messages of this turn, by what is in them */
    bool has_packs;
    struct buf scratch;            /* contiguous bytes of the batch being sent */
    struct departures *departures; /* while the node drains, else NULL */
    uint64_t next_channel_id;
    uint64_t next_token;
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

/* Clients of this worker that follow the channel. */
uint64_t hub_count_subscribers(const struct hub *h, struct slice name);

/* The cohort of exactly this set and format, or NULL; its hash either way. subs are ordered by
 * channel id. */
struct cohort *hub_find_cohort(struct hub *h, struct cohort_format format,
                               const struct cohort_sub *subs, uint32_t count, uint64_t *set_hash);
void hub_forget_cohort(struct hub *h, struct cohort *c); /* before it is freed or changed */
void hub_remember_cohort(struct hub *h, struct cohort *c);

/* For cohorts: enters one with new output into this turn's list or the pacing wheel. */
void hub_schedule(struct hub *h, struct cohort *c);
void hub_schedule_now(struct hub *h, struct cohort *c); /* whatever the pace */
void hub_set_gate_timer(struct hub *h, struct cohort *c, uint64_t due_ms);

/* The frame of a publication in a cohort's format; borrows; NULL when there is nothing to send. */
struct frame *hub_frame(struct hub *h, struct publication *p, struct cohort_format format,
                        enum publication_form form);

/* A message in a cohort's format: takes a plain one, returns owned. The same bytes are compressed
 * once per turn, whoever asks. */
struct frame *hub_pack(struct hub *h, struct frame *plain, struct cohort_format format);

/* How an item is told to someone who has seen the channel up to a count. */
enum publication_form hub_form(const struct hub_channel *c, const struct item *item, uint64_t seen);

/* Appends an item to a cohort's stream, and privately gives it to those of its members about whom
 * the channel has a note. */
void hub_append_noted(struct hub_channel *c, struct cohort *cohort, uint32_t sub_index,
                      struct item *item, enum publication_form form, uint64_t missed);
/* The note takes what `at` owns; hub_take_note gives it back: false when there is none. */
void hub_add_note(struct hub_channel *c, struct session *s, const struct standing *at);
bool hub_take_note(struct hub_channel *c, struct session *s, struct standing *at);
void hub_drop_note(struct hub_channel *c, struct session *s);

/* From now on the recovery keeps what comes on its channel, until it is taken off. */
void hub_add_recorder(struct sub_request *r, uint32_t recovery);
void hub_drop_recorder(struct sub_request *r, uint32_t recovery);

/* From the bus, in its thread. Lists are taken; each publication's reference with them. */
void hub_post_publications(struct hub *h, struct publication **list, uint32_t count);

/* The channel is confirmed and its state is known; shares last, which may be NULL: then base says
 * up to where it is numbered all the same, or is NULL. is_current false: something may have been
 * lost before the next publication. */
void hub_post_live(struct hub *h, struct slice channel, struct publication *last,
                   const struct position *base, bool is_current);

/* ok only once everything that could be healed was posted. */
void hub_post_feed(struct hub *h, bool ok, const char *reason);

/* Hands over the configuration that succeeds the present one (hub_config.c): shares next. What the
 * hub is posted afterwards finds it taken. */
void hub_post_config(struct hub *h, const struct config *next);

/* Answers upstream.recover. RECOVERED: the list is exactly what lies between the asked position and
 * the place of this message among the posts to this hub. */
void hub_post_recovery(struct hub *h, uint64_t token, struct publication **list, uint32_t count,
                       enum recovered recovered);

/* Answers upstream.publish: ERR_NONE with what the publication was given, or why it failed. */
void hub_post_published(struct hub *h, uint64_t token, enum error_code error, uint64_t seq,
                        struct slice epoch);

#endif
