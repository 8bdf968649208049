/*
 * messages.c - hello, state, heartbeat, notice, drain, pong, error and the pieces of an ack.
 */
#include "protocol/messages.h"

#include "base/clock.h"
#include "protocol/config.h"
#include "protocol/json_text.h"

static struct frame *finish(struct buf *text)
{
    struct frame *f = frame_text(text);
    buf_fini(text);
    return f;
}

static void append_number(struct buf *out, const char *key, int64_t value)
{
    buf_append_str(out, key);
    buf_append_u64(out, (uint64_t)value);
}

static const char *feed_name(bool feed_ok)
{
    return feed_ok ? "ok" : "suspect";
}

struct frame *message_hello(const struct config *config, const char *conn_id, bool feed_ok,
                            const char *session)
{
    struct buf text = {0};
    buf_append_str(&text, "{\"action\":\"hello\",\"version\":\"1\",\"node\":");
    json_append_string(&text, slice_str(config->node.id));
    buf_append_str(&text, ",\"conn\":");
    json_append_string(&text, slice_str(conn_id));
    append_number(&text, ",\"time\":", (int64_t)clock_unix_ms());
    append_number(&text, ",\"heartbeat_ms\":", config->node.heartbeat_ms);
    append_number(&text, ",\"ping_ms\":", config->node.ping_ms);
    buf_append_str(&text, ",\"feed\":\"");
    buf_append_str(&text, feed_name(feed_ok));
    append_number(&text, "\",\"limits\":{\"channels\":", config->limits.channels_per_client);
    append_number(&text, ",\"message_bytes\":", config->limits.message_bytes);
    append_number(&text, ",\"commands_per_s\":", config->limits.commands_per_s);
    buf_append_str(&text, "}");
    if (session != NULL && session[0] != '\0')
        buf_printf(&text, ",\"session\":\"%s\"", session);
    if (session != NULL)
        append_number(&text, ",\"session_grace_ms\":", config->listen.session_grace_s * 1000);
    buf_append_str(&text, "}");
    return finish(&text);
}

struct frame *message_state(bool feed_ok, const char *reason, struct slice doubtful_json)
{
    struct buf text = {0};
    buf_append_str(&text, "{\"action\":\"state\",\"feed\":\"");
    buf_append_str(&text, feed_name(feed_ok));
    buf_append_str(&text, "\"");
    if (!feed_ok) {
        buf_append_str(&text, ",\"reason\":");
        json_append_string(&text, slice_str(reason));
    }
    if (feed_ok && doubtful_json.len != 0) {
        buf_append_str(&text, ",\"suspect\":[");
        buf_append(&text, doubtful_json.ptr, doubtful_json.len);
        buf_append_str(&text, "]");
    }
    buf_append_str(&text, "}");
    return finish(&text);
}

struct frame *message_slow(uint64_t pending_bytes, uint64_t conflated)
{
    struct buf text = {0};
    append_number(&text, "{\"action\":\"slow\",\"pending\":", (int64_t)pending_bytes);
    append_number(&text, ",\"conflated\":", (int64_t)conflated);
    buf_append_str(&text, "}");
    return finish(&text);
}

struct frame *message_heartbeat(uint64_t up_ms, bool feed_ok)
{
    struct buf text = {0};
    append_number(&text, "{\"action\":\"heartbeat\",\"time\":", (int64_t)clock_unix_ms());
    append_number(&text, ",\"up_ms\":", (int64_t)up_ms);
    buf_append_str(&text, ",\"feed\":\"");
    buf_append_str(&text, feed_name(feed_ok));
    buf_append_str(&text, "\"}");
    return finish(&text);
}

struct frame *message_drain(uint64_t in_ms)
{
    struct buf text = {0};
    append_number(&text, "{\"action\":\"drain\",\"reconnect_in_ms\":", (int64_t)in_ms);
    buf_append_str(&text, "}");
    return finish(&text);
}

struct frame *message_unsubscribed(struct slice channel)
{
    struct buf text = {0};
    buf_append_str(&text, "{\"action\":\"unsubscribed\",\"channel\":");
    json_append_string(&text, channel);
    buf_append_str(&text, "}");
    return finish(&text);
}

struct frame *message_notice(struct slice data_json)
{
    struct buf text = {0};
    buf_append_str(&text, "{\"action\":\"notice\",\"data\":");
    buf_append(&text, data_json.ptr, data_json.len);
    buf_append_str(&text, "}");
    return finish(&text);
}

static void append_id(struct buf *out, const char *id_json)
{
    if (id_json[0] == '\0')
        return;
    buf_append_str(out, ",\"id\":");
    buf_append_str(out, id_json);
}

struct frame *message_pong(const char *id_json, struct slice echo_json)
{
    struct buf text = {0};
    buf_append_str(&text, "{\"action\":\"pong\"");
    append_id(&text, id_json);
    append_number(&text, ",\"time\":", (int64_t)clock_unix_ms());
    if (echo_json.len != 0) {
        buf_append_str(&text, ",\"echo\":");
        buf_append(&text, echo_json.ptr, echo_json.len);
    }
    buf_append_str(&text, "}");
    return finish(&text);
}

struct frame *message_error(enum error_code error, const char *id_json, const char *message,
                            bool fatal)
{
    const struct error_info *info = &error_table[error];
    struct buf text = {0};
    buf_append_str(&text, "{\"action\":\"error\"");
    append_id(&text, id_json);
    append_number(&text, ",\"code\":", info->code);
    buf_append_str(&text, ",\"name\":\"");
    buf_append_str(&text, info->name);
    buf_append_str(&text, "\",\"message\":");
    json_append_string(&text, slice_str(message != NULL ? message : info->text));
    buf_append_str(&text, fatal ? ",\"fatal\":true}" : ",\"fatal\":false}");
    return finish(&text);
}

void message_begin_ack(struct buf *out, const char *id_json)
{
    buf_append_str(out, "{\"action\":\"ack\"");
    append_id(out, id_json);
}

void message_append_rejected(struct buf *out, struct slice channel, enum error_code error)
{
    if (out->len != 0)
        buf_append_str(out, ",");
    buf_append_str(out, "{\"channel\":");
    json_append_string(out, channel);
    append_number(out, ",\"code\":", error_table[error].code);
    buf_append_str(out, ",\"name\":\"");
    buf_append_str(out, error_table[error].name);
    buf_append_str(out, "\"}");
}
