/*
 * fuzz_json_patch.c - who has the one object and applies the patch has the members of the other.
 *
 * The input is two texts with '|' between. What is checked against is a list of members that is
 * searched from one end to the other.
 */
#include "protocol/json_patch.h"

#include "base/mem.h"
#include "base/utf8.h"
#include "protocol/json_text.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* An object with up to the limit, and one patched with names that are all others. */
#define MEMBERS_MAX (2 * JSON_PATCH_MEMBERS_MAX)

struct object {
    struct slice keys[MEMBERS_MAX];
    struct slice values[MEMBERS_MAX];
    size_t count;
};

static void require(bool condition)
{
    if (!condition)
        abort();
}

static size_t find(const struct object *o, struct slice key)
{
    size_t at = 0;
    while (at < o->count && !slice_equal(o->keys[at], key))
        at++;
    return at;
}

static void remove_member(struct object *o, size_t at)
{
    o->count--;
    o->keys[at] = o->keys[o->count];
    o->values[at] = o->values[o->count];
}

/* Puts the members of text over those of o. What is null is removed if so asked. */
static void merge(struct object *o, struct slice text, bool null_removes)
{
    struct json_members m;
    struct slice key, value;
    require(json_members_init(&m, text));
    while (json_members_next(&m, &key, &value)) {
        size_t at = find(o, key);
        if (null_removes && slice_is(value, "null")) {
            require(at < o->count); /* only what is there is removed */
            remove_member(o, at);
            continue;
        }
        require(at < MEMBERS_MAX);
        o->keys[at] = key;
        o->values[at] = value;
        o->count += at == o->count;
    }
}

static void require_equal(const struct object *a, const struct object *b)
{
    require(a->count == b->count);
    for (size_t i = 0; i < a->count; i++) {
        size_t at = find(b, a->keys[i]);
        require(at < b->count && slice_equal(a->values[i], b->values[at]));
    }
}

static void check_patch(struct slice before, struct slice after)
{
    static struct object have, want;
    struct buf out = {0};
    buf_append_str(&out, "kept");
    if (json_patch_make(&out, before, after)) {
        struct slice patch = slice_of(out.data + 4, out.len - 4);
        require(json_text_is_valid(patch) && patch.len < after.len);
        have.count = want.count = 0;
        merge(&have, before, false);
        merge(&have, patch, true);
        merge(&want, after, false);
        require_equal(&have, &want);
    } else {
        require(out.len == 4);
    }
    require(memcmp(out.data, "kept", 4) == 0);
    buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *bar = size > 0 ? memchr(data, '|', size) : NULL;
    if (bar == NULL || !utf8_is_valid(data, size))
        return 0;
    size_t len = (size_t)(bar - data);
    char *before = mem_dup(data, len), *after = mem_dup(bar + 1, size - len - 1);
    struct slice b = slice_of(before, len), a = slice_of(after, size - len - 1);
    if (json_text_is_valid(b) && json_text_is_valid(a)) {
        check_patch(b, a);
        check_patch(a, b);
    }
    free(before);
    free(after);
    return 0;
}
