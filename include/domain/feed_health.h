/*
 * feed_health.h - may clients trust the silence? The canary and the feed's state.
 *
 * Every period a numbered canary is published through the command link and must come back on the
 * subscriber link. The feed is ok while the subscriber link is up, everything is subscribed and
 * the last canary came back within three periods; otherwise it is suspect, with a reason. A link
 * over which nothing at all has come for three periods is dropped and redone: open is not alive.
 * One that is merely behind - the canary queues with the data - is suspect, but dropping it would
 * lose what it still carries. So the subscriber link is dropped only when Redis took a canary and
 * nothing was heard since, and the command link when nothing at all is answered.
 *
 * Owner: the main thread.
 */
#ifndef TICKCAST_DOMAIN_FEED_HEALTH_H
#define TICKCAST_DOMAIN_FEED_HEALTH_H

#include "protocol/metrics.h"
#include "runtime/loop.h"
#include "runtime/redis_link.h"

#include <stdbool.h>
#include <stdint.h>

struct feed_health;

struct feed_health_setup {
    struct loop *loop;
    const char *prefix;
    const char *node_id;
    uint64_t period_ms;
    struct metrics *metrics;
    struct redis_link *subscriber;
    struct redis_link *command;
    bool (*has_unconfirmed)(void *arg);               /* subscriptions not yet confirmed */
    void (*on_change)(void *arg, const char *reason); /* NULL: ok now; else why it is suspect */
    void *arg;
};

struct feed_health *feed_health_new(const struct feed_health_setup *setup); /* starts suspect */
void feed_health_free(struct feed_health *h);

void feed_health_on_up(struct feed_health *h);   /* the subscriber link: call after resubscribing */
void feed_health_on_down(struct feed_health *h); /* the subscriber link */

/* Redis confirmed a channel that nobody follows: when it is the canary's, one can go at once. */
void feed_health_on_subscribed(struct feed_health *h, struct slice channel);

/* Logs a dial that failed, once per outage and then every 30 s. */
void feed_health_on_dial_failed(struct feed_health *h, const char *link, const char *reason);

void feed_health_send(struct feed_health *h); /* a canary now, when the command link is up */

/* A message on a channel that nobody follows: true when it was this node's canary. */
bool feed_health_on_message(struct feed_health *h, struct slice channel, struct slice payload);

/* Something came over the subscriber link: late or not, it is not dead. */
void feed_health_on_read(struct feed_health *h);

/* Something came over the command link: late or not, it is not dead either. */
void feed_health_on_answers(struct feed_health *h);

void feed_health_check(struct feed_health *h); /* something may have changed: judge again */

#endif
