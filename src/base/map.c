/*
 * map.c - open addressing with linear probing.
 *
 * A slot is live (key), a tombstone (no key, value set) or never used (neither). Looking up walks
 * from a key's home slot to the first slot never used, so tombstones keep the walk going where an
 * entry was deleted. They cost time, and so they are counted with the live entries: when the two
 * together fill three quarters of the table it is built anew at the size that the live ones need,
 * larger, smaller or the same. A deletion moves nothing, which is what lets an iteration delete
 * the entry it is at; the last deletion releases the table.
 */
#include "base/map.h"

#include "base/mem.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#define SLOTS_MIN 8 /* 256 bytes */

static char tombstone; /* its address marks a deleted slot */

/* --- hash --------------------------------------------------------------------------------- */

static uint64_t seed[2];
static pthread_once_t seed_once = PTHREAD_ONCE_INIT;

static void seed_read(void)
{
    ssize_t got;
    do {
        got = getrandom(seed, sizeof seed, 0); /* so few bytes come whole or not at all */
    } while (got < 0 && errno == EINTR);
    if (got != (ssize_t)sizeof seed) {
        fprintf(stderr, "tickcast: no randomness from the kernel\n");
        abort();
    }
}

static inline uint64_t rotate(uint64_t x, int bits)
{
    return x << bits | x >> (64 - bits);
}

struct sip {
    uint64_t v0, v1, v2, v3;
};

static inline void sip_round(struct sip *s)
{
    s->v0 += s->v1;
    s->v1 = rotate(s->v1, 13) ^ s->v0;
    s->v0 = rotate(s->v0, 32);
    s->v2 += s->v3;
    s->v3 = rotate(s->v3, 16) ^ s->v2;
    s->v0 += s->v3;
    s->v3 = rotate(s->v3, 21) ^ s->v0;
    s->v2 += s->v1;
    s->v1 = rotate(s->v1, 17) ^ s->v2;
    s->v2 = rotate(s->v2, 32);
}

static inline void sip_word(struct sip *s, uint64_t word)
{
    s->v3 ^= word;
    sip_round(s);
    s->v0 ^= word;
}

static uint64_t load_le64(const unsigned char *p, size_t len)
{
    uint64_t word = 0;
    for (size_t i = 0; i < len; i++)
        word |= (uint64_t)p[i] << (8 * i);
    return word;
}

uint64_t map_hash_seeded(struct slice key, uint64_t k0, uint64_t k1)
{
    struct sip s = {k0 ^ 0x736f6d6570736575u, k1 ^ 0x646f72616e646f6du, k0 ^ 0x6c7967656e657261u,
                    k1 ^ 0x7465646279746573u};
    const unsigned char *p = (const unsigned char *)key.ptr;
    size_t left = key.len;
    for (; left >= 8; left -= 8, p += 8)
        sip_word(&s, load_le64(p, 8));
    sip_word(&s, load_le64(p, left) | (uint64_t)key.len << 56);
    s.v2 ^= 0xff;
    for (int i = 0; i < 3; i++)
        sip_round(&s);
    return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}

uint64_t map_hash(struct slice key)
{
    pthread_once(&seed_once, seed_read);
    return map_hash_seeded(key, seed[0], seed[1]);
}

/* --- table -------------------------------------------------------------------------------- */

static bool slot_is_unused(const struct map_slot *slot)
{
    return slot->key == NULL && slot->value == NULL;
}

static bool slot_holds(const struct map_slot *slot, uint64_t hash, struct slice key)
{
    return slot->key != NULL && slot->hash == hash && slot->key_len == key.len &&
           (key.len == 0 || memcmp(slot->key, key.ptr, key.len) == 0);
}

static struct map_slot *find(const struct map *m, uint64_t hash, struct slice key)
{
    if (m->cap == 0)
        return NULL;
    for (size_t i = hash & (m->cap - 1);; i = (i + 1) & (m->cap - 1)) {
        struct map_slot *slot = &m->slots[i];
        if (slot_holds(slot, hash, key))
            return slot;
        if (slot_is_unused(slot))
            return NULL;
    }
}

/* The first slot on the key's way that holds no entry. There must be one. */
static struct map_slot *find_free(const struct map *m, uint64_t hash)
{
    size_t i = hash & (m->cap - 1);
    while (m->slots[i].key != NULL)
        i = (i + 1) & (m->cap - 1);
    return &m->slots[i];
}

/* Builds the table anew, without tombstones, at most half full once `count` entries are in. */
static void rebuild(struct map *m, size_t count)
{
    struct map old = *m;
    m->cap = SLOTS_MIN;
    while (m->cap < count * 2)
        m->cap *= 2;
    m->slots = mem_zalloc(m->cap * sizeof *m->slots);
    for (size_t i = 0; i < old.cap; i++) {
        if (old.slots[i].key != NULL)
            *find_free(m, old.slots[i].hash) = old.slots[i];
    }
    m->used = m->count;
    free(old.slots);
}

void map_fini(struct map *m)
{
    free(m->slots);
    *m = (struct map){0};
}

void *map_get(const struct map *m, uint64_t hash, struct slice key)
{
    struct map_slot *slot = find(m, hash, key);
    return slot != NULL ? slot->value : NULL;
}

void *map_put(struct map *m, uint64_t hash, struct slice key, void *value)
{
    const char *bytes = key.ptr != NULL ? key.ptr : ""; /* an empty key has to be a key, too */
    struct map_slot *slot = find(m, hash, key);
    if (slot != NULL) {
        void *replaced = slot->value;
        slot->key = bytes; /* the old key may go with the old value */
        slot->value = value;
        return replaced;
    }
    if (m->used + 1 > m->cap / 4 * 3)
        rebuild(m, m->count + 1);
    slot = find_free(m, hash);
    if (slot_is_unused(slot))
        m->used++;
    *slot = (struct map_slot){.hash = hash, .key = bytes, .key_len = key.len, .value = value};
    m->count++;
    return NULL;
}

void *map_del(struct map *m, uint64_t hash, struct slice key)
{
    struct map_slot *slot = find(m, hash, key);
    if (slot == NULL)
        return NULL;
    void *value = slot->value;
    if (m->count == 1) {
        map_fini(m);
        return value;
    }
    size_t next = (size_t)(slot - m->slots + 1) & (m->cap - 1);
    bool ends_walk = slot_is_unused(&m->slots[next]); /* then nobody walks past this slot */
    *slot = (struct map_slot){.value = ends_walk ? NULL : &tombstone};
    m->used -= ends_walk;
    m->count--;
    return value;
}

void *map_next(const struct map *m, size_t *it)
{
    while (*it < m->cap) {
        struct map_slot *slot = &m->slots[(*it)++];
        if (slot->key != NULL)
            return slot->value;
    }
    return NULL;
}
