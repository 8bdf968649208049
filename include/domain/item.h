/*
 * item.h - a publication as one worker holds it.
 *
 * The publication's own count is atomic, because all threads share it; a worker touches that once,
 * when it makes the item, and counts the many places that need it here, without locked
 * instructions. Owner: the worker's thread.
 */
#ifndef TICKCAST_DOMAIN_ITEM_H
#define TICKCAST_DOMAIN_ITEM_H

#include "base/mem.h"
#include "protocol/publication.h"

#include <stdint.h>
#include <stdlib.h>

struct item {
    struct publication *p; /* one reference */
    uint64_t count;        /* the channel's count with it: see struct hub_channel */
    uint32_t refs;
};

/* Takes the caller's reference to p. Returns owned, with one reference. */
static inline struct item *item_new(struct publication *p, uint64_t count)
{
    struct item *it = mem_alloc(sizeof *it);
    *it = (struct item){.p = p, .count = count, .refs = 1};
    return it;
}

static inline struct item *item_ref(struct item *it)
{
    it->refs++;
    return it;
}

static inline void item_unref(struct item *it)
{
    if (--it->refs > 0)
        return;
    publication_unref(it->p);
    free(it);
}

#endif
