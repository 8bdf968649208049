/*
 * session_quality.h - what is measured of one client's connection: pings, and how it ended.
 *
 * A ping carries its stamp, and only the pong with the stamp of the last ping is an answer, once.
 * Whatever else a client sends in pongs shows that it lives and measures nothing, so a client can
 * make its own figures worse, by answering late, and nobody else's.
 *
 * Owner: the worker's thread.
 */
#ifndef TICKCAST_DOMAIN_SESSION_QUALITY_H
#define TICKCAST_DOMAIN_SESSION_QUALITY_H

#include "domain/session.h"

void session_send_ping(struct session *s);

/* The next ping is due: when the last one waits still, it is lost. */
void session_settle_ping(struct session *s);

/* Its connection has ended: counts it if that was too soon. */
void session_judge_end(const struct session *s);

/* Who it is, over connections: "session:…", "user:…", or "" when that is not known. out holds
 * SESSION_NAME_TEXT bytes. */
#define SESSION_NAME_TEXT 129
void session_name(const struct session *s, char *out);

/* It is somebody who is known by name: "session:…", "user:…". Counts how often they come back. */
void session_note_arrival(const struct session *s, struct slice name);

/* For who shows connections to people. */
struct session_quality {
    bool is_measured;   /* rtt_us is known */
    bool has_deviation; /* deviation_us is known */
    uint32_t rtt_us;
    uint32_t deviation_us;
    uint32_t pings_unanswered; /* in a row, up to now */
    uint64_t open_ms;          /* how long it is connected */
};

void session_read_quality(const struct session *s, struct session_quality *out);

#endif
