/*
 * ops_http_publish.c - from the body of a POST to publications, and from Redis's answers to one
 * HTTP answer.
 *
 *      body ──walk──> item 0 ──store_publish──> Redis      waiting = items not yet answered,
 *                     item 1 ──store_publish──> Redis      and 1 for the walk itself
 *                     item 2 (refused here)                at 0 the answer is written
 *
 * Main thread. A batch is made for each request and frees itself when the last answer is there;
 * the store answers for every publication, so that always comes. The client may be gone by then:
 * libevent keeps a request that is not answered, and answering it only frees it. When the server
 * itself ends first, the batch is told to forget the request.
 */
#include "surface/ops_http_publish.h"

#include "base/list.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "protocol/channel.h"
#include "protocol/json_text.h"
#include "protocol/stamp.h"
#include "protocol/trace.h"
#include "surface/ops_http_access.h"
#include "surface/ops_http_reply.h"

#include <cjson/cJSON.h>
#include <event2/buffer.h>
#include <event2/http.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define TRACE_WANTED   "a trace is 1 to 64 bytes of printable ASCII without space"
#define ECHO_BYTES_MAX 1024 /* of a channel as it was written; a valid one fits, all escaped */

struct ops_publisher {
    const struct config *config;
    struct store *store;
    struct list batches; /* under way */
    struct rng rng;      /* traces of plain publications */
};

/* One publication of a request, and what became of it. */
struct item {
    struct batch *batch;
    char name[CHANNEL_BYTES_MAX + 1];
    char *channel; /* the JSON string as it was written, owned; NULL: there was none */
    enum error_code error;
    char *message; /* owned; NULL: the error's own */
    bool is_plain;
    uint64_t seq;
    char epoch[STAMP_EPOCH_MAX + 1];
    char trace[TRACE_BYTES_MAX + 1]; /* "": by its identity */
    bool has_given;                  /* the trace was given, not made */
};

/* One request. */
struct batch {
    struct list member;             /* of the publisher's batches */
    struct evhttp_request *request; /* NULL: nobody to answer */
    struct slice trace;             /* that the request gives to all; borrows of the request */
    bool is_array;
    size_t waiting;
    size_t count;
    struct item items[];
};

/* --- the answer ------------------------------------------------------------------------------ */

static void write_item(struct buf *out, const struct item *item)
{
    const struct error_info *error = &error_table[item->error];
    buf_append_str(out, "{");
    if (item->channel != NULL)
        buf_printf(out, "\"channel\":%s,", item->channel);
    if (item->error != ERR_NONE) {
        buf_printf(out, "\"code\":%d,\"name\":\"%s\",\"message\":", error->code, error->name);
        json_append_string(out, slice_str(item->message != NULL ? item->message : error->text));
    } else if (item->is_plain) {
        buf_append_str(out, "\"plain\":true");
    } else {
        buf_append_str(out, "\"seq\":");
        buf_append_u64(out, item->seq);
        buf_printf(out, ",\"epoch\":\"%s\"", item->epoch);
    }
    if (item->has_given) {
        buf_append_str(out, ",\"trace\":");
        json_append_string(out, slice_str(item->trace));
    }
    buf_append_str(out, "}");
}

/* The trace of a publication; into out, of TRACE_IDENTITY_MAX + 1 bytes, when it is made of its
 * identity. Empty for one that was refused. */
static struct slice trace_of(const struct item *item, char *out)
{
    if (item->trace[0] != '\0' || item->error != ERR_NONE)
        return slice_str(item->trace);
    int len =
        snprintf(out, TRACE_IDENTITY_MAX + 1, "%s@%s:%" PRIu64, item->name, item->epoch, item->seq);
    return slice_of(out, (size_t)len);
}

static void note_traces(const struct batch *b)
{
    char text[TRACE_IDENTITY_MAX + 1];
    for (size_t i = 0; i < b->count; i++) {
        struct slice trace = trace_of(&b->items[i], text);
        if (trace.len > 0 || i + 1 == b->count) {
            ops_http_access_note(b->request, trace, b->count);
            return;
        }
    }
}

static void answer(const struct batch *b)
{
    note_traces(b);
    struct buf body = {0};
    int status = 200;
    if (b->is_array) {
        buf_append_str(&body, "{\"results\":[");
        for (size_t i = 0; i < b->count; i++) {
            buf_append_str(&body, i > 0 ? "," : "");
            write_item(&body, &b->items[i]);
        }
        buf_append_str(&body, "]}\n");
    } else {
        write_item(&body, &b->items[0]);
        buf_append_str(&body, "\n");
        if (b->items[0].error != ERR_NONE)
            status = error_table[b->items[0].error].code;
    }
    ops_http_reply(b->request, status, "application/json", &body);
    buf_fini(&body);
}

/* One answer less to wait for. Frees the batch after the last. */
static void settle(struct batch *b)
{
    if (--b->waiting > 0)
        return;
    if (b->request != NULL)
        answer(b);
    list_remove(&b->member);
    for (size_t i = 0; i < b->count; i++) {
        free(b->items[i].channel);
        free(b->items[i].message);
    }
    free(b);
}

static void on_published(void *arg, const struct store_result *result)
{
    struct item *item = arg;
    if (result->status == STORE_OK) {
        size_t len = result->epoch.len <= STAMP_EPOCH_MAX ? result->epoch.len : STAMP_EPOCH_MAX;
        if (len > 0)
            memcpy(item->epoch, result->epoch.ptr, len);
        item->seq = result->seq;
    } else {
        item->error = ERR_FEED_UNAVAILABLE;
        if (result->error.len > 0 && utf8_is_valid(result->error.ptr, result->error.len))
            item->message = mem_strndup(result->error.ptr, result->error.len);
    }
    settle(item->batch);
}

/* --- one publication ------------------------------------------------------------------------- */

/* The members of one publication, as they were written; ptr is NULL where there is none. */
struct members {
    struct slice channel;
    struct slice data;
    struct slice clear;
    struct slice trace;
};

static bool read_members(struct slice text, struct members *out)
{
    struct json_members walk;
    struct slice key, value;
    *out = (struct members){0};
    if (!json_members_init(&walk, text))
        return false;
    while (json_members_next(&walk, &key, &value)) {
        if (slice_is(key, "channel"))
            out->channel = value;
        else if (slice_is(key, "data"))
            out->data = value;
        else if (slice_is(key, "clear"))
            out->clear = value;
        else if (slice_is(key, "trace"))
            out->trace = value;
    }
    return true;
}

/* Writes what a JSON string spells, at most `most` bytes and a NUL; some publishers escape every
 * slash. What has no place in a name is left for others to find, so a NUL must not cut it off. */
static bool decode_string(struct slice value, char *out, size_t most)
{
    static const char nul[] = "\\u0000";
    if (value.len > ECHO_BYTES_MAX || memmem(value.ptr, value.len, nul, sizeof nul - 1) != NULL)
        return false;
    cJSON *string = cJSON_ParseWithLength(value.ptr, value.len);
    const char *text = cJSON_GetStringValue(string);
    bool fits = text != NULL && strlen(text) <= most;
    if (fits)
        memcpy(out, text, strlen(text) + 1);
    cJSON_Delete(string);
    return fits;
}

static bool decode_channel(struct slice value, char name[CHANNEL_BYTES_MAX + 1])
{
    return decode_string(value, name, CHANNEL_BYTES_MAX) && channel_is_valid(slice_str(name));
}

static enum error_code fail(struct item *item, enum error_code error, const char *message)
{
    item->message = message != NULL ? mem_strdup(message) : NULL;
    return item->error = error;
}

static enum error_code check_payload(const struct ops_publisher *p, struct item *item,
                                     const struct members *m)
{
    if (m->clear.ptr != NULL && !slice_is(m->clear, "true") && !slice_is(m->clear, "false"))
        return fail(item, ERR_BAD_COMMAND, "clear: true or false");
    bool clears = slice_is(m->clear, "true");
    if (clears == (m->data.ptr != NULL))
        return fail(item, ERR_BAD_COMMAND, "either data or \"clear\":true");
    if (clears && item->is_plain)
        return fail(item, ERR_BAD_COMMAND, "the namespace keeps no values to be cleared");
    if ((uint64_t)p->config->limits.payload_bytes < m->data.len)
        return fail(item, ERR_TOO_LARGE, "the data is larger than limits.payload_bytes");
    return ERR_NONE;
}

/* Its own trace, or the request's; a plain publication without either gets a random one. */
static bool read_trace(struct ops_publisher *p, struct item *item, struct slice own)
{
    struct slice given = item->batch->trace;
    if (own.ptr != NULL) {
        if (!decode_string(own, item->trace, TRACE_BYTES_MAX) ||
            !trace_is_valid(slice_str(item->trace))) {
            item->trace[0] = '\0';
            return false;
        }
        item->has_given = true;
    } else if (given.len > 0) {
        memcpy(item->trace, given.ptr, given.len);
        item->has_given = true;
    } else if (item->is_plain) {
        trace_make(&p->rng, item->trace);
    }
    return true;
}

static void hand_over(struct ops_publisher *p, struct item *item, struct slice data,
                      const struct config_namespace *ns)
{
    const struct store_trace trace = {.trace = slice_str(item->trace), .is_made = !item->has_given};
    struct slice channel = slice_str(item->name);
    item->batch->waiting++;
    if (item->is_plain)
        store_publish_plain_traced(p->store, channel, data, &trace, on_published, item);
    else
        store_publish_traced(p->store, channel, data, ns->history, ns->history_ttl_s, &trace,
                             on_published, item);
}

/* Hands a publication to the store, or notes why not. */
static void publish(struct ops_publisher *p, struct item *item, struct slice text)
{
    struct members m;
    if (!read_members(text, &m) || m.channel.len == 0 || m.channel.ptr[0] != '"') {
        fail(item, ERR_BAD_COMMAND, "an object with \"channel\" and \"data\" is expected");
        return;
    }
    if (m.channel.len <= ECHO_BYTES_MAX)
        item->channel = mem_strndup(m.channel.ptr, m.channel.len);
    if (!decode_channel(m.channel, item->name)) {
        fail(item, ERR_BAD_CHANNEL, NULL);
        return;
    }
    const struct config_namespace *ns =
        config_namespace(p->config, channel_namespace(slice_str(item->name)));
    if (ns == NULL) {
        fail(item, ERR_UNKNOWN_NAMESPACE, NULL);
        return;
    }
    item->is_plain = !store_keeps(ns);
    if (!read_trace(p, item, m.trace))
        fail(item, ERR_BAD_COMMAND, TRACE_WANTED);
    else if (check_payload(p, item, &m) == ERR_NONE)
        hand_over(p, item, m.data, ns);
}

/* --- the request ----------------------------------------------------------------------------- */

static struct batch *batch_new(struct ops_publisher *p, struct evhttp_request *request,
                               size_t count)
{
    struct batch *b = mem_zalloc(sizeof *b + count * sizeof *b->items);
    b->request = request;
    b->waiting = 1;
    b->count = count;
    for (size_t i = 0; i < count; i++)
        b->items[i].batch = b;
    list_append(&p->batches, &b->member);
    return b;
}

static void publish_all(struct ops_publisher *p, struct evhttp_request *request, struct slice text,
                        struct slice trace)
{
    struct json_elements walk;
    struct slice element;
    size_t count = 0;
    bool is_array = json_elements_init(&walk, text);
    while (is_array && json_elements_next(&walk, &element))
        count++;
    if (count > OPS_PUBLISH_ITEMS_MAX) {
        ops_http_reply_error(request, ERR_TOO_LARGE, "more than 10000 publications");
        return;
    }
    struct batch *b = batch_new(p, request, is_array ? count : 1);
    b->is_array = is_array;
    b->trace = trace;
    json_elements_init(&walk, text);
    for (size_t i = 0; i < b->count; i++) {
        if (is_array)
            json_elements_next(&walk, &element);
        publish(p, &b->items[i], is_array ? element : text);
    }
    /* What waits for Redis are the store's copies. */
    evbuffer_drain(evhttp_request_get_input_buffer(request), text.len);
    settle(b);
}

void ops_publisher_post(struct ops_publisher *p, struct evhttp_request *request)
{
    struct evbuffer *body = evhttp_request_get_input_buffer(request);
    size_t len = evbuffer_get_length(body);
    struct slice text = slice_of((const char *)evbuffer_pullup(body, -1), len), trace;
    /* Only pages send an Origin, and none has any business here: a browser on this machine would
     * otherwise let every web site publish. */
    if (evhttp_find_header(evhttp_request_get_input_headers(request), "Origin") != NULL)
        ops_http_reply_error(request, ERR_FORBIDDEN, "not for web pages");
    else if (len > OPS_PUBLISH_BODY_MAX)
        ops_http_reply_error(request, ERR_TOO_LARGE, "the body is larger than 8 MiB");
    else if (len == 0 || !utf8_is_valid(text.ptr, len) || !json_text_is_valid(text))
        ops_http_reply_error(request, ERR_BAD_JSON, "the body is not JSON");
    else if (!ops_http_access_trace(request, &trace))
        ops_http_reply_error(request, ERR_BAD_COMMAND, TRACE_WANTED);
    else
        publish_all(p, request, text, trace);
}

struct ops_publisher *ops_publisher_new(const struct config *config, struct store *store)
{
    struct ops_publisher *p = mem_zalloc(sizeof *p);
    p->config = config;
    p->store = store;
    list_init(&p->batches);
    rng_init_random(&p->rng);
    return p;
}

void ops_publisher_set_config(struct ops_publisher *p, const struct config *next)
{
    p->config = next;
}

void ops_publisher_free(struct ops_publisher *p)
{
    struct list *member;
    while ((member = list_shift(&p->batches)) != NULL)
        list_entry(member, struct batch, member)->request = NULL;
    free(p);
}
