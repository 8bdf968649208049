/*
 * bus_mirror.c - namespaces that the node receives whole, whoever follows what.
 *
 * Main thread. One PSUBSCRIBE for a namespace instead of a SUBSCRIBE for each of its channels:
 *
 *      link up ──> PSUBSCRIBE tc:quote:* ──> confirmed ──> SCAN {tc:quote:*}
 *                                                          │  each key: a channel, loaded
 *                                                          ▼
 *                  filled: channels that nobody follows, with their last values
 *
 * From then on a channel that is not known has no value, so that interest in one never touches
 * Redis. Channels also appear when messages come. At most limits.mirrored_channels are kept; the
 * others are read from the store when somebody wants them, and forgotten afterwards, but their
 * messages come by the pattern, too: a channel of a mirrored namespace never has a SUBSCRIBE of its
 * own.
 */
#include "domain/bus_mirror.h"

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "domain/stored.h"
#include "protocol/channel.h"
#include "protocol/config_change.h"

#include <stdio.h>
#include <stdlib.h>

#define SCAN_COUNT "500" /* keys looked at per step: less than a millisecond of Redis's time */

/* ARGV: cursor, pattern, SCAN_COUNT, longest name of ours. Anybody may write a key whose name is so
 * long that the link does not take it: such names stay where they are. */
static const char scan_script[] =
    "local step = redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', ARGV[3])\n"
    "local max, keys = tonumber(ARGV[4]), {}\n"
    "for _, key in ipairs(step[2]) do\n"
    "  if #key <= max then keys[#keys + 1] = key end\n"
    "end\n"
    "return {step[1], keys}\n";

struct bus_mirror {
    struct bus *bus;
    const struct config_namespace *ns;
    bool confirmed;      /* on the present link */
    bool is_filled;      /* everything stored was found since */
    bool has_overflowed; /* not all channels are kept */
    bool is_scanning;    /* a step is under way */
    bool is_stale;       /* and what it says counts for nothing any more */
    struct buf pattern;  /* of channels: tc:quote:*, the prefix escaped */
    struct buf keys;     /* of keys: {tc:quote:*} */
    struct buf cursor;
};

static struct bus_mirror *find_mirror(struct bus *b, const struct config_namespace *ns)
{
    for (unsigned i = 0; i < b->mirror_count; i++) {
        if (b->mirrors[i].ns == ns)
            return &b->mirrors[i];
    }
    return NULL;
}

bool bus_mirror_is_filling(const struct bus *b)
{
    for (unsigned i = 0; i < b->mirror_count; i++) {
        if (!b->mirrors[i].is_filled)
            return true;
    }
    return false;
}

/* --- channels ----------------------------------------------------------------------------- */

static bool may_keep(struct bus_mirror *m)
{
    struct bus *b = m->bus;
    if (b->mirrored < (uint64_t)b->setup.config->limits.mirrored_channels)
        return true;
    if (!m->has_overflowed)
        log_warn("mirror_full", LOG_STR("namespace", m->ns->name));
    m->has_overflowed = true;
    return false;
}

static void keep(struct bus *b, struct bus_channel *c)
{
    c->is_mirrored = true;
    metrics_set(b->setup.metrics, METRIC_MIRRORED, ++b->mirrored);
}

bool bus_mirror_keeps(struct bus *b, struct bus_channel *c)
{
    if (!c->ns->mirror || c->epoch_len == 0)
        return false; /* nothing is known of it: names that clients make up are not kept */
    if (!c->is_mirrored && may_keep(find_mirror(b, c->ns)))
        keep(b, c);
    return c->is_mirrored;
}

void bus_mirror_forget(struct bus *b, struct bus_channel *c)
{
    if (c->is_mirrored)
        metrics_set(b->setup.metrics, METRIC_MIRRORED, --b->mirrored);
    c->is_mirrored = false;
}

void bus_mirror_begin(struct bus *b, struct bus_channel *c)
{
    const struct bus_mirror *m = find_mirror(b, c->ns);
    if (!m->confirmed)
        return;
    c->confirmed = true;
    if (m->is_filled && !m->has_overflowed)
        bus_go_live(b, c); /* what is stored would have been found */
    else
        bus_load(b, c);
}

struct bus_channel *bus_mirror_meet(struct bus *b, struct slice name)
{
    if (b->mirror_count == 0 || !channel_is_valid(name))
        return NULL;
    struct bus_mirror *m =
        find_mirror(b, config_namespace(b->setup.config, channel_namespace(name)));
    if (m == NULL || !may_keep(m))
        return NULL;
    struct bus_channel *c = bus_add_channel(b, name);
    keep(b, c);
    bus_mirror_begin(b, c);
    return c;
}

/* --- what is stored ----------------------------------------------------------------------- */

/* `{tc:quote:AAPL}` is a channel's key; its log's goes on behind the brace. */
static void find_key(struct bus_mirror *m, struct slice key)
{
    struct bus *b = m->bus;
    size_t around = b->prefix.len + 2;
    if (key.len <= around || key.ptr[0] != '{' || key.ptr[key.len - 1] != '}' ||
        memcmp(key.ptr + 1, b->prefix.ptr, b->prefix.len) != 0)
        return;
    struct slice name = slice_of(key.ptr + 1 + b->prefix.len, key.len - around);
    if (!channel_is_valid(name) || map_get(&b->channels, map_hash(name), name) != NULL)
        return;
    bus_mirror_meet(b, name);
}

static void set_cursor(struct bus_mirror *m, struct slice cursor)
{
    buf_clear(&m->cursor);
    buf_append(&m->cursor, cursor.ptr, cursor.len);
}

static void finish_scan(struct bus_mirror *m)
{
    m->is_filled = true;
    log_info("mirror_filled", LOG_STR("namespace", m->ns->name),
             LOG_INT("channels", m->bus->mirrored));
    feed_health_check(m->bus->health);
}

static void scan(struct bus_mirror *m);

static void on_scanned(void *arg, const struct redis_reply_view *reply)
{
    struct bus_mirror *m = arg;
    bool is_stale = m->is_stale;
    m->is_scanning = m->is_stale = false;
    if (reply->kind == REDIS_REPLIED_LOST)
        return; /* goes on when the command link is up */
    if (stored_is_refused_for_now(reply)) {
        bus_ask_later(m->bus);
        return;
    }
    if (is_stale) {
        scan(m);
        return;
    }
    bool is_page = reply->kind == REDIS_REPLIED_ARRAY && reply->number == 2 &&
                   reply->elements[0].kind == REDIS_REPLIED_TEXT &&
                   reply->elements[1].kind == REDIS_REPLIED_ARRAY;
    if (!is_page) { /* a server that does not let us: channels are read when they are wanted */
        log_warn("mirror_not_filled", LOG_STR("namespace", m->ns->name),
                 LOG_SLICE("reason", reply->text));
        m->has_overflowed = true;
        finish_scan(m);
        return;
    }
    const struct redis_reply_view *page = &reply->elements[1];
    for (long long i = 0; i < page->number; i++) {
        if (page->elements[i].kind == REDIS_REPLIED_TEXT)
            find_key(m, page->elements[i].text);
    }
    set_cursor(m, reply->elements[0].text);
    if (slice_is(reply->elements[0].text, "0"))
        finish_scan(m);
    else
        scan(m);
}

static void scan(struct bus_mirror *m)
{
    struct bus *b = m->bus;
    if (!m->confirmed || m->is_filled || m->is_scanning || !redis_link_is_up(b->command))
        return;
    char max[24];
    snprintf(max, sizeof max, "%zu", b->prefix.len + CHANNEL_BYTES_MAX + 2);
    const struct slice args[] = {
        slice_str("EVAL"),   slice_str(scan_script), slice_str("0"), buf_slice(&m->cursor),
        buf_slice(&m->keys), slice_str(SCAN_COUNT),  slice_str(max)};
    m->is_scanning = true;
    redis_link_command(b->command, args, 7, on_scanned, m);
}

void bus_mirror_go_on(struct bus *b)
{
    for (unsigned i = 0; i < b->mirror_count; i++)
        scan(&b->mirrors[i]);
}

void bus_mirror_command_up(struct bus *b)
{
    for (unsigned i = 0; i < b->mirror_count; i++) {
        if (!b->mirrors[i].is_filled)
            set_cursor(&b->mirrors[i], slice_str("0")); /* it may be another server */
    }
    bus_mirror_go_on(b);
}

/* --- the pattern -------------------------------------------------------------------------- */

void bus_mirror_up(struct bus *b)
{
    for (unsigned i = 0; i < b->mirror_count; i++) {
        struct bus_mirror *m = &b->mirrors[i];
        m->confirmed = m->is_filled = false;
        redis_link_psubscribe(b->subscriber, buf_slice(&m->pattern));
    }
}

static void on_confirmed(struct bus_mirror *m)
{
    struct bus *b = m->bus;
    size_t it = 0;
    struct bus_channel *c;
    m->confirmed = true;
    m->is_filled = m->has_overflowed = false;
    while ((c = map_next(&b->channels, &it)) != NULL) {
        if (c->ns != m->ns || c->confirmed)
            continue;
        c->confirmed = true;
        bus_load(b, c);
    }
    if (!m->ns->snapshot && m->ns->history == 0) {
        finish_scan(m); /* nothing is stored */
        return;
    }
    m->is_stale = m->is_scanning;
    set_cursor(m, slice_str("0"));
    scan(m);
}

bool bus_mirror_on_subscribed(struct bus *b, struct slice pattern)
{
    for (unsigned i = 0; i < b->mirror_count; i++) {
        struct bus_mirror *m = &b->mirrors[i];
        if (!slice_equal(pattern, buf_slice(&m->pattern)))
            continue;
        if (!m->confirmed)
            on_confirmed(m);
        return true;
    }
    return false;
}

/* --- life --------------------------------------------------------------------------------- */

static void append_escaped(struct buf *out, struct slice text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (strchr("*?[]\\^-", text.ptr[i]) != NULL)
            buf_append_str(out, "\\");
        buf_append(out, &text.ptr[i], 1);
    }
}

static void mirror_init(struct bus_mirror *m, struct bus *b, const struct config_namespace *ns)
{
    m->bus = b;
    m->ns = ns;
    append_escaped(&m->pattern, b->prefix);
    append_escaped(&m->pattern, slice_str(ns->name));
    buf_append_str(&m->pattern, ":*");
    buf_append_str(&m->keys, "{");
    buf_append(&m->keys, m->pattern.data, m->pattern.len);
    buf_append_str(&m->keys, "}");
    set_cursor(m, slice_str("0"));
}

void bus_mirror_init(struct bus *b)
{
    const struct config *config = b->setup.config;
    b->mirrors = mem_zalloc((config->namespace_count + 1) * sizeof *b->mirrors);
    for (size_t i = 0; i < config->namespace_count; i++) {
        if (config->namespaces[i].mirror)
            mirror_init(&b->mirrors[b->mirror_count++], b, &config->namespaces[i]);
    }
}

void bus_mirror_set_config(struct bus *b, const struct config *before)
{
    for (unsigned i = 0; i < b->mirror_count; i++) {
        struct bus_mirror *m = &b->mirrors[i];
        bool was_stored = config_namespace_is_stamped(m->ns);
        m->ns = config_successor(b->setup.config, before, m->ns);
        /* Nobody looked for what may be stored: it is read when it is wanted. */
        if (!was_stored && config_namespace_is_stamped(m->ns))
            m->has_overflowed = true;
    }
}

void bus_mirror_fini(struct bus *b)
{
    for (unsigned i = 0; i < b->mirror_count; i++) {
        buf_fini(&b->mirrors[i].pattern);
        buf_fini(&b->mirrors[i].keys);
        buf_fini(&b->mirrors[i].cursor);
    }
    free(b->mirrors);
}
