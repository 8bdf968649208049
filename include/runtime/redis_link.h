/*
 * redis_link.h - one connection to Redis that redials itself. Shows nothing of hiredis.
 *
 * Owner: the main thread. The link resolves (without blocking), connects, authenticates, selects
 * the database, and reports up. When anything fails (refused, reset, end of file, protocol error,
 * a connect that takes too long) it reports down exactly once and redials with capped, jittered
 * backoff: the first try at once, later ones at most 500 ms apart, for ever.
 *
 *      DOWN --dial--> DIALING --AUTH/SELECT ok--> UP --error--> DOWN (on_down, redial later)
 *
 * A node has two: a subscriber link, which only subscribes, and a command link. hiredis's reader
 * and formatter work on our own socket; payloads are handed out straight from the reader's buffer,
 * so a message costs no allocation here. A payload over payload_bytes is skipped as it arrives,
 * without being stored, and reported as on_oversize.
 */
#ifndef TICKCAST_RUNTIME_REDIS_LINK_H
#define TICKCAST_RUNTIME_REDIS_LINK_H

#include "base/slice.h"
#include "protocol/redis_url.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct event_base;
struct evdns_base;
struct redis_link;

enum redis_reply_kind {
    REDIS_REPLIED_TEXT,
    REDIS_REPLIED_INT,
    REDIS_REPLIED_NIL,
    REDIS_REPLIED_ERROR,
    REDIS_REPLIED_ARRAY,
    REDIS_REPLIED_LOST
};

/* A reply to one command. Borrowed for the call. LOST: the link went down before it came. */
struct redis_reply_view {
    enum redis_reply_kind kind;
    struct slice text;                       /* TEXT, ERROR */
    long long number;                        /* INT; ARRAY: its element count */
    const struct redis_reply_view *elements; /* ARRAY */
};

struct redis_link_ops {
    void (*on_up)(void *arg); /* ready for use; subscriptions of a former connection are gone */
    void (*on_down)(void *arg, const char *reason); /* once for each on_up; commands were LOST */
    /* A dial failed; reason borrows. Not called for what on_down reports. */
    void (*on_dial_failed)(void *arg, const char *reason);
    /* A publication. Both slices borrow for the call. pattern messages come the same way. */
    void (*on_message)(void *arg, struct slice channel, struct slice payload);
    /* One that was skipped: its payload is so long, or (channel empty) a name behind a pattern. */
    void (*on_oversize)(void *arg, struct slice channel, uint64_t bytes);
    /* Redis confirmed SUBSCRIBE or PSUBSCRIBE; the name is what was asked for. */
    void (*on_subscribed)(void *arg, struct slice channel);
    void (*on_unsubscribed)(void *arg, struct slice channel); /* Redis confirmed UNSUBSCRIBE */
    void (*on_error)(void *arg, struct slice text);           /* an error reply nobody waited for */
    void (*on_read_end)(void *arg); /* after all replies of one readable event were handed out */
};

struct redis_link_config {
    struct redis_url url;
    size_t payload_bytes; /* largest single reply string kept */
    bool is_subscriber;
};

/* ops and dns are borrowed and must outlive the link; config is copied. Starts to dial in the next
 * turn of the loop. Members of ops that a link never needs may be NULL. */
struct redis_link *redis_link_new(struct event_base *base, struct evdns_base *dns,
                                  const struct redis_link_config *config,
                                  const struct redis_link_ops *ops, void *arg);

/* Calls nothing back, and may be called from inside any callback. A lookup under way ends in the
 * next turn of the loop: run one before evdns_base_free. */
void redis_link_free(struct redis_link *l);

/* Another limit of payload_bytes, from the next bytes on. */
void redis_link_set_payload_bytes(struct redis_link *l, size_t payload_bytes);

bool redis_link_is_up(const struct redis_link *l);

/* Bytes over all its connections so far, and what waits for Redis to take it. */
struct redis_link_traffic {
    uint64_t received_bytes;
    uint64_t sent_bytes;
    uint64_t unsent_bytes;
};
struct redis_link_traffic redis_link_traffic(const struct redis_link *l);

/* Gives up the present connection (it is open but dead) and redials: on_down, then backoff. */
void redis_link_reset(struct redis_link *l, const char *reason);

/* Subscriber links. Names are whole Redis channel names, copied. Quietly ignored unless up: the
 * caller resubscribes everything in on_up. What is asked for in one turn leaves in batches. */
void redis_link_subscribe(struct redis_link *l, struct slice channel);
void redis_link_unsubscribe(struct redis_link *l, struct slice channel);
void redis_link_psubscribe(struct redis_link *l, struct slice pattern);

/* Writes what was asked for in this turn now, as far as the socket takes it: for last words, when
 * there is no next turn. */
void redis_link_flush(struct redis_link *l);

/* Command links. 1 to 1,024 arguments, copied; more than 64 MiB that Redis has not taken reset the
 * link. on_reply is called exactly once, with LOST when the link goes down first, and at once with
 * LOST when it is not up; it may be NULL. */
void redis_link_command(struct redis_link *l, const struct slice *args, size_t count,
                        void (*on_reply)(void *arg, const struct redis_reply_view *reply),
                        void *arg);

#endif
