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

/* Why the node is not to be given clients: a drain, what `feed` says (NULL: nothing), or that it has
 * all it may have. NULL: it is. Any thread. */
const char *client_http_unready(const struct admission *admission, const struct config *config,
                                const char *feed);

/* Appends a body for readiness and returns the status: 200, or 503 with that reason. */
int client_http_readiness(const char *unready, struct buf *body);

#endif
