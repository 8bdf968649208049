/*
 * standing.c - what the next item of a subscription must say.
 */
#include "domain/standing.h"

void standing_fini(struct standing *at)
{
    free(at->since);
    at->since = NULL;
}

static bool is_same_epoch(const struct position *since, const struct publication *p)
{
    return slice_equal(position_epoch(since), publication_epoch(p));
}

bool standing_covers(const struct standing *at, const struct publication *p)
{
    return at->since != NULL && at->since->is_trusted && p->seq != 0 && p->seq <= at->since->seq &&
           is_same_epoch(at->since, p);
}

void standing_want_snapshot(struct standing *at, const struct item *last)
{
    at->wants_snap = true;
    if (last == NULL || !standing_covers(at, last->p) || last->p->seq < at->since->seq)
        return;
    standing_fini(at);
    at->has_base = true;
    if (at->seen < last->count)
        at->seen = last->count;
}

/* How many lie between the position that a client came back with and this publication. */
static uint64_t missed_since(const struct position *since, const struct publication *p)
{
    return p->seq > since->seq ? p->seq - since->seq - 1 : 0;
}

uint64_t standing_take(struct standing *at, const struct item *item, enum publication_form *form)
{
    bool is_numbered = item->p->seq != 0;
    uint64_t missed = 0;
    if (at->since != NULL && is_numbered && is_same_epoch(at->since, item->p))
        missed = missed_since(at->since, item->p);
    else if (at->has_base && item->count > at->seen) /* a snapshot may repeat what was seen */
        missed = item->count - at->seen - 1;
    if (is_numbered)
        standing_fini(at);
    if (at->wants_epoch && is_numbered && *form != FORM_JSON_SNAP && *form != FORM_RAW)
        *form = FORM_JSON_EPOCH;
    if (item->count > at->seen)
        at->seen = item->count; /* a plain message may be newer than the snapshot that follows it */
    at->has_base = true;
    at->wants_epoch = at->wants_epoch && !is_numbered;
    return missed;
}
