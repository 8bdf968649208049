/*
 * session.h - one client: what it asked for, and where it stands.
 *
 * Created with the upgrade, freed when its connection leaves OPEN. Owner: the worker's thread.
 * A session is a member of at most one cohort; its subscriptions are the cohort's. A subscribe is
 * acknowledged once Redis has confirmed every channel of it, and the positions that the client came
 * back with are answered, so that whatever is published after the `ack` arrives; while the feed is
 * suspect it is acknowledged at once.
 */
#ifndef TICKCAST_DOMAIN_SESSION_H
#define TICKCAST_DOMAIN_SESSION_H

#include "base/list.h"
#include "domain/catchup.h"
#include "domain/cohort.h"
#include "domain/hub.h"
#include "protocol/command.h"
#include "protocol/rate_limit.h"
#include "runtime/conn.h"

#include <stdbool.h>
#include <stdint.h>

struct recovery;

struct session {
    struct conn *conn;
    struct cohort *cohort;     /* NULL while nothing is subscribed */
    uint32_t member_index;     /* in cohort->members */
    uint32_t pending_channels; /* in requests that wait for Redis, each as often as in there */
    struct cohort_format format;
    struct rate_limit commands;
    uint16_t refused_in_a_row; /* commands over the limit since the last one taken */
    uint16_t publish_count;    /* publications that Redis has not answered */
    uint32_t note_count;       /* channels that have a note about it */
    uint32_t recovered_bytes;  /* of publications that its requests have recovered and hold */
    uint64_t id;               /* unique on this node since its start */
    struct catchup *catchup;   /* while it lags, else NULL */
    struct list requests;      /* subscribes that wait for Redis */
    uint32_t opened_ticks;     /* when it was let in, see session_age_ms */
    uint32_t resume_slot;      /* of its id in hub->session_ids; 0: none */
};

static inline struct hub *session_hub(const struct session *s)
{
    return hub_of(s->conn->worker);
}

static inline struct metrics *session_metrics(const struct session *s)
{
    return &s->conn->worker->metrics;
}

/* A subscribe that waits until all of its channels are confirmed. */
struct sub_request {
    struct list in_session;
    struct list in_hub;
    struct session *session;
    char id[COMMAND_ID_JSON_MAX];
    struct buf rejected;     /* JSON text of the `rejected` array's members */
    uint32_t waiting;        /* channels not yet confirmed */
    uint32_t count;          /* of subs */
    uint32_t added;          /* of them new to the session, for the limit */
    uint32_t wanted;         /* channels of the session before it; 0: nobody had to count them */
    bool snapshot;           /* wanted for newly subscribed channels */
    bool is_unheard;         /* the client did not ask: no ack */
    bool snapshot_again;     /* wanted for those already subscribed, too */
    struct cohort_sub *subs; /* each channel pinned */
    uint64_t number;         /* unique in the hub; its key in hub->recovering */
    struct recovery *recoveries; /* session_recovery.h */
    uint32_t recovery_count;
    uint32_t recovered;        /* publications in all recoveries */
    struct resume_ack *resume; /* owned: it brings a session back; else NULL */
};

/* Says hello. channels: the URL's list, percent-decoded, or empty. raw clients hear nothing. session:
 * its id, "" for one that is still asked for, NULL for a client that wants none. */
struct session *session_new(struct conn *c, struct cohort_format format);
void session_begin(struct session *s, struct slice channels, const char *session);
void session_free(struct session *s); /* its connection left OPEN */

/* What conn.h's callbacks mean for a session. */
void session_on_message(struct session *s, enum ws_opcode opcode, struct slice payload);
void session_on_pong(struct session *s, struct slice payload);
void session_on_timer(struct session *s);
void session_on_blocked(struct session *s);
void session_on_drained(struct session *s);

/* node.ping_ms or heartbeat_ms changed: its timer follows. is_ping: the former did. */
void session_on_periods(struct session *s, bool is_ping);

/* For the cohort: the member moved. */
void session_set_member_index(void *session, uint32_t index);

/* For the hub. */
void session_finish_request(struct sub_request *r);
void session_on_published(struct hub *h, uint64_t token, enum error_code error, uint64_t seq,
                          struct slice epoch);
void session_tell_feed(struct session *s, struct frame *state); /* takes state */

/* Queues one private message; takes f. Compressed like any other where that was agreed. */
void session_send(struct session *s, struct frame *f);

/* Queues a publication for this client alone, by reference where nobody else is told otherwise. */
void session_queue_item(struct session *s, struct item *item, enum publication_form form,
                        uint64_t missed);
void session_queue_push(struct session *s, struct frame *push); /* takes a plain push message */

/* Ends a client that is too slow for what must not be skipped: it is told, and closed with 4101. */
void session_end_slow(struct session *s, uint64_t waiting_bytes);

/* Queues an operator's text: shares f. Raw clients are left out; says whether it was taken. */
bool session_notify(struct session *s, struct frame *f);

/* For how long it has been connected. */
uint64_t session_age_ms(const struct session *s);

/* Takes a channel from a client, which is told; says whether it had it, or waited for it. */
bool session_end_subscription(struct session *s, struct slice channel);

/* Is it subscribed to the channel? */
bool session_follows(const struct session *s, struct slice channel);

/* "n1-4f3a": unique over the fleet as long as node ids are. out holds SESSION_CONN_TEXT bytes. */
#define SESSION_CONN_TEXT 96
void session_conn_text(const struct session *s, char *out);

#endif
