/*
 * bus.c - from Redis messages to publications, and from hubs' interest to SUBSCRIBE.
 *
 * Main thread. An entry per followed channel:
 *
 *      (none) ──first interest──> asked ──Redis confirmed──> reading ──what is stored──> live
 *                                   ^                                                   │ │
 *                                   └──────────────── the link was lost ────────────────┘ │
 *      (none) <──UNSUBSCRIBE, after linger_ms── lingering <────────last worker left───────┘
 *
 * What makes a publication of a message is in bus_intake.c, what is kept in Redis in bus_stored.c,
 * the canary in feed_health.c.
 */
#include "domain/bus_mirror.h"
#include "domain/bus_priv.h"

#include "base/log.h"
#include "base/mem.h"
#include "protocol/channel.h"
#include "protocol/config_change.h"
#include "protocol/session_state.h"
#include "protocol/stamp.h"

#include <stdio.h>
#include <stdlib.h>

#define LINGER_TICK_MS 100
#define LINGER_SLOTS   256

/* --- Redis names --------------------------------------------------------------------------- */

/* Writes prefix and channel name into out and returns it as a slice. */
static struct slice redis_name(const struct bus *b, struct slice channel, char *out)
{
    memcpy(out, b->prefix.ptr, b->prefix.len);
    memcpy(out + b->prefix.len, channel.ptr, channel.len);
    return slice_of(out, b->prefix.len + channel.len);
}

#define REDIS_NAME_MAX 256 /* prefix (64) and channel (128) */

static void redis_subscribe(struct bus *b, const struct bus_channel *c)
{
    char name[REDIS_NAME_MAX];
    redis_link_subscribe(b->subscriber, redis_name(b, bus_channel_name(c), name));
}

static void redis_unsubscribe(struct bus *b, const struct bus_channel *c)
{
    char name[REDIS_NAME_MAX];
    redis_link_unsubscribe(b->subscriber, redis_name(b, bus_channel_name(c), name));
}

/* --- channels ------------------------------------------------------------------------------ */

struct bus_channel *bus_add_channel(struct bus *b, struct slice name)
{
    struct bus_channel *c = mem_zalloc(sizeof *c + name.len);
    c->hash = map_hash(name);
    c->ns = config_namespace(b->setup.config, channel_namespace(name));
    c->name_len = (uint8_t)name.len;
    memcpy(c->name, name.ptr, name.len);
    wheel_timer_init(&c->linger);
    wheel_timer_init(&c->expiry);
    list_init(&c->held);
    list_init(&c->recoveries);
    map_put(&b->channels, c->hash, bus_channel_name(c), c);
    b->unconfirmed++;
    if (c->ns->mirror)
        return c; /* the namespace's pattern brings it */
    metrics_add(b->setup.metrics, METRIC_REDIS_CHANNELS, 1);
    redis_subscribe(b, c);
    return c;
}

static void remove_channel(struct bus *b, struct bus_channel *c)
{
    if (!c->live)
        b->unconfirmed--;
    bus_forget_stored(b, c);
    bus_forget_recoveries(c);
    wheel_cancel(&b->lingering, &c->linger);
    map_del(&b->channels, c->hash, bus_channel_name(c));
    bus_mirror_forget(b, c);
    if (!c->ns->mirror)
        metrics_add(b->setup.metrics, METRIC_REDIS_CHANNELS, (uint64_t)-1);
    if (c->last != NULL)
        publication_unref(c->last);
    free(c);
}

static void tell_live(struct bus *b, struct bus_channel *c, uint64_t workers)
{
    struct position base = {.seq = c->seq, .ts_ms = c->ts_ms};
    bool is_current = !c->has_hole && !bus_is_unknown(c);
    if (c->is_stamped && c->last == NULL) {
        base.epoch_len = c->epoch_len;
        memcpy(base.epoch, c->epoch, c->epoch_len);
    }
    for (unsigned i = 0; i < b->hub_count; i++) {
        if (workers >> i & 1)
            hub_post_live(b->hubs[i], bus_channel_name(c), c->last, &base, is_current);
    }
}

void bus_go_live(struct bus *b, struct bus_channel *c)
{
    if (!c->live)
        b->unconfirmed--;
    c->live = true;
    for (unsigned i = 0; i < b->hub_count; i++)
        bus_post_batch(b, i); /* what was healed comes before the news that it was */
    tell_live(b, c, c->workers);
    bus_serve_recoveries(b, c);
    feed_health_check(b->health);
}

/* Its confirmation is under way, and would be taken for that of the next SUBSCRIBE. */
static bool is_asked(const struct bus *b, const struct bus_channel *c)
{
    return !c->ns->mirror && !c->confirmed && redis_link_is_up(b->subscriber);
}

static void on_linger_over(struct wheel_timer *t, void *arg)
{
    struct bus *b = arg;
    struct bus_channel *c = list_entry(t, struct bus_channel, linger);
    if (bus_mirror_keeps(b, c))
        return; /* it has got a value meanwhile */
    if (is_asked(b, c)) {
        bus_let_go(b, c);
        return;
    }
    if (!c->ns->mirror)
        redis_unsubscribe(b, c);
    remove_channel(b, c);
}

static void on_linger_tick(void *arg)
{
    struct bus *b = arg;
    wheel_advance(&b->lingering, loop_now_ms(b->setup.loop), on_linger_over, b);
    if (b->lingering.count == 0)
        loop_timer_cancel(b->linger_timer);
}

void bus_let_go(struct bus *b, struct bus_channel *c)
{
    if (c->workers != 0 || bus_mirror_keeps(b, c))
        return;
    uint64_t linger_ms = (uint64_t)b->setup.config->redis.linger_ms;
    if (b->lingering.count == 0)
        loop_timer_repeat(b->linger_timer, LINGER_TICK_MS);
    wheel_set(&b->lingering, &c->linger, loop_now_ms(b->setup.loop) + linger_ms);
}

struct interest_message {
    struct message message;
    struct bus *bus;
    unsigned worker;
    bool wanted;
    uint8_t name_len;
    char name[];
};

static void run_interest(struct message *m)
{
    struct interest_message *im = (struct interest_message *)m;
    struct bus *b = im->bus;
    struct slice name = slice_of(im->name, im->name_len);
    struct bus_channel *c = map_get(&b->channels, map_hash(name), name);
    uint64_t bit = (uint64_t)1 << im->worker;
    if (im->wanted) {
        bool is_new = c == NULL;
        if (is_new)
            c = bus_add_channel(b, name);
        if (is_new && c->ns->mirror)
            bus_mirror_begin(b, c);
        wheel_cancel(&b->lingering, &c->linger);
        b->followed += c->workers == 0;
        c->workers |= bit;
        if (c->live) {
            bus_post_batch(b, im->worker);
            tell_live(b, c, bit);
        }
    } else if (c != NULL) {
        b->followed -= c->workers == bit;
        c->workers &= ~bit;
        bus_let_go(b, c);
    }
    free(im);
}

/* From a hub, in its thread. */
static void post_interest(void *arg, unsigned worker, struct slice channel, bool wanted)
{
    struct bus *b = arg;
    struct interest_message *m = mem_zalloc(sizeof *m + channel.len);
    m->message.run = run_interest;
    m->bus = b;
    m->worker = worker;
    m->wanted = wanted;
    m->name_len = (uint8_t)channel.len;
    memcpy(m->name, channel.ptr, channel.len);
    loop_post(b->setup.loop, &m->message);
}

/* --- the subscriber link ------------------------------------------------------------------- */

/* What is known by now was published before anything is subscribed to on the new link: to hear it
 * there means that the numbers went back. Not so for messages that the old one brought and that are
 * still kept back, which a log may have been read past. */
static uint64_t newest_before_link(const struct bus_channel *c)
{
    return list_is_empty(&c->held) ? c->seq : 0;
}

static void on_subscriber_up(void *arg)
{
    struct bus *b = arg;
    log_info("redis_up", LOG_STR("link", "subscriber"));
    metrics_set(b->setup.metrics, METRIC_REDIS_UP_SUB, 1);
    metrics_add(b->setup.metrics, METRIC_REDIS_CONNECTS_SUB, 1);
    bus_subscriber_link_up(b);
    redis_link_subscribe(b->subscriber, slice_str(b->admin_channel));
    bus_trace_up(b);
    b->unconfirmed = b->channels.count;
    b->has_answered = false;
    size_t it = 0;
    struct bus_channel *c;
    while ((c = map_next(&b->channels, &it)) != NULL) {
        c->live = c->confirmed = false;
        c->coming_seq = 0;
        if (bus_is_stored(c))
            c->live_seq = newest_before_link(c);
        c->has_hole = c->has_hole || b->has_lost;
        bus_hole_behind_held(c);
        if (!c->ns->mirror)
            redis_subscribe(b, c);
    }
    bus_mirror_up(b);
    b->has_lost = true;
    /* Last, so that a canary that returns has everything confirmed before it. */
    feed_health_on_up(b->health);
}

static void on_link_lost(struct bus *b, const char *link, enum metric up, const char *reason)
{
    log_warn("redis_down", LOG_STR("link", link), LOG_STR("reason", reason));
    metrics_set(b->setup.metrics, up, 0);
    metrics_add(b->setup.metrics, METRIC_REDIS_ERRORS, 1);
}

static void on_subscriber_down(void *arg, const char *reason)
{
    struct bus *b = arg;
    on_link_lost(b, "subscriber", METRIC_REDIS_UP_SUB, reason);
    feed_health_on_down(b->health);
}

static void on_subscriber_dial_failed(void *arg, const char *reason)
{
    struct bus *b = arg;
    metrics_add(b->setup.metrics, METRIC_REDIS_ERRORS, 1);
    feed_health_on_dial_failed(b->health, "subscriber", reason);
}

static struct slice without_prefix(const struct bus *b, struct slice name)
{
    if (name.len < b->prefix.len || memcmp(name.ptr, b->prefix.ptr, b->prefix.len) != 0)
        return (struct slice){0};
    return slice_of(name.ptr + b->prefix.len, name.len - b->prefix.len);
}

static void on_subscribed(void *arg, struct slice name)
{
    struct bus *b = arg;
    struct slice channel = without_prefix(b, name);
    struct bus_channel *c = map_get(&b->channels, map_hash(channel), channel);
    if (bus_mirror_on_subscribed(b, name))
        return;
    if (c == NULL)
        feed_health_on_subscribed(b->health, channel);
    if (c == NULL || c->confirmed)
        return;
    c->confirmed = true;
    bus_load(b, c);
}

void bus_hand_out(struct bus *b, struct bus_channel *c, struct publication *p)
{
    bus_record_recent(c, p);
    for (unsigned i = 0; i < b->hub_count; i++) {
        if (!(c->workers >> i & 1))
            continue;
        struct bus_batch *batch = &b->batches[i];
        if (batch->count == batch->cap) {
            batch->cap = batch->cap != 0 ? batch->cap * 2 : 16;
            batch->list = mem_realloc(batch->list, batch->cap * sizeof(struct publication *));
        }
        batch->list[batch->count++] = publication_ref(p);
    }
    publication_unref(p);
}

void bus_post_batch(struct bus *b, unsigned worker)
{
    struct bus_batch *batch = &b->batches[worker];
    if (batch->count == 0)
        return;
    hub_post_publications(b->hubs[worker], batch->list, batch->count);
    *batch = (struct bus_batch){0};
}

void bus_post_batches(struct bus *b)
{
    for (unsigned i = 0; i < b->hub_count; i++)
        bus_post_batch(b, i);
}

bool bus_take_now(struct bus *b, struct bus_channel *c, struct slice payload)
{
    struct publication *p;
    switch (bus_intake_take(&b->intake, c, payload, &p)) {
    case INTAKE_TAKEN:
        bus_expiry_on_message(b, c);
        bus_hand_out(b, c, p);
        return true;
    case INTAKE_REGRESSED: bus_on_regressed(b, c, payload); break;
    case INTAKE_DROPPED: break;
    }
    return false;
}

bool bus_take_message(struct bus *b, struct bus_channel *c, struct slice payload)
{
    if (bus_hold(b, c, payload))
        return false;
    bus_release_held(b, c); /* where holding has just ended, what was kept back goes first */
    return bus_take_now(b, c, payload);
}

static void on_oversize(void *arg, struct slice name, uint64_t bytes)
{
    struct bus *b = arg;
    metrics_add(b->setup.metrics, METRIC_DROPPED_LARGE, 1);
    bus_trace_forget(b);
    log_often(LOG_FAULTS, LOG_WARN, "publication_too_large", LOG_SLICE("channel", name),
              LOG_INT("bytes", bytes));
}

/* The link lets a stamp pass on top of the largest payload. */
static bool is_oversize(const struct bus *b, struct slice message)
{
    size_t limit = (size_t)b->setup.config->limits.payload_bytes;
    struct stamp stamp;
    if (message.len <= limit)
        return false;
    return stamp_parse(message, &stamp) != STAMP_OK || stamp.payload.len > limit;
}

/* What nodes and operators say is no publication, and not bounded as one. */
static bool take_own(struct bus *b, struct slice name, struct slice channel, struct slice payload)
{
    if (bus_trace_hear(b, channel, payload))
        return true;
    bool is_admin = slice_equal(name, slice_str(b->admin_channel));
    if (is_admin)
        b->setup.on_admin(b->setup.on_admin_arg, payload);
    else if (!feed_health_on_message(b->health, channel, payload))
        return false;
    bus_trace_forget(b);
    return true;
}

static void on_message(void *arg, struct slice name, struct slice payload)
{
    struct bus *b = arg;
    struct slice channel = without_prefix(b, name);
    struct bus_channel *c = map_get(&b->channels, map_hash(channel), channel);
    if (c == NULL && take_own(b, name, channel, payload))
        return;
    if (is_oversize(b, payload)) {
        on_oversize(b, name, payload.len);
        return;
    }
    if (c == NULL)
        c = bus_mirror_meet(b, channel);
    if (c != NULL && !c->confirmed)
        c = NULL; /* it comes by a subscription that is over: others may have followed it since */
    if (c != NULL) {
        bool taken = bus_take_message(b, c, payload);
        if (b->trace.is_heard || log_is_on(LOG_DEBUG))
            bus_trace_message(b, c, payload, taken);
        return;
    }
    bus_trace_forget(b);
    metrics_add(b->setup.metrics, METRIC_DROPPED_CHANNEL, 1);
}

static void on_error_reply(void *arg, struct slice text)
{
    struct bus *b = arg;
    metrics_add(b->setup.metrics, METRIC_REDIS_ERRORS, 1);
    log_often(LOG_FAULTS, LOG_WARN, "redis_error", LOG_SLICE("reason", text));
}

/* A SUBSCRIBE was refused, and one refused name costs its whole batch: what is followed is not
 * known any more. Redialling makes the feed suspect, so that nobody waits for an ack in vain. */
static void on_subscribe_refused(void *arg, struct slice text)
{
    struct bus *b = arg;
    on_error_reply(b, text);
    redis_link_reset(b->subscriber, "a subscribe was refused");
}

/* Everything of one read is handed over at once. */
static void on_read_end(void *arg)
{
    struct bus *b = arg;
    bus_post_batches(b);
    bus_trace_post(b);
    feed_health_on_read(b->health);
}

/* --- the command link ---------------------------------------------------------------------- */

static void on_command_up(void *arg)
{
    struct bus *b = arg;
    log_info("redis_up", LOG_STR("link", "command"));
    metrics_set(b->setup.metrics, METRIC_REDIS_UP_CMD, 1);
    metrics_add(b->setup.metrics, METRIC_REDIS_CONNECTS_CMD, 1);
    feed_health_send(b->health);
    bus_command_link_up(b);
    bus_mirror_command_up(b);
}

/* What was read from the store goes out at once, too. */
static void on_command_read_end(void *arg)
{
    struct bus *b = arg;
    bus_post_batches(b);
    feed_health_on_answers(b->health);
}

static void on_command_down(void *arg, const char *reason)
{
    struct bus *b = arg;
    on_link_lost(b, "command", METRIC_REDIS_UP_CMD, reason);
    bus_command_link_down(b);
}

static void on_command_dial_failed(void *arg, const char *reason)
{
    struct bus *b = arg;
    metrics_add(b->setup.metrics, METRIC_REDIS_ERRORS, 1);
    feed_health_on_dial_failed(b->health, "command", reason);
}

/* --- health -------------------------------------------------------------------------------- */

static void on_feed(void *arg, const char *reason)
{
    struct bus *b = arg;
    /* Release and acquire are not needed for static text, but cost nothing here. */
    atomic_store(&b->reason, reason);
    metrics_set(b->setup.metrics, METRIC_FEED_OK, reason == NULL);
    if (reason == NULL) {
        log_info("feed_ok");
    } else {
        log_warn("feed_suspect", LOG_STR("reason", reason));
        metrics_add(b->setup.metrics, METRIC_FEED_SUSPECTS, 1);
    }
    for (unsigned i = 0; i < b->hub_count; i++)
        hub_post_feed(b->hubs[i], reason == NULL, reason);
    if (b->setup.on_feed != NULL)
        b->setup.on_feed(b->setup.on_feed_arg);
}

static bool has_unconfirmed(void *arg)
{
    const struct bus *b = arg;
    return b->unconfirmed > 0 || bus_mirror_is_filling(b);
}

const char *bus_readiness(const struct bus *b)
{
    return atomic_load(&b->reason);
}

static const char *readiness(const void *arg)
{
    return bus_readiness(arg);
}

struct hub_upstream bus_upstream(struct bus *b)
{
    return (struct hub_upstream){.interest = post_interest,
                                 .recover = bus_post_recover,
                                 .publish = bus_post_publish,
                                 .readiness = readiness,
                                 .arg = b};
}

uint64_t bus_followed(const struct bus *b)
{
    return b->followed;
}

struct redis_link *bus_command_link(struct bus *b)
{
    return b->command;
}

void bus_take_stock(struct bus *b)
{
    struct metrics *m = b->setup.metrics;
    struct redis_link_traffic sub = redis_link_traffic(b->subscriber);
    struct redis_link_traffic cmd = redis_link_traffic(b->command);
    metrics_set(m, METRIC_REDIS_IN_SUB, sub.received_bytes);
    metrics_set(m, METRIC_REDIS_IN_CMD, cmd.received_bytes);
    metrics_set(m, METRIC_REDIS_OUT_SUB, sub.sent_bytes);
    metrics_set(m, METRIC_REDIS_OUT_CMD, cmd.sent_bytes);
    metrics_set(m, METRIC_REDIS_UNSENT, sub.unsent_bytes + cmd.unsent_bytes);
    metrics_set(m, METRIC_UNCONFIRMED, b->unconfirmed);
    metrics_set(m, METRIC_HELD_BYTES, b->held_bytes);
    metrics_set(m, METRIC_READS_WAITING,
                list_count(&b->reads) + list_count(&b->refused) + b->reads_in_flight);
}

/* --- life ---------------------------------------------------------------------------------- */

static const struct redis_link_ops subscriber_ops = {
    .on_up = on_subscriber_up,
    .on_down = on_subscriber_down,
    .on_dial_failed = on_subscriber_dial_failed,
    .on_message = on_message,
    .on_oversize = on_oversize,
    .on_subscribed = on_subscribed,
    .on_error = on_subscribe_refused,
    .on_read_end = on_read_end,
};

static const struct redis_link_ops command_ops = {
    .on_up = on_command_up,
    .on_down = on_command_down,
    .on_dial_failed = on_command_dial_failed,
    .on_error = on_error_reply,
    .on_read_end = on_command_read_end,
};

struct bus *bus_new(const struct bus_setup *setup)
{
    struct bus *b = mem_zalloc(sizeof *b);
    b->setup = *setup;
    b->prefix = slice_str(setup->config->redis.prefix);
    bus_intake_init(&b->intake, setup->metrics);
    wheel_init(&b->lingering, LINGER_TICK_MS, LINGER_SLOTS, loop_now_ms(setup->loop));
    b->linger_timer = loop_timer_new(setup->loop, on_linger_tick, b);
    bus_stored_init(b);
    bus_mirror_init(b);
    list_init(&b->trace.pending);
    snprintf(b->admin_channel, sizeof b->admin_channel, "%sadmin", setup->config->redis.prefix);
    atomic_init(&b->reason, "starting");
    return b;
}

void bus_set_hubs(struct bus *b, struct hub **hubs, unsigned count)
{
    b->hubs = mem_dup(hubs, count * sizeof(struct hub *));
    b->hub_count = count;
}

void bus_forget_hubs(struct bus *b)
{
    b->hub_count = 0;
}

/* What the links let through. More than a publication may hold comes over both: sessions and names,
 * canaries, notes of traces, and admin commands. */
static size_t reply_limit(const struct config *config)
{
    size_t bytes = (size_t)config->limits.payload_bytes;
    return bytes > SESSION_STATE_BYTES_MAX ? bytes : SESSION_STATE_BYTES_MAX;
}

static size_t message_limit(const struct config *config)
{
    size_t bytes = (size_t)config->limits.payload_bytes + STAMP_BYTES_MAX;
    return bytes > BUS_COMMAND_BYTES_MAX ? bytes : BUS_COMMAND_BYTES_MAX;
}

void bus_start(struct bus *b)
{
    const struct config *config = b->setup.config;
    struct redis_link_config link = {.payload_bytes = reply_limit(config)};
    const char *why;
    if (!redis_url_parse(config->redis.url, &link.url, &why))
        abort(); /* the configuration was checked when it was loaded */
    b->reply_bytes = link.payload_bytes;
    struct event_base *base = loop_base(b->setup.loop);
    b->command = redis_link_new(base, b->setup.dns, &link, &command_ops, b);
    link.is_subscriber = true;
    link.payload_bytes = message_limit(config);
    b->subscriber = redis_link_new(base, b->setup.dns, &link, &subscriber_ops, b);
    const struct feed_health_setup health = {
        .loop = b->setup.loop,
        .prefix = config->redis.prefix,
        .node_id = b->setup.node_id,
        .period_ms = (uint64_t)config->redis.canary_ms,
        .metrics = b->setup.metrics,
        .subscriber = b->subscriber,
        .command = b->command,
        .has_unconfirmed = has_unconfirmed,
        .on_change = on_feed,
        .arg = b,
    };
    b->health = feed_health_new(&health);
}

/* A reply that is on its way was asked for under the limit before, and one that is over the link's
 * limit ends the link: that of the command link only rises. */
static void set_link_limits(struct bus *b, const struct config *next)
{
    size_t bytes = reply_limit(next);
    if (b->subscriber != NULL)
        redis_link_set_payload_bytes(b->subscriber, message_limit(next));
    b->reply_bytes = bytes > b->reply_bytes ? bytes : b->reply_bytes;
    if (b->command != NULL)
        redis_link_set_payload_bytes(b->command, b->reply_bytes);
}

/* What is kept in Redis from now on may lie there already. Where something was published that the
 * node numbered itself, followers have newer than that: it stays as it is. */
static void take_namespace(struct bus *b, struct bus_channel *c, const struct config_namespace *ns)
{
    bool was_stored = bus_is_stored(c);
    c->ns = ns;
    if (!was_stored && bus_is_stored(c) && c->live && c->read == NULL && c->epoch_len == 0)
        bus_load(b, c);
}

void bus_set_config(struct bus *b, const struct config *next)
{
    const struct config *before = b->setup.config;
    size_t it = 0;
    struct bus_channel *c;
    b->setup.config = next;
    bus_mirror_set_config(b, before);
    while ((c = map_next(&b->channels, &it)) != NULL)
        take_namespace(b, c, config_successor(next, before, c->ns));
    set_link_limits(b, next);
}

void bus_hang_up(struct bus *b)
{
    if (b->health != NULL)
        feed_health_free(b->health);
    if (b->subscriber != NULL)
        redis_link_free(b->subscriber);
    if (b->command != NULL)
        redis_link_free(b->command);
    b->health = NULL;
    b->subscriber = b->command = NULL;
}

void bus_free(struct bus *b)
{
    bus_hang_up(b);
    size_t it = 0;
    struct bus_channel *c;
    while ((c = map_next(&b->channels, &it)) != NULL)
        remove_channel(b, c);
    for (unsigned i = 0; i < BUS_WORKERS_MAX; i++) {
        for (uint32_t j = 0; j < b->batches[i].count; j++)
            publication_unref(b->batches[i].list[j]);
        free(b->batches[i].list);
    }
    loop_timer_free(b->linger_timer);
    wheel_fini(&b->lingering);
    bus_stored_fini(b);
    bus_mirror_fini(b);
    bus_trace_fini(b);
    map_fini(&b->channels);
    free(b->hubs);
    free(b);
}
