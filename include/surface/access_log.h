/*
 * access_log.h - the lines about single clients: one per request, one when a client has gone.
 *
 *   event=access method=GET path=/ws status=101 duration_us=212 peer=192.0.2.7:4711 conn=n1-4f3a
 * user="" event=client_ended conn=n1-4f3a user="" peer=192.0.2.7:4711 code=4105 cause=ping_timeout
 * ...
 *
 * At level info, or debug where node.access_log is no; health checks always at debug. Bounded per
 * second (base/log_bound.h), and formatted only when they are written. In the worker's thread.
 */
#ifndef TICKCAST_SURFACE_ACCESS_LOG_H
#define TICKCAST_SURFACE_ACCESS_LOG_H

#include "base/log.h"
#include "protocol/http_head.h"
#include "runtime/conn.h"

/* A request was answered, in this turn. head NULL: it could not be read. accepted_us: what
 * the connection knew of its accept before that. */
void access_log_request(const struct conn *c, const struct http_head *head, uint32_t accepted_us);

/* A client leaves OPEN. Its session, if it has one, is still there. */
void access_log_ended(const struct conn *c);

#define ACCESS_PATH_BYTES 128

/* The path as it is logged: cut, with "..." behind it, into out of ACCESS_PATH_BYTES where it is
 * longer than that. */
struct slice access_log_path(struct slice path, char *out);

/* Is it asked so often, by machines, that nobody wants to read it? */
bool access_log_is_routine(struct slice path);

#endif
