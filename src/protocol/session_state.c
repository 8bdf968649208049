/*
 * session_state.c - a session's subscriptions as text, and back.
 *
 * A channel's alphabet and an epoch's need no escaping, so strings are compared as they stand: one
 * with an escape is none that we wrote.
 */
#include "protocol/session_state.h"

#include "base/mem.h"
#include "base/utf8.h"
#include "protocol/channel.h"
#include "protocol/json_text.h"
#include "protocol/stamp.h"

#include <stdlib.h>

#define VERSION_TEXT "1"
#define RATE_MAX     1000000 /* more than any node grants */
#define DIGITS_MAX   16      /* of STAMP_NUMBER_MAX */
#define FIRST_CAP    16

/* --- writing -------------------------------------------------------------------------------- */

void session_state_begin(struct buf *out)
{
    buf_append_str(out, "{\"v\":" VERSION_TEXT ",\"channels\":[");
}

void session_state_add(struct buf *out, const struct session_state_channel *channel)
{
    if (out->data[out->len - 1] == '}')
        buf_append_str(out, ",");
    buf_append_str(out, "{\"channel\":\"");
    buf_append(out, channel->channel.ptr, channel->channel.len);
    buf_printf(out, "\",\"mode\":\"%s\"", command_mode_name(channel->mode));
    if (channel->max_rate != 0)
        buf_printf(out, ",\"max_rate\":%u", channel->max_rate);
    if (channel->delta)
        buf_append_str(out, ",\"delta\":true");
    if (channel->has_position) {
        buf_append_str(out, ",\"epoch\":\"");
        buf_append(out, channel->epoch.ptr, channel->epoch.len);
        buf_append_str(out, "\",\"seq\":");
        buf_append_u64(out, channel->seq);
    }
    buf_append_str(out, "}");
}

void session_state_end(struct buf *out)
{
    buf_append_str(out, "]}");
}

/* --- reading -------------------------------------------------------------------------------- */

static bool read_text(struct slice json, struct slice *text)
{
    if (json.len < 2 || json.ptr[0] != '"')
        return false;
    *text = slice_of(json.ptr + 1, json.len - 2);
    return true;
}

static bool read_number(struct slice json, uint64_t max, uint64_t *value)
{
    *value = 0;
    if (json.len == 0 || json.len > DIGITS_MAX)
        return false;
    for (size_t i = 0; i < json.len; i++) {
        if (json.ptr[i] < '0' || json.ptr[i] > '9')
            return false;
        *value = *value * 10 + (uint64_t)(json.ptr[i] - '0');
    }
    return *value <= max;
}

static bool read_channel(struct slice json, struct session_state_channel *out)
{
    return read_text(json, &out->channel) && channel_is_valid(out->channel);
}

static bool read_mode(struct slice json, struct session_state_channel *out)
{
    struct slice name;
    if (!read_text(json, &name))
        return false;
    out->mode = slice_is(name, "latest") ? MODE_LATEST : slice_is(name, "all") ? MODE_ALL : 0;
    return out->mode != MODE_UNSET;
}

static bool read_max_rate(struct slice json, struct session_state_channel *out)
{
    uint64_t value;
    if (!read_number(json, RATE_MAX, &value))
        return false;
    out->max_rate = (uint32_t)value;
    return true;
}

static bool read_delta(struct slice json, struct session_state_channel *out)
{
    out->delta = slice_is(json, "true");
    return out->delta;
}

static bool read_epoch(struct slice json, struct session_state_channel *out)
{
    return read_text(json, &out->epoch) &&
           (out->epoch.len == 0 || stamp_epoch_is_valid(out->epoch));
}

static bool read_seq(struct slice json, struct session_state_channel *out)
{
    out->has_position = true;
    return read_number(json, STAMP_NUMBER_MAX, &out->seq);
}

static const struct {
    const char *key;
    bool (*read)(struct slice json, struct session_state_channel *out);
} members_of_channel[] = {
    {"channel", read_channel}, {"mode", read_mode},   {"max_rate", read_max_rate},
    {"delta", read_delta},     {"epoch", read_epoch}, {"seq", read_seq},
};

/* Members that a later version adds are passed over. */
static bool read_member(struct slice key, struct slice value, struct session_state_channel *out)
{
    for (size_t i = 0; i < sizeof members_of_channel / sizeof *members_of_channel; i++) {
        if (slice_is(key, members_of_channel[i].key))
            return members_of_channel[i].read(value, out);
    }
    return true;
}

static bool read_object(struct slice json, struct session_state_channel *out)
{
    struct json_members members;
    struct slice key, value;
    *out = (struct session_state_channel){0};
    if (!json_members_init(&members, json))
        return false;
    while (json_members_next(&members, &key, &value)) {
        if (!read_member(key, value, out))
            return false;
    }
    bool is_whole = out->channel.ptr != NULL && out->mode != MODE_UNSET;
    bool has_epoch = out->epoch.ptr != NULL;
    return is_whole && has_epoch == out->has_position && (out->epoch.len != 0 || out->seq == 0);
}

static bool read_list(struct slice json, struct session_state *out)
{
    struct json_elements elements;
    struct slice value;
    size_t cap = 0;
    if (!json_elements_init(&elements, json))
        return false;
    while (json_elements_next(&elements, &value)) {
        if (out->count == cap) {
            cap = cap != 0 ? cap * 2 : FIRST_CAP;
            out->channels = mem_realloc(out->channels, cap * sizeof *out->channels);
        }
        if (!read_object(value, &out->channels[out->count]))
            return false;
        out->count++;
    }
    return true;
}

bool session_state_parse(struct slice text, struct session_state *out)
{
    struct json_members members;
    struct slice key, value, version = {0}, channels = {0};
    *out = (struct session_state){0};
    if (text.len > SESSION_STATE_BYTES_MAX || !utf8_is_valid(text.ptr, text.len) ||
        !json_text_is_valid(text) || !json_members_init(&members, text))
        return false;
    while (json_members_next(&members, &key, &value)) {
        if (slice_is(key, "v"))
            version = value;
        else if (slice_is(key, "channels"))
            channels = value;
    }
    if (!slice_is(version, VERSION_TEXT) || channels.ptr == NULL || !read_list(channels, out)) {
        session_state_fini(out);
        return false;
    }
    return true;
}

void session_state_fini(struct session_state *s)
{
    free(s->channels);
    *s = (struct session_state){0};
}

/* --- ids ------------------------------------------------------------------------------------ */

static int digit_of(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool session_id_parse(struct slice text, uint8_t id[SESSION_ID_BYTES])
{
    if (text.len != (size_t)2 * SESSION_ID_BYTES)
        return false;
    for (size_t i = 0; i < SESSION_ID_BYTES; i++) {
        int high = digit_of(text.ptr[2 * i]), low = digit_of(text.ptr[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        id[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

void session_id_text(const uint8_t id[SESSION_ID_BYTES], char text[SESSION_ID_TEXT])
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < SESSION_ID_BYTES; i++) {
        text[2 * i] = digits[id[i] >> 4];
        text[2 * i + 1] = digits[id[i] & 15];
    }
    text[SESSION_ID_TEXT - 1] = '\0';
}
