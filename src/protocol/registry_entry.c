/*
 * registry_entry.c - the table of a registry entry's fields, and its JSON form.
 *
 * Pure. Reading trusts nothing: the hash may have been written by something else.
 */
#include "protocol/registry_entry.h"

#include "base/utf8.h"
#include "protocol/json_text.h"

#define NUMBER_DIGITS_MAX 15   /* any such number is exact as a JSON number everywhere */
#define RATE_MS_MIN       1000 /* a shorter interval says little */

static const struct {
    const char *name;
    bool is_number;
} fields[REGISTRY_FIELD_COUNT] = {
#define REGISTRY_ROW(symbol, name, is_number) {name, is_number},
    REGISTRY_FIELD_TABLE(REGISTRY_ROW)
#undef REGISTRY_ROW
};

/* clang-format off */
const char registry_list_script[] =
    "local t = redis.call('TIME')\n"
    "local now = string.format('(%.0f', t[1] * 1000 + math.floor(t[2] / 1000))\n"
    "local ids = redis.pcall('ZRANGEBYSCORE', KEYS[1], now, '+inf', 'LIMIT', '0', ARGV[1])\n"
    "local out = {}\n"
    "for _, id in ipairs(ids) do\n"
    "  if #id <= tonumber(ARGV[2]) then out[#out + 1] = id end\n"
    "end\n"
    "return out\n";

const char registry_read_script[] =
    "local out, max = {}, tonumber(ARGV[1])\n"
    "if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then return out end\n"
    "for i = 2, #ARGV do\n"
    "  local n = redis.call('HSTRLEN', KEYS[1], ARGV[i])\n"
    "  out[i - 1] = n > 0 and n <= max and redis.call('HGET', KEYS[1], ARGV[i])\n"
    "end\n"
    "return out\n";
/* clang-format on */

const char *registry_field_name(enum registry_field field)
{
    return fields[field].name;
}

bool registry_field_is_number(enum registry_field field)
{
    return fields[field].is_number;
}

/* As option node.id has it: neither '.' nor '-' in front. */
static bool is_id_char(char c, bool is_first)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_' ||
           (!is_first && (c == '.' || c == '-'));
}

bool registry_id_is_valid(struct slice id)
{
    for (size_t i = 0; i < id.len; i++) {
        if (!is_id_char(id.ptr[i], i == 0))
            return false;
    }
    return id.len > 0 && id.len <= REGISTRY_ID_MAX;
}

/* A whole number as JSON writes it: digits, no zero in front. */
static bool is_number(struct slice value)
{
    for (size_t i = 0; i < value.len; i++) {
        if (value.ptr[i] < '0' || value.ptr[i] > '9')
            return false;
    }
    return value.len > 0 && value.len <= NUMBER_DIGITS_MAX &&
           (value.len == 1 || value.ptr[0] != '0');
}

static bool is_usable(enum registry_field field, struct slice value)
{
    if (value.ptr == NULL)
        return false;
    if (fields[field].is_number)
        return is_number(value);
    return value.len <= REGISTRY_VALUE_MAX && utf8_is_valid(value.ptr, value.len);
}

bool registry_entry_json(struct slice id, const struct slice *values, struct buf *out)
{
    size_t before = out->len, count = 0;
    buf_append_str(out, "{\"id\":");
    json_append_string(out, id);
    for (size_t i = 0; i < REGISTRY_FIELD_COUNT; i++) {
        if (i == REGISTRY_ID || !is_usable((enum registry_field)i, values[i]))
            continue;
        buf_printf(out, ",\"%s\":", fields[i].name);
        if (fields[i].is_number)
            buf_append(out, values[i].ptr, values[i].len);
        else
            json_append_string(out, values[i]);
        count++;
    }
    buf_append_str(out, "}");
    if (count == 0)
        out->len = before;
    return count > 0;
}

uint64_t registry_rate_read(struct registry_rate *r, uint64_t count, uint64_t now_ms)
{
    uint64_t age_ms = now_ms - r->at_ms;
    if (r->at_ms != 0 && age_ms < RATE_MS_MIN)
        return r->per_s;
    r->per_s = 0;
    if (r->at_ms != 0 && count > r->count)
        r->per_s = ((count - r->count) * 1000 + age_ms / 2) / age_ms;
    r->count = count;
    r->at_ms = now_ms;
    return r->per_s;
}
