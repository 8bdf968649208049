/*
 * worker.c - a thread of client connections: its table, timers and end of turn.
 */
#include "runtime/worker.h"

#include "base/mem.h"
#include "runtime/conn.h"
#include "runtime/loop_lag.h"
#include "runtime/poller.h"

#include <stdio.h>
#include <stdlib.h>

#define WHEEL_TICK_MS    100 /* resolution of handshake, ping and close timeouts */
#define WHEEL_SLOTS      512 /* 51 s a round: most pings fit in one */
#define DEFLATE_LEVEL    3   /* the highest without lazy matching: smaller than 1, as fast */
#define CONN_TABLE_FIRST 64
#define FIRST_READS      256 /* per turn: whoever comes beyond is read as the poller reports it */

struct socket_message {
    struct message message;
    struct worker *worker;
    int fd;
    union socket_peer peer;
};

static void on_due(struct wheel_timer *t, void *arg)
{
    (void)arg;
    conn_on_timer(list_entry(t, struct conn, timer));
}

static void on_wheel_tick(void *arg)
{
    struct worker *w = arg;
    wheel_advance(&w->wheel, loop_now_ms(w->loop), on_due, w);
    if (w->wheel.count == 0)
        loop_timer_cancel(w->wheel_timer);
}

void worker_set_timer(struct worker *w, struct wheel_timer *t, uint64_t in_ms)
{
    if (w->wheel.count == 0)
        loop_timer_repeat(w->wheel_timer, WHEEL_TICK_MS);
    wheel_set(&w->wheel, t, loop_now_ms(w->loop) + in_ms);
}

static void each_on_list(struct list *list, void (*act)(struct conn *c))
{
    struct list *member;
    while ((member = list_shift(list)) != NULL)
        act(list_entry(member, struct conn, link));
}

/* First hook of the turn: replies and control frames. */
static void flush_dirty(void *arg)
{
    struct worker *w = arg;
    each_on_list(&w->dirty, conn_flush);
}

/* Runs again after the upper layers' hooks, whose writes may have failed or queued. */
static void finish_turn(void *arg)
{
    struct worker *w = arg;
    while (!list_is_empty(&w->failed) || !list_is_empty(&w->dirty)) {
        each_on_list(&w->failed, conn_fail_now);
        each_on_list(&w->dirty, conn_flush);
    }
    each_on_list(&w->dead, conn_free);
    w->first_reads = FIRST_READS;
}

struct worker *worker_new(unsigned index, struct loop *loop, const struct config *config,
                          const struct conn_ops *ops, struct admission *admission)
{
    struct worker *w = mem_zalloc(sizeof *w);
    w->index = index;
    w->has_thread = loop == NULL;
    w->first_reads = FIRST_READS;
    w->loop = loop != NULL ? loop : loop_new();
    w->config = config_ref(config);
    w->ops = ops;
    w->admission = admission;
    rng_init_random(&w->rng);
    w->poller = poller_new(w->loop, conn_on_ready);
    w->read_buffer = mem_alloc(WORKER_READ_BYTES);
    w->inflater = ws_inflater_new();
    w->compressor.deflater = ws_deflater_new(DEFLATE_LEVEL, WS_WINDOW_BITS);
    w->compressor.min_bytes = (size_t)config->listen.deflate_min_bytes;
    wheel_init(&w->wheel, WHEEL_TICK_MS, WHEEL_SLOTS, loop_now_ms(w->loop));
    w->wheel_timer = loop_timer_new(w->loop, on_wheel_tick, w);
    w->lag = loop_lag_new(w->loop, &w->metrics);
    list_init(&w->dirty);
    list_init(&w->failed);
    list_init(&w->dead);
    loop_on_turn_end(w->loop, flush_dirty, w);
    return w;
}

static void *run_thread(void *arg)
{
    struct worker *w = arg;
    char name[16]; /* what `top -H` and a debugger show */
    snprintf(name, sizeof name, "worker %u", w->index);
    pthread_setname_np(pthread_self(), name);
    loop_run(w->loop);
    return NULL;
}

void worker_start(struct worker *w)
{
    /* Registered last, so that it runs behind the hooks of the upper layers. */
    loop_on_turn_end(w->loop, finish_turn, w);
    if (w->has_thread && pthread_create(&w->thread, NULL, run_thread, w) != 0) {
        perror("tickcast: cannot start a worker thread");
        abort();
    }
}

struct stop_message {
    struct message message;
    struct loop *loop;
};

static void run_stop(struct message *m)
{
    struct stop_message *stop = (struct stop_message *)m;
    loop_stop(stop->loop);
    free(stop);
}

void worker_stop(struct worker *w)
{
    if (!w->has_thread)
        return;
    struct stop_message *stop = mem_zalloc(sizeof *stop);
    stop->message.run = run_stop;
    stop->loop = w->loop;
    loop_post(w->loop, &stop->message);
    pthread_join(w->thread, NULL);
}

static void abort_visited(struct conn *c, void *arg)
{
    (void)arg;
    conn_abort(c, METRIC_ENDED_DRAIN);
}

void worker_abort_all(struct worker *w)
{
    w->first_reads = 0;  /* nobody begins a session any more */
    loop_drain(w->loop); /* sockets that were given too late */
    worker_each_conn(w, abort_visited, NULL);
    finish_turn(w);
}

void worker_free(struct worker *w)
{
    poller_free(w->poller);
    loop_timer_free(w->wheel_timer);
    loop_lag_free(w->lag);
    wheel_fini(&w->wheel);
    ws_deflater_free(w->compressor.deflater);
    buf_fini(&w->compressor.scratch);
    ws_inflater_free(w->inflater);
    buf_fini(&w->inflated);
    free(w->read_buffer);
    free(w->conns);
    if (w->has_thread)
        loop_free(w->loop);
    config_unref((struct config *)w->config);
    free(w);
}

static void run_socket(struct message *m)
{
    struct socket_message *given = (struct socket_message *)m;
    conn_accept(given->worker, given->fd, &given->peer);
    free(given);
}

void worker_give_socket(struct worker *w, int fd, const union socket_peer *peer)
{
    struct socket_message *m = mem_zalloc(sizeof *m);
    m->message.run = run_socket;
    m->worker = w;
    m->fd = fd;
    m->peer = *peer;
    loop_post(w->loop, &m->message);
}

void worker_take_config(struct worker *w, const struct config *next)
{
    const struct config *before = w->config;
    w->config = config_ref(next);
    w->compressor.min_bytes = (size_t)next->listen.deflate_min_bytes;
    config_unref((struct config *)(uintptr_t)before);
}

void worker_each_conn(struct worker *w, void (*visit)(struct conn *c, void *arg), void *arg)
{
    /* Backwards, because a connection that dies takes the last one into its place. */
    for (uint32_t i = w->conn_count; i > 0; i--)
        visit(w->conns[i - 1], arg);
}

void worker_add_conn(struct worker *w, struct conn *c)
{
    if (w->conn_count == w->conn_cap) {
        w->conn_cap = w->conn_cap != 0 ? w->conn_cap + w->conn_cap / 2 : CONN_TABLE_FIRST;
        w->conns = mem_realloc(w->conns, w->conn_cap * sizeof *w->conns);
    }
    c->slot = w->conn_count;
    w->conns[w->conn_count++] = c;
}

void worker_remove_conn(struct worker *w, struct conn *c)
{
    struct conn *last = w->conns[--w->conn_count];
    w->conns[c->slot] = last;
    last->slot = c->slot;
}
