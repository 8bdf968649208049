/*
 * json_patch.c - what changed between two JSON objects.
 *
 * Pure. A publisher nearly always writes the same members in the same order, so the two objects
 * are walked in step, and a table of names is asked only where they differ. The table holds the
 * names of both objects, each once, so it also tells a name that is given twice:
 *
 *      after   {"bid":"1","ask":"3","size":7}        names  bid  ask  size | venue
 *      before  {"bid":"1","venue":"X","ask":"2"}     state  same      new  | gone
 *      patch   {"ask":"3","size":7,"venue":null}
 *
 * Names are compared as bytes, which is exact only when none is escaped; others are refused.
 */
#include "protocol/json_patch.h"

#include "base/map.h"
#include "protocol/json_text.h"

#define NAMES_MAX (2 * JSON_PATCH_MEMBERS_MAX)
#define SLOTS     (2 * NAMES_MAX) /* never more than half full; a power of two */

struct member {
    struct slice key;
    struct slice value;
    bool met;  /* of after: before has it too, so another of this name in before is a second one */
    bool same; /* of after: with this value */
};

/* The members of after, then those of before that are gone. */
struct names {
    struct member members[NAMES_MAX];
    size_t after_count;
    size_t count;
    uint16_t slots[SLOTS]; /* index into members plus one; 0: free */
};

/* --- names ----------------------------------------------------------------------------------- */

/* The slot that holds the key, or the free one where it belongs. */
static uint16_t *find_slot(struct names *n, struct slice key)
{
    size_t at = map_hash(key) % SLOTS;
    while (n->slots[at] != 0 && !slice_equal(n->members[n->slots[at] - 1].key, key))
        at = (at + 1) % SLOTS;
    return &n->slots[at];
}

static void add_name(struct names *n, uint16_t *slot, struct slice key, struct slice value)
{
    n->members[n->count] = (struct member){.key = key, .value = value};
    *slot = (uint16_t)++n->count;
}

static bool is_escaped(struct slice key)
{
    return key.len > 0 && memchr(key.ptr, '\\', key.len) != NULL;
}

static bool read_after(struct names *n, struct slice after)
{
    struct json_members walk;
    struct slice key, value;
    if (!json_members_init(&walk, after))
        return false;
    while (json_members_next(&walk, &key, &value)) {
        if (n->count == JSON_PATCH_MEMBERS_MAX || is_escaped(key) || slice_is(value, "null"))
            return false;
        uint16_t *slot = find_slot(n, key);
        if (*slot != 0)
            return false;
        add_name(n, slot, key, value);
    }
    n->after_count = n->count;
    return true;
}

/* Which of the known members is it? n->count when it is none. */
static size_t find_member(struct names *n, size_t guess, struct slice key, uint16_t **slot)
{
    if (guess < n->after_count && slice_equal(n->members[guess].key, key))
        return guess;
    *slot = find_slot(n, key);
    return **slot != 0 ? **slot - 1u : n->count;
}

static bool read_before(struct names *n, struct slice before)
{
    struct json_members walk;
    struct slice key, value;
    size_t guess = 0; /* the member of after that is likely the next of before */
    if (!json_members_init(&walk, before))
        return false;
    for (size_t i = 0; json_members_next(&walk, &key, &value); i++) {
        uint16_t *slot = NULL;
        if (i == JSON_PATCH_MEMBERS_MAX || is_escaped(key))
            return false;
        size_t at = find_member(n, guess, key, &slot);
        if (at == n->count) {
            add_name(n, slot, key, value);
            continue;
        }
        struct member *known = &n->members[at];
        if (at >= n->after_count || known->met)
            return false;
        known->met = true;
        known->same = slice_equal(known->value, value);
        guess = at + 1;
    }
    return true;
}

/* --- writing --------------------------------------------------------------------------------- */

/* The quotes of a key, the colon, and the comma or the opening brace before it. */
#define MEMBER_FRAME_BYTES 4

/* Appends the changes unless they come to end bytes in out or more. */
static bool append_changes(struct buf *out, const struct names *n, size_t end)
{
    char before = '{';
    for (size_t i = 0; i < n->count; i++) {
        const struct member *m = &n->members[i];
        struct slice value = i < n->after_count ? m->value : slice_str("null");
        if (m->same)
            continue;
        if (out->len + m->key.len + value.len + MEMBER_FRAME_BYTES >= end)
            return false;
        buf_append(out, (char[]){before, '"'}, 2);
        buf_append(out, m->key.ptr, m->key.len);
        buf_append(out, "\":", 2);
        buf_append(out, value.ptr, value.len);
        before = ',';
    }
    if (before == '{')
        buf_append(out, "{", 1);
    buf_append(out, "}", 1);
    return out->len < end;
}

bool json_patch_make(struct buf *out, struct slice before, struct slice after)
{
    struct names names;
    size_t start = out->len;
    if (before.len == 0 || after.len == 0)
        return false;
    /* The members are written before they are read: only what says which are must be clean. */
    names.after_count = names.count = 0;
    memset(names.slots, 0, sizeof names.slots);
    if (!read_after(&names, after) || !read_before(&names, before))
        return false;
    if (append_changes(out, &names, start + after.len))
        return true;
    out->len = start;
    return false;
}
