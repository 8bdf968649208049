/*
 * stored.c - reading and renewing what Redis keeps of a channel.
 */
#include "domain/stored.h"

#include "base/buf.h"

#include <stdio.h>
#include <string.h>

#define NUMBER_DIGITS_MAX 16 /* of STAMP_NUMBER_MAX */

/* The same epoch can be renewed by many nodes at once: the first one changes it, the others read.
 * TIME is in microseconds, and the new epoch must differ from the old one whatever the clock says.
 */
static const char renew_script[] =
    "local head = redis.call('HMGET', KEYS[1], 'epoch', 'seq')\n"
    "if head[1] == ARGV[1] and\n"
    "   (ARGV[3] == '1' or (tonumber(head[2]) or 0) < tonumber(ARGV[2])) then\n"
    "  local t = redis.call('TIME')\n"
    "  local epoch = string.format('%x', t[1] * 1000000 + t[2])\n"
    "  if epoch == ARGV[1] then epoch = epoch .. '0' end\n"
    "  redis.call('HSET', KEYS[1], 'epoch', epoch)\n"
    "  redis.call('DEL', KEYS[2])\n"
    "end\n"
    "return redis.call('HMGET', KEYS[1], 'epoch', 'seq', 'ts', 'data')\n";

static void append_key(struct buf *out, struct slice prefix, struct slice channel,
                       const char *suffix)
{
    buf_append_str(out, "{");
    buf_append(out, prefix.ptr, prefix.len);
    buf_append(out, channel.ptr, channel.len);
    buf_append_str(out, "}");
    buf_append_str(out, suffix);
}

static void send(struct redis_link *link, const struct slice *args, size_t count,
                 stored_on_reply *on_reply, void *arg)
{
    redis_link_command(link, args, count, on_reply, arg);
}

void stored_ask(struct redis_link *link, struct slice prefix, struct slice channel,
                uint64_t log_from, stored_on_reply *on_reply, void *arg)
{
    struct buf key = {0}, log = {0};
    char from[32], page[16];
    append_key(&key, prefix, channel, "");
    append_key(&log, prefix, channel, ":log");
    snprintf(from, sizeof from, "%llu-0", (unsigned long long)log_from);
    snprintf(page, sizeof page, "%d", STORED_PAGE);
    const struct slice multi[] = {slice_str("MULTI")};
    const struct slice get[] = {slice_str("HMGET"), buf_slice(&key), slice_str("epoch"),
                                slice_str("seq"),   slice_str("ts"), slice_str("data")};
    const struct slice ttl[] = {slice_str("PTTL"), buf_slice(&key)};
    const struct slice range[] = {slice_str("XRANGE"), buf_slice(&log),    slice_str(from),
                                  slice_str("+"),      slice_str("COUNT"), slice_str(page)};
    const struct slice exec[] = {slice_str("EXEC")};
    send(link, multi, 1, NULL, NULL);
    send(link, get, 6, NULL, NULL);
    send(link, ttl, 2, NULL, NULL);
    if (log_from != STORED_NO_LOG)
        send(link, range, 6, NULL, NULL);
    send(link, exec, 1, on_reply, arg);
    buf_fini(&key);
    buf_fini(&log);
}

void stored_renew(struct redis_link *link, struct slice prefix, struct slice channel,
                  struct slice epoch, uint64_t seen, bool is_certain, stored_on_reply *on_reply,
                  void *arg)
{
    struct buf key = {0}, log = {0};
    char number[24];
    append_key(&key, prefix, channel, "");
    append_key(&log, prefix, channel, ":log");
    snprintf(number, sizeof number, "%llu", (unsigned long long)seen);
    const struct slice args[] = {slice_str("EVAL"), slice_str(renew_script),
                                 slice_str("2"),    buf_slice(&key),
                                 buf_slice(&log),   epoch,
                                 slice_str(number), slice_str(is_certain ? "1" : "0")};
    send(link, args, 8, on_reply, arg);
    buf_fini(&key);
    buf_fini(&log);
}

/* --- replies
 * -------------------------------------------------------------------------------------- */

static bool read_number(struct slice text, uint64_t *value)
{
    *value = 0;
    if (text.len == 0 || text.len > NUMBER_DIGITS_MAX)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] < '0' || text.ptr[i] > '9')
            return false;
        *value = *value * 10 + (uint64_t)(text.ptr[i] - '0');
    }
    return *value <= STAMP_NUMBER_MAX;
}

/* HMGET epoch seq ts data. */
static void parse_value(const struct redis_reply_view *reply, struct stored_reading *out)
{
    out->status = STORED_BROKEN;
    if (reply->kind != REDIS_REPLIED_ARRAY || reply->number != 4)
        return;
    const struct redis_reply_view *field = reply->elements;
    if (field[0].kind == REDIS_REPLIED_NIL && field[1].kind == REDIS_REPLIED_NIL) {
        out->status = STORED_NONE;
        return;
    }
    for (int i = 0; i < 3; i++) {
        if (field[i].kind != REDIS_REPLIED_TEXT)
            return;
    }
    if (!stamp_epoch_is_valid(field[0].text) || !read_number(field[1].text, &out->value.seq) ||
        out->value.seq == 0 || !read_number(field[2].text, &out->value.ts_ms))
        return;
    out->epoch = field[0].text;
    if (field[3].kind == REDIS_REPLIED_TEXT)
        out->value.data = field[3].text;
    out->status = STORED_VALUE;
}

/* [ "815-0", [ "ts", "…", "data", "…" ] ] */
static bool parse_entry(const struct redis_reply_view *reply, struct stored_entry *out)
{
    if (reply->kind != REDIS_REPLIED_ARRAY || reply->number != 2)
        return false;
    const struct redis_reply_view *id = &reply->elements[0], *fields = &reply->elements[1];
    if (id->kind != REDIS_REPLIED_TEXT || id->text.len < 3 || fields->kind != REDIS_REPLIED_ARRAY ||
        fields->number != 4 || memcmp(id->text.ptr + id->text.len - 2, "-0", 2) != 0)
        return false;
    for (int i = 0; i < 4; i++) {
        if (fields->elements[i].kind != REDIS_REPLIED_TEXT)
            return false;
    }
    out->data = fields->elements[3].text;
    return slice_is(fields->elements[0].text, "ts") && slice_is(fields->elements[2].text, "data") &&
           read_number(slice_of(id->text.ptr, id->text.len - 2), &out->seq) && out->seq != 0 &&
           read_number(fields->elements[1].text, &out->ts_ms);
}

static void parse_log(const struct redis_reply_view *reply, struct stored_reading *out)
{
    if (reply->kind != REDIS_REPLIED_ARRAY)
        return; /* a key of another type: no log */
    for (long long i = 0; i < reply->number && out->entry_count < STORED_PAGE; i++) {
        if (!parse_entry(&reply->elements[i], &out->entries[out->entry_count]))
            break; /* what lies behind it cannot be trusted to be complete */
        out->entry_count++;
    }
}

void stored_parse(const struct redis_reply_view *reply, struct stored_reading *out)
{
    out->entry_count = 0;
    out->epoch = (struct slice){0};
    out->value = (struct stored_entry){0};
    out->ttl_ms = -1;
    out->status = reply->kind == REDIS_REPLIED_LOST ? STORED_LOST : STORED_BROKEN;
    if (reply->kind != REDIS_REPLIED_ARRAY || reply->number < 2)
        return;
    parse_value(&reply->elements[0], out);
    if (reply->elements[1].kind == REDIS_REPLIED_INT)
        out->ttl_ms = reply->elements[1].number;
    if (reply->number > 2 && out->status == STORED_VALUE)
        parse_log(&reply->elements[2], out);
}

void stored_parse_renewed(const struct redis_reply_view *reply, struct stored_reading *out)
{
    out->entry_count = 0;
    out->epoch = (struct slice){0};
    out->value = (struct stored_entry){0};
    out->ttl_ms = -1;
    out->status = STORED_LOST;
    if (reply->kind != REDIS_REPLIED_LOST)
        parse_value(reply, out);
}
