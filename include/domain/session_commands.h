/*
 * session_commands.h - what the two halves of a session share: its life and its commands.
 */
#ifndef TICKCAST_DOMAIN_SESSION_COMMANDS_H
#define TICKCAST_DOMAIN_SESSION_COMMANDS_H

#include "domain/session.h"

/* Subscribes to a comma-separated list from the URL; the ack carries no id. */
void session_subscribe_list(struct session *s, struct slice channels);

/* Takes a request off every list and frees it, unanswered. */
void session_cancel_request(struct sub_request *r);

/* Leaves the cohort; the last one out frees it. */
void session_leave_cohort(struct session *s);

/* No channel owes the client its epoch any more. */
void session_forget_fresh(struct session *s);

#endif
