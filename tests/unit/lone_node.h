/*
 * lone_node.h - one worker with its hub, on the caller's thread and without a bus: what a test needs
 * to play scenes with clients on socket pairs.
 */
#ifndef TICKCAST_TESTS_LONE_NODE_H
#define TICKCAST_TESTS_LONE_NODE_H

#include "domain/hub.h"
#include "runtime/loop.h"
#include "runtime/worker.h"

struct lone_node {
    struct config *config;
    struct loop *loop;
    struct worker *worker;
    struct hub *hub;
};

/* sets: what `--set` takes, NULL-terminated. upstream is copied. */
void lone_node_init(struct lone_node *n, const char *const *sets,
                    const struct hub_upstream *upstream);

/* The end has two parts, for what lives between them. */
void lone_node_end_worker(struct lone_node *n); /* with all connections */
void lone_node_fini(struct lone_node *n);

/* One turn of its loop. */
void lone_node_turn(struct lone_node *n);

#endif
