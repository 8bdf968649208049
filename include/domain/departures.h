/*
 * departures.h - how the clients of one worker leave a node that drains.
 *
 * At the beginning every client is given its own time inside the window, evenly spread and in
 * random order, and is told it (`drain`). At its time it is closed with 4200, once it has what was
 * meant for it: what is pending goes out first, and one with a subscription that must not skip is
 * waited for while its socket is slow, and so is one whose publications Redis has not answered. A
 * while after the window whoever is left is closed as he is.
 *
 * Owner: the worker's thread. Costs 24 bytes per client while it lasts, and nothing before.
 */
#ifndef TICKCAST_DOMAIN_DEPARTURES_H
#define TICKCAST_DOMAIN_DEPARTURES_H

#include "domain/hub.h"

struct departures;
struct session;

/* How long after the window one that is not ready is waited for. */
#define DEPARTURES_EXTRA_MS 5000

/* Begins for all clients there are; nobody else may be let in until it is undone. */
struct departures *departures_new(struct hub *h, uint64_t window_ms);
void departures_free(struct departures *d); /* NULL is harmless; who has not left stays */

/* A session ends, for whatever reason. */
void departures_forget(struct departures *d, const struct session *s);

#endif
