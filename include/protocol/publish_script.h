/*
 * publish_script.h - stamped publishing: the script scripts/publish.lua, carried inside the
 * program, and the command that runs it.
 *
 * Pure; shared by the node and tickcastctl. The script is run by its digest (EVALSHA), so that a
 * publication costs its own bytes and not the script's too. A Redis that has not seen the script
 * answers NOSCRIPT; then the whole text is sent once (EVAL), and Redis keeps it.
 */
#ifndef TICKCAST_PROTOCOL_PUBLISH_SCRIPT_H
#define TICKCAST_PROTOCOL_PUBLISH_SCRIPT_H

#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>

#define PUBLISH_SCRIPT_ARGS 9 /* at most */

/* One command that runs the script, as arguments for Redis. Borrows key and payload; has to stay
 * where it is while args are used. */
struct publish_script_call {
    struct slice args[PUBLISH_SCRIPT_ARGS];
    size_t count;
    char history[24];
    char ttl_s[24];
};

/* key: `{<prefix><channel>}`. payload: any bytes; empty clears the value. history: entries of the
 * log, 0 for none. ttl_s: life of what is stored, 0 for ever. */
void publish_script_call_init(struct publish_script_call *call, struct slice key,
                              struct slice payload, int64_t history, int64_t ttl_s);

/* Has the publication followed under a trace id, which is valid (protocol/trace.h). prefix: of the
 * key. Borrows both. */
void publish_script_call_trace(struct publish_script_call *call, struct slice trace,
                               struct slice prefix);

/* From the digest to the whole text: what follows a NOSCRIPT. */
void publish_script_call_use_text(struct publish_script_call *call);

/* For a plain publication and the trace note ahead of it: publishes ARGV[2] on ARGV[1], then
 * ARGV[3] on KEYS[1], and returns what PUBLISH does. */
extern const char publish_traced_plain_script[];

/* Is this error reply the one of a Redis that has not seen the script? */
bool publish_script_is_unknown(struct slice error);

#endif
