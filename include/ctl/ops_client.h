/*
 * ops_client.h - asking a node's ops listener, for tickcastctl. Blocks; one connection a request.
 */
#ifndef TICKCAST_CTL_OPS_CLIENT_H
#define TICKCAST_CTL_OPS_CLIENT_H

#include "base/buf.h"
#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>

#define OPS_CLIENT_TIMEOUT_S 10 /* of silence */

struct ops_client {
    char host[256];
    uint16_t port;
};

/* Reads http://host:port, with or without a slash behind. False when it is none. */
bool ops_client_init(struct ops_client *c, const char *url);

/* Posts JSON. Returns the HTTP status with what came back appended to reply; or 0 when there was no
 * answer, with one line for people in reply. */
int ops_client_post(const struct ops_client *c, const char *path, struct slice body,
                    struct buf *reply);

/* The same for a GET. */
int ops_client_get(const struct ops_client *c, const char *path, struct buf *reply);

#endif
