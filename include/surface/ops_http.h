/*
 * ops_http.h - the operator's listener: /healthz, /readyz, /metrics and the API under /api/v1
 * (docs/protocol.md, 5).
 *
 * libevent's own HTTP server on the main thread: operators ask rarely and deserve a well-tried
 * server more than a fast one.
 */
#ifndef TICKCAST_SURFACE_OPS_HTTP_H
#define TICKCAST_SURFACE_OPS_HTTP_H

#include "base/buf.h"
#include "domain/bus.h"
#include "domain/registry.h"
#include "domain/store.h"
#include "protocol/admission.h"
#include "protocol/metrics.h"
#include "runtime/loop.h"
#include "runtime/worker.h"

struct ops_http;

struct ops_http_setup {
    struct loop *loop; /* the main thread's */
    const struct config *config;
    struct bus *bus;     /* this and the store by ops_http_set_bus */
    struct store *store; /* counted at a scrape */
    const struct admission *admission;
    struct metrics **metrics; /* of the main thread and every worker */
    size_t metrics_count;
};

/* Serves on fd, a socket that listens. It takes it, or leaves it and returns NULL with a line in
 * error. */
struct ops_http *ops_http_new(const struct ops_http_setup *setup, int fd, struct buf *error);

/* Tells it what it serves from, once, before the loop runs. Both are borrowed. */
void ops_http_set_bus(struct ops_http *o, struct bus *bus, struct store *store);

/* The same for what the API shows of the fleet, of channels and of clients. */
void ops_http_set_fleet(struct ops_http *o, struct registry *registry, struct worker **workers,
                        unsigned worker_count);

/* Goes on with another configuration, borrowed. */
void ops_http_set_config(struct ops_http *o, const struct config *next);

/* While the store still answers: it may be owed answers. */
void ops_http_free(struct ops_http *o);
const char *ops_http_address(const struct ops_http *o); /* as bound */

#endif
