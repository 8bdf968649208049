/*
 * standing.h - where one client stands in one subscription, and what that means for its next item.
 *
 * Clients in step need none: the stream of their cohort brings everything. It is kept for those
 * that lag (catchup.h), and for those whose next item is their own affair (notes.h).
 * Owner: the worker's thread.
 */
#ifndef TICKCAST_DOMAIN_STANDING_H
#define TICKCAST_DOMAIN_STANDING_H

#include "domain/item.h"

#include <stdbool.h>
#include <stdint.h>

/* The last publication that a client said it has. */
struct position {
    uint64_t seq;
    uint64_t ts_ms;  /* of it, where the store said so */
    bool is_trusted; /* it cannot be checked just now: what it covers is not sent again */
    uint8_t epoch_len;
    char epoch[STAMP_EPOCH_MAX];
};

struct standing {
    uint64_t seen;          /* the channel's count as of the last publication it has had */
    struct position *since; /* owned: it came back with this, and it was not recovered; or NULL */
    bool has_base;          /* it has had one, so what lies between is told as missed */
    bool wants_snap;        /* the full state is still to be sent */
    bool wants_epoch;       /* the next item must carry the epoch */
};

static inline struct slice position_epoch(const struct position *p)
{
    return slice_of(p->epoch, p->epoch_len);
}

/* The client is given an item: the standing moves on. Returns what is to be told as missed, and
 * turns *form into the one that it needs. */
uint64_t standing_take(struct standing *at, const struct item *item, enum publication_form *form);

/* Does a client that came back have this publication, as far as can be told? */
bool standing_covers(const struct standing *at, const struct publication *p);

/* The client asks for the full state, of which last (NULL: none) is the newest: it gets it even where
 * it came back with a position that covers just that. Not if it is ahead, which would turn it back. */
void standing_want_snapshot(struct standing *at, const struct item *last);

/* Is there nothing special about the next item any more? */
static inline bool standing_is_plain(const struct standing *at)
{
    return at->since == NULL && !at->wants_snap && !at->wants_epoch;
}

void standing_fini(struct standing *at);

#endif
