/*
 * ops_http_access.c - what is said about a request to the operator's listener.
 *
 * libevent gives a request no place for what is ours, but a list of headers that live as long as it
 * does: what has to be known at the end is kept there, under names that are first taken out of what
 * the peer sent.
 */
#include "surface/ops_http_access.h"

#include "base/clock.h"
#include "base/log.h"
#include "protocol/metrics.h"
#include "protocol/trace.h"
#include "surface/access_log.h"

#include <event2/http.h>
#include <event2/http_struct.h>
#include <event2/keyvalq_struct.h>
#include <stdio.h>
#include <stdlib.h>

#define BEGAN        "X-Tickcast-Began" /* monotonic, ns */
#define TRACE        "X-Tickcast-Trace"
#define PUBLICATIONS "X-Tickcast-Publications"

static const struct {
    enum evhttp_cmd_type command;
    const char *name;
} methods[] = {
    {EVHTTP_REQ_GET, "GET"},         {EVHTTP_REQ_HEAD, "HEAD"},     {EVHTTP_REQ_POST, "POST"},
    {EVHTTP_REQ_PUT, "PUT"},         {EVHTTP_REQ_DELETE, "DELETE"}, {EVHTTP_REQ_PATCH, "PATCH"},
    {EVHTTP_REQ_OPTIONS, "OPTIONS"},
};

static const char *method_of(const struct evhttp_request *request)
{
    size_t i = 0;
    while (i < sizeof methods / sizeof *methods &&
           methods[i].command != evhttp_request_get_command(request))
        i++;
    return i < sizeof methods / sizeof *methods ? methods[i].name : "other";
}

static struct slice kept(struct evhttp_request *request, const char *name)
{
    const char *value = evhttp_find_header(evhttp_request_get_input_headers(request), name);
    return value != NULL ? slice_str(value) : (struct slice){0};
}

static void keep(struct evhttp_request *request, const char *name, const char *value)
{
    struct evkeyvalq *headers = evhttp_request_get_input_headers(request);
    while (evhttp_remove_header(headers, name) == 0) {
    }
    if (value != NULL)
        evhttp_add_header(headers, name, value);
}

void ops_http_access_begin(struct evhttp_request *request)
{
    char began[24];
    snprintf(began, sizeof began, "%llu", (unsigned long long)clock_mono_ns());
    keep(request, BEGAN, began);
    keep(request, TRACE, NULL);
    keep(request, PUBLICATIONS, NULL);
}

void ops_http_access_note(struct evhttp_request *request, struct slice trace, size_t publications)
{
    char text[TRACE_IDENTITY_MAX + 1], count[24];
    size_t len = trace.len < sizeof text ? trace.len : sizeof text - 1;
    if (len > 0)
        memcpy(text, trace.ptr, len);
    text[len] = '\0';
    snprintf(count, sizeof count, "%zu", publications);
    keep(request, TRACE, text);
    keep(request, PUBLICATIONS, publications > 0 ? count : NULL);
}

bool ops_http_access_trace(struct evhttp_request *request, struct slice *trace)
{
    struct slice own = kept(request, "X-Trace-Id");
    *trace = own;
    if (own.ptr != NULL)
        return trace_is_valid(own);
    /* As W3C has it, a broken Traceparent is as good as none: it may be some proxy's. */
    trace_of_parent(kept(request, "Traceparent"), trace);
    return true;
}

static void peer_text(struct evhttp_request *request, char *out, size_t size)
{
    char *host = NULL;
    ev_uint16_t port = 0;
    struct evhttp_connection *connection = evhttp_request_get_connection(request);
    if (connection != NULL)
        evhttp_connection_get_peer(connection, &host, &port);
    bool is_v6 = host != NULL && strchr(host, ':') != NULL;
    snprintf(out, size, is_v6 ? "[%s]:%u" : "%s:%u", host != NULL ? host : "unknown", port);
}

/* The main thread's: there is one operator's listener in a process. */
static struct metrics *counted_in;

void ops_http_access_init(struct metrics *metrics)
{
    counted_in = metrics;
}

static void count(int status)
{
    static const enum metric by_class[] = {
        [2] = METRIC_API_2XX, [4] = METRIC_API_4XX, [5] = METRIC_API_5XX};
    if (counted_in != NULL && (status / 100 == 2 || status / 100 == 4 || status / 100 == 5))
        metrics_add(counted_in, by_class[status / 100], 1);
}

void ops_http_access_end(struct evhttp_request *request, int status)
{
    count(status);
    const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(request);
    const char *text = uri != NULL ? evhttp_uri_get_path(uri) : NULL;
    struct slice path = slice_str(text != NULL ? text : "");
    enum log_level level = access_log_is_routine(path) ? LOG_DEBUG : LOG_INFO;
    struct slice began = kept(request, BEGAN);
    if (!log_is_on(level) || began.ptr == NULL || !log_may(LOG_CALLS))
        return;
    char peer[80], cut[ACCESS_PATH_BYTES];
    peer_text(request, peer, sizeof peer);
    uint64_t duration_ns = clock_mono_ns() - strtoull(began.ptr, NULL, 10);
    struct slice trace = kept(request, TRACE), publications = kept(request, PUBLICATIONS);
    const struct log_field none = {0};
    log_line(level, "access", LOG_STR("method", method_of(request)),
             LOG_SLICE("path", access_log_path(path, cut)), LOG_INT("status", status),
             LOG_INT("duration_us", duration_ns / 1000), LOG_STR("peer", peer),
             trace.ptr != NULL ? LOG_SLICE("trace", trace) : none,
             publications.ptr != NULL
                 ? LOG_INT("publications", strtoull(publications.ptr, NULL, 10))
                 : none);
}
