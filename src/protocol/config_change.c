/*
 * config_change.c - compares two configurations, and makes the second one fit to succeed the first.
 *
 * Main thread, and no longer than a few thousand comparisons. Driven by the option table: which
 * options a running node can take is a flag of their rows, and nothing here knows one by name.
 */
#include "protocol/config_change.h"

#include "base/mem.h"
#include "protocol/json_text.h"
#include "protocol/option_table.h"

#include <assert.h>
#include <stdlib.h>

/* --- the list ------------------------------------------------------------------------------- */

void config_changes_fini(struct config_changes *changes)
{
    for (size_t i = 0; i < changes->count; i++) {
        free(changes->list[i].option);
        free(changes->list[i].before);
        free(changes->list[i].after);
    }
    free(changes->list);
    *changes = (struct config_changes){0};
}

size_t config_changes_count(const struct config_changes *changes, bool needs_restart)
{
    size_t count = 0;
    for (size_t i = 0; i < changes->count; i++)
        count += changes->list[i].needs_restart == needs_restart;
    return count;
}

static void append_names(const struct config_changes *changes, bool needs_restart, struct buf *out)
{
    const char *between = "";
    for (size_t i = 0; i < changes->count; i++) {
        if (changes->list[i].needs_restart != needs_restart)
            continue;
        buf_append_str(out, between);
        json_append_string(out, slice_str(changes->list[i].option));
        between = ",";
    }
}

void config_changes_append_json(const struct config_changes *changes, struct buf *out)
{
    buf_append_str(out, ",\"changed\":[");
    append_names(changes, false, out);
    buf_append_str(out, "],\"restart\":[");
    append_names(changes, true, out);
    buf_append_str(out, "]");
}

static char *owned_text(struct buf *text)
{
    buf_append(text, "", 1);
    return text->data;
}

static struct config_change *add_change(struct config_changes *changes, bool needs_restart)
{
    changes->list = mem_realloc(changes->list, (changes->count + 1) * sizeof(struct config_change));
    struct config_change *change = &changes->list[changes->count++];
    *change = (struct config_change){.needs_restart = needs_restart};
    return change;
}

/* ns: the namespace's name, or NULL for an option of the node's. */
static void add_option(struct config_changes *changes, const struct option *o, const char *ns,
                       const void *before, const void *after)
{
    struct config_change *change = add_change(changes, (o->flags & OPTION_RELOAD) == 0);
    struct buf name = {0}, was = {0}, is = {0};
    buf_printf(&name, "%s%s%s.%s", o->section, ns != NULL ? "." : "", ns != NULL ? ns : "", o->key);
    option_append_value(&was, o, before);
    option_append_value(&is, o, after);
    change->option = owned_text(&name);
    change->before = owned_text(&was);
    change->after = owned_text(&is);
}

static void add_namespace(struct config_changes *changes, const char *ns, bool is_removed)
{
    struct config_change *change = add_change(changes, is_removed);
    struct buf name = {0};
    buf_printf(&name, OPTION_NAMESPACE ".%s", ns);
    change->option = owned_text(&name);
    change->before = mem_strdup("");
    change->after = mem_strdup(is_removed ? "removed" : "added");
}

/* --- options -------------------------------------------------------------------------------- */

/* Tells what differs, and puts back in loaded what needs a restart. */
static void compare(void *loaded, const void *running, const char *ns,
                    struct config_changes *changes)
{
    for (const struct option *o = option_table; o < option_table + option_count; o++) {
        bool is_of_namespace = slice_is(slice_str(o->section), OPTION_NAMESPACE);
        if (is_of_namespace != (ns != NULL) || (o->flags & OPTION_UNBUILT) != 0 ||
            option_is_equal(o, loaded, running))
            continue;
        add_option(changes, o, ns, running, loaded);
        if ((o->flags & OPTION_RELOAD) == 0)
            option_copy(o, loaded, running);
    }
}

/* --- namespaces ----------------------------------------------------------------------------- */

static struct config_namespace *find_namespace(struct config *c, const char *name)
{
    for (size_t i = 0; i < c->namespace_count; i++) {
        if (c->namespaces[i].name != NULL && strcmp(c->namespaces[i].name, name) == 0)
            return &c->namespaces[i];
    }
    return NULL;
}

static void copy_namespace(struct config_namespace *to, const struct config_namespace *from)
{
    to->name = mem_strdup(from->name);
    for (const struct option *o = option_table; o < option_table + option_count; o++) {
        if (slice_is(slice_str(o->section), OPTION_NAMESPACE))
            option_copy(o, to, from);
    }
}

/* A namespace that is new has nothing that could be in use, but what a running node cannot begin
 * (an option without OPTION_RELOAD) has to wait at its default. */
static void admit_namespace(struct config_namespace *ns, struct config_changes *changes)
{
    struct config_namespace plain = {0};
    struct buf ignored = {0};
    add_namespace(changes, ns->name, false);
    for (const struct option *o = option_table; o < option_table + option_count; o++) {
        if (!slice_is(slice_str(o->section), OPTION_NAMESPACE) ||
            (o->flags & (OPTION_RELOAD | OPTION_UNBUILT)) != 0)
            continue;
        bool assigned = option_assign(o, &plain, slice_str(o->fallback), &ignored);
        assert(assigned); /* it is its default */
        (void)assigned;
        if (option_is_equal(o, ns, &plain))
            continue;
        add_option(changes, o, ns->name, &plain, ns);
        option_copy(o, ns, &plain);
    }
    option_release(&plain, true);
    buf_fini(&ignored);
}

static size_t count_together(struct config *loaded, const struct config *running)
{
    size_t count = loaded->namespace_count;
    for (size_t i = 0; i < running->namespace_count; i++)
        count += find_namespace(loaded, running->namespaces[i].name) == NULL;
    return count;
}

/* Those that are running first, in their places; then those that are new. */
static void arrange_namespaces(struct config *loaded, const struct config *running, size_t count,
                               struct config_changes *changes)
{
    struct config_namespace *all = mem_zalloc(count * sizeof *all);
    size_t used = 0;
    for (size_t i = 0; i < running->namespace_count; i++) {
        const struct config_namespace *was = &running->namespaces[i];
        struct config_namespace *is = find_namespace(loaded, was->name);
        if (is == NULL) {
            add_namespace(changes, was->name, true);
            copy_namespace(&all[used++], was);
            continue;
        }
        compare(is, was, was->name, changes);
        all[used++] = *is;
        is->name = NULL; /* it has moved */
    }
    for (size_t i = 0; i < loaded->namespace_count; i++) {
        if (loaded->namespaces[i].name == NULL)
            continue;
        admit_namespace(&loaded->namespaces[i], changes);
        all[used++] = loaded->namespaces[i];
    }
    assert(used == count);
    free(loaded->namespaces);
    loaded->namespaces = all;
    loaded->namespace_count = count;
}

bool config_succeed(struct config *loaded, const struct config *running,
                    struct config_changes *changes, struct buf *error)
{
    size_t count = count_together(loaded, running);
    if (count > CONFIG_NAMESPACES_MAX) {
        buf_printf(
            error,
            "namespaces that were removed stay until a restart, and with them there are %zu, "
            "more than %d",
            count, CONFIG_NAMESPACES_MAX);
        return false;
    }
    compare(loaded, running, NULL, changes);
    arrange_namespaces(loaded, running, count, changes);
    return true;
}

const struct config_namespace *config_successor(const struct config *to, const struct config *from,
                                                const struct config_namespace *ns)
{
    size_t at = (size_t)(ns - from->namespaces);
    assert(at < from->namespace_count && at < to->namespace_count);
    return &to->namespaces[at];
}
