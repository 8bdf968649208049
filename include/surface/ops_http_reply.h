/*
 * ops_http_reply.h - answering a request on the operator's listener. Main thread.
 */
#ifndef TICKCAST_SURFACE_OPS_HTTP_REPLY_H
#define TICKCAST_SURFACE_OPS_HTTP_REPLY_H

#include "base/buf.h"
#include "protocol/errors.h"

struct evhttp_request;

/* Sends a whole answer; the request is libevent's again afterwards. Borrows body. */
void ops_http_reply(struct evhttp_request *request, int status, const char *type,
                    const struct buf *body);

/* Answers with the error's code and a JSON body. message: for people, NULL for the table's. */
void ops_http_reply_error(struct evhttp_request *request, enum error_code error,
                          const char *message);

#endif
