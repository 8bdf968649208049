/*
 * registry.h - this node's entry in the registry (docs/protocol.md, 6), and everybody's.
 *
 * Main thread. Every two seconds, and soon after something about the node changed, the entry is
 * written over the bus's command link: the id in `tc:nodes` with the time until which it counts,
 * and the hash `tc:node:<id>`, which expires. A node that dies is gone six seconds later; one that
 * ends in order takes its entry away. A second node with the same id is noticed, because each
 * start of a node has a token of its own in the hash.
 */
#ifndef TICKCAST_DOMAIN_REGISTRY_H
#define TICKCAST_DOMAIN_REGISTRY_H

#include "base/buf.h"
#include "domain/bus.h"
#include "domain/node_state.h"
#include "protocol/config.h"
#include "protocol/metrics.h"
#include "runtime/loop.h"

#include <stdbool.h>
#include <stddef.h>

#define REGISTRY_NODES_MAX   1000 /* shown; more would not be a fleet of ours */
#define REGISTRY_ANSWER_MS   3000 /* for Redis to answer a question about the registry */
#define REGISTRY_QUERIES_MAX 32   /* under way at a time */

struct registry;

struct registry_setup {
    struct loop *loop; /* the main thread's */
    const struct config *config;
    struct metrics **metrics; /* of the main thread and every worker */
    size_t metrics_count;
    struct bus *bus;
    const char *listen_address; /* as bound; borrowed, like the next */
    const char *ops_address;
    enum node_state (*state)(void *arg); /* asked whenever the entry is written */
    void *arg;
};

struct registry *registry_new(const struct registry_setup *setup);
void registry_free(struct registry *r); /* once the bus has hung up */

void registry_start(struct registry *r); /* after bus_start */

/* Goes on with another configuration, borrowed; the entry is written soon. */
void registry_set_config(struct registry *r, const struct config *next);

/* Something that the entry shows has changed: it is written soon. */
void registry_touch(struct registry *r);

/* Takes the entry away, if the link is up, and writes no more: before the bus hangs up. */
void registry_leave(struct registry *r);

/* One node that is registered and alive. */
struct registry_node {
    char *id;
    struct buf json; /* see registry_entry_json */
};

/* What a question came to: false when Redis is down, refused, or took too long. Ordered by id. */
struct registry_answer {
    bool ok;
    const struct registry_node *nodes;
    size_t count;
};

/* Reads all entries. on_answer is called exactly once, maybe at once, and borrows the answer for
 * the call; not at all when the registry is freed first. */
void registry_ask(struct registry *r,
                  void (*on_answer)(void *arg, const struct registry_answer *answer), void *arg);

#endif
