/*
 * ws_upgrade.h - the opening handshake (RFC 6455, 4.1) from the client's side. Pure.
 */
#ifndef TICKCAST_CTL_WS_UPGRADE_H
#define TICKCAST_CTL_WS_UPGRADE_H

#include "base/buf.h"
#include "base/rng.h"
#include "base/slice.h"

#include <stdbool.h>
#include <stddef.h>

/* One handshake. Zero it, then set what is wanted. */
struct ws_upgrade {
    const char *subprotocol; /* wanted; NULL: none */
    bool deflate;            /* wanted */
    char key[25];            /* Sec-WebSocket-Key, once requested */
    bool has_deflate;        /* agreed, once done */
    char error[128];         /* BAD: what is wrong; REFUSED: status and reason phrase */
    size_t body_bytes;       /* REFUSED: of the body; SIZE_MAX: until the connection ends */
};

enum ws_upgrade_result {
    WS_UPGRADE_DONE,
    WS_UPGRADE_REFUSED, /* a proper HTTP answer that is no 101 */
    WS_UPGRADE_BAD,     /* no HTTP, or a 101 that does not answer what was asked */
};

/* Appends the request. authority: for Host; target: path and query. */
void ws_upgrade_request(struct ws_upgrade *up, struct rng *rng, struct slice authority,
                        struct slice target, struct buf *out);

/* Judges the head of the answer, up to and with its empty line. */
enum ws_upgrade_result ws_upgrade_judge(struct ws_upgrade *up, struct slice head);

#endif
