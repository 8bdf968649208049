/*
 * bus_read.c - reads of what is stored: their order, those that are refused, and their answers.
 *
 * Main thread. A read is an entry in a queue, so that thousands of channels that become interesting
 * at once, after an outage say, do not become thousands of commands at once.
 *
 *      reads ───> flying ──answer──> bus_stored.c, bus_recovery.c, bus_expiry.c
 *      looks ──┘    │ ^
 *                   v │ a few at a time; all of them when one is answered
 *                 refused ──for too long──> the channel is live without it
 */
#include "domain/bus_read.h"

#include "base/log.h"
#include "base/mem.h"
#include "domain/bus_mirror.h"
#include "domain/bus_priv.h"

#include <stdlib.h>

#define READS_IN_FLIGHT_MAX 64
#define AGAIN_MS            100 /* between two tries while the store refuses */
#define AGAIN_MAX           64  /* reads that are tried again at once */

/* --- the queue of reads --------------------------------------------------------------------- */

static void ask(struct bus_read *r);

/* For looks at what expires nobody waits. */
static struct list *shift_read(struct bus *b)
{
    return list_shift(list_is_empty(&b->reads) ? &b->looks : &b->reads);
}

static void start_reads(struct bus *b)
{
    struct list *first;
    while (b->reads_in_flight < READS_IN_FLIGHT_MAX && b->command != NULL &&
           redis_link_is_up(b->command) && (first = shift_read(b)) != NULL) {
        struct bus_read *r = list_entry(first, struct bus_read, link);
        b->reads_in_flight++;
        list_append(&b->flying, &r->link);
        r->is_flying = true;
        ask(r);
    }
}

struct bus_read *bus_read_new(struct bus *b, struct bus_channel *c, enum bus_read_kind kind,
                              uint64_t log_from)
{
    bus_read_abandon(c);
    struct bus_read *r = mem_zalloc(sizeof *r);
    r->bus = b;
    r->channel = c;
    r->kind = kind;
    r->log_from = log_from;
    r->seen = c->seq;
    r->seen_ts_ms = c->ts_ms;
    list_init(&r->link);
    c->read = r;
    return r;
}

void bus_read_start(struct bus_read *r)
{
    struct bus *b = r->bus;
    list_append(r->kind == BUS_READ_EXPIRY ? &b->looks : &b->reads, &r->link);
    start_reads(b);
}

static void free_read(struct bus_read *r)
{
    list_remove(&r->link);
    for (uint32_t i = r->first; i < r->count; i++)
        publication_unref(r->list[i]);
    free(r->list);
    free(r);
}

void bus_read_abandon(struct bus_channel *c)
{
    struct bus_read *r = c->read;
    if (r == NULL)
        return;
    c->read = NULL;
    bus_drop_recent(c);
    r->channel = NULL;
    if (r->kind == BUS_READ_EXPIRY)
        bus_expiry_look_again(r->bus, c);
    if (!r->is_flying)
        free_read(r);
}

void bus_read_end(struct bus_read *r)
{
    if (r->channel != NULL) {
        r->channel->read = NULL;
        bus_drop_recent(r->channel);
    }
    free_read(r);
}

/* --- refusals ------------------------------------------------------------------------------- */

void bus_ask_later(struct bus *b)
{
    if (!b->asks_again)
        loop_timer_set(b->again_timer, AGAIN_MS);
    b->asks_again = true;
}

/* A Redis that has just started takes subscribes and publications while it still loads what it
 * keeps: what is read is asked for until it answers, what comes is kept back for a while only. */
static void wait_for_store(struct bus_read *r, struct slice error)
{
    struct bus *b = r->bus;
    if (!b->store_refuses) {
        log_often(LOG_FAULTS, LOG_WARN, "store_refuses", LOG_SLICE("reason", error));
        b->store_refuses = true;
        bus_go_unanswered(b);
    }
    list_append(&b->refused, &r->link);
    bus_ask_later(b);
}

bool bus_is_overdue(const struct bus_channel *c)
{
    return c->read != NULL && c->read->is_overdue;
}

bool bus_is_unknown(const struct bus_channel *c)
{
    return bus_is_overdue(c) && c->read->seen == c->seq;
}

/* One slot of a Cluster may stay refused while others answer, or all of them for a while. Not so after
 * an outage, when everything may have been missed: then something has to have been read since. With the
 * subscriber link away nobody waits, and what is kept back may yet be put behind what it follows. */
static bool is_given_up(const struct bus_read *r)
{
    const struct bus *b = r->bus;
    bool is_late = loop_now_ms(b->setup.loop) - r->refused_ms > BUS_PATIENCE_MS;
    return is_late && redis_link_is_up(b->subscriber) &&
           (b->has_answered || bus_readiness(b) == NULL);
}

/* Clients are answered without what is stored, and told that it is missing: it follows when it can
 * be read. While the feed is suspect they were answered already, and it is not ok before. */
static void go_live_without(struct bus_read *r)
{
    struct bus *b = r->bus;
    struct bus_channel *c = r->channel;
    r->holds_nothing = true;
    bus_release_held(b, c); /* which may have put another read in the place of the refused one */
    c->read->is_overdue = true;
    if (c->confirmed && !c->live)
        bus_go_live(b, c);
    else
        bus_serve_recoveries(b, c);
}

static void give_up(struct bus_read *r)
{
    struct bus_channel *c = r->channel;
    if (r->kind != BUS_READ_RECOVER) {
        go_live_without(r);
        return;
    }
    bus_read_end(r);
    bus_give_up_recoveries(c);
}

static void on_refused(struct bus_read *r, struct slice error)
{
    if (r->refused_ms == 0)
        r->refused_ms = loop_now_ms(r->bus->setup.loop);
    wait_for_store(r, error);
}

/* A few of those that were refused are tried again; nobody waits until it is the turn of all. */
static void on_again(void *arg)
{
    struct bus *b = arg;
    struct list *next;
    b->asks_again = false;
    for (struct list *at = b->refused.next; at != &b->refused; at = next) {
        struct bus_read *r = list_entry(at, struct bus_read, link);
        bool was_given_up = r->is_overdue && r->holds_nothing;
        next = at->next;
        if (!was_given_up && is_given_up(r))
            give_up(r);
    }
    bus_post_batches(b);
    for (int i = 0; i < AGAIN_MAX && !list_is_empty(&b->refused); i++)
        list_append(&b->reads, list_shift(&b->refused));
    if (!list_is_empty(&b->refused))
        bus_ask_later(b);
    start_reads(b);
    bus_mirror_go_on(b);
}

/* --- answers -------------------------------------------------------------------------------- */

/* Where one is told that was refused before, others may be, too. */
static void on_answered(struct bus_read *r)
{
    struct bus *b = r->bus;
    b->store_refuses = b->is_unanswered = false;
    b->patience_count = 0;
    b->has_answered = true;
    if (r->refused_ms != 0)
        list_splice(&b->reads, &b->refused);
    r->refused_ms = 0;
}

/* The answer was lost with the link, and it may be another Redis that is asked again: a load begins
 * anew at what was seen, so that another history shows, and no log is put together of two. */
static void ask_again(struct bus_read *r)
{
    if (r->kind == BUS_READ_LOAD && r->log_from != STORED_NO_LOG)
        r->log_from = r->seen;
    if (r->kind == BUS_READ_RECOVER)
        bus_recovery_begin_anew(r);
    bus_read_start(r);
}

static void on_reply(void *arg, const struct redis_reply_view *reply)
{
    static void (*const handlers[])(struct bus_read * r, const struct stored_reading *reading) = {
        [BUS_READ_LOAD] = bus_on_loaded,
        [BUS_READ_RENEW] = bus_on_renewed,
        [BUS_READ_EXPIRY] = bus_on_expiry_read,
        [BUS_READ_RECOVER] = bus_on_recovery_read,
    };
    static void (*const parsers[])(const struct redis_reply_view *reply,
                                   struct stored_reading *out) = {
        [BUS_READ_LOAD] = stored_parse,
        [BUS_READ_RENEW] = stored_parse_renewed,
        [BUS_READ_EXPIRY] = stored_parse_life,
        [BUS_READ_RECOVER] = stored_parse,
    };
    struct bus_read *r = arg;
    struct bus *b = r->bus;
    struct stored_reading reading;
    list_remove(&r->link);
    r->is_flying = false;
    b->reads_in_flight--;
    if (r->channel == NULL) {
        free_read(r);
    } else {
        parsers[r->kind](reply, &reading);
        metrics_add(b->setup.metrics, METRIC_STORED_READS, r->kind != BUS_READ_EXPIRY);
        if (r->kind == BUS_READ_EXPIRY) { /* which asks again by itself, and others first */
            handlers[r->kind](r, &reading);
        } else if (reading.status == STORED_LATER) {
            on_refused(r, reply->text);
        } else if (reading.status == STORED_LOST) {
            ask_again(r);
        } else {
            on_answered(r);
            handlers[r->kind](r, &reading);
        }
    }
    start_reads(b);
}

static void ask(struct bus_read *r)
{
    struct bus *b = r->bus;
    const struct bus_channel *c = r->channel;
    const struct stored_place at = {
        .link = b->command,
        .prefix = b->prefix,
        .channel = bus_channel_name(c),
        .payload_bytes = (size_t)b->setup.config->limits.payload_bytes,
    };
    if (r->kind == BUS_READ_RENEW)
        stored_renew(&at, bus_channel_epoch(c), c->seq, r->is_certain, on_reply, r);
    else if (r->kind == BUS_READ_EXPIRY)
        stored_ask_life(&at, on_reply, r);
    else
        stored_ask(&at, r->log_from, on_reply, r);
}

void bus_command_link_up(struct bus *b)
{
    b->has_answered = false; /* it may be another server */
    list_splice(&b->reads, &b->refused);
    start_reads(b);
}

void bus_command_link_down(struct bus *b)
{
    b->store_refuses = false;
    bus_go_unanswered(b);
    b->is_unanswered = !list_is_empty(&b->reads) || !list_is_empty(&b->refused);
}

/* --- life ----------------------------------------------------------------------------------- */

void bus_reads_init(struct bus *b)
{
    list_init(&b->reads);
    list_init(&b->looks);
    list_init(&b->refused);
    list_init(&b->flying);
    b->again_timer = loop_timer_new(b->setup.loop, on_again, b);
}

void bus_reads_fini(struct bus *b)
{
    while (!list_is_empty(&b->flying)) /* all without a channel by now */
        free_read(list_entry(b->flying.next, struct bus_read, link));
    loop_timer_free(b->again_timer);
}
