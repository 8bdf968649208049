/*
 * ops_http_fleet.h - GET /api/v1/nodes and POST /api/v1/admin (docs/protocol.md, 5): the whole
 * fleet, asked through any node of it. Main thread.
 */
#ifndef TICKCAST_SURFACE_OPS_HTTP_FLEET_H
#define TICKCAST_SURFACE_OPS_HTTP_FLEET_H

#include "domain/registry.h"

#define OPS_ADMIN_BODY_MAX  (128 * 1024) /* bytes; a notice's data may be half of that */
#define OPS_ADMIN_WAIT_MS   3000         /* for the nodes to reply */
#define OPS_ADMIN_CALLS_MAX 32           /* under way at a time */

struct evhttp_request;
struct ops_fleet;

struct ops_fleet_setup {
    struct loop *loop; /* the main thread's */
    const struct config *config;
    struct bus *bus;
    struct registry *registry;
};

struct ops_fleet *ops_fleet_new(const struct ops_fleet_setup *setup);
void ops_fleet_set_config(struct ops_fleet *f, const struct config *next); /* borrows */

/* Once the loop has ended. Requests that wait are left to the HTTP server, unanswered. */
void ops_fleet_free(struct ops_fleet *f);

void ops_fleet_nodes(struct ops_fleet *f, struct evhttp_request *request);

/* Takes a request with its whole body, and answers it when the nodes have replied. */
void ops_fleet_admin(struct ops_fleet *f, struct evhttp_request *request);

#endif
