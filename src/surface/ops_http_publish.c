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
#include "surface/ops_http_reply.h"

#include <cjson/cJSON.h>
#include <event2/buffer.h>
#include <event2/http.h>
#include <stdlib.h>

#define ECHO_BYTES_MAX 1024 /* of a channel as it was written; a valid one fits, all escaped */

struct ops_publisher {
    const struct config *config;
    struct store *store;
    struct list batches; /* under way */
};

/* One publication of a request, and what became of it. */
struct item {
    struct batch *batch;
    char *channel; /* the JSON string as it was written, owned; NULL: there was none */
    enum error_code error;
    char *message; /* owned; NULL: the error's own */
    bool is_plain;
    uint64_t seq;
    char epoch[STAMP_EPOCH_MAX + 1];
};

/* One request. */
struct batch {
    struct list member;             /* of the publisher's batches */
    struct evhttp_request *request; /* NULL: nobody to answer */
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
    buf_append_str(out, "}");
}

static void answer(const struct batch *b)
{
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
    }
    return true;
}

/* Writes the name that a JSON string spells; some publishers escape every slash. What has no place
 * in a name is left for channel_is_valid to find, so a NUL must not cut it off. */
static bool decode_channel(struct slice value, char name[CHANNEL_BYTES_MAX + 1])
{
    static const char nul[] = "\\u0000";
    if (value.len > ECHO_BYTES_MAX || memmem(value.ptr, value.len, nul, sizeof nul - 1) != NULL)
        return false;
    cJSON *string = cJSON_ParseWithLength(value.ptr, value.len);
    const char *text = cJSON_GetStringValue(string);
    bool fits = text != NULL && strlen(text) <= CHANNEL_BYTES_MAX;
    if (fits)
        memcpy(name, text, strlen(text) + 1);
    cJSON_Delete(string);
    return fits && channel_is_valid(slice_str(name));
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

/* Hands a publication to the store, or notes why not. */
static void publish(struct ops_publisher *p, struct item *item, struct slice text)
{
    struct members m;
    char name[CHANNEL_BYTES_MAX + 1];
    if (!read_members(text, &m) || m.channel.len == 0 || m.channel.ptr[0] != '"') {
        fail(item, ERR_BAD_COMMAND, "an object with \"channel\" and \"data\" is expected");
        return;
    }
    if (m.channel.len <= ECHO_BYTES_MAX)
        item->channel = mem_strndup(m.channel.ptr, m.channel.len);
    if (!decode_channel(m.channel, name)) {
        fail(item, ERR_BAD_CHANNEL, NULL);
        return;
    }
    struct slice channel = slice_str(name);
    const struct config_namespace *ns = config_namespace(p->config, channel_namespace(channel));
    if (ns == NULL) {
        fail(item, ERR_UNKNOWN_NAMESPACE, NULL);
        return;
    }
    item->is_plain = !store_keeps(ns);
    if (check_payload(p, item, &m) != ERR_NONE)
        return;
    item->batch->waiting++;
    if (item->is_plain)
        store_publish_plain(p->store, channel, m.data, on_published, item);
    else
        store_publish(p->store, channel, m.data, ns->history, ns->history_ttl_s, on_published,
                      item);
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

static void publish_all(struct ops_publisher *p, struct evhttp_request *request, struct slice text)
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
    struct slice text = slice_of((const char *)evbuffer_pullup(body, -1), len);
    /* Only pages send an Origin, and none has any business here: a browser on this machine would
     * otherwise let every web site publish. */
    if (evhttp_find_header(evhttp_request_get_input_headers(request), "Origin") != NULL)
        ops_http_reply_error(request, ERR_FORBIDDEN, "not for web pages");
    else if (len > OPS_PUBLISH_BODY_MAX)
        ops_http_reply_error(request, ERR_TOO_LARGE, "the body is larger than 8 MiB");
    else if (len == 0 || !utf8_is_valid(text.ptr, len) || !json_text_is_valid(text))
        ops_http_reply_error(request, ERR_BAD_JSON, "the body is not JSON");
    else
        publish_all(p, request, text);
}

struct ops_publisher *ops_publisher_new(const struct config *config, struct store *store)
{
    struct ops_publisher *p = mem_zalloc(sizeof *p);
    p->config = config;
    p->store = store;
    list_init(&p->batches);
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
