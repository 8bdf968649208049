/*
 * registry_priv.h - what the parts of the registry share: registry.c (this node's entry) and
 * registry_query.c (everybody's).
 */
#ifndef TICKCAST_DOMAIN_REGISTRY_PRIV_H
#define TICKCAST_DOMAIN_REGISTRY_PRIV_H

#include "base/list.h"
#include "domain/registry.h"
#include "protocol/registry_entry.h"

#define REGISTRY_INSTANCE_TEXT 17 /* 16 hex digits */

struct registry {
    struct registry_setup setup;
    char instance[REGISTRY_INSTANCE_TEXT];
    uint64_t started_unix_ms;
    struct loop_timer *timer; /* the next write */
    uint64_t written_ms;      /* when the last write was sent; monotonic */
    unsigned unanswered;      /* commands of the last write */
    bool was_written;         /* our entry was there once since the link came up or we started */
    bool has_left;
    bool fails_now;        /* the write under way */
    bool has_failed;       /* the last one did: said once */
    unsigned conflict_age; /* writes since another node's entry was found; 0: none lately */
    struct registry_rate in;
    struct registry_rate out;
    struct registry_rate accepts;
    struct list queries; /* under way */
    unsigned query_count;
};

/* Runs a script on one key of the registry, `<prefix><name><id>`. */
void registry_run(struct registry *r, const char *script, const char *name, struct slice id,
                  const struct slice *args, size_t count,
                  void (*on_reply)(void *arg, const struct redis_reply_view *reply), void *arg);

void registry_drop_queries(struct registry *r); /* nobody is answered any more */

#endif
