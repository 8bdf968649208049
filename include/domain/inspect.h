/*
 * inspect.h - what operators are shown of channels and clients. Reads, never changes.
 *
 * Each function belongs to the thread of what it looks at: the main thread for the bus, the
 * worker's for hubs and sessions. Costs are bounded: what is walked whole is only counted.
 */
#ifndef TICKCAST_DOMAIN_INSPECT_H
#define TICKCAST_DOMAIN_INSPECT_H

#include "domain/bus.h"
#include "domain/session.h"
#include "domain/session_quality.h"
#include "protocol/channel.h"
#include "protocol/stamp.h"

/* --- channels: main thread ------------------------------------------------------------------ */

/* A channel that somebody on this node follows. */
struct channel_view {
    char name[CHANNEL_BYTES_MAX + 1];
    char epoch[STAMP_EPOCH_MAX + 1]; /* "": nothing was numbered yet */
    uint64_t seq;
    uint64_t ts_ms;
    uint32_t value_bytes; /* of the value that is kept; 0: none */
    uint8_t mode;         /* enum delivery_mode, of the namespace */
    bool is_stamped;
    bool is_live;         /* Redis confirmed it, and what is stored was read */
    uint64_t subscribers; /* left 0: the workers know */
};

struct channel_page {
    struct channel_view *views; /* owned, ordered by name */
    size_t count;
    uint64_t total; /* that match, those before `after` included */
};

/* The first `limit` channels by name behind `after` whose names begin with prefix. One walk over
 * all channels of the bus. */
struct channel_page inspect_channels(const struct bus *b, struct slice prefix, struct slice after,
                                     size_t limit);

/* --- subscribers and clients: the worker's thread ------------------------------------------- */

/* Adds the subscribers of a channel on this worker to *subscribers; returns how many groups of
 * them it had to look at. */
uint32_t inspect_subscribers(const struct hub *h, struct slice channel, uint64_t *subscribers);

struct client_view {
    uint64_t id; /* of the session: rises with the time of the connection, per worker */
    char conn[SESSION_CONN_TEXT];
    char address[64];       /* of the peer */
    uint64_t pending_bytes; /* on their way to it that it has not taken */
    uint64_t blocked_ms;    /* since its socket refused bytes; 0: it takes them */
    struct session_quality quality;
    char name[SESSION_NAME_TEXT]; /* that its reconnects are counted by; "": none */
    uint32_t channels;
    uint8_t state; /* enum member_state; IN_STEP without channels */
    bool raw;
    bool deflate;
};

void inspect_client(const struct session *s, struct client_view *out);
const char *inspect_state_name(uint8_t state); /* static */

#endif
