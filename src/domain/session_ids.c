/*
 * session_ids.c - slots, and a chain through the free ones.
 */
#include "domain/session_ids.h"

#include "base/mem.h"

#include <string.h>

#define FIRST_CAP 16

static uint32_t find_slot(struct session_ids *ids)
{
    uint32_t slot = ids->free_slot;
    if (slot != 0) {
        memcpy(&ids->free_slot, session_ids_at(ids, slot), sizeof ids->free_slot);
        return slot;
    }
    if (ids->count == ids->cap) {
        ids->cap = ids->cap != 0 ? ids->cap + ids->cap / 2 : FIRST_CAP;
        ids->list = mem_realloc(ids->list, ids->cap * sizeof *ids->list);
    }
    return ++ids->count;
}

uint32_t session_ids_take(struct session_ids *ids, const uint8_t id[SESSION_ID_BYTES])
{
    uint32_t slot = find_slot(ids);
    memcpy(session_ids_at(ids, slot), id, SESSION_ID_BYTES);
    return slot;
}

void session_ids_drop(struct session_ids *ids, uint32_t slot)
{
    memcpy(session_ids_at(ids, slot), &ids->free_slot, sizeof ids->free_slot);
    ids->free_slot = slot;
}
