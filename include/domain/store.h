/*
 * store.h - publishing from inside the node, over the command link: stamped, with value and log
 * kept in Redis (docs/protocol.md, 3), or plain.
 *
 *      store_publish ──EVALSHA──> Redis script: number, store, PUBLISH ──> every node's bus
 *                    <─seq, epoch─┘
 *
 * What is published on one channel through one store takes its numbers in the order of the calls,
 * also when Redis has to be told the script anew; what another one has passed meanwhile is refused.
 *
 * Owner: the main thread.
 */
#ifndef TICKCAST_DOMAIN_STORE_H
#define TICKCAST_DOMAIN_STORE_H

#include "base/slice.h"
#include "protocol/config.h"
#include "runtime/redis_link.h"

#include <stdbool.h>
#include <stdint.h>

#define STORE_IN_FLIGHT_MAX       10000      /* publications that Redis has not answered */
#define STORE_IN_FLIGHT_BYTES_MAX (32 << 20) /* their payloads: half of what the link holds */

struct store;

enum store_status {
    STORE_OK,
    STORE_LOST,    /* Redis is away, or went away: published or not, nobody knows */
    STORE_REFUSED, /* not published: Redis refused, or too much is in flight */
};

/* What became of a publication. Slices borrow for the call. */
struct store_result {
    enum store_status status;
    uint64_t seq;       /* OK and stamped; plain: 0 */
    struct slice epoch; /* OK and stamped; plain: empty */
    struct slice error; /* REFUSED: for people */
};

typedef void store_on_done(void *arg, const struct store_result *result);

struct store *store_new(const char *prefix); /* copied */

/* Gives it its link, before anything is published; borrowed, up or down as it likes. */
void store_set_link(struct store *s, struct redis_link *link);

/* Only once the link is freed, if there was one. Tells who still waits that the answer is lost. */
void store_free(struct store *s);

/*
 * Publishes on a channel, whose name must be valid. Copies channel and payload (any bytes; stamped
 * and empty: the value is cleared). on_done is called exactly once: later, or before this returns
 * when Redis is away or too much is in flight. It may call back in here.
 */
void store_publish(struct store *s, struct slice channel, struct slice payload, int64_t history,
                   int64_t ttl_s, store_on_done *on_done, void *arg);
void store_publish_plain(struct store *s, struct slice channel, struct slice payload,
                         store_on_done *on_done, void *arg);

/* How a publication is to be followed. */
struct store_trace {
    struct slice trace; /* valid (protocol/trace.h); empty: not at all */
    bool is_made;       /* nobody gave it: nodes log it at debug. Plain publications only */
};

/* The same, with a note that goes ahead of the publication in the same step. */
void store_publish_traced(struct store *s, struct slice channel, struct slice payload,
                          int64_t history, int64_t ttl_s, const struct store_trace *trace,
                          store_on_done *on_done, void *arg);
void store_publish_plain_traced(struct store *s, struct slice channel, struct slice payload,
                                const struct store_trace *trace, store_on_done *on_done, void *arg);

/* What Redis has not answered: publications, and bytes of their payloads. */
unsigned store_in_flight(const struct store *s, size_t *bytes);

/* Are publications in this namespace stamped: does it keep a value or a history? */
bool store_keeps(const struct config_namespace *ns);

#endif
