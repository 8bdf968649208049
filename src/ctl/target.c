/*
 * target.c - from --redis and --prefix to a connection and full names.
 */
#include "ctl/target.h"

#include "protocol/channel.h"

#define PREFIX_BYTES_MAX 64 /* keeps a full name within what Redis tools show on one line */

static bool is_prefix(const char *text)
{
    size_t len = strlen(text);
    for (size_t i = 0; i < len; i++) {
        if (text[i] <= ' ' || text[i] > '~')
            return false;
    }
    return len <= PREFIX_BYTES_MAX;
}

int ctl_target_check(const struct ctl_target *target, struct redis_url *url)
{
    const char *why;
    if (target->ops != NULL)
        return ctl_misuse("--ops is of no use to this command; use --redis");
    if (!is_prefix(target->prefix))
        return ctl_misuse("--prefix: at most %d printable characters without space",
                          PREFIX_BYTES_MAX);
    if (!redis_url_parse(target->redis, url, &why))
        return ctl_misuse("--redis: %s", why);
    return CTL_CONTINUE;
}

int ctl_target_connect(const struct ctl_target *target, struct redis_client **out)
{
    struct redis_url url;
    int status = ctl_target_check(target, &url);
    if (status != CTL_CONTINUE)
        return status;
    struct buf error = {0};
    *out = redis_client_connect(&url, REDIS_CLIENT_TIMEOUT_MS, &error);
    if (*out == NULL)
        status = ctl_fail("%.*s", (int)error.len, error.data);
    buf_fini(&error);
    return status;
}

struct slice ctl_target_name(const struct ctl_target *target, struct slice name, struct buf *out)
{
    buf_clear(out);
    buf_append_str(out, target->prefix);
    buf_append(out, name.ptr, name.len);
    return buf_slice(out);
}

int ctl_check_channel(const char *name)
{
    if (channel_is_valid(slice_str(name)))
        return CTL_CONTINUE;
    return ctl_misuse("'%s' is no channel: <namespace>:<name>, at most %d printable characters "
                      "without space , \" \\ { } * ? [ ]",
                      name, CHANNEL_BYTES_MAX);
}
