/*
 * reload.h - reads the configuration again and says what is different; server.c hands it out.
 *
 * Main thread. Reading blocks: the file is small, bounded and regular, and a thread for it would
 * have to be waited for anyway, because what follows depends on it. Nothing else does.
 */
#ifndef TICKCAST_APP_RELOAD_H
#define TICKCAST_APP_RELOAD_H

#include "protocol/config_change.h"

/*
 * Loads the same sources as at the start, and makes of them what succeeds running. has_made_up_id:
 * node.id was empty at the start, and running shows what was put in its place. Returns owned, or
 * NULL with a line in error. Warnings are logged.
 */
struct config *reload_read(const struct config_source *source, const struct config *running,
                           bool has_made_up_id, struct config_changes *changes, struct buf *error);

/* One log line for each change, and one for them all; the log's own options take effect. */
void reload_log(const struct config_changes *changes, const struct config *before,
                const struct config *next);

/* What config_load had to say, a line each. */
void reload_log_warnings(const struct buf *warnings);

#endif
