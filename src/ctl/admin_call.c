/*
 * admin_call.c - publish, then collect from the reply list.
 *
 *      PUBLISH tc:admin {"id":"7f…","cmd":…}   ->  n nodes heard it
 *      BLPOP tc:admin:reply:7f…                ->  {"node":"n1","ok":true,…}, up to n times
 *
 * A node may have replied before the first BLPOP: the list keeps it. With --ops a node does all of
 * this, and knows who should have replied.
 */
#include "ctl/admin_call.h"

#include "base/clock.h"
#include "base/rng.h"
#include "base/utf8.h"
#include "ctl/fleet.h"
#include "protocol/json_text.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define ID_BYTES_MAX 64 /* longest id of a caller's own: it becomes part of a key */
#define WAIT_MIN_MS  10 /* BLPOP takes 0 for "for ever" */

struct admin_call {
    struct redis_client *redis;
    struct buf command;
    struct buf channel;
    struct buf reply_key;
    uint64_t deadline_ms;
    long long expected; /* replies */
    long long replied;
    long long refused; /* replies that do not say ok */
};

/* To any other id nodes could not reply; with an escape in it we would wait at another key. */
static bool is_id(struct slice value)
{
    struct slice id = json_unquoted(value);
    if (value.ptr[0] != '"' && !json_is_integer(value))
        return false;
    return id.len > 0 && id.len <= ID_BYTES_MAX && memchr(id.ptr, '\\', id.len) == NULL;
}

/* Puts a random id behind the opening brace; every other byte stays. */
static void add_id(struct buf *out, struct slice command, const char *id)
{
    struct json_walk walk;
    struct slice value;
    json_walk_start(&walk, command);
    struct slice rest = walk.left;
    buf_printf(out, "{\"id\":\"%s\"", id);
    if (json_walk_next(&walk, NULL, &value))
        buf_append_str(out, ",");
    buf_append(out, rest.ptr, rest.len);
}

static int prepare(struct admin_call *call, const struct ctl_target *target, struct slice command)
{
    struct buf id = {0};
    struct slice own = json_member(command, "id");
    if (own.ptr != NULL && !is_id(own))
        return ctl_misuse("admin: id: a string of 1 to %d bytes without backslash, or a whole "
                          "number of as many",
                          ID_BYTES_MAX);
    if (own.ptr != NULL) {
        own = json_unquoted(own);
        buf_append(&id, own.ptr, own.len);
        buf_append(&call->command, command.ptr, command.len);
    } else {
        struct rng rng;
        rng_init_random(&rng);
        buf_printf(&id, "%016" PRIx64, rng_next(&rng));
        add_id(&call->command, command, id.data);
    }
    ctl_target_name(target, slice_str("admin"), &call->channel);
    ctl_target_name(target, slice_str("admin:reply:"), &call->reply_key);
    buf_append(&call->reply_key, id.data, id.len);
    buf_fini(&id);
    return CTL_CONTINUE;
}

static void take_reply(struct admin_call *call, struct slice reply)
{
    printf("%.*s\n", (int)reply.len, reply.ptr);
    call->replied++;
    if (!slice_is(json_member(reply, "ok"), "true"))
        call->refused++;
}

/* Waits for one reply. False when there is none in time, or Redis failed (then *status says so). */
static bool wait_for_reply(struct admin_call *call, int *status)
{
    uint64_t now = clock_mono_ms();
    if (now >= call->deadline_ms)
        return false;
    uint64_t left = call->deadline_ms - now;
    left = left < WAIT_MIN_MS ? WAIT_MIN_MS : left;
    char seconds[32];
    snprintf(seconds, sizeof seconds, "%" PRIu64 ".%03" PRIu64, left / 1000, left % 1000);
    const struct slice args[] = {slice_str("BLPOP"), buf_slice(&call->reply_key),
                                 slice_str(seconds)};
    struct redis_answer answer;
    if (!redis_client_command(call->redis, args, 3, (int)left, &answer)) {
        *status = ctl_fail("admin: redis: %s", redis_client_error(call->redis));
        return false;
    }
    bool got =
        answer.kind == REDIS_ANSWER_ARRAY && answer.count == 2 && answer.elements[1].ptr != NULL;
    if (got)
        take_reply(call, answer.elements[1]);
    redis_answer_fini(&answer);
    return got;
}

static int conclude(const struct admin_call *call)
{
    if (call->replied < call->expected)
        return ctl_fail("admin: %lld of %lld nodes replied in time", call->replied, call->expected);
    return call->refused == 0 ? CTL_OK : CTL_FAILED;
}

/* Replies live for a minute: those to a command of before, with the same id, are not to be taken
 * for ours. */
static bool forget_replies(struct admin_call *call)
{
    const struct slice args[] = {slice_str("DEL"), buf_slice(&call->reply_key)};
    struct redis_answer answer;
    if (!redis_client_command(call->redis, args, 2, 0, &answer))
        return false;
    redis_answer_fini(&answer);
    return true;
}

static int run(struct admin_call *call, int timeout_ms)
{
    long long receivers;
    if (!forget_replies(call) || !redis_client_publish(call->redis, buf_slice(&call->channel),
                                                       buf_slice(&call->command), &receivers))
        return ctl_fail("admin: redis: %s", redis_client_error(call->redis));
    if (receivers == 0)
        return ctl_fail("admin: no node is listening; do they use this Redis (--redis) and "
                        "prefix (--prefix)?");
    bool is_addressed = json_member(buf_slice(&call->command), "node").ptr != NULL;
    call->expected = is_addressed ? 1 : receivers;
    call->deadline_ms = clock_mono_ms() + (uint64_t)timeout_ms;
    int status = CTL_CONTINUE;
    while (call->replied < call->expected && wait_for_reply(call, &status)) {
    }
    return status != CTL_CONTINUE ? status : conclude(call);
}

/* --- through a node -------------------------------------------------------------------------- */

static int print_replies(struct slice text)
{
    struct json_walk walk;
    struct slice reply;
    struct slice missing = json_member(text, "missing");
    int status = CTL_OK;
    if (json_walk_start(&walk, json_member(text, "replies"))) {
        for (; json_walk_next(&walk, NULL, &reply);) {
            printf("%.*s\n", (int)reply.len, reply.ptr);
            if (!slice_is(json_member(reply, "ok"), "true"))
                status = CTL_FAILED;
        }
    }
    if (missing.ptr != NULL)
        status = ctl_fail("admin: no reply in time from %.*s", (int)missing.len, missing.ptr);
    return status;
}

static int post(const struct ops_client *ops, struct slice command)
{
    struct buf reply = {0};
    int http = ops_client_post(ops, "/api/v1/admin", command, &reply);
    struct slice text = buf_slice(&reply);
    bool is_json = http != 0 && utf8_is_valid(text.ptr, text.len) && json_text_is_valid(text);
    int status;
    if (http == 200 && is_json) {
        status = print_replies(text);
    } else {
        struct slice why = is_json ? json_unquoted(json_member(text, "message")) : text;
        status = ctl_fail("admin: %.*s", (int)why.len, why.ptr != NULL ? why.ptr : "");
    }
    buf_fini(&reply);
    return status;
}

int admin_call(const struct ctl_target *target, struct slice command, int timeout_ms)
{
    struct admin_call call = {0};
    struct ops_client ops;
    int status = fleet_check(target, &ops);
    if (status == CTL_CONTINUE && target->ops != NULL)
        return post(&ops, command);
    if (status == CTL_CONTINUE)
        status = prepare(&call, target, command);
    if (status == CTL_CONTINUE)
        status = ctl_target_connect(target, &call.redis);
    if (status == CTL_CONTINUE)
        status = run(&call, timeout_ms);
    redis_client_free(call.redis);
    buf_fini(&call.command);
    buf_fini(&call.channel);
    buf_fini(&call.reply_key);
    return status;
}
