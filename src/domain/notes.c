/*
 * notes.c - an array of notes, and an index with linear probing for where it is long.
 */
#include "domain/notes.h"

#include "base/mem.h"

#include <stdlib.h>

#define SEARCHED_MAX 32 /* notes that are found faster by looking at each */

/* --- the index ------------------------------------------------------------------------------- */

/* Addresses are a multiple of 16: Fibonacci hashing spreads what is above that. */
static uint32_t home_slot(const struct notes *n, const struct session *session)
{
    uint64_t mixed = ((uint64_t)(uintptr_t)session >> 4) * 0x9e3779b97f4a7c15u;
    return (uint32_t)(mixed >> 32) & (n->index_cap - 1);
}

static uint32_t next_slot(const struct notes *n, uint32_t slot)
{
    return (slot + 1) & (n->index_cap - 1);
}

/* The slot of a session's note, or the empty one where it would be. */
static uint32_t find_slot(const struct notes *n, const struct session *session)
{
    uint32_t slot = home_slot(n, session);
    while (n->index[slot] != 0 && n->list[n->index[slot] - 1].session != session)
        slot = next_slot(n, slot);
    return slot;
}

static void drop_index(struct notes *n)
{
    free(n->index);
    n->index = NULL;
    n->index_cap = 0;
}

static void make_index(struct notes *n)
{
    n->index_cap = 2 * SEARCHED_MAX;
    while (n->index_cap < 2 * n->cap) /* as many as the list has room for */
        n->index_cap *= 2;
    n->index = mem_zalloc(n->index_cap * sizeof *n->index);
    for (uint32_t place = 0; place < n->count; place++)
        n->index[find_slot(n, n->list[place].session)] = place + 1;
}

/* Closes the gap: those behind it that would be looked for from before it move up. */
static void clear_slot(struct notes *n, uint32_t gap)
{
    uint32_t mask = n->index_cap - 1;
    for (uint32_t at = next_slot(n, gap); n->index[at] != 0; at = next_slot(n, at)) {
        uint32_t home = home_slot(n, n->list[n->index[at] - 1].session);
        if (((at - home) & mask) < ((at - gap) & mask))
            continue;
        n->index[gap] = n->index[at];
        gap = at;
    }
    n->index[gap] = 0;
}

/* --- the list -------------------------------------------------------------------------------- */

void notes_add(struct notes *n, struct session *session, const struct standing *at)
{
    if (n->count == n->cap) {
        n->cap = n->cap != 0 ? n->cap * 2 : 2;
        n->list = mem_realloc(n->list, n->cap * sizeof *n->list);
        drop_index(n);
    }
    n->list[n->count] = (struct channel_note){.session = session, .at = *at};
    if (n->index != NULL)
        n->index[find_slot(n, session)] = n->count + 1;
    n->count++;
}

uint32_t notes_find(struct notes *n, const struct session *session)
{
    if (n->count > SEARCHED_MAX) {
        if (n->index == NULL)
            make_index(n);
        return n->index[find_slot(n, session)] - 1; /* of an empty one: NOTES_NONE */
    }
    for (uint32_t place = 0; place < n->count; place++) {
        if (n->list[place].session == session)
            return place;
    }
    return NOTES_NONE;
}

void notes_remove(struct notes *n, uint32_t place)
{
    const struct channel_note last = n->list[n->count - 1];
    uint32_t gap = 0;
    if (n->index != NULL) {
        gap = find_slot(n, n->list[place].session);
        n->index[find_slot(n, last.session)] = place + 1;
    }
    n->list[place] = last;
    if (n->index != NULL)
        clear_slot(n, gap);
    if (--n->count == 0)
        notes_fini(n);
}

void notes_fini(struct notes *n)
{
    free(n->list);
    drop_index(n);
    *n = (struct notes){0};
}
