/*
 * drain.c - the states of a drain, and the messages to the workers.
 */
#include "domain/drain.h"

#include "base/log.h"
#include "base/mem.h"
#include "domain/departures.h"

#include <stdlib.h>

#define POLL_MS 50 /* how often is anybody left? */

struct drain {
    struct drain_setup setup;
    struct loop_timer *timer;
    enum drain_state state;
    uint64_t window_ms;
    uint64_t began_ms;
    uint64_t over_by_ms; /* whoever is left then is cut off */
};

struct drain_message {
    struct message message;
    struct hub *hub;
    bool is_on;
    uint64_t window_ms;
};

static void run_departures(struct message *m)
{
    struct drain_message *dm = (struct drain_message *)m;
    departures_free(dm->hub->departures);
    dm->hub->departures = dm->is_on ? departures_new(dm->hub, dm->window_ms) : NULL;
    free(dm);
}

static void post_departures(struct drain *d, bool is_on)
{
    for (unsigned i = 0; i < d->setup.hub_count; i++) {
        struct drain_message *dm = mem_zalloc(sizeof *dm);
        dm->message.run = run_departures;
        dm->hub = d->setup.hubs[i];
        dm->is_on = is_on;
        dm->window_ms = d->window_ms;
        loop_post(dm->hub->worker->loop, &dm->message);
    }
}

uint64_t drain_clients(const struct drain *d)
{
    uint64_t total = 0;
    for (unsigned i = 0; i < d->setup.hub_count; i++)
        total += metrics_get(&d->setup.hubs[i]->worker->metrics, METRIC_CONNECTIONS);
    return total;
}

static void change(struct drain *d, enum drain_state state)
{
    static const enum admission_state admissions[] = {
        [DRAIN_SERVING] = ADMISSION_OPEN,
        [DRAIN_GRACE] = ADMISSION_LEAVING,
        [DRAIN_CLOSING] = ADMISSION_SHUT,
        [DRAIN_DRAINED] = ADMISSION_SHUT,
    };
    d->state = state;
    admission_set(d->setup.admission, admissions[state]);
    log_info("drain", LOG_STR("state", drain_state_name(state)),
             LOG_INT("clients", drain_clients(d)),
             LOG_INT("ms", loop_now_ms(d->setup.loop) - d->began_ms));
    d->setup.on_change(d->setup.arg);
}

static void on_timer(void *arg)
{
    struct drain *d = arg;
    if (d->state == DRAIN_GRACE) {
        loop_timer_repeat(d->timer, POLL_MS);
        d->over_by_ms = loop_now_ms(d->setup.loop) + d->window_ms + DEPARTURES_EXTRA_MS;
        change(d, DRAIN_CLOSING);
        post_departures(d, true); /* nobody is let in any more: these are all */
    } else if (d->state == DRAIN_CLOSING && drain_clients(d) == 0) {
        loop_timer_cancel(d->timer);
        change(d, DRAIN_DRAINED);
    }
}

void drain_begin(struct drain *d, uint64_t grace_ms, uint64_t window_ms)
{
    if (d->state != DRAIN_SERVING)
        return;
    d->window_ms = window_ms;
    d->began_ms = loop_now_ms(d->setup.loop);
    d->over_by_ms = d->began_ms + grace_ms + window_ms + DEPARTURES_EXTRA_MS;
    loop_timer_set(d->timer, grace_ms);
    change(d, DRAIN_GRACE);
}

void drain_undo(struct drain *d)
{
    if (d->state == DRAIN_SERVING)
        return;
    loop_timer_cancel(d->timer);
    post_departures(d, false);
    change(d, DRAIN_SERVING);
}

uint64_t drain_left_ms(const struct drain *d)
{
    uint64_t now_ms = loop_now_ms(d->setup.loop);
    bool is_under_way = d->state == DRAIN_GRACE || d->state == DRAIN_CLOSING;
    return is_under_way && d->over_by_ms > now_ms ? d->over_by_ms - now_ms : 0;
}

enum drain_state drain_get(const struct drain *d)
{
    return d->state;
}

const char *drain_state_name(enum drain_state state)
{
    static const char *const names[] = {"serving", "grace", "closing", "drained"};
    return names[state];
}

struct drain *drain_new(const struct drain_setup *setup)
{
    struct drain *d = mem_zalloc(sizeof *d);
    d->setup = *setup;
    d->timer = loop_timer_new(setup->loop, on_timer, d);
    return d;
}

void drain_free(struct drain *d)
{
    loop_timer_free(d->timer);
    free(d);
}
