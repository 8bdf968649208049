/*
 * worker.h - one thread that owns client connections.
 *
 * A worker owns its loop, its connections and everything they need: the read buffer they share,
 * one inflater, one deflater, one timer wheel, its metrics. Nothing of it is touched by another
 * thread except through worker_post, its load count and its metrics, which are atomic.
 *
 * The end of a turn, in this order: connections with private output are written; hooks that upper
 * layers added (the hub flushes its cohorts); connections that failed are closed; memory of dead
 * ones is freed. Callbacks therefore never meet a freed connection.
 */
#ifndef TICKCAST_RUNTIME_WORKER_H
#define TICKCAST_RUNTIME_WORKER_H

#include "base/list.h"
#include "base/rng.h"
#include "base/wheel.h"
#include "protocol/admission.h"
#include "protocol/config.h"
#include "protocol/metrics.h"
#include "protocol/publication.h"
#include "protocol/ws_deflate.h"
#include "runtime/loop.h"

#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define WORKER_READ_BYTES 65536 /* shared by all connections of a worker */

struct conn;
struct conn_ops;
struct poller;

struct worker {
    unsigned index;
    struct loop *loop;
    bool has_thread; /* false: it runs on the main thread's loop */
    pthread_t thread;
    const struct config *config; /* its own reference */
    const struct conn_ops *ops;  /* what the upper layers do with a connection */
    struct admission *admission; /* shared by all workers */
    void *upper;                 /* theirs */
    struct metrics metrics;
    atomic_uint load; /* sockets given to it and not yet closed; written by two threads */

    struct rng rng;
    uint8_t *read_buffer; /* WORKER_READ_BYTES */
    struct ws_inflater *inflater;
    struct buf inflated;
    struct compressor compressor;

    struct wheel wheel; /* one timer per connection */
    struct loop_timer *wheel_timer;
    struct loop_lag *lag;

    struct poller *poller; /* their sockets */
    struct conn **conns;   /* all of them, dense, in no order */
    uint32_t conn_count;
    uint32_t conn_cap;
    uint32_t first_reads; /* new connections that may still be read at once in this turn */
    struct list dirty;    /* connections with output to write at the end of the turn */
    struct list failed;   /* to be aborted at the end of the turn */
    struct list dead;     /* to be freed at the end of the turn */
};

/* loop NULL: the worker makes a loop and worker_start gives it a thread. Otherwise it shares the
 * given loop and its thread. config is shared. ops and admission are borrowed. Returns owned. */
struct worker *worker_new(unsigned index, struct loop *loop, const struct config *config,
                          const struct conn_ops *ops, struct admission *admission);

/* Starts the worker's thread, if it is to have one. */
void worker_start(struct worker *w);

void worker_stop(struct worker *w); /* stops and joins the thread */

/* Ends every connection, once the thread is stopped. Then the upper layers may go, then this. */
void worker_abort_all(struct worker *w);
void worker_free(struct worker *w);

/* Whom a socket leads to, as accept says. */
union socket_peer {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

/* Hands a connected, non-blocking socket over. Any thread. load must have been raised for it. peer
 * is copied. */
void worker_give_socket(struct worker *w, int fd, const union socket_peer *peer);

/* Goes on with another configuration: shares next, lets go of the one before. Owner thread. */
void worker_take_config(struct worker *w, const struct config *next);

/* Calls visit for every connection. Owner thread; visit may close the connection it is given. */
void worker_each_conn(struct worker *w, void (*visit)(struct conn *c, void *arg), void *arg);

/* For conn.c: enters a connection in the table, and takes it out. */
void worker_add_conn(struct worker *w, struct conn *c);
void worker_remove_conn(struct worker *w, struct conn *c);

/* For conn.c: sets a connection's timer, in ms from now. */
void worker_set_timer(struct worker *w, struct wheel_timer *t, uint64_t in_ms);

#endif
