/*
 * cohort_send.c - giving a cohort's stream to its members.
 *
 * This is the hot path. Per flush: one copy of what is pending into the worker's scratch buffer,
 * then one send per member from the dense array of members; a connection's own memory is touched
 * only when the kernel refuses bytes.
 *
 *      everybody keeps up    parts ──────copied──────> batch ──send──> each member
 *      somebody does not     parts ──sealed──> ring ──> batch ──send──> each, from its own cursor
 *
 * Most flushes meet only sockets that take everything. For those no frame is made and nothing
 * enters the ring: the batch is written as sealing would have written it, and forgotten. When a
 * socket refuses some of it, the parts are still there: they are sealed then, byte for byte as
 * they were sent, and the ring is from there on what the member that is held resumes from.
 */
#include "base/clock.h"
#include "domain/catchup.h"
#include "domain/cohort_priv.h"
#include "domain/hub.h"
#include "domain/session.h"

#include <errno.h>
#include <sys/socket.h>

#define BATCH_BYTES     131072 /* copied and sent at a time: fits the L2 cache beside the rest */
#define LATENCY_SAMPLES 16     /* members per reading of the clock while flushing */
#define PREFETCH_PARTS  4      /* looked ahead: about what copying one quote hides */
#define GOLDEN_RATIO    0x9e3779b9u /* its fraction, of 2^32 */

/* A run of frames made contiguous, with what a member who gets all of it has been delivered. */
struct batch {
    const uint8_t *ptr;
    uint64_t start; /* stream offsets */
    uint64_t end;
    uint32_t frames;
    uint32_t parts; /* written from: only of a batch that is not in the ring */
    uint64_t items;
    uint64_t plain_bytes;
};

/* --- batches from the ring ------------------------------------------------------------------- */

/* Collects entries from `first` on: one as it lies, several as a copy, at most BATCH_BYTES unless
 * the first alone is larger. */
static struct batch collect(struct cohort *c, uint32_t first)
{
    struct batch b = {.start = cohort_entry_start(c, first), .end = cohort_entry_start(c, first)};
    struct buf *scratch = &c->hub->scratch;
    buf_clear(scratch);
    for (uint32_t i = first; i < c->ring_count; i++) {
        const struct frame *f = cohort_entry_at(c, i)->frame;
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

/* --- batches from the parts ------------------------------------------------------------------ */

/* A message as sealing would make it. */
struct piece {
    uint32_t parts;
    const struct frame *frame; /* of one part, as it lies; NULL: items to be put together */
    size_t items_bytes;        /* of those */
    size_t bytes;              /* on the wire */
};

static struct piece single_piece(const struct cohort *c, const struct cohort_part *part)
{
    const struct frame *f = part->single;
    if (c->format.deflate)
        f = hub_frame(c->hub, part->item->p, c->format, part->form);
    return (struct piece){.parts = 1, .frame = f, .bytes = f->len};
}

static struct piece next_piece(const struct cohort *c, uint64_t from)
{
    const struct cohort_part *first = cohort_part(c, from);
    if (c->format.raw)
        return single_piece(c, first);
    size_t items_bytes;
    uint32_t parts = cohort_measure_run(c, from, &items_bytes);
    if (parts == 1 && first->missed == 0)
        return single_piece(c, first);
    return (struct piece){
        .parts = parts, .items_bytes = items_bytes, .bytes = push_frame_bytes(items_bytes)};
}

static void write_items(const struct cohort *c, uint64_t from, const struct piece *piece,
                        struct buf *out)
{
    struct push w;
    push_start(&w, (uint8_t *)buf_reserve(out, piece->bytes), piece->items_bytes);
    for (uint64_t i = from; i < from + piece->parts; i++) {
        const struct push_part part = cohort_push_part(cohort_part(c, i));
        push_put(&w, &part);
    }
    push_end(&w);
    out->len += piece->bytes;
}

static void add_piece(struct batch *b, const struct piece *piece)
{
    b->parts += piece->parts;
    b->end += piece->bytes;
    b->frames++;
    if (piece->frame != NULL) {
        b->items += piece->frame->items;
        b->plain_bytes += piece->frame->plain_bytes + piece->frame->header_len;
    } else {
        b->items += piece->parts;
        b->plain_bytes += piece->bytes;
    }
}

/* Writes what is pending as it would stand in the ring: one frame as it lies, several as a copy, at
 * most BATCH_BYTES unless the first alone is larger. */
static struct batch write_pending(struct cohort *c)
{
    struct batch b = {.start = c->head, .end = c->head};
    struct buf *scratch = &c->hub->scratch;
    buf_clear(scratch);
    for (uint64_t at = c->part_sealed; at < c->part_end;) {
        const struct piece piece = next_piece(c, at);
        if (b.frames > 0 && scratch->len + piece.bytes > BATCH_BYTES)
            break;
        bool is_last = at + piece.parts == c->part_end || piece.bytes >= BATCH_BYTES;
        add_piece(&b, &piece);
        if (piece.frame != NULL && b.frames == 1 && is_last) {
            b.ptr = piece.frame->bytes;
            return b;
        }
        if (piece.frame != NULL)
            buf_append(scratch, piece.frame->bytes, piece.frame->len);
        else
            write_items(c, at, &piece, scratch);
        at += piece.parts;
        __builtin_prefetch(cohort_part(c, at + PREFETCH_PARTS)->single);
    }
    b.ptr = (const uint8_t *)scratch->data;
    return b;
}

/* --- counting -------------------------------------------------------------------------------- */

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
    for (uint32_t i = cohort_entry_behind(c, from);
         i < c->ring_count && cohort_entry_start(c, i) < to; i++) {
        const struct frame *f = cohort_entry_at(c, i)->frame;
        count_delivered(c, f->items, f->len, f->plain_bytes + f->header_len);
    }
}

static void observe_latency(struct cohort *c, const struct batch *b, uint64_t members)
{
    metrics_observe_ns(&c->hub->worker->metrics, HISTOGRAM_DELIVERY, clock_mono_ns() - c->oldest_ns,
                       b->items * members);
}

/* --- sending --------------------------------------------------------------------------------- */

/* The kernel took fewer bytes than offered: the rest of a cut frame goes to the connection, the
 * cursor to the next whole one. */
static void keep_place(struct cohort *c, uint32_t index, uint64_t reached)
{
    struct cohort_member *m = &c->members[index];
    uint32_t at = cohort_entry_behind(c, reached);
    m->cursor = reached;
    if (at < c->ring_count && cohort_entry_start(c, at) < reached) {
        conn_keep_rest(m->conn, cohort_entry_at(c, at)->frame,
                       (uint32_t)(reached - cohort_entry_start(c, at)));
        m->cursor = cohort_entry_at(c, at)->end;
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
    int error = n < 0 ? errno : 0;
    cohort_seal(c); /* from here on the ring must have it */
    if (error != 0 && error != EAGAIN && error != EINTR) {
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

/* Who is served first has a quote earlier by the time of all other sends, so each flush begins with
 * another member. Multiples of the golden ratio spread evenly over any number of members, after any
 * number of flushes. */
static uint32_t first_to_serve(const struct cohort *c)
{
    return (uint32_t)((uint64_t)c->first_served * c->member_count >> 32);
}

static void send_to_all(struct cohort *c, const struct batch *b)
{
    uint64_t in_step = 0, sampled = 0, writes = 0;
    uint32_t i = first_to_serve(c);
    for (uint32_t n = 0; n < c->member_count; n++, i = i + 1 < c->member_count ? i + 1 : 0) {
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

/* Is it worth trying without the ring? Only if every member that follows the stream is in step, at
 * its head. A batch that has to be compressed is shared between cohorts as a frame. */
static bool can_send_directly(const struct cohort *c)
{
    if (c->ring_count > 0 || c->held_count > 0 || (c->lagging_count > 0 && c->has_all))
        return false;
    if (!c->format.deflate)
        return true;
    return c->part_end - c->part_sealed == 1 && cohort_part(c, c->part_sealed)->missed == 0;
}

static void flush_directly(struct cohort *c)
{
    while (c->part_sealed < c->part_end && can_send_directly(c)) {
        struct batch b = write_pending(c);
        send_to_all(c, &b);
        c->flushed = b.end;
        if (c->head != b.start) { /* sealed, because somebody's socket was full */
            c->unflushed -= b.frames;
            continue;
        }
        c->head = b.end;
        c->part_sealed += b.parts;
        cohort_trim_parts(c, c->part_sealed);
    }
}

void cohort_flush(struct cohort *c)
{
    c->last_flush_ms = loop_now_ms(c->hub->worker->loop);
    c->first_served += GOLDEN_RATIO;
    flush_directly(c);
    cohort_seal(c);
    while (c->unflushed > 0) {
        struct batch b = collect(c, c->ring_count - c->unflushed);
        send_to_all(c, &b);
        c->flushed = b.end;
        c->unflushed -= b.frames;
    }
    cohort_trim(c);
}

void cohort_resume(struct cohort *c, uint32_t index)
{
    struct cohort_member *m = &c->members[index];
    if (m->state != MEMBER_HELD)
        return;
    cohort_set_state(c, index, MEMBER_IN_STEP);
    while (m->cursor < c->head) {
        struct batch b = collect(c, cohort_entry_behind(c, m->cursor));
        metrics_add(&c->hub->worker->metrics, METRIC_WRITES, 1);
        if (!send_batch(c, index, &b))
            break;
        count_range(c, b.start, b.end);
    }
    cohort_trim(c);
}

void cohort_settle(struct cohort *c, uint32_t index)
{
    struct cohort_member *m = &c->members[index];
    cohort_seal(c);
    if (m->state == MEMBER_LAGGING)
        return;
    count_range(c, m->cursor, c->head);
    for (uint32_t i = cohort_entry_behind(c, m->cursor); i < c->ring_count; i++)
        conn_keep_rest(m->conn, cohort_entry_at(c, i)->frame, 0);
    m->cursor = c->head;
}
