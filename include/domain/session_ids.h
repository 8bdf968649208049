/*
 * session_ids.h - the ids of those sessions of a worker that outlive their connection.
 *
 * Beside the sessions, so that one without an id costs nothing: 16 bytes in a dense array, and a
 * slot number in the session. Owner: the worker's thread. A zeroed struct is empty.
 */
#ifndef TICKCAST_DOMAIN_SESSION_IDS_H
#define TICKCAST_DOMAIN_SESSION_IDS_H

#include "protocol/command.h"

#include <stdint.h>

struct session_ids {
    uint8_t (*list)[SESSION_ID_BYTES];
    uint32_t count; /* slots in use or free */
    uint32_t cap;
    uint32_t free_slot; /* the first free one, which holds the next; 0: none */
};

/* A slot, from 1 on, with this id in it. */
uint32_t session_ids_take(struct session_ids *ids, const uint8_t id[SESSION_ID_BYTES]);
void session_ids_drop(struct session_ids *ids, uint32_t slot);

/* Where the slot's id lies, until the next one is taken. */
static inline uint8_t *session_ids_at(const struct session_ids *ids, uint32_t slot)
{
    return ids->list[slot - 1];
}

#endif
