/*
 * client_http.c - routes of the client listener.
 *
 * A route is a row of a table: path, and the function that answers. Only GET and HEAD exist; every
 * response closes the connection, because nobody but a browser asks twice, and that one goes on to
 * WebSocket.
 */
#include "surface/client_http.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/utf8.h"
#include "domain/hub.h"
#include "domain/resume.h"
#include "domain/session.h"
#include "protocol/json_text.h"
#include "protocol/ws_handshake.h"
#include "surface/access_log.h"

#include "page_html.h"

#define RETRY_FULL_S     5
#define RETRY_DRAINING_S 1 /* through a balancer another node takes it at once */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* --- responses ------------------------------------------------------------------------------ */

struct response {
    int status;
    const char *type;
    const char *headers; /* whole lines, or "" */
    struct slice body;
    bool is_head; /* HEAD: the same without the body */
};

static void respond(struct conn *c, const struct response *r)
{
    struct buf out = {0};
    buf_printf(&out, "HTTP/1.1 %d %s\r\n", r->status, http_reason(r->status));
    buf_printf(&out, "Content-Type: %s\r\nContent-Length: %zu\r\n", r->type, r->body.len);
    buf_printf(&out, "Cache-Control: no-store\r\nConnection: close\r\n%s\r\n", r->headers);
    if (!r->is_head)
        buf_append(&out, r->body.ptr, r->body.len);
    conn_respond(c, buf_slice(&out), (unsigned)r->status);
    buf_fini(&out);
}

static bool is_head_request(const struct http_head *head)
{
    return slice_is(head->method, "HEAD");
}

struct refusal {
    int status;
    const char *name;
    const char *why;
    const char *headers;
};

/* head NULL: it is known to be a GET's. */
static void refuse_with(struct conn *c, const struct http_head *head, const struct refusal *refusal)
{
    struct buf body = {0};
    buf_printf(&body, "{\"code\":%d,\"name\":\"%s\",\"message\":", refusal->status, refusal->name);
    json_append_string(&body, slice_str(refusal->why));
    buf_append_str(&body, "}\n");
    const struct response r = {.status = refusal->status,
                               .type = "application/json",
                               .headers = refusal->headers,
                               .body = buf_slice(&body),
                               .is_head = head != NULL && is_head_request(head)};
    respond(c, &r);
    buf_fini(&body);
}

static void log_refusal(const struct conn *c, int status, const char *why)
{
    char peer[80];
    conn_peer_text(c, peer, sizeof peer);
    log_often(LOG_FAULTS, LOG_DEBUG, "request_refused", LOG_STR("peer", peer),
              LOG_INT("status", status), LOG_STR("reason", why));
}

static const struct refusal refusals[] = {
    {400, "bad_request", "the request is malformed", ""},
    {403, "forbidden", "this origin is not allowed", ""},
    {404, "not_found", "there is nothing at this path", ""},
    {414, "uri_too_long", "the request target is too long", ""},
    {426, "upgrade_required", "WebSocket version 13 is needed",
     "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"},
    {431, "head_too_large", "the request head is too large", ""},
    {505, "http_version", "HTTP/1.1 is needed", ""},
};

/* why NULL: the table's text. */
static void refuse(struct conn *c, const struct http_head *head, int status, const char *why)
{
    size_t i = 0;
    while (i < sizeof refusals / sizeof *refusals - 1 && refusals[i].status != status)
        i++;
    struct refusal refusal = refusals[i];
    refusal.status = status;
    if (why != NULL)
        refusal.why = why;
    log_refusal(c, status, refusal.why);
    refuse_with(c, head, &refusal);
}

static void refuse_method(struct conn *c, const struct http_head *head, bool upgrades)
{
    const char *allow = upgrades ? "Allow: GET\r\n" : "Allow: GET, HEAD\r\n";
    const struct refusal refusal = {405, "method_not_allowed", "Allow says what is answered here",
                                    allow};
    log_refusal(c, refusal.status, refusal.why);
    refuse_with(c, head, &refusal);
}

/* --- plain routes --------------------------------------------------------------------------- */

static void respond_json(struct conn *c, const struct http_head *head, int status,
                         struct slice body)
{
    const struct response r = {.status = status,
                               .type = "application/json",
                               .headers = "",
                               .body = body,
                               .is_head = is_head_request(head)};
    respond(c, &r);
}

static void get_healthz(struct conn *c, const struct http_head *head)
{
    respond_json(c, head, 200, slice_str("{\"status\":\"ok\"}\n"));
}

const char *client_http_unready(const struct admission *admission, const struct config *config,
                                const char *feed)
{
    if (admission_get(admission) != ADMISSION_OPEN)
        return "draining";
    bool is_full = admission_is_full(admission, (uint64_t)config->listen.max_connections);
    return feed == NULL && is_full ? "full" : feed;
}

int client_http_readiness(const char *unready, struct buf *body)
{
    if (unready == NULL) {
        buf_append_str(body, "{\"status\":\"ready\"}\n");
        return 200;
    }
    buf_append_str(body, "{\"status\":\"not_ready\",\"reason\":");
    json_append_string(body, slice_str(unready));
    buf_append_str(body, "}\n");
    return 503;
}

static void get_readyz(struct conn *c, const struct http_head *head)
{
    const struct hub_upstream *upstream = &hub_of(c->worker)->upstream;
    struct buf body = {0};
    const char *feed = upstream->readiness(upstream->arg);
    int status = client_http_readiness(
        client_http_unready(c->worker->admission, c->worker->config, feed), &body);
    respond_json(c, head, status, buf_slice(&body));
    buf_fini(&body);
}

/* The page loads nothing from elsewhere and may talk to its own host only. */
#define PAGE_HEADERS                                                                           \
    "Content-Security-Policy: default-src 'none'; script-src 'unsafe-inline'; "                \
    "style-src 'unsafe-inline'; connect-src 'self' ws: wss:; img-src data:; base-uri 'none'; " \
    "frame-ancestors 'none'\r\nX-Content-Type-Options: nosniff\r\n"

static void get_page(struct conn *c, const struct http_head *head)
{
    const struct response r = {.status = 200,
                               .type = "text/html; charset=utf-8",
                               .headers = PAGE_HEADERS,
                               .body = slice_of((const char *)page_html, sizeof page_html),
                               .is_head = is_head_request(head)};
    respond(c, &r);
}

/* --- the upgrade ---------------------------------------------------------------------------- */

static struct slice host_of_origin(struct slice origin)
{
    const char *scheme_end = origin.ptr != NULL ? memmem(origin.ptr, origin.len, "://", 3) : NULL;
    if (scheme_end == NULL)
        return (struct slice){0};
    const char *host = scheme_end + 3;
    return slice_of(host, (size_t)(origin.ptr + origin.len - host));
}

static bool is_same_text(struct slice a, struct slice b)
{
    return a.len == b.len && strncasecmp(a.ptr, b.ptr, a.len) == 0;
}

static bool is_listed(const char *list, struct slice origin)
{
    for (const char *at = list; *at != '\0';) {
        size_t len = strcspn(at, " \t");
        struct slice item = slice_of(at, len);
        if (slice_is(item, "*") || (len > 0 && is_same_text(item, origin)))
            return true;
        at += len + strspn(at + len, " \t");
    }
    return false;
}

/* Browsers send Origin, and a page of another host could use its visitor's network. Programs send
 * none and are let in. Default: the page's own host. */
static bool is_origin_allowed(const struct conn *c, const struct http_head *head)
{
    struct slice origin = http_head_find(head, "origin");
    if (origin.ptr == NULL)
        return true;
    const char *list = c->worker->config->listen.origins;
    if (list[0] != '\0')
        return is_listed(list, origin);
    struct slice host = host_of_origin(origin);
    return host.len > 0 && is_same_text(host, http_head_find(head, "host"));
}

/* What is asked for in the query. */
struct ws_query {
    struct buf channels;
    struct buf session; /* "", "new" or an id */
    bool raw;
    bool json;
};

static bool read_session(const struct http_head *head, struct buf *session)
{
    uint8_t id[SESSION_ID_BYTES];
    int has_session = http_query_get(head->query, "session", session);
    return has_session == 0 || (has_session == 1 && (slice_is(buf_slice(session), "new") ||
                                                     session_id_parse(buf_slice(session), id)));
}

static void query_fini(struct ws_query *q)
{
    buf_fini(&q->channels);
    buf_fini(&q->session);
}

/* False: malformed. */
static bool read_query(const struct http_head *head, struct ws_query *q)
{
    struct buf format = {0};
    int has_format = http_query_get(head->query, "format", &format);
    q->raw = has_format == 1 && slice_is(buf_slice(&format), "raw");
    q->json = has_format == 1 && slice_is(buf_slice(&format), "json");
    buf_fini(&format);
    if (has_format < 0 || (has_format == 1 && !q->raw && !q->json))
        return false;
    if (http_query_get(head->query, "channels", &q->channels) < 0)
        return false;
    return utf8_is_valid(q->channels.data, q->channels.len) && read_session(head, &q->session);
}

static void refuse_for_now(struct conn *c, unsigned retry_s, const char *why, enum metric reason)
{
    char headers[40];
    snprintf(headers, sizeof headers, "Retry-After: %u\r\n", retry_s);
    log_refusal(c, 503, why);
    metrics_add(&c->worker->metrics, reason, 1);
    const struct refusal refusal = {503, "unavailable", why, headers};
    refuse_with(c, NULL, &refusal);
}

/* Is there room, now? False: it was refused. Last of all checks: who is refused for something else
 * takes nobody's place. The place is the connection's until on_closed. */
static bool admit(struct conn *c)
{
    const struct worker *w = c->worker;
    unsigned retry_s = 0;
    if (!admission_take_place(w->admission, (uint64_t)w->config->listen.max_connections)) {
        refuse_for_now(c, RETRY_FULL_S, "the node has all clients it may have",
                       METRIC_REFUSED_FULL);
        return false;
    }
    switch (admission_ask(w->admission, (uint64_t)w->config->limits.accepts_per_s, clock_mono_ns(),
                          &retry_s)) {
    case ADMITTED: return true;
    case REFUSED_DRAINING:
        refuse_for_now(c, RETRY_DRAINING_S, "the node is draining", METRIC_REFUSED_DRAINING);
        break;
    case REFUSED_RATE:
        refuse_for_now(c, retry_s, "too many clients come at once", METRIC_REFUSED_RATE);
        break;
    }
    admission_free_place(w->admission);
    return false;
}

/* Judges the handshake. False: it was refused. */
static bool check_upgrade(struct conn *c, const struct http_head *head, struct ws_handshake *hs)
{
    const char *why = NULL;
    int status = is_origin_allowed(c, head) ? ws_handshake_check(head, hs, &why) : 403;
    if (status == 101)
        return true;
    refuse(c, head, status, why);
    return false;
}

/* Hello, and what the query asked for: a session that is to be brought back brings its channels. */
static void begin_session(struct session *s, const struct ws_query *q)
{
    struct slice session = buf_slice(&q->session), channels = buf_slice(&q->channels);
    char id[SESSION_ID_TEXT] = "";
    if (session.len == 0) {
        session_begin(s, channels, NULL);
    } else if (slice_is(session, "new")) {
        bool has_one = resume_open(s);
        resume_id_text(s, id);
        session_begin(s, channels, has_one ? id : NULL);
    } else {
        session_begin(s, (struct slice){0}, "");
        resume_begin_url(s, session, channels);
    }
}

/* The query is written by whoever made the address, so it counts before what a library offers by
 * default; the answer names a subprotocol only where it is the one that is spoken. */
static void upgrade(struct conn *c, const struct ws_handshake *hs, const struct ws_query *q)
{
    enum ws_subprotocol spoken = q->raw ? WS_SUB_RAW : WS_SUB_JSON;
    const char *answer = q->raw ? "tickcast.v1+raw" : "tickcast.v1+json";
    struct buf out = {0};
    ws_handshake_respond(&out, hs, hs->offered == spoken ? answer : NULL);
    const struct cohort_format format = {
        .raw = q->raw, .deflate = hs->deflate, .window_bits = hs->deflate ? hs->window_bits : 0};
    struct session *s = session_new(c, format);
    conn_upgrade(c, buf_slice(&out), hs->deflate, s);
    begin_session(s, q);
    buf_fini(&out);
}

static void get_ws(struct conn *c, const struct http_head *head)
{
    struct ws_handshake hs;
    struct ws_query q = {.raw = false};
    if (!check_upgrade(c, head, &hs))
        return;
    bool is_good = read_query(head, &q);
    q.raw = q.raw || (!q.json && hs.offered == WS_SUB_RAW);
    if (!is_good)
        refuse(c, head, 400, "the query is malformed");
    else if (q.raw && q.session.len > 0)
        refuse(c, head, 400, "raw clients have no session");
    else if (admit(c))
        upgrade(c, &hs, &q);
    query_fini(&q);
}

/* The same connection code without a session, for conformance suites. */
static void get_echo(struct conn *c, const struct http_head *head)
{
    struct ws_handshake hs;
    if (!c->worker->config->node.echo) {
        refuse(c, head, 404, NULL);
        return;
    }
    if (!check_upgrade(c, head, &hs) || !admit(c))
        return;
    struct buf out = {0};
    ws_handshake_respond(&out, &hs, NULL);
    c->is_echo = true;
    c->window_bits = hs.window_bits;
    conn_upgrade(c, buf_slice(&out), hs.deflate, NULL);
    buf_fini(&out);
}

/* --- connection callbacks --------------------------------------------------------------------- */

static const struct {
    const char *path;
    bool upgrades; /* to WebSocket, which HEAD cannot ask for */
    void (*get)(struct conn *c, const struct http_head *head);
} routes[] = {
    {"/", false, get_page},         {"/ws", true, get_ws},     {"/healthz", false, get_healthz},
    {"/readyz", false, get_readyz}, {"/echo", true, get_echo},
};

static void route(struct conn *c, const struct http_head *head)
{
    size_t i = 0;
    while (i < sizeof routes / sizeof *routes && !slice_is(head->path, routes[i].path))
        i++;
    if (i == sizeof routes / sizeof *routes)
        refuse(c, head, 404, NULL);
    else if (!slice_is(head->method, "GET") && (!is_head_request(head) || routes[i].upgrades))
        refuse_method(c, head, routes[i].upgrades);
    else
        routes[i].get(c, head);
}

static void on_request(struct conn *c, const struct http_head *head)
{
    uint32_t accepted_us = c->accepted_us;
    route(c, head);
    access_log_request(c, head, accepted_us);
}

static void on_bad_request(struct conn *c, const struct http_head *head, int status)
{
    uint32_t accepted_us = c->accepted_us;
    refuse(c, head, status, NULL);
    access_log_request(c, NULL, accepted_us);
}

static void echo_message(struct conn *c, enum ws_opcode opcode, struct slice payload)
{
    struct frame *f = frame_new(opcode, false, payload, (struct slice){0}, (uint32_t)payload.len);
    if (c->deflate)
        f = compressor_pack_for(&c->worker->compressor, f, c->window_bits);
    conn_queue(c, f);
}

static void on_message(struct conn *c, enum ws_opcode opcode, struct slice payload)
{
    if (c->is_echo)
        echo_message(c, opcode, payload);
    else
        session_on_message(c->upper, opcode, payload);
}

static void on_pong(struct conn *c, struct slice payload)
{
    if (c->upper != NULL)
        session_on_pong(c->upper, payload);
}

static void on_timer(struct conn *c)
{
    if (c->upper != NULL)
        session_on_timer(c->upper);
}

static void on_blocked(struct conn *c)
{
    if (c->upper != NULL)
        session_on_blocked(c->upper);
}

static void on_drained(struct conn *c)
{
    if (c->upper != NULL)
        session_on_drained(c->upper);
}

static void on_closed(struct conn *c)
{
    admission_free_place(c->worker->admission);
    access_log_ended(c);
    if (c->upper != NULL)
        session_free(c->upper);
}

const struct conn_ops client_ops = {
    .on_request = on_request,
    .on_bad_request = on_bad_request,
    .on_message = on_message,
    .on_pong = on_pong,
    .on_timer = on_timer,
    .on_blocked = on_blocked,
    .on_drained = on_drained,
    .on_closed = on_closed,
};
