/*
 * fleet.c - reads the registry: a script for the ids, one for each node's hash; or one GET.
 */
#include "ctl/fleet.h"

#include "base/utf8.h"
#include "protocol/json_text.h"
#include "protocol/registry_entry.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NODES_MAX_TEXT "1000" /* more would not be a fleet of ours */

int fleet_check(const struct ctl_target *target, struct ops_client *ops)
{
    struct redis_url url;
    if (target->ops == NULL)
        return ctl_target_check(target, &url);
    if (!ops_client_init(ops, target->ops))
        return ctl_misuse("--ops: http://host:port is expected");
    return CTL_CONTINUE;
}

/* --- from Redis ------------------------------------------------------------------------------ */

static bool read_node(struct redis_client *redis, const struct ctl_target *target, struct slice id,
                      struct buf *out)
{
    char max[16];
    struct buf key = {0};
    struct redis_answer answer;
    ctl_target_name(target, slice_str("node:"), &key);
    buf_append(&key, id.ptr, id.len);
    snprintf(max, sizeof max, "%d", REGISTRY_VALUE_MAX);
    struct slice args[5 + REGISTRY_FIELD_COUNT] = {slice_str("EVAL"),
                                                   slice_str(registry_read_script), slice_str("1"),
                                                   buf_slice(&key), slice_str(max)};
    for (size_t i = 0; i < REGISTRY_FIELD_COUNT; i++)
        args[5 + i] = slice_str(registry_field_name((enum registry_field)i));
    bool done = redis_client_command(redis, args, 5 + REGISTRY_FIELD_COUNT, 0, &answer);
    buf_fini(&key);
    if (!done)
        return false;
    struct slice values[REGISTRY_FIELD_COUNT] = {{0}};
    for (size_t i = 0; i < answer.count && i < REGISTRY_FIELD_COUNT; i++)
        values[i] = answer.elements[i];
    if (!registry_entry_json(id, values, out))
        buf_printf(out, "{\"id\":\"%.*s\"}", (int)id.len, id.ptr);
    redis_answer_fini(&answer);
    return true;
}

static bool read_ids(struct redis_client *redis, const struct ctl_target *target,
                     struct redis_answer *ids)
{
    char longest[16];
    struct buf key = {0};
    snprintf(longest, sizeof longest, "%d", REGISTRY_ID_MAX);
    const struct slice args[] = {slice_str("EVAL"),
                                 slice_str(registry_list_script),
                                 slice_str("1"),
                                 ctl_target_name(target, slice_str("nodes"), &key),
                                 slice_str(NODES_MAX_TEXT),
                                 slice_str(longest)};
    bool done = redis_client_command(redis, args, 6, 0, ids);
    buf_fini(&key);
    return done;
}

/* Redis orders by expiry, which is another order at each look. */
static int compare_ids(const void *a, const void *b)
{
    const struct slice *x = a, *y = b;
    size_t common = x->len < y->len ? x->len : y->len;
    int order = common > 0 ? memcmp(x->ptr, y->ptr, common) : 0;
    return order != 0 ? order : (x->len > y->len) - (x->len < y->len);
}

static bool read_all(struct redis_client *redis, const struct ctl_target *target, struct buf *out)
{
    struct redis_answer ids;
    size_t count = 0;
    if (!read_ids(redis, target, &ids))
        return false;
    bool done = true;
    if (ids.count > 1)
        qsort(ids.elements, ids.count, sizeof *ids.elements, compare_ids);
    buf_append_str(out, "{\"nodes\":[");
    for (size_t i = 0; done && i < ids.count; i++) {
        if (ids.elements[i].ptr == NULL || !registry_id_is_valid(ids.elements[i]))
            continue;
        buf_append_str(out, count++ > 0 ? "," : "");
        done = read_node(redis, target, ids.elements[i], out);
    }
    buf_append_str(out, "]}");
    redis_answer_fini(&ids);
    return done;
}

static int read_from_redis(const struct ctl_target *target, struct buf *out, struct buf *error)
{
    struct redis_url url;
    int status = ctl_target_check(target, &url);
    if (status != CTL_CONTINUE)
        return status;
    struct redis_client *redis = redis_client_connect(&url, REDIS_CLIENT_TIMEOUT_MS, error);
    if (redis == NULL)
        return CTL_FAILED;
    if (!read_all(redis, target, out)) {
        buf_printf(error, "redis: %s", redis_client_error(redis));
        status = CTL_FAILED;
    }
    redis_client_free(redis);
    return status;
}

/* --- through a node -------------------------------------------------------------------------- */

static int read_from_node(const struct ctl_target *target, struct buf *out, struct buf *error)
{
    struct ops_client ops;
    int status = fleet_check(target, &ops);
    if (status != CTL_CONTINUE)
        return status;
    struct buf reply = {0};
    int http = ops_client_get(&ops, "/api/v1/nodes", &reply);
    struct slice text = buf_slice(&reply);
    struct json_walk nodes;
    bool is_json = http != 0 && utf8_is_valid(text.ptr, text.len) && json_text_is_valid(text);
    if (http == 200 && is_json && fleet_walk(text, &nodes)) {
        buf_append(out, text.ptr, text.len);
    } else {
        struct slice message = is_json ? json_unquoted(json_member(text, "message")) : text;
        if (http != 0)
            buf_printf(error, "HTTP status %d ", http);
        buf_append(error, message.ptr, http == 0 || is_json ? message.len : 0);
        status = CTL_FAILED;
    }
    buf_fini(&reply);
    return status;
}

int fleet_read(const struct ctl_target *target, struct buf *out, struct buf *error)
{
    return target->ops != NULL ? read_from_node(target, out, error)
                               : read_from_redis(target, out, error);
}

/* --- what was read --------------------------------------------------------------------------- */

bool fleet_walk(struct slice text, struct json_walk *nodes)
{
    struct slice list = json_member(text, "nodes");
    return list.ptr != NULL && json_walk_start(nodes, list) && !nodes->is_object;
}

struct slice fleet_find(struct slice text, const char *id)
{
    struct json_walk nodes;
    struct slice node;
    if (fleet_walk(text, &nodes)) {
        while (json_walk_next(&nodes, NULL, &node)) {
            if (json_is_string(json_member(node, "id"), id))
                return node;
        }
    }
    return (struct slice){0};
}
