/*
 * target.h - whom a command talks to: the options that all commands share, and the dialling.
 */
#ifndef TICKCAST_CTL_TARGET_H
#define TICKCAST_CTL_TARGET_H

#include "base/buf.h"
#include "base/slice.h"
#include "ctl/options.h"
#include "ctl/redis_client.h"

struct ctl_target {
    const char *redis;
    const char *prefix;
    const char *ops; /* NULL unless given */
};

#define CTL_TARGET_DEFAULT                                   \
    (struct ctl_target)                                      \
    {                                                        \
        .redis = "redis://127.0.0.1:6379/0", .prefix = "tc:" \
    }

/* The rows of a command's option table for them. */
/* clang-format off */
#define CTL_TARGET_ROWS(t)                                                                         \
    {"--redis", CTL_TEXT, &(t)->redis, "URL",                                                      \
     "redis://[user:pass@]host[:port][/db] or unix://path (default redis://127.0.0.1:6379/0)",     \
     0, 0},                                                                                        \
    {"--prefix", CTL_TEXT, &(t)->prefix, "TEXT", "what names in Redis start with (default tc:)",   \
     0, 0},                                                                                        \
    {"--ops", CTL_TEXT, &(t)->ops, "URL",                                                          \
     "a node's ops listener, http://host:port, instead of Redis: for pub, nodes, admin, drain", 0, 0}
/* clang-format on */

/* Checks the options before anything is done: the URL, the prefix, and that --ops, which most
 * commands have no use for, is not there. CTL_CONTINUE, or CTL_USAGE with the reason on standard
 * error. */
int ctl_target_check(const struct ctl_target *target, struct redis_url *url);

/* Checks, then connects. CTL_CONTINUE and *out owned by the caller; else the exit status, with the
 * reason on standard error. */
int ctl_target_connect(const struct ctl_target *target, struct redis_client **out);

/* prefix + name, appended to an emptied buffer. Borrows from it. */
struct slice ctl_target_name(const struct ctl_target *target, struct slice name, struct buf *out);

/* Is it a channel name? CTL_CONTINUE, or CTL_USAGE with the reason on standard error. */
int ctl_check_channel(const char *name);

#endif
