/*
 * command.c - client commands: two tables, of actions and of members.
 *
 * Pure. The text is first checked by our own strict scanner, and the members of the command are cut
 * from it as they were written: so numbers are never printed again, and `echo` goes back byte for
 * byte. Only the values of members that the action takes are looked at, and only strings and lists
 * of strings are given to cJSON. cJSON ends a string at an escaped NUL; such a string is refused.
 *
 * Of a member given twice the last counts. Members that an action does not take are ignored.
 */
#include "protocol/command.h"

#include "base/buf.h"
#include "base/mem.h"
#include "protocol/json_text.h"

#include <cjson/cJSON.h>
#include <stdlib.h>

#define INTEGER_MAX 9007199254740992 /* 2^53: JSON numbers are exact up to here */

/* What a command borrows from; made when something is. */
struct command_memory {
    cJSON *channels;
    char *echo;
};

static struct command_memory *memory_of(struct command *c)
{
    if (c->tree == NULL)
        c->tree = mem_zalloc(sizeof(struct command_memory));
    return c->tree;
}

/* --- values ---------------------------------------------------------------------------------- */

static bool has_escaped_nul(struct slice json)
{
    static const char nul[] = "\\u0000";
    const char *at = json.ptr, *end = at + json.len;
    while ((at = memchr(at, '\\', (size_t)(end - at))) != NULL) {
        if ((size_t)(end - at) >= sizeof nul - 1 && memcmp(at, nul, sizeof nul - 1) == 0)
            return true;
        at += 2; /* valid JSON: something follows a backslash */
    }
    return false;
}

/* Parses a value of valid JSON whose strings matter; NULL when they cannot be represented. The
 * caller deletes it. */
static cJSON *decode(struct slice json)
{
    if (has_escaped_nul(json))
        return NULL;
    return cJSON_ParseWithLength(json.ptr, json.len);
}

static bool is_string(struct slice json)
{
    return json.ptr[0] == '"';
}

/* An integer between -2^53 and 2^53, written without fraction and exponent. */
static bool read_integer(struct slice json, int64_t *value)
{
    enum { DIGITS_MAX = 16 }; /* of 2^53 */
    bool negative = json.ptr[0] == '-';
    struct slice digits = slice_of(json.ptr + negative, json.len - negative);

    if (digits.len == 0 || digits.len > DIGITS_MAX)
        return false;
    *value = 0;
    for (size_t i = 0; i < digits.len; i++) {
        if (digits.ptr[i] < '0' || digits.ptr[i] > '9')
            return false;
        *value = *value * 10 + (digits.ptr[i] - '0');
    }
    if (*value > INTEGER_MAX)
        return false;
    if (negative)
        *value = -*value;
    return true;
}

static bool read_bool(struct slice json, enum tristate *value)
{
    if (!slice_is(json, "true") && !slice_is(json, "false"))
        return false;
    *value = json.ptr[0] == 't' ? TRI_YES : TRI_NO;
    return true;
}

/* --- members --------------------------------------------------------------------------------- */

/* Each parser returns NULL, or why the value is refused. */

static const char *parse_string_id(struct slice json, struct command *out)
{
    cJSON *item = decode(json);
    const char *fault = "id is longer than 64 bytes, or holds what cannot be given back";
    if (item != NULL && strlen(item->valuestring) <= COMMAND_ID_MAX) {
        struct buf text = {0};
        json_append_string(&text, slice_str(item->valuestring));
        memcpy(out->id, text.data, text.len);
        out->id[text.len] = '\0';
        buf_fini(&text);
        fault = NULL;
    }
    cJSON_Delete(item);
    return fault;
}

static const char *parse_id(struct slice json, struct command *out)
{
    if (is_string(json))
        return parse_string_id(json, out);
    int64_t value;
    if (!read_integer(json, &value))
        return "id is neither an integer up to 2^53 nor a string";
    memcpy(out->id, json.ptr, json.len);
    out->id[json.len] = '\0';
    return NULL;
}

static const char *parse_channels(struct slice json, struct command *out)
{
    static const char fault[] = "channels is not a list of strings";
    if (json.ptr[0] != '[')
        return fault;
    cJSON *list = memory_of(out)->channels = decode(json);
    if (list == NULL)
        return fault;
    size_t count = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, list)
    {
        if (!cJSON_IsString(item))
            return fault;
        count++;
    }
    if (count == 0)
        return "channels is empty";
    out->channels = mem_alloc(count * sizeof *out->channels);
    cJSON_ArrayForEach(item, list)
    {
        out->channels[out->channel_count++] = slice_str(item->valuestring);
    }
    return NULL;
}

static const char *const mode_names[] = {
    [MODE_UNSET] = "", [MODE_LATEST] = "latest", [MODE_ALL] = "all"};

static const char *parse_mode(struct slice json, struct command *out)
{
    cJSON *item = is_string(json) ? decode(json) : NULL;
    const char *name = item != NULL ? item->valuestring : "";
    if (strcmp(name, mode_names[MODE_LATEST]) == 0)
        out->mode = MODE_LATEST;
    else if (strcmp(name, mode_names[MODE_ALL]) == 0)
        out->mode = MODE_ALL;
    cJSON_Delete(item);
    return out->mode != MODE_UNSET ? NULL : "mode is neither \"latest\" nor \"all\"";
}

static const char *parse_max_rate(struct slice json, struct command *out)
{
    bool read = read_integer(json, &out->max_rate);
    return read && out->max_rate >= 0 ? NULL : "max_rate is not an integer from 0 on";
}

static const char *parse_snapshot(struct slice json, struct command *out)
{
    return read_bool(json, &out->snapshot) ? NULL : "snapshot is neither true nor false";
}

static const char *parse_delta(struct slice json, struct command *out)
{
    return read_bool(json, &out->delta) ? NULL : "delta is neither true nor false";
}

static const char *parse_echo(struct slice json, struct command *out)
{
    struct command_memory *memory = memory_of(out);
    memory->echo = mem_dup(json.ptr, json.len);
    out->echo = slice_of(memory->echo, json.len);
    return NULL;
}

enum member {
    MEMBER_ACTION,
    MEMBER_ID,
    MEMBER_CHANNELS,
    MEMBER_MODE,
    MEMBER_MAX_RATE,
    MEMBER_SNAPSHOT,
    MEMBER_DELTA,
    MEMBER_ECHO,
    MEMBER_COUNT
};

static const struct {
    const char *name;
    const char *(*parse)(struct slice json, struct command *out);
    const char *missing; /* what to say when an action needs it */
} member_table[MEMBER_COUNT] = {
    [MEMBER_ACTION] = {"action", NULL, NULL}, /* decides about the others: see read_action */
    [MEMBER_ID] = {"id", parse_id, NULL},
    [MEMBER_CHANNELS] = {"channels", parse_channels, "channels is missing"},
    [MEMBER_MODE] = {"mode", parse_mode, NULL},
    [MEMBER_MAX_RATE] = {"max_rate", parse_max_rate, NULL},
    [MEMBER_SNAPSHOT] = {"snapshot", parse_snapshot, NULL},
    [MEMBER_DELTA] = {"delta", parse_delta, NULL},
    [MEMBER_ECHO] = {"echo", parse_echo, NULL},
};

/* --- actions --------------------------------------------------------------------------------- */

#define BIT(member) (1u << MEMBER_##member)

struct action {
    const char *name;
    enum command_kind kind;
    unsigned takes; /* members beside action and id */
    unsigned needs; /* those of them that must be there */
};

static const struct action action_table[] = {
    {"subscribe", COMMAND_SUBSCRIBE,
     BIT(CHANNELS) | BIT(MODE) | BIT(MAX_RATE) | BIT(SNAPSHOT) | BIT(DELTA), BIT(CHANNELS)},
    {"unsubscribe", COMMAND_UNSUBSCRIBE, BIT(CHANNELS), BIT(CHANNELS)},
    {"snapshot", COMMAND_SNAPSHOT, BIT(CHANNELS), BIT(CHANNELS)},
    {"list", COMMAND_LIST, 0, 0},
    {"publish", COMMAND_PUBLISH, 0, 0},
    {"auth", COMMAND_AUTH, 0, 0},
    {"ping", COMMAND_PING, BIT(ECHO), 0},
};

static const struct action *find_action(const char *name)
{
    for (size_t i = 0; i < sizeof action_table / sizeof action_table[0]; i++) {
        if (strcmp(action_table[i].name, name) == 0)
            return &action_table[i];
    }
    return NULL;
}

static enum error_code refuse(enum error_code code, const char *text, const char **why)
{
    *why = text;
    return code;
}

static enum error_code read_action(struct slice json, const struct action **action,
                                   const char **why)
{
    if (json.ptr == NULL)
        return refuse(ERR_BAD_COMMAND, "action is missing", why);
    if (!is_string(json))
        return refuse(ERR_BAD_COMMAND, "action is not a string", why);
    cJSON *item = decode(json);
    *action = item != NULL ? find_action(item->valuestring) : NULL;
    cJSON_Delete(item);
    return *action != NULL ? ERR_NONE : refuse(ERR_UNKNOWN_ACTION, "there is no such action", why);
}

/* --- the command ----------------------------------------------------------------------------- */

/* A key as the scanner cuts it: between its quotes, maybe with escapes. */
static enum member find_member(struct slice key)
{
    cJSON *item = NULL;
    if (memchr(key.ptr, '\\', key.len) != NULL) {
        item = decode(slice_of(key.ptr - 1, key.len + 2));
        key = item != NULL ? slice_str(item->valuestring) : (struct slice){.ptr = ""};
    }
    enum member member = 0;
    while (member < MEMBER_COUNT && !slice_is(key, member_table[member].name))
        member++;
    cJSON_Delete(item);
    return member;
}

static bool collect_members(struct slice text, struct slice values[MEMBER_COUNT])
{
    struct json_members members;
    struct slice key, value;
    if (!json_members_init(&members, text))
        return false;
    while (json_members_next(&members, &key, &value)) {
        enum member member = find_member(key);
        if (member < MEMBER_COUNT)
            values[member] = value;
    }
    return true;
}

static enum error_code parse_members(const struct action *action,
                                     const struct slice values[MEMBER_COUNT], struct command *out,
                                     const char **why)
{
    for (enum member m = MEMBER_CHANNELS; m < MEMBER_COUNT; m++) {
        unsigned bit = 1u << m;
        if ((action->takes & bit) == 0)
            continue;
        if (values[m].ptr == NULL && (action->needs & bit) != 0)
            return refuse(ERR_BAD_COMMAND, member_table[m].missing, why);
        const char *fault = values[m].ptr != NULL ? member_table[m].parse(values[m], out) : NULL;
        if (fault != NULL)
            return refuse(ERR_BAD_COMMAND, fault, why);
    }
    return ERR_NONE;
}

static enum error_code parse(struct slice text, struct command *out, const char **why)
{
    struct slice values[MEMBER_COUNT] = {{0}};
    const struct action *action;

    if (!json_text_is_valid(text))
        return refuse(ERR_BAD_JSON, "the message is not JSON", why);
    if (!collect_members(text, values))
        return refuse(ERR_BAD_COMMAND, "a command is a JSON object", why);
    const char *fault = values[MEMBER_ID].ptr != NULL ? parse_id(values[MEMBER_ID], out) : NULL;
    if (fault != NULL)
        return refuse(ERR_BAD_COMMAND, fault, why);
    enum error_code code = read_action(values[MEMBER_ACTION], &action, why);
    if (code != ERR_NONE)
        return code;
    out->kind = action->kind;
    return parse_members(action, values, out, why);
}

enum error_code command_parse(struct slice text, struct command *out, const char **why)
{
    *out = (struct command){.max_rate = -1};
    *why = NULL;
    enum error_code code = parse(text, out, why);
    if (code != ERR_NONE)
        command_fini(out);
    return code;
}

void command_fini(struct command *c)
{
    struct command_memory *memory = c->tree;
    if (memory != NULL) {
        cJSON_Delete(memory->channels);
        free(memory->echo);
        free(memory);
    }
    free(c->channels);
    c->tree = NULL;
    c->channels = NULL;
    c->channel_count = 0;
    c->echo = (struct slice){0};
}

const char *command_mode_name(enum delivery_mode mode)
{
    return mode_names[mode];
}
