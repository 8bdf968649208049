/*
 * stored.c - reading and renewing what Redis keeps of a channel.
 */
#include "domain/stored.h"

#include "base/buf.h"

#include <stdio.h>
#include <string.h>

#define NUMBER_DIGITS_MAX 16       /* of STAMP_NUMBER_MAX */
#define DATA_BYTES_MAX    25165824 /* 24 MiB: two of them and a page fit into one reply */
#define PAGE_BYTES        4194304  /* 4 MiB of log entries per read, or one entry that is larger */

/*
 * Anybody may write those keys, and a reply that the link does not take costs the link. So the
 * scripts look at sizes: data that is over the limit is replaced by its length, other fields that
 * are too long to be ours by false.
 */
/* clang-format off */
#define CLIP_FUNCTIONS                                                             \
    "local function clip(text, max)\n"                                             \
    "  if text and #text > max then return #text end\n"                            \
    "  return text\n"                                                              \
    "end\n"                                                                        \
    "local function head(max)\n"                                                   \
    "  local h = redis.pcall('HMGET', KEYS[1], 'epoch', 'seq', 'ts', 'data')\n"    \
    "  if h.err then return 0 end\n"                                               \
    "  return {clip(h[1], 64), clip(h[2], 64), clip(h[3], 64), clip(h[4], max)}\n" \
    "end\n"

/* ARGV: largest data; first number of the log, or '' for none of it; entries, bytes of a page.
 * Returns value, time to live, entries, whether there may be more of them. */
static const char read_script[] = CLIP_FUNCTIONS
    "local max, from = tonumber(ARGV[1]), ARGV[2]\n"
    "local count, room = tonumber(ARGV[3]), tonumber(ARGV[4])\n"
    "local entries, more = {}, 0\n"
    "while from and from ~= '' do\n"
    "  local page = redis.pcall('XRANGE', KEYS[2], from, '+', 'COUNT', 16)\n"
    "  if page.err or #page == 0 then break end\n"
    "  for _, e in ipairs(page) do\n"
    "    local f, bytes = e[2], 0\n"
    "    for i = 1, #f do bytes = bytes + #f[i] end\n"
    "    if #entries > 0 and (bytes > room or #entries == count) then more = 1 break end\n"
    "    room = room - bytes\n"
    "    if #f == 4 and bytes - #f[4] < 64 then f[4] = clip(f[4], max) else f = {} end\n"
    "    entries[#entries + 1] = {e[1], f}\n"
    "    local major, minor = e[1]:match('^(%d+)-(%d+)$')\n"
    "    from = minor == '0' and major .. '-1'\n"
    "    if not from then break end\n"
    "  end\n"
    "  if #page < 16 or more == 1 then break end\n"
    "end\n"
    "return {head(max), redis.call('PTTL', KEYS[1]), entries, more}\n";

/* The same epoch can be renewed by many nodes at once: the first one changes it, the others read.
 * TIME is in microseconds, and the new epoch must differ from the old one whatever the clock says.
 */
static const char renew_script[] = CLIP_FUNCTIONS
    "local known = redis.call('HMGET', KEYS[1], 'epoch', 'seq')\n"
    "if known[1] == ARGV[2] and\n"
    "   (ARGV[4] == '1' or (tonumber(known[2]) or 0) < tonumber(ARGV[3])) then\n"
    "  local t = redis.call('TIME')\n"
    "  local epoch = string.format('%x', t[1] * 1000000 + t[2])\n"
    "  if epoch == ARGV[2] then epoch = epoch .. '0' end\n"
    "  redis.call('HSET', KEYS[1], 'epoch', epoch)\n"
    "  redis.call('DEL', KEYS[2])\n"
    "end\n"
    "return head(tonumber(ARGV[1]))\n";
/* clang-format on */

static void append_key(struct buf *out, struct slice prefix, struct slice channel,
                       const char *suffix)
{
    buf_append_str(out, "{");
    buf_append(out, prefix.ptr, prefix.len);
    buf_append(out, channel.ptr, channel.len);
    buf_append_str(out, "}");
    buf_append_str(out, suffix);
}

/* Runs a script on the channel's two keys. ARGV begins with the largest data. */
static void run(const struct stored_place *at, const char *script, const struct slice *more,
                size_t count, stored_on_reply *on_reply, void *arg)
{
    struct buf key = {0}, log = {0};
    char max[24];
    size_t limit = at->payload_bytes < DATA_BYTES_MAX ? at->payload_bytes : DATA_BYTES_MAX;
    append_key(&key, at->prefix, at->channel, "");
    append_key(&log, at->prefix, at->channel, ":log");
    snprintf(max, sizeof max, "%zu", limit);
    struct slice args[9] = {slice_str("EVAL"), slice_str(script), slice_str("2"),
                            buf_slice(&key),   buf_slice(&log),   slice_str(max)};
    for (size_t i = 0; i < count; i++)
        args[6 + i] = more[i];
    redis_link_command(at->link, args, 6 + count, on_reply, arg);
    buf_fini(&key);
    buf_fini(&log);
}

void stored_ask(const struct stored_place *at, uint64_t log_from, stored_on_reply *on_reply,
                void *arg)
{
    char from[32] = "", entries[16], bytes[16];
    if (log_from != STORED_NO_LOG)
        snprintf(from, sizeof from, "%llu-0", (unsigned long long)log_from);
    snprintf(entries, sizeof entries, "%d", STORED_PAGE);
    snprintf(bytes, sizeof bytes, "%d", PAGE_BYTES);
    const struct slice more[] = {slice_str(from), slice_str(entries), slice_str(bytes)};
    run(at, read_script, more, 3, on_reply, arg);
}

void stored_ask_life(const struct stored_place *at, stored_on_reply *on_reply, void *arg)
{
    struct buf key = {0};
    append_key(&key, at->prefix, at->channel, "");
    const struct slice args[] = {slice_str("PTTL"), buf_slice(&key)};
    redis_link_command(at->link, args, 2, on_reply, arg);
    buf_fini(&key);
}

void stored_renew(const struct stored_place *at, struct slice epoch, uint64_t seen, bool is_certain,
                  stored_on_reply *on_reply, void *arg)
{
    char number[24];
    snprintf(number, sizeof number, "%llu", (unsigned long long)seen);
    const struct slice more[] = {epoch, slice_str(number), slice_str(is_certain ? "1" : "0")};
    run(at, renew_script, more, 3, on_reply, arg);
}

/* --- replies -------------------------------------------------------------------------------- */

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

/* Data, or its length alone where that is over the limit. */
static bool parse_data(const struct redis_reply_view *reply, struct stored_entry *out)
{
    out->is_too_large = reply->kind == REDIS_REPLIED_INT;
    out->data = reply->kind == REDIS_REPLIED_TEXT ? reply->text : (struct slice){0};
    return out->is_too_large || reply->kind == REDIS_REPLIED_TEXT;
}

/* epoch, seq, ts, data: the last one is missing once the value was cleared. */
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
    if (parse_data(&field[3], &out->value) || field[3].kind == REDIS_REPLIED_NIL)
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
    for (int i = 0; i < 3; i++) {
        if (fields->elements[i].kind != REDIS_REPLIED_TEXT)
            return false;
    }
    return parse_data(&fields->elements[3], out) && slice_is(fields->elements[0].text, "ts") &&
           slice_is(fields->elements[2].text, "data") &&
           read_number(slice_of(id->text.ptr, id->text.len - 2), &out->seq) && out->seq != 0 &&
           read_number(fields->elements[1].text, &out->ts_ms);
}

static bool parse_log(const struct redis_reply_view *reply, struct stored_reading *out)
{
    if (reply->kind != REDIS_REPLIED_ARRAY)
        return false;
    for (long long i = 0; i < reply->number && out->entry_count < STORED_PAGE; i++) {
        if (!parse_entry(&reply->elements[i], &out->entries[out->entry_count]))
            return false; /* what lies behind it cannot be trusted to be complete */
        out->entry_count++;
    }
    return true;
}

static bool is_for_now(struct slice error)
{
    static const char *const codes[] = {"LOADING ", "BUSY ", "MASTERDOWN ", "CLUSTERDOWN ",
                                        "TRYAGAIN "};
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        size_t len = strlen(codes[i]);
        if (error.len >= len && memcmp(error.ptr, codes[i], len) == 0)
            return true;
    }
    return false;
}

bool stored_is_refused_for_now(const struct redis_reply_view *reply)
{
    return reply->kind == REDIS_REPLIED_ERROR && is_for_now(reply->text);
}

/* Of a reply that is no reading. */
static void judge(const struct redis_reply_view *reply, struct stored_reading *out)
{
    out->status = STORED_BROKEN;
    if (reply->kind == REDIS_REPLIED_LOST)
        out->status = STORED_LOST;
    else if (stored_is_refused_for_now(reply))
        out->status = STORED_LATER;
}

static void reset(struct stored_reading *out)
{
    out->entry_count = 0;
    out->has_more = false;
    out->epoch = (struct slice){0};
    out->value = (struct stored_entry){0};
    out->ttl_ms = -1;
}

void stored_parse(const struct redis_reply_view *reply, struct stored_reading *out)
{
    reset(out);
    judge(reply, out);
    if (reply->kind != REDIS_REPLIED_ARRAY || reply->number != 4)
        return;
    parse_value(&reply->elements[0], out);
    if (reply->elements[1].kind == REDIS_REPLIED_INT)
        out->ttl_ms = reply->elements[1].number;
    if (out->status == STORED_VALUE && parse_log(&reply->elements[2], out))
        out->has_more = reply->elements[3].number == 1 && out->entry_count > 0;
}

void stored_parse_renewed(const struct redis_reply_view *reply, struct stored_reading *out)
{
    reset(out);
    judge(reply, out);
    if (reply->kind == REDIS_REPLIED_ARRAY)
        parse_value(reply, out);
}

/* PTTL: -1 for ever, -2 not there. */
void stored_parse_life(const struct redis_reply_view *reply, struct stored_reading *out)
{
    reset(out);
    judge(reply, out);
    if (reply->kind != REDIS_REPLIED_INT)
        return;
    out->status = reply->number == -2 ? STORED_NONE : STORED_VALUE;
    out->ttl_ms = reply->number;
}
