/*
 * server.h - one node: everything wired together, started, and ended in order.
 */
#ifndef TICKCAST_APP_SERVER_H
#define TICKCAST_APP_SERVER_H

#include "base/buf.h"
#include "protocol/config.h"

struct server;

/* Binds the listeners and builds everything. Takes the caller's reference to config, and fills in
 * node.id where it is empty. NULL with a line in error. */
struct server *server_new(struct config *config, struct buf *error);

/* Appends the line that says where the node can be reached. */
void server_ready_line(const struct server *s, struct buf *out);

/* Serves until SIGTERM or SIGINT has closed every client. */
void server_run(struct server *s);
void server_free(struct server *s);

#endif
