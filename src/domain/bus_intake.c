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

#define PLAIN_EPOCH_BITS                                                    \
    48 /* twelve hex digits: no two numberings anywhere share one by chance \
        */

void bus_intake_init(struct bus_intake *in, struct metrics *metrics)
{
    in->metrics = metrics;
    rng_init_random(&in->rng);
}

static struct publication *drop(struct bus_intake *in, enum metric reason)
{
    metrics_add(in->metrics, reason, 1);
    return NULL;
}

static void begin_plain_epoch(struct bus_intake *in, struct bus_channel *c)
{
    char text[STAMP_EPOCH_MAX];
    uint64_t id = rng_next(&in->rng) >> (64 - PLAIN_EPOCH_BITS);
    c->epoch_len = (uint8_t)snprintf(text, sizeof text, "%012llx", (unsigned long long)id);
    memcpy(c->epoch, text, c->epoch_len);
}

static void take_stamp(struct bus_channel *c, const struct stamp *stamp)
{
    c->is_stamped = true;
    c->seq = stamp->seq;
    c->epoch_len = (uint8_t)stamp->epoch.len;
    memcpy(c->epoch, stamp->epoch.ptr, stamp->epoch.len);
}

static bool is_stale(const struct bus_channel *c, const struct stamp *stamp)
{
    return c->is_stamped && stamp->seq <= c->seq &&
           slice_equal(slice_of(c->epoch, c->epoch_len), stamp->epoch);
}

static void keep_last(struct bus_channel *c, struct publication *p)
{
    if (c->last != NULL)
        publication_unref(c->last);
    c->last = p->cleared ? NULL : publication_ref(p);
}

struct publication *bus_intake_make(struct bus_intake *in, struct bus_channel *c,
                                    struct slice message)
{
    struct stamp stamp = {.payload = message, .ts_ms = clock_unix_ms()};
    enum stamp_result result = stamp_parse(message, &stamp);
    bool is_stamped = result == STAMP_OK;
    if (result == STAMP_BAD)
        return drop(in, METRIC_DROPPED_STAMP);
    if (!utf8_is_valid(stamp.payload.ptr, stamp.payload.len))
        return drop(in, METRIC_DROPPED_UTF8);
    if (is_stamped && is_stale(c, &stamp))
        return drop(in, METRIC_DROPPED_STALE);
    bool cleared = is_stamped && stamp.payload.len == 0;
    bool is_json = !cleared && json_text_is_valid(stamp.payload);
    if (!cleared && !is_json)
        metrics_add(in->metrics, METRIC_NOT_JSON, 1);
    if (is_stamped)
        take_stamp(c, &stamp);
    else if (c->epoch_len == 0)
        begin_plain_epoch(in, c);
    bool is_numbered = is_stamped || !c->is_stamped;
    if (is_numbered && !is_stamped)
        c->seq++;
    const struct publication_head head = {
        .channel = bus_channel_name(c),
        .channel_hash = c->hash,
        .epoch = slice_of(c->epoch, c->epoch_len),
        .seq = is_numbered ? c->seq : 0,
        .ts_ms = stamp.ts_ms,
        .received_ns = clock_mono_ns(),
        .cleared = cleared,
        .is_json = is_json,
    };
    struct publication *p = publication_new(&head, stamp.payload);
    metrics_add(in->metrics, METRIC_PUBLICATIONS, 1);
    metrics_add(in->metrics, METRIC_PUBLICATION_BYTES, stamp.payload.len);
    if (is_numbered)
        keep_last(c, p);
    return p;
}
