/*
 * metrics.h - everything a node counts, in one table, and its Prometheus text form.
 *
 * Each thread that counts owns one `struct metrics` and is its only writer; a scrape adds them up.
 * Counters are 64-bit and written with a relaxed load and store, never a locked instruction:
 * there is one writer, and a reader needs no order between them.
 *
 * A row: symbol, type, metric name, label text ("" or `reason="x"`), help. Rows of one name stand
 * together and share their type and help.
 */
#ifndef TICKCAST_PROTOCOL_METRICS_H
#define TICKCAST_PROTOCOL_METRICS_H

#include "base/buf.h"

#include <stdatomic.h>
#include <stdint.h>

/* clang-format off */
#define METRIC_TABLE(X)                                                                            \
    X(CONNECTIONS, GAUGE, "tickcast_connections", "", "WebSocket clients connected now")           \
    X(SOCKETS, GAUGE, "tickcast_sockets", "", "Client sockets open now, requests not yet upgraded included") \
    X(CONNECTIONS_LIMIT, GAUGE, "tickcast_connections_limit", "", "listen.max_connections: WebSocket clients that may be connected") \
    X(CLIENTS_BLOCKED, GAUGE, "tickcast_clients_blocked", "", "Client sockets that take no bytes just now") \
    X(CLIENTS_LAGGING, GAUGE, "tickcast_clients_lagging", "", "Clients past their soft mark, to be served the newest values when they read again") \
    X(QUEUED_BYTES, GAUGE, "tickcast_queued_bytes", "", "Bytes in the private queues of clients, those of shared frames counted in each") \
    X(STREAM_BYTES, GAUGE, "tickcast_stream_bytes", "", "Bytes in the streams of cohorts that a member still needs, those of shared frames counted in each") \
    X(CONNECTIONS_TOTAL, COUNTER, "tickcast_connections_opened_total", "", "WebSocket upgrades accepted") \
    X(ENDED_CLIENT, COUNTER, "tickcast_connections_ended_total", "cause=\"client\"", "Client connections ended, by cause") \
    X(ENDED_LOST, COUNTER, "tickcast_connections_ended_total", "cause=\"lost\"", "Client connections ended, by cause") \
    X(ENDED_PROTOCOL, COUNTER, "tickcast_connections_ended_total", "cause=\"protocol\"", "Client connections ended, by cause") \
    X(ENDED_LIMIT, COUNTER, "tickcast_connections_ended_total", "cause=\"limit\"", "Client connections ended, by cause") \
    X(ENDED_SLOW, COUNTER, "tickcast_connections_ended_total", "cause=\"slow\"", "Client connections ended, by cause") \
    X(ENDED_PING, COUNTER, "tickcast_connections_ended_total", "cause=\"ping_timeout\"", "Client connections ended, by cause") \
    X(ENDED_KICKED, COUNTER, "tickcast_connections_ended_total", "cause=\"kicked\"", "Client connections ended, by cause") \
    X(ENDED_DRAIN, COUNTER, "tickcast_connections_ended_total", "cause=\"drain\"", "Client connections ended, by cause") \
    X(SHORT_LIVED, COUNTER, "tickcast_connections_short_lived_total", "", "Client connections that ended within quality.short_lived_ms, other than by a kick or a drain") \
    X(PINGS_SENT, COUNTER, "tickcast_pings_sent_total", "", "WebSocket pings sent to clients") \
    X(PINGS_LOST, COUNTER, "tickcast_pings_unanswered_total", "", "WebSocket pings that were not answered when the next one was due") \
    X(HTTP_2XX, COUNTER, "tickcast_http_responses_total", "code=\"2xx\"", "HTTP responses of the client listener other than upgrades, by class") \
    X(HTTP_4XX, COUNTER, "tickcast_http_responses_total", "code=\"4xx\"", "HTTP responses of the client listener other than upgrades, by class") \
    X(HTTP_5XX, COUNTER, "tickcast_http_responses_total", "code=\"5xx\"", "HTTP responses of the client listener other than upgrades, by class") \
    X(HANDSHAKE_TIMEOUTS, COUNTER, "tickcast_handshake_timeouts_total", "", "Sockets closed because no whole request head came in time") \
    X(ACCEPT_PAUSES, COUNTER, "tickcast_accept_pauses_total", "", "Times that accepting paused because descriptors ran out") \
    X(ACCEPT_REFUSED, COUNTER, "tickcast_accept_refused_total", "", "Sockets closed at once because far too many were open") \
    X(REFUSED_DRAINING, COUNTER, "tickcast_upgrades_refused_total", "reason=\"draining\"", "Upgrades refused, by reason") \
    X(REFUSED_RATE, COUNTER, "tickcast_upgrades_refused_total", "reason=\"rate\"", "Upgrades refused, by reason") \
    X(REFUSED_FULL, COUNTER, "tickcast_upgrades_refused_total", "reason=\"full\"", "Upgrades refused, by reason") \
    X(CHANNELS, GAUGE, "tickcast_channels", "", "Channels with a subscriber on this node, counted per worker") \
    X(SUBSCRIPTIONS, GAUGE, "tickcast_subscriptions", "", "Subscriptions of connected clients") \
    X(COHORTS, GAUGE, "tickcast_cohorts", "", "Groups of clients that share one output stream") \
    X(PUBLICATIONS, COUNTER, "tickcast_publications_total", "", "Publications received from Redis and accepted") \
    X(PUBLICATION_BYTES, COUNTER, "tickcast_publication_bytes_total", "", "Payload bytes of accepted publications") \
    X(DROPPED_STAMP, COUNTER, "tickcast_publications_dropped_total", "reason=\"bad_stamp\"", "Publications dropped, by reason") \
    X(DROPPED_UTF8, COUNTER, "tickcast_publications_dropped_total", "reason=\"bad_utf8\"", "Publications dropped, by reason") \
    X(DROPPED_LARGE, COUNTER, "tickcast_publications_dropped_total", "reason=\"too_large\"", "Publications dropped, by reason") \
    X(DROPPED_STALE, COUNTER, "tickcast_publications_dropped_total", "reason=\"stale_seq\"", "Publications dropped, by reason") \
    X(DROPPED_CHANNEL, COUNTER, "tickcast_publications_dropped_total", "reason=\"unknown_channel\"", "Publications dropped, by reason") \
    X(NOT_JSON, COUNTER, "tickcast_publications_not_json_total", "", "Publications that are not JSON and were delivered as a string") \
    X(DELIVERIES, COUNTER, "tickcast_deliveries_total", "", "Publications written to clients") \
    X(DELIVERED_BYTES, COUNTER, "tickcast_delivered_bytes_total", "", "Bytes of publications written to clients, as sent") \
    X(DELIVERED_PLAIN_BYTES, COUNTER, "tickcast_delivered_uncompressed_bytes_total", "", "Bytes of the same publications before compression") \
    X(CONFLATED, COUNTER, "tickcast_conflated_total", "", "Publications that a client was not sent because a newer value replaced them") \
    X(SLOW_EPISODES, COUNTER, "tickcast_slow_episodes_total", "", "Times that a client passed its soft mark") \
    X(RECOVERED, COUNTER, "tickcast_recoveries_total", "result=\"recovered\"", "Positions that clients came back with, by result") \
    X(NOT_RECOVERED, COUNTER, "tickcast_recoveries_total", "result=\"snapshot\"", "Positions that clients came back with, by result") \
    X(SESSIONS_STORED, COUNTER, "tickcast_sessions_stored_total", "", "Client sessions that were put into Redis when their connection ended") \
    X(SESSIONS_NOT_STORED, COUNTER, "tickcast_sessions_not_stored_total", "", "Client sessions that could not be: Redis away or refusing, too large, or too many at once") \
    X(SESSIONS_RESUMED, COUNTER, "tickcast_sessions_asked_total", "result=\"resumed\"", "Sessions that clients came back for, by result") \
    X(SESSIONS_UNKNOWN, COUNTER, "tickcast_sessions_asked_total", "result=\"unknown\"", "Sessions that clients came back for, by result") \
    X(SESSIONS_UNUSABLE, COUNTER, "tickcast_sessions_asked_total", "result=\"unusable\"", "Sessions that clients came back for, by result") \
    X(SESSIONS_UNREAD, COUNTER, "tickcast_sessions_asked_total", "result=\"redis_away\"", "Sessions that clients came back for, by result") \
    X(CLIENT_PUBLISHES, COUNTER, "tickcast_client_publishes_total", "", "Publications by clients that Redis took") \
    X(WRITES, COUNTER, "tickcast_writes_total", "", "Write system calls to clients") \
    X(WRITES_BLOCKED, COUNTER, "tickcast_writes_blocked_total", "", "Writes that the kernel did not take whole") \
    X(COMMANDS, COUNTER, "tickcast_client_commands_total", "", "Commands received from clients") \
    X(ERR_COMMAND, COUNTER, "tickcast_client_errors_total", "cause=\"command\"", "Errors by clients, by cause") \
    X(ERR_RATE, COUNTER, "tickcast_client_errors_total", "cause=\"rate_limited\"", "Errors by clients, by cause") \
    X(ERR_CHANNEL, COUNTER, "tickcast_client_errors_total", "cause=\"channel\"", "Errors by clients, by cause") \
    X(ERR_PROTOCOL, COUNTER, "tickcast_client_errors_total", "cause=\"websocket\"", "Errors by clients, by cause") \
    X(ERR_TOO_LARGE, COUNTER, "tickcast_client_errors_total", "cause=\"too_large\"", "Errors by clients, by cause") \
    X(ERR_BAD_DATA, COUNTER, "tickcast_client_errors_total", "cause=\"bad_data\"", "Errors by clients, by cause") \
    X(ADMIN_COMMANDS, COUNTER, "tickcast_admin_commands_total", "result=\"ok\"", "Admin commands heard, by result") \
    X(ADMIN_ERRORS, COUNTER, "tickcast_admin_commands_total", "result=\"error\"", "Admin commands heard, by result") \
    X(TRACES_FOLLOWED, COUNTER, "tickcast_traces_total", "result=\"followed\"", "Trace notes heard, by whether their publication followed on a channel of this node") \
    X(TRACES_ELSEWHERE, COUNTER, "tickcast_traces_total", "result=\"elsewhere\"", "Trace notes heard, by whether their publication followed on a channel of this node") \
    X(TRACES_BAD, COUNTER, "tickcast_traces_total", "result=\"malformed\"", "Trace notes heard, by whether their publication followed on a channel of this node") \
    X(API_2XX, COUNTER, "tickcast_api_responses_total", "code=\"2xx\"", "Responses of the ops listener, by class") \
    X(API_4XX, COUNTER, "tickcast_api_responses_total", "code=\"4xx\"", "Responses of the ops listener, by class") \
    X(API_5XX, COUNTER, "tickcast_api_responses_total", "code=\"5xx\"", "Responses of the ops listener, by class") \
    X(PUBLISHING, GAUGE, "tickcast_publishing", "", "Publications of clients and of the API that Redis has not answered") \
    X(PUBLISHING_BYTES, GAUGE, "tickcast_publishing_bytes", "", "Payload bytes of those") \
    X(LOG_DROPPED, COUNTER, "tickcast_log_dropped_total", "", "Log lines dropped because standard error did not take them") \
    X(LOG_SUPPRESSED, COUNTER, "tickcast_log_suppressed_total", "", "Log lines not written because there were more of their kind than node.log_lines_per_s") \
    X(READY, GAUGE, "tickcast_ready", "", "1 while the node is to be given clients: what /readyz says") \
    X(DRAINING, GAUGE, "tickcast_draining", "", "1 while the node hands its clients to others, or stops") \
    X(WORKERS, GAUGE, "tickcast_workers", "", "Threads that serve clients") \
    X(FEED_OK, GAUGE, "tickcast_feed_ok", "", "1 while the canary returns through Redis, 0 while the feed is suspect") \
    X(FEED_SUSPECTS, COUNTER, "tickcast_feed_suspects_total", "", "Times the feed became suspect") \
    X(REDIS_UP_SUB, GAUGE, "tickcast_redis_up", "link=\"subscriber\"", "1 while the link to Redis is established") \
    X(REDIS_UP_CMD, GAUGE, "tickcast_redis_up", "link=\"command\"", "1 while the link to Redis is established") \
    X(REDIS_CONNECTS_SUB, COUNTER, "tickcast_redis_connects_total", "link=\"subscriber\"", "Connections to Redis established") \
    X(REDIS_CONNECTS_CMD, COUNTER, "tickcast_redis_connects_total", "link=\"command\"", "Connections to Redis established") \
    X(REDIS_ERRORS, COUNTER, "tickcast_redis_errors_total", "", "Connections to Redis that failed or were lost, and error replies") \
    X(REDIS_IN_SUB, COUNTER, "tickcast_redis_received_bytes_total", "link=\"subscriber\"", "Bytes received from Redis") \
    X(REDIS_IN_CMD, COUNTER, "tickcast_redis_received_bytes_total", "link=\"command\"", "Bytes received from Redis") \
    X(REDIS_OUT_SUB, COUNTER, "tickcast_redis_sent_bytes_total", "link=\"subscriber\"", "Bytes sent to Redis") \
    X(REDIS_OUT_CMD, COUNTER, "tickcast_redis_sent_bytes_total", "link=\"command\"", "Bytes sent to Redis") \
    X(REDIS_UNSENT, GAUGE, "tickcast_redis_unsent_bytes", "", "Bytes that Redis has not taken, on both links") \
    X(UNCONFIRMED, GAUGE, "tickcast_channels_unconfirmed", "", "Channels that wait for Redis to confirm them, or to be read or healed") \
    X(HELD_BYTES, GAUGE, "tickcast_held_bytes", "", "Bytes of messages that are kept back until their channel was read") \
    X(READS_WAITING, GAUGE, "tickcast_stored_reads_waiting", "", "Reads of stored values and logs that are queued or under way") \
    X(STORED_READS, COUNTER, "tickcast_stored_reads_total", "", "Reads of channels' stored values and logs") \
    X(STORED_BROKEN, COUNTER, "tickcast_stored_unusable_total", "", "Stored values that something else had written") \
    X(HEALED, COUNTER, "tickcast_healed_publications_total", "", "Publications that were missed during an outage and delivered from the store") \
    X(RENEWALS, COUNTER, "tickcast_epochs_renewed_total", "", "Channels whose numbers went back and that got a new epoch") \
    X(MIRRORED, GAUGE, "tickcast_mirrored_channels", "", "Channels of mirrored namespaces that the node keeps") \
    X(REDIS_CHANNELS, GAUGE, "tickcast_redis_channels", "", "Channels subscribed in Redis, lingering ones included") \
    X(REGISTRY_ERRORS, COUNTER, "tickcast_registry_errors_total", "", "Writes of this node's registry entry that Redis refused") \
    X(REGISTRY_CONFLICTS, COUNTER, "tickcast_registry_conflicts_total", "", "Times that another node was found running with this node's id") \
    X(CANARY_SENT, COUNTER, "tickcast_canary_sent_total", "", "Canaries published") \
    X(CANARY_SEEN, COUNTER, "tickcast_canary_seen_total", "", "Canaries that came back") \
    X(CANARY_RTT_US, GAUGE, "tickcast_canary_round_trip_microseconds", "", "Round trip of the last canary that came back") \
    X(LOST_PERCENT, GAUGE, "tickcast_lost_heartbeats_percent", "", "Share of pings not answered in time, within quality.window_ms") \
    X(RTT_DEVIATION_US, GAUGE, "tickcast_ping_deviation_microseconds", "", "Mean deviation of the ping round trips of a connection, within quality.window_ms") \
    X(SHORT_LIVED_NOW, GAUGE, "tickcast_short_lived_in_window", "", "Short-lived connections within quality.short_lived_window_ms") \
    X(ALERT_LOST, GAUGE, "tickcast_alert_active", "alert=\"lost_heartbeats\"", "1 while the alert about connection quality is raised") \
    X(ALERT_DEVIATION, GAUGE, "tickcast_alert_active", "alert=\"rtt_deviation\"", "1 while the alert about connection quality is raised") \
    X(ALERT_SHORT, GAUGE, "tickcast_alert_active", "alert=\"short_lived\"", "1 while the alert about connection quality is raised") \
    X(RAISED_LOST, COUNTER, "tickcast_alerts_raised_total", "alert=\"lost_heartbeats\"", "Times that the alert was raised") \
    X(RAISED_DEVIATION, COUNTER, "tickcast_alerts_raised_total", "alert=\"rtt_deviation\"", "Times that the alert was raised") \
    X(RAISED_SHORT, COUNTER, "tickcast_alerts_raised_total", "alert=\"short_lived\"", "Times that the alert was raised")

#define METRIC_HISTOGRAM_TABLE(X)                                                                  \
    X(DELIVERY, "tickcast_delivery_seconds", "Time from the read from Redis to the write to the client's socket; every publication of a write is counted at the age of its oldest") \
    X(LOOP_LAG, "tickcast_loop_lag_seconds", "How late a timer of a loop fired, looked at ten times a second in each: how long others had to wait for their turn") \
    X(PING, "tickcast_ping_seconds", "Time from a WebSocket ping to its pong") \
    X(PING_DEVIATION, "tickcast_ping_deviation_seconds", "Deviation of a connection's ping round trips, at each pong")
/* clang-format on */

enum metric {
#define METRIC_ENUM(symbol, type, name, labels, help) METRIC_##symbol,
    METRIC_TABLE(METRIC_ENUM)
#undef METRIC_ENUM
        METRIC_COUNT
};

enum metric_histogram {
#define METRIC_ENUM(symbol, name, help) HISTOGRAM_##symbol,
    METRIC_HISTOGRAM_TABLE(METRIC_ENUM)
#undef METRIC_ENUM
        HISTOGRAM_COUNT
};

/* Upper bounds 1 µs * 2^i: 1 µs .. 8.4 s, then +Inf. */
#define HISTOGRAM_BUCKETS 24

struct metrics_histogram {
    _Atomic uint64_t buckets[HISTOGRAM_BUCKETS + 1]; /* not cumulative; the last one is +Inf */
    _Atomic uint64_t sum_ns;
};

struct metrics {
    _Atomic uint64_t values[METRIC_COUNT];
    struct metrics_histogram histograms[HISTOGRAM_COUNT];
};

static inline void metrics_bump(_Atomic uint64_t *value, uint64_t delta)
{
    uint64_t now = atomic_load_explicit(value, memory_order_relaxed);
    atomic_store_explicit(value, now + delta, memory_order_relaxed);
}

/* Adds to a counter or gauge; the owner thread only. Pass (uint64_t)-1 to take one off a gauge. */
static inline void metrics_add(struct metrics *m, enum metric id, uint64_t delta)
{
    metrics_bump(&m->values[id], delta);
}

static inline void metrics_set(struct metrics *m, enum metric id, uint64_t value)
{
    atomic_store_explicit(&m->values[id], value, memory_order_relaxed);
}

static inline uint64_t metrics_get(const struct metrics *m, enum metric id)
{
    return atomic_load_explicit(&m->values[id], memory_order_relaxed);
}

/* The label text of a row, such as `cause="lost"`; "" when it has none. Static. */
const char *metrics_labels(enum metric id);

/* Records `count` observations of the same duration. */
void metrics_observe_ns(struct metrics *m, enum metric_histogram id, uint64_t ns, uint64_t count);

/* How many observations there were, and the sum of their durations in ns, over several owners. */
uint64_t metrics_histogram_sum(struct metrics *const *all, size_t count, enum metric_histogram id,
                               uint64_t *sum_ns);

/* Sum over several owners. */
uint64_t metrics_sum(struct metrics *const *all, size_t count, enum metric id);

/* Appends the exposition (text format 0.0.4): the table, the histograms, tickcast_info with the
 * version and node, and the process metrics (process_resident_memory_bytes, process_open_fds,
 * process_cpu_seconds_total, process_start_time_seconds). */
void metrics_expose(struct buf *out, struct metrics *const *all, size_t count, const char *node);

#endif
