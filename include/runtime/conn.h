/*
 * conn.h - one client socket: HTTP request head, then WebSocket, then gone.
 *
 * Owner: its worker's thread. A connection knows bytes, frames and states; what messages mean is
 * for the upper layers, which it calls through struct conn_ops. While idle it holds no buffer, no
 * decoder and no queue: reads land in the worker's buffer, and only an incomplete message or a
 * write that the kernel refused makes it keep anything.
 *
 *      HTTP ──upgrade──> OPEN ──close sent, or the peer's close──> CLOSING ──flushed──> LINGER
 *        └────────────────────────response────────────────────────────┘                   │
 *      (any) ──error, timeout, abort──────────────────────────────────────────> DEAD <────┘
 *
 * DEAD is two-step: everything is unlinked at once, the memory goes at the end of the loop turn.
 * on_closed is called exactly once for each connection that was OPEN, when it leaves that state.
 */
#ifndef TICKCAST_RUNTIME_CONN_H
#define TICKCAST_RUNTIME_CONN_H

#include "protocol/frame.h"
#include "protocol/http_head.h"
#include "protocol/metrics.h"
#include "protocol/outq.h"
#include "protocol/rtt.h"
#include "protocol/ws_codec.h"
#include "runtime/worker.h"

enum conn_state { CONN_HTTP, CONN_OPEN, CONN_CLOSING, CONN_LINGER, CONN_DEAD };

struct conn {
    struct worker *worker;
    void *upper;       /* the session of an OPEN connection; NULL in /echo */
    struct outq *outq; /* only while private output waits */
    union {
        struct buf *head;           /* HTTP: the request head so far, when it came in pieces */
        struct ws_decoder *decoder; /* behind that: only while a message is incomplete */
    };
    struct wheel_timer timer;
    struct list link; /* worker's dirty, failed or dead list */
    int fd;
    uint32_t slot;          /* in worker->conns */
    uint32_t last_sent_ms;  /* low bits of the clock at the last write of a private message */
    uint32_t next_ping_ms;  /* low bits of the clock; upper layers' timer */
    uint32_t blocked_at_ms; /* low bits of the clock, while blocked */
    union {
        uint32_t accepted_us;  /* HTTP: low bits of the clock when it was accepted */
        uint32_t kernel_bytes; /* OPEN: what the kernel still had when it refused more */
    };
    uint16_t close_code; /* what we closed with, or the peer's code; HTTP: the response's status */
    uint8_t state;       /* enum conn_state */
    uint8_t cause;       /* enum metric of the ENDED family, once it ends */
    uint8_t pings_unanswered;
    uint8_t window_bits; /* /echo with deflate: longer messages go out uncompressed */
    bool deflate : 1;    /* permessage-deflate agreed */
    bool blocked : 1;    /* the kernel refused bytes: waiting for writability */
    bool is_echo : 1;
    bool awaits_close : 1;   /* CLOSING: the peer still owes its close frame */
    bool wants_drained : 1;  /* on_drained even without on_blocked */
    bool has_last_words : 1; /* what is queued is short and goes out before the close frame */
    uint8_t address_family;
    uint16_t port;         /* of the peer */
    uint8_t address[16];   /* of the peer: IPv4 in the first four bytes */
    struct rtt rtt;        /* upper layers': how long its pongs took */
    uint32_t ping_sent_us; /* upper layers': stamp of the ping that waits for its pong; 0: none */
};

struct conn_ops {
    /* A whole, well-formed request head. Answers with conn_respond or conn_upgrade. */
    void (*on_request)(struct conn *c, const struct http_head *head);
    /* A head that must be refused with this status: only its method can be relied on. */
    void (*on_bad_request)(struct conn *c, const struct http_head *head, int status);
    /* A text or binary message. payload borrows. */
    void (*on_message)(struct conn *c, enum ws_opcode opcode, struct slice payload);
    /* A pong, while OPEN, whatever is in it: the peer lives. payload borrows. */
    void (*on_pong)(struct conn *c, struct slice payload);
    /* The timer that conn_set_timer set, while OPEN. */
    void (*on_timer)(struct conn *c);
    /* The kernel refused bytes: nothing may be written past the queue until on_drained. */
    void (*on_blocked)(struct conn *c);
    /* The queue is empty, after on_blocked or because somebody wanted to know: one may go on. */
    void (*on_drained)(struct conn *c);
    /* It left OPEN: forget it. upper is the caller's to free. */
    void (*on_closed)(struct conn *c);
};

/* Takes a connected, non-blocking socket; closes it when the kernel has no room to watch it. */
void conn_accept(struct worker *w, int fd, const union socket_peer *peer);

/* HTTP: answers with a whole response and closes. response is copied. */
void conn_respond(struct conn *c, struct slice response, unsigned status);

/* HTTP: answers with the 101 in `response` and becomes OPEN. deflate: what was agreed. Bytes that
 * came behind the head are decoded in this turn. */
void conn_upgrade(struct conn *c, struct slice response, bool deflate, void *upper);

/* OPEN: queues a private frame; takes the reference. Written at the end of the turn. When private
 * output that waits takes limits.hard_bytes of memory already, the connection is closed as slow
 * instead. */
void conn_queue(struct conn *c, struct frame *f);

/* The same without the limit: for the rest of something begun within it, by shared reference. */
void conn_queue_shared(struct conn *c, struct frame *f);

/* Overtakes what is queued. Of many pongs behind a full socket the last one goes out. */
void conn_queue_control(struct conn *c, enum ws_opcode opcode, struct slice payload);

/* OPEN: keeps the rest of a shared frame of which `sent` bytes (0: none) were written by the upper
 * layer itself, and waits for the socket. Shares f. */
void conn_keep_rest(struct conn *c, struct frame *f, uint32_t sent);

/* on_drained follows when everything that is queued is written. */
void conn_call_when_drained(struct conn *c);

/* Waits for the socket to take bytes again; on_drained follows. For a writer of its own. */
void conn_wait_writable(struct conn *c);

/* OPEN: starts the closing handshake: replies of this turn still go out, a backlog is dropped, a
 * close frame follows, and the peer has some seconds to answer. Harmless in any other state. cause:
 * metric of ENDED family. */
void conn_close(struct conn *c, uint16_t code, const char *reason, enum metric cause);

/* Closes as conn_close does, at the end of the turn: safe while walking over connections. code 0:
 * the socket failed, no close frame. */
void conn_fail_later(struct conn *c, uint16_t code, enum metric cause);

/* The same for one that is too slow: what waits is dropped, `words` (taken; may be NULL) and the
 * close frame with 4101 go out when the socket takes them, for which it gets longer than others. From
 * here on it counts as blocked and nothing more is queued: what comes must not follow what was
 * dropped. */
void conn_fail_slow(struct conn *c, struct frame *words);

void conn_abort(struct conn *c, enum metric cause); /* at once, no close frame */

void conn_set_timer(struct conn *c, uint64_t in_ms);

static inline int conn_fd(const struct conn *c)
{
    return c->fd;
}

/* Bytes on their way to this client that it has not taken: queued here, and in the kernel when it
 * last refused more. */
uint64_t conn_waiting_bytes(const struct conn *c);

/* Bytes that the kernel took and could not send yet. A system call. */
uint64_t conn_unsent_bytes(const struct conn *c);

/* For how long the kernel has refused bytes; 0 while it takes them. */
uint64_t conn_blocked_ms(const struct conn *c);

/* Writes the peer's address as text, "192.0.2.7:4711" or "[2001:db8::7]:4711". */
void conn_peer_text(const struct conn *c, char *out, size_t size);

/* What the kernel says of a connection; zeros where it says nothing. A system call. */
struct conn_traffic {
    uint64_t sent_bytes; /* acknowledged by the peer */
    uint64_t received_bytes;
    uint32_t rtt_us; /* smoothed round trip of the packets */
};
void conn_read_traffic(const struct conn *c, struct conn_traffic *out);

/* For worker.c: end-of-turn work, timers and memory. */
void conn_flush(struct conn *c);
void conn_fail_now(struct conn *c);
void conn_on_ready(void *conn, bool readable, bool writable);
void conn_on_timer(struct conn *c);
void conn_free(struct conn *c);

#endif
