/*
 * redis_dial.h - finds a Redis and connects to it, without blocking. Knows nothing of its protocol.
 *
 * A host name is resolved with evdns, then each of its addresses is tried in turn until the
 * deadline; an address gets an even share of the time that is left. A lookup that takes longer than
 * one dial goes on in the background and serves the next, so that a slow name server delays the
 * first connection instead of preventing it. One owner, the main thread.
 */
#ifndef TICKCAST_RUNTIME_REDIS_DIAL_H
#define TICKCAST_RUNTIME_REDIS_DIAL_H

#include "protocol/redis_url.h"

#include <stdint.h>

struct event_base;
struct evdns_base;
struct redis_dial;

/* One of them follows each start, possibly from inside it. The dial may be stopped and freed from
 * inside either. */
struct redis_dial_ops {
    void (*on_connected)(void *arg, int fd); /* takes fd: connected, non-blocking */
    void (*on_failed)(void *arg, const char *reason);
};

/* dns may be NULL: only addresses and "localhost" are known then. dns and ops are borrowed, url is
 * copied. */
struct redis_dial *redis_dial_new(struct event_base *base, struct evdns_base *dns,
                                  const struct redis_url *url, const struct redis_dial_ops *ops,
                                  void *arg);
void redis_dial_free(struct redis_dial *d);

/* deadline_ms is of the monotonic clock. Keeping it while a name is looked up is up to the owner,
 * with redis_dial_stop. */
void redis_dial_start(struct redis_dial *d, uint64_t deadline_ms);

/* Gives up; nothing is called back. Harmless when nothing goes on. */
void redis_dial_stop(struct redis_dial *d);

/* What a dial that was given up now was waiting for, as a reason for people. */
const char *redis_dial_stage(const struct redis_dial *d);

#endif
