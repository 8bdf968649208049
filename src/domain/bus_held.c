/*
 * bus_held.c - messages that are kept back while what is older than they are is read, and how long.
 *
 * Main thread. Patience is a time, the same for all channels: it begins with an event that makes an
 * answer of the store doubtful (a link lost or back, a refusal), and when it is over, what is kept back
 * goes out with its gap told, unless an answer is still to be expected.
 */
#include "domain/bus_read.h"

#include "base/mem.h"
#include "domain/bus_priv.h"

#include <stdlib.h>

#define HELD_BYTES_MAX     67108864 /* 64 MiB on all channels; past it messages go out as they come */
#define HELD_OVERHEAD      64       /* bytes a message costs besides its own */
#define PATIENCE_COUNT_MAX 3        /* times in a row, for a subscriber link that comes and goes */

static uint64_t patience_left_ms(const struct bus *b)
{
    uint64_t used_ms = loop_now_ms(b->setup.loop) - b->patience_from_ms;
    return used_ms < BUS_PATIENCE_MS ? BUS_PATIENCE_MS - used_ms : 0;
}

/* The two links come up one after the other, and are often cut at the same moment: then everything
 * is read anew, and it is worth waiting for that. If the command link alone stays away, or the
 * store goes on refusing, what is kept back goes out as it came. With the subscriber link away too
 * nothing more comes, and what a log has of the time before must not be lost to impatience. */
static bool may_hold(const struct bus *b, const struct bus_channel *c)
{
    if (c->ns->history > 0 && !redis_link_is_up(b->subscriber))
        return true;
    return (redis_link_is_up(b->command) && !b->store_refuses) || patience_left_ms(b) > 0;
}

bool bus_hold(struct bus *b, struct bus_channel *c, struct slice payload)
{
    struct bus_read *r = c->read;
    bool is_holding =
        r != NULL && (r->kind == BUS_READ_LOAD || r->kind == BUS_READ_RENEW) && may_hold(b, c);
    if (!is_holding || r->holds_nothing)
        return false;
    if (b->held_bytes >
        HELD_BYTES_MAX) { /* to hold again once there is room would turn the order */
        r->holds_nothing = true;
        return false;
    }
    struct held_message *m = mem_alloc(sizeof *m + payload.len);
    list_init(&m->link);
    m->len = payload.len;
    m->is_before_hole = false;
    memcpy(m->bytes, payload.ptr, payload.len);
    b->held_bytes += m->len + HELD_OVERHEAD;
    list_append(&c->held, &m->link);
    return true;
}

struct held_message *bus_shift_held(struct bus *b, struct list *held)
{
    struct list *first = list_shift(held);
    if (first == NULL)
        return NULL;
    struct held_message *m = list_entry(first, struct held_message, link);
    b->held_bytes -= m->len + HELD_OVERHEAD;
    return m;
}

void bus_hole_behind_held(struct bus_channel *c)
{
    for (struct list *at = c->held.next; at != &c->held; at = at->next)
        list_entry(at, struct held_message, link)->is_before_hole = true;
}

/* A message that came before a hole was taken, or is kept back once more: nobody knows what came
 * after it. */
static void on_taken_before_hole(struct bus_channel *c, bool has_hole)
{
    c->has_hole = has_hole;
    if (!list_is_empty(&c->held))
        list_entry(c->held.prev, struct held_message, link)->is_before_hole = true;
}

void bus_release_held(struct bus *b, struct bus_channel *c)
{
    struct list held;
    struct held_message *m;
    if (c->read != NULL)
        c->read->has_first = false;
    list_init(&held);
    list_splice(&held, &c->held);
    while ((m = bus_shift_held(b, &held)) != NULL) {
        bool has_hole = c->has_hole;
        bus_take_message(b, c, slice_of(m->bytes, m->len));
        if (m->is_before_hole)
            on_taken_before_hole(c, has_hole);
        free(m);
    }
}

void bus_forget_held(struct bus *b, struct bus_channel *c)
{
    struct held_message *m;
    while ((m = bus_shift_held(b, &c->held)) != NULL)
        free(m);
}

bool bus_held_stamp(const struct list *at, struct stamp *out)
{
    const struct held_message *m = list_entry(at, struct held_message, link);
    return stamp_parse(slice_of(m->bytes, m->len), out) == STAMP_OK;
}

bool bus_is_before_hole(const struct list *at)
{
    return list_entry(at, struct held_message, link)->is_before_hole;
}

bool bus_holds_run_of_regressed(const struct bus_channel *c)
{
    struct stamp first, second;
    const struct list *at = c->held.next;
    if (at == &c->held || at->next == &c->held)
        return false;
    return bus_held_stamp(at, &first) && bus_held_stamp(at->next, &second) &&
           slice_equal(first.epoch, second.epoch) && second.seq == first.seq + 1 &&
           second.seq <= c->seq;
}

/* --- patience ------------------------------------------------------------------------------- */

static void watch_patience(struct bus *b)
{
    loop_timer_set(b->patience_timer, patience_left_ms(b) + 1);
}

static void on_patience_over(void *arg)
{
    struct bus *b = arg;
    size_t it = 0;
    struct bus_channel *c;
    while ((c = map_next(&b->channels, &it)) != NULL) {
        if (!may_hold(b, c))
            bus_release_held(b, c);
    }
    bus_post_batches(b);
    if (patience_left_ms(b) > 0)
        watch_patience(b); /* the timer counts from a little before the time that it was set */
}

static void begin_patience(struct bus *b)
{
    b->patience_from_ms = loop_now_ms(b->setup.loop);
    watch_patience(b);
}

/* Patience is not begun anew by each failure: a link that is lost before it has answered, over and
 * over, is one that stays away. */
void bus_go_unanswered(struct bus *b)
{
    if (!b->is_unanswered)
        begin_patience(b);
    else
        watch_patience(b); /* it may have been over while there was hope */
    b->is_unanswered = true;
}

/* Redis may be lost once more before it has answered, but a link that only comes and goes must not
 * keep messages back for ever. */
void bus_subscriber_link_up(struct bus *b)
{
    if (b->held_bytes == 0)
        b->patience_count = 0;
    if (b->patience_count < PATIENCE_COUNT_MAX) {
        b->patience_count++;
        begin_patience(b);
    }
}

/* --- life ----------------------------------------------------------------------------------- */

void bus_held_init(struct bus *b)
{
    b->patience_timer = loop_timer_new(b->setup.loop, on_patience_over, b);
}

void bus_held_fini(struct bus *b)
{
    loop_timer_free(b->patience_timer);
}
