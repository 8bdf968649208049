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

/* No channel has a note about the client any more. */
void session_forget_notes(struct session *s);

/* Nobody waits for answers to the client's publications any more. */
void session_forget_publishes(struct session *s);

/* The two ways to a new set of subscriptions; what is pending of the old one must be settled. */
struct subs;
void session_change_set(struct session *s, const struct subs *next,
                        const struct sub_request *wishes); /* NULL: none */
void session_settle(struct session *s);                    /* does that; for gates, too */

/* Begins a subscribe as a client asked for it. */
void session_begin_subscribe(struct session *s, const struct command *command);

/* The same in steps: opened with the command's id and its wish for snapshots, for at most so many
 * channels; each channel, with mode, max_rate and delta of a command, of which the first mention
 * counts; started with the positions of a command, which may end it at once. */
struct sub_request *session_open_request(struct session *s, const struct command *command,
                                         size_t channel_count);
void session_request_channel(struct sub_request *r, struct slice name,
                             const struct command *command);
void session_start_request(struct sub_request *r, const struct command *command);

/* Takes a channel out of all subscribes that still wait. True when there was one. */
bool session_cancel_pending(struct session *s, struct slice name);

/* Whether a client may name this channel: ERR_BAD_CHANNEL, ERR_UNKNOWN_NAMESPACE, or ERR_NONE and
 * its namespace. */
enum error_code session_check_channel(const struct session *s, struct slice name,
                                      const struct config_namespace **ns);

/* The session's subscription to a channel, or NULL. */
struct cohort_sub *session_find_sub(const struct session *s, struct slice name);

/* Pieces of an ack. */
void session_append_result(struct buf *ack, uint64_t accepted, const struct buf *rejected);
void session_append_sub(struct buf *ack, const struct cohort_sub *sub, bool is_first);
void session_queue_text(struct session *s, struct buf *text); /* takes the buffer's memory */

#endif
