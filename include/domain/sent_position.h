/*
 * sent_position.h - up to where a client was sent each of its subscriptions.
 *
 * Never further than what was written to its socket: what waits in its private queue, in its
 * cohort's stream or behind a gate does not count. It may be a little less, never more. What the
 * kernel took and the peer never received counts as sent: nobody here can know.
 *
 * Worked out when a session ends, from what is there anyway; nothing is kept for it before.
 * Owner: the worker's thread.
 */
#ifndef TICKCAST_DOMAIN_SENT_POSITION_H
#define TICKCAST_DOMAIN_SENT_POSITION_H

#include "domain/session.h"

struct sent_position {
    uint64_t seen;      /* while it is worked out: the channel's count up to which it was sent */
    bool is_set;        /* while it is worked out: nothing can change it any more */
    bool is_presumed;   /* is_set, by an item that did not say its epoch */
    bool is_known;      /* else the subscription begins anew: plain channels have no positions */
    struct position at; /* epoch_len 0: nothing had ever been published */
};

/* One for each subscription of the session's cohort; the caller frees the list. NULL: it has none.
 * The connection's private queue must still be as it was. */
struct sent_position *sent_positions(struct session *s);

#endif
