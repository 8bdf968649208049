/*
 * server.c - wiring, order of start and stop, signals.
 *
 * Start: workers (no thread yet), listeners bound, node id, bus, hubs, admin; then threads, links
 * and accepting. Stop, on SIGTERM or SIGINT: the node drains (domain/drain.h), and when the last
 * client has gone the loop ends. A second signal leaves at once.
 */
#include "app/server.h"

#include "app/reload.h"
#include "app/service.h"
#include "base/log.h"
#include "base/mem.h"
#include "domain/bus.h"
#include "domain/drain.h"
#include "domain/hub.h"
#include "domain/quality_monitor.h"
#include "domain/registry.h"
#include "domain/session_store.h"
#include "domain/store.h"
#include "protocol/registry_entry.h"
#include "runtime/conn.h"
#include "runtime/listener.h"
#include "runtime/loop.h"
#include "runtime/worker.h"
#include "surface/admin.h"
#include "surface/client_http.h"
#include "surface/ops_http.h"

#include <event2/dns.h>
#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STOP_POLL_MS    50
#define STOP_WAIT_MS    5000 /* for clients to take their close frame; conn.c gives each 3 + 1 s */
#define SPARES_WAIT_MS  300  /* of these, for requests that are on their way */
#define SPARE_SOCKETS   100  /* beyond max_connections: health checks, and refusals in HTTP */
#define HOST_NAME_BYTES 64
#define SIGNALS         3 /* that are ours */

struct server {
    struct config *config; /* what is running: replaced by each reload */
    struct config *first;  /* as at the start: texts of what needs a restart are borrowed from it */
    const struct config_source *source;
    bool has_made_up_id; /* node.id was left to us */
    struct loop *loop;
    struct metrics metrics; /* of the main thread */
    struct metrics **all_metrics;
    struct worker **workers;
    struct hub **hubs;
    unsigned worker_count;
    struct admission admission;
    struct listener *listener;
    struct ops_http *ops;
    struct evdns_base *dns;
    struct bus *bus;
    struct store *store;
    struct session_store *sessions;
    struct drain *drain;
    struct admin *admin;
    struct registry *registry;
    bool was_ready; /* the feed was ok once */
    struct quality_monitor *monitor;
    struct service *service;
    struct event *signals[SIGNALS];
    struct loop_timer *stop_poll;
    bool is_stopping;
    uint64_t stop_by_ms; /* when whoever has not taken its close frame is cut off */
};

/* --- stopping ------------------------------------------------------------------------------- */

static uint64_t open_sockets(const struct server *s)
{
    uint64_t total = 0;
    for (unsigned i = 0; i < s->worker_count; i++)
        total += atomic_load_explicit(&s->workers[i]->load, memory_order_relaxed);
    return total;
}

/* A socket that asked for nothing yet: browsers keep spares, and would hold up the end. */
static void end_spare(struct conn *c, void *arg)
{
    (void)arg;
    if (c->state == CONN_HTTP)
        conn_abort(c, METRIC_ENDED_DRAIN);
}

struct spares_message {
    struct message message;
    struct worker *worker;
};

static void run_end_spares(struct message *m)
{
    struct spares_message *sm = (struct spares_message *)m;
    worker_each_conn(sm->worker, end_spare, NULL);
    free(sm);
}

static void end_spares(struct server *s)
{
    for (unsigned i = 0; i < s->worker_count; i++) {
        struct spares_message *sm = mem_zalloc(sizeof *sm);
        sm->message.run = run_end_spares;
        sm->worker = s->workers[i];
        loop_post(sm->worker->loop, &sm->message);
    }
}

/* Nobody is left: close frames are still on their way, then it is over. */
static void on_stop_poll(void *arg)
{
    struct server *s = arg;
    uint64_t left = open_sockets(s);
    uint64_t now_ms = loop_now_ms(s->loop);
    bool is_done = left == 0 && session_store_is_idle(s->sessions);
    if (!is_done && now_ms < s->stop_by_ms) {
        if (now_ms + STOP_WAIT_MS - SPARES_WAIT_MS >= s->stop_by_ms)
            end_spares(s);
        return;
    }
    log_info("stopped", LOG_INT("sockets_left", left));
    loop_stop(s->loop);
}

static bool is_staying(const void *arg)
{
    return !((const struct server *)arg)->is_stopping;
}

static void stop_when_drained(struct server *s)
{
    if (!s->is_stopping || drain_get(s->drain) != DRAIN_DRAINED)
        return;
    listener_stop(s->listener);
    s->stop_by_ms = loop_now_ms(s->loop) + STOP_WAIT_MS;
    loop_timer_repeat(s->stop_poll, STOP_POLL_MS);
}

static void on_drain_change(void *arg)
{
    struct server *s = arg;
    registry_touch(s->registry);
    stop_when_drained(s);
}

static void on_stop_signal(evutil_socket_t number, short what, void *arg)
{
    (void)what;
    struct server *s = arg;
    if (s->is_stopping) {
        log_warn("stopping_at_once", LOG_INT("signal", number));
        loop_stop(s->loop);
        return;
    }
    log_info("stopping", LOG_INT("signal", number), LOG_INT("sockets", open_sockets(s)));
    s->is_stopping = true;
    drain_begin(s->drain, (uint64_t)s->config->listen.drain_grace_s * 1000,
                (uint64_t)s->config->listen.drain_s * 1000);
    service_stopping(s->service, drain_left_ms(s->drain) + STOP_WAIT_MS);
    stop_when_drained(s); /* by command, before */
}

/* The kernel and libevent make one call of some of the signals of a burst; the last one counts. */
static void on_reload_signal(evutil_socket_t number, short what, void *arg)
{
    (void)number;
    (void)what;
    struct buf report = {0}, error = {0};
    (void)server_reload(arg, &report, &error); /* it was logged */
    buf_fini(&report);
    buf_fini(&error);
}

static const int signal_numbers[SIGNALS] = {SIGTERM, SIGINT, SIGHUP};

/* SIG_BLOCK: they wait, also for threads that are started meanwhile; SIG_UNBLOCK. */
static void mask_signals(int how)
{
    sigset_t ours;
    sigemptyset(&ours);
    for (size_t i = 0; i < SIGNALS; i++)
        sigaddset(&ours, signal_numbers[i]);
    pthread_sigmask(how, &ours, NULL);
}

void server_hold_signals(void)
{
    mask_signals(SIG_BLOCK);
}

static void watch_signals(struct server *s)
{
    struct event_base *base = loop_base(s->loop);
    signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; i < SIGNALS; i++) {
        bool is_reload = signal_numbers[i] == SIGHUP;
        s->signals[i] =
            evsignal_new(base, signal_numbers[i], is_reload ? on_reload_signal : on_stop_signal, s);
        event_add(s->signals[i], NULL);
    }
    s->stop_poll = loop_timer_new(s->loop, on_stop_poll, s);
}

/* --- starting ------------------------------------------------------------------------------- */

static void on_admin(void *arg, struct slice payload)
{
    struct server *s = arg;
    admin_on_message(s->admin, payload);
}

static bool on_admin_reload(void *arg, struct buf *report, struct buf *error)
{
    return server_reload(arg, report, error);
}

static enum node_state node_state(void *arg)
{
    struct server *s = arg;
    s->was_ready = s->was_ready || bus_readiness(s->bus) == NULL;
    if (drain_get(s->drain) != DRAIN_SERVING)
        return NODE_DRAINING;
    return s->was_ready ? NODE_READY : NODE_STARTING;
}

static void on_feed(void *arg)
{
    struct server *s = arg;
    registry_touch(s->registry);
}

static void make_registry(struct server *s)
{
    const struct registry_setup setup = {.loop = s->loop,
                                         .config = s->config,
                                         .metrics = s->all_metrics,
                                         .metrics_count = s->worker_count + 1,
                                         .bus = s->bus,
                                         .listen_address = listener_address(s->listener),
                                         .ops_address = ops_http_address(s->ops),
                                         .state = node_state,
                                         .arg = s};
    s->registry = registry_new(&setup);
    ops_http_set_fleet(s->ops, s->registry, s->workers, s->worker_count);
}

static void make_workers(struct server *s)
{
    s->worker_count = (unsigned)s->config->node.workers;
    s->workers = mem_zalloc(s->worker_count * sizeof *s->workers);
    s->all_metrics = mem_zalloc((s->worker_count + 1) * sizeof *s->all_metrics);
    s->all_metrics[0] = &s->metrics;
    /* One worker shares this thread: on one core a hop between threads only costs. */
    struct loop *shared = s->worker_count == 1 ? s->loop : NULL;
    for (unsigned i = 0; i < s->worker_count; i++) {
        s->workers[i] = worker_new(i, shared, s->config, &client_ops, &s->admission);
        s->all_metrics[i + 1] = &s->workers[i]->metrics;
    }
}

static uint64_t max_sockets_of(const struct config *config)
{
    return (uint64_t)config->listen.max_connections + SPARE_SOCKETS;
}

/* An inherited socket stands in for the address of the configuration. The error names the option:
 * of two nodes on one host, ops.address is what most forget. */
static int bind_or_inherit(int inherited, const char *option, const char *address,
                           struct buf *error)
{
    if (inherited >= 0)
        return inherited;
    buf_printf(error, "%s: ", option);
    int fd = listener_bind(address, error);
    if (fd >= 0)
        buf_fini(error);
    return fd;
}

static bool bind_listeners(struct server *s, const struct activation *inherited, struct buf *error)
{
    uint64_t max_sockets = max_sockets_of(s->config);
    int client_fd =
        bind_or_inherit(inherited->client_fd, "listen.address", s->config->listen.address, error);
    if (client_fd < 0)
        return false;
    s->listener =
        listener_new(s->loop, client_fd, s->workers, s->worker_count, max_sockets, &s->metrics);
    listener_set_unsent_bytes(s->listener, (int)s->config->limits.unsent_bytes);
    const struct ops_http_setup ops = {.loop = s->loop,
                                       .config = s->config,
                                       .admission = &s->admission,
                                       .metrics = s->all_metrics,
                                       .metrics_count = s->worker_count + 1};
    int ops_fd = bind_or_inherit(inherited->ops_fd, "ops.address", s->config->ops.address, error);
    if (ops_fd >= 0 && (s->ops = ops_http_new(&ops, ops_fd, error)) == NULL)
        close(ops_fd);
    return s->ops != NULL;
}

/* Two nodes of one host differ by port, so this is unique wherever host names are. */
static void name_node(struct server *s)
{
    if (s->config->node.id[0] != '\0')
        return;
    char host[HOST_NAME_BYTES] = "node";
    struct buf id = {0};
    gethostname(host, sizeof host - 1);
    host[strcspn(host, ".")] = '\0';
    const char *port = strrchr(listener_address(s->listener), ':') + 1;
    buf_printf(&id, "%.40s-%s", host, port);
    if (!registry_id_is_valid(buf_slice(&id))) { /* a host may be called anything */
        buf_clear(&id);
        buf_printf(&id, "node-%s", port);
    }
    s->has_made_up_id = true;
    free(s->config->node.id);
    s->config->node.id = mem_strndup(id.data, id.len);
    buf_fini(&id);
}

static void make_monitor(struct server *s)
{
    const struct quality_monitor_setup setup = {.loop = s->loop,
                                                .config = s->config,
                                                .metrics = &s->metrics,
                                                .all_metrics = s->all_metrics,
                                                .metrics_count = s->worker_count + 1,
                                                .bus = s->bus,
                                                .store = s->store};
    s->monitor = quality_monitor_new(&setup);
    for (unsigned i = 0; i < s->worker_count; i++)
        s->hubs[i]->monitor = s->monitor;
}

static void make_domain(struct server *s)
{
    s->dns = evdns_base_new(loop_base(s->loop),
                            EVDNS_BASE_INITIALIZE_NAMESERVERS | EVDNS_BASE_DISABLE_WHEN_INACTIVE);
    s->store = store_new(s->config->redis.prefix);
    const struct bus_setup bus = {.loop = s->loop,
                                  .dns = s->dns,
                                  .config = s->config,
                                  .metrics = &s->metrics,
                                  .node_id = s->config->node.id,
                                  .store = s->store,
                                  .on_admin = on_admin,
                                  .on_admin_arg = s,
                                  .on_feed = on_feed,
                                  .on_feed_arg = s};
    s->bus = bus_new(&bus);
    ops_http_set_bus(s->ops, s->bus, s->store);
    s->hubs = mem_zalloc(s->worker_count * sizeof *s->hubs);
    const struct hub_upstream upstream = bus_upstream(s->bus);
    s->sessions = session_store_new(s->loop, s->config->redis.prefix, &s->metrics);
    for (unsigned i = 0; i < s->worker_count; i++) {
        s->hubs[i] = hub_new(s->workers[i], &upstream);
        s->hubs[i]->sessions = s->sessions;
    }
    bus_set_hubs(s->bus, s->hubs, s->worker_count);
    const struct drain_setup drain = {.loop = s->loop,
                                      .hubs = s->hubs,
                                      .hub_count = s->worker_count,
                                      .admission = &s->admission,
                                      .on_change = on_drain_change,
                                      .arg = s};
    s->drain = drain_new(&drain);
    make_monitor(s);
    const struct admin_setup admin = {.loop = s->loop,
                                      .config = s->config,
                                      .metrics = &s->metrics,
                                      .bus = s->bus,
                                      .drain = s->drain,
                                      .reload = on_admin_reload,
                                      .may_undrain = is_staying,
                                      .arg = s,
                                      .workers = s->workers,
                                      .worker_count = s->worker_count};
    s->admin = admin_new(&admin);
    make_registry(s);
}

struct server *server_new(struct config *config, const struct config_source *source,
                          const struct activation *inherited, struct buf *error)
{
    struct server *s = mem_zalloc(sizeof *s);
    s->config = config;
    s->first = config_ref(config);
    s->source = source;
    s->loop = loop_new();
    make_workers(s);
    if (!bind_listeners(s, inherited, error)) {
        server_free(s);
        return NULL;
    }
    name_node(s);
    make_domain(s);
    watch_signals(s);
    return s;
}

/* --- reloading ------------------------------------------------------------------------------ */

/* The main thread's parts first: a worker that has heard of a namespace asks the bus for it. */
static void hand_out_config(struct server *s, const struct config *next)
{
    bus_set_config(s->bus, next);
    registry_set_config(s->registry, next);
    quality_monitor_set_config(s->monitor, next);
    admin_set_config(s->admin, next);
    ops_http_set_config(s->ops, next);
    listener_set_max_sockets(s->listener, max_sockets_of(next));
    listener_set_unsent_bytes(s->listener, (int)next->limits.unsent_bytes);
    for (unsigned i = 0; i < s->worker_count; i++)
        hub_post_config(s->hubs[i], next);
}

static bool reload_config(struct server *s, struct buf *report, struct buf *error)
{
    struct config_changes changes = {0};
    struct config *next = reload_read(s->source, s->config, s->has_made_up_id, &changes, error);
    if (next == NULL) {
        log_error("reload_failed", LOG_SLICE("error", buf_slice(error)));
        return false;
    }
    reload_log(&changes, s->config, next);
    config_changes_append_json(&changes, report);
    hand_out_config(s, next);
    config_unref(s->config);
    s->config = next;
    config_changes_fini(&changes);
    return true;
}

bool server_reload(struct server *s, struct buf *report, struct buf *error)
{
    service_reloading(s->service);
    bool is_done = reload_config(s, report, error);
    service_ready(s->service); /* a refused one left the node as it was: as ready as before */
    return is_done;
}

void server_ready_line(const struct server *s, struct buf *out)
{
    buf_printf(out, "ready listen=%s ops=%s node=%s\n", listener_address(s->listener),
               ops_http_address(s->ops), s->config->node.id);
}

static void make_service(struct server *s)
{
    const struct service_setup setup = {.loop = s->loop,
                                        .bus = s->bus,
                                        .drain = s->drain,
                                        .workers = s->workers,
                                        .worker_count = s->worker_count};
    s->service = service_new(&setup);
}

void server_run(struct server *s)
{
    make_service(s);
    for (unsigned i = 0; i < s->worker_count; i++)
        worker_start(s->workers[i]);
    bus_start(s->bus);
    store_set_link(s->store, bus_command_link(s->bus));
    session_store_set_link(s->sessions, bus_command_link(s->bus));
    registry_start(s->registry);
    listener_start(s->listener);
    service_ready(s->service);
    mask_signals(SIG_UNBLOCK);
    loop_run(s->loop);
    mask_signals(SIG_BLOCK); /* their handlers are taken away below, and would end it otherwise */
    registry_leave(s->registry);
    for (unsigned i = 0; i < s->worker_count; i++)
        worker_stop(s->workers[i]);
}

void server_free(struct server *s)
{
    if (s->listener != NULL)
        listener_free(s->listener);
    if (s->bus != NULL)
        bus_forget_hubs(s->bus);
    if (s->sessions != NULL)
        session_store_close(s->sessions);
    for (unsigned i = 0; i < s->worker_count; i++) {
        worker_abort_all(s->workers[i]);
        if (s->hubs != NULL)
            hub_free(s->hubs[i]);
        worker_free(s->workers[i]);
    }
    loop_drain(s->loop); /* what the workers still had to say to the bus */
    service_free(s->service);
    if (s->drain != NULL)
        drain_free(s->drain);
    if (s->admin != NULL)
        admin_free(s->admin);
    if (s->ops != NULL)
        ops_http_free(s->ops);
    if (s->bus != NULL)
        bus_hang_up(s->bus);
    if (s->registry != NULL)
        registry_free(s->registry);
    if (s->store != NULL)
        store_free(s->store); /* answers who still waits, over the bus */
    if (s->sessions != NULL)
        session_store_free(s->sessions);
    if (s->monitor != NULL)
        quality_monitor_free(s->monitor);
    if (s->bus != NULL)
        bus_free(s->bus);
    if (s->dns != NULL)
        evdns_base_free(s->dns, 0);
    for (size_t i = 0; i < SIGNALS; i++) {
        if (s->signals[i] != NULL)
            event_free(s->signals[i]);
    }
    loop_timer_free(s->stop_poll);
    loop_free(s->loop);
    free(s->hubs);
    free(s->workers);
    free(s->all_metrics);
    config_unref(s->config);
    config_unref(s->first);
    free(s);
}
