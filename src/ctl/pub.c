/*
 * pub.c - `tickcastctl pub CHANNEL JSON`: one publication, or one per line of standard input.
 *
 * Publishes as a node would: stamped where the channel's namespace keeps a value or a history,
 * else with a plain PUBLISH, which works on a stock Redis. Namespaces come from a node's
 * configuration file, or are the built-in ones; one that is in neither is plain. With --ops a node
 * does it all. Each publication is waited for, so that what is printed is what happened:
 *
 *      stamped  815 c91e        seq and epoch
 *      plain    receivers=2     nodes that heard it, not their clients
 */
#include "base/utf8.h"
#include "ctl/commands.h"
#include "ctl/json_scan.h"
#include "ctl/line_reader.h"
#include "ctl/ops_client.h"
#include "ctl/options.h"
#include "ctl/target.h"
#include "protocol/channel.h"
#include "protocol/config.h"
#include "protocol/json_text.h"
#include "protocol/publish_script.h"
#include "protocol/trace.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#define LINE_BYTES_MAX (8u << 20) /* far over the largest payload that a node accepts */

struct pub {
    struct ctl_target target;
    const char *config; /* path, NULL: built-in namespaces */
    bool text;
    bool clear;
    bool plain;   /* whatever the namespace says */
    bool stamped; /* the same */
    int64_t history;
    int64_t ttl_s;
    const char *trace; /* NULL: none */
    const char *channel;
    int (*send)(struct pub *pub, struct slice payload);
    struct redis_client *redis;
    struct buf name; /* the channel in Redis; stamped: the key */
    struct ops_client ops;
};

/* --- ways to publish ------------------------------------------------------------------------- */

/* A trace note, and the publication right behind it. */
static bool publish_plain_traced(struct pub *pub, struct slice payload, long long *receivers)
{
    const struct trace_note note = {.trace = slice_str(pub->trace),
                                    .channel = slice_str(pub->channel)};
    struct buf text = {0}, trace_channel = {0};
    struct redis_answer answer;
    trace_note_append(&text, &note);
    buf_printf(&trace_channel, "%s" TRACE_CHANNEL, pub->target.prefix);
    const struct slice args[] = {slice_str("EVAL"),
                                 slice_str(publish_traced_plain_script),
                                 slice_str("1"),
                                 buf_slice(&pub->name),
                                 buf_slice(&trace_channel),
                                 buf_slice(&text),
                                 payload};
    bool ok = redis_client_command(pub->redis, args, sizeof args / sizeof *args, 0, &answer);
    if (ok) {
        *receivers = answer.number;
        redis_answer_fini(&answer);
    }
    buf_fini(&text);
    buf_fini(&trace_channel);
    return ok;
}

static int send_plain(struct pub *pub, struct slice payload)
{
    long long receivers;
    bool ok = pub->trace != NULL
                  ? publish_plain_traced(pub, payload, &receivers)
                  : redis_client_publish(pub->redis, buf_slice(&pub->name), payload, &receivers);
    if (!ok)
        return ctl_fail("pub: redis: %s", redis_client_error(pub->redis));
    printf("receivers=%lld\n", receivers);
    return CTL_OK;
}

static int send_stamped(struct pub *pub, struct slice payload)
{
    struct redis_client_stamp stamp;
    struct publish_script_call call = {0};
    publish_script_call_init(&call, buf_slice(&pub->name), payload, pub->history, pub->ttl_s);
    if (pub->trace != NULL)
        publish_script_call_trace(&call, slice_str(pub->trace), slice_str(pub->target.prefix));
    if (!redis_client_publish_stamped(pub->redis, &call, &stamp))
        return ctl_fail("pub: redis: %s", redis_client_error(pub->redis));
    printf("%lld %s\n", stamp.seq, stamp.epoch);
    return CTL_OK;
}

/* Prints what the node answered: numbers, or that there are none, or why not. */
static int show_reply(int status, struct slice reply)
{
    struct slice seq = json_member(reply, "seq");
    struct slice epoch = json_unquoted(json_member(reply, "epoch"));
    struct slice name = json_unquoted(json_member(reply, "name"));
    struct slice message = json_unquoted(json_member(reply, "message"));
    if (status != 200)
        return ctl_fail("pub: %d %.*s: %.*s", status, (int)name.len, name.ptr, (int)message.len,
                        message.ptr);
    if (seq.len > 0)
        printf("%.*s %.*s\n", (int)seq.len, seq.ptr, (int)epoch.len, epoch.ptr);
    else
        printf("plain\n");
    return CTL_OK;
}

static int send_ops(struct pub *pub, struct slice payload)
{
    struct buf body = {0}, reply = {0};
    buf_printf(&body, "{\"channel\":\"%s\",", pub->channel);
    if (pub->trace != NULL) {
        buf_append_str(&body, "\"trace\":");
        json_append_string(&body, slice_str(pub->trace));
        buf_append_str(&body, ",");
    }
    buf_append_str(&body, payload.len > 0 ? "\"data\":" : "\"clear\":true");
    buf_append(&body, payload.ptr, payload.len);
    buf_append_str(&body, "}");
    int http = ops_client_post(&pub->ops, "/api/v1/publish", buf_slice(&body), &reply);
    struct slice text = buf_slice(&reply);
    int status;
    if (http == 0)
        status = ctl_fail("pub: %.*s", (int)text.len, text.ptr);
    else if (!utf8_is_valid(text.ptr, text.len) || !json_text_is_valid(text))
        status = ctl_fail("pub: HTTP status %d", http);
    else
        status = show_reply(http, text);
    buf_fini(&body);
    buf_fini(&reply);
    return status;
}

/* --- what to publish ------------------------------------------------------------------------- */

/* A node would show what is no JSON as a string, and drop what is no UTF-8: say so here. Nothing at
 * all would clear a stamped channel, which --clear is for. */
static bool is_payload(const struct pub *pub, struct slice payload)
{
    if (pub->text && payload.len == 0)
        return pub->send == send_plain;
    return utf8_is_valid(payload.ptr, payload.len) && (pub->text || json_text_is_valid(payload));
}

static const char *wanted(const struct pub *pub)
{
    return pub->text ? "valid UTF-8 that is not empty (--clear clears)"
                     : "one JSON value (--text publishes any text)";
}

static int publish(struct pub *pub, struct slice payload)
{
    int status = pub->send(pub, payload);
    fflush(stdout);
    return status;
}

static int publish_lines(struct pub *pub)
{
    struct line_reader reader = {.fd = STDIN_FILENO, .line_bytes_max = LINE_BYTES_MAX};
    int status = CTL_OK;
    for (uint64_t number = 1; status == CTL_OK; number++) {
        struct slice line;
        enum line_result result = line_reader_next(&reader, &line);
        if (result == LINE_END)
            break;
        if (result == LINE_FAILED)
            status = ctl_fail("pub: standard input: %s", strerror(errno));
        else if (result == LINE_TOO_LONG)
            status = ctl_fail("pub: line %" PRIu64 " is over %u bytes", number, LINE_BYTES_MAX);
        else if (!is_payload(pub, line))
            status = ctl_fail("pub: line %" PRIu64 " is not %s", number, wanted(pub));
        else
            status = publish(pub, line);
    }
    line_reader_fini(&reader);
    return status;
}

/* --- how to publish -------------------------------------------------------------------------- */

/* Reads what the channel's namespace keeps. */
static int choose_by_namespace(struct pub *pub)
{
    const struct config_source source = {.file = pub->config};
    struct buf error = {0}, warnings = {0};
    int status = CTL_CONTINUE;
    struct config *config = config_load(&source, &error, &warnings);
    if (config == NULL) {
        status = ctl_misuse("pub: %.*s", (int)error.len, error.data);
    } else {
        struct slice name = channel_namespace(slice_str(pub->channel));
        const struct config_namespace *ns = config_namespace(config, name);
        if (ns == NULL && pub->config != NULL)
            status =
                ctl_misuse("pub: %s has no namespace %.*s", pub->config, (int)name.len, name.ptr);
        pub->history = ns != NULL ? ns->history : 0;
        pub->ttl_s = ns != NULL ? ns->history_ttl_s : 0;
        bool is_stamped = ns != NULL && config_namespace_is_stamped(ns);
        pub->send = (is_stamped && !pub->plain) || pub->stamped ? send_stamped : send_plain;
        config_unref(config);
    }
    buf_fini(&error);
    buf_fini(&warnings);
    return status;
}

static int choose(struct pub *pub)
{
    if (pub->plain && pub->stamped)
        return ctl_misuse("pub: --plain and --stamped exclude each other");
    if (pub->target.ops == NULL) {
        int status = choose_by_namespace(pub);
        if (status == CTL_CONTINUE && pub->clear && pub->send == send_plain)
            return ctl_misuse("pub: nothing is kept in this namespace that could be cleared");
        return status;
    }
    if (pub->plain || pub->stamped || pub->text || pub->config != NULL)
        return ctl_misuse("pub: --ops leaves --plain, --stamped, --text and --config to the node");
    if (!ops_client_init(&pub->ops, pub->target.ops))
        return ctl_misuse("--ops: http://host:port is expected");
    pub->send = send_ops;
    return CTL_CONTINUE;
}

static int connect_redis(struct pub *pub)
{
    int status = ctl_target_connect(&pub->target, &pub->redis);
    if (status != CTL_CONTINUE)
        return status;
    bool is_key = pub->send == send_stamped;
    buf_printf(&pub->name, "%s%s%s%s", is_key ? "{" : "", pub->target.prefix, pub->channel,
               is_key ? "}" : "");
    return CTL_CONTINUE;
}

static int run(struct pub *pub, const struct ctl_operands *operands)
{
    const char *payload = operands->count > 1 ? operands->items[1] : "";
    bool from_stdin = strcmp(payload, "-") == 0;
    pub->channel = operands->items[0];
    int status = ctl_check_channel(pub->channel);
    if (status != CTL_CONTINUE)
        return status;
    if (pub->trace != NULL && !trace_is_valid(slice_str(pub->trace)))
        return ctl_misuse("pub: --trace: 1 to 64 bytes of printable ASCII without space");
    if (pub->clear != (operands->count == 1))
        return ctl_misuse("pub: %s", pub->clear ? "--clear takes no payload" : "too few arguments");
    status = choose(pub);
    if (status != CTL_CONTINUE)
        return status;
    if (!pub->clear && !from_stdin && !is_payload(pub, slice_str(payload)))
        return ctl_misuse("pub: the payload is not %s", wanted(pub));
    if (pub->send != send_ops)
        status = connect_redis(pub);
    if (status != CTL_CONTINUE)
        return status;
    return from_stdin ? publish_lines(pub) : publish(pub, slice_str(payload));
}

int ctl_pub(int argc, char **argv)
{
    struct pub pub = {.target = CTL_TARGET_DEFAULT};
    const struct ctl_option options[] = {
        {"--text", CTL_FLAG, &pub.text, NULL, "publish any text, not only JSON", 0, 0},
        {"--clear", CTL_FLAG, &pub.clear, NULL, "end the channel's value; takes no JSON", 0, 0},
        {"--config", CTL_TEXT, &pub.config, "FILE",
         "a node's configuration, for its namespaces (default: the built-in ones)", 0, 0},
        {"--plain", CTL_FLAG, &pub.plain, NULL, "PUBLISH, whatever the namespace keeps", 0, 0},
        {"--stamped", CTL_FLAG, &pub.stamped, NULL, "number and store it, whatever it keeps", 0, 0},
        {"--trace", CTL_TEXT, &pub.trace, "ID", "nodes log where it went under this id", 0, 0},
        CTL_TARGET_ROWS(&pub.target),
        {0},
    };
    const struct ctl_usage usage = {"CHANNEL JSON",
                                    "Publishes JSON on CHANNEL through Redis, or through a node "
                                    "with --ops. Prints seq and epoch\n"
                                    "where the namespace keeps a value or a history, else how many "
                                    "nodes heard it. '-' as JSON\n"
                                    "publishes each line of standard input.",
                                    options, 1, 2};
    struct ctl_operands operands;
    int status = ctl_parse(&usage, argc, argv, &operands);
    if (status == CTL_CONTINUE)
        status = run(&pub, &operands);
    redis_client_free(pub.redis);
    buf_fini(&pub.name);
    return status;
}
