/*
 * fleet.h - the registry of nodes as tickcastctl sees it: from Redis, or through a node.
 */
#ifndef TICKCAST_CTL_FLEET_H
#define TICKCAST_CTL_FLEET_H

#include "base/buf.h"
#include "ctl/json_scan.h"
#include "ctl/ops_client.h"
#include "ctl/target.h"

/* Checks the target's options before anything is asked. ops is filled in when the target has one.
 * CTL_CONTINUE, or CTL_USAGE with the reason on standard error. */
int fleet_check(const struct ctl_target *target, struct ops_client *ops);

/*
 * Reads who is registered, over a connection of its own, as {"nodes":[{"id":"n1",…}]}, appended
 * to out: valid JSON, with entries as registry_entry_json writes them, ordered by nothing in
 * particular. A node whose hash has expired meanwhile has an id alone. CTL_CONTINUE, or the exit
 * status, with a line for people in error.
 */
int fleet_read(const struct ctl_target *target, struct buf *out, struct buf *error);

/* Walks the nodes of what fleet_read wrote. */
bool fleet_walk(struct slice text, struct json_walk *nodes);

/* The entry of one node; ptr is NULL when it is not registered. id needs no escapes. */
struct slice fleet_find(struct slice text, const char *id);

#endif
