/*
 * loop.c - a thread's event loop with a mailbox and turn-end hooks.
 *
 *      other threads ──lock──> inbox ──detach whole──┐
 *                                                    ├──> run, in order
 *      the owner ────no lock──> local ───────────────┘
 *
 * The mutex guards the inbox list alone and is held for a few instructions. What the owner posts
 * to itself stays on its own list; a turn does not end while that list has members.
 */
#include "runtime/loop.h"

#include "base/clock.h"
#include "base/mem.h"

#include <assert.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define LOOP_HOOKS_MAX 8

struct message_list {
    struct message *first;
    struct message **last;
};

struct loop {
    struct event_base *base;
    pthread_mutex_t lock; /* guards inbox */
    struct message_list inbox;
    struct message_list local; /* posted by the owner to itself */
    int wake_fd;
    struct event wake;
    struct {
        void (*hook)(void *arg);
        void *arg;
    } hooks[LOOP_HOOKS_MAX];
    size_t hook_count;
    uint64_t now_ms; /* 0: not read yet in this turn */
    bool stopping;
};

static _Thread_local struct loop *current_loop;

static void list_reset(struct message_list *list)
{
    list->first = NULL;
    list->last = &list->first;
}

static void list_push(struct message_list *list, struct message *m)
{
    m->next = NULL;
    *list->last = m;
    list->last = &m->next;
}

static void on_wake(evutil_socket_t fd, short what, void *arg)
{
    (void)what;
    (void)arg;
    uint64_t count;
    /* The count says nothing that the inbox does not: reading only rearms the descriptor. */
    if (read(fd, &count, sizeof count) < 0)
        return;
}

struct loop *loop_new(void)
{
    struct loop *l = mem_zalloc(sizeof *l);
    struct event_config *config = event_config_new();
    if (config != NULL)
        event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
    l->base = config != NULL ? event_base_new_with_config(config) : NULL;
    if (config != NULL)
        event_config_free(config);
    l->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (l->base == NULL || l->wake_fd < 0) {
        perror("tickcast: cannot make an event loop");
        abort();
    }
    pthread_mutex_init(&l->lock, NULL);
    list_reset(&l->inbox);
    list_reset(&l->local);
    event_assign(&l->wake, l->base, l->wake_fd, EV_READ | EV_PERSIST, on_wake, l);
    event_add(&l->wake, NULL);
    return l;
}

static bool run_list(struct message_list *list)
{
    struct message *m = list->first;
    list_reset(list);
    bool any = m != NULL;
    while (m != NULL) {
        struct message *next = m->next;
        m->run(m);
        m = next;
    }
    return any;
}

static void drain_mailbox(struct loop *l)
{
    struct message_list taken;
    list_reset(&taken);
    pthread_mutex_lock(&l->lock);
    if (l->inbox.first != NULL) {
        taken = l->inbox;
        list_reset(&l->inbox);
    }
    pthread_mutex_unlock(&l->lock);
    run_list(&taken);
    while (run_list(&l->local)) {
    }
}

void loop_drain(struct loop *l)
{
    struct loop *outer = current_loop;
    current_loop = l;
    drain_mailbox(l);
    current_loop = outer;
}

void loop_free(struct loop *l)
{
    loop_drain(l);
    event_del(&l->wake);
    close(l->wake_fd);
    event_base_free(l->base);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

struct event_base *loop_base(struct loop *l)
{
    return l->base;
}

void loop_run(struct loop *l)
{
    current_loop = l;
    l->stopping = false;
    while (!l->stopping) {
        int flags = EVLOOP_ONCE | (l->local.first != NULL ? EVLOOP_NONBLOCK : 0);
        l->now_ms = 0;
        event_base_loop(l->base, flags);
        drain_mailbox(l);
        for (size_t i = 0; i < l->hook_count; i++)
            l->hooks[i].hook(l->hooks[i].arg);
    }
    current_loop = NULL;
}

void loop_stop(struct loop *l)
{
    l->stopping = true;
}

void loop_post(struct loop *l, struct message *m)
{
    if (current_loop == l) {
        list_push(&l->local, m);
        return;
    }
    pthread_mutex_lock(&l->lock);
    bool was_empty = l->inbox.first == NULL;
    list_push(&l->inbox, m);
    pthread_mutex_unlock(&l->lock);
    uint64_t one = 1;
    if (was_empty && write(l->wake_fd, &one, sizeof one) < 0) {
        /* Only EAGAIN can happen: the counter is full, so the receiver is about to wake anyway. */
        return;
    }
}

void loop_on_turn_end(struct loop *l, void (*hook)(void *arg), void *arg)
{
    assert(l->hook_count < LOOP_HOOKS_MAX);
    l->hooks[l->hook_count].hook = hook;
    l->hooks[l->hook_count].arg = arg;
    l->hook_count++;
}

uint64_t loop_now_ms(struct loop *l)
{
    if (l->now_ms == 0)
        l->now_ms = clock_mono_ms();
    return l->now_ms;
}

/* --- timers --------------------------------------------------------------------------------- */

struct loop_timer {
    struct loop *loop;
    struct event event;
    void (*on_due)(void *arg);
    void *arg;
};

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct loop_timer *t = arg;
    t->on_due(t->arg);
}

struct loop_timer *loop_timer_new(struct loop *l, void (*on_due)(void *arg), void *arg)
{
    struct loop_timer *t = mem_zalloc(sizeof *t);
    t->loop = l;
    t->on_due = on_due;
    t->arg = arg;
    event_assign(&t->event, l->base, -1, 0, on_timer, t);
    return t;
}

static void set_timer(struct loop_timer *t, uint64_t ms, short flags)
{
    const struct timeval delay = {.tv_sec = (time_t)(ms / 1000),
                                  .tv_usec = (suseconds_t)(ms % 1000 * 1000)};
    event_del(&t->event);
    event_assign(&t->event, t->loop->base, -1, flags, on_timer, t);
    event_add(&t->event, &delay);
}

void loop_timer_set(struct loop_timer *t, uint64_t in_ms)
{
    set_timer(t, in_ms, 0);
}

void loop_timer_repeat(struct loop_timer *t, uint64_t every_ms)
{
    set_timer(t, every_ms, EV_PERSIST);
}

void loop_timer_cancel(struct loop_timer *t)
{
    event_del(&t->event);
}

void loop_timer_free(struct loop_timer *t)
{
    if (t == NULL)
        return;
    event_del(&t->event);
    free(t);
}
