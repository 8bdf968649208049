/*
 * client_http.h - what the client listener answers: the upgrade, the page, the health checks.
 *
 * Runs in the workers' threads. Everything that is refused is refused here, in HTTP, before the
 * 101, with a small JSON body: a client that was never let in cannot be cut off.
 */
#ifndef TICKCAST_SURFACE_CLIENT_HTTP_H
#define TICKCAST_SURFACE_CLIENT_HTTP_H

#include "base/buf.h"
#include "runtime/conn.h"

/* The callbacks of every client connection: HTTP here, WebSocket messages to the session. */
extern const struct conn_ops client_ops;

/* Appends a body for readiness and returns the status: 200, or 503 with the reason: a drain, or
 * what `reason` says about the feed (NULL: nothing). Any thread. */
int client_http_readiness(const struct admission *admission, const char *reason, struct buf *body);

#endif
