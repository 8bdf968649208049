/*
 * session_recovery.h - positions that a client came back with: what it missed, or the state instead.
 *
 * The part of a subscribe that has to do with `since`: each position is asked of the bus, the answer
 * is kept and added to as publications come, until the whole request is acknowledged.
 *
 *      ASKED ──the log has all of it──> DONE ──more than fits, or a gap──> FAILED
 *        └────it has not, or the feed was lost────────────────────────────────^ └──no value──> ENDED
 *
 * Owner: the worker's thread.
 */
#ifndef TICKCAST_DOMAIN_SESSION_RECOVERY_H
#define TICKCAST_DOMAIN_SESSION_RECOVERY_H

#include "domain/hub.h"
#include "domain/session.h"
#include "domain/standing.h"

#include <stdbool.h>
#include <stdint.h>

enum recovery_state {
    RECOVERY_ASKED,
    RECOVERY_DONE,
    RECOVERY_FAILED, /* the client gets the state instead */
    RECOVERY_ENDED,  /* so too, but there is none any more: the list has the item that says so */
};

/* A position that a client came back with, and what was published since. */
struct recovery {
    struct hub_channel *channel; /* pinned by the request's subs; NULL: it is wanted no more */
    uint64_t channel_id;         /* by which a request's recoveries are ordered */
    struct position since;
    uint8_t state; /* enum recovery_state */
    bool is_ahead; /* the channel has not come up to it yet: what it covers is not sent */
    uint32_t back; /* DONE: where it stands in channel->recorders */
    struct publication **list; /* DONE: what came since, one reference each; grows until the ack */
    uint32_t count;
    uint32_t cap;
    uint64_t bytes; /* about what they are when they are sent */
};

/* Makes a recovery of each position of a command whose channel is new to the session, and asks the bus;
 * the request waits for as many answers. */
void recoveries_ask(struct sub_request *r, const struct command *command);

/* The one of a channel, or NULL. */
struct recovery *recovery_find(const struct sub_request *r, const struct hub_channel *channel);

/* The channel is wanted no more: its recovery, if there is one, is nobody's affair. */
void recovery_forget(struct sub_request *r, const struct hub_channel *c);

/* The request is about to be acknowledged: each recovery gets its last state. */
void recoveries_settle(struct sub_request *r);

/* For the ack, and right behind it: which were recovered, and what. */
void recoveries_append_ack(const struct sub_request *r, struct buf *ack);
void recoveries_queue(struct sub_request *r);

/* Where the client stands behind that. */
void recovery_stand(const struct recovery *v, struct standing *at);

void recoveries_drop(struct sub_request *r); /* frees them, whatever their state */

/* For the hub: a publication of a channel that a recovery records, and the bus's answer. */
void session_record(struct sub_request *r, uint32_t recovery, const struct item *item,
                    uint64_t gap); /* right before it, as hub_deliver was told */
void session_on_recovery(struct hub *h, uint64_t token, struct publication *const *list,
                         uint32_t count, enum recovered recovered);

#endif
