/*
 * ops_http_publish.h - POST /api/v1/publish (docs/protocol.md, 5): one publication, or an array.
 *
 * All publications of a request go to Redis at once, and the request is answered when Redis has
 * answered for all. The data goes out byte for byte as it stands in the body. Main thread.
 */
#ifndef TICKCAST_SURFACE_OPS_HTTP_PUBLISH_H
#define TICKCAST_SURFACE_OPS_HTTP_PUBLISH_H

#include "domain/store.h"
#include "protocol/config.h"

#define OPS_PUBLISH_ITEMS_MAX 10000 /* in one request; as many as a store has in flight */
#define OPS_PUBLISH_BODY_MAX  (8 * 1024 * 1024) /* bytes; bounds what one request can hold */

struct evhttp_request;
struct ops_publisher;

/* Both are borrowed. */
struct ops_publisher *ops_publisher_new(const struct config *config, struct store *store);
void ops_publisher_set_config(struct ops_publisher *p, const struct config *next); /* borrows */

/* Before the HTTP server is freed: requests that wait for Redis are left to it, unanswered. */
void ops_publisher_free(struct ops_publisher *p);

/* Takes a request with its whole body, and answers it now or later. */
void ops_publisher_post(struct ops_publisher *p, struct evhttp_request *request);

#endif
