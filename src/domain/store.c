/*
 * store.c - publications on their way to Redis.
 *
 * Main thread. Each is an entry of `stamped` or `plain` from the call until Redis has answered.
 *
 * A Redis that was restarted or flushed does not know the script and refuses with NOSCRIPT, and
 * with one publication all those that were sent behind it. Sending each again as its refusal comes
 * would let newer ones pass it, and an older value would be stored last. So the first refusal
 * holds everything back until all that was sent is answered; then what is left goes out in its old
 * order, the first with the script's whole text:
 *
 *      sent  A B C        answers  A noscript, B noscript, C noscript
 *      held        D E    sent     A (EVAL) B C D E (EVALSHA)
 *
 * Another publisher may bring the script back between two of these, and C is published. Then what
 * was refused before it on its channel has been passed, and is not sent again.
 */
#include "domain/store.h"

#include "base/list.h"
#include "base/mem.h"
#include "protocol/publish_script.h"
#include "protocol/trace.h"

#include <stdlib.h>

struct store {
    struct redis_link *link;
    char *prefix;
    struct list stamped; /* of request, in the order of publishing */
    struct list plain;
    unsigned count; /* of both */
    size_t bytes;   /* payloads of both */
    unsigned sent;  /* stamped ones that Redis has not answered */
    bool is_held;   /* stamped ones wait for the answers to those that were sent */
};

/* A publication in flight. The name in Redis, the payload and the trace follow the struct. */
struct request {
    struct list in_flight;
    struct store *store;
    store_on_done *on_done;
    void *arg;
    int64_t history;
    int64_t ttl_s;
    bool is_again;     /* NOSCRIPT once: not a second time */
    struct slice name; /* `{prefix:channel}`, which is the key; the channel is inside the braces */
    struct slice payload;
    struct slice trace; /* empty: none */
    char bytes[];
};

static void finish(struct request *r, const struct store_result *result)
{
    r->store->count--;
    r->store->bytes -= r->payload.len;
    list_remove(&r->in_flight);
    r->on_done(r->arg, result);
    free(r);
}

static void refuse(store_on_done *on_done, void *arg, struct slice error)
{
    const struct store_result result = {.status = STORE_REFUSED, .error = error};
    on_done(arg, &result);
}

/* What a reply means; false when it is none of ours. */
static bool read_reply(const struct redis_reply_view *reply, bool is_stamped,
                       struct store_result *result)
{
    *result = (struct store_result){.status = STORE_REFUSED};
    switch (reply->kind) {
    case REDIS_REPLIED_LOST: result->status = STORE_LOST; return true;
    case REDIS_REPLIED_ERROR: result->error = reply->text; return true;
    case REDIS_REPLIED_INT: result->status = STORE_OK; return !is_stamped;
    case REDIS_REPLIED_ARRAY: break;
    default: return false;
    }
    if (!is_stamped || reply->number != 2 || reply->elements[0].kind != REDIS_REPLIED_INT ||
        reply->elements[1].kind != REDIS_REPLIED_TEXT)
        return false;
    result->status = STORE_OK;
    result->seq = (uint64_t)reply->elements[0].number;
    result->epoch = reply->elements[1].text;
    return true;
}

static void finish_by_reply(struct request *r, const struct redis_reply_view *reply,
                            bool is_stamped)
{
    struct store_result result;
    if (!read_reply(reply, is_stamped, &result))
        result = (struct store_result){.status = STORE_REFUSED,
                                       .error = slice_str("Redis answered something unexpected")};
    finish(r, &result);
}

/* --- stamped --------------------------------------------------------------------------------- */

static void send_held(struct store *s);

static void refuse_passed(const struct request *published)
{
    const struct store_result passed = {
        .status = STORE_REFUSED,
        .error = slice_str("a later publication of the channel came first")};
    struct list *next;
    for (struct list *at = published->store->stamped.next; at != &published->in_flight; at = next) {
        struct request *r = list_entry(at, struct request, in_flight);
        next = at->next;
        if (slice_equal(r->name, published->name))
            finish(r, &passed);
    }
}

static void on_stamped_reply(void *arg, const struct redis_reply_view *reply)
{
    struct request *r = arg;
    struct store *s = r->store;
    s->sent--;
    if (reply->kind == REDIS_REPLIED_ERROR && !r->is_again &&
        publish_script_is_unknown(reply->text)) {
        r->is_again = true;
        s->is_held = true;
    } else {
        if (s->is_held && reply->kind == REDIS_REPLIED_ARRAY)
            refuse_passed(r);
        finish_by_reply(r, reply, true);
    }
    if (s->is_held && s->sent == 0)
        send_held(s);
}

static void send_stamped(struct request *r, bool with_text)
{
    struct publish_script_call call = {0};
    publish_script_call_init(&call, r->name, r->payload, r->history, r->ttl_s);
    if (r->trace.len > 0)
        publish_script_call_trace(&call, r->trace, slice_str(r->store->prefix));
    if (with_text)
        publish_script_call_use_text(&call);
    r->store->sent++;
    redis_link_command(r->store->link, call.args, call.count, on_stamped_reply, r);
}

/* Nothing is under way, so the list holds exactly what has to be sent, oldest first. When the link
 * is down, each is answered (LOST) and gone before the next is sent. */
static void send_held(struct store *s)
{
    struct list held, *member;
    bool with_text = true;
    s->is_held = false;
    list_init(&held);
    list_splice(&held, &s->stamped);
    while ((member = list_shift(&held)) != NULL) {
        list_append(&s->stamped, member);
        send_stamped(list_entry(member, struct request, in_flight), with_text);
        with_text = false;
    }
}

/* --- plain ----------------------------------------------------------------------------------- */

static void on_plain_reply(void *arg, const struct redis_reply_view *reply)
{
    finish_by_reply(arg, reply, false);
}

/* --- entry ----------------------------------------------------------------------------------- */

static struct request *request_new(struct store *s, struct slice channel, struct slice payload,
                                   struct slice trace, store_on_done *on_done, void *arg)
{
    size_t prefix_len = strlen(s->prefix);
    size_t name_len = prefix_len + channel.len + 2;
    struct request *r = mem_alloc(sizeof *r + name_len + payload.len + trace.len);
    *r = (struct request){.store = s, .on_done = on_done, .arg = arg};
    char *at = r->bytes;
    *at++ = '{';
    memcpy(at, s->prefix, prefix_len);
    memcpy(at + prefix_len, channel.ptr, channel.len);
    at += prefix_len + channel.len;
    *at++ = '}';
    if (payload.len > 0)
        memcpy(at, payload.ptr, payload.len);
    r->name = slice_of(r->bytes, name_len);
    r->payload = slice_of(at, payload.len);
    if (trace.len > 0)
        memcpy(at + payload.len, trace.ptr, trace.len);
    r->trace = slice_of(at + payload.len, trace.len);
    s->count++;
    s->bytes += payload.len;
    return r;
}

static bool has_room(const struct store *s, struct slice payload)
{
    return s->count < STORE_IN_FLIGHT_MAX && payload.len <= STORE_IN_FLIGHT_BYTES_MAX - s->bytes;
}

void store_publish_traced(struct store *s, struct slice channel, struct slice payload,
                          int64_t history, int64_t ttl_s, const struct store_trace *trace,
                          store_on_done *on_done, void *arg)
{
    if (!has_room(s, payload)) {
        refuse(on_done, arg, slice_str("too many publications are under way"));
        return;
    }
    struct request *r = request_new(s, channel, payload, trace->trace, on_done, arg);
    r->history = history;
    r->ttl_s = ttl_s;
    list_append(&s->stamped, &r->in_flight);
    if (!s->is_held)
        send_stamped(r, false);
}

/* A note and the publication in one script, so that nothing comes between them. */
static void send_plain_traced(struct request *r, struct slice channel, bool is_made)
{
    const struct trace_note note = {.trace = r->trace, .channel = channel, .is_made = is_made};
    struct buf text = {0}, trace_channel = {0};
    trace_note_append(&text, &note);
    buf_printf(&trace_channel, "%s" TRACE_CHANNEL, r->store->prefix);
    const struct slice args[] = {slice_str("EVAL"),
                                 slice_str(publish_traced_plain_script),
                                 slice_str("1"),
                                 slice_of(r->name.ptr + 1, r->name.len - 2),
                                 buf_slice(&trace_channel),
                                 buf_slice(&text),
                                 r->payload};
    redis_link_command(r->store->link, args, 7, on_plain_reply, r);
    buf_fini(&text);
    buf_fini(&trace_channel);
}

void store_publish_plain_traced(struct store *s, struct slice channel, struct slice payload,
                                const struct store_trace *trace, store_on_done *on_done, void *arg)
{
    if (!has_room(s, payload)) {
        refuse(on_done, arg, slice_str("too many publications are under way"));
        return;
    }
    struct request *r = request_new(s, channel, payload, trace->trace, on_done, arg);
    list_append(&s->plain, &r->in_flight);
    if (r->trace.len > 0) {
        send_plain_traced(r, channel, trace->is_made);
        return;
    }
    const struct slice args[] = {slice_str("PUBLISH"), slice_of(r->name.ptr + 1, r->name.len - 2),
                                 r->payload};
    redis_link_command(s->link, args, 3, on_plain_reply, r);
}

static const struct store_trace untraced;

void store_publish(struct store *s, struct slice channel, struct slice payload, int64_t history,
                   int64_t ttl_s, store_on_done *on_done, void *arg)
{
    store_publish_traced(s, channel, payload, history, ttl_s, &untraced, on_done, arg);
}

void store_publish_plain(struct store *s, struct slice channel, struct slice payload,
                         store_on_done *on_done, void *arg)
{
    store_publish_plain_traced(s, channel, payload, &untraced, on_done, arg);
}

unsigned store_in_flight(const struct store *s, size_t *bytes)
{
    *bytes = s->bytes;
    return s->count;
}

bool store_keeps(const struct config_namespace *ns)
{
    return config_namespace_is_stamped(ns);
}

void store_set_link(struct store *s, struct redis_link *link)
{
    s->link = link;
}

struct store *store_new(const char *prefix)
{
    struct store *s = mem_zalloc(sizeof *s);
    s->prefix = mem_strdup(prefix);
    list_init(&s->stamped);
    list_init(&s->plain);
    return s;
}

void store_free(struct store *s)
{
    const struct store_result lost = {.status = STORE_LOST};
    list_splice(&s->stamped, &s->plain);
    while (!list_is_empty(&s->stamped))
        finish(list_entry(s->stamped.next, struct request, in_flight), &lost);
    free(s->prefix);
    free(s);
}
