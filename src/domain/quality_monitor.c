/*
 * quality_monitor.c - the tick, the news, and the arrivals.
 *
 * Runs in the main thread. Workers' counters are read without asking them, so a tick costs nobody
 * anything; two counters need not be of the same instant, which the next tick mends.
 */
#include "domain/quality_monitor.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "domain/quality.h"
#include "domain/reconnects.h"
#include "protocol/channel.h"
#include "protocol/json_text.h"

#include <stdlib.h>
#include <string.h>

#define TICK_MOST_MS  500
#define TICK_LEAST_MS 50   /* of a test's short windows */
#define TELL_AGAIN_MS 5000 /* after Redis refused, or its answer was lost */
#define ALERT_CHANNEL "alert:node"
#define NS_PER_US     1000

/* What the channel knows of one alert. */
struct news {
    struct quality_monitor *monitor;
    bool told;    /* raised, as far as the channel knows */
    bool telling; /* what is on its way, while is_under_way */
    bool is_under_way;
    uint64_t since_ms; /* Unix time of the last change */
    uint64_t value;    /* at that time */
    uint64_t again_ms; /* not before; monotonic */
};

struct quality_monitor {
    struct quality_monitor_setup setup;
    struct loop_timer *timer;
    struct quality quality;
    struct news news[ALERT_COUNT];
    struct reconnects reconnects;
};

static const struct {
    enum metric value, active, raised;
} alert_metrics[ALERT_COUNT] = {
    [ALERT_LOST_HEARTBEATS] = {METRIC_LOST_PERCENT, METRIC_ALERT_LOST, METRIC_RAISED_LOST},
    [ALERT_RTT_DEVIATION] = {METRIC_RTT_DEVIATION_US, METRIC_ALERT_DEVIATION,
                             METRIC_RAISED_DEVIATION},
    [ALERT_SHORT_LIVED] = {METRIC_SHORT_LIVED_NOW, METRIC_ALERT_SHORT, METRIC_RAISED_SHORT},
};

/* --- the channel ---------------------------------------------------------------------------- */

static void on_told(void *arg, const struct store_result *result)
{
    struct news *n = arg;
    n->is_under_way = false;
    if (result->status == STORE_OK)
        n->told = n->telling;
    else
        n->again_ms = loop_now_ms(n->monitor->setup.loop) + TELL_AGAIN_MS;
}

static void write_news(const struct quality_monitor *m, enum alert id, struct buf *out)
{
    const struct news *n = &m->news[id];
    buf_append_str(out, "{\"node\":");
    json_append_string(out, slice_str(m->setup.config->node.id));
    buf_printf(
        out, ",\"alert\":\"%s\",\"state\":\"%s\",\"value\":%llu,\"threshold\":%llu,\"ts\":%llu}",
        alert_name(id), n->telling ? "raised" : "cleared", (unsigned long long)n->value,
        (unsigned long long)m->quality.limits.thresholds[id], (unsigned long long)n->since_ms);
}

static void tell(struct quality_monitor *m, enum alert id, const struct config_namespace *ns)
{
    struct news *n = &m->news[id];
    n->telling = m->quality.raised[id];
    n->is_under_way = true; /* before the call, which may answer at once */
    struct buf text = {0};
    write_news(m, id, &text);
    struct slice channel = slice_str(ALERT_CHANNEL);
    if (store_keeps(ns))
        store_publish(m->setup.store, channel, buf_slice(&text), ns->history, ns->history_ttl_s,
                      on_told, n);
    else
        store_publish_plain(m->setup.store, channel, buf_slice(&text), on_told, n);
    buf_fini(&text);
}

static void tell_what_changed(struct quality_monitor *m)
{
    const struct config_namespace *ns =
        config_namespace(m->setup.config, channel_namespace(slice_str(ALERT_CHANNEL)));
    if (ns == NULL || bus_readiness(m->setup.bus) != NULL)
        return;
    for (enum alert id = 0; id < ALERT_COUNT; id++) {
        const struct news *n = &m->news[id];
        if (n->told != m->quality.raised[id] && !n->is_under_way &&
            loop_now_ms(m->setup.loop) >= n->again_ms)
            tell(m, id, ns);
    }
}

/* --- the tick ------------------------------------------------------------------------------- */

static struct quality_totals read_totals(const struct quality_monitor *m)
{
    struct metrics *const *all = m->setup.all_metrics;
    size_t count = m->setup.metrics_count;
    uint64_t ignored_ns, deviation_ns;
    struct quality_totals t = {
        .pings_answered = metrics_histogram_sum(all, count, HISTOGRAM_PING, &ignored_ns),
        .pings_lost = metrics_sum(all, count, METRIC_PINGS_LOST),
        .deviations = metrics_histogram_sum(all, count, HISTOGRAM_PING_DEVIATION, &deviation_ns),
        .short_lived = metrics_sum(all, count, METRIC_SHORT_LIVED),
    };
    t.deviation_us = deviation_ns / NS_PER_US;
    return t;
}

static void note_change(struct quality_monitor *m, enum alert id)
{
    const struct quality *q = &m->quality;
    m->news[id].since_ms = clock_unix_ms();
    m->news[id].value = q->values[id];
    if (q->raised[id]) {
        metrics_add(m->setup.metrics, alert_metrics[id].raised, 1);
        log_warn("alert_raised", LOG_STR("alert", alert_name(id)), LOG_INT("value", q->values[id]),
                 LOG_INT("threshold", q->limits.thresholds[id]));
    } else {
        log_info("alert_cleared", LOG_STR("alert", alert_name(id)), LOG_INT("value", q->values[id]),
                 LOG_INT("threshold", q->limits.thresholds[id]));
    }
    metrics_set(m->setup.metrics, alert_metrics[id].active, q->raised[id]);
}

static void on_tick(void *arg)
{
    struct quality_monitor *m = arg;
    const struct quality_totals totals = read_totals(m);
    unsigned changed = quality_update(&m->quality, &totals, loop_now_ms(m->setup.loop));
    for (enum alert id = 0; id < ALERT_COUNT; id++) {
        uint64_t value = m->quality.values[id];
        if (id == ALERT_RTT_DEVIATION)
            value = m->quality.deviation_mean_us;
        metrics_set(m->setup.metrics, alert_metrics[id].value, value);
        if (changed & 1u << id)
            note_change(m, id);
    }
    tell_what_changed(m);
}

/* Often enough for the narrower window. */
static uint64_t tick_ms(const struct quality_limits *limits)
{
    uint64_t shorter_ms =
        limits->window_ms < limits->short_window_ms ? limits->window_ms : limits->short_window_ms;
    uint64_t ms = shorter_ms / WINDOW_BUCKETS;
    if (ms > TICK_MOST_MS)
        return TICK_MOST_MS;
    return ms < TICK_LEAST_MS ? TICK_LEAST_MS : ms;
}

static struct quality_limits read_limits(const struct config *config)
{
    return (struct quality_limits){
        .window_ms = (uint64_t)config->quality.window_ms,
        .short_window_ms = (uint64_t)config->quality.short_lived_window_ms,
        .min_pings = (uint64_t)config->quality.min_pings,
        .thresholds = {[ALERT_LOST_HEARTBEATS] = (uint64_t)config->quality.lost_percent,
                       [ALERT_RTT_DEVIATION] = (uint64_t)config->quality.rtt_deviation_ms,
                       [ALERT_SHORT_LIVED] = (uint64_t)config->quality.short_lived_per_hour},
    };
}

struct quality_monitor *quality_monitor_new(const struct quality_monitor_setup *setup)
{
    struct quality_monitor *m = mem_zalloc(sizeof *m);
    const struct quality_limits limits = read_limits(setup->config);
    m->setup = *setup;
    for (enum alert id = 0; id < ALERT_COUNT; id++)
        m->news[id].monitor = m;
    const struct quality_totals totals = read_totals(m);
    quality_init(&m->quality, &limits, &totals, loop_now_ms(setup->loop));
    reconnects_init(&m->reconnects, RECONNECTS_MAX);
    m->timer = loop_timer_new(setup->loop, on_tick, m);
    loop_timer_repeat(m->timer, tick_ms(&limits));
    return m;
}

void quality_monitor_set_config(struct quality_monitor *m, const struct config *next)
{
    m->setup.config = next;
    m->quality.limits = read_limits(next); /* the windows themselves need a restart */
}

void quality_monitor_free(struct quality_monitor *m)
{
    loop_timer_free(m->timer);
    reconnects_fini(&m->reconnects);
    free(m);
}

/* --- arrivals ------------------------------------------------------------------------------- */

struct arrival_message {
    struct message message;
    struct quality_monitor *monitor;
    size_t len;
    char name[];
};

static void run_arrival(struct message *message)
{
    struct arrival_message *am = (struct arrival_message *)message;
    struct quality_monitor *m = am->monitor;
    reconnects_note(&m->reconnects, slice_of(am->name, am->len), loop_now_ms(m->setup.loop));
    free(am);
}

void quality_monitor_post_arrival(struct quality_monitor *m, struct slice name)
{
    if (name.len == 0 || name.len > RECONNECTS_NAME_MAX)
        return;
    struct arrival_message *am = mem_alloc(sizeof *am + name.len);
    *am = (struct arrival_message){.message.run = run_arrival, .monitor = m, .len = name.len};
    memcpy(am->name, name.ptr, name.len);
    loop_post(m->setup.loop, &am->message);
}

uint32_t quality_monitor_reconnects(const struct quality_monitor *m, struct slice name)
{
    return reconnects_count(&m->reconnects, name, loop_now_ms(m->setup.loop));
}
