/*
 * ops_http_inspect.h - GET /api/v1/channels and GET /api/v1/clients (docs/protocol.md, 5): what
 * this node has.
 *
 * Main thread. What the workers know is collected by messages: no lock, nothing walked that is
 * not bounded, and answered when the last worker has reported.
 */
#ifndef TICKCAST_SURFACE_OPS_HTTP_INSPECT_H
#define TICKCAST_SURFACE_OPS_HTTP_INSPECT_H

#include "domain/bus.h"
#include "domain/quality_monitor.h"
#include "runtime/worker.h"

#define OPS_INSPECT_LIMIT     1000  /* rows of an answer, unless asked otherwise */
#define OPS_INSPECT_LIMIT_MAX 10000 /* about 3 MB */
#define OPS_INSPECT_CALLS_MAX 8     /* under way at a time */

struct evhttp_request;
struct ops_inspector;

struct ops_inspector_setup {
    struct loop *loop; /* the main thread's */
    struct bus *bus;
    const struct quality_monitor *monitor; /* an answer may come when the workers are gone */
    struct worker **workers;
    unsigned worker_count;
};

struct ops_inspector *ops_inspector_new(const struct ops_inspector_setup *setup);

/* Once the workers are stopped and their last messages have run. Requests that wait are left to
 * the HTTP server, unanswered. */
void ops_inspector_free(struct ops_inspector *i);

void ops_inspector_channels(struct ops_inspector *i, struct evhttp_request *request);
void ops_inspector_clients(struct ops_inspector *i, struct evhttp_request *request);

#endif
