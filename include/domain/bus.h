/*
 * bus.h - the node's side of Redis pub/sub: which channels are followed, and what comes in.
 *
 *      hubs ──interest, release──> bus ──SUBSCRIBE / UNSUBSCRIBE, lingering──> redis_link
 *      hubs <──publications, live, feed state── bus <──messages, confirmations── redis_link
 *
 * The bus keeps one entry per followed channel: which workers want it, its numbering, its last
 * value. It checks every message (stamp, UTF-8, JSON, size), numbers plain ones, and hands each
 * worker the publications of one read as one list.
 *
 * It also answers whether the feed can be trusted. A canary goes round through Redis every
 * canary_ms; the feed is `ok` only while the subscriber link is up, every subscription is
 * confirmed and the canary has come back within three periods. A link that is open but dead is
 * dropped and redone.
 *
 * Owner: the main thread, except bus_readiness and what bus_upstream hands to the hubs.
 */
#ifndef TICKCAST_DOMAIN_BUS_H
#define TICKCAST_DOMAIN_BUS_H

#include "base/slice.h"
#include "protocol/config.h"
#include "protocol/metrics.h"
#include "runtime/loop.h"
#include "runtime/redis_link.h"

#include <stdbool.h>
#include <stdint.h>

/* A command to the nodes may be so long, however little a publication may hold. */
#define BUS_COMMAND_BYTES_MAX (132 * 1024)

struct bus;
struct evdns_base;
struct hub;
struct hub_upstream;
struct store;

struct bus_setup {
    struct loop *loop; /* the main thread's */
    struct evdns_base *dns;
    const struct config *config; /* borrowed, until bus_set_config */
    struct metrics *metrics;     /* of the main thread */
    const char *node_id;
    struct store *store; /* what clients publish goes through; borrowed */
    /* A message on the admin channel; payload borrows. */
    void (*on_admin)(void *arg, struct slice payload);
    void *on_admin_arg;
    /* The feed became ok or suspect. May be NULL. */
    void (*on_feed)(void *arg);
    void *on_feed_arg;
};

/* node_id and what config says of [redis] outlive it. */
struct bus *bus_new(const struct bus_setup *setup);
void bus_hang_up(struct bus *b); /* ends the links; nothing may be asked of them any more */
void bus_free(struct bus *b);

/* What a hub is to be made with. */
struct hub_upstream bus_upstream(struct bus *b);

/* Tells the bus its hubs, by worker index, before the links are started. */
void bus_set_hubs(struct bus *b, struct hub **hubs, unsigned count);
void bus_forget_hubs(struct bus *b); /* before they are freed: nothing is posted to them any more */
void bus_start(struct bus *b);       /* dials */

/* Goes on with the configuration that succeeds the present one; borrowed like that. Before the hubs
 * hear of it, because they may ask for a channel of a namespace that is new. */
void bus_set_config(struct bus *b, const struct config *next);

/* NULL while the feed is ok, else static text why it is suspect. Any thread. */
const char *bus_readiness(const struct bus *b);

/* Channels with a subscriber on this node. Main thread. */
uint64_t bus_followed(const struct bus *b);

/* Brings the metrics that are states, not events, up to date, before a scrape. Main thread. */
void bus_take_stock(struct bus *b);

/* The link for commands other than subscribing. Main thread. */
struct redis_link *bus_command_link(struct bus *b);

#endif
