/*
 * sub.c - `tickcastctl sub URL CHANNEL...`: subscribes at a node and prints what arrives.
 *
 * Items go to standard output, one a line and as the node wrote them; everything about the
 * connection (rejections, errors, the feed's state, notices) goes to standard error. With --raw
 * there are no commands: the channels travel in the URL, and payloads are printed as they are.
 * It does not reconnect: a close ends it, with the code and the reason.
 */
#include "base/clock.h"
#include "base/utf8.h"
#include "ctl/commands.h"
#include "ctl/json_scan.h"
#include "ctl/options.h"
#include "ctl/target.h"
#include "ctl/ws_client.h"
#include "protocol/json_text.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define MESSAGE_BYTES_MAX (64u << 20) /* many large snapshots in one push */
#define CONNECT_MS        5000
#define COMMAND_BYTES_MAX 32768 /* half of a node's default message_bytes */
#define TIMEOUT_S_MAX     31536000

struct sub {
    struct ctl_target target; /* accepted like everywhere, but not used */
    bool raw;
    bool compress;
    bool without_snapshot;
    const char *mode;
    int64_t count;    /* items to wait for; 0: no end */
    double timeout_s; /* 0: none */

    struct ctl_operands channels;
    struct ws_client_url url;
    struct ws_client *client;
    uint64_t deadline_ms;
    uint64_t printed;  /* items */
    uint64_t accepted; /* channels, by all acks so far */
    size_t awaited;    /* acks still to come */
    int status;        /* CTL_CONTINUE until it is decided */
};

/* --- asking --------------------------------------------------------------------------------- */

/* Adds what follows the list of channels. */
static void end_command(const struct sub *sub, struct buf *out)
{
    buf_append_str(out, "]");
    if (sub->mode != NULL)
        buf_printf(out, ",\"mode\":\"%s\"", sub->mode);
    if (sub->without_snapshot)
        buf_append_str(out, ",\"snapshot\":false");
    buf_append_str(out, "}");
}

/* Subscribes to as many channels from `from` on as go into one command. Returns how many. */
static int send_subscribe(struct sub *sub, int from)
{
    struct buf command = {0};
    int at = from;
    buf_printf(&command, "{\"action\":\"subscribe\",\"id\":%d,\"channels\":[", from + 1);
    for (; at < sub->channels.count && command.len < COMMAND_BYTES_MAX; at++) {
        buf_append_str(&command, at > from ? "," : "");
        json_append_string(&command, slice_str(sub->channels.items[at]));
    }
    end_command(sub, &command);
    bool sent = ws_client_send(sub->client, WS_OP_TEXT, buf_slice(&command));
    buf_fini(&command);
    sub->awaited++;
    return sent ? at - from : 0;
}

static bool subscribe(struct sub *sub)
{
    for (int at = 0; at < sub->channels.count;) {
        int sent = send_subscribe(sub, at);
        if (sent == 0)
            return false;
        at += sent;
    }
    return true;
}

/* Channels need no more escaping than '%', '&' and '#': the grammar leaves few odd characters. */
static void add_channels_to_url(struct sub *sub)
{
    struct buf *target = &sub->url.target;
    bool has_query = memchr(target->data, '?', target->len) != NULL;
    buf_append_str(target, has_query ? "&channels=" : "?channels=");
    for (int i = 0; i < sub->channels.count; i++) {
        buf_append_str(target, i > 0 ? "," : "");
        for (const char *c = sub->channels.items[i]; *c != '\0'; c++) {
            if (strchr("%&#", *c) != NULL)
                buf_printf(target, "%%%02X", (unsigned)(unsigned char)*c);
            else
                buf_append(target, c, 1);
        }
    }
}

/* --- printing ------------------------------------------------------------------------------- */

static void count_line(struct sub *sub)
{
    putchar('\n');
    sub->printed++;
    if (fflush(stdout) != 0)
        sub->status = CTL_FAILED; /* main says why */
    else if (sub->count != 0 && sub->printed >= (uint64_t)sub->count)
        sub->status = CTL_OK;
}

/* In valid JSON a line break can only be white space between two tokens: a space does as well. */
static void print_item(struct sub *sub, struct slice item)
{
    for (size_t i = 0; i < item.len; i++)
        putchar(item.ptr[i] == '\n' || item.ptr[i] == '\r' ? ' ' : item.ptr[i]);
    count_line(sub);
}

static void on_push(struct sub *sub, struct slice message)
{
    struct json_walk walk;
    struct slice item;
    if (!json_walk_start(&walk, json_member(message, "items")) || walk.is_object)
        return;
    while (sub->status == CTL_CONTINUE && json_walk_next(&walk, NULL, &item))
        print_item(sub, item);
}

static void on_ack(struct sub *sub, struct slice message)
{
    struct json_walk walk;
    struct slice rejected;
    struct slice accepted = json_member(message, "accepted");
    if (sub->awaited == 0)
        return;
    sub->awaited--;
    sub->accepted += accepted.len != 0 ? strtoull(accepted.ptr, NULL, 10) : 0;
    if (json_walk_start(&walk, json_member(message, "rejected"))) {
        while (json_walk_next(&walk, NULL, &rejected))
            ctl_say("sub: rejected: %.*s", (int)rejected.len, rejected.ptr);
    }
    if (sub->awaited == 0 && sub->accepted == 0)
        sub->status = ctl_fail("sub: no channel was accepted");
}

static void on_error(struct sub *sub, struct slice message)
{
    ctl_say("sub: %.*s", (int)message.len, message.ptr);
    if (sub->awaited != 0 && json_member(message, "id").ptr != NULL)
        sub->status = CTL_FAILED; /* our subscribe itself was refused */
}

static void on_news(struct sub *sub, struct slice message)
{
    (void)sub;
    ctl_say("sub: %.*s", (int)message.len, message.ptr);
}

struct action {
    const char *name;
    void (*run)(struct sub *sub, struct slice message);
};

/* Actions that are not here (hello, heartbeat, and what later versions add) are ignored. */
static const struct action actions[] = {
    {"push", on_push}, {"ack", on_ack},     {"error", on_error}, {"state", on_news},
    {"slow", on_news}, {"notice", on_news}, {"drain", on_news},
};

static void on_message(struct sub *sub, struct slice message)
{
    if (sub->raw) {
        fwrite(message.ptr, 1, message.len, stdout);
        count_line(sub);
        return;
    }
    if (!json_text_is_valid(message)) {
        sub->status = ctl_fail("sub: the server sent a message that is not JSON");
        return;
    }
    struct slice action = json_member(message, "action");
    for (size_t i = 0; i < sizeof actions / sizeof actions[0]; i++) {
        if (json_is_string(action, actions[i].name))
            actions[i].run(sub, message);
    }
}

/* --- the connection ------------------------------------------------------------------------- */

static int on_timeout(const struct sub *sub)
{
    if (sub->count == 0)
        return CTL_OK;
    return ctl_fail("sub: %" PRIu64 " of %" PRId64 " items in time", sub->printed, sub->count);
}

static int receive(struct sub *sub)
{
    struct ws_client_message message;
    while (sub->status == CTL_CONTINUE) {
        switch (ws_client_receive(sub->client, sub->deadline_ms, &message)) {
        case WS_CLIENT_MESSAGE: on_message(sub, message.payload); break;
        case WS_CLIENT_TIMEOUT: sub->status = on_timeout(sub); break;
        case WS_CLIENT_CLOSED:
            return ctl_fail("sub: closed by the server: %u %.*s", (unsigned)message.code,
                            (int)message.payload.len, message.payload.ptr);
        case WS_CLIENT_FAILED: return ctl_fail("sub: %s", ws_client_error(sub->client));
        }
    }
    ws_client_close(sub->client);
    return sub->status;
}

static int run(struct sub *sub)
{
    struct buf error = {0};
    const struct ws_client_config config = {
        .url = &sub->url,
        .subprotocol = sub->raw ? "tickcast.v1+raw" : "tickcast.v1+json",
        .deflate = sub->compress,
        .message_bytes = MESSAGE_BYTES_MAX,
        .timeout_ms = CONNECT_MS,
    };
    uint64_t now_ms = clock_mono_ms();
    sub->deadline_ms =
        sub->timeout_s > 0 ? now_ms + (uint64_t)(sub->timeout_s * 1000) : WS_CLIENT_NEVER;
    sub->client = ws_client_connect(&config, &error);
    if (sub->client == NULL)
        ctl_fail("sub: %.*s", (int)error.len, error.data);
    buf_fini(&error);
    if (sub->client == NULL)
        return CTL_FAILED;
    if (sub->compress && !ws_client_has_deflate(sub->client))
        ctl_say("sub: the server does not compress");
    if (!sub->raw && !subscribe(sub))
        return ctl_fail("sub: %s", ws_client_error(sub->client));
    return receive(sub);
}

static int check(struct sub *sub, const struct ctl_operands *operands)
{
    const char *why;
    if (!ws_client_url_parse(operands->items[0], &sub->url, &why))
        return ctl_misuse("sub: '%s': %s", operands->items[0], why);
    if (sub->mode != NULL && strcmp(sub->mode, "latest") != 0 && strcmp(sub->mode, "all") != 0)
        return ctl_misuse("sub: --mode: latest or all");
    if (sub->raw && (sub->mode != NULL || sub->without_snapshot))
        return ctl_misuse("sub: --raw has no commands, hence neither --mode nor --no-snapshot");
    sub->channels = (struct ctl_operands){operands->items + 1, operands->count - 1};
    for (int i = 0; i < sub->channels.count; i++) {
        /* What is malformed is the node's to refuse; it must only be possible to say it. */
        const char *channel = sub->channels.items[i];
        int status = sub->raw ? ctl_check_channel(channel) : CTL_CONTINUE;
        if (status != CTL_CONTINUE)
            return status;
        if (!utf8_is_valid(channel, strlen(channel)))
            return ctl_misuse("sub: a channel is not valid UTF-8");
    }
    if (sub->raw)
        add_channels_to_url(sub);
    return CTL_CONTINUE;
}

int ctl_sub(int argc, char **argv)
{
    struct sub sub = {.target = CTL_TARGET_DEFAULT, .status = CTL_CONTINUE};
    const struct ctl_option options[] = {
        {"--raw", CTL_FLAG, &sub.raw, NULL, "subprotocol raw: payloads and nothing else", 0, 0},
        {"--count", CTL_INT, &sub.count, "N", "end after N items", 1, INT64_MAX},
        {"--timeout", CTL_REAL, &sub.timeout_s, "S",
         "end after S seconds; a failure where --count was not reached", 0, TIMEOUT_S_MAX},
        {"--mode", CTL_TEXT, &sub.mode, "MODE", "latest or all (default: the namespace's)", 0, 0},
        {"--no-snapshot", CTL_FLAG, &sub.without_snapshot, NULL, "only what comes from now on", 0,
         0},
        {"--compress", CTL_FLAG, &sub.compress, NULL, "offer permessage-deflate", 0, 0},
        CTL_TARGET_ROWS(&sub.target),
        {0},
    };
    const struct ctl_usage usage = {
        "URL CHANNEL...",
        "Subscribes at the node of a ws://host:port[/path] URL (path: /ws) and prints each item\n"
        "as a line of JSON. A close by the server is a failure.",
        options, 2, -1};
    struct ctl_operands operands;
    int status = ctl_parse(&usage, argc, argv, &operands);
    if (status == CTL_CONTINUE)
        status = check(&sub, &operands);
    if (status == CTL_CONTINUE)
        status = run(&sub);
    ws_client_free(sub.client);
    buf_fini(&sub.url.target);
    return status;
}
