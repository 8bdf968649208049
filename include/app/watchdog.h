/*
 * watchdog.h - are all loops alive? The answer comes from the loops themselves.
 *
 *      main loop ──question──> every other loop's mailbox ──last answer──> main loop: feed()
 *
 * In each round every loop is posted a message, which wakes it if it is idle, and answers by
 * running it. Only when all have answered, and the main loop has taken the last answer, feed is
 * called: a single loop that hangs, the main one included, and there is no feed. No round begins
 * before the last one is answered, so a hung loop's mailbox does not fill.
 *
 * Owner: the main thread.
 */
#ifndef TICKCAST_APP_WATCHDOG_H
#define TICKCAST_APP_WATCHDOG_H

#include "runtime/loop.h"

#include <stdint.h>

struct watchdog;

struct watchdog_setup {
    struct loop *loop;   /* the main thread's */
    struct loop **loops; /* those that are asked; the main one may be among them; copied */
    unsigned count;
    uint64_t period_us; /* the manager's patience; a round begins four times in it */
    void (*feed)(void *arg);
    void *arg;
};

struct watchdog *watchdog_new(const struct watchdog_setup *setup); /* the first round is at once */
void watchdog_free(struct watchdog *w); /* once no asked loop runs and their mailboxes are empty */

#endif
