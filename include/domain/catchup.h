/*
 * catchup.h - clients that get values instead of the stream: those that fell behind, and those
 * that just subscribed and need snapshots.
 *
 * A slow client costs no queue and no work while it is slow: for each subscription one number says
 * which publication it has had last. When its socket takes bytes again, every subscription whose
 * channel has gone on since is served with the newest value, in turn and from where the last round
 * stopped, so that all channels get their share; `missed` is the difference of two numbers.
 * Publications of `all` subscriptions are not skipped: they wait in the connection's private queue,
 * by reference, up to the hard mark.
 *
 * Owner: the worker's thread.
 */
#ifndef TICKCAST_DOMAIN_CATCHUP_H
#define TICKCAST_DOMAIN_CATCHUP_H

#include "domain/cohort.h"
#include "domain/standing.h"

#include <stdbool.h>
#include <stdint.h>

struct catchup {
    uint32_t count;      /* of `at`: the cohort's subscriptions */
    uint32_t next;       /* subscription to be looked at first in the next round */
    bool is_slow;        /* it fell behind, rather than just subscribed */
    bool was_told;       /* `slow` was sent in this episode */
    uint64_t peak_bytes; /* that were waiting when it fell behind */
    struct standing at[];
};

/* before: what the session has now, whose episode goes on; or NULL. */
struct catchup *catchup_new(uint32_t count, const struct catchup *before);
void catchup_free(struct catchup *cu); /* NULL is harmless */

/* A held member goes past its soft mark: what it was not sent yet of `latest` subscriptions is
 * dropped, of `all` ones it moves to its private queue. waiting: bytes that lie before it. */
void catchup_begin_slow(struct cohort *c, uint32_t index, uint64_t waiting);

/* Where a session stands in a subscription of its present cohort. One that is not lagging must have
 * been settled. Moves it out of where it was kept: out of a note of the channel, or the catchup. */
struct standing catchup_standing(struct session *s, uint32_t sub_index);

/* The same without moving it. NULL: there is nothing special about it. */
const struct standing *catchup_peek(const struct session *s, uint32_t sub_index);

/* Makes a settled session stand as said in its present cohort: takes cu, which it leaves at once
 * when nothing of it is to be caught up. */
void catchup_begin(struct session *s, struct catchup *cu);

/* For the stream: publications [from, to) were sealed; queues those that must not be skipped for
 * the members that lag. */
void catchup_queue_all_mode(struct cohort *c, uint64_t from, uint64_t to);

/* Queues the newest values that gates of mode `latest` still hold back, for this client alone, which
 * must be settled: it is about to leave. */
void catchup_queue_held(struct session *s);

/* Serves a lagging session one round, and it is in step again or goes on when that is written. */
void catchup_serve(struct session *s);

#endif
