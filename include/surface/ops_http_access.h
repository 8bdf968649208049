/*
 * ops_http_access.h - the line about each request to the operator's listener, and the trace it
 * carries.
 *
 *   event=access method=POST path=/api/v1/publish status=200 duration_us=812 peer=127.0.0.1:4711
 *       trace=quote:AAPL@c91e:815 publications=1
 *
 * Main thread. Bounded per second like every line that others can cause (base/log_bound.h).
 */
#ifndef TICKCAST_SURFACE_OPS_HTTP_ACCESS_H
#define TICKCAST_SURFACE_OPS_HTTP_ACCESS_H

#include "base/slice.h"

#include <stdbool.h>
#include <stddef.h>

struct evhttp_request;
struct metrics;

/* Where responses are counted; borrowed until the next call, NULL: nowhere. */
void ops_http_access_init(struct metrics *metrics);

void ops_http_access_begin(struct evhttp_request *request); /* it came just now */

/* Writes the line. Called once for each request, right before it is answered. */
void ops_http_access_end(struct evhttp_request *request, int status);

/* What the line says besides: the trace of the first publication or of the command, and how many
 * publications there were (0: none). Copied. */
void ops_http_access_note(struct evhttp_request *request, struct slice trace, size_t publications);

/* The trace that the request itself carries for all that is in it: X-Trace-Id, else the trace id of
 * a W3C Traceparent; empty when there is none. False: X-Trace-Id is no trace. Borrows. */
bool ops_http_access_trace(struct evhttp_request *request, struct slice *trace);

#endif
