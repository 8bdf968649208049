/*
 * messages.h - the messages a node sends besides publications (docs/protocol.md, 2.2), as frames.
 *
 * Each returns an owned frame with one reference. Text arguments are escaped; arguments named
 * *_json are JSON already and are put in as they are.
 */
#ifndef TICKCAST_PROTOCOL_MESSAGES_H
#define TICKCAST_PROTOCOL_MESSAGES_H

#include "protocol/errors.h"
#include "protocol/frame.h"

#include <stdbool.h>
#include <stdint.h>

struct config;

/* session: the id to come back with, "" for one that is still asked for, NULL where none is wanted.
 */
struct frame *message_hello(const struct config *config, const char *conn_id, bool feed_ok,
                            const char *session);
/* reason only when not ok. doubtful_json: the members of an array of channel names for which
 * something may have been lost; only when ok. */
struct frame *message_state(bool feed_ok, const char *reason, struct slice doubtful_json);
struct frame *message_slow(uint64_t pending_bytes, uint64_t conflated);
struct frame *message_heartbeat(uint64_t up_ms, bool feed_ok);
/* The client will be closed with 4200 in so many milliseconds. */
struct frame *message_drain(uint64_t in_ms);
/* An operator ended the subscription. */
struct frame *message_unsubscribed(struct slice channel);
struct frame *message_notice(struct slice data_json);
struct frame *message_pong(const char *id_json, struct slice echo_json);

/* id_json "" leaves the id out; text NULL takes the table's. */
struct frame *message_error(enum error_code error, const char *id_json, const char *text,
                            bool fatal);

/* Begins `{"action":"ack"` with the id; the caller appends members and the closing brace. */
void message_begin_ack(struct buf *out, const char *id_json);

/* Appends one member of a `rejected` array, with a comma where others stand before it. */
void message_append_rejected(struct buf *out, struct slice channel, enum error_code error);

#endif
