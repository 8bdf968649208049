/*
 * tape.c - the two formats that can be replayed.
 *
 * A recorded frame is what matches ^(\d{10}\.\d+): (.*)$. Its JSON is parsed only to find the
 * product; what is published is the text itself.
 */
#include "ctl/tape.h"

#include "protocol/channel.h"

#include <cJSON.h>

#define SECONDS_DIGITS 10 /* Unix seconds from 2001 to 2286 */
#define MICRO_DIGITS   6

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static size_t count_digits(struct slice s, size_t from)
{
    size_t at = from;
    while (at < s.len && is_digit(s.ptr[at]))
        at++;
    return at - from;
}

static uint64_t read_digits(const char *ptr, size_t count)
{
    uint64_t value = 0;
    for (size_t i = 0; i < count; i++)
        value = value * 10 + (uint64_t)(ptr[i] - '0');
    return value;
}

/* Digits behind the point as microseconds; finer ones are cut. */
static uint64_t read_micros(const char *ptr, size_t count)
{
    size_t used = count < MICRO_DIGITS ? count : MICRO_DIGITS;
    uint64_t value = read_digits(ptr, used);
    for (; used < MICRO_DIGITS; used++)
        value *= 10;
    return value;
}

static bool parse_frame(struct slice line, struct tape_entry *out)
{
    if (count_digits(line, 0) != SECONDS_DIGITS || line.len < SECONDS_DIGITS + 1 ||
        line.ptr[SECONDS_DIGITS] != '.')
        return false;
    size_t fraction_at = SECONDS_DIGITS + 1;
    size_t fraction = count_digits(line, fraction_at);
    size_t colon = fraction_at + fraction;
    if (fraction == 0 || line.len < colon + 2 || memcmp(line.ptr + colon, ": ", 2) != 0)
        return false;
    out->time_us = read_digits(line.ptr, SECONDS_DIGITS) * 1000000u +
                   read_micros(line.ptr + fraction_at, fraction);
    out->payload = slice_of(line.ptr + colon + 2, line.len - colon - 2);
    return true;
}

static bool parse_plain(struct slice line, struct tape_entry *out)
{
    const char *tab = line.len != 0 ? memchr(line.ptr, '\t', line.len) : NULL;
    if (tab == NULL)
        return false;
    size_t len = (size_t)(tab - line.ptr);
    out->time_us = 0;
    out->channel = slice_of(line.ptr, len);
    out->payload = slice_of(tab + 1, line.len - len - 1);
    return channel_is_valid(out->channel);
}

/* `URL <-> time` and `URL <- time: text` stand in recordings only. */
static bool is_recording_note(struct slice line)
{
    return line.len != 0 && (memmem(line.ptr, line.len, " <-> ", 5) != NULL ||
                             memmem(line.ptr, line.len, " <- ", 4) != NULL);
}

static enum tape_format detect(struct slice line)
{
    struct tape_entry entry;
    if (parse_frame(line, &entry))
        return TAPE_RECORDED;
    if (parse_plain(line, &entry))
        return TAPE_PLAIN;
    return is_recording_note(line) ? TAPE_RECORDED : TAPE_UNKNOWN;
}

static bool name_channel(struct tape *t, struct tape_entry *entry)
{
    cJSON *tree = cJSON_ParseWithLength(entry->payload.ptr, entry->payload.len);
    const cJSON *product = cJSON_GetObjectItemCaseSensitive(tree, "product_id");
    bool found = cJSON_IsString(product);
    buf_clear(&t->channel);
    if (found) {
        buf_append_str(&t->channel, t->namespace);
        buf_append_str(&t->channel, ":");
        buf_append_str(&t->channel, product->valuestring);
    }
    cJSON_Delete(tree);
    entry->channel = buf_slice(&t->channel);
    return found && channel_is_valid(entry->channel);
}

bool tape_parse(struct tape *t, struct slice line, struct tape_entry *out)
{
    if (t->format == TAPE_UNKNOWN)
        t->format = detect(line);
    switch (t->format) {
    case TAPE_RECORDED: return parse_frame(line, out) && name_channel(t, out);
    case TAPE_PLAIN: return parse_plain(line, out);
    case TAPE_UNKNOWN: break;
    }
    return false;
}

void tape_fini(struct tape *t)
{
    buf_fini(&t->channel);
}
