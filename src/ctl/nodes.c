/*
 * nodes.c - `tickcastctl nodes`: the registry as a table, or as JSON.
 *
 * A node whose hash has expired meanwhile is shown with its id alone.
 */
#include "base/utf8.h"
#include "ctl/commands.h"
#include "ctl/fleet.h"
#include "ctl/options.h"
#include "ctl/target.h"

#include <stdio.h>

struct column {
    const char *field; /* of the node's entry */
    int width;
};

static const struct column columns[] = {
    {"id", 16},      {"state", 9},    {"address", 22},   {"ops", 22},
    {"version", 8},  {"feed", 8},     {"clients", 8},    {"capacity", 9},
    {"channels", 9}, {"in_per_s", 9}, {"out_per_s", 10}, {"canary_ms", 9},
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

static void print_row(struct slice node)
{
    for (size_t i = 0; i < COLUMN_COUNT; i++) {
        struct slice value = json_unquoted(json_member(node, columns[i].field));
        print_cell(value.ptr != NULL ? value : slice_str("-"), columns[i].width);
    }
    putchar('\n');
}

static int print_nodes(struct slice text)
{
    struct json_walk nodes;
    struct slice node;
    bool any = false;
    fleet_walk(text, &nodes);
    for (; json_walk_next(&nodes, NULL, &node); any = true) {
        if (!any)
            print_head();
        print_row(node);
    }
    return any ? CTL_OK
               : ctl_fail("no nodes registered; do they use this Redis (--redis) and prefix "
                          "(--prefix)?");
}

int ctl_nodes(int argc, char **argv)
{
    struct ctl_target target = CTL_TARGET_DEFAULT;
    bool as_json = false;
    const struct ctl_option options[] = {{"--json", CTL_FLAG, &as_json, NULL,
                                          "print {\"nodes\":[...]} with all that is known", 0, 0},
                                         CTL_TARGET_ROWS(&target),
                                         {0}};
    const struct ctl_usage usage = {"", "Lists the nodes that are registered and alive.", options,
                                    0, 0};
    struct ctl_operands operands;
    struct ops_client ops;
    int status = ctl_parse(&usage, argc, argv, &operands);
    if (status == CTL_CONTINUE)
        status = fleet_check(&target, &ops);
    if (status != CTL_CONTINUE)
        return status;
    struct buf text = {0}, error = {0};
    status = fleet_read(&target, &text, &error);
    if (status == CTL_CONTINUE && as_json)
        status = printf("%.*s\n", (int)slice_trim(buf_slice(&text), "\n").len, text.data) > 0
                     ? CTL_OK
                     : CTL_FAILED;
    else if (status == CTL_CONTINUE)
        status = print_nodes(buf_slice(&text));
    else
        ctl_fail("nodes: %.*s", (int)error.len, error.data);
    buf_fini(&text);
    buf_fini(&error);
    return status;
}
