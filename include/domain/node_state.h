/*
 * node_state.h - what a node says of itself to load balancers and to the registry.
 *
 * STARTING until the feed was ok for the first time, then READY; DRAINING while it hands its
 * clients to others. A feed that is lost later does not change it: that is told beside it.
 */
#ifndef TICKCAST_DOMAIN_NODE_STATE_H
#define TICKCAST_DOMAIN_NODE_STATE_H

enum node_state { NODE_STARTING, NODE_READY, NODE_DRAINING };

/* As it stands in the registry. Static. */
static inline const char *node_state_name(enum node_state state)
{
    static const char *const names[] = {"starting", "ready", "draining"};
    return names[state];
}

#endif
