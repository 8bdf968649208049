/*
 * stored.h - a channel's state in Redis: the commands that read and renew it, and their replies.
 *
 *      {tc:quote:AAPL}       hash     epoch, seq, ts, data (missing once the value was cleared)
 *      {tc:quote:AAPL}:log   stream   entries 815-0 of ts, data (empty: cleared)
 *
 * All of a reading is of one moment (a script). Nothing here keeps state; replies are checked field
 * by field, because anybody may write those keys. Owner: the main thread.
 */
#ifndef TICKCAST_DOMAIN_STORED_H
#define TICKCAST_DOMAIN_STORED_H

#include "domain/bus_channel.h"
#include "runtime/redis_link.h"

#include <stdbool.h>
#include <stdint.h>

#define STORED_PAGE   256 /* log entries per read, at most */
#define STORED_NO_LOG UINT64_MAX

struct stored_reading {
    enum {
        STORED_LOST,  /* the link went down: ask again when it is up */
        STORED_LATER, /* Redis refuses for now: it loads, fails over, or runs a long script */
        STORED_NONE,
        STORED_BROKEN,
        STORED_VALUE
    } status;
    struct slice epoch;
    struct stored_entry value; /* data empty: cleared */
    int64_t ttl_ms;            /* negative: for ever */
    struct stored_entry entries[STORED_PAGE];
    uint32_t entry_count;
    bool has_more; /* the log goes on behind them */
};

/* Whose state. Everything is borrowed. */
struct stored_place {
    struct redis_link *link;
    struct slice prefix;
    struct slice channel;
    size_t payload_bytes; /* data that is longer is not fetched */
};

typedef void stored_on_reply(void *arg, const struct redis_reply_view *reply);

/* Asks for value and, unless log_from is STORED_NO_LOG, a page of the log from that number on.
 * on_reply gets what stored_parse takes. */
void stored_ask(const struct stored_place *at, uint64_t log_from, stored_on_reply *on_reply,
                void *arg);

/* Is it one of the errors that pass by themselves: Redis loads, fails over, or is busy? */
bool stored_is_refused_for_now(const struct redis_reply_view *reply);

/* Everything in out borrows from the reply. */
void stored_parse(const struct redis_reply_view *reply, struct stored_reading *out);

/* Asks how long the value lives; stored_parse_life finds ttl_ms, or STORED_NONE. */
void stored_ask_life(const struct stored_place *at, stored_on_reply *on_reply, void *arg);
void stored_parse_life(const struct redis_reply_view *reply, struct stored_reading *out);

/*
 * Changes the epoch of a channel by compare-and-set, once for the fleet: when the hash still has
 * this epoch and its number is below seen, or is_certain, it gets a new one and the log, which is
 * of the old one, goes. The reply is the state as it then is, for stored_parse_renewed; who came
 * too late learns the other's epoch.
 */
void stored_renew(const struct stored_place *at, struct slice epoch, uint64_t seen, bool is_certain,
                  stored_on_reply *on_reply, void *arg);
void stored_parse_renewed(const struct redis_reply_view *reply, struct stored_reading *out);

#endif
