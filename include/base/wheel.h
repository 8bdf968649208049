/*
 * wheel.h - hashed timer wheel: many timers, few of which ever fire on time unchanged.
 *
 * Adding and removing are O(1), a timer costs 24 bytes inside its owner and nothing else. Time
 * is counted in ticks of a fixed length; a timer fires in the first wheel_advance at or behind the
 * first tick that does not come before its deadline: at most one tick late and never early. Timers
 * further away than the wheel is long simply go round again. Not thread-safe.
 */
#ifndef TICKCAST_BASE_WHEEL_H
#define TICKCAST_BASE_WHEEL_H

#include "base/list.h"

#include <stdint.h>

struct wheel_timer {
    struct list link;
    uint64_t due_ms; /* on the caller's monotonic clock */
};

struct wheel {
    struct list *slots;  /* slot_count, and one more for deadlines that had passed when set */
    unsigned slot_count; /* a power of two */
    unsigned tick_ms;
    uint64_t now_tick; /* the last tick that was advanced over */
    size_t count;      /* timers waiting */
};

void wheel_init(struct wheel *w, unsigned tick_ms, unsigned slot_count, uint64_t now_ms);
void wheel_fini(struct wheel *w); /* releases the slots; timers must be gone */

void wheel_timer_init(struct wheel_timer *t);
bool wheel_timer_is_set(const struct wheel_timer *t);

/* Sets or moves a timer. A deadline that has passed fires in the next advance. */
void wheel_set(struct wheel *w, struct wheel_timer *t, uint64_t due_ms);
void wheel_cancel(struct wheel *w, struct wheel_timer *t); /* harmless when not set */

/* Fires everything due at now_ms. on_due may set or cancel any timer, the fired one included. */
void wheel_advance(struct wheel *w, uint64_t now_ms,
                   void (*on_due)(struct wheel_timer *t, void *arg), void *arg);

/* Milliseconds until an advance may next fire a timer: a lower bound, because a timer that has to
 * go round again counts like the others. 0 when an advance is due, UINT64_MAX when the wheel is
 * empty. */
uint64_t wheel_next_in_ms(const struct wheel *w, uint64_t now_ms);

#endif
