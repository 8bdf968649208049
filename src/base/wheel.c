/*
 * wheel.c - hashed timer wheel.
 *
 * A timer lies in the slot of the tick at which it fires, its deadline rounded up; slot numbers
 * wrap, so a slot also holds timers of later rounds, which stay when it is passed. One list behind
 * the slots takes the deadlines that had passed already when they were set.
 *
 *      now_tick ─┐
 *      [ ][ ][ ][ ][a][ ][b,c][ ]   [late]
 *                   └── advance looks at these in turn, and at late first
 *
 * An advance first gathers all that is due and then fires it, from a list of its own: callbacks
 * may change the wheel as they like, and what they set fires in a later advance, never in this one.
 */
#include "base/wheel.h"

#include "base/mem.h"

#include <assert.h>
#include <stdlib.h>

static uint64_t tick_of_deadline(const struct wheel *w, uint64_t due_ms)
{
    return due_ms / w->tick_ms + (due_ms % w->tick_ms != 0);
}

static struct list *slot_of_tick(const struct wheel *w, uint64_t tick)
{
    return &w->slots[tick & (w->slot_count - 1)];
}

static struct list *late_slot(const struct wheel *w)
{
    return &w->slots[w->slot_count];
}

void wheel_init(struct wheel *w, unsigned tick_ms, unsigned slot_count, uint64_t now_ms)
{
    assert(tick_ms > 0 && slot_count > 0 && (slot_count & (slot_count - 1)) == 0);
    *w = (struct wheel){
        .slots = mem_alloc((slot_count + 1) * sizeof(struct list)),
        .slot_count = slot_count,
        .tick_ms = tick_ms,
        .now_tick = now_ms / tick_ms,
    };
    for (unsigned i = 0; i <= slot_count; i++)
        list_init(&w->slots[i]);
}

void wheel_fini(struct wheel *w)
{
    assert(w->count == 0);
    free(w->slots);
    *w = (struct wheel){0};
}

void wheel_timer_init(struct wheel_timer *t)
{
    list_init(&t->link);
    t->due_ms = 0;
}

bool wheel_timer_is_set(const struct wheel_timer *t)
{
    return !list_is_empty(&t->link);
}

void wheel_set(struct wheel *w, struct wheel_timer *t, uint64_t due_ms)
{
    wheel_cancel(w, t);
    t->due_ms = due_ms;
    uint64_t tick = tick_of_deadline(w, due_ms);
    list_append(tick > w->now_tick ? slot_of_tick(w, tick) : late_slot(w), &t->link);
    w->count++;
}

void wheel_cancel(struct wheel *w, struct wheel_timer *t)
{
    if (!wheel_timer_is_set(t))
        return;
    list_remove(&t->link);
    w->count--;
}

/* Moves the timers of a slot that fire up to and including `tick` to the end of `due`. */
static void gather(const struct wheel *w, struct list *slot, uint64_t tick, struct list *due)
{
    struct list *next;
    for (struct list *at = slot->next; at != slot; at = next) {
        next = at->next;
        if (tick_of_deadline(w, list_entry(at, struct wheel_timer, link)->due_ms) > tick)
            continue;
        list_remove(at);
        list_append(due, at);
    }
}

void wheel_advance(struct wheel *w, uint64_t now_ms,
                   void (*on_due)(struct wheel_timer *t, void *arg), void *arg)
{
    struct list due;
    list_init(&due);
    list_splice(&due, late_slot(w));
    uint64_t target = now_ms / w->tick_ms;
    /* After a long sleep one round sees every slot. */
    uint64_t steps = target > w->now_tick ? target - w->now_tick : 0;
    if (steps > w->slot_count)
        steps = w->slot_count;
    if (w->count != 0) {
        for (uint64_t i = 1; i <= steps; i++)
            gather(w, slot_of_tick(w, w->now_tick + i), target, &due);
    }
    if (target > w->now_tick)
        w->now_tick = target;

    struct list *first;
    while ((first = list_shift(&due)) != NULL) {
        w->count--;
        on_due(list_entry(first, struct wheel_timer, link), arg);
    }
}

uint64_t wheel_next_in_ms(const struct wheel *w, uint64_t now_ms)
{
    if (w->count == 0)
        return UINT64_MAX;
    if (!list_is_empty(late_slot(w)))
        return 0;
    uint64_t tick = w->now_tick + 1;
    while (list_is_empty(slot_of_tick(w, tick)) && tick < w->now_tick + w->slot_count)
        tick++;
    uint64_t tick_at_ms = tick * w->tick_ms;
    return tick_at_ms > now_ms ? tick_at_ms - now_ms : 0;
}
