/*
 * trusted_position.h - positions that were taken on trust while the feed was suspect.
 *
 * Who comes back during an outage is not sent again what its position covers, for nobody can say
 * whether the position is good (session_recovery.c). Once the feed is ok it can be: a position
 * that the channel has not come up to, or whose value has ended, is asked of the bus like any
 * other. Until it is answered the subscription waits, as one that has just been asked for.
 *
 * Owner: the worker's thread.
 */
#ifndef TICKCAST_DOMAIN_TRUSTED_POSITION_H
#define TICKCAST_DOMAIN_TRUSTED_POSITION_H

#include "domain/hub.h"

/* The feed is ok again, and all that could be healed was delivered. */
void trusted_positions_check(struct hub *h);

#endif
