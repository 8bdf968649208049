/*
 * config.c - builds the snapshot of options from its four sources.
 *
 *   defaults ──► file ──► environment ──► --set ──► what depends on several options
 *
 * Every source ends in assign(), which finds the field through the option's row and remembers
 * where the value came from, so that a fault found later still names the line that caused it. The
 * first fault ends the loading: a node never runs on half of what it was told.
 *
 * Main thread only, except for the reference count. Formats of lines are config_file.c's, values
 * are option_value.c's, names and ranges option_table.c's.
 */
#include "protocol/config.h"

#include "base/mem.h"
#include "protocol/config_file.h"
#include "protocol/option_table.h"

#include <assert.h>
#include <stdlib.h>

#define ENVIRONMENT_PREFIX "TICKCAST_"
#define NAMESPACE_NAME_MAX 64
#define NAMESPACE_ALPHABET "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz._-"
#define NO_NAMESPACE       SIZE_MAX

/* Where an option's value came from. */
struct given {
    char *origin; /* "conf/x.conf:12"; NULL: nobody gave one */
    bool by_file;
    bool is_auto;
};

/* A snapshot being built. */
struct draft {
    struct config *config;
    struct given *given; /* option_count for struct config, then as many per namespace */
    struct buf *error;
    struct buf *warnings;
    /* Where the file's reader is: */
    const char *path;
    char *section; /* NULL before the first */
    size_t namespace_at;
};

/* One value on its way to its field. */
struct assignment {
    const char *origin;
    const struct option *option;
    size_t namespace_at; /* NO_NAMESPACE: the option is not of a namespace */
    struct slice value;
    bool by_file;
};

/* --- drafts --------------------------------------------------------------------------------- */

static void *draft_base(const struct draft *d, size_t namespace_at)
{
    return namespace_at == NO_NAMESPACE ? (void *)d->config
                                        : (void *)&d->config->namespaces[namespace_at];
}

static struct given *draft_given(const struct draft *d, size_t namespace_at, const struct option *o)
{
    size_t block = namespace_at == NO_NAMESPACE ? 0 : namespace_at + 1;
    return &d->given[block * option_count + (size_t)(o - option_table)];
}

static void assign_defaults(void *base, bool is_namespace)
{
    for (size_t i = 0; i < option_count; i++) {
        const struct option *o = &option_table[i];
        struct buf why = {0};
        if (slice_is(slice_str(o->section), OPTION_NAMESPACE) != is_namespace)
            continue;
        bool assigned = option_assign(o, base, slice_str(o->fallback), &why);
        assert(assigned); /* the table contradicts itself */
        (void)assigned;
        buf_fini(&why);
    }
}

static void draft_init(struct draft *d, struct buf *error, struct buf *warnings)
{
    *d = (struct draft){.error = error, .warnings = warnings, .namespace_at = NO_NAMESPACE};
    d->config = mem_zalloc(sizeof *d->config);
    atomic_init(&d->config->refs, 1);
    d->given = mem_zalloc(option_count * sizeof *d->given);
    assign_defaults(d->config, false);
}

/* Releases all but the snapshot. */
static void draft_fini(struct draft *d)
{
    for (size_t i = 0; i < (d->config->namespace_count + 1) * option_count; i++)
        free(d->given[i].origin);
    free(d->given);
    free(d->section);
}

static size_t draft_add_namespace(struct draft *d, struct slice name)
{
    struct config *c = d->config;
    size_t at = c->namespace_count++;
    c->namespaces = mem_realloc(c->namespaces, c->namespace_count * sizeof *c->namespaces);
    c->namespaces[at] = (struct config_namespace){.name = mem_strndup(name.ptr, name.len)};
    size_t block = option_count * sizeof *d->given;
    d->given = mem_realloc(d->given, (c->namespace_count + 1) * block);
    memset(&d->given[(at + 1) * option_count], 0, block);
    assign_defaults(&c->namespaces[at], true);
    return at;
}

/* --- faults --------------------------------------------------------------------------------- */

/* Appends "section.key" or "namespace.NAME.key". */
static void append_label(struct buf *out, const struct draft *d, size_t namespace_at,
                         const char *section, struct slice key)
{
    buf_append_str(out, section);
    if (namespace_at != NO_NAMESPACE)
        buf_printf(out, ".%s", d->config->namespaces[namespace_at].name);
    buf_append_str(out, ".");
    option_append_shown(out, key);
}

static bool fail_unknown_key(struct draft *d, const char *origin, size_t namespace_at,
                             const char *section, struct slice key)
{
    buf_printf(d->error, "%s: ", origin);
    append_label(d->error, d, namespace_at, section, key);
    buf_printf(d->error, ": unknown option; [%s%s] has ", section,
               namespace_at != NO_NAMESPACE ? " NAME" : "");
    option_append_keys(d->error, slice_str(section));
    return false;
}

static void append_sections(struct buf *out)
{
    for (const struct option_section *s = option_sections; s->name != NULL; s++)
        buf_printf(out, "%s%s%s", s == option_sections ? "" : ", ", s->name,
                   strcmp(s->name, OPTION_NAMESPACE) == 0 ? " NAME" : "");
}

static bool fail_unknown_section(struct draft *d, const char *origin, struct slice section)
{
    buf_printf(d->error, "%s: [", origin);
    option_append_shown(d->error, section);
    buf_append_str(d->error, "]: unknown section; there are ");
    append_sections(d->error);
    return false;
}

static bool fail_namespace(struct draft *d, const char *origin, struct slice name, const char *why)
{
    buf_printf(d->error, "%s: [" OPTION_NAMESPACE " ", origin);
    option_append_shown(d->error, name);
    buf_printf(d->error, "]: %s", why);
    return false;
}

/* --- assigning ------------------------------------------------------------------------------ */

static bool assign(struct draft *d, const struct assignment *a)
{
    struct given *given = draft_given(d, a->namespace_at, a->option);
    struct buf why = {0};
    bool is_good = true;
    if (a->by_file && given->by_file) {
        buf_printf(&why, "is set twice, first at %s", given->origin);
        is_good = false;
    } else {
        is_good = option_assign(a->option, draft_base(d, a->namespace_at), a->value, &why);
    }
    if (!is_good) {
        buf_printf(d->error, "%s: ", a->origin);
        append_label(d->error, d, a->namespace_at, a->option->section, slice_str(a->option->key));
        buf_append_str(d->error, ": ");
        buf_append(d->error, why.data, why.len);
    } else {
        free(given->origin);
        given->origin = mem_strdup(a->origin);
        given->by_file = a->by_file;
        given->is_auto = slice_is(a->value, OPTION_AUTO_WORD);
    }
    buf_fini(&why);
    return is_good;
}

static bool is_reserved(struct slice name)
{
    static const char *const reserved[] = {"admin", "canary", "node", "nodes", "session"};
    for (size_t i = 0; i < sizeof reserved / sizeof *reserved; i++) {
        if (slice_is(name, reserved[i]))
            return true;
    }
    return false;
}

static bool is_namespace_name(struct slice name)
{
    for (size_t i = 0; i < name.len; i++) {
        if (name.ptr[i] == '\0' || strchr(NAMESPACE_ALPHABET, name.ptr[i]) == NULL)
            return false;
    }
    return name.len != 0 && name.len <= NAMESPACE_NAME_MAX;
}

/* Finds or makes the namespace. */
static bool open_namespace(struct draft *d, const char *origin, struct slice name, size_t *at)
{
    const struct config_namespace *found = config_namespace(d->config, name);
    if (found != NULL) {
        *at = (size_t)(found - d->config->namespaces);
        return true;
    }
    if (!is_namespace_name(name))
        return fail_namespace(d, origin, name,
                              "a name is 1 to 64 bytes of 0-9 A-Z a-z '.' '_' and '-'");
    if (is_reserved(name))
        return fail_namespace(
            d, origin, name, "the name is reserved, as are admin, canary, node, nodes and session");
    if (d->config->namespace_count == CONFIG_NAMESPACES_MAX)
        return fail_namespace(d, origin, name, "more than 256 namespaces");
    *at = draft_add_namespace(d, name);
    return true;
}

/* --- the file ------------------------------------------------------------------------------- */

static char *file_origin(const struct draft *d, unsigned line)
{
    struct buf origin = {0};
    buf_printf(&origin, "%s:%u", d->path, line);
    buf_append(&origin, "", 1);
    return origin.data;
}

static bool enter_section(struct draft *d, const char *origin, struct slice name,
                          struct slice label)
{
    bool is_namespace = slice_is(name, OPTION_NAMESPACE);
    if (!option_section_is_known(name))
        return fail_unknown_section(d, origin, name);
    if (!is_namespace && label.len != 0) {
        buf_printf(d->error, "%s: [%.*s]: takes no name", origin, (int)name.len, name.ptr);
        return false;
    }
    d->namespace_at = NO_NAMESPACE;
    free(d->section);
    d->section = mem_strndup(name.ptr, name.len);
    return !is_namespace || open_namespace(d, origin, label, &d->namespace_at);
}

static bool on_section(void *arg, struct slice name, struct slice label, unsigned line)
{
    struct draft *d = arg;
    char *origin = file_origin(d, line);
    bool entered = enter_section(d, origin, name, label);
    free(origin);
    return entered;
}

static bool set_from_file(struct draft *d, const char *origin, struct slice key, struct slice value)
{
    if (d->section == NULL) {
        buf_printf(d->error, "%s: ", origin);
        option_append_shown(d->error, key);
        buf_append_str(d->error, ": stands before the first [section]");
        return false;
    }
    const struct option *option = option_find(slice_str(d->section), key);
    if (option == NULL)
        return fail_unknown_key(d, origin, d->namespace_at, d->section, key);
    const struct assignment a = {.origin = origin,
                                 .option = option,
                                 .namespace_at = d->namespace_at,
                                 .value = value,
                                 .by_file = true};
    return assign(d, &a);
}

static bool on_setting(void *arg, struct slice key, struct slice value, unsigned line)
{
    struct draft *d = arg;
    char *origin = file_origin(d, line);
    bool set = set_from_file(d, origin, key, value);
    free(origin);
    return set;
}

static bool load_file(struct draft *d, const char *path)
{
    const struct config_file_handler handler = {
        .on_section = on_section, .on_setting = on_setting, .arg = d};
    struct buf text = {0};
    if (path == NULL)
        return true;
    d->path = path;
    bool loaded = config_file_read(path, &text, d->error) &&
                  config_file_parse(path, buf_slice(&text), &handler, d->error);
    buf_fini(&text);
    return loaded;
}

/* What a file may replace, but the environment and --set only add to. */
static void add_builtin_namespaces(struct draft *d)
{
    static const char *const names[] = {"quote", "trade", "chat", "alert"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        draft_add_namespace(d, slice_str(names[i]));
    d->config->namespaces[0].mode = MODE_LATEST;
}

/* --- the environment ------------------------------------------------------------------------ */

static struct slice slice_from(struct slice s, size_t at)
{
    return slice_of(s.ptr + at, s.len - at);
}

/* The place of c in s, or s.len. */
static size_t find(struct slice s, char c)
{
    const char *at = s.len != 0 ? memchr(s.ptr, c, s.len) : NULL;
    return at != NULL ? (size_t)(at - s.ptr) : s.len;
}

/* Splits "trade_history_ttl_s" at the longest key that a namespace has. */
static const struct option *split_namespace_key(struct slice text, struct slice *name)
{
    const struct option *best = NULL;
    size_t best_len = 0;
    for (size_t i = 0; i < option_count; i++) {
        const struct option *o = &option_table[i];
        size_t len = strlen(o->key);
        if (strcmp(o->section, OPTION_NAMESPACE) != 0 || len <= best_len || text.len < len + 2)
            continue;
        size_t at = text.len - len;
        if (text.ptr[at - 1] != '_' || !slice_is(slice_from(text, at), o->key))
            continue;
        best = o;
        best_len = len;
        *name = slice_of(text.ptr, at - 1);
    }
    return best;
}

static bool set_namespace_from_environment(struct draft *d, const char *origin, struct slice rest,
                                           struct slice value)
{
    struct slice name = {0};
    struct assignment a = {.origin = origin, .value = value};
    a.option = split_namespace_key(rest, &name);
    if (a.option == NULL) {
        buf_printf(d->error, "%s: unknown option; [namespace NAME] has ", origin);
        option_append_keys(d->error, slice_str(OPTION_NAMESPACE));
        return false;
    }
    return open_namespace(d, origin, name, &a.namespace_at) && assign(d, &a);
}

static void warn_no_section(struct draft *d, const char *origin)
{
    buf_printf(d->warnings, "%s: ignored, it names no section; there are ", origin);
    append_sections(d->warnings);
    buf_append_str(d->warnings, "\n");
}

/* An option of a section other than [namespace]. */
static bool set_plain(struct draft *d, const char *origin, struct slice section, struct slice key,
                      struct slice value)
{
    const struct assignment a = {.origin = origin,
                                 .option = option_find(section, key),
                                 .namespace_at = NO_NAMESPACE,
                                 .value = value};
    if (a.option != NULL)
        return assign(d, &a);
    char *name = mem_strndup(section.ptr, section.len);
    fail_unknown_key(d, origin, NO_NAMESPACE, name, key);
    free(name);
    return false;
}

static bool starts_with(struct slice s, const char *prefix)
{
    size_t len = strlen(prefix);
    return s.len >= len && memcmp(s.ptr, prefix, len) == 0;
}

/* Kubernetes describes a service named tickcast-redis as TICKCAST_REDIS_SERVICE_HOST,
 * TICKCAST_REDIS_PORT, TICKCAST_REDIS_PORT_6379_TCP and so on: none of our business, and no
 * mistake. An option comes first: a namespace may well be called `port` or `service_desk`. */
static bool is_service_variable(struct slice section, struct slice key)
{
    struct slice ignored;
    bool is_namespace = slice_is(section, OPTION_NAMESPACE);
    if (is_namespace ? split_namespace_key(key, &ignored) != NULL
                     : option_find(section, key) != NULL)
        return false;
    return slice_is(key, "port") || starts_with(key, "port_") || starts_with(key, "service_");
}

/* `lower` is what follows TICKCAST_, in lower case. */
static bool set_from_environment(struct draft *d, const char *origin, struct slice lower,
                                 struct slice value)
{
    struct slice section = slice_of(lower.ptr, find(lower, '_'));
    if (section.len == lower.len || !option_section_is_known(section)) {
        warn_no_section(d, origin);
        return true;
    }
    struct slice key = slice_from(lower, section.len + 1);
    if (is_service_variable(section, key)) {
        buf_printf(d->warnings, "%s: ignored, it describes a service, not an option\n", origin);
        return true;
    }
    if (slice_is(section, OPTION_NAMESPACE))
        return set_namespace_from_environment(d, origin, key, value);
    return set_plain(d, origin, section, key, value);
}

static bool load_variable(struct draft *d, struct slice name, struct slice value)
{
    struct buf origin = {0};
    buf_append_str(&origin, "environment ");
    option_append_shown(&origin, name);
    buf_append(&origin, "", 1);
    struct slice rest = slice_from(name, strlen(ENVIRONMENT_PREFIX));
    char *lower = mem_strndup(rest.ptr, rest.len);
    for (size_t i = 0; i < rest.len; i++) {
        if (lower[i] >= 'A' && lower[i] <= 'Z')
            lower[i] = (char)(lower[i] - 'A' + 'a');
    }
    bool loaded = set_from_environment(d, origin.data, slice_of(lower, rest.len), value);
    free(lower);
    buf_fini(&origin);
    return loaded;
}

static bool load_environment(struct draft *d, char **environment)
{
    size_t prefix = strlen(ENVIRONMENT_PREFIX);
    for (; environment != NULL && *environment != NULL; environment++) {
        struct slice text = slice_str(*environment);
        size_t equals = find(text, '=');
        if (equals == text.len || equals < prefix ||
            memcmp(text.ptr, ENVIRONMENT_PREFIX, prefix) != 0)
            continue;
        if (!load_variable(d, slice_of(text.ptr, equals),
                           config_file_trim(slice_from(text, equals + 1))))
            return false;
    }
    return true;
}

/* --- --set ---------------------------------------------------------------------------------- */

/* The argument as it was given, but for the value of a secret. Returns owned. */
static char *set_origin(struct slice argument, bool is_secret)
{
    struct buf origin = {0};
    buf_append_str(&origin, "--set ");
    if (is_secret)
        argument.len = find(argument, '=');
    option_append_shown(&origin, argument);
    buf_append(&origin, "", 1);
    return origin.data;
}

static bool fail_set_form(struct draft *d, const char *origin)
{
    buf_printf(d->error, "%s: is not section.key=value or namespace.NAME.key=value", origin);
    return false;
}

/* `namespace.NAME.key`, of which rest is `NAME.key`; a name may hold dots, a key does not. */
static bool set_namespace(struct draft *d, const char *origin, struct slice rest,
                          struct slice value)
{
    size_t dot = rest.len;
    while (dot > 0 && rest.ptr[dot - 1] != '.')
        dot--;
    if (dot == 0)
        return fail_set_form(d, origin);
    struct slice key = slice_from(rest, dot);
    struct assignment a = {.origin = origin, .value = value};
    if (!open_namespace(d, origin, slice_of(rest.ptr, dot - 1), &a.namespace_at))
        return false;
    a.option = option_find(slice_str(OPTION_NAMESPACE), key);
    if (a.option == NULL)
        return fail_unknown_key(d, origin, a.namespace_at, OPTION_NAMESPACE, key);
    return assign(d, &a);
}

static bool set_option(struct draft *d, const char *origin, struct slice section, struct slice key,
                       struct slice value)
{
    if (!option_section_is_known(section))
        return fail_unknown_section(d, origin, section);
    if (slice_is(section, OPTION_NAMESPACE))
        return set_namespace(d, origin, key, value);
    return set_plain(d, origin, section, key, value);
}

static bool load_set(struct draft *d, const char *argument)
{
    struct slice text = slice_str(argument);
    size_t equals = find(text, '=');
    struct slice name = config_file_trim(slice_of(text.ptr, equals));
    size_t dot = find(name, '.');
    bool is_whole = equals != text.len && dot != name.len;
    struct slice section = slice_of(name.ptr, dot);
    struct slice key = is_whole ? slice_from(name, dot + 1) : slice_of("", 0);
    const struct option *option = option_find(section, key);
    bool is_secret = option != NULL && (option->flags & OPTION_SECRET) != 0;
    char *origin = set_origin(text, is_secret);
    bool loaded = is_whole ? set_option(d, origin, section, key,
                                        config_file_trim(slice_from(text, equals + 1)))
                           : fail_set_form(d, origin);
    free(origin);
    return loaded;
}

static bool load_sets(struct draft *d, const char *const *sets)
{
    for (; sets != NULL && *sets != NULL; sets++) {
        if (!load_set(d, *sets))
            return false;
    }
    return true;
}

/* --- what depends on several options -------------------------------------------------------- */

static const struct given *given_of(const struct draft *d, const char *section, const char *key,
                                    size_t namespace_at)
{
    return draft_given(d, namespace_at, option_find(slice_str(section), slice_str(key)));
}

static void finish_namespaces(struct draft *d)
{
    for (size_t i = 0; i < d->config->namespace_count; i++) {
        struct config_namespace *ns = &d->config->namespaces[i];
        const struct given *snapshot = given_of(d, OPTION_NAMESPACE, "snapshot", i);
        if (snapshot->origin == NULL || snapshot->is_auto)
            ns->snapshot = ns->mode == MODE_LATEST;
        ns->allow_latest = ns->allow_latest || ns->mode == MODE_LATEST;
        ns->allow_all = ns->allow_all || ns->mode == MODE_ALL;
    }
}

static bool finish_limits(struct draft *d)
{
    struct config *c = d->config;
    const char *origin = given_of(d, "limits", "soft_bytes", NO_NAMESPACE)->origin;
    if (c->limits.soft_bytes <= c->limits.hard_bytes)
        return true;
    if (origin == NULL) {
        c->limits.soft_bytes = c->limits.hard_bytes;
        return true;
    }
    buf_printf(d->error, "%s: limits.soft_bytes: %lld is more than limits.hard_bytes, %lld", origin,
               (long long)c->limits.soft_bytes, (long long)c->limits.hard_bytes);
    return false;
}

static void warn_unbuilt_of(struct draft *d, size_t namespace_at)
{
    for (const struct option *o = option_table; o < option_table + option_count; o++) {
        const struct given *given = draft_given(d, namespace_at, o);
        if (given->origin == NULL || (o->flags & OPTION_UNBUILT) == 0)
            continue;
        buf_printf(d->warnings, "%s: ", given->origin);
        append_label(d->warnings, d, namespace_at, o->section, slice_str(o->key));
        buf_append_str(d->warnings, ": is not built yet and has no effect\n");
    }
}

static void warn_unbuilt(struct draft *d)
{
    warn_unbuilt_of(d, NO_NAMESPACE);
    for (size_t i = 0; i < d->config->namespace_count; i++)
        warn_unbuilt_of(d, i);
}

/* A node whose clients hold every descriptor gets none to dial Redis again. */
static void warn_descriptors(struct draft *d)
{
    const struct option *o = option_find(slice_str("listen"), slice_str("max_connections"));
    const char *origin = draft_given(d, NO_NAMESPACE, o)->origin;
    int64_t wanted = d->config->listen.max_connections;
    int64_t most = o->automatic();
    if (origin == NULL || wanted <= most)
        return;
    buf_printf(d->warnings,
               "%s: listen.max_connections: %lld is more than auto, %lld; raise the limit of file "
               "descriptors\n",
               origin, (long long)wanted, (long long)most);
}

/* --- the snapshot --------------------------------------------------------------------------- */

struct config *config_load(const struct config_source *source, struct buf *error,
                           struct buf *warnings)
{
    struct draft d;
    draft_init(&d, error, warnings);
    bool loaded = load_file(&d, source->file);
    if (loaded && d.config->namespace_count == 0)
        add_builtin_namespaces(&d);
    loaded = loaded && load_environment(&d, source->environment) && load_sets(&d, source->sets) &&
             finish_limits(&d);
    if (loaded) {
        finish_namespaces(&d);
        warn_unbuilt(&d);
        warn_descriptors(&d);
    }
    draft_fini(&d);
    if (loaded)
        return d.config;
    config_unref(d.config);
    return NULL;
}

struct config *config_ref(const struct config *c)
{
    struct config *shared = (struct config *)(uintptr_t)c; /* immutable but for the count */
    atomic_fetch_add_explicit(&shared->refs, 1, memory_order_relaxed);
    return shared;
}

void config_unref(struct config *c)
{
    /* Whoever drops the last reference must see all that the others did before they dropped theirs.
     */
    if (c == NULL || atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < c->namespace_count; i++) {
        option_release(&c->namespaces[i], true);
        free(c->namespaces[i].name);
    }
    free(c->namespaces);
    option_release(c, false);
    free(c);
}

const struct config_namespace *config_namespace(const struct config *c, struct slice name)
{
    for (size_t i = 0; i < c->namespace_count; i++) {
        if (slice_is(name, c->namespaces[i].name))
            return &c->namespaces[i];
    }
    return NULL;
}

bool config_namespace_is_stamped(const struct config_namespace *ns)
{
    return ns->snapshot || ns->history > 0;
}
