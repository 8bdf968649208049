/*
 * ws_handshake.h - the opening handshake of RFC 6455 (section 4.2) and of permessage-deflate
 * (RFC 7692, section 7.1), server side.
 *
 * Pure: judges a parsed request head, and writes the 101 response.
 */
#ifndef TICKCAST_PROTOCOL_WS_HANDSHAKE_H
#define TICKCAST_PROTOCOL_WS_HANDSHAKE_H

#include "base/buf.h"
#include "protocol/http_head.h"

#include <stdbool.h>
#include <stdint.h>

enum ws_subprotocol { WS_SUB_NONE, WS_SUB_JSON, WS_SUB_RAW };

struct ws_handshake {
    char accept[29];             /* Sec-WebSocket-Accept, NUL-terminated */
    enum ws_subprotocol offered; /* the first known one; NONE when none is offered or known */
    struct slice bearer;         /* JWT from a subprotocol `bearer.<JWT>`; borrows; may be empty */
    bool deflate;                /* permessage-deflate agreed */
    uint8_t window_bits;         /* server's LZ77 window, 9..15; meaningful with deflate */
    char extension[128];         /* the agreed Sec-WebSocket-Extensions value, or "" */
};

/*
 * Judges a request. Returns 101, else the status to refuse with: 400 (no or bad Upgrade,
 * Connection, key, or a malformed extension header), 405 (not GET), 426 (version is not 13; the
 * refusal must then carry `Sec-WebSocket-Version: 13`, and `Upgrade: websocket` where no upgrade
 * was asked for). *why is set to a short static text for people.
 *
 * permessage-deflate offers are tried in order; the first that is legal and that we can honour
 * wins. Duplicate or unknown parameters, values out of 8..15 or with leading zeros, and
 * server_max_window_bits=8 (which zlib cannot do for raw deflate) decline that offer. The answer
 * is always `server_no_context_takeover; client_no_context_takeover`, with
 * server_max_window_bits echoed where it was offered and client_max_window_bits never sent.
 */
int ws_handshake_check(const struct http_head *head, struct ws_handshake *hs, const char **why);

/* Appends the whole 101 response. subprotocol: what to answer, or NULL for none. */
void ws_handshake_respond(struct buf *out, const struct ws_handshake *hs, const char *subprotocol);

/* base64(SHA-1(key + GUID)); out holds 29 bytes. Clients use it to check a server's answer. */
void ws_handshake_accept_key(struct slice key, char out[29]);

#endif
