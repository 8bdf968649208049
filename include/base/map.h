/*
 * map.h - hash map from byte strings to pointers.
 *
 * Open addressing, power-of-two table that keeps each entry's full hash. The hash is seeded once
 * per process from the kernel's randomness, so that a peer who chooses the keys cannot choose the
 * collisions. Keys are borrowed: they must outlive their entry, and usually live in the value.
 * A zeroed struct is an empty map that holds no memory. Not thread-safe.
 */
#ifndef TICKCAST_BASE_MAP_H
#define TICKCAST_BASE_MAP_H

#include "base/slice.h"

#include <stdint.h>

struct map_slot {
    uint64_t hash;
    const char *key; /* NULL: never used, or deleted (see map.c) */
    size_t key_len;
    void *value;
};

struct map {
    struct map_slot *slots;
    size_t count; /* live entries */
    size_t used;  /* live entries and tombstones */
    size_t cap;   /* slots: 0 or a power of two */
};

/* The seeded hash of a key (SipHash-1-3). The same in every thread of one process. */
uint64_t map_hash(struct slice key);

/* The same with a seed of the caller's; for those who must compare with others' SipHash-1-3. */
uint64_t map_hash_seeded(struct slice key, uint64_t k0, uint64_t k1);

void map_fini(struct map *m); /* releases the table, not the values */
void *map_get(const struct map *m, uint64_t hash, struct slice key); /* NULL when absent */

/* Adds or replaces. Returns the value that was replaced, else NULL. value must not be NULL. */
void *map_put(struct map *m, uint64_t hash, struct slice key, void *value);

void *map_del(struct map *m, uint64_t hash, struct slice key); /* returns the value, or NULL */

/* Iterates in no order: start with *it = 0; returns NULL at the end. The entry just returned may be
 * deleted; nothing may be added meanwhile. */
void *map_next(const struct map *m, size_t *it);

#endif
