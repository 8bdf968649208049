/*
 * watchdog.c - rounds of questions to the loops.
 *
 * A question is answered in the mailbox's part of a turn, behind the events; a loop that hangs in
 * the end of its turn is found out by the next round. The messages are part of the watchdog and
 * used again, for there is one round at a time.
 */
#include "app/watchdog.h"

#include "base/log.h"
#include "base/mem.h"

#include <stdatomic.h>
#include <stdlib.h>

#define ROUNDS_PER_PERIOD \
    4 /* fed at a quarter; late is told at half; three quarters are patience */

struct question {
    struct message message;
    struct watchdog *watchdog;
    struct loop *loop;
    atomic_bool is_open;
};

struct watchdog {
    struct watchdog_setup setup;
    struct loop_timer *timer;
    struct message answered; /* to the main loop, from whoever answers last */
    atomic_uint open_count;
    bool is_asking;
    bool is_late; /* and the log says so */
    uint64_t asked_ms;
    struct question questions[];
};

static void on_question(struct message *m)
{
    struct question *q = (struct question *)m;
    struct watchdog *w = q->watchdog;
    atomic_store_explicit(&q->is_open, false, memory_order_relaxed); /* for the log alone */
    /* Release and acquire: the main thread reuses every question behind the last answer. */
    if (atomic_fetch_sub_explicit(&w->open_count, 1, memory_order_acq_rel) == 1)
        loop_post(w->setup.loop, &w->answered);
}

static void on_answered(struct message *m)
{
    struct watchdog *w = (struct watchdog *)((char *)m - offsetof(struct watchdog, answered));
    uint64_t ms = loop_now_ms(w->setup.loop) - w->asked_ms;
    if (w->is_late)
        log_warn("loops_answer_again", LOG_INT("late_ms", ms));
    w->is_asking = w->is_late = false;
    w->setup.feed(w->setup.arg);
}

static void tell_late(struct watchdog *w, uint64_t ms)
{
    w->is_late = true;
    for (unsigned i = 0; i < w->setup.count; i++) {
        if (atomic_load_explicit(&w->questions[i].is_open, memory_order_relaxed))
            log_error("loop_late", LOG_INT("worker", i), LOG_INT("late_ms", ms));
    }
}

static void on_timer(void *arg)
{
    struct watchdog *w = arg;
    uint64_t now_ms = loop_now_ms(w->setup.loop);
    if (w->is_asking) {
        if (!w->is_late && (now_ms - w->asked_ms) * 1000 >= w->setup.period_us / 2)
            tell_late(w, now_ms - w->asked_ms);
        return;
    }
    w->is_asking = true;
    w->asked_ms = now_ms;
    atomic_store_explicit(&w->open_count, w->setup.count, memory_order_relaxed);
    for (unsigned i = 0; i < w->setup.count; i++) {
        atomic_store_explicit(&w->questions[i].is_open, true, memory_order_relaxed);
        loop_post(w->questions[i].loop, &w->questions[i].message);
    }
}

struct watchdog *watchdog_new(const struct watchdog_setup *setup)
{
    struct watchdog *w = mem_zalloc(sizeof *w + setup->count * sizeof *w->questions);
    uint64_t every_ms = setup->period_us / 1000 / ROUNDS_PER_PERIOD;
    w->setup = *setup;
    w->setup.loops = NULL;
    w->answered.run = on_answered;
    for (unsigned i = 0; i < setup->count; i++) {
        w->questions[i].message.run = on_question;
        w->questions[i].watchdog = w;
        w->questions[i].loop = setup->loops[i];
    }
    w->timer = loop_timer_new(setup->loop, on_timer, w);
    loop_timer_repeat(w->timer, every_ms > 0 ? every_ms : 1);
    on_timer(w);
    return w;
}

void watchdog_free(struct watchdog *w)
{
    if (w == NULL)
        return;
    loop_timer_free(w->timer);
    free(w);
}
