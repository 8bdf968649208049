/*
 * redis_link_parse.h - the bytes of a Redis connection in, publications and replies out.
 *
 * Knows no socket and no event loop; part of redis_link. Shows nothing of hiredis, whose reader
 * does the parsing. Bytes may be cut anywhere.
 *
 *   subscriber: publications and confirmations are handed out straight from the reader's buffer,
 *               all else that is a single value (+OK, -ERR, :1) as a reply. Other arrays, such as
 *               the answer to PING, are dropped.
 *   otherwise:  each reply is built up as a whole, then handed out.
 */
#ifndef TICKCAST_RUNTIME_REDIS_LINK_PARSE_H
#define TICKCAST_RUNTIME_REDIS_LINK_PARSE_H

#include "runtime/redis_link.h"

struct redis_parse;

/* All borrow for the call. Calls may stop the parser, but not feed, reset or free it. */
struct redis_parse_ops {
    void (*on_message)(void *arg, struct slice channel, struct slice payload);
    void (*on_oversize)(void *arg, struct slice channel, uint64_t bytes);
    void (*on_subscribed)(void *arg, struct slice channel);
    void (*on_unsubscribed)(void *arg, struct slice channel);
    void (*on_reply)(void *arg, const struct redis_reply_view *reply);
};

/* ops is borrowed. payload_bytes: the longest bulk kept; a longer publication is skipped as it
 * arrives, a longer bulk in a reply is an error. */
struct redis_parse *redis_parse_new(bool is_subscriber, size_t payload_bytes,
                                    const struct redis_parse_ops *ops, void *arg);
void redis_parse_free(struct redis_parse *p);

/* Another limit, from the next feed on; what is being skipped is skipped to its end. */
void redis_parse_set_payload_bytes(struct redis_parse *p, size_t payload_bytes);

/* As new, for another connection. */
void redis_parse_reset(struct redis_parse *p);

/* False when the stream is broken or the parser was stopped: nothing is handed out any more until
 * a reset. *why is then the reason, for people; it lives until the reset. */
bool redis_parse_feed(struct redis_parse *p, const char *bytes, size_t len, const char **why)
    __attribute__((warn_unused_result));

/* Ends the present feed after the call that it is in. Harmless at other times. */
void redis_parse_stop(struct redis_parse *p);

#endif
