/*
 * reconnects.c - the table: a map to find a name, a list to let go of the oldest.
 *
 * Each call lets go of a few names that have expired, so that the table shrinks without a timer as
 * long as anybody connects; when nobody does, it does not grow either.
 */
#include "domain/reconnects.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

#define STEPS        6 /* that an hour is counted in */
#define STEP_MS      (RECONNECTS_WINDOW_MS / STEPS)
#define EXPIRED_MOST 4 /* let go of in one call: more than the one that a call may add */

struct entry {
    struct list by_age;
    uint64_t seen_ms;
    uint32_t step;         /* number of the present one: seen_ms / STEP_MS */
    uint16_t count[STEPS]; /* returns in each of the last steps, by number */
    uint8_t name_len;
    char name[];
};

void reconnects_init(struct reconnects *r, size_t max_names)
{
    *r = (struct reconnects){.max_names = max_names};
    list_init(&r->by_age);
}

static struct slice name_of(const struct entry *e)
{
    return slice_of(e->name, e->name_len);
}

static void forget(struct reconnects *r, struct entry *e)
{
    map_del(&r->names, map_hash(name_of(e)), name_of(e));
    list_remove(&e->by_age);
    free(e);
}

static struct entry *oldest(const struct reconnects *r)
{
    return list_is_empty(&r->by_age) ? NULL : list_entry(r->by_age.next, struct entry, by_age);
}

void reconnects_fini(struct reconnects *r)
{
    struct entry *e;
    while ((e = oldest(r)) != NULL)
        forget(r, e);
    map_fini(&r->names);
}

static void forget_expired(struct reconnects *r, uint64_t now_ms)
{
    struct entry *e;
    for (int i = 0; i < EXPIRED_MOST && (e = oldest(r)) != NULL; i++) {
        if (now_ms - e->seen_ms < RECONNECTS_WINDOW_MS)
            return;
        forget(r, e);
    }
}

static struct entry *add(struct reconnects *r, uint64_t hash, struct slice name)
{
    if (r->names.count >= r->max_names)
        forget(r, oldest(r));
    struct entry *e = mem_zalloc(sizeof *e + name.len);
    list_init(&e->by_age);
    e->name_len = (uint8_t)name.len;
    memcpy(e->name, name.ptr, name.len);
    map_put(&r->names, hash, name_of(e), e);
    return e;
}

/* Empties the steps that have passed since it was last seen. */
static void advance(struct entry *e, uint64_t now_ms)
{
    uint32_t now = (uint32_t)(now_ms / STEP_MS);
    for (uint32_t i = 0; i < STEPS && e->step + i < now; i++)
        e->count[(e->step + 1 + i) % STEPS] = 0;
    e->step = now;
    e->seen_ms = now_ms;
}

static uint32_t sum_since(const struct entry *e, uint64_t now_ms)
{
    uint32_t now = (uint32_t)(now_ms / STEP_MS);
    uint32_t sum = 0;
    for (uint32_t i = 0; i < STEPS && i <= e->step; i++) {
        if (now - (e->step - i) < STEPS)
            sum += e->count[(e->step - i) % STEPS];
    }
    return sum;
}

uint32_t reconnects_note(struct reconnects *r, struct slice name, uint64_t now_ms)
{
    if (name.len == 0 || name.len > RECONNECTS_NAME_MAX)
        return 0;
    forget_expired(r, now_ms);
    uint64_t hash = map_hash(name);
    struct entry *e = map_get(&r->names, hash, name);
    bool is_new = e == NULL || now_ms - e->seen_ms >= RECONNECTS_WINDOW_MS;
    if (e == NULL)
        e = add(r, hash, name);
    advance(e, now_ms);
    list_remove(&e->by_age);
    list_append(&r->by_age, &e->by_age);
    uint16_t *count = &e->count[e->step % STEPS];
    if (!is_new && *count < UINT16_MAX)
        (*count)++;
    return sum_since(e, now_ms);
}

uint32_t reconnects_count(const struct reconnects *r, struct slice name, uint64_t now_ms)
{
    if (name.len == 0 || name.len > RECONNECTS_NAME_MAX)
        return 0;
    const struct entry *e = map_get(&r->names, map_hash(name), name);
    return e != NULL ? sum_since(e, now_ms) : 0;
}
