/*
 * session_quality.c - a client's pings and pongs, and what counts as short-lived.
 *
 * Runs in the worker's thread. A ping's payload is the time at which it was queued, in eight hex
 * digits: the low 32 bits of the monotonic clock in microseconds, which go round in 71 minutes,
 * more than the longest period between pings. Being queued behind what the client does not read is
 * part of a round trip: that is what the client has of it.
 */
#include "domain/session_quality.h"

#include "base/clock.h"
#include "domain/quality_monitor.h"
#include "domain/resume.h"

#include <stdio.h>
#include <string.h>

#define STAMP_DIGITS 8
#define NS_PER_US    1000

static uint32_t low_us(void)
{
    return (uint32_t)(clock_mono_ns() / NS_PER_US);
}

static void write_stamp(uint32_t stamp_us, char text[STAMP_DIGITS + 1])
{
    snprintf(text, STAMP_DIGITS + 1, "%08x", (unsigned)stamp_us);
}

/* --- pings ---------------------------------------------------------------------------------- */

void session_send_ping(struct session *s)
{
    uint32_t now_us = low_us();
    s->conn->ping_sent_us = now_us != 0 ? now_us : 1; /* 0 says that none is on its way */
    char text[STAMP_DIGITS + 1];
    write_stamp(s->conn->ping_sent_us, text);
    conn_queue_control(s->conn, WS_OP_PING, slice_of(text, STAMP_DIGITS));
    metrics_add(session_metrics(s), METRIC_PINGS_SENT, 1);
}

void session_settle_ping(struct session *s)
{
    if (s->conn->ping_sent_us == 0)
        return;
    s->conn->ping_sent_us = 0;
    metrics_add(session_metrics(s), METRIC_PINGS_LOST, 1);
}

static bool is_answer(const struct session *s, struct slice payload)
{
    if (s->conn->ping_sent_us == 0 || payload.len != STAMP_DIGITS)
        return false;
    char text[STAMP_DIGITS + 1];
    write_stamp(s->conn->ping_sent_us, text);
    return memcmp(payload.ptr, text, STAMP_DIGITS) == 0;
}

void session_on_pong(struct session *s, struct slice payload)
{
    if (!is_answer(s, payload))
        return;
    struct rtt *rtt = &s->conn->rtt;
    uint32_t took_us = low_us() - s->conn->ping_sent_us;
    s->conn->ping_sent_us = 0;
    rtt_add(rtt, took_us);
    metrics_observe_ns(session_metrics(s), HISTOGRAM_PING, (uint64_t)took_us * NS_PER_US, 1);
    if (rtt_has_deviation(rtt))
        metrics_observe_ns(session_metrics(s), HISTOGRAM_PING_DEVIATION,
                           (uint64_t)rtt_deviation_us(rtt) * NS_PER_US, 1);
}

/* --- beginning and end ----------------------------------------------------------------------- */

void session_name(const struct session *s, char *out)
{
    char id[SESSION_ID_TEXT];
    resume_id_text(s, id);
    snprintf(out, SESSION_NAME_TEXT, id[0] != '\0' ? "session:%s" : "%s", id);
}

void session_note_arrival(const struct session *s, struct slice name)
{
    struct hub *hub = session_hub(s);
    if (hub->monitor != NULL)
        quality_monitor_post_arrival(hub->monitor, name);
}

/* We ended it; or it left by itself, as clients of a draining node are asked to. */
static bool is_our_doing(const struct session *s)
{
    uint8_t cause = s->conn->cause;
    return cause == METRIC_ENDED_DRAIN || cause == METRIC_ENDED_KICKED ||
           session_hub(s)->departures != NULL;
}

void session_judge_end(const struct session *s)
{
    const struct config *config = s->conn->worker->config;
    if (!is_our_doing(s) && session_age_ms(s) < (uint64_t)config->quality.short_lived_ms)
        metrics_add(session_metrics(s), METRIC_SHORT_LIVED, 1);
}

void session_read_quality(const struct session *s, struct session_quality *out)
{
    const struct conn *c = s->conn;
    *out = (struct session_quality){.is_measured = rtt_is_known(&c->rtt),
                                    .has_deviation = rtt_has_deviation(&c->rtt),
                                    .rtt_us = rtt_us(&c->rtt),
                                    .deviation_us = rtt_deviation_us(&c->rtt),
                                    .pings_unanswered = c->pings_unanswered,
                                    .open_ms = session_age_ms(s)};
}
