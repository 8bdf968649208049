/*
 * drain.h - a node takes leave of its clients, in an order that nobody notices.
 *
 *      SERVING ──drain_begin──> GRACE ──drain_grace_s──> CLOSING ──nobody left──> DRAINED
 *         ^                       │                         │                        │
 *         └──────drain_undo───────┴─────────────────────────┴────────────────────────┘
 *
 * GRACE: /readyz says no, everything else goes on, so that balancers find out before a client
 * does. CLOSING: upgrades are refused with 503, and each client leaves at its own time
 * (departures.h). The window is that of the drain; it ends early when nobody is left.
 *
 * Owner: the main thread.
 */
#ifndef TICKCAST_DOMAIN_DRAIN_H
#define TICKCAST_DOMAIN_DRAIN_H

#include "domain/hub.h"
#include "protocol/admission.h"

enum drain_state { DRAIN_SERVING, DRAIN_GRACE, DRAIN_CLOSING, DRAIN_DRAINED };

#define DRAIN_SECONDS_MAX 3600

struct drain_setup {
    struct loop *loop; /* the main thread's */
    struct hub **hubs;
    unsigned hub_count;
    struct admission *admission;
    void (*on_change)(void *arg); /* the state is another one */
    void *arg;
};

struct drain;

struct drain *drain_new(const struct drain_setup *setup);
void drain_free(struct drain *d); /* once no worker runs */

/* From SERVING; a drain that is under way goes on as it is. */
void drain_begin(struct drain *d, uint64_t grace_ms, uint64_t window_ms);

void drain_undo(struct drain *d); /* clients that have not left stay; harmless in SERVING */

/* In how long a drain that is under way is over at the latest; 0: it is. */
uint64_t drain_left_ms(const struct drain *d);

enum drain_state drain_get(const struct drain *d);
const char *drain_state_name(enum drain_state state);

/* WebSocket clients connected to the node. */
uint64_t drain_clients(const struct drain *d);

#endif
