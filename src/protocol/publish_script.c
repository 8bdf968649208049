/*
 * publish_script.c - the command that runs the publishing script.
 *
 * The Makefile makes publish_lua.h from scripts/publish.lua: its bytes, and their SHA-1, by which
 * Redis knows a script.
 *
 *      EVALSHA <digest> 1 {tc:quote:AAPL} <payload> <history> <ttl_s>
 *      EVAL    <text>   1 {tc:quote:AAPL} <payload> <history> <ttl_s> [<trace> <prefix>]
 */
#include "protocol/publish_script.h"

#include "publish_lua.h"

#include <inttypes.h>
#include <stdio.h>

void publish_script_call_init(struct publish_script_call *call, struct slice key,
                              struct slice payload, int64_t history, int64_t ttl_s)
{
    snprintf(call->history, sizeof call->history, "%" PRId64, history);
    snprintf(call->ttl_s, sizeof call->ttl_s, "%" PRId64, ttl_s);
    const struct slice args[] = {
        slice_str("EVALSHA"),     slice_str(publish_lua_sha1), slice_str("1"), key, payload,
        slice_str(call->history), slice_str(call->ttl_s),
    };
    memcpy(call->args, args, sizeof args);
    call->count = sizeof args / sizeof *args;
}

void publish_script_call_trace(struct publish_script_call *call, struct slice trace,
                               struct slice prefix)
{
    call->args[call->count++] = trace;
    call->args[call->count++] = prefix;
}

/* Whoever may not publish the note may still publish. */
const char publish_traced_plain_script[] = "redis.pcall('PUBLISH', ARGV[1], ARGV[2])\n"
                                           "return redis.call('PUBLISH', KEYS[1], ARGV[3])\n";

void publish_script_call_use_text(struct publish_script_call *call)
{
    call->args[0] = slice_str("EVAL");
    call->args[1] = slice_of((const char *)publish_lua, sizeof publish_lua);
}

bool publish_script_is_unknown(struct slice error)
{
    static const char code[] = "NOSCRIPT";
    return error.len >= sizeof code - 1 && memcmp(error.ptr, code, sizeof code - 1) == 0;
}
