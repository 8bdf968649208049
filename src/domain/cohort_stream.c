/*
 * cohort_stream.c - a cohort's stream: publications are appended, sealed into frames, let go.
 *
 *      append ──> parts, pending ──seal──> ring of frames ──trim──> gone, once no member needs them
 *
 * Per publication and cohort: one part, for one member or ten thousand. Giving the stream to the
 * members is cohort_send.c, which spares itself the ring where everybody keeps up.
 */
#include "base/mem.h"
#include "domain/catchup.h"
#include "domain/cohort_priv.h"
#include "domain/hub.h"

#include <stdlib.h>

#define RING_FIRST    4       /* entries; what is kept for held members grows it */
#define RING_KEEP     1024    /* a larger empty ring is given back */
#define PARTS_FIRST   8       /* a paced hot channel grows it once and keeps it */
#define PARTS_KEEP    4096    /* the same for parts */
#define PENDING_BYTES 1048576 /* pending: flushed without waiting for the pace */

/* --- the stream ---------------------------------------------------------------------------- */

uint32_t cohort_entry_behind(const struct cohort *c, uint64_t offset)
{
    uint32_t low = 0, high = c->ring_count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (cohort_entry_at(c, mid)->end <= offset)
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
        ring[i] = *cohort_entry_at(c, i);
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
    *cohort_entry_at(c, c->ring_count) =
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
    struct frame *single = publication_plain(item->p, c->format.raw ? FORM_RAW : form);
    if (single == NULL)
        return; /* raw clients are told nothing of the end of a value */
    if (c->part_end - c->part_first == c->part_cap)
        grow_parts(c);
    if (c->part_sealed == c->part_end && c->unflushed == 0) {
        c->oldest_ns = item->p->received_ns;
        hub_schedule(c->hub, c);
    }
    *cohort_part(c, c->part_end++) = (struct cohort_part){.item = item_ref(item),
                                                          .single = single,
                                                          .missed = missed,
                                                          .sub_index = sub_index & 0xffffff,
                                                          .form = (uint8_t)form};
    c->pending_bytes += item->p->payload_bytes;
    if (c->pending_bytes >= PENDING_BYTES)
        hub_schedule_now(c->hub, c);
}

/* --- sealing ------------------------------------------------------------------------------- */

uint32_t cohort_measure_run(const struct cohort *c, uint64_t from, size_t *bytes)
{
    uint32_t count = 0;
    *bytes = 0;
    while (from + count < c->part_end && count < PUSH_ITEMS_MAX) {
        const struct push_part pp = cohort_push_part(cohort_part(c, from + count));
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
        const struct push_part pp = cohort_push_part(cohort_part(c, i));
        push_put(&w, &pp);
    }
    return push_close(&w);
}

static void seal_run(struct cohort *c)
{
    size_t bytes;
    uint64_t from = c->part_sealed;
    const struct cohort_part *first = cohort_part(c, from);
    uint32_t count = cohort_measure_run(c, from, &bytes);
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

void cohort_trim_parts(struct cohort *c, uint64_t before)
{
    while (c->part_first < before)
        item_unref(cohort_part(c, c->part_first++)->item);
    if (c->part_first == c->part_end && c->part_cap > PARTS_KEEP) {
        free(c->parts);
        c->parts = NULL;
        c->part_cap = 0;
    }
}

void cohort_trim(struct cohort *c)
{
    uint64_t lowest = lowest_cursor(c);
    while (c->ring_count > 0 && cohort_entry_at(c, 0)->end <= lowest) {
        cohort_trim_parts(c, cohort_entry_at(c, 0)->part_end);
        cohort_drop_frame(c, cohort_entry_at(c, 0)->frame);
        c->ring_first = (c->ring_first + 1) & (c->ring_cap - 1);
        c->ring_count--;
    }
    if (c->ring_count > 0)
        return;
    if (c->ring_cap > RING_KEEP) {
        free(c->ring);
        c->ring = NULL;
        c->ring_cap = c->ring_first = 0;
    }
}

uint64_t cohort_part_behind(const struct cohort *c, uint64_t offset)
{
    uint32_t at = cohort_entry_behind(c, offset);
    return at == 0 ? c->part_first : cohort_entry_at(c, at - 1)->part_end;
}
