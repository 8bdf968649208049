/*
 * access_log.c - what is said about a request, and about a client that has gone.
 *
 * What a client was sent in bytes is asked of the kernel when it goes: counting it here would cost
 * every delivery.
 */
#include "surface/access_log.h"

#include "base/clock.h"
#include "domain/session.h"

static const char *const routine[] = {"/healthz", "/readyz", "/metrics"};

bool access_log_is_routine(struct slice path)
{
    for (size_t i = 0; i < sizeof routine / sizeof *routine; i++) {
        if (slice_is(path, routine[i]))
            return true;
    }
    return false;
}

struct slice access_log_path(struct slice path, char *out)
{
    static const char dots[] = "...";
    if (path.len <= ACCESS_PATH_BYTES)
        return path;
    memcpy(out, path.ptr, ACCESS_PATH_BYTES);
    memcpy(out + ACCESS_PATH_BYTES - (sizeof dots - 1), dots, sizeof dots - 1);
    return slice_of(out, ACCESS_PATH_BYTES);
}

static enum log_level level_of(const struct conn *c, struct slice path)
{
    bool is_wanted = c->worker->config->node.access_log && !access_log_is_routine(path);
    return is_wanted ? LOG_INFO : LOG_DEBUG;
}

/* "" for a connection without a session: a refused one, or /echo. */
static void conn_text(const struct conn *c, char *out)
{
    out[0] = '\0';
    if (c->upper != NULL)
        session_conn_text(c->upper, out);
}

/* A response leaves its status where a connection that was upgraded has a close code or none. */
static unsigned status_of(const struct conn *c)
{
    return c->close_code >= 200 && c->close_code <= 599 ? c->close_code : 101;
}

void access_log_request(const struct conn *c, const struct http_head *head, uint32_t accepted_us)
{
    struct slice path = head != NULL ? head->path : (struct slice){0};
    struct slice method = head != NULL ? head->method : (struct slice){0};
    enum log_level level = level_of(c, path);
    if (!log_is_on(level) || !log_may(LOG_CLIENTS))
        return;
    char peer[80], conn[SESSION_CONN_TEXT], cuts[2][ACCESS_PATH_BYTES];
    conn_peer_text(c, peer, sizeof peer);
    conn_text(c, conn);
    unsigned status = status_of(c);
    uint32_t duration_us = (uint32_t)(clock_mono_ns() / 1000) - accepted_us;
    log_line(level, "access", LOG_SLICE("method", access_log_path(method, cuts[0])),
             LOG_SLICE("path", access_log_path(path, cuts[1])), LOG_INT("status", status),
             LOG_INT("duration_us", duration_us), LOG_STR("peer", peer), LOG_STR("conn", conn),
             LOG_STR("user", ""));
}

/* `cause="lost"` as it stands in the metric table: what is between the quotes. */
static struct slice cause_of(const struct conn *c)
{
    const char *labels = metrics_labels(c->cause);
    const char *from = strchr(labels, '"');
    if (from == NULL)
        return slice_str("");
    return slice_of(from + 1, strcspn(from + 1, "\""));
}

void access_log_ended(const struct conn *c)
{
    enum log_level level = level_of(c, (struct slice){0});
    if (!log_is_on(level) || !log_may(LOG_CLIENTS))
        return;
    char peer[80], conn[SESSION_CONN_TEXT];
    struct conn_traffic traffic;
    conn_peer_text(c, peer, sizeof peer);
    conn_text(c, conn);
    conn_read_traffic(c, &traffic);
    uint64_t age_ms = c->upper != NULL ? session_age_ms(c->upper) : 0;
    log_line(level, "client_ended", LOG_STR("conn", conn), LOG_STR("user", ""),
             LOG_STR("peer", peer), LOG_INT("code", c->close_code), LOG_SLICE("cause", cause_of(c)),
             LOG_INT("age_ms", age_ms), LOG_INT("sent_bytes", traffic.sent_bytes),
             LOG_INT("received_bytes", traffic.received_bytes), LOG_INT("rtt_us", traffic.rtt_us));
}
