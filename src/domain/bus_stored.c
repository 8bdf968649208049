/*
 * bus_stored.c - what Redis keeps of a channel meets what the subscriber link brings.
 *
 * Main thread. While a channel's state is being read (bus_read.c) or its epoch changed, its messages
 * are kept back (bus_held.c) and taken afterwards: what is read is older than they are, and must go
 * out first.
 *
 *   confirmed, or after a hole: LOAD ──> value, and the log since what was seen ──> live
 *                                └────> numbers below what was seen, another history ──> RENEW
 *   live: a stamp at or below the last one ──> RENEW: a new epoch, once for the fleet ──> live
 */
#include "domain/bus_read.h"

#include "base/log.h"
#include "domain/bus_priv.h"

#include <stdlib.h>

/* --- loading and healing -------------------------------------------------------------------- */

bool bus_is_stored(const struct bus_channel *c)
{
    return c->ns->snapshot || c->ns->history > 0 || c->is_stamped;
}

void bus_load(struct bus *b, struct bus_channel *c)
{
    if (!bus_is_stored(c)) {
        bus_go_live(b, c);
        return;
    }
    /* The log from what was seen on, that included: another history shows there. */
    bool wants_log = c->is_stamped && c->ns->history > 0 && c->workers != 0;
    bus_read_start(bus_read_new(b, c, BUS_READ_LOAD, wants_log ? c->seq : STORED_NO_LOG));
}

static void hand_out_stored(struct bus *b, struct bus_channel *c, const struct stored_entry *entry,
                            bool is_snapshot)
{
    bool was_healed = !is_snapshot;
    struct publication *p = bus_intake_stored(&b->intake, c, entry, is_snapshot);
    if (p == NULL)
        return;
    metrics_add(b->setup.metrics, METRIC_HEALED, was_healed);
    bus_hand_out(b, c, p);
}

/* Nothing is read or renewed any more. */
static void go_on(struct bus *b, struct bus_channel *c)
{
    if (c->read == NULL && c->confirmed)
        bus_go_live(b, c);
}

/* The read is done: what came meanwhile follows, and the channel is live. One that is not confirmed
 * was cut off since the read began, which says nothing about that hole. */
static void finish_load(struct bus_read *r)
{
    struct bus *b = r->bus;
    struct bus_channel *c = r->channel;
    c->has_hole = c->has_hole || !c->confirmed;
    bus_read_end(r);
    bus_release_held(b, c);
    go_on(b, c);
}

static void renew(struct bus_read *r, bool is_certain)
{
    struct bus *b = r->bus;
    struct bus_channel *c = r->channel;
    bool is_load = r->kind == BUS_READ_LOAD || r->is_load;
    log_often(LOG_FAULTS, LOG_WARN, "numbers_went_back", LOG_SLICE("channel", bus_channel_name(c)),
              LOG_INT("seq", c->seq));
    bus_read_end(r);
    struct bus_read *renewal = bus_read_new(b, c, BUS_READ_RENEW, STORED_NO_LOG);
    renewal->is_load = is_load;
    renewal->is_certain = is_certain;
    bus_read_start(renewal);
}

/* Another history: a number that we know too, given to something else. Messages that could not be
 * kept back may have taken the channel past what was seen. */
static bool is_other_branch(const struct bus_read *r, const struct stored_reading *reading)
{
    const struct bus_channel *c = r->channel;
    if (reading->value.seq == c->seq && reading->value.ts_ms != c->ts_ms)
        return true;
    return reading->entry_count > 0 && reading->entries[0].seq == r->seen &&
           reading->entries[0].ts_ms != r->seen_ts_ms;
}

/* The same in what the new link has brought: a copy that has caught up since the link is there. */
static bool holds_other_branch(const struct bus_read *r)
{
    const struct bus_channel *c = r->channel;
    struct stamp stamp;
    for (const struct list *at = c->held.next; at != &c->held; at = at->next) {
        if (bus_held_stamp(at, &stamp) && stamp.seq == r->seen && stamp.seq <= c->live_seq &&
            stamp.ts_ms != r->seen_ts_ms && slice_equal(stamp.epoch, bus_channel_epoch(c)))
            return true;
    }
    return false;
}

/* Read for a client that is ahead of a channel that has lost nothing: what its followers have not had
 * will come to them, and without a log nothing else could bring what lies before the value. Where all
 * are in mode `latest` the value is all that counts, so the sooner the better. */
static bool is_on_its_way(const struct bus_channel *c)
{
    return c->live && !c->has_hole && c->ns->history == 0 && c->ns->allow_all;
}

/* A channel that was known, in the same epoch: what is missing goes out in order. */
static void heal(struct bus_read *r, const struct stored_reading *reading)
{
    struct bus *b = r->bus;
    struct bus_channel *c = r->channel;
    bool is_first_page = r->log_from == r->seen || r->log_from == STORED_NO_LOG;
    bool is_other = is_first_page && (is_other_branch(r, reading) || holds_other_branch(r));
    if (reading->value.seq < c->seq || is_other) {
        renew(r, is_other || reading->value.seq < r->seen);
        return;
    }
    for (uint32_t i = 0; i < reading->entry_count; i++) {
        if (reading->entries[i].seq > c->seq)
            hand_out_stored(b, c, &reading->entries[i], false);
    }
    if (c->seq < reading->value.seq && reading->has_more) {
        r->log_from = reading->entries[reading->entry_count - 1].seq + 1;
        r->seen = c->seq;
        r->seen_ts_ms = c->ts_ms;
        bus_read_start(r);
        return;
    }
    if (c->seq < reading->value.seq && is_on_its_way(c))
        c->coming_seq = reading->value.seq;
    else if (c->seq < reading->value.seq)
        hand_out_stored(b, c, &reading->value, false);
    c->has_hole = false;
    finish_load(r);
}

static bool goes_on(const struct bus_channel *c, const struct list *held)
{
    struct stamp stamp;
    return bus_held_stamp(held, &stamp) && stamp.seq > c->seq &&
           slice_equal(stamp.epoch, bus_channel_epoch(c));
}

/* The numbering began anew while messages were kept back: those that still go on from what was
 * known come before it. is_renewed: under the old epoch, so only what came before a hole does. */
static void take_held_of_old(struct bus *b, struct bus_channel *c, bool is_renewed)
{
    while (c->is_stamped && !list_is_empty(&c->held) && goes_on(c, c->held.next) &&
           (!is_renewed || bus_is_before_hole(c->held.next))) {
        struct held_message *m = bus_shift_held(b, &c->held);
        bus_take_now(b, c, slice_of(m->bytes, m->len));
        free(m);
    }
}

/* A channel that was not known, or is numbered anew. */
static void adopt(struct bus_read *r, const struct stored_reading *reading)
{
    struct bus *b = r->bus;
    struct bus_channel *c = r->channel;
    take_held_of_old(b, c, false);
    bool had_value = c->last != NULL;
    bool has_data = reading->value.data.len > 0 || reading->value.is_too_large;
    bus_intake_adopt_epoch(c, reading->epoch, reading->value.seq);
    c->ts_ms = reading->value.ts_ms;
    c->has_hole = false;
    if (has_data || had_value)
        hand_out_stored(b, c, &reading->value, has_data);
    finish_load(r);
}

static void log_broken(const struct bus *b, const struct bus_channel *c)
{
    metrics_add(b->setup.metrics, METRIC_STORED_BROKEN, 1);
    log_often(LOG_FAULTS, LOG_WARN, "stored_value_unusable",
              LOG_SLICE("channel", bus_channel_name(c)));
}

void bus_on_loaded(struct bus_read *r, const struct stored_reading *reading)
{
    struct bus *b = r->bus;
    struct bus_channel *c = r->channel;
    if (reading->status == STORED_VALUE) {
        bus_expiry_found(b, c, reading->ttl_ms);
        if (c->is_stamped && slice_equal(bus_channel_epoch(c), reading->epoch))
            heal(r, reading);
        else
            adopt(r, reading);
        return;
    }
    bool is_unchanged = r->seen == c->seq; /* else something was published behind this read */
    if (reading->status == STORED_BROKEN)
        log_broken(b, c);
    else if (c->is_stamped && is_unchanged && (c->has_expiry || c->ns->history_ttl_s > 0))
        bus_expiry_end(b, c);
    else if (c->is_stamped)
        c->live_seq = c->seq; /* nothing is stored that would cover messages below it */
    finish_load(r);
}

/* --- renewed epochs ------------------------------------------------------------------------- */

/* A number below what was seen that cannot be kept back. */
static void drop_regressed(struct bus_read *r, uint64_t seq)
{
    metrics_add(r->bus->setup.metrics, METRIC_DROPPED_STALE, 1);
    r->has_dropped_run = r->has_dropped_run || (r->dropped_seq != 0 && seq == r->dropped_seq + 1);
    r->dropped_seq = seq;
}

void bus_on_regressed(struct bus *b, struct bus_channel *c, struct slice payload)
{
    struct stamp stamp = {0};
    stamp_parse(payload, &stamp);
    if (c->read != NULL && c->read->kind == BUS_READ_RENEW) {
        drop_regressed(c->read, stamp.seq);
        return;
    }
    bool is_unread = c->read != NULL && c->read->kind == BUS_READ_LOAD;
    struct bus_read *r = bus_read_new(b, c, BUS_READ_RENEW, STORED_NO_LOG);
    r->is_unread = is_unread;
    log_often(LOG_FAULTS, LOG_WARN, "numbers_went_back", LOG_SLICE("channel", bus_channel_name(c)),
              LOG_INT("seq", c->seq));
    r->first_seq = stamp.seq;
    r->has_first = bus_hold(b, c, payload);
    if (!r->has_first)
        drop_regressed(r, stamp.seq);
    bus_read_start(r);
}

/* The epoch is as it was: the message was no sign of a failover. */
static void on_not_renewed(struct bus_read *r)
{
    struct bus *b = r->bus;
    struct bus_channel *c = r->channel;
    bool is_run = (r->has_first || r->is_load) && bus_holds_run_of_regressed(c);
    if (!r->is_certain && (is_run || r->has_dropped_run)) {
        r->is_certain = true;
        bus_read_start(r);
        return;
    }
    bool has_first = r->has_first, is_unread = r->is_unread;
    bus_read_end(r);
    if (has_first) {
        free(bus_shift_held(b, &c->held));
        metrics_add(b->setup.metrics, METRIC_DROPPED_STALE, 1);
    }
    if (is_unread) {
        bus_load(b, c); /* what is kept back follows that */
        return;
    }
    bus_release_held(b, c);
    go_on(b, c);
}

void bus_on_renewed(struct bus_read *r, const struct stored_reading *reading)
{
    struct bus *b = r->bus;
    struct bus_channel *c = r->channel;
    if (reading->status != STORED_VALUE || slice_equal(reading->epoch, bus_channel_epoch(c))) {
        on_not_renewed(r);
        return;
    }
    metrics_add(b->setup.metrics, METRIC_RENEWALS, 1);
    log_often(LOG_FAULTS, LOG_INFO, "epoch_renewed", LOG_SLICE("channel", bus_channel_name(c)),
              LOG_SLICE("epoch", reading->epoch));
    if (r->has_first) {
        bus_intake_renew(c, reading->epoch, r->first_seq - 1);
        c->live_seq = r->first_seq - 1;
        bus_read_end(r);
        bus_release_held(b, c);
        go_on(b, c);
        return;
    }
    /* Those that came from first_seq on, with no command link to ask by, were dropped: a gap. */
    bool is_load = r->is_load || r->is_unread;
    bool has_gap = !is_load && r->first_seq <= reading->value.seq;
    take_held_of_old(b, c, true);
    bus_intake_renew(c, reading->epoch, has_gap ? r->first_seq - 1 : reading->value.seq);
    c->ts_ms = reading->value.ts_ms;
    hand_out_stored(b, c, &reading->value, is_load && reading->value.data.len > 0);
    finish_load(r);
}

/* --- life ----------------------------------------------------------------------------------- */

void bus_forget_stored(struct bus *b, struct bus_channel *c)
{
    bus_read_abandon(c);
    bus_expiry_forget(b, c);
    bus_forget_held(b, c);
}

void bus_stored_init(struct bus *b)
{
    bus_reads_init(b);
    bus_expiry_init(b);
    bus_held_init(b);
}

void bus_stored_fini(struct bus *b)
{
    bus_reads_fini(b);
    bus_expiry_fini(b);
    bus_held_fini(b);
}
