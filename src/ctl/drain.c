/*
 * drain.c - `tickcastctl drain NODE`: tells a node to hand its clients to the others, and waits
 * until the registry shows that it has.
 *
 *      registered? ──> {"cmd":"drain","node":…} ──> twice a second: its entry ──> draining, 0 clients
 *
 * Each look at the registry has a connection of its own: a Redis that restarts meanwhile, or takes
 * the registry with it for two seconds, does not end the wait.
 */
#include "base/clock.h"
#include "ctl/admin_call.h"
#include "ctl/commands.h"
#include "ctl/fleet.h"
#include "ctl/options.h"
#include "ctl/stop.h"
#include "protocol/json_text.h"
#include "protocol/registry_entry.h"

#include <inttypes.h>
#include <stdio.h>

#define REPLY_MS        2000 /* nodes answer in milliseconds */
#define DRAIN_S_MAX     3600 /* that nodes accept */
#define TIMEOUT_S_SPARE 60   /* behind --seconds, for the node's grace and its last clients */
#define TIMEOUT_S       600  /* without --seconds: the node's drain_s is not known here */
#define LOOK_MS         500
#define GONE_MS         10000 /* not registered for so long: it is not there any more */

struct drain {
    struct ctl_target target;
    const char *node;
    int64_t seconds;   /* -1: the node's own drain_s */
    int64_t timeout_s; /* -1: by the above */
    bool no_wait;
    bool was_draining;
    char shown[64];   /* the last line of progress */
    uint64_t seen_ms; /* when its entry was last there */
};

static int send_command(const struct drain *d)
{
    struct buf command = {0};
    buf_append_str(&command, "{\"cmd\":\"drain\",\"node\":");
    json_append_string(&command, slice_str(d->node));
    if (d->seconds >= 0) {
        buf_append_str(&command, ",\"seconds\":");
        buf_append_u64(&command, (uint64_t)d->seconds);
    }
    buf_append_str(&command, "}");
    int status = admin_call(&d->target, buf_slice(&command), REPLY_MS);
    buf_fini(&command);
    return status;
}

static void show(struct drain *d, struct slice state, struct slice clients)
{
    char line[sizeof d->shown];
    snprintf(line, sizeof line, "%.*s, %.*s clients", (int)state.len, state.ptr, (int)clients.len,
             clients.ptr);
    if (strcmp(line, d->shown) != 0)
        ctl_say("drain: %s: %s", d->node, line);
    memcpy(d->shown, line, sizeof line);
}

/* Looks at its entry. CTL_CONTINUE: not yet. */
static int judge(struct drain *d, struct slice entry)
{
    struct slice state = json_unquoted(json_member(entry, "state"));
    struct slice clients = json_member(entry, "clients");
    if (state.ptr == NULL || clients.ptr == NULL)
        return CTL_CONTINUE; /* it is being written anew */
    d->seen_ms = clock_mono_ms();
    if (state.len > 16 || clients.len > 16)
        return CTL_CONTINUE;
    show(d, state, clients);
    bool is_draining = slice_is(state, "draining");
    if (d->was_draining && !is_draining)
        return ctl_fail("drain: %s takes clients again", d->node);
    d->was_draining = d->was_draining || is_draining;
    return is_draining && slice_is(clients, "0") ? CTL_OK : CTL_CONTINUE;
}

static int look(struct drain *d)
{
    struct buf text = {0}, error = {0};
    int status = fleet_read(&d->target, &text, &error);
    if (status == CTL_CONTINUE)
        status = judge(d, fleet_find(buf_slice(&text), d->node));
    else
        status = CTL_CONTINUE; /* Redis may come back */
    if (status == CTL_CONTINUE && clock_mono_ms() - d->seen_ms > GONE_MS)
        status = ctl_fail("drain: %s is not registered any more", d->node);
    buf_fini(&text);
    buf_fini(&error);
    return status;
}

static int wait_until_empty(struct drain *d)
{
    int64_t timeout_s = d->timeout_s;
    if (timeout_s < 0)
        timeout_s = d->seconds >= 0 ? d->seconds + TIMEOUT_S_SPARE : TIMEOUT_S;
    uint64_t deadline_ms = clock_mono_ms() + (uint64_t)timeout_s * 1000;
    int status;
    d->seen_ms = clock_mono_ms();
    stop_on_signals();
    while ((status = look(d)) == CTL_CONTINUE) {
        if (clock_mono_ms() >= deadline_ms)
            return ctl_fail("drain: %s is not empty after %" PRId64 " s", d->node, timeout_s);
        if (stop_wait_until(clock_mono_ns() + LOOK_MS * 1000000ull))
            return ctl_fail("drain: interrupted; %s goes on draining", d->node);
    }
    return status;
}

static int check_registered(const struct drain *d)
{
    struct buf text = {0}, error = {0};
    int status = fleet_read(&d->target, &text, &error);
    if (status != CTL_CONTINUE)
        ctl_fail("drain: %.*s", (int)error.len, error.data);
    else if (fleet_find(buf_slice(&text), d->node).ptr == NULL)
        status = ctl_fail("drain: no node '%s' is registered", d->node);
    buf_fini(&text);
    buf_fini(&error);
    return status;
}

int ctl_drain(int argc, char **argv)
{
    struct drain d = {.target = CTL_TARGET_DEFAULT, .seconds = -1, .timeout_s = -1};
    const struct ctl_option options[] = {
        {"--seconds", CTL_INT, &d.seconds, "S", "over how long (default: the node's drain_s)", 0,
         DRAIN_S_MAX},
        {"--timeout", CTL_INT, &d.timeout_s, "S",
         "seconds to wait (default: --seconds and 60; without it 600)", 0, 2 * DRAIN_S_MAX},
        {"--no-wait", CTL_FLAG, &d.no_wait, NULL, "return when the node has begun", 0, 0},
        CTL_TARGET_ROWS(&d.target),
        {0},
    };
    const struct ctl_usage usage = {
        "NODE",
        "Tells the node of that id to hand its clients to the others, and waits until it has none.",
        options, 1, 1};
    struct ctl_operands operands;
    struct ops_client ops;
    int status = ctl_parse(&usage, argc, argv, &operands);
    if (status != CTL_CONTINUE)
        return status;
    d.node = operands.items[0];
    if (!registry_id_is_valid(slice_str(d.node)))
        return ctl_misuse("drain: NODE is a node's id");
    status = fleet_check(&d.target, &ops);
    if (status == CTL_CONTINUE)
        status = check_registered(&d);
    if (status == CTL_CONTINUE)
        status = send_command(&d);
    return status == CTL_OK && !d.no_wait ? wait_until_empty(&d) : status;
}
