/*
 * quality_monitor.h - the main thread's eye on how clients' connections do: adds up what the
 * workers counted, judges it, and tells in log, metrics and on the channel `alert:node`.
 *
 *      workers' metrics ──a tick──> quality ──raised, cleared──> log, metrics
 *                                                          └───> store ──> Redis ──> all nodes
 *
 * The channel is told what an alert is now whenever that differs from what it was told last: once
 * for each change while Redis is there, and after an outage once for an alert that is still raised,
 * and not at all for one that came and went meanwhile. An answer that was lost with the link
 * leaves open whether Redis took it; then it is told again, with the same `ts`.
 *
 * It also keeps the table of who came back how often, which workers report arrivals to.
 *
 * Owner: the main thread, except quality_monitor_post_arrival.
 */
#ifndef TICKCAST_DOMAIN_QUALITY_MONITOR_H
#define TICKCAST_DOMAIN_QUALITY_MONITOR_H

#include "base/slice.h"
#include "domain/bus.h"
#include "domain/store.h"
#include "protocol/config.h"
#include "protocol/metrics.h"
#include "runtime/loop.h"

#include <stddef.h>
#include <stdint.h>

struct quality_monitor;

struct quality_monitor_setup {
    struct loop *loop;           /* the main thread's */
    const struct config *config; /* borrowed, until quality_monitor_set_config */
    struct metrics *metrics;     /* of the main thread */
    struct metrics *const *all_metrics;
    size_t metrics_count;
    struct bus *bus;
    struct store *store;
};

struct quality_monitor *quality_monitor_new(const struct quality_monitor_setup *setup);
/* Goes on with another configuration, borrowed: other thresholds count from the next look on. */
void quality_monitor_set_config(struct quality_monitor *m, const struct config *next);
void quality_monitor_free(struct quality_monitor *m); /* once the store and the workers are gone */

/* Somebody known by name ("session:…", "user:…") has connected. Copies name. Any thread. */
void quality_monitor_post_arrival(struct quality_monitor *m, struct slice name);

/* How often that name has come back to this node within the last hour. */
uint32_t quality_monitor_reconnects(const struct quality_monitor *m, struct slice name);

#endif
