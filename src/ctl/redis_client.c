/*
 * redis_client.c - the only user of hiredis in tickcastctl.
 *
 * hiredis's blocking interface with socket timeouts. Names and payloads are passed with their
 * lengths, never through format strings, because both may hold any byte.
 */
#include "ctl/redis_client.h"

#include "base/mem.h"
#include "protocol/publish_script.h"

#include <errno.h>
#include <hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ARGS_MAX 32 /* the longest command we send has fewer */

struct redis_client {
    redisContext *context;
    int timeout_ms;
    size_t queued;
    size_t queued_bytes;
    char error[256];
};

static void set_error(struct redis_client *c, const char *text)
{
    snprintf(c->error, sizeof c->error, "%s", text);
}

static void set_context_error(struct redis_client *c)
{
    const char *text = c->context->errstr;
    if (text[0] == '\0')
        text = "the connection was lost";
    else if (strcmp(text, strerror(EAGAIN)) == 0) /* a socket's own words for its timeout */
        text = "no answer in time";
    set_error(c, text);
}

static struct timeval to_timeval(int ms)
{
    return (struct timeval){.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
}

static redisContext *dial(const struct redis_url *url, int timeout_ms)
{
    struct timeval timeout = to_timeval(timeout_ms);
    if (url->is_unix)
        return redisConnectUnixWithTimeout(url->host, timeout);
    return redisConnectWithTimeout(url->host, url->port, timeout);
}

static bool run_quietly(struct redis_client *c, const struct slice *args, size_t count)
{
    struct redis_answer answer;
    if (!redis_client_command(c, args, count, 0, &answer))
        return false;
    redis_answer_fini(&answer);
    return true;
}

static bool sign_in(struct redis_client *c, const struct redis_url *url)
{
    if (url->password[0] == '\0')
        return true;
    const struct slice args[] = {slice_str("AUTH"), slice_str(url->user), slice_str(url->password)};
    if (url->user[0] != '\0')
        return run_quietly(c, args, 3);
    return run_quietly(c, (const struct slice[]){args[0], args[2]}, 2);
}

static bool select_db(struct redis_client *c, const struct redis_url *url)
{
    if (url->db == 0)
        return true;
    char number[12];
    snprintf(number, sizeof number, "%u", url->db);
    return run_quietly(c, (const struct slice[]){slice_str("SELECT"), slice_str(number)}, 2);
}

static void describe(struct buf *error, const struct redis_url *url, const char *reason)
{
    if (url->is_unix)
        buf_printf(error, "redis at %s: %s", url->host, reason);
    else
        buf_printf(error, "redis at %s:%u: %s", url->host, (unsigned)url->port, reason);
}

struct redis_client *redis_client_connect(const struct redis_url *url, int timeout_ms,
                                          struct buf *error)
{
    struct redis_client *c = mem_zalloc(sizeof *c);
    c->timeout_ms = timeout_ms;
    c->context = dial(url, timeout_ms);
    if (c->context == NULL) {
        describe(error, url, "out of memory");
        goto fail;
    }
    if (c->context->err != 0) {
        describe(error, url, c->context->errstr);
        goto fail;
    }
    if (redisSetTimeout(c->context, to_timeval(timeout_ms)) != REDIS_OK || !sign_in(c, url) ||
        !select_db(c, url)) {
        describe(error, url, c->error);
        goto fail;
    }
    return c;
fail:
    redis_client_free(c);
    return NULL;
}

void redis_client_free(struct redis_client *c)
{
    if (c == NULL)
        return;
    if (c->context != NULL)
        redisFree(c->context);
    free(c);
}

const char *redis_client_error(const struct redis_client *c)
{
    return c->error;
}

/* Only these hold a text; anything else in an array is shown as absent. */
static bool has_text(const redisReply *reply)
{
    return reply->type == REDIS_REPLY_STRING || reply->type == REDIS_REPLY_STATUS;
}

static void take_elements(struct redis_answer *out, const redisReply *reply)
{
    out->kind = REDIS_ANSWER_ARRAY;
    out->count = reply->elements;
    out->elements = mem_zalloc((reply->elements + 1) * sizeof *out->elements);
    for (size_t i = 0; i < reply->elements; i++) {
        if (has_text(reply->element[i]))
            out->elements[i] = slice_of(reply->element[i]->str, reply->element[i]->len);
    }
}

static void take_answer(struct redis_answer *out, redisReply *reply)
{
    *out = (struct redis_answer){.kind = REDIS_ANSWER_NIL, .owner = reply};
    if (has_text(reply)) {
        out->kind = REDIS_ANSWER_TEXT;
        out->text = slice_of(reply->str, reply->len);
    } else if (reply->type == REDIS_REPLY_INTEGER) {
        out->kind = REDIS_ANSWER_INT;
        out->number = reply->integer;
    } else if (reply->type == REDIS_REPLY_ARRAY) {
        take_elements(out, reply);
    }
}

static redisReply *run(struct redis_client *c, const struct slice *args, size_t count)
{
    const char *argv[ARGS_MAX] = {0};
    size_t lens[ARGS_MAX] = {0};
    for (size_t i = 0; i < count; i++) {
        argv[i] = args[i].ptr;
        lens[i] = args[i].len;
    }
    return redisCommandArgv(c->context, (int)count, argv, lens);
}

bool redis_client_command(struct redis_client *c, const struct slice *args, size_t count,
                          int extra_ms, struct redis_answer *out)
{
    if (count > ARGS_MAX) {
        set_error(c, "too many arguments");
        return false;
    }
    if (extra_ms > 0)
        redisSetTimeout(c->context, to_timeval(c->timeout_ms + extra_ms));
    redisReply *reply = run(c, args, count);
    if (extra_ms > 0)
        redisSetTimeout(c->context, to_timeval(c->timeout_ms));
    if (reply == NULL) {
        set_context_error(c);
        return false;
    }
    if (reply->type == REDIS_REPLY_ERROR) {
        set_error(c, reply->str);
        freeReplyObject(reply);
        return false;
    }
    take_answer(out, reply);
    return true;
}

void redis_answer_fini(struct redis_answer *answer)
{
    free(answer->elements);
    freeReplyObject(answer->owner);
    *answer = (struct redis_answer){0};
}

bool redis_client_publish(struct redis_client *c, struct slice channel, struct slice payload,
                          long long *receivers)
{
    struct redis_answer answer;
    const struct slice args[] = {slice_str("PUBLISH"), channel, payload};
    if (!redis_client_command(c, args, 3, 0, &answer))
        return false;
    *receivers = answer.number;
    redis_answer_fini(&answer);
    return true;
}

static bool take_stamp(struct redis_client *c, const redisReply *reply,
                       struct redis_client_stamp *out)
{
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2 ||
        reply->element[0]->type != REDIS_REPLY_INTEGER || !has_text(reply->element[1]) ||
        reply->element[1]->len > STAMP_EPOCH_MAX) {
        set_error(c, reply->type == REDIS_REPLY_ERROR ? reply->str : "an unexpected reply");
        return false;
    }
    out->seq = reply->element[0]->integer;
    memcpy(out->epoch, reply->element[1]->str, reply->element[1]->len);
    out->epoch[reply->element[1]->len] = '\0';
    return true;
}

bool redis_client_publish_stamped(struct redis_client *c, struct publish_script_call *call,
                                  struct redis_client_stamp *out)
{
    redisReply *reply = run(c, call->args, call->count);
    if (reply != NULL && reply->type == REDIS_REPLY_ERROR &&
        publish_script_is_unknown(slice_of(reply->str, reply->len))) {
        freeReplyObject(reply);
        publish_script_call_use_text(call);
        reply = run(c, call->args, call->count);
    }
    if (reply == NULL) {
        set_context_error(c);
        return false;
    }
    bool taken = take_stamp(c, reply, out);
    freeReplyObject(reply);
    return taken;
}

void redis_client_queue_publish(struct redis_client *c, struct slice channel, struct slice payload)
{
    const char *argv[] = {"PUBLISH", channel.ptr, payload.ptr};
    const size_t lens[] = {7, channel.len, payload.len};
    /* It fails only when memory ran out or the context has failed already; the flush that
     * follows reports both. */
    redisAppendCommandArgv(c->context, 3, argv, lens);
    c->queued++;
    c->queued_bytes += channel.len + payload.len;
}

size_t redis_client_queued(const struct redis_client *c)
{
    return c->queued;
}

size_t redis_client_queued_bytes(const struct redis_client *c)
{
    return c->queued_bytes;
}

static void count_reply(struct redis_client *c, const redisReply *reply,
                        struct redis_pipeline_result *result)
{
    if (reply->type == REDIS_REPLY_INTEGER) {
        result->answered++;
        result->receivers += (uint64_t)reply->integer;
        return;
    }
    result->refused++;
    if (reply->type == REDIS_REPLY_ERROR)
        set_error(c, reply->str);
}

bool redis_client_flush(struct redis_client *c, struct redis_pipeline_result *result)
{
    c->queued_bytes = 0;
    while (c->queued > 0) {
        void *reply = NULL;
        if (redisGetReply(c->context, &reply) != REDIS_OK) {
            set_context_error(c);
            return false;
        }
        count_reply(c, reply, result);
        freeReplyObject(reply);
        c->queued--;
    }
    return true;
}
