/*
 * bus_intake.c - checks and numbers what Redis hands out.
 *
 * A plain message gets the next number of an epoch that this node made up when it met the channel;
 * a stamped one brings its own. A plain message on a channel that is stamped keeps out of the
 * sequence altogether.
 */
#include "base/clock.h"
#include "base/utf8.h"
#include "domain/bus_channel.h"
#include "protocol/json_text.h"

#include <stdio.h>

/* Twelve hex digits: no two numberings anywhere share one by chance. */
#define PLAIN_EPOCH_BITS 48

void bus_intake_init(struct bus_intake *in, struct metrics *metrics)
{
    in->metrics = metrics;
    rng_init_random(&in->rng);
}

static enum intake_result drop(struct bus_intake *in, enum metric reason)
{
    metrics_add(in->metrics, reason, 1);
    return INTAKE_DROPPED;
}

/* --- numbering ------------------------------------------------------------------------------ */

static void set_epoch(struct bus_channel *c, struct slice epoch)
{
    c->epoch_len = (uint8_t)epoch.len;
    memcpy(c->epoch, epoch.ptr, epoch.len);
}

static void begin_plain_epoch(struct bus_intake *in, struct bus_channel *c)
{
    char text[STAMP_EPOCH_MAX];
    uint64_t id = rng_next(&in->rng) >> (64 - PLAIN_EPOCH_BITS);
    int len = snprintf(text, sizeof text, "%012llx", (unsigned long long)id);
    set_epoch(c, slice_of(text, (size_t)len));
    c->seq = 0;
}

void bus_intake_set_epoch(struct bus_channel *c, struct slice epoch, uint64_t seq)
{
    c->is_stamped = true;
    c->retired_len = 0;
    set_epoch(c, epoch);
    c->seq = seq;
    c->live_seq = c->coming_seq = 0;
}

static void retire(struct bus_channel *c, struct slice epoch, uint64_t seq, uint64_t retired_seq)
{
    char old[STAMP_EPOCH_MAX];
    uint8_t old_len = c->epoch_len;
    memcpy(old, c->epoch, old_len);
    bus_intake_set_epoch(c, epoch, seq);
    memcpy(c->retired, old, old_len);
    c->retired_len = old_len;
    c->retired_seq = retired_seq;
}

void bus_intake_renew(struct bus_channel *c, struct slice epoch, uint64_t seq)
{
    retire(c, epoch, seq, 0);
}

void bus_intake_adopt_epoch(struct bus_channel *c, struct slice epoch, uint64_t seq)
{
    if (c->is_stamped && c->seq != 0 && !slice_equal(bus_channel_epoch(c), epoch))
        retire(c, epoch, seq, c->seq > seq ? c->seq : seq);
    else
        bus_intake_set_epoch(c, epoch, seq);
}

/* --- publications --------------------------------------------------------------------------- */

static void keep_last(struct bus_channel *c, struct publication *p)
{
    if (c->last != NULL)
        publication_unref(c->last);
    c->last = p == NULL || p->cleared ? NULL : publication_ref(p);
}

static struct publication *make(struct bus_intake *in, const struct bus_channel *c,
                                struct publication_head *head, struct slice payload)
{
    head->is_json = !head->cleared && json_text_is_valid(payload);
    if (!head->cleared && !head->is_json)
        metrics_add(in->metrics, METRIC_NOT_JSON, 1);
    head->channel = bus_channel_name(c);
    head->channel_hash = c->hash;
    head->epoch = bus_channel_epoch(c);
    head->is_stamped = c->is_stamped;
    head->received_ns = clock_mono_ns();
    return publication_new(head, payload);
}

static bool is_taken_back(const struct bus_channel *c, const struct stamp *stamp)
{
    return c->is_stamped && stamp->seq <= c->live_seq &&
           slice_equal(bus_channel_epoch(c), stamp->epoch);
}

static bool is_retired(const struct bus_channel *c, const struct stamp *stamp)
{
    return c->retired_len != 0 && slice_equal(slice_of(c->retired, c->retired_len), stamp->epoch);
}

/* Once the present epoch came over the subscriber link, nothing older can come. */
static bool is_covered(const struct bus_channel *c, const struct stamp *stamp)
{
    return c->live_seq == 0 && stamp->seq <= c->retired_seq;
}

/* Moves the numbering on to a stamp. False: it is known already. */
static bool follow_stamp(struct bus_channel *c, struct stamp *stamp, uint64_t *gap)
{
    *gap = 0;
    if (is_retired(c, stamp)) {
        if (is_covered(c, stamp))
            return false;
        if (c->retired_seq == 0)
            stamp->epoch = bus_channel_epoch(c);
    }
    bool is_same = c->is_stamped && slice_equal(bus_channel_epoch(c), stamp->epoch);
    if (is_same && stamp->seq <= c->seq) {
        if (stamp->seq > c->live_seq)
            c->live_seq = stamp->seq;
        return false;
    }
    if (is_same)
        *gap = stamp->seq - c->seq - 1;
    else
        bus_intake_set_epoch(c, stamp->epoch, stamp->seq);
    c->seq = c->live_seq = stamp->seq;
    return true;
}

enum intake_result bus_intake_take(struct bus_intake *in, struct bus_channel *c,
                                   struct slice message, struct publication **out)
{
    struct stamp stamp = {.payload = message, .ts_ms = clock_unix_ms()};
    enum stamp_result result = stamp_parse(message, &stamp);
    bool is_stamped = result == STAMP_OK;
    struct publication_head head = {.ts_ms = stamp.ts_ms};
    if (result == STAMP_BAD)
        return drop(in, METRIC_DROPPED_STAMP);
    if (!utf8_is_valid(stamp.payload.ptr, stamp.payload.len))
        return drop(in, METRIC_DROPPED_UTF8);
    if (is_stamped && is_taken_back(c, &stamp))
        return INTAKE_REGRESSED;
    if (is_stamped && !follow_stamp(c, &stamp, &head.gap))
        return drop(in, METRIC_DROPPED_STALE);
    if (!is_stamped && c->epoch_len == 0)
        begin_plain_epoch(in, c);
    bool is_numbered = is_stamped || !c->is_stamped;
    if (is_numbered && !is_stamped)
        c->seq++;
    head.cleared = is_stamped && stamp.payload.len == 0;
    head.seq = is_numbered ? c->seq : 0;
    *out = make(in, c, &head, stamp.payload);
    metrics_add(in->metrics, METRIC_PUBLICATIONS, 1);
    metrics_add(in->metrics, METRIC_PUBLICATION_BYTES, stamp.payload.len);
    if (is_numbered) {
        c->has_hole = false;
        c->ts_ms = head.ts_ms;
        keep_last(c, *out);
    }
    return INTAKE_TAKEN;
}

static bool can_travel(struct bus_intake *in, const struct stored_entry *entry)
{
    if (entry->is_too_large)
        drop(in, METRIC_DROPPED_LARGE);
    else if (!utf8_is_valid(entry->data.ptr, entry->data.len))
        drop(in, METRIC_DROPPED_UTF8);
    else
        return true;
    return false;
}

struct publication *bus_intake_past(struct bus_intake *in, const struct bus_channel *c,
                                    const struct stored_entry *entry)
{
    if (!can_travel(in, entry))
        return NULL;
    struct publication_head head = {
        .seq = entry->seq, .ts_ms = entry->ts_ms, .cleared = entry->data.len == 0};
    return make(in, c, &head, entry->data);
}

struct publication *bus_intake_stored(struct bus_intake *in, struct bus_channel *c,
                                      const struct stored_entry *entry, bool is_snapshot)
{
    if (!can_travel(in, entry)) {
        if (is_snapshot)
            keep_last(c, NULL);
        return NULL; /* its number shows as a gap */
    }
    struct publication_head head = {.seq = entry->seq,
                                    .ts_ms = entry->ts_ms,
                                    .cleared = entry->data.len == 0,
                                    .is_snapshot = is_snapshot};
    if (!is_snapshot && entry->seq > c->seq)
        head.gap = entry->seq - c->seq - 1;
    c->seq = entry->seq;
    c->ts_ms = entry->ts_ms;
    c->has_hole = false;
    struct publication *p = make(in, c, &head, entry->data);
    keep_last(c, p);
    return p;
}

struct publication *bus_intake_end(struct bus_intake *in, struct bus_channel *c)
{
    struct publication_head head = {.ts_ms = clock_unix_ms(), .cleared = true};
    struct publication *p = make(in, c, &head, (struct slice){0});
    keep_last(c, NULL);
    c->epoch_len = c->retired_len = 0;
    c->is_stamped = false;
    c->seq = c->live_seq = c->coming_seq = 0;
    c->has_hole = false;
    return p;
}
