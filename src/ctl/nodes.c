/*
 * nodes.c - `tickcastctl nodes`: the registry as a table.
 *
 * The registry is a sorted set of ids, whose scores say until when they count (Unix ms), and a
 * hash per node. A node whose hash has expired meanwhile is shown with its id alone.
 */
#include "base/clock.h"
#include "ctl/commands.h"
#include "ctl/options.h"
#include "ctl/target.h"

#include <inttypes.h>
#include <stdio.h>

struct column {
    const char *field; /* of the node's hash */
    int width;
};

static const struct column columns[] = {
    {"id", 16},     {"state", 9},    {"address", 22}, {"ops", 22},       {"version", 8},
    {"clients", 8}, {"channels", 9}, {"in_per_s", 9}, {"out_per_s", 10}, {"canary_ms", 9},
};

#define COLUMN_COUNT (sizeof columns / sizeof columns[0])

/* The registry is written by others: nothing of it may drive the terminal. */
static void print_cell(struct slice text, int width)
{
    int printed = 0;
    for (size_t i = 0; i < text.len; i++, printed++)
        putchar(text.ptr[i] >= ' ' && text.ptr[i] <= '~' ? text.ptr[i] : '?');
    printf("%*s ", width > printed ? width - printed : 0, "");
}

static void print_head(void)
{
    for (size_t i = 0; i < COLUMN_COUNT; i++)
        print_cell(slice_str(columns[i].field), columns[i].width);
    putchar('\n');
}

static void print_row(const struct redis_answer *fields, struct slice id)
{
    for (size_t i = 0; i < COLUMN_COUNT; i++) {
        bool is_known = i < fields->count && fields->elements[i].ptr != NULL;
        struct slice missing = i == 0 ? id : slice_str("-");
        print_cell(is_known ? fields->elements[i] : missing, columns[i].width);
    }
    putchar('\n');
}

static bool print_node(struct redis_client *redis, const struct ctl_target *target, struct slice id)
{
    struct buf key = {0};
    struct redis_answer fields;
    ctl_target_name(target, slice_str("node:"), &key);
    buf_append(&key, id.ptr, id.len);
    struct slice args[2 + COLUMN_COUNT] = {slice_str("HMGET"), buf_slice(&key)};
    for (size_t i = 0; i < COLUMN_COUNT; i++)
        args[2 + i] = slice_str(columns[i].field);
    bool done = redis_client_command(redis, args, 2 + COLUMN_COUNT, 0, &fields);
    buf_fini(&key);
    if (!done)
        return false;
    print_row(&fields, id);
    redis_answer_fini(&fields);
    return true;
}

static bool list_ids(struct redis_client *redis, const struct ctl_target *target,
                     struct redis_answer *ids)
{
    char now[24];
    struct buf key = {0};
    snprintf(now, sizeof now, "(%" PRIu64, clock_unix_ms());
    const struct slice args[] = {slice_str("ZRANGEBYSCORE"),
                                 ctl_target_name(target, slice_str("nodes"), &key), slice_str(now),
                                 slice_str("+inf")};
    bool done = redis_client_command(redis, args, 4, 0, ids);
    buf_fini(&key);
    return done;
}

static int print_nodes(struct redis_client *redis, const struct ctl_target *target)
{
    struct redis_answer ids;
    bool done = list_ids(redis, target, &ids);
    if (!done)
        return ctl_fail("nodes: redis: %s", redis_client_error(redis));
    if (ids.count == 0) {
        redis_answer_fini(&ids);
        return ctl_fail("no nodes registered");
    }
    print_head();
    for (size_t i = 0; done && i < ids.count; i++)
        done = print_node(redis, target, ids.elements[i]);
    redis_answer_fini(&ids);
    return done ? CTL_OK : ctl_fail("nodes: redis: %s", redis_client_error(redis));
}

int ctl_nodes(int argc, char **argv)
{
    struct ctl_target target = CTL_TARGET_DEFAULT;
    const struct ctl_option options[] = {CTL_TARGET_ROWS(&target), {0}};
    const struct ctl_usage usage = {"", "Lists the nodes that are registered and alive.", options,
                                    0, 0};
    struct ctl_operands operands;
    int status = ctl_parse(&usage, argc, argv, &operands);
    if (status != CTL_CONTINUE)
        return status;
    struct redis_client *redis = NULL;
    status = ctl_target_connect(&target, &redis);
    if (status == CTL_CONTINUE)
        status = print_nodes(redis, &target);
    redis_client_free(redis);
    return status;
}
