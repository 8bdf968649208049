/*
 * ws_codec.h - WebSocket frames (RFC 6455, section 5) in both directions.
 *
 * Pure: no sockets. The decoder works on whatever run of bytes was read, unmasks in place and
 * hands out whole messages; it keeps bytes of its own only while a message is incomplete.
 *
 *      read buffer   [hdr|payload][hdr|payload][hdr|pay          the usual message borrows
 *                         │            │           └─ kept       straight from the read buffer
 *                         ▼            ▼
 *                      message      message
 */
#ifndef TICKCAST_PROTOCOL_WS_CODEC_H
#define TICKCAST_PROTOCOL_WS_CODEC_H

#include "base/buf.h"
#include "base/utf8.h"
#include "protocol/ws_deflate.h"

#include <stdbool.h>
#include <stdint.h>

enum ws_opcode {
    WS_OP_CONTINUATION = 0,
    WS_OP_TEXT = 1,
    WS_OP_BINARY = 2,
    WS_OP_CLOSE = 8,
    WS_OP_PING = 9,
    WS_OP_PONG = 10,
};

/* Close codes: RFC 6455 7.4.1, then ours (docs/protocol.md). */
enum ws_close_code {
    WS_CLOSE_NORMAL = 1000,
    WS_CLOSE_GOING_AWAY = 1001,
    WS_CLOSE_PROTOCOL = 1002,
    WS_CLOSE_UNSUPPORTED = 1003,
    WS_CLOSE_NO_STATUS = 1005, /* never sent: a close frame without a code */
    WS_CLOSE_BAD_DATA = 1007,
    WS_CLOSE_TOO_LARGE = 1009,
    WS_CLOSE_INTERNAL = 1011,
    WS_CLOSE_UNAUTHORIZED = 4001,
    WS_CLOSE_FORBIDDEN = 4003,
    WS_CLOSE_KICKED = 4005,
    WS_CLOSE_REPLACED = 4009,
    WS_CLOSE_SLOW = 4101,
    WS_CLOSE_LIMIT = 4102,
    WS_CLOSE_RATE_LIMITED = 4103,
    WS_CLOSE_AUTH_TIMEOUT = 4104,
    WS_CLOSE_IDLE = 4105,
    WS_CLOSE_DRAIN = 4200,
    WS_CLOSE_TOKEN_EXPIRED = 4201,
};

#define WS_HEADER_MAX          14  /* 2 + 8 + 4 */
#define WS_CONTROL_PAYLOAD_MAX 125 /* RFC 6455, 5.5 */

enum ws_event {
    WS_NEED_MORE, /* all bytes consumed, nothing to hand out */
    WS_MESSAGE,   /* a whole text or binary message */
    WS_PING,
    WS_PONG,
    WS_CLOSE, /* a legal close frame; nothing after it may be fed */
    WS_ERROR, /* the peer broke the protocol: close with `code`; nothing more may be fed */
};

struct ws_message {
    enum ws_opcode opcode; /* TEXT or BINARY for WS_MESSAGE */
    struct slice payload;  /* for CLOSE: the reason, valid UTF-8. Borrowed until the next call. */
    uint16_t code;         /* CLOSE: the peer's code or 1005; ERROR: the code to close with */
    const char *why;       /* ERROR: static text for people and logs */
};

struct ws_decoder_config {
    bool is_server;       /* frames must be masked; a client's decoder wants them unmasked */
    bool deflate;         /* RSV1 is allowed on the first frame of a message */
    size_t message_bytes; /* largest message, after inflating */
    struct ws_inflater *inflater; /* shared by the worker; its state lasts for a call only */
    struct buf *inflated;         /* scratch of the worker for inflated messages */
};

/*
 * State between two calls. Zero it to start. About 200 bytes, most of them control[], the kept part
 * of a message and, while a compressed one is larger than its content may be, 40 KiB to inflate it:
 * a connection need only have one while a message is incomplete, see ws_decoder_is_idle.
 */
struct ws_decoder {
    struct buf message;           /* payload so far of an incomplete data message */
    struct ws_inflater *inflater; /* owned: what made `message` of too many bytes; else NULL */
    struct utf8 utf8;             /* of an uncompressed text message */
    uint64_t sent;                /* payload bytes that the message's frames announced so far */
    uint64_t remaining;           /* payload bytes of the current frame still to come */
    uint8_t header[WS_HEADER_MAX];
    uint8_t header_len; /* header bytes kept */
    uint8_t mask[4];
    uint8_t mask_at;        /* phase of the mask, 0..3 */
    uint8_t opcode;         /* of the current frame */
    uint8_t message_opcode; /* of the message under way; 0: none */
    bool in_frame;          /* header done, payload under way */
    bool fin;
    bool masked;
    bool compressed;     /* the message under way has RSV1 */
    uint8_t control_len; /* bytes in control[] */
    uint8_t control[WS_CONTROL_PAYLOAD_MAX];
};

void ws_decoder_fini(struct ws_decoder *d);

/*
 * Decodes from ptr[0..len), which it may overwrite, and says in *used how much it consumed. Call
 * again with the rest until WS_NEED_MORE. Announced lengths are checked before memory is taken;
 * kept memory grows with bytes received, never with bytes announced.
 */
enum ws_event ws_decoder_next(struct ws_decoder *d, const struct ws_decoder_config *config,
                              uint8_t *ptr, size_t len, size_t *used, struct ws_message *out);

/* True between messages with nothing kept: the decoder may be discarded and made anew. */
bool ws_decoder_is_idle(const struct ws_decoder *d);

/* Writes a frame header without a mask. Returns its length, 2, 4 or 10. */
size_t ws_encode_header(uint8_t out[WS_HEADER_MAX], enum ws_opcode opcode, bool compressed,
                        uint64_t payload_bytes);

/* Appends a whole masked frame, as a client sends it. mask: 32 random bits. */
void ws_encode_masked(struct buf *out, enum ws_opcode opcode, bool fin, struct slice payload,
                      uint32_t mask);

/* Is this a code that an endpoint may send (RFC 6455, 7.4)? */
bool ws_close_code_is_legal(unsigned code);

#endif
