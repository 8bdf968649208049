/*
 * bus_read.h - one read of a channel's stored state, from its place in the queue to its end.
 *
 * A channel has at most one (bus_channel.read). A read whose channel went away, or wanted another
 * one instead, has no channel any more and ends with its reply. Owner: the main thread.
 */
#ifndef TICKCAST_DOMAIN_BUS_READ_H
#define TICKCAST_DOMAIN_BUS_READ_H

#include "domain/bus_priv.h"
#include "domain/stored.h"

enum bus_read_kind {
    BUS_READ_LOAD,    /* first interest, and after a hole */
    BUS_READ_RENEW,   /* the numbers went back: change the epoch */
    BUS_READ_EXPIRY,  /* how long will the value be there? */
    BUS_READ_RECOVER, /* the log, for clients that came back */
};

struct bus_read {
    struct list link; /* in bus->reads, looks, flying or refused */
    struct bus *bus;
    struct bus_channel *channel; /* NULL: abandoned */
    enum bus_read_kind kind;
    bool is_flying;        /* asked, and not yet answered */
    bool holds_nothing;    /* it takes too much or too long: messages go out as they come */
    bool is_overdue;       /* refused for so long that the channel is live without it */
    bool is_load;          /* RENEW: begun by a load, so the value is to be given as a snapshot */
    bool is_unread;        /* RENEW: in the place of a load, which is still to come */
    bool is_certain;       /* RENEW: whatever the stored number is */
    bool has_first;        /* RENEW: the message that began it is the first that is kept back */
    bool has_dropped_run;  /* RENEW: two in a row below what was seen could not be kept back */
    uint64_t log_from;     /* STORED_NO_LOG: value only */
    uint64_t seen;         /* the channel's number when it, or this page of the log, began */
    uint64_t seen_ts_ms;   /* of the same */
    uint64_t refused_ms;   /* since when the store refuses it; 0: it does not */
    uint64_t first_seq;    /* RENEW: the number that began it, unless a load did */
    uint64_t dropped_seq;  /* RENEW: the last number below what was seen; 0: not dropped */
    uint64_t recover_from; /* RECOVER: the first number that is complete */
    struct publication **list; /* RECOVER: read so far, one reference each */
    uint32_t first;            /* of them that is kept: those before were too many */
    uint32_t count;
    uint32_t cap;
    uint64_t bytes;
    bool is_unusable; /* RECOVER: more was recorded than may be kept, or it has another history */
};

/* A read of the channel in place of the one it may have; start it when it is filled in. */
struct bus_read *bus_read_new(struct bus *b, struct bus_channel *c, enum bus_read_kind kind,
                              uint64_t log_from);
void bus_read_start(struct bus_read *r); /* also once more: the next page, or a lost answer */
void bus_read_end(struct bus_read *r);
void bus_read_abandon(struct bus_channel *c);

/* bus_stored.c's part. */
void bus_on_loaded(struct bus_read *r, const struct stored_reading *reading);
void bus_on_renewed(struct bus_read *r, const struct stored_reading *reading);

/* bus_expiry.c's part. */
void bus_on_expiry_read(struct bus_read *r, const struct stored_reading *reading);

/* bus_recovery.c's part. */
void bus_on_recovery_read(struct bus_read *r, const struct stored_reading *reading);
void bus_recovery_begin_anew(struct bus_read *r); /* from the first page on */
void bus_drop_recent(struct bus_channel *c);

#endif
