/*
 * bus_trace.c - where publications that somebody wants to follow have gone, one log line each.
 *
 *      tc:trace       <trace> quote:AAPL   ──> remembered, for the very next message
 *      tc:quote:AAPL  @c91e:815:… {…}      ──> a delivery, in `pending`
 *      end of the read: batches posted     ──> and behind them, to each worker that follows the
 *                                              channel: how many of your clients is that?
 *      the last answer                     ──> event=delivered trace=… subscribers=41
 *
 * What nobody follows costs a look at two flags. Main thread; counting is the workers'.
 */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "domain/bus_priv.h"
#include "protocol/stamp.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* A publication that is followed. Made and freed by the main thread; the workers read `channel`. */
struct delivery {
    struct list link; /* in pending */
    struct bus *bus;
    enum log_level level;
    uint64_t workers; /* bits: who is to be asked */
    unsigned waiting; /* answers */
    uint64_t subscribers;
    uint64_t seq;
    uint64_t received_ns;
    int64_t age_ms; /* since the stamp; -1: it has none */
    uint8_t epoch_len;
    uint8_t channel_len;
    char epoch[STAMP_EPOCH_MAX];
    char channel[CHANNEL_BYTES_MAX];
    char trace[TRACE_IDENTITY_MAX + 1];
};

struct count_message {
    struct message message;
    struct hub *hub;
    struct delivery *delivery;
    uint64_t subscribers;
};

/* --- notes ------------------------------------------------------------------------------------ */

void bus_trace_up(struct bus *b)
{
    struct buf name = {0};
    b->trace.is_heard = false;
    buf_append(&name, b->prefix.ptr, b->prefix.len);
    buf_append_str(&name, TRACE_CHANNEL);
    redis_link_subscribe(b->subscriber, buf_slice(&name));
    buf_fini(&name);
}

void bus_trace_forget(struct bus *b)
{
    if (b->trace.is_heard)
        metrics_add(b->setup.metrics, METRIC_TRACES_ELSEWHERE, 1);
    b->trace.is_heard = false;
}

bool bus_trace_hear(struct bus *b, struct slice channel, struct slice payload)
{
    struct trace_note note;
    struct bus_trace *t = &b->trace;
    if (!slice_is(channel, TRACE_CHANNEL))
        return false;
    bus_trace_forget(b);
    if (!trace_note_parse(payload, &note)) {
        metrics_add(b->setup.metrics, METRIC_TRACES_BAD, 1);
        return true;
    }
    t->is_heard = true;
    t->is_made = note.is_made;
    t->trace_len = (uint8_t)note.trace.len;
    t->channel_len = (uint8_t)note.channel.len;
    memcpy(t->trace, note.trace.ptr, note.trace.len);
    memcpy(t->channel, note.channel.ptr, note.channel.len);
    return true;
}

/* --- publications ----------------------------------------------------------------------------- */

static void write_identity(struct delivery *d)
{
    snprintf(d->trace, sizeof d->trace, "%.*s@%.*s:%" PRIu64, d->channel_len, d->channel,
             d->epoch_len, d->epoch, d->seq);
}

/* The channel's numbers are those of the message that it has just taken. */
static struct delivery *delivery_new(struct bus *b, const struct bus_channel *c,
                                     struct slice payload)
{
    struct delivery *d = mem_zalloc(sizeof *d);
    struct stamp stamp;
    bool is_stamped = stamp_parse(payload, &stamp) == STAMP_OK;
    d->bus = b;
    d->workers = c->workers;
    d->received_ns = clock_mono_ns();
    d->seq = is_stamped || !c->is_stamped ? c->seq : 0;
    d->age_ms = is_stamped ? (int64_t)(clock_unix_ms() - stamp.ts_ms) : -1;
    d->channel_len = c->name_len;
    memcpy(d->channel, c->name, c->name_len);
    d->epoch_len = c->epoch_len;
    memcpy(d->epoch, c->epoch, c->epoch_len);
    return d;
}

void bus_trace_message(struct bus *b, struct bus_channel *c, struct slice payload, bool taken)
{
    const struct bus_trace *t = &b->trace;
    bool is_noted = taken && t->is_heard &&
                    slice_equal(slice_of(t->channel, t->channel_len), bus_channel_name(c));
    enum log_level level = is_noted && !t->is_made ? LOG_INFO : LOG_DEBUG;
    if (is_noted) {
        metrics_add(b->setup.metrics, METRIC_TRACES_FOLLOWED, 1);
        b->trace.is_heard = false;
    }
    bus_trace_forget(b);
    if (!taken || !log_is_on(level) || !log_may(LOG_TRACES))
        return;
    struct delivery *d = delivery_new(b, c, payload);
    d->level = level;
    if (is_noted)
        memcpy(d->trace, t->trace, t->trace_len); /* zeroed behind it */
    else
        write_identity(d);
    list_append(&b->trace.pending, &d->link);
}

/* --- who got them ----------------------------------------------------------------------------- */

static void finish(struct delivery *d)
{
    const struct log_field none = {0};
    log_line(d->level, "delivered", LOG_STR("trace", d->trace),
             LOG_SLICE("channel", slice_of(d->channel, d->channel_len)),
             LOG_SLICE("epoch", slice_of(d->epoch, d->epoch_len)), LOG_INT("seq", d->seq),
             LOG_INT("subscribers", d->subscribers),
             LOG_INT("duration_us", (clock_mono_ns() - d->received_ns) / 1000),
             d->age_ms >= 0 ? LOG_INT("age_ms", d->age_ms) : none);
    free(d);
}

static void run_counted(struct message *m)
{
    struct count_message *cm = (struct count_message *)m;
    struct delivery *d = cm->delivery;
    d->subscribers += cm->subscribers;
    free(cm);
    if (--d->waiting == 0)
        finish(d);
}

/* In the worker's thread, behind the publication itself. */
static void run_count(struct message *m)
{
    struct count_message *cm = (struct count_message *)m;
    struct delivery *d = cm->delivery;
    cm->subscribers = hub_count_subscribers(cm->hub, slice_of(d->channel, d->channel_len));
    cm->message.run = run_counted;
    loop_post(d->bus->setup.loop, &cm->message);
}

/* All of one delivery are posted before the first answer can be taken: that is this thread's. */
static void ask_workers(struct bus *b, struct delivery *d)
{
    for (unsigned i = 0; i < b->hub_count; i++) {
        if (!(d->workers >> i & 1))
            continue;
        struct count_message *cm = mem_zalloc(sizeof *cm);
        cm->message.run = run_count;
        cm->hub = b->hubs[i];
        cm->delivery = d;
        d->waiting++;
        loop_post(b->hubs[i]->worker->loop, &cm->message);
    }
    if (d->waiting == 0)
        finish(d);
}

void bus_trace_post(struct bus *b)
{
    struct list *member;
    while ((member = list_shift(&b->trace.pending)) != NULL)
        ask_workers(b, list_entry(member, struct delivery, link));
}

void bus_trace_fini(struct bus *b)
{
    struct list *member;
    while ((member = list_shift(&b->trace.pending)) != NULL)
        free(list_entry(member, struct delivery, link));
}
