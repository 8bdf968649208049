/*
 * hub_config.c - a worker goes on with another configuration.
 *
 *      main thread ──shares──> message ──> worker: config, deflater   hub: namespaces, pace, gates
 *
 * In the worker's thread, in one message, so nothing on this worker ever sees half of it. The
 * configuration before is let go of last, when no channel points into it any more. Clients keep
 * what they were granted; limits that are looked up when they are needed count at once. What a
 * cohort was made with (its gates) stays with it, and it takes no more members.
 */
#include "base/mem.h"
#include "domain/hub.h"
#include "domain/session.h"
#include "protocol/config_change.h"
#include "runtime/conn.h"

#include <stdlib.h>

struct config_message {
    struct message message;
    struct hub *hub;
    struct config *next;
};

static void take_namespaces(struct hub *h, const struct config *next)
{
    size_t it = 0;
    struct hub_channel *c;
    while ((c = map_next(&h->channels, &it)) != NULL)
        c->ns = config_successor(next, h->worker->config, c->ns);
}

static bool has_other_batches(const struct config *a, const struct config *b)
{
    for (size_t i = 0; i < a->namespace_count; i++) {
        if (a->namespaces[i].batch_ms != b->namespaces[i].batch_ms)
            return true;
    }
    return false;
}

/* A cohort whose gates would be others today is not found any more by who comes. */
static void retire_cohorts(struct hub *h)
{
    size_t it = 0;
    struct cohort *c;
    while ((c = map_next(&h->cohorts, &it)) != NULL) {
        if (!cohort_has_present_gates(c))
            hub_forget_cohort(h, c);
    }
}

static void on_ping_period(struct conn *c, void *arg)
{
    (void)arg;
    if (c->upper != NULL)
        session_on_periods(c->upper, true);
}

static void on_heartbeat_period(struct conn *c, void *arg)
{
    (void)arg;
    if (c->upper != NULL)
        session_on_periods(c->upper, false);
}

static void run_config(struct message *m)
{
    struct config_message *cm = (struct config_message *)m;
    struct hub *h = cm->hub;
    struct worker *w = h->worker;
    bool is_ping = cm->next->node.ping_ms != w->config->node.ping_ms;
    bool is_beat = cm->next->node.heartbeat_ms != w->config->node.heartbeat_ms;
    bool is_batch = has_other_batches(w->config, cm->next);
    take_namespaces(h, cm->next);
    worker_take_config(w, cm->next);
    h->pace_ms = (uint64_t)w->config->node.pace_ms;
    if (is_batch)
        retire_cohorts(h);
    if (is_ping || is_beat)
        worker_each_conn(w, is_ping ? on_ping_period : on_heartbeat_period, NULL);
    config_unref(cm->next);
    free(cm);
}

void hub_post_config(struct hub *h, const struct config *next)
{
    struct config_message *m = mem_zalloc(sizeof *m);
    m->message.run = run_config;
    m->hub = h;
    m->next = config_ref(next);
    loop_post(h->worker->loop, &m->message);
}
