/*
 * admin.c - `tickcastctl admin JSON`.
 *
 * The command is sent as it was written: what it may contain is the nodes' business, and they
 * answer what they do not understand.
 */
#include "base/utf8.h"
#include "ctl/admin_call.h"
#include "ctl/commands.h"
#include "ctl/json_scan.h"
#include "ctl/options.h"
#include "protocol/json_text.h"

#define TIMEOUT_S_DEFAULT 2.0 /* nodes answer in milliseconds */
#define TIMEOUT_S_MAX     60  /* replies expire after that */

static bool is_json_object(struct slice text)
{
    struct json_walk walk;
    return utf8_is_valid(text.ptr, text.len) && json_text_is_valid(text) &&
           json_walk_start(&walk, text) && walk.is_object;
}

int ctl_admin(int argc, char **argv)
{
    struct ctl_target target = CTL_TARGET_DEFAULT;
    double timeout_s = TIMEOUT_S_DEFAULT;
    const struct ctl_option options[] = {
        {"--timeout", CTL_REAL, &timeout_s, "S",
         "seconds to wait for replies (default 2; with --ops the node waits 3)", 0, TIMEOUT_S_MAX},
        CTL_TARGET_ROWS(&target),
        {0},
    };
    const struct ctl_usage usage = {
        "JSON",
        "Publishes an admin command, for instance '{\"cmd\":\"ping\"}', and prints the nodes'\n"
        "replies, one a line. Fails unless every node that heard it replied with \"ok\":true.",
        options, 1, 1};
    struct ctl_operands operands;
    int status = ctl_parse(&usage, argc, argv, &operands);
    if (status != CTL_CONTINUE)
        return status;
    struct slice command = slice_str(operands.items[0]);
    if (!is_json_object(command))
        return ctl_misuse("admin: the command is not a JSON object");
    return admin_call(&target, command, (int)(timeout_s * 1000));
}
