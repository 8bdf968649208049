/*
 * admin_call.h - one admin command through Redis, and the nodes' replies.
 */
#ifndef TICKCAST_CTL_ADMIN_CALL_H
#define TICKCAST_CTL_ADMIN_CALL_H

#include "base/slice.h"
#include "ctl/target.h"

/*
 * Publishes the command, a valid JSON object, with an `id` put in front of its members where it
 * has none, and prints every reply on a line of its own, until as many nodes replied as heard it
 * (one, for a command with `node`) or timeout_ms is over. Returns the exit status: CTL_OK when all
 * of them replied and every reply says ok, CTL_FAILED otherwise. CTL_USAGE when the command's `id`
 * is neither a string nor a whole number. With --ops the node does all this, and its own time counts.
 */
int admin_call(const struct ctl_target *target, struct slice command, int timeout_ms);

#endif
