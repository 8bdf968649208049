/*
 * bus_recovery.c - positions that clients come back with: what was published since, from the log.
 *
 * Main thread. After a drain or an outage thousands of clients come back at once, with positions in
 * the same channels. One read of a channel's log serves all who wait for it:
 *
 *      asked:      since 810, since 815, since 812
 *      the log:          811 812 813 814 815 816 817          read once, from 811 on
 *      came meanwhile:                       817 818 819      recorded while it was read
 *      answers:    811 … 819      816 … 819      813 … 819    complete up to this very moment
 *
 * An answer that is not complete is no answer: the client gets a snapshot instead.
 */
#include "base/mem.h"
#include "domain/bus_priv.h"
#include "domain/bus_read.h"

#include <stdlib.h>

#define RECENT_MAX 16384 /* publications recorded while a log is read */

/* A question of a hub. */
struct bus_recovery {
    struct message message; /* on its way here */
    struct bus *bus;
    struct list link; /* in channel->recoveries */
    unsigned worker;
    uint64_t token;
    uint64_t seq;
    bool was_checked; /* it is ahead of us, and the store was asked */
    uint8_t epoch_len;
    uint8_t channel_len;
    char epoch[STAMP_EPOCH_MAX];
    char channel[];
};

/* Is the position in the channel's present epoch? One without an epoch is: its client was there
 * before anything was published, and wants everything from number 1 on. */
static bool is_of_epoch(const struct bus_recovery *q, const struct bus_channel *c)
{
    return q->epoch_len == 0 || slice_equal(slice_of(q->epoch, q->epoch_len), bus_channel_epoch(c));
}

/* --- answers -------------------------------------------------------------------------------- */

static void answer(struct bus_recovery *q, struct publication **list, uint32_t count,
                   enum recovered recovered)
{
    struct bus *b = q->bus;
    bus_post_batch(b, q->worker); /* the answer stands behind what it covers */
    hub_post_recovery(b->hubs[q->worker], q->token, list, count, recovered);
    list_remove(&q->link);
    free(q);
}

void bus_give_up_recoveries(struct bus_channel *c)
{
    while (!list_is_empty(&c->recoveries))
        answer(list_entry(c->recoveries.next, struct bus_recovery, link), NULL, 0, NOT_RECOVERED);
}

void bus_forget_recoveries(struct bus_channel *c)
{
    struct list *first;
    while ((first = list_shift(&c->recoveries)) != NULL)
        free(list_entry(first, struct bus_recovery, link));
}

struct answer_list {
    struct publication **list;
    uint32_t count;
    uint64_t next_seq; /* that completeness asks for */
    bool is_complete;
};

/* Adds what is to come next. The log may be ahead of the subscriber link: what the channel has not
 * had yet will come to the followers by itself. */
static void add(struct answer_list *a, const struct bus_channel *c, struct publication *p)
{
    if (!slice_equal(publication_epoch(p), bus_channel_epoch(c)))
        a->is_complete = false; /* the numbering began anew meanwhile */
    if (p->seq != 0 && (p->seq < a->next_seq || p->seq > c->seq))
        return;
    if (p->seq != 0 && p->seq != a->next_seq)
        a->is_complete = false;
    a->list[a->count++] = publication_ref(p);
    a->next_seq += p->seq != 0;
}

/* What lies between a position and now, from the log and what was recorded behind it. */
static void answer_from_log(struct bus_recovery *q, const struct bus_channel *c,
                            const struct bus_read *r)
{
    struct answer_list a = {.next_seq = q->seq + 1, .is_complete = true};
    a.list = mem_alloc((r->count + c->recent_count + 1) * sizeof *a.list);
    for (uint32_t i = r->first; i < r->count; i++)
        add(&a, c, r->list[i]);
    for (uint32_t i = 0; i < c->recent_count; i++)
        add(&a, c, c->recent[i]);
    if (a.is_complete && a.next_seq == c->seq + 1) {
        answer(q, a.list, a.count, RECOVERED);
        return;
    }
    for (uint32_t i = 0; i < a.count; i++)
        publication_unref(a.list[i]);
    free(a.list);
    answer(q, NULL, 0, NOT_RECOVERED);
}

/* --- questions ------------------------------------------------------------------------------ */

/* A client may be ahead of this node, whose link is slower than the one it came from. */
static bool is_ahead(const struct bus_recovery *q, const struct bus_channel *c)
{
    return c->is_stamped && q->seq > c->seq && is_of_epoch(q, c);
}

/* True when it was answered without a look at the log. */
static bool answer_at_once(struct bus_recovery *q, const struct bus_channel *c)
{
    bool is_same = is_of_epoch(q, c);
    if (is_same && q->seq == c->seq && !c->has_hole) {
        answer(q, NULL, 0, RECOVERED);
        return true;
    }
    if (is_same && q->seq < c->seq && c->is_stamped && c->ns->history > 0)
        return false;
    if (is_same && q->seq > c->seq && q->seq <= c->coming_seq) {
        answer(q, NULL, 0, RECOVERED_AHEAD);
        return true;
    }
    answer(q, NULL, 0, NOT_RECOVERED);
    return true;
}

/* It gives way, and is asked later. */
static bool is_look_that_waits(const struct bus_read *r)
{
    return r->kind == BUS_READ_EXPIRY && !r->is_flying;
}

void bus_serve_recoveries(struct bus *b, struct bus_channel *c)
{
    uint64_t lowest = UINT64_MAX;
    bool is_behind = false;
    struct list *next;
    if (c->live && bus_is_overdue(c))
        bus_give_up_recoveries(c);
    if (!c->live || (c->read != NULL && !is_look_that_waits(c->read)))
        return;
    for (struct list *at = c->recoveries.next; at != &c->recoveries; at = next) {
        struct bus_recovery *q = list_entry(at, struct bus_recovery, link);
        next = at->next;
        if (is_ahead(q, c) && !q->was_checked)
            q->was_checked = is_behind = true;
        else if (!answer_at_once(q, c) && q->seq < lowest)
            lowest = q->seq;
    }
    if (is_behind) {
        bus_load(b, c); /* and when that is done, the questions are looked at again */
        return;
    }
    if (lowest == UINT64_MAX)
        return;
    struct bus_read *r = bus_read_new(b, c, BUS_READ_RECOVER, lowest + 1);
    r->recover_from = lowest + 1;
    bus_read_start(r);
}

static void run_recover(struct message *m)
{
    struct bus_recovery *q = (struct bus_recovery *)m;
    struct slice name = slice_of(q->channel, q->channel_len);
    struct bus_channel *c = map_get(&q->bus->channels, map_hash(name), name);
    list_init(&q->link);
    if (q->bus->hub_count == 0) { /* the node is about to end */
        free(q);
        return;
    }
    if (c == NULL) {
        answer(q, NULL, 0, NOT_RECOVERED);
        return;
    }
    list_append(&c->recoveries, &q->link);
    bus_serve_recoveries(q->bus, c);
}

void bus_post_recover(void *arg, unsigned worker, struct slice channel, struct slice epoch,
                      uint64_t seq, uint64_t token)
{
    struct bus *b = arg;
    struct bus_recovery *q = mem_zalloc(sizeof *q + channel.len);
    q->message.run = run_recover;
    q->bus = b;
    q->worker = worker;
    q->token = token;
    q->seq = seq;
    q->epoch_len = (uint8_t)epoch.len;
    memcpy(q->epoch, epoch.ptr, epoch.len);
    q->channel_len = (uint8_t)channel.len;
    memcpy(q->channel, channel.ptr, channel.len);
    loop_post(b->setup.loop, &q->message);
}

/* --- the log -------------------------------------------------------------------------------- */

void bus_record_recent(struct bus_channel *c, struct publication *p)
{
    if (c->read == NULL || c->read->kind != BUS_READ_RECOVER || c->read->is_unusable)
        return;
    if (c->recent_count == RECENT_MAX) {
        c->read->is_unusable = true;
        bus_drop_recent(c);
        return;
    }
    if (c->recent_count == c->recent_cap) {
        c->recent_cap = c->recent_cap != 0 ? c->recent_cap * 2 : 16;
        c->recent = mem_realloc(c->recent, c->recent_cap * sizeof(struct publication *));
    }
    c->recent[c->recent_count++] = publication_ref(p);
}

void bus_drop_recent(struct bus_channel *c)
{
    for (uint32_t i = 0; i < c->recent_count; i++)
        publication_unref(c->recent[i]);
    free(c->recent);
    c->recent = NULL;
    c->recent_count = c->recent_cap = 0;
}

static void forget_first(struct bus_read *r)
{
    r->bytes -= r->list[r->first]->payload_bytes;
    publication_unref(r->list[r->first++]);
}

/* Keeps as much of the end of the log as one client may be sent; who asks for more gets nothing of
 * it. Neither does who asks for what lies before an entry that cannot travel. */
static void keep_entry(struct bus_read *r, const struct stored_entry *entry)
{
    uint64_t bytes_max = (uint64_t)r->bus->setup.config->limits.hard_bytes;
    struct publication *p = bus_intake_past(&r->bus->intake, r->channel, entry);
    if (p == NULL) {
        while (r->first < r->count)
            forget_first(r);
        return;
    }
    if (r->count == r->cap) {
        r->cap = r->cap != 0 ? r->cap * 2 : 64;
        r->list = mem_realloc(r->list, r->cap * sizeof(struct publication *));
    }
    r->list[r->count++] = p;
    r->bytes += p->payload_bytes;
    while (r->bytes > bytes_max)
        forget_first(r);
}

void bus_recovery_begin_anew(struct bus_read *r)
{
    while (r->first < r->count)
        forget_first(r);
    r->first = r->count = 0;
    r->log_from = r->recover_from;
}

static void keep_page(struct bus_read *r, const struct stored_reading *reading)
{
    for (uint32_t i = 0; i < reading->entry_count && !r->is_unusable; i++) {
        const struct stored_entry *entry = &reading->entries[i];
        r->is_unusable = entry->seq == r->seen && entry->ts_ms != r->seen_ts_ms;
        keep_entry(r, entry);
    }
}

void bus_on_recovery_read(struct bus_read *r, const struct stored_reading *reading)
{
    struct bus *b = r->bus;
    struct bus_channel *c = r->channel;
    bool is_same =
        reading->status == STORED_VALUE && slice_equal(reading->epoch, bus_channel_epoch(c));
    if (is_same)
        keep_page(r, reading);
    uint64_t last = reading->entry_count > 0 ? reading->entries[reading->entry_count - 1].seq : 0;
    if (is_same && !r->is_unusable && reading->has_more && last < c->seq) {
        r->log_from = last + 1;
        bus_read_start(r);
        return;
    }
    bool is_usable = is_same && !r->is_unusable;
    struct list *next;
    for (struct list *at = c->recoveries.next; at != &c->recoveries; at = next) {
        struct bus_recovery *q = list_entry(at, struct bus_recovery, link);
        next = at->next;
        if (is_ahead(q, c) && !q->was_checked)
            continue; /* it came while the log was read, which has nothing for it */
        if (!is_usable)
            answer(q, NULL, 0, NOT_RECOVERED);
        else if (!is_of_epoch(q, c))
            answer(q, NULL, 0, NOT_RECOVERED);
        else if (q->seq + 1 >= r->recover_from)
            answer_from_log(q, c, r);
    }
    bus_read_end(r);
    bus_serve_recoveries(b, c);
}
