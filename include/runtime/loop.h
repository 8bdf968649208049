/*
 * loop.h - one thread's event loop, and the only way to hand it something from another thread.
 *
 * libevent 2.1 has no end-of-turn hook, so a loop here is our own around EVLOOP_ONCE:
 *
 *      wait for events -> run their callbacks -> drain the mailbox -> turn-end hooks (flush, free)
 *
 * What callbacks of one turn produce is written once, at its end. The main thread and every worker
 * have one loop each; with one worker both roles share the main thread's loop, and posting to
 * oneself costs neither a lock nor a system call.
 */
#ifndef TICKCAST_RUNTIME_LOOP_H
#define TICKCAST_RUNTIME_LOOP_H

#include <stdbool.h>
#include <stdint.h>

struct event_base;
struct loop;

/* Embed as the first member of a message. run is called once in the receiver's thread and owns
 * the message. */
struct message {
    struct message *next;
    void (*run)(struct message *m);
};

struct loop *loop_new(void);    /* returns owned */
void loop_free(struct loop *l); /* messages not yet run are run first */

/* Runs what is in the mailbox, outside loop_run: for an orderly end, once no thread runs it. */
void loop_drain(struct loop *l);

struct event_base *loop_base(struct loop *l);

/* Runs turns in the calling thread, which becomes the owner, until loop_stop. */
void loop_run(struct loop *l);

/* Ends loop_run after the current turn. Owner thread; others post a message that calls it. */
void loop_stop(struct loop *l);

/* Hands over a message; takes m. Any thread. Messages of one sender run in the order posted. The
 * receiver is woken only when its mailbox was empty. */
void loop_post(struct loop *l, struct message *m);

/* Runs hook at the end of every turn, after the mailbox; hooks run in the order added. */
void loop_on_turn_end(struct loop *l, void (*hook)(void *arg), void *arg);

/*
 * A timer on the owner's loop, so that upper layers need no libevent of their own. Not for one per
 * client: those use a wheel (base/wheel.h) under one of these.
 */
struct loop_timer;

struct loop_timer *loop_timer_new(struct loop *l, void (*on_due)(void *arg), void *arg); /* unset */
void loop_timer_set(struct loop_timer *t, uint64_t in_ms); /* once; replaces what was set */
void loop_timer_repeat(struct loop_timer *t, uint64_t every_ms);
void loop_timer_cancel(struct loop_timer *t); /* harmless when not set */
void loop_timer_free(struct loop_timer *t);   /* NULL is harmless */

/* Monotonic time, read at most once per turn: at its first use. Owner thread. */
uint64_t loop_now_ms(struct loop *l);

#endif
