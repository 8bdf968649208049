/*
 * ws_client.h - a WebSocket client for tools: one connection, blocking with deadlines.
 *
 * One owner thread. Connects, upgrades, and then hands out whole messages; pings are answered
 * inside. It never compresses what it sends, and inflates what it receives when permessage-deflate
 * was agreed (without context takeover in either direction). Not made for thousands of
 * connections: each has a read buffer and possibly an inflater of its own.
 */
#ifndef TICKCAST_CTL_WS_CLIENT_H
#define TICKCAST_CTL_WS_CLIENT_H

#include "base/buf.h"
#include "base/slice.h"
#include "protocol/ws_codec.h"

#include <stdbool.h>
#include <stdint.h>

#define WS_CLIENT_NEVER UINT64_MAX /* a deadline that does not come */

struct ws_client;

/* A parsed ws:// URL. */
struct ws_client_url {
    char host[256];         /* without the brackets of an IPv6 address */
    char port[6];           /* default 80 */
    struct slice authority; /* host and port as written; borrows from the URL */
    struct buf target;      /* path and query; the path is /ws where the URL has none */
};

struct ws_client_config {
    const struct ws_client_url *url;
    const char *subprotocol; /* the one offered, and demanded in the answer; NULL: none */
    bool deflate;            /* offer permessage-deflate */
    size_t message_bytes;    /* largest message accepted, after inflating */
    int timeout_ms;          /* for connecting and upgrading, and for one send */
};

enum ws_client_event {
    WS_CLIENT_MESSAGE,
    WS_CLIENT_CLOSED,  /* the server closed; the close was answered */
    WS_CLIENT_FAILED,  /* connection lost, or the server broke the protocol */
    WS_CLIENT_TIMEOUT, /* the deadline came first */
};

struct ws_client_message {
    enum ws_opcode opcode; /* TEXT or BINARY */
    struct slice payload;  /* CLOSED: the reason. Borrowed until the next call. */
    uint16_t code;         /* CLOSED: the code, 1005 when there was none */
};

/* False, with static text for people in *why, when malformed. `target` is the caller's to release
 * in both cases. */
bool ws_client_url_parse(const char *text, struct ws_client_url *out, const char **why);

/* Returns owned, or NULL with one line for people in error. Borrows nothing. */
struct ws_client *ws_client_connect(const struct ws_client_config *config, struct buf *error);
void ws_client_free(struct ws_client *c); /* closes the socket without a word; NULL is fine */

bool ws_client_has_deflate(const struct ws_client *c); /* was it agreed? */

/* Sends one message or control frame. False when the connection failed or timed out. */
bool ws_client_send(struct ws_client *c, enum ws_opcode opcode, struct slice payload);

/* Waits for the next message until that monotonic time. After CLOSED and FAILED the connection is
 * of no use any more. */
enum ws_client_event ws_client_receive(struct ws_client *c, uint64_t deadline_ms,
                                       struct ws_client_message *out);

/* Says goodbye with 1000 and waits shortly for the answer. */
void ws_client_close(struct ws_client *c);

/* Why a call failed. Borrows. */
const char *ws_client_error(const struct ws_client *c);

#endif
