/*
 * poller.h - many sockets under one event of a loop.
 *
 * libevent keeps 128 bytes for an event and some 40 more for its descriptor, and its walk over what
 * is ready touches both. A connection needs none of that: it is found by the pointer that epoll
 * keeps for it in the kernel, and its deadlines are in the worker's wheel. So a worker's sockets are
 * in an epoll set of their own, and that set is one descriptor of the loop.
 *
 *      loop (libevent) ──> poller's epoll set ──> conn, conn, conn …
 *        └─ timers, mailbox, Redis, listeners
 *
 * Level-triggered: what is not read at once is reported again. Owner: the loop's thread.
 */
#ifndef TICKCAST_RUNTIME_POLLER_H
#define TICKCAST_RUNTIME_POLLER_H

#include "runtime/loop.h"

#include <stdbool.h>

struct poller;

enum poller_interest { POLLER_READ, POLLER_READ_WRITE };

/* on_ready is called for each socket that is: an error or a hang-up is both readable and writable,
 * so that the next call tells. It may end any of the poller's sockets, its own included, but the
 * owner's memory must last until the end of the turn: others may be reported of which the same
 * batch already knew. Returns owned. */
struct poller *poller_new(struct loop *loop,
                          void (*on_ready)(void *owner, bool readable, bool writable));
void poller_free(struct poller *p); /* the sockets are their owners' to close */

/* Adds a socket, until it is closed. False when the kernel has no room for it (epoll's limit of
 * watches, memory). */
bool poller_add(struct poller *p, int fd, void *owner) __attribute__((warn_unused_result));
void poller_change(struct poller *p, int fd, enum poller_interest interest, void *owner);

#endif
