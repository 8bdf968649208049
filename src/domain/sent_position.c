/*
 * sent_position.c - reading backwards what a client has not been sent.
 *
 *      channel's count   … 7   8   9 │ 10  11 │ 12  13
 *                        written     │ queue  │ stream behind its cursor, pending, gates
 *                                    └─ the position is that of 9
 *
 * Three places hold what was not written, and each says what lies before it: a standing says it
 * itself, a part of the stream by its count, and a frame of the private queue only by its text. So
 * frames are read, which only happens for clients whose socket was full when they ended.
 */
#include "domain/sent_position.h"

#include "base/mem.h"
#include "protocol/config.h"
#include "protocol/json_text.h"

#include <stdlib.h>

#define COMPRESSED_BIT 0x40 /* RSV1 of a frame's first byte (RFC 7692, 6) */
#define SEQ_DIGITS_MAX 16

/* --- the standing ------------------------------------------------------------------------------ */

static void begin_at_standing(const struct session *s, uint32_t index, struct sent_position *p)
{
    const struct standing *at = catchup_peek(s, index);
    p->seen = cohort_position(s->cohort, index);
    if (at == NULL)
        return;
    if (s->catchup != NULL || at->seen > p->seen)
        p->seen = at->seen;
    if (at->since != NULL) { /* it came back with this, and has had nothing since */
        p->at = *at->since;
        p->is_set = p->is_known = true;
    } else if (at->wants_snap && !at->has_base) {
        p->is_set = true; /* it has had nothing at all */
    }
}

/* --- the stream -------------------------------------------------------------------------------- */

static void take_back_stream(const struct session *s, struct sent_position *list)
{
    const struct cohort *c = s->cohort;
    if (s->catchup != NULL)
        return; /* it has no cursor */
    uint64_t from = cohort_part_behind(c, c->members[s->member_index].cursor);
    for (uint64_t i = from; i < c->part_end; i++) {
        const struct cohort_part *part = cohort_part(c, i);
        struct sent_position *p = &list[part->sub_index];
        uint64_t before = part->item->count - part->missed - 1;
        if (p->seen > before)
            p->seen = before;
    }
}

/* --- the private queue ------------------------------------------------------------------------- */

/* One item of a push, as the client would have got it. */
struct unsent_item {
    struct slice channel;
    struct slice epoch;
    uint64_t seq;
    uint64_t missed;
};

static uint64_t read_number(struct slice digits)
{
    uint64_t value = 0;
    for (size_t i = 0; i < digits.len && i < SEQ_DIGITS_MAX; i++)
        value = value * 10 + (uint64_t)(digits.ptr[i] - '0');
    return value;
}

static struct slice without_quotes(struct slice json)
{
    return slice_of(json.ptr + 1, json.len - 2);
}

static struct unsent_item read_item(struct slice json)
{
    struct unsent_item item = {.channel = {0}};
    struct json_members members;
    struct slice key, value;
    json_members_init(&members, json);
    while (json_members_next(&members, &key, &value)) {
        if (slice_is(key, "channel"))
            item.channel = without_quotes(value);
        else if (slice_is(key, "epoch"))
            item.epoch = without_quotes(value);
        else if (slice_is(key, "seq"))
            item.seq = read_number(value);
        else if (slice_is(key, "missed"))
            item.missed = read_number(value);
    }
    return item;
}

/* An item that does not say its epoch is of the present one, unless that began behind it: then none
 * of the present one was queued, or the first one of it, which says so, is behind it in the queue. */
static void set_position(const struct hub_channel *c, struct sent_position *p,
                         const struct unsent_item *item)
{
    bool says_epoch = item->epoch.len > 0;
    struct slice epoch = says_epoch ? item->epoch : slice_of(c->epoch, c->epoch_len);
    p->is_set = true;
    p->is_presumed = !says_epoch;
    p->is_known =
        c->last != NULL && c->last->p->is_stamped && (says_epoch || p->seen >= c->epoch_count);
    p->at.seq = item->seq > item->missed ? item->seq - item->missed - 1 : 0;
    p->at.epoch_len = (uint8_t)epoch.len;
    memcpy(p->at.epoch, epoch.ptr, epoch.len);
}

/* The first one that was not sent decides. */
static void take_back_item(const struct session *s, struct sent_position *list,
                           const struct unsent_item *item)
{
    const struct hub_channel *c = hub_find(s->cohort->hub, item->channel);
    const struct cohort_sub *sub = c != NULL ? cohort_find(s->cohort, c) : NULL;
    if (sub == NULL || item->seq == 0)
        return;
    struct sent_position *p = &list[sub - s->cohort->subs];
    if (item->epoch.len > STAMP_EPOCH_MAX)
        return;
    if (!p->is_set)
        set_position(c, p, item);
    else if (p->is_presumed && item->epoch.len > 0)
        p->is_known = false;
}

static void take_back_push(const struct session *s, struct sent_position *list, struct slice text)
{
    struct json_members members;
    struct json_elements elements;
    struct slice key, value, json;
    if (!json_members_init(&members, text))
        return;
    while (json_members_next(&members, &key, &value)) {
        if (!slice_is(key, "items") || !json_elements_init(&elements, value))
            continue;
        while (json_elements_next(&elements, &json)) {
            const struct unsent_item item = read_item(json);
            take_back_item(s, list, &item);
        }
    }
}

static void take_back_frame(const struct session *s, struct sent_position *list,
                            const struct frame *f)
{
    struct slice text = frame_payload(f);
    struct buf inflated = {0};
    if ((f->bytes[0] & COMPRESSED_BIT) != 0) {
        enum ws_inflate_result result = ws_inflater_run(s->conn->worker->inflater, text.ptr,
                                                        text.len, f->plain_bytes, &inflated);
        text = result == WS_INFLATE_OK ? buf_slice(&inflated) : (struct slice){0};
    }
    if (text.len > 0)
        take_back_push(s, list, text);
    buf_fini(&inflated);
}

static void take_back_queue(const struct session *s, struct sent_position *list)
{
    const struct outq *q = s->conn->outq;
    for (uint32_t i = 0; q != NULL && i < q->count; i++) {
        const struct frame *f = outq_at(q, i);
        if (f->items > 0)
            take_back_frame(s, list, f);
    }
}

/* --- the position ------------------------------------------------------------------------------ */

/* Counts go on by at least as much as numbers do, so the difference of two counts never leads to a
 * number that is too high. */
static void conclude(const struct hub_channel *c, struct sent_position *p)
{
    const struct item *last = c->last;
    if (p->is_set)
        return;
    if (last == NULL && c->base.epoch_len != 0) { /* its value had ended before anybody came */
        p->is_known = true;
        p->at = c->base;
        return;
    }
    if (last == NULL || last->p->seq == 0) {
        /* From the beginning, whatever that will be called; if it is known that there was nothing. */
        bool was_empty = last != NULL || (c->live && !c->is_doubtful);
        p->is_known = was_empty && c->ns->history > 0;
        return;
    }
    uint64_t behind = last->count > p->seen ? last->count - p->seen : 0;
    p->is_known = last->p->is_stamped;
    p->at.seq = last->p->seq > behind ? last->p->seq - behind : 0;
    p->at.epoch_len = last->p->epoch_len;
    memcpy(p->at.epoch, last->p->epoch, last->p->epoch_len);
}

struct sent_position *sent_positions(struct session *s)
{
    if (s->cohort == NULL)
        return NULL;
    uint32_t count = s->cohort->sub_count;
    struct sent_position *list = mem_zalloc(count * sizeof *list);
    for (uint32_t i = 0; i < count; i++)
        begin_at_standing(s, i, &list[i]);
    take_back_stream(s, list);
    take_back_queue(s, list);
    for (uint32_t i = 0; i < count; i++)
        conclude(s->cohort->subs[i].channel, &list[i]);
    return list;
}
