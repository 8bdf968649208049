/*
 * pub.c - `tickcastctl pub CHANNEL JSON`: one publication, or one per line of standard input.
 *
 * A plain PUBLISH, which works on a stock Redis; each is waited for, so that what is printed is
 * what happened. `receivers` is the number of nodes that heard it, not of their clients.
 */
#include "base/utf8.h"
#include "ctl/commands.h"
#include "ctl/line_reader.h"
#include "ctl/options.h"
#include "ctl/target.h"
#include "protocol/json_text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#define LINE_BYTES_MAX (8u << 20) /* far over the largest payload that a node accepts */

struct pub {
    struct ctl_target target;
    bool text;
    struct redis_client *redis;
    struct buf channel;
};

/* A node would show what is no JSON as a string, and drop what is no UTF-8: say so here. */
static bool is_payload(const struct pub *pub, struct slice payload)
{
    return utf8_is_valid(payload.ptr, payload.len) && (pub->text || json_text_is_valid(payload));
}

static const char *wanted(const struct pub *pub)
{
    return pub->text ? "valid UTF-8" : "one JSON value (--text publishes any text)";
}

static int publish(struct pub *pub, struct slice payload)
{
    long long receivers;
    if (!redis_client_publish(pub->redis, buf_slice(&pub->channel), payload, &receivers))
        return ctl_fail("pub: redis: %s", redis_client_error(pub->redis));
    printf("receivers=%lld\n", receivers);
    fflush(stdout);
    return CTL_OK;
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

static int run(struct pub *pub, const char *channel, const char *payload)
{
    bool from_stdin = strcmp(payload, "-") == 0;
    int status = ctl_check_channel(channel);
    if (status != CTL_CONTINUE)
        return status;
    if (!from_stdin && !is_payload(pub, slice_str(payload)))
        return ctl_misuse("pub: the payload is not %s", wanted(pub));
    status = ctl_target_connect(&pub->target, &pub->redis);
    if (status != CTL_CONTINUE)
        return status;
    ctl_target_name(&pub->target, slice_str(channel), &pub->channel);
    return from_stdin ? publish_lines(pub) : publish(pub, slice_str(payload));
}

int ctl_pub(int argc, char **argv)
{
    struct pub pub = {.target = CTL_TARGET_DEFAULT};
    const struct ctl_option options[] = {
        {"--text", CTL_FLAG, &pub.text, NULL, "publish any text, not only JSON", 0, 0},
        CTL_TARGET_ROWS(&pub.target),
        {0},
    };
    const struct ctl_usage usage = {
        "CHANNEL JSON",
        "Publishes JSON on CHANNEL through Redis and prints how many nodes heard it. '-' as JSON\n"
        "publishes each line of standard input.",
        options, 2, 2};
    struct ctl_operands operands;
    int status = ctl_parse(&usage, argc, argv, &operands);
    if (status == CTL_CONTINUE)
        status = run(&pub, operands.items[0], operands.items[1]);
    redis_client_free(pub.redis);
    buf_fini(&pub.channel);
    return status;
}
