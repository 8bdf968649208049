/*
 * cohort_stream.c - one stream for many clients: append once, seal once, send to each.
 *
 * This is the hot path. Per publication and cohort: one part. Per flush: one copy of the pending
 * items into one message, then one send per member from the dense array of members; a connection's
 * own memory is touched only when the kernel refuses bytes.
 */
#include "base/clock.h"
#include "base/mem.h"
#include "domain/catchup.h"
#include "domain/cohort.h"
#include "domain/hub.h"
#include "domain/session.h"
#include "protocol/push.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#define RING_FIRST      4       /* entries; what is kept for held members grows it */
#define RING_KEEP       1024    /* a larger empty ring is given back */
#define PARTS_FIRST     8       /* a paced hot channel grows it once and keeps it */
#define PARTS_KEEP      4096    /* the same for parts */
#define BATCH_BYTES     131072  /* copied and sent at a time: fits the L2 cache beside the rest */
#define PENDING_BYTES   1048576 /* pending: flushed without waiting for the pace */
#define LATENCY_SAMPLES 16      /* members per reading of the clock while flushing */

/* --- the stream ---------------------------------------------------------------------------- */

static struct cohort_entry *entry(const struct cohort *c, uint32_t index)
{
    return &c->ring[(c->ring_first + index) & (c->ring_cap - 1)];
}

static uint64_t entry_start(const struct cohort *c, uint32_t index)
{
    const struct cohort_entry *e = entry(c, index);
    return e->end - e->frame->len;
}

/* Index of the first entry that ends behind a stream offset; ring_count when there is none. */
static uint32_t entry_behind(const struct cohort *c, uint64_t offset)
{
    uint32_t low = 0, high = c->ring_count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (entry(c, mid)->end <= offset)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static void grow_ring(struct cohort *c)
{
    uint32_t cap = c->ring_cap != 0 ? c->ring_cap * 2 : RING_FIRST;
    struct cohort_entry *ring = mem_alloc(cap * sizeof *ring);
    for (uint32_t i = 0; i < c->ring_count; i++)
        ring[i] = *entry(c, i);
    free(c->ring);
    c->ring = ring;
    c->ring_cap = cap;
    c->ring_first = 0;
}

static void push_entry(struct cohort *c, struct frame *f)
{
    if (c->ring_count == c->ring_cap)
        grow_ring(c);
    c->head += f->len;
    *entry(c, c->ring_count) =
        (struct cohort_entry){.frame = f, .end = c->head, .part_end = c->part_sealed};
    c->ring_count++;
    c->unflushed++;
    metrics_add(&c->hub->worker->metrics, METRIC_STREAM_BYTES, f->len);
}

void cohort_drop_frame(struct cohort *c, struct frame *f)
{
    metrics_add(&c->hub->worker->metrics, METRIC_STREAM_BYTES, -(uint64_t)f->len);
    frame_unref(f);
}

static void grow_parts(struct cohort *c)
{
    uint32_t cap = c->part_cap != 0 ? c->part_cap * 2 : PARTS_FIRST;
    struct cohort_part *parts = mem_alloc(cap * sizeof *parts);
    for (uint64_t i = c->part_first; i < c->part_end; i++)
        parts[i & (cap - 1)] = *cohort_part(c, i);
    free(c->parts);
    c->parts = parts;
    c->part_cap = cap;
}

void cohort_append(struct cohort *c, struct item *item, uint32_t sub_index,
                   enum publication_form form, uint64_t missed)
{
    if (c->part_end - c->part_first == c->part_cap)
        grow_parts(c);
    if (c->part_sealed == c->part_end && c->unflushed == 0) {
        c->oldest_ns = item->p->received_ns;
        hub_schedule(c->hub, c);
    }
    *cohort_part(c, c->part_end++) = (struct cohort_part){
        .item = item_ref(item),
        .single = publication_frame(item->p, c->format.raw ? FORM_RAW : form, NULL),
        .missed = missed,
        .sub_index = sub_index & 0xffffff,
        .form = (uint8_t)form};
    c->pending_bytes += item->p->payload_bytes;
    if (c->pending_bytes >= PENDING_BYTES)
        hub_schedule_now(c->hub, c);
}

/* --- sealing ------------------------------------------------------------------------------- */

static struct push_part push_part_of(const struct cohort_part *p)
{
    return (struct push_part){.single = p->single, .missed = p->missed};
}

/* How many parts from `from` on go into one message, and how many bytes they are. */
static uint32_t measure_run(struct cohort *c, uint64_t from, size_t *bytes)
{
    uint32_t count = 0;
    *bytes = 0;
    while (from + count < c->part_end && count < PUSH_ITEMS_MAX) {
        const struct push_part pp = push_part_of(cohort_part(c, from + count));
        __builtin_prefetch(cohort_part(c, from + count + 1)->single);
        size_t more = push_part_bytes(&pp);
        if (count > 0 && *bytes + more > PUSH_BYTES_MAX)
            break;
        *bytes += more;
        count++;
    }
    return count;
}

static struct frame *join_run(struct cohort *c, uint64_t from, uint32_t count, size_t bytes)
{
    struct push w;
    push_open(&w, bytes, count);
    for (uint64_t i = from; i < from + count; i++) {
        const struct push_part pp = push_part_of(cohort_part(c, i));
        push_put(&w, &pp);
    }
    return push_close(&w);
}

static void seal_run(struct cohort *c)
{
    size_t bytes;
    uint64_t from = c->part_sealed;
    const struct cohort_part *first = cohort_part(c, from);
    uint32_t count = measure_run(c, from, &bytes);
    c->part_sealed += count;
    if (count == 1 && first->missed == 0) {
        push_entry(c, frame_ref(hub_frame(c->hub, first->item->p, c->format, first->form)));
        return;
    }
    push_entry(c, hub_pack(c->hub, join_run(c, from, count, bytes), c->format));
}

static void seal_raw(struct cohort *c)
{
    const struct cohort_part *p = cohort_part(c, c->part_sealed++);
    if (p->single != NULL) /* else it has no bytes: the end of a value */
        push_entry(c, frame_ref(hub_frame(c->hub, p->item->p, c->format, FORM_RAW)));
}

void cohort_seal(struct cohort *c)
{
    uint64_t from = c->part_sealed;
    while (c->part_sealed < c->part_end) {
        if (c->format.raw)
            seal_raw(c);
        else
            seal_run(c);
    }
    c->pending_bytes = 0;
    if (c->lagging_count > 0 && c->has_all && from < c->part_end)
        catchup_queue_all_mode(c, from, c->part_end);
}

/* --- trimming ------------------------------------------------------------------------------ */

/* The offset before which nobody needs the stream any more. */
static uint64_t lowest_cursor(const struct cohort *c)
{
    uint64_t lowest = c->flushed;
    if (c->held_count == 0)
        return lowest;
    for (uint32_t i = 0; i < c->member_count; i++) {
        if (c->members[i].state == MEMBER_HELD && c->members[i].cursor < lowest)
            lowest = c->members[i].cursor;
    }
    return lowest;
}

static void trim_parts(struct cohort *c, uint64_t before)
{
    while (c->part_first < before)
        item_unref(cohort_part(c, c->part_first++)->item);
    if (c->part_first == c->part_end && c->part_cap > PARTS_KEEP) {
        free(c->parts);
        c->parts = NULL;
        c->part_cap = 0;
    }
}

static void trim(struct cohort *c)
{
    uint64_t lowest = lowest_cursor(c);
    while (c->ring_count > 0 && entry(c, 0)->end <= lowest) {
        trim_parts(c, entry(c, 0)->part_end);
        cohort_drop_frame(c, entry(c, 0)->frame);
        c->ring_first = (c->ring_first + 1) & (c->ring_cap - 1);
        c->ring_count--;
    }
    if (c->ring_count > 0)
        return;
    trim_parts(c, c->part_sealed); /* parts that made no frame: raw clients see no `cleared` */
    if (c->ring_cap > RING_KEEP) {
        free(c->ring);
        c->ring = NULL;
        c->ring_cap = c->ring_first = 0;
    }
}

/* --- sending ------------------------------------------------------------------------------- */

/* A run of entries made contiguous, with what a member who gets all of it has been delivered. */
struct batch {
    const uint8_t *ptr;
    uint64_t start; /* stream offsets */
    uint64_t end;
    uint32_t frames;
    uint64_t items;
    uint64_t plain_bytes;
};

/* Collects entries from `first` on: one as it lies, several as a copy, at most BATCH_BYTES unless
 * the first alone is larger. */
static struct batch collect(struct cohort *c, uint32_t first)
{
    struct batch b = {.start = entry_start(c, first), .end = entry_start(c, first)};
    struct buf *scratch = &c->hub->scratch;
    buf_clear(scratch);
    for (uint32_t i = first; i < c->ring_count; i++) {
        const struct frame *f = entry(c, i)->frame;
        bool is_alone = i == first && (i + 1 == c->ring_count || f->len >= BATCH_BYTES);
        if (!is_alone && b.end - b.start + f->len > BATCH_BYTES)
            break;
        b.end += f->len;
        b.frames++;
        b.items += f->items;
        b.plain_bytes += f->plain_bytes + f->header_len;
        if (is_alone) {
            b.ptr = f->bytes;
            return b;
        }
        buf_append(scratch, f->bytes, f->len);
    }
    b.ptr = (const uint8_t *)scratch->data;
    return b;
}

static void count_delivered(struct cohort *c, uint64_t items, uint64_t bytes, uint64_t plain_bytes)
{
    struct metrics *m = &c->hub->worker->metrics;
    metrics_add(m, METRIC_DELIVERIES, items);
    metrics_add(m, METRIC_DELIVERED_BYTES, bytes);
    metrics_add(m, METRIC_DELIVERED_PLAIN_BYTES, plain_bytes);
}

/* Counts the entries between two stream offsets, one by one: for members out of step. */
static void count_range(struct cohort *c, uint64_t from, uint64_t to)
{
    for (uint32_t i = entry_behind(c, from); i < c->ring_count && entry_start(c, i) < to; i++) {
        const struct frame *f = entry(c, i)->frame;
        count_delivered(c, f->items, f->len, f->plain_bytes + f->header_len);
    }
}

static void observe_latency(struct cohort *c, const struct batch *b, uint64_t members)
{
    metrics_observe_ns(&c->hub->worker->metrics, HISTOGRAM_DELIVERY, clock_mono_ns() - c->oldest_ns,
                       b->items * members);
}

/* The kernel took fewer bytes than offered: the rest of a cut frame goes to the connection, the
 * cursor to the next whole one. */
static void keep_place(struct cohort *c, uint32_t index, uint64_t reached)
{
    struct cohort_member *m = &c->members[index];
    uint32_t at = entry_behind(c, reached);
    m->cursor = reached;
    if (at < c->ring_count && entry_start(c, at) < reached) {
        conn_keep_rest(m->conn, entry(c, at)->frame, (uint32_t)(reached - entry_start(c, at)));
        m->cursor = entry(c, at)->end;
    }
    conn_wait_writable(m->conn); /* holds the member through the session */
}

/* One send. True when the member has all of the batch. */
static bool send_batch(struct cohort *c, uint32_t index, const struct batch *b)
{
    struct cohort_member *m = &c->members[index];
    size_t len = (size_t)(b->end - m->cursor);
    ssize_t n = send(m->fd, b->ptr + (m->cursor - b->start), len, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n == (ssize_t)len) {
        m->cursor = b->end;
        return true;
    }
    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        cohort_set_state(c, index, MEMBER_HELD);
        conn_fail_later(m->conn, 0, METRIC_ENDED_LOST);
        return false;
    }
    uint64_t before = m->cursor;
    keep_place(c, index, before + (n > 0 ? (uint64_t)n : 0));
    count_range(c, before, m->cursor);
    return false;
}

/* How far is a held member behind, and for how long? What the kernel has not got rid of counts. */
static void check_lag(struct cohort *c, uint32_t index)
{
    const struct cohort_member *m = &c->members[index];
    const struct config *config = c->hub->worker->config;
    uint64_t waiting = c->head - m->cursor + conn_waiting_bytes(m->conn);
    uint64_t age_ms = conn_blocked_ms(m->conn);
    bool is_past_soft = waiting > (uint64_t)config->limits.soft_bytes ||
                        age_ms > (uint64_t)config->limits.soft_age_ms;
    bool is_past_hard = waiting > (uint64_t)config->limits.hard_bytes ||
                        age_ms > (uint64_t)config->limits.hard_age_ms;
    if (c->has_latest && is_past_soft)
        catchup_begin_slow(c, index, waiting);
    else if (!c->has_latest && is_past_hard)
        session_end_slow(m->conn->upper, waiting);
}

/* Sends to one member that is not held. True when it was in step and got the whole batch. */
static bool send_to_member(struct cohort *c, uint32_t index, const struct batch *b)
{
    uint64_t before = c->members[index].cursor;
    if (!send_batch(c, index, b))
        return false;
    if (before == b->start)
        return true;
    count_range(c, before, b->end);
    return false;
}

static void send_to_all(struct cohort *c, const struct batch *b)
{
    uint64_t in_step = 0, sampled = 0, writes = 0;
    for (uint32_t i = 0; i < c->member_count; i++) {
        const struct cohort_member *m = &c->members[i];
        if (m->state != MEMBER_IN_STEP) {
            if (m->state == MEMBER_HELD)
                check_lag(c, i);
        } else if (m->cursor < b->end) {
            writes++;
            in_step += send_to_member(c, i, b);
        }
        if (in_step - sampled == LATENCY_SAMPLES) {
            observe_latency(c, b, LATENCY_SAMPLES);
            sampled = in_step;
        }
    }
    if (in_step > sampled)
        observe_latency(c, b, in_step - sampled);
    count_delivered(c, b->items * in_step, (b->end - b->start) * in_step, b->plain_bytes * in_step);
    metrics_add(&c->hub->worker->metrics, METRIC_WRITES, writes);
}

void cohort_flush(struct cohort *c)
{
    c->last_flush_ms = loop_now_ms(c->hub->worker->loop);
    cohort_seal(c);
    while (c->unflushed > 0) {
        struct batch b = collect(c, c->ring_count - c->unflushed);
        send_to_all(c, &b);
        c->flushed = b.end;
        c->unflushed -= b.frames;
    }
    trim(c);
}

void cohort_resume(struct cohort *c, uint32_t index)
{
    struct cohort_member *m = &c->members[index];
    if (m->state != MEMBER_HELD)
        return;
    cohort_set_state(c, index, MEMBER_IN_STEP);
    while (m->cursor < c->head) {
        struct batch b = collect(c, entry_behind(c, m->cursor));
        metrics_add(&c->hub->worker->metrics, METRIC_WRITES, 1);
        if (!send_batch(c, index, &b))
            break;
        count_range(c, b.start, b.end);
    }
    trim(c);
}

void cohort_settle(struct cohort *c, uint32_t index)
{
    struct cohort_member *m = &c->members[index];
    cohort_seal(c);
    if (m->state == MEMBER_LAGGING)
        return;
    count_range(c, m->cursor, c->head);
    for (uint32_t i = entry_behind(c, m->cursor); i < c->ring_count; i++)
        conn_keep_rest(m->conn, entry(c, i)->frame, 0);
    m->cursor = c->head;
}

uint64_t cohort_part_behind(const struct cohort *c, uint64_t offset)
{
    uint32_t at = entry_behind(c, offset);
    return at == 0 ? c->part_first : entry(c, at - 1)->part_end;
}
