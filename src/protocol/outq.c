/*
 * outq.c - ring of frame references with a partly written front.
 */
#include "protocol/outq.h"

#include "base/mem.h"

#include <assert.h>
#include <stdlib.h>

#define OUTQ_FIRST_SLOTS 4 /* a hello, an ack and two snapshots */

static struct frame **slot(const struct outq *q, uint32_t index)
{
    return &q->ring[(q->first + index) & (q->cap - 1)];
}

static void grow_if_full(struct outq *q)
{
    if (q->count < q->cap)
        return;
    uint32_t cap = q->cap != 0 ? q->cap * 2 : OUTQ_FIRST_SLOTS;
    struct frame **ring = mem_alloc(cap * sizeof *ring);
    for (uint32_t i = 0; i < q->count; i++)
        ring[i] = *slot(q, i);
    free(q->ring);
    q->ring = ring;
    q->cap = cap;
    q->first = 0;
}

void outq_fini(struct outq *q)
{
    for (uint32_t i = 0; i < q->count; i++)
        frame_unref(*slot(q, i));
    free(q->ring);
    *q = (struct outq){0};
}

void outq_push(struct outq *q, struct frame *f)
{
    grow_if_full(q);
    *slot(q, q->count) = f;
    q->count++;
    q->bytes += f->len;
}

void outq_push_control(struct outq *q, struct frame *f)
{
    outq_push(q, f);
    uint32_t at = q->control + (q->head_sent != 0 ? 1 : 0);
    for (uint32_t i = q->count - 1; i > at; i--)
        *slot(q, i) = *slot(q, i - 1);
    *slot(q, at) = f;
    q->control++;
}

bool outq_try_replace_control(struct outq *q, struct frame *f)
{
    if (q->control == 0)
        return false;
    struct frame **last = slot(q, q->control - 1 + (q->head_sent != 0 ? 1 : 0));
    if ((*last)->bytes[0] != f->bytes[0])
        return false;
    q->bytes += (uint64_t)f->len - (*last)->len;
    frame_unref(*last);
    *last = f;
    return true;
}

void outq_push_partial(struct outq *q, struct frame *f, uint32_t sent)
{
    assert(q->head_sent == 0 && sent > 0 && sent < f->len);
    grow_if_full(q);
    q->first = (q->first - 1) & (q->cap - 1);
    *slot(q, 0) = f;
    q->count++;
    q->head_sent = sent;
    q->bytes += f->len - sent;
}

int outq_gather(const struct outq *q, struct iovec *pieces, int max)
{
    int n = 0;
    for (uint32_t i = 0; i < q->count && n < max; i++, n++) {
        struct frame *f = *slot(q, i);
        uint32_t skip = i == 0 ? q->head_sent : 0;
        pieces[n] = (struct iovec){.iov_base = f->bytes + skip, .iov_len = f->len - skip};
    }
    return n;
}

/* Takes the front off. A front that had been partly written was not counted as control. */
static void pop(struct outq *q, bool was_partial)
{
    frame_unref(*slot(q, 0));
    q->first = (q->first + 1) & (q->cap - 1);
    q->count--;
    if (!was_partial && q->control > 0)
        q->control--;
}

void outq_consume(struct outq *q, size_t bytes)
{
    assert(bytes <= q->bytes);
    q->bytes -= bytes;
    while (bytes > 0) {
        bool was_partial = q->head_sent != 0;
        size_t left = (*slot(q, 0))->len - q->head_sent;
        if (bytes < left) {
            q->head_sent += (uint32_t)bytes;
            if (!was_partial && q->control > 0)
                q->control--; /* now the partly written front, no longer one of the control run */
            return;
        }
        bytes -= left;
        q->head_sent = 0;
        pop(q, was_partial);
    }
}

void outq_drop_unsent(struct outq *q)
{
    uint32_t keep = q->head_sent != 0 ? 1 : 0;
    while (q->count > keep) {
        q->count--;
        struct frame *f = *slot(q, q->count);
        q->bytes -= f->len;
        frame_unref(f);
    }
    q->control = 0;
}
