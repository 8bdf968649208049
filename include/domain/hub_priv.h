/*
 * hub_priv.h - what the parts of the hub share: its life (hub.c), delivery (hub_deliver.c) and what
 * comes from the bus (hub_post.c).
 */
#ifndef TICKCAST_DOMAIN_HUB_PRIV_H
#define TICKCAST_DOMAIN_HUB_PRIV_H

#include "domain/hub.h"

/* One publication, from the bus to all who follow its channel. Shares p. gap: publications right
 * before it that this worker never got. */
void hub_deliver(struct hub *h, struct publication *p, uint64_t gap);

struct hub_pack *hub_packs_new(void); /* returns owned */
void hub_packs_forget(struct hub *h); /* at the end of a flush */

#endif
