/*
 * ops_http_fleet.c - the registry over HTTP, and admin commands to all nodes.
 *
 *      body ──check──> who is there? ──> PUBLISH tc:admin ──> every 50 ms: tc:admin:reply:<id>
 *                      (the registry)                             │ all have replied, or 3 s
 *                                                                 └─> {"replies":[…],"missing":[…]}
 *
 * Main thread. The command goes out byte for byte as it stands in the body, but for an `id` that
 * is put in front where there is none. What stands in the reply list already is not ours. Anybody
 * may write that list, so a script picks what can be a reply, and only valid JSON is passed on.
 */
#include "surface/ops_http_fleet.h"

#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/utf8.h"
#include "protocol/json_text.h"
#include "protocol/registry_entry.h"
#include "protocol/trace.h"
#include "surface/admin.h"
#include "surface/ops_http_access.h"
#include "surface/ops_http_reply.h"

#include <assert.h>
#include <cjson/cJSON.h>
#include <event2/buffer.h>
#include <event2/http.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define POLL_MS          50      /* nodes answer in milliseconds */
#define REPLY_BYTES_MAX  65536   /* a longer one is none of a node's */
#define POLL_BYTES_MAX   262144  /* of one look at the list of replies, or one that is larger */
#define ANSWER_BYTES_MAX 4194304 /* of all replies to one command: anybody may write to that list */
#define REPLIES_MAX      1000    /* taken; a node replies once */

static_assert(OPS_ADMIN_BODY_MAX + 1024 <= BUS_COMMAND_BYTES_MAX,
              "nodes hear what we take, with an id and a trace added");

struct ops_fleet {
    struct ops_fleet_setup setup;
    struct list calls;   /* commands under way */
    struct list lookups; /* GETs that wait for the registry */
    unsigned call_count;
};

/* A node whose reply is awaited. */
struct awaited {
    char *id;
    bool has_replied;
};

/* One command under way. */
struct fleet_call {
    struct list member; /* of the fleet's calls */
    struct ops_fleet *fleet;
    struct evhttp_request *request; /* NULL once it is answered */
    struct buf command;
    char id[ADMIN_ID_BYTES_MAX + 1];
    struct buf node; /* whom it is addressed to, if anybody */
    bool has_node;
    struct awaited *awaited;
    size_t awaited_count;
    struct loop_timer *tick;
    uint64_t deadline_ms;
    unsigned on_link;   /* commands that Redis has not answered, and the look at the registry */
    bool is_published;  /* Redis has answered that */
    bool is_polling;    /* one of those on the link is a look at the replies */
    long long position; /* in the reply list: those before it are known, or not ours */
    struct buf replies; /* JSON text of the array's members */
    unsigned reply_count;
};

/* --- GET /api/v1/nodes ----------------------------------------------------------------------- */

struct lookup {
    struct list member; /* of the fleet's lookups */
    struct evhttp_request *request;
};

static void on_nodes(void *arg, const struct registry_answer *answer)
{
    struct lookup *l = arg;
    struct buf body = {0};
    if (answer->ok) {
        buf_append_str(&body, "{\"nodes\":[");
        for (size_t i = 0; i < answer->count; i++) {
            buf_append_str(&body, i > 0 ? "," : "");
            buf_append(&body, answer->nodes[i].json.data, answer->nodes[i].json.len);
        }
        buf_append_str(&body, "]}\n");
        ops_http_reply(l->request, 200, "application/json", &body);
    } else {
        ops_http_reply_error(l->request, ERR_FEED_UNAVAILABLE, "Redis does not answer");
    }
    buf_fini(&body);
    list_remove(&l->member);
    free(l);
}

void ops_fleet_nodes(struct ops_fleet *f, struct evhttp_request *request)
{
    struct lookup *l = mem_zalloc(sizeof *l);
    l->request = request;
    list_append(&f->lookups, &l->member);
    registry_ask(f->setup.registry, on_nodes, l);
}

/* --- a call's end ---------------------------------------------------------------------------- */

static void call_free(struct fleet_call *call)
{
    list_remove(&call->member);
    call->fleet->call_count--;
    loop_timer_free(call->tick);
    for (size_t i = 0; i < call->awaited_count; i++)
        free(call->awaited[i].id);
    free(call->awaited);
    buf_fini(&call->command);
    buf_fini(&call->node);
    buf_fini(&call->replies);
    free(call);
}

/* Frees it when nothing of it is on its way any more. The caller may not touch it afterwards. */
static void call_release(struct fleet_call *call)
{
    if (call->request == NULL && call->on_link == 0)
        call_free(call);
}

static void call_refuse(struct fleet_call *call, enum error_code error, const char *message)
{
    if (call->request != NULL)
        ops_http_reply_error(call->request, error, message);
    call->request = NULL;
    loop_timer_cancel(call->tick);
}

static void append_missing(const struct fleet_call *call, struct buf *body)
{
    size_t missing = 0;
    for (size_t i = 0; i < call->awaited_count; i++) {
        if (call->awaited[i].has_replied)
            continue;
        buf_append_str(body, missing++ == 0 ? ",\"missing\":[" : ",");
        json_append_string(body, slice_str(call->awaited[i].id));
    }
    buf_append_str(body, missing > 0 ? "]" : "");
}

static void call_answer(struct fleet_call *call)
{
    struct buf body = {0};
    buf_append_str(&body, "{\"id\":");
    json_append_string(&body, slice_str(call->id));
    buf_append_str(&body, ",\"replies\":[");
    buf_append(&body, call->replies.data, call->replies.len);
    buf_append_str(&body, "]");
    append_missing(call, &body);
    buf_append_str(&body, "}\n");
    ops_http_reply(call->request, 200, "application/json", &body);
    call->request = NULL;
    loop_timer_cancel(call->tick);
    buf_fini(&body);
}

/* Nothing was published: nobody would hear it. */
static void call_refuse_node(struct fleet_call *call)
{
    struct buf body = {0};
    buf_append_str(&body, "{\"code\":404,\"name\":\"unknown_node\",\"message\":"
                          "\"no such node is registered\",\"replies\":[],\"missing\":[");
    json_append_string(&body, buf_slice(&call->node));
    buf_append_str(&body, "]}\n");
    ops_http_reply(call->request, 404, "application/json", &body);
    call->request = NULL;
    buf_fini(&body);
}

/* --- replies --------------------------------------------------------------------------------- */

/* clang-format off */
/* ARGV: from where, how many, longest. Returns the position behind what was looked at, then the
 * replies. */
static const char poll_script[] =
    "local from, max = tonumber(ARGV[1]), tonumber(ARGV[3])\n"
    "if redis.call('TYPE', KEYS[1]).ok ~= 'list' then return {from} end\n"
    "local list = redis.call('LRANGE', KEYS[1], from, from + ARGV[2] - 1)\n"
    "local out, room = {from}, tonumber(ARGV[4])\n"
    "for _, text in ipairs(list) do\n"
    "  if #text <= max then\n"
    "    room = room - #text\n"
    "    if room < 0 and #out > 1 then break end\n"
    "    out[#out + 1] = text\n"
    "  end\n"
    "  out[1] = out[1] + 1\n"
    "end\n"
    "return out\n";
/* clang-format on */

/* Which node says so? Ids hold nothing that JSON escapes. */
static struct slice node_of(struct slice reply)
{
    struct json_members walk;
    struct slice key, value;
    if (!json_members_init(&walk, reply))
        return (struct slice){0};
    while (json_members_next(&walk, &key, &value)) {
        if (slice_is(key, "node") && value.len > 2 && value.ptr[0] == '"')
            return slice_of(value.ptr + 1, value.len - 2);
    }
    return (struct slice){0};
}

static void take_reply(struct fleet_call *call, struct slice text)
{
    if (call->reply_count == REPLIES_MAX || call->replies.len + text.len > ANSWER_BYTES_MAX ||
        !utf8_is_valid(text.ptr, text.len) || !json_text_is_valid(text))
        return;
    struct slice node = node_of(text);
    if (node.len == 0)
        return;
    for (size_t i = 0; i < call->awaited_count; i++) {
        if (slice_is(node, call->awaited[i].id))
            call->awaited[i].has_replied = true;
    }
    buf_append_str(&call->replies, call->reply_count++ > 0 ? "," : "");
    buf_append(&call->replies, text.ptr, text.len);
}

static bool has_all(const struct fleet_call *call)
{
    for (size_t i = 0; i < call->awaited_count; i++) {
        if (!call->awaited[i].has_replied)
            return false;
    }
    return true;
}

static void on_polled(void *arg, const struct redis_reply_view *reply)
{
    struct fleet_call *call = arg;
    call->on_link--;
    call->is_polling = false;
    if (call->request != NULL && reply->kind == REDIS_REPLIED_ARRAY && reply->number > 0 &&
        reply->elements[0].kind == REDIS_REPLIED_INT) {
        call->position = reply->elements[0].number;
        for (long long i = 1; i < reply->number; i++) {
            if (reply->elements[i].kind == REDIS_REPLIED_TEXT)
                take_reply(call, reply->elements[i].text);
        }
        if (has_all(call))
            call_answer(call);
    }
    call_release(call);
}

static void append_reply_key(const struct fleet_call *call, struct buf *key)
{
    buf_printf(key, "%sadmin:reply:%s", call->fleet->setup.config->redis.prefix, call->id);
}

static void poll_replies(struct fleet_call *call)
{
    char from[24], count[16], bytes[16], room[16];
    struct buf key = {0};
    append_reply_key(call, &key);
    snprintf(from, sizeof from, "%lld", call->position);
    snprintf(count, sizeof count, "%d", REPLIES_MAX);
    snprintf(bytes, sizeof bytes, "%d", REPLY_BYTES_MAX);
    snprintf(room, sizeof room, "%d", POLL_BYTES_MAX);
    const struct slice args[] = {slice_str("EVAL"), slice_str(poll_script), slice_str("1"),
                                 buf_slice(&key),   slice_str(from),        slice_str(count),
                                 slice_str(bytes),  slice_str(room)};
    call->on_link++;
    call->is_polling = true;
    redis_link_command(bus_command_link(call->fleet->setup.bus), args, 8, on_polled, call);
    buf_fini(&key);
}

static void on_tick(void *arg)
{
    struct fleet_call *call = arg;
    if (loop_now_ms(call->fleet->setup.loop) >= call->deadline_ms) {
        if (call->is_published)
            call_answer(call);
        else
            call_refuse(call, ERR_FEED_UNAVAILABLE, "Redis does not answer");
        call_release(call);
        return;
    }
    loop_timer_set(call->tick, POLL_MS);
    if (!call->is_polling)
        poll_replies(call);
}

/* --- publishing ------------------------------------------------------------------------------ */

/* A list that is there already holds replies to somebody else's command of that id. */
static void on_length(void *arg, const struct redis_reply_view *reply)
{
    struct fleet_call *call = arg;
    call->on_link--;
    if (reply->kind == REDIS_REPLIED_INT)
        call->position = reply->number;
    call_release(call);
}

static void on_published(void *arg, const struct redis_reply_view *reply)
{
    struct fleet_call *call = arg;
    call->on_link--;
    if (call->request != NULL && reply->kind != REDIS_REPLIED_INT)
        call_refuse(call, ERR_FEED_UNAVAILABLE, "Redis did not take the command");
    else if (call->request != NULL)
        loop_timer_set(call->tick, 1);
    call->is_published = true;
    call_release(call);
}

static void publish(struct fleet_call *call)
{
    struct redis_link *link = bus_command_link(call->fleet->setup.bus);
    struct buf key = {0}, channel = {0};
    append_reply_key(call, &key);
    buf_printf(&channel, "%sadmin", call->fleet->setup.config->redis.prefix);
    const struct slice length[] = {slice_str("LLEN"), buf_slice(&key)};
    const struct slice words[] = {slice_str("PUBLISH"), buf_slice(&channel),
                                  buf_slice(&call->command)};
    call->deadline_ms = loop_now_ms(call->fleet->setup.loop) + OPS_ADMIN_WAIT_MS;
    loop_timer_set(call->tick, OPS_ADMIN_WAIT_MS); /* should Redis not answer at all */
    call->on_link += 2;
    redis_link_command(link, length, 2, on_length, call);
    redis_link_command(link, words, 3, on_published, call);
    buf_fini(&key);
    buf_fini(&channel);
}

static void await(struct fleet_call *call, const char *id)
{
    call->awaited[call->awaited_count++].id = mem_strdup(id);
}

/* Who is to reply: the node that is addressed, or everybody who is registered, and this node
 * whether it is or not. False when there is no such node. */
static bool choose_awaited(struct fleet_call *call, const struct registry_answer *answer)
{
    const char *own = call->fleet->setup.config->node.id;
    bool has_own = false;
    call->awaited = mem_zalloc((answer->count + 1) * sizeof *call->awaited);
    for (size_t i = 0; i < answer->count; i++) {
        const char *id = answer->nodes[i].id;
        if (call->has_node && !slice_is(buf_slice(&call->node), id))
            continue;
        has_own = has_own || strcmp(id, own) == 0;
        await(call, id);
    }
    if (!has_own && (!call->has_node || slice_is(buf_slice(&call->node), own)))
        await(call, own);
    return call->awaited_count > 0;
}

static void on_registry(void *arg, const struct registry_answer *answer)
{
    struct fleet_call *call = arg;
    if (!answer->ok)
        call_refuse(call, ERR_FEED_UNAVAILABLE, "Redis does not answer");
    else if (!choose_awaited(call, answer))
        call_refuse_node(call);
    else
        publish(call);
    call->on_link--; /* only now: what publish sends may be lost at once */
    call_release(call);
}

/* --- the request ----------------------------------------------------------------------------- */

/* 128 bits of the kernel's: whoever can read no reply list cannot guess its name. */
static void make_id(char *out)
{
    struct rng high, low;
    rng_init_random(&high);
    rng_init_random(&low);
    snprintf(out, ADMIN_ID_BYTES_MAX + 1, "%016" PRIx64 "%016" PRIx64, rng_next(&high),
             rng_next(&low));
}

/* The command as it was written, with our id and the request's trace behind the opening brace where
 * it has none. */
static void write_command(struct fleet_call *call, const cJSON *command, struct slice text,
                          struct slice trace)
{
    struct buf *out = &call->command;
    size_t open = (size_t)((const char *)memchr(text.ptr, '{', text.len) - text.ptr) + 1;
    buf_append_str(out, "{");
    if (cJSON_GetObjectItemCaseSensitive(command, "id") == NULL)
        buf_printf(out, "\"id\":\"%s\"", call->id);
    if (trace.len > 0 && cJSON_GetObjectItemCaseSensitive(command, "trace") == NULL) {
        buf_append_str(out, out->len > 1 ? ",\"trace\":" : "\"trace\":");
        json_append_string(out, trace);
    }
    if (out->len > 1 && command->child != NULL)
        buf_append_str(out, ",");
    buf_append(out, text.ptr + open, text.len - open);
}

/* What the nodes will log as its trace (admin.c). */
static void note_trace(struct fleet_call *call, const cJSON *command, struct slice trace)
{
    const cJSON *own = cJSON_GetObjectItemCaseSensitive(command, "trace");
    char made[ADMIN_ID_BYTES_MAX + 8];
    const char *text = cJSON_GetStringValue(own);
    if (text != NULL && trace_is_valid(slice_str(text))) {
        trace = slice_str(text);
    } else if (own != NULL) {
        trace = (struct slice){0}; /* the nodes will say so */
    } else if (trace.len == 0) {
        snprintf(made, sizeof made, "admin:%s", call->id);
        trace = slice_str(made);
    }
    log_often(LOG_CALLS, LOG_INFO, "admin_posted", LOG_SLICE("trace", trace),
              LOG_STR("id", call->id), LOG_SLICE("to", buf_slice(&call->node)));
    ops_http_access_note(call->request, trace, 0);
}

static void start(struct ops_fleet *f, struct evhttp_request *request, const cJSON *command,
                  struct slice text)
{
    const char *node = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(command, "node"));
    char id[ADMIN_ID_BYTES_MAX + 1];
    struct slice trace;
    if (!ops_http_access_trace(request, &trace)) {
        ops_http_reply_error(request, ERR_BAD_COMMAND,
                             "a trace is 1 to 64 bytes of printable ASCII without space");
        return;
    }
    if (cJSON_GetObjectItemCaseSensitive(command, "id") == NULL) {
        make_id(id);
    } else if (!admin_read_id(command, text, id)) {
        ops_http_reply_error(request, ERR_BAD_COMMAND,
                             "id: a text of 1 to 64 bytes, or a whole number of as many");
        return;
    }
    struct fleet_call *call = mem_zalloc(sizeof *call);
    call->fleet = f;
    call->request = request;
    call->tick = loop_timer_new(f->setup.loop, on_tick, call);
    call->on_link = 1;
    memcpy(call->id, id, sizeof id);
    write_command(call, command, text, trace);
    call->has_node = node != NULL;
    buf_append_str(&call->node, node != NULL ? node : "");
    list_append(&f->calls, &call->member);
    f->call_count++;
    note_trace(call, command, trace);
    registry_ask(f->setup.registry, on_registry, call);
}

/* True when the request may go on; else it is answered. */
static bool check_body(const struct ops_fleet *f, struct evhttp_request *request, struct slice text)
{
    /* As for publications: a browser on this machine must not let web sites be operators. */
    if (evhttp_find_header(evhttp_request_get_input_headers(request), "Origin") != NULL)
        ops_http_reply_error(request, ERR_FORBIDDEN, "not for web pages");
    else if (text.len > OPS_ADMIN_BODY_MAX)
        ops_http_reply_error(request, ERR_TOO_LARGE, "the command is too large");
    else if (text.len == 0 || !utf8_is_valid(text.ptr, text.len) || !json_text_is_valid(text))
        ops_http_reply_error(request, ERR_BAD_JSON, "the body is not JSON");
    else if (f->call_count >= OPS_ADMIN_CALLS_MAX)
        ops_http_reply_error(request, ERR_RATE_LIMITED, "too many commands are under way");
    else
        return true;
    return false;
}

void ops_fleet_admin(struct ops_fleet *f, struct evhttp_request *request)
{
    struct evbuffer *body = evhttp_request_get_input_buffer(request);
    size_t len = evbuffer_get_length(body);
    struct slice text = slice_of((const char *)evbuffer_pullup(body, -1), len);
    if (!check_body(f, request, text))
        return;
    cJSON *command = cJSON_ParseWithLength(text.ptr, text.len);
    if (cJSON_IsObject(command))
        start(f, request, command, text);
    else
        ops_http_reply_error(request, ERR_BAD_COMMAND, "the body is not a JSON object");
    cJSON_Delete(command);
}

/* --- life ------------------------------------------------------------------------------------ */

struct ops_fleet *ops_fleet_new(const struct ops_fleet_setup *setup)
{
    struct ops_fleet *f = mem_zalloc(sizeof *f);
    f->setup = *setup;
    list_init(&f->calls);
    list_init(&f->lookups);
    return f;
}

void ops_fleet_set_config(struct ops_fleet *f, const struct config *next)
{
    f->setup.config = next;
}

void ops_fleet_free(struct ops_fleet *f)
{
    while (!list_is_empty(&f->calls))
        call_free(list_entry(f->calls.next, struct fleet_call, member));
    struct list *member;
    while ((member = list_shift(&f->lookups)) != NULL)
        free(list_entry(member, struct lookup, member));
    free(f);
}
