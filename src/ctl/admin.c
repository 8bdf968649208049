/*
 * admin.c - `tickcastctl admin JSON` and `tickcastctl drain NODE`.
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
#define DRAIN_S_MAX       86400

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
        {"--timeout", CTL_REAL, &timeout_s, "S", "seconds to wait for replies (default 2)", 0,
         TIMEOUT_S_MAX},
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

static int drain(const struct ctl_target *target, const char *node, int64_t seconds)
{
    struct buf command = {0};
    buf_append_str(&command, "{\"cmd\":\"drain\",\"node\":");
    json_append_string(&command, slice_str(node));
    if (seconds >= 0) {
        buf_append_str(&command, ",\"seconds\":");
        buf_append_u64(&command, (uint64_t)seconds);
    }
    buf_append_str(&command, "}");
    int status = admin_call(target, buf_slice(&command), (int)(TIMEOUT_S_DEFAULT * 1000));
    buf_fini(&command);
    return status;
}

int ctl_drain(int argc, char **argv)
{
    struct ctl_target target = CTL_TARGET_DEFAULT;
    int64_t seconds = -1; /* the node's own drain_s */
    const struct ctl_option options[] = {
        {"--seconds", CTL_INT, &seconds, "S", "over how long (default: the node's drain_s)", 0,
         DRAIN_S_MAX},
        CTL_TARGET_ROWS(&target),
        {0},
    };
    const struct ctl_usage usage = {
        "NODE", "Tells the node of that id to hand its clients to the others.", options, 1, 1};
    struct ctl_operands operands;
    int status = ctl_parse(&usage, argc, argv, &operands);
    if (status != CTL_CONTINUE)
        return status;
    const char *node = operands.items[0];
    if (*node == '\0' || !utf8_is_valid(node, strlen(node)))
        return ctl_misuse("drain: NODE is a node's id");
    return drain(&target, node, seconds);
}
