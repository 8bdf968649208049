/*
 * ops_http.c - routes of the operator's listener, on evhttp.
 */
#include "surface/ops_http.h"

#include "base/log.h"
#include "base/mem.h"
#include "domain/hub.h"
#include "protocol/json_text.h"
#include "runtime/listener.h"
#include "runtime/loop_lag.h"
#include "surface/client_http.h"
#include "surface/ops_http_access.h"
#include "surface/ops_http_fleet.h"
#include "surface/ops_http_inspect.h"
#include "surface/ops_http_publish.h"
#include "surface/ops_http_reply.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/listener.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEAD_BYTES_MAX 16384
/* What libevent refuses by itself, with a page for people; what a route refuses is below it. */
#define BODY_BYTES_MAX (2 * OPS_PUBLISH_BODY_MAX)
#define TIMEOUT_S      10  /* of silence on a connection */
#define PAUSE_MS       100 /* when descriptors ran out */

struct ops_http {
    struct ops_http_setup setup;
    struct evhttp *http;
    struct evconnlistener *listener; /* evhttp's */
    struct loop_timer *resume;       /* accepts again */
    struct ops_publisher *publisher;
    struct ops_fleet *fleet;
    struct ops_inspector *inspector;
    struct loop_lag *lag; /* of the main thread, where no worker shares it */
    char address[LISTENER_ADDRESS_BYTES];
};

static void add_length(struct evkeyvalq *headers, size_t len)
{
    char text[24];
    snprintf(text, sizeof text, "%zu", len);
    evhttp_add_header(headers, "Content-Length", text);
}

void ops_http_reply(struct evhttp_request *request, int status, const char *type,
                    const struct buf *body)
{
    struct evkeyvalq *headers = evhttp_request_get_output_headers(request);
    evhttp_add_header(headers, "Content-Type", type);
    evhttp_add_header(headers, "Cache-Control", "no-store");
    /* After HEAD libevent would send a body, were it given one; after CONNECT it says no length. */
    add_length(headers, body->len);
    if (evhttp_request_get_command(request) != EVHTTP_REQ_HEAD)
        evbuffer_add(evhttp_request_get_output_buffer(request), body->data, body->len);
    ops_http_access_end(request, status);
    evhttp_send_reply(request, status, NULL, NULL);
}

void ops_http_reply_error(struct evhttp_request *request, enum error_code error,
                          const char *message)
{
    const struct error_info *info = &error_table[error];
    struct buf body = {0};
    buf_printf(&body, "{\"code\":%d,\"name\":\"%s\",\"message\":", info->code, info->name);
    json_append_string(&body, slice_str(message != NULL ? message : info->text));
    buf_append_str(&body, "}\n");
    ops_http_reply(request, info->code, "application/json", &body);
    buf_fini(&body);
}

static void get_healthz(struct ops_http *o, struct evhttp_request *request)
{
    (void)o;
    struct buf body = {0};
    buf_append_str(&body, "{\"status\":\"ok\"}\n");
    ops_http_reply(request, 200, "application/json", &body);
    buf_fini(&body);
}

static const char *unready(const struct ops_http *o)
{
    return client_http_unready(o->setup.admission, o->setup.config, bus_readiness(o->setup.bus));
}

static void get_readyz(struct ops_http *o, struct evhttp_request *request)
{
    struct buf body = {0};
    int status = client_http_readiness(unready(o), &body);
    ops_http_reply(request, status, "application/json", &body);
    buf_fini(&body);
}

/* What is a state and not an event is looked at when it is asked for. */
static void take_stock(struct ops_http *o)
{
    struct metrics *m = o->setup.metrics[0];
    const struct config *config = o->setup.config;
    size_t publishing_bytes;
    bool is_draining = admission_get(o->setup.admission) != ADMISSION_OPEN;
    metrics_set(m, METRIC_LOG_DROPPED, log_dropped());
    metrics_set(m, METRIC_LOG_SUPPRESSED, log_bound_total());
    metrics_set(m, METRIC_DRAINING, is_draining);
    metrics_set(m, METRIC_READY, unready(o) == NULL);
    metrics_set(m, METRIC_WORKERS, (uint64_t)config->node.workers);
    metrics_set(m, METRIC_CONNECTIONS_LIMIT, (uint64_t)config->listen.max_connections);
    metrics_set(m, METRIC_PUBLISHING, store_in_flight(o->setup.store, &publishing_bytes));
    metrics_set(m, METRIC_PUBLISHING_BYTES, publishing_bytes);
    bus_take_stock(o->setup.bus);
}

static void get_metrics(struct ops_http *o, struct evhttp_request *request)
{
    struct buf body = {0};
    take_stock(o);
    metrics_expose(&body, o->setup.metrics, o->setup.metrics_count, o->setup.config->node.id);
    ops_http_reply(request, 200, "text/plain; version=0.0.4; charset=utf-8", &body);
    buf_fini(&body);
}

static void post_publish(struct ops_http *o, struct evhttp_request *request)
{
    ops_publisher_post(o->publisher, request);
}

static void post_admin(struct ops_http *o, struct evhttp_request *request)
{
    ops_fleet_admin(o->fleet, request);
}

static void get_nodes(struct ops_http *o, struct evhttp_request *request)
{
    ops_fleet_nodes(o->fleet, request);
}

static void get_channels(struct ops_http *o, struct evhttp_request *request)
{
    ops_inspector_channels(o->inspector, request);
}

static void get_clients(struct ops_http *o, struct evhttp_request *request)
{
    ops_inspector_clients(o->inspector, request);
}

static const struct {
    const char *path;
    int methods;       /* EVHTTP_REQ_…, or'ed */
    const char *allow; /* the same for a 405 */
    void (*serve)(struct ops_http *o, struct evhttp_request *request);
} routes[] = {
    {"/healthz", EVHTTP_REQ_GET | EVHTTP_REQ_HEAD, "GET, HEAD", get_healthz},
    {"/readyz", EVHTTP_REQ_GET | EVHTTP_REQ_HEAD, "GET, HEAD", get_readyz},
    {"/metrics", EVHTTP_REQ_GET | EVHTTP_REQ_HEAD, "GET, HEAD", get_metrics},
    {"/api/v1/publish", EVHTTP_REQ_POST, "POST", post_publish},
    {"/api/v1/admin", EVHTTP_REQ_POST, "POST", post_admin},
    {"/api/v1/nodes", EVHTTP_REQ_GET | EVHTTP_REQ_HEAD, "GET, HEAD", get_nodes},
    {"/api/v1/channels", EVHTTP_REQ_GET | EVHTTP_REQ_HEAD, "GET, HEAD", get_channels},
    {"/api/v1/clients", EVHTTP_REQ_GET | EVHTTP_REQ_HEAD, "GET, HEAD", get_clients},
};

static void refuse(struct evhttp_request *request, int status, const char *name,
                   const char *message)
{
    struct buf body = {0};
    buf_printf(&body, "{\"code\":%d,\"name\":\"%s\",\"message\":\"%s\"}\n", status, name, message);
    ops_http_reply(request, status, "application/json", &body);
    buf_fini(&body);
}

static void on_request(struct evhttp_request *request, void *arg)
{
    struct ops_http *o = arg;
    const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(request);
    const char *path = uri != NULL ? evhttp_uri_get_path(uri) : NULL;
    int method = (int)evhttp_request_get_command(request);
    size_t i = 0;
    ops_http_access_begin(request);
    while (i < sizeof routes / sizeof *routes &&
           (path == NULL || strcmp(path, routes[i].path) != 0))
        i++;
    if (i == sizeof routes / sizeof *routes) {
        refuse(request, 404, "not_found",
               "there is nothing at this path; clients connect to listen.address");
    } else if ((method & routes[i].methods) == 0) {
        evhttp_add_header(evhttp_request_get_output_headers(request), "Allow", routes[i].allow);
        refuse(request, 405, "method_not_allowed", "Allow says what is answered here");
    } else {
        routes[i].serve(o, request);
    }
}

/* libevent tells its own object, and there is one operator's listener in a process. */
static struct ops_http *accepting;

/* Most likely descriptors ran out. Who wants to connect stays in the backlog, and would wake us
 * without end. */
static void on_accept_error(struct evconnlistener *listener, void *arg)
{
    (void)arg;
    const char *reason = strerror(errno);
    struct ops_http *o = accepting;
    evconnlistener_disable(listener);
    loop_timer_set(o->resume, PAUSE_MS);
    metrics_add(o->setup.metrics[0], METRIC_ACCEPT_PAUSES, 1);
    log_warn("accept_paused", LOG_STR("reason", reason), LOG_INT("pause_ms", PAUSE_MS));
}

static void on_resume(void *arg)
{
    struct ops_http *o = arg;
    evconnlistener_enable(o->listener);
}

/* False: it cannot be listened on. */
static bool serve_socket(struct ops_http *o, int fd)
{
    struct evhttp_bound_socket *bound =
        o->http != NULL ? evhttp_accept_socket_with_handle(o->http, fd) : NULL;
    if (bound == NULL)
        return false;
    o->listener = evhttp_bound_socket_get_listener(bound);
    o->resume = loop_timer_new(o->setup.loop, on_resume, o);
    accepting = o;
    evconnlistener_set_error_cb(o->listener, on_accept_error);
    return true;
}

struct ops_http *ops_http_new(const struct ops_http_setup *setup, int fd, struct buf *error)
{
    struct ops_http *o = mem_zalloc(sizeof *o);
    o->setup = *setup;
    if (setup->metrics_count > 2)
        o->lag = loop_lag_new(setup->loop, setup->metrics[0]);
    listener_write_address(fd, o->address);
    o->http = evhttp_new(loop_base(setup->loop));
    if (!serve_socket(o, fd)) {
        buf_printf(error, "cannot serve HTTP on %s", o->address);
        if (o->http != NULL)
            evhttp_free(o->http);
        loop_lag_free(o->lag);
        free(o);
        return NULL;
    }
    evhttp_set_max_headers_size(o->http, HEAD_BYTES_MAX);
    evhttp_set_max_body_size(o->http, BODY_BYTES_MAX);
    evhttp_set_timeout(o->http, TIMEOUT_S);
    evhttp_set_allowed_methods(o->http, UINT16_MAX); /* routes[] refuses, in our own form */
    evhttp_set_gencb(o->http, on_request, o);
    ops_http_access_init(setup->metrics[0]);
    return o;
}

void ops_http_set_bus(struct ops_http *o, struct bus *bus, struct store *store)
{
    o->setup.bus = bus;
    o->setup.store = store;
    o->publisher = ops_publisher_new(o->setup.config, store);
}

void ops_http_set_fleet(struct ops_http *o, struct registry *registry, struct worker **workers,
                        unsigned worker_count)
{
    const struct ops_fleet_setup fleet = {.loop = o->setup.loop,
                                          .config = o->setup.config,
                                          .bus = o->setup.bus,
                                          .registry = registry};
    const struct ops_inspector_setup inspector = {.loop = o->setup.loop,
                                                  .bus = o->setup.bus,
                                                  .monitor = hub_of(workers[0])->monitor,
                                                  .workers = workers,
                                                  .worker_count = worker_count};
    o->fleet = ops_fleet_new(&fleet);
    o->inspector = ops_inspector_new(&inspector);
}

void ops_http_set_config(struct ops_http *o, const struct config *next)
{
    o->setup.config = next;
    ops_publisher_set_config(o->publisher, next);
    ops_fleet_set_config(o->fleet, next);
}

void ops_http_free(struct ops_http *o)
{
    if (o->fleet != NULL)
        ops_fleet_free(o->fleet);
    if (o->inspector != NULL)
        ops_inspector_free(o->inspector);
    if (o->publisher != NULL)
        ops_publisher_free(o->publisher);
    evhttp_free(o->http);
    loop_timer_free(o->resume);
    accepting = NULL;
    ops_http_access_init(NULL);
    loop_lag_free(o->lag);
    free(o);
}

const char *ops_http_address(const struct ops_http *o)
{
    return o->address;
}
