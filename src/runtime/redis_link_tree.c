/*
 * redis_link_tree.c - an arena of blocks.
 *
 * Blocks are chained, newest first, and filled from the front. A request that the newest block
 * cannot hold opens a new one, twice as large as its predecessor or as large as the request. The
 * oldest block, always of the smallest size, is what survives redis_tree_clear.
 */
#include "runtime/redis_link_tree.h"

#include "base/mem.h"

#include <stdalign.h>
#include <stdlib.h>

enum {
    BLOCK_FIRST_BYTES = 4096,    /* the usual reply: a status, a number, a hash of four fields */
    BLOCK_GROWN_BYTES = 1 << 20, /* where doubling ends */
};

struct redis_tree_block {
    struct redis_tree_block *older;
    size_t used;
    size_t cap;
    alignas(max_align_t) char bytes[];
};

static struct redis_tree_block *open_block(struct redis_tree *t, size_t bytes)
{
    struct redis_tree_block *newest = t->blocks;
    size_t cap = newest == NULL ? BLOCK_FIRST_BYTES : newest->cap * 2;
    if (cap > BLOCK_GROWN_BYTES)
        cap = BLOCK_GROWN_BYTES;
    if (cap < bytes && newest != NULL)
        cap = bytes;
    struct redis_tree_block *b = mem_alloc(sizeof *b + cap);
    b->older = newest;
    b->used = 0;
    b->cap = cap;
    t->blocks = b;
    return b;
}

static void *take(struct redis_tree *t, size_t bytes)
{
    bytes = (bytes + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);
    struct redis_tree_block *b = t->blocks;
    if (b == NULL)
        b = open_block(t, bytes);
    if (b->cap - b->used < bytes)
        b = open_block(t, bytes);
    void *ptr = b->bytes + b->used;
    b->used += bytes;
    return ptr;
}

void redis_tree_clear(struct redis_tree *t)
{
    while (t->blocks != NULL && t->blocks->older != NULL) {
        struct redis_tree_block *b = t->blocks;
        t->blocks = b->older;
        free(b);
    }
    if (t->blocks != NULL)
        t->blocks->used = 0;
    t->nodes = 0;
    t->text_bytes = 0;
}

void redis_tree_fini(struct redis_tree *t)
{
    redis_tree_clear(t);
    free(t->blocks);
    t->blocks = NULL;
}

struct redis_reply_view *redis_tree_nodes(struct redis_tree *t, size_t count)
{
    if (count > REDIS_TREE_NODES_MAX - t->nodes)
        return NULL;
    t->nodes += count;
    struct redis_reply_view *nodes = take(t, count * sizeof *nodes);
    memset(nodes, 0, count * sizeof *nodes);
    return nodes;
}

bool redis_tree_copy(struct redis_tree *t, struct slice text, struct slice *out)
{
    if (text.len > REDIS_TREE_TEXT_MAX - t->text_bytes)
        return false;
    t->text_bytes += text.len;
    char *copy = take(t, text.len + 1);
    memcpy(copy, text.ptr, text.len);
    copy[text.len] = '\0'; /* costs nothing, and numbers in text can be read with strtoll */
    *out = slice_of(copy, text.len);
    return true;
}
