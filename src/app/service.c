/*
 * service.c - the status line, and the manager's patience.
 *
 * Once a second the status is made and, when it is another one, sent. While the node stops, each
 * of these ticks asks for a little more time, until what was planned is over: a drain may last
 * longer than the unit allows, but only while the main loop turns.
 */
#include "app/service.h"

#include "app/notify.h"
#include "app/watchdog.h"
#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TICK_MS      1000
#define EXTEND_MS    10000 /* asked for at every tick: nine may be lost on a stalled machine */
#define STATUS_BYTES 128

struct service {
    struct service_setup setup;
    struct notify *notify;
    struct watchdog *watchdog; /* NULL: nobody waits for it */
    struct loop_timer *tick;
    char status[STATUS_BYTES]; /* as last sent */
    bool is_ready;
    bool is_stopping;
    uint64_t stop_by_ms;
};

static void write_status(const struct service *s, char *text)
{
    unsigned long long clients = drain_clients(s->setup.drain);
    enum drain_state drain = drain_get(s->setup.drain);
    const char *reason = bus_readiness(s->setup.bus);
    const char *manner = s->is_stopping ? "stopping" : "draining";
    if (drain == DRAIN_DRAINED)
        snprintf(text, STATUS_BYTES, "%s", s->is_stopping ? "stopping" : "drained");
    else if (drain != DRAIN_SERVING)
        snprintf(text, STATUS_BYTES, "%s: %s, clients left: %llu", manner, drain_state_name(drain),
                 clients);
    else if (reason != NULL)
        snprintf(text, STATUS_BYTES, "feed suspect (%s), clients: %llu", reason, clients);
    else
        snprintf(text, STATUS_BYTES, "feed ok, clients: %llu", clients);
}

static void tell_status(struct service *s)
{
    char text[STATUS_BYTES];
    write_status(s, text);
    if (strcmp(text, s->status) != 0 && notify_status(s->notify, text))
        memcpy(s->status, text, sizeof text);
}

static void ask_for_time(struct service *s)
{
    if (s->is_stopping && loop_now_ms(s->setup.loop) < s->stop_by_ms)
        notify_extend(s->notify, (uint64_t)EXTEND_MS * 1000);
}

static void on_tick(void *arg)
{
    tell_status(arg);
    ask_for_time(arg);
}

static void feed(void *arg)
{
    struct service *s = arg;
    notify_alive(s->notify);
}

static void start_watchdog(struct service *s)
{
    struct loop **loops = mem_zalloc(s->setup.worker_count * sizeof(struct loop *));
    for (unsigned i = 0; i < s->setup.worker_count; i++)
        loops[i] = s->setup.workers[i]->loop;
    const struct watchdog_setup watchdog = {.loop = s->setup.loop,
                                            .loops = loops,
                                            .count = s->setup.worker_count,
                                            .period_us = notify_watchdog_us(s->notify),
                                            .feed = feed,
                                            .arg = s};
    s->watchdog = watchdog_new(&watchdog);
    free(loops);
}

void service_ready(struct service *s)
{
    if (!notify_is_on(s->notify) || s->is_stopping)
        return;
    notify_ready(s->notify);
    if (s->is_ready)
        return;
    s->is_ready = true;
    tell_status(s);
    loop_timer_repeat(s->tick, TICK_MS);
    if (notify_watchdog_us(s->notify) > 0)
        start_watchdog(s);
}

void service_reloading(struct service *s)
{
    if (!s->is_stopping)
        notify_reloading(s->notify);
}

void service_stopping(struct service *s, uint64_t planned_ms)
{
    s->is_stopping = true;
    s->stop_by_ms = loop_now_ms(s->setup.loop) + planned_ms;
    notify_stopping(s->notify);
    on_tick(s);
}

struct service *service_new(const struct service_setup *setup)
{
    struct service *s = mem_zalloc(sizeof *s);
    s->setup = *setup;
    s->notify = notify_new(setup->loop);
    s->tick = loop_timer_new(setup->loop, on_tick, s);
    return s;
}

void service_free(struct service *s)
{
    if (s == NULL)
        return;
    watchdog_free(s->watchdog);
    loop_timer_free(s->tick);
    notify_free(s->notify);
    free(s);
}
