/*
 * cohort.c - one stream for many clients: append once, send to each.
 *
 * This is the hot path. Per publication and cohort: one ring entry. Per flush: one copy of the
 * pending frames into the hub's scratch buffer, which stays in the cache, then one send per member
 * from the dense array of members; a connection's own memory is touched only when the kernel
 * refuses bytes.
 */
#include "domain/cohort.h"

#include "base/clock.h"
#include "base/mem.h"
#include "domain/hub.h"
#include "domain/session.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#define RING_FIRST      8      /* entries; a paced hot channel grows it once and keeps it */
#define RING_KEEP       1024   /* a larger empty ring is given back */
#define BATCH_BYTES     131072 /* copied and sent at a time: fits the L2 cache beside the rest */
#define MEMBERS_FIRST   2
#define LATENCY_SAMPLES 16 /* members per reading of the clock while flushing */

/* --- the set ------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 33)) * 0xff51afd7ed558ccdu;
    x = (x ^ (x >> 33)) * 0xc4ceb9fe1a85ec53u;
    return x ^ (x >> 33);
}

uint64_t cohort_sub_hash(const struct cohort_sub *sub)
{
    uint64_t options = (uint64_t)sub->max_rate << 8 | sub->mode;
    return mix(sub->channel->hash ^ mix(options + 1));
}

uint64_t cohort_format_hash(struct cohort_format format)
{
    return mix(1u + format.raw + 2u * format.deflate + 4u * format.window_bits);
}

static void enter_channel(struct cohort *c, uint32_t index)
{
    struct hub_channel *channel = c->subs[index].channel;
    if (channel->cohort_count == channel->cohort_cap) {
        channel->cohort_cap = channel->cohort_cap != 0 ? channel->cohort_cap * 2 : 2;
        channel->cohorts =
            mem_realloc(channel->cohorts, channel->cohort_cap * sizeof *channel->cohorts);
    }
    c->subs[index].back = channel->cohort_count;
    channel->cohorts[channel->cohort_count++] =
        (struct channel_follower){.cohort = c, .sub_index = index};
    channel->pins++;
}

static void leave_channel(struct cohort *c, uint32_t index)
{
    struct hub_channel *channel = c->subs[index].channel;
    uint32_t at = c->subs[index].back;
    struct channel_follower last = channel->cohorts[--channel->cohort_count];
    channel->cohorts[at] = last;
    last.cohort->subs[last.sub_index].back = at;
    hub_unpin(c->hub, channel);
}

static void enter_all(struct cohort *c, const struct cohort_sub *subs, uint32_t count)
{
    c->subs = mem_dup(subs, count * sizeof *subs);
    c->sub_count = count;
    for (uint32_t i = 0; i < count; i++)
        enter_channel(c, i);
    metrics_add(&c->hub->worker->metrics, METRIC_SUBSCRIPTIONS,
                (uint64_t)c->sub_count * c->member_count);
}

static void leave_all(struct cohort *c)
{
    metrics_add(&c->hub->worker->metrics, METRIC_SUBSCRIPTIONS,
                -((uint64_t)c->sub_count * c->member_count));
    for (uint32_t i = 0; i < c->sub_count; i++)
        leave_channel(c, i);
}

struct cohort *cohort_new(struct hub *hub, struct cohort_format format,
                          const struct cohort_sub *subs, uint32_t count, uint64_t set_hash)
{
    struct cohort *c = mem_zalloc(sizeof *c);
    c->hub = hub;
    c->format = format;
    c->set_hash = set_hash;
    list_init(&c->due);
    wheel_timer_init(&c->pace);
    enter_all(c, subs, count);
    metrics_add(&hub->worker->metrics, METRIC_COHORTS, 1);
    return c;
}

void cohort_free(struct cohort *c)
{
    assert(c->member_count == 0);
    leave_all(c);
    free(c->subs);
    for (uint32_t i = 0; i < c->ring_count; i++)
        frame_unref(c->ring[(c->ring_first + i) & (c->ring_cap - 1)].frame);
    list_remove(&c->due);
    wheel_cancel(&c->hub->pacing, &c->pace);
    metrics_add(&c->hub->worker->metrics, METRIC_COHORTS, (uint64_t)-1);
    free(c->ring);
    free(c->members);
    free(c);
}

void cohort_set_subs(struct cohort *c, const struct cohort_sub *subs, uint32_t count,
                     uint64_t set_hash)
{
    struct cohort_sub *old = c->subs;
    uint32_t old_count = c->sub_count;
    /* Pinned over the change, so that a channel in both sets does not die in between. */
    for (uint32_t i = 0; i < old_count; i++)
        old[i].channel->pins++;
    leave_all(c);
    enter_all(c, subs, count);
    c->set_hash = set_hash;
    for (uint32_t i = 0; i < old_count; i++)
        hub_unpin(c->hub, old[i].channel);
    free(old);
}

struct cohort_sub *cohort_find(const struct cohort *c, const struct hub_channel *channel)
{
    uint32_t low = 0, high = c->sub_count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (c->subs[mid].channel->id < channel->id)
            low = mid + 1;
        else
            high = mid;
    }
    return low < c->sub_count && c->subs[low].channel == channel ? &c->subs[low] : NULL;
}

/* --- members ------------------------------------------------------------------------------- */

uint32_t cohort_join(struct cohort *c, struct conn *conn)
{
    if (c->member_count == c->member_cap) {
        c->member_cap =
            c->member_cap != 0 ? c->member_cap + (c->member_cap + 1) / 2 : MEMBERS_FIRST;
        c->members = mem_realloc(c->members, c->member_cap * sizeof *c->members);
    }
    c->members[c->member_count] = (struct cohort_member){
        .cursor = c->head, .conn = conn, .fd = conn_fd(conn), .held = conn->blocked};
    c->held_count += conn->blocked;
    metrics_add(&c->hub->worker->metrics, METRIC_SUBSCRIPTIONS, c->sub_count);
    return c->member_count++;
}

void cohort_leave(struct cohort *c, uint32_t index)
{
    c->held_count -= c->members[index].held;
    metrics_add(&c->hub->worker->metrics, METRIC_SUBSCRIPTIONS, -(uint64_t)c->sub_count);
    struct cohort_member last = c->members[--c->member_count];
    if (index == c->member_count)
        return;
    c->members[index] = last;
    session_set_member_index(last.conn->upper, index);
}

void cohort_hold(struct cohort *c, uint32_t index)
{
    c->held_count += !c->members[index].held;
    c->members[index].held = true;
}

static void release(struct cohort *c, uint32_t index)
{
    c->held_count -= c->members[index].held;
    c->members[index].held = false;
}

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

void cohort_append(struct cohort *c, struct frame *f, uint64_t received_ns)
{
    if (c->ring_count == c->ring_cap)
        grow_ring(c);
    c->head += f->len;
    *entry(c, c->ring_count) = (struct cohort_entry){.frame = frame_ref(f), .end = c->head};
    c->ring_count++;
    if (c->unflushed++ == 0) {
        c->oldest_ns = received_ns;
        hub_schedule(c->hub, c);
    }
}

/* The offset before which nobody needs the stream any more. */
static uint64_t lowest_cursor(const struct cohort *c)
{
    uint64_t lowest = c->flushed;
    if (c->held_count == 0)
        return lowest;
    for (uint32_t i = 0; i < c->member_count; i++) {
        if (c->members[i].cursor < lowest)
            lowest = c->members[i].cursor;
    }
    return lowest;
}

static void trim(struct cohort *c)
{
    uint64_t lowest = lowest_cursor(c);
    while (c->ring_count > 0 && entry(c, 0)->end <= lowest) {
        frame_unref(entry(c, 0)->frame);
        c->ring_first = (c->ring_first + 1) & (c->ring_cap - 1);
        c->ring_count--;
    }
    if (c->ring_count == 0 && c->ring_cap > RING_KEEP) {
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

static void count_delivered(struct cohort *c, uint64_t frames, uint64_t bytes, uint64_t plain_bytes)
{
    struct metrics *m = &c->hub->worker->metrics;
    metrics_add(m, METRIC_DELIVERIES, frames);
    metrics_add(m, METRIC_DELIVERED_BYTES, bytes);
    metrics_add(m, METRIC_DELIVERED_PLAIN_BYTES, plain_bytes);
}

/* Counts the entries between two stream offsets, one by one: for members out of step. */
static void count_range(struct cohort *c, uint64_t from, uint64_t to)
{
    for (uint32_t i = entry_behind(c, from); i < c->ring_count && entry_start(c, i) < to; i++) {
        const struct frame *f = entry(c, i)->frame;
        count_delivered(c, 1, f->len, f->plain_bytes + f->header_len);
    }
}

static void observe_latency(struct cohort *c, const struct batch *b, uint64_t members)
{
    metrics_observe_ns(&c->hub->worker->metrics, HISTOGRAM_DELIVERY, clock_mono_ns() - c->oldest_ns,
                       b->frames * members);
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
        cohort_hold(c, index);
        conn_fail_later(m->conn, 0, METRIC_ENDED_LOST);
        return false;
    }
    uint64_t before = m->cursor;
    keep_place(c, index, before + (n > 0 ? (uint64_t)n : 0));
    count_range(c, before, m->cursor);
    return false;
}

static void check_lag(struct cohort *c, const struct cohort_member *m)
{
    if (c->head - m->cursor > (uint64_t)c->hub->worker->config->limits.hard_bytes)
        conn_fail_later(m->conn, WS_CLOSE_SLOW, METRIC_ENDED_SLOW);
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
        if (m->held) {
            check_lag(c, m);
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
    count_delivered(c, b->frames * in_step, (b->end - b->start) * in_step,
                    b->plain_bytes * in_step);
    metrics_add(&c->hub->worker->metrics, METRIC_WRITES, writes);
}

void cohort_flush(struct cohort *c)
{
    c->last_flush_ms = loop_now_ms(c->hub->worker->loop);
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
    release(c, index);
    struct cohort_member *m = &c->members[index];
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
    count_range(c, m->cursor, c->head);
    for (uint32_t i = entry_behind(c, m->cursor); i < c->ring_count; i++)
        conn_keep_rest(m->conn, entry(c, i)->frame, 0);
    m->cursor = c->head;
}
