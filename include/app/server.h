/*
 * server.h - one node: everything wired together, started, and ended in order.
 */
#ifndef TICKCAST_APP_SERVER_H
#define TICKCAST_APP_SERVER_H

#include "app/activation.h"
#include "base/buf.h"
#include "protocol/config.h"

struct server;

/* SIGTERM, SIGINT and SIGHUP wait from here on (server_run takes them), so that none of them ends the
 * process before it can do so in order. To be called before there is a second thread. */
void server_hold_signals(void);

/* Binds the listeners, where no socket was inherited, and builds everything. Takes the sockets and
 * the caller's reference to config, and fills in node.id where it is empty. source is what config
 * was loaded from; borrowed, for server_reload. NULL with a line in error. */
struct server *server_new(struct config *config, const struct config_source *source,
                          const struct activation *inherited, struct buf *error);

/* Appends the line that says where the node can be reached. */
void server_ready_line(const struct server *s, struct buf *out);

/* Serves until SIGTERM or SIGINT has closed every client. Signals that come later count for nothing. */
void server_run(struct server *s);

/*
 * Reads the configuration again, hands it to everybody, and logs what changed. Main thread; workers
 * have it before anything that is posted to them later. False, logged and with the same line in
 * error (without a newline), when it cannot be used: nothing has changed then. report: members of
 * a JSON object are appended, see config_changes_append_json.
 */
bool server_reload(struct server *s, struct buf *report, struct buf *error);

void server_free(struct server *s);

#endif
