/*
 * config_change.h - what a reload makes of a running node's configuration.
 *
 *      running ──┐
 *                ├──compare──> what changed, option by option
 *      loaded ───┘      └────> loaded, with whatever needs a restart put back to what is running
 *
 * What comes out is a configuration that the node can run with as it stands: everything that was
 * fixed at its start (an option without OPTION_RELOAD) is as it was. Namespaces never go away and
 * keep their order, so the namespace at a place of the running configuration is at the same place
 * of the next: whoever holds a pointer to one finds its successor by that.
 */
#ifndef TICKCAST_PROTOCOL_CONFIG_CHANGE_H
#define TICKCAST_PROTOCOL_CONFIG_CHANGE_H

#include "base/buf.h"
#include "protocol/config.h"

/* One option that differs. All texts are owned and harmless to show. */
struct config_change {
    char *option; /* "limits.soft_bytes", "namespace.trade.history"; "namespace.x" for all of it */
    char *before; /* "" where there was no such namespace */
    char *after;  /* "added" and "removed" for a whole namespace */
    bool needs_restart;
};

struct config_changes {
    struct config_change *list;
    size_t count;
};

void config_changes_fini(struct config_changes *changes);
size_t config_changes_count(const struct config_changes *changes, bool needs_restart);

/* Appends `,"changed":["limits.soft_bytes"],"restart":["node.workers"]`. */
void config_changes_append_json(const struct config_changes *changes, struct buf *out);

/*
 * Compares loaded, which nobody else holds yet, with what is running, and makes it the next
 * configuration. Options that are not built yet are taken as they are and not told. False, with a
 * line in error and both as good as before, when there would be too many namespaces.
 */
bool config_succeed(struct config *loaded, const struct config *running,
                    struct config_changes *changes, struct buf *error)
    __attribute__((warn_unused_result));

/* What has become of a namespace of `from` in `to`, which succeeded it, in one step or several. */
const struct config_namespace *config_successor(const struct config *to, const struct config *from,
                                                const struct config_namespace *ns);

#endif
