/*
 * reload.c - from the sources of the configuration to what succeeds the running one.
 */
#include "app/reload.h"

#include "base/log.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

void reload_log_warnings(const struct buf *warnings)
{
    struct slice rest = buf_slice(warnings);
    while (rest.len > 0) {
        const char *stop = memchr(rest.ptr, '\n', rest.len);
        size_t len = stop != NULL ? (size_t)(stop - rest.ptr) : rest.len;
        size_t used = stop != NULL ? len + 1 : len;
        log_warn("config", LOG_SLICE("warning", slice_of(rest.ptr, len)));
        rest = slice_of(rest.ptr + used, rest.len - used);
    }
}

/* A pipe or a terminal was good enough for a start. Read again it would be empty, which means
 * every default, or have nothing to say and hold up the node. */
static bool can_be_read_again(const char *path, struct buf *error)
{
    struct stat st;
    if (path == NULL || stat(path, &st) != 0 || S_ISREG(st.st_mode))
        return true; /* that it is not there, the loading says */
    buf_printf(error, "%s: is not a regular file, so it cannot be read again", path);
    return false;
}

struct config *reload_read(const struct config_source *source, const struct config *running,
                           bool has_made_up_id, struct config_changes *changes, struct buf *error)
{
    struct buf warnings = {0};
    if (!can_be_read_again(source->file, error))
        return NULL;
    struct config *loaded = config_load(source, error, &warnings);
    if (loaded != NULL && has_made_up_id && loaded->node.id[0] == '\0') {
        free(loaded->node.id);
        loaded->node.id = mem_strdup(running->node.id);
    }
    if (loaded != NULL && !config_succeed(loaded, running, changes, error)) {
        config_unref(loaded);
        loaded = NULL;
    }
    if (loaded != NULL)
        reload_log_warnings(&warnings);
    buf_fini(&warnings);
    return loaded;
}

static void log_change(const struct config_change *change)
{
    const struct log_field fields[] = {LOG_STR("option", change->option),
                                       LOG_STR("old", change->before),
                                       LOG_STR("new", change->after),
                                       LOG_STR("effect", change->needs_restart ? "restart" : "now"),
                                       {0}};
    enum log_level level = change->needs_restart ? LOG_WARN : LOG_INFO;
    if (log_is_on(level))
        log_write(level, "option_changed", fields);
}

void reload_log(const struct config_changes *changes, const struct config *before,
                const struct config *next)
{
    /* What was set by the admin command `loglevel` stays until the option itself changes. */
    bool has_level = before->node.log_level != next->node.log_level;
    log_set_format(next->node.log_format);
    log_bound_set((uint32_t)next->node.log_lines_per_s);
    if (has_level && next->node.log_level < before->node.log_level)
        log_set_level(next->node.log_level);
    for (size_t i = 0; i < changes->count; i++)
        log_change(&changes->list[i]);
    log_info("reloaded", LOG_INT("changed", config_changes_count(changes, false)),
             LOG_INT("restart", config_changes_count(changes, true)));
    if (has_level)
        log_set_level(next->node.log_level);
}
