/*
 * command.c - client commands: two tables, of actions and of members.
 *
 * Pure. The text is first checked by our own strict scanner, and the members of the command are cut
 * from it as they were written: so numbers are never printed again, and `echo` and `data` go on
 * byte for byte. Only the values of members that the action takes are looked at, and only strings
 * and lists of strings are given to cJSON. cJSON ends a string at an escaped NUL; such a string is
 * refused.
 *
 * Of a member given twice the last counts. Members that an action does not take are ignored.
 *
 * `since` may have as many positions as fit a message. They are sorted once, so that looking up
 * each channel of a large command is not quadratic.
 */
#include "protocol/command.h"

#include "base/buf.h"
#include "base/mem.h"
#include "protocol/json_text.h"
#include "protocol/session_state.h"
#include "protocol/stamp.h"

#include <cjson/cJSON.h>
#include <stdlib.h>

#define INTEGER_MAX 9007199254740992 /* 2^53: JSON numbers are exact up to here */

enum member {
    MEMBER_ACTION,
    MEMBER_ID,
    MEMBER_CHANNELS,
    MEMBER_MODE,
    MEMBER_MAX_RATE,
    MEMBER_SNAPSHOT,
    MEMBER_DELTA,
    MEMBER_SINCE,
    MEMBER_CHANNEL,
    MEMBER_DATA,
    MEMBER_ECHO,
    MEMBER_SESSION,
    MEMBER_COUNT
};

/* What a command borrows from; made when something is. */
struct command_memory {
    cJSON *channels;
    char *copies[MEMBER_COUNT]; /* of values */
};

static struct command_memory *memory_of(struct command *c)
{
    if (c->tree == NULL)
        c->tree = mem_zalloc(sizeof(struct command_memory));
    return c->tree;
}

/* A copy that lives as long as the command. */
static struct slice keep_copy(struct command *c, enum member member, struct slice json)
{
    char *copy = memory_of(c)->copies[member] = mem_dup(json.ptr, json.len);
    return slice_of(copy, json.len);
}

/* --- values ---------------------------------------------------------------------------------- */

/* Parses a value of valid JSON whose strings matter; NULL when they cannot be represented. The
 * caller deletes it. */
static cJSON *decode(struct slice json)
{
    if (json_has_escaped_nul(json))
        return NULL;
    return cJSON_ParseWithLength(json.ptr, json.len);
}

static bool is_string(struct slice json)
{
    return json.ptr[0] == '"';
}

/* What lies between the quotes of a JSON string, cut from one of our own copies, is replaced by
 * what it stands for, which is never longer. False when that cannot be represented. */
static bool unescape(struct slice *text)
{
    if (text->len == 0 || memchr(text->ptr, '\\', text->len) == NULL)
        return true;
    cJSON *item = decode(slice_of(text->ptr - 1, text->len + 2));
    if (item == NULL)
        return false;
    text->len = strlen(item->valuestring);
    memcpy((char *)text->ptr, item->valuestring, text->len);
    cJSON_Delete(item);
    return true;
}

/* The text of a JSON string that was cut from one of our own copies. */
static bool read_string(struct slice json, struct slice *text)
{
    if (!is_string(json))
        return false;
    *text = slice_of(json.ptr + 1, json.len - 2);
    return unescape(text);
}

/* An integer between -2^53 and 2^53. */
static bool read_integer(struct slice json, int64_t *value)
{
    enum { DIGITS_MAX = 16 }; /* of 2^53 */
    bool negative = json.ptr[0] == '-';

    if (!json_is_integer(json) || json.len - negative > DIGITS_MAX)
        return false;
    *value = 0;
    for (size_t i = negative; i < json.len; i++)
        *value = *value * 10 + (json.ptr[i] - '0');
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

/* The reply repeats a number as it was written, so it may be one that nobody here can count to: the
 * nanoseconds of a clock, a database's key. */
static const char *parse_id(struct slice json, struct command *out)
{
    if (is_string(json))
        return parse_string_id(json, out);
    if (!json_is_integer(json) || json.len > COMMAND_ID_MAX)
        return "id is neither an integer of at most 64 bytes nor a string";
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

static const char *parse_channel(struct slice json, struct command *out)
{
    return read_string(keep_copy(out, MEMBER_CHANNEL, json), &out->channel)
               ? NULL
               : "channel is not a string";
}

static const char *parse_data(struct slice json, struct command *out)
{
    out->data = keep_copy(out, MEMBER_DATA, json);
    return NULL;
}

static const char *parse_session(struct slice json, struct command *out)
{
    bool is_id =
        is_string(json) && session_id_parse(slice_of(json.ptr + 1, json.len - 2), out->session);
    return is_id ? NULL : "session is not a string of 32 lower-case hex digits";
}

static const char *parse_echo(struct slice json, struct command *out)
{
    out->echo = keep_copy(out, MEMBER_ECHO, json);
    return NULL;
}

/* --- positions ------------------------------------------------------------------------------- */

static int compare_bytes(struct slice a, struct slice b)
{
    size_t len = a.len < b.len ? a.len : b.len;
    int order = len > 0 ? memcmp(a.ptr, b.ptr, len) : 0;
    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

/* By channel, then by place in the message: all are cut from one copy of it. */
static int compare_positions(const void *a, const void *b)
{
    struct slice left = ((const struct command_since *)a)->channel;
    struct slice right = ((const struct command_since *)b)->channel;
    int order = compare_bytes(left, right);
    return order != 0 ? order : (left.ptr > right.ptr) - (left.ptr < right.ptr);
}

static int compare_channel(const void *channel, const void *position)
{
    return compare_bytes(*(const struct slice *)channel,
                         ((const struct command_since *)position)->channel);
}

static size_t count_members(struct slice json)
{
    struct json_members members;
    struct slice key, value;
    size_t count = 0;
    json_members_init(&members, json);
    while (json_members_next(&members, &key, &value))
        count++;
    return count;
}

/* {"epoch":"c91e","seq":815}, in our own copy. */
static const char *read_position(struct slice json, struct command_since *out)
{
    struct json_members members;
    struct slice key, value, epoch = {0}, seq = {0};
    int64_t number;

    if (!json_members_init(&members, json))
        return "since: a position is not an object";
    while (json_members_next(&members, &key, &value)) {
        if (!unescape(&key))
            continue; /* none that we know */
        if (slice_is(key, "epoch"))
            epoch = value;
        else if (slice_is(key, "seq"))
            seq = value;
    }
    if (epoch.ptr == NULL || seq.ptr == NULL)
        return "since: a position is without epoch or seq";
    if (!read_string(epoch, &out->epoch) || !stamp_epoch_is_valid(out->epoch))
        return "since: an epoch is not a string of 1 to 32 letters, digits, _ and -";
    if (!read_integer(seq, &number) || number < 0 || number > (int64_t)STAMP_NUMBER_MAX)
        return "since: a seq is not an integer from 0 to 2^53 - 1";
    out->seq = (uint64_t)number;
    return NULL;
}

/* Sorts, and keeps the last of those for one channel. */
void command_order_since(struct command *c)
{
    qsort(c->since, c->since_count, sizeof *c->since, compare_positions);
    size_t kept = 0;
    for (size_t i = 0; i < c->since_count; i++) {
        if (i + 1 < c->since_count && slice_equal(c->since[i].channel, c->since[i + 1].channel))
            continue;
        c->since[kept++] = c->since[i];
    }
    c->since_count = kept;
}

static const char *parse_since(struct slice json, struct command *out)
{
    struct json_members members;
    struct slice copy = keep_copy(out, MEMBER_SINCE, json), value;
    if (!json_members_init(&members, copy))
        return "since is not an object";
    size_t count = count_members(copy);
    if (count == 0)
        return NULL;
    out->since = mem_alloc(count * sizeof *out->since);
    for (size_t i = 0; i < count; i++) {
        struct command_since *position = &out->since[i];
        if (!json_members_next(&members, &position->channel, &value) ||
            !unescape(&position->channel))
            return "since: a channel cannot be read";
        const char *fault = read_position(value, position);
        if (fault != NULL)
            return fault;
    }
    out->since_count = count;
    command_order_since(out);
    return NULL;
}

const struct command_since *command_find_since(const struct command *c, struct slice channel)
{
    if (c->since_count == 0)
        return NULL;
    return bsearch(&channel, c->since, c->since_count, sizeof *c->since, compare_channel);
}

/* --- the table of members -------------------------------------------------------------------- */

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
    [MEMBER_SINCE] = {"since", parse_since, NULL},
    [MEMBER_CHANNEL] = {"channel", parse_channel, "channel is missing"},
    [MEMBER_DATA] = {"data", parse_data, "data is missing"},
    [MEMBER_ECHO] = {"echo", parse_echo, NULL},
    [MEMBER_SESSION] = {"session", parse_session, "session is missing"},
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
     BIT(CHANNELS) | BIT(MODE) | BIT(MAX_RATE) | BIT(SNAPSHOT) | BIT(DELTA) | BIT(SINCE),
     BIT(CHANNELS)},
    {"unsubscribe", COMMAND_UNSUBSCRIBE, BIT(CHANNELS), BIT(CHANNELS)},
    {"snapshot", COMMAND_SNAPSHOT, BIT(CHANNELS), BIT(CHANNELS)},
    {"list", COMMAND_LIST, 0, 0},
    {"publish", COMMAND_PUBLISH, BIT(CHANNEL) | BIT(DATA), BIT(CHANNEL) | BIT(DATA)},
    {"auth", COMMAND_AUTH, 0, 0},
    {"ping", COMMAND_PING, BIT(ECHO), 0},
    {"resume", COMMAND_RESUME,
     BIT(SESSION) | BIT(CHANNELS) | BIT(MODE) | BIT(MAX_RATE) | BIT(SNAPSHOT) | BIT(DELTA) |
         BIT(SINCE),
     BIT(SESSION)},
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
        for (enum member m = 0; m < MEMBER_COUNT; m++)
            free(memory->copies[m]);
        free(memory);
    }
    free(c->channels);
    c->tree = NULL;
    c->channels = NULL;
    c->channel_count = 0;
    free(c->since);
    c->since = NULL;
    c->since_count = 0;
    c->channel = c->data = c->echo = (struct slice){0};
}

const char *command_mode_name(enum delivery_mode mode)
{
    return mode_names[mode];
}
