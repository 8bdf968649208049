/*
 * bus_mirror.h - namespaces that the node receives whole (`mirror = yes`), part of the bus.
 *
 * A channel of such a namespace is an ordinary bus_channel without a SUBSCRIBE of its own. One that
 * is_mirrored stays when nobody follows it. Owner: the main thread.
 */
#ifndef TICKCAST_DOMAIN_BUS_MIRROR_H
#define TICKCAST_DOMAIN_BUS_MIRROR_H

#include "domain/bus_priv.h"

/* The namespaces are now those of the present configuration, which succeeded `before`. */
void bus_mirror_set_config(struct bus *b, const struct config *before);

void bus_mirror_init(struct bus *b); /* the configuration and the prefix are known */
void bus_mirror_fini(struct bus *b);

/* Links. on_subscribed: true when it is the pattern of a namespace that Redis has confirmed. */
void bus_mirror_up(struct bus *b);
void bus_mirror_command_up(struct bus *b);
void bus_mirror_go_on(struct bus *b); /* with what the store refused for a while */
bool bus_mirror_on_subscribed(struct bus *b, struct slice pattern);

/* Is something stored still being looked for? The feed is not ok before. */
bool bus_mirror_is_filling(const struct bus *b);

/* A message on a channel that is not known: adds it where a mirrored namespace has room, or NULL.
 */
struct bus_channel *bus_mirror_meet(struct bus *b, struct slice name);

/* A channel of a mirrored namespace that was just added: makes it live, now or once it is read. */
void bus_mirror_begin(struct bus *b, struct bus_channel *c);

/* Nobody follows the channel: does it stay, with its value? */
bool bus_mirror_keeps(struct bus *b, struct bus_channel *c);

void bus_mirror_forget(struct bus *b, struct bus_channel *c); /* before it is freed */

#endif
