/*
 * redis_link_tree.h - the memory behind one reply: its nodes and its text.
 *
 * Nodes never move, so that they can point at each other. Everything a reply took is dropped at
 * once by redis_tree_clear; the first block is kept for the next reply. A reply over a bound is
 * refused before memory is taken for it. One owner; part of redis_link.
 */
#ifndef TICKCAST_RUNTIME_REDIS_LINK_TREE_H
#define TICKCAST_RUNTIME_REDIS_LINK_TREE_H

#include "runtime/redis_link.h"

#define REDIS_TREE_NODES_MAX 1000000u    /* elements of one reply, at all levels together */
#define REDIS_TREE_TEXT_MAX  (64u << 20) /* bytes of text in one reply */

struct redis_tree_block;

/* A zeroed struct is an empty tree that holds no memory. */
struct redis_tree {
    struct redis_tree_block *blocks; /* newest first */
    size_t nodes;                    /* taken by the present reply */
    size_t text_bytes;               /* likewise */
};

void redis_tree_clear(struct redis_tree *t);
void redis_tree_fini(struct redis_tree *t);

/* Zeroed nodes in a row. NULL when the reply would have too many. */
struct redis_reply_view *redis_tree_nodes(struct redis_tree *t, size_t count);

/* A copy of text, false when the reply would have too much of it. */
bool redis_tree_copy(struct redis_tree *t, struct slice text, struct slice *out);

#endif
