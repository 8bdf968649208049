/*
 * notify.h - what the node tells the service manager: sd_notify(3), in our own few lines.
 *
 * Datagrams to the unix socket that NOTIFY_SOCKET names, by path or abstract ("@name"). Telling is
 * never worth a failure: without the variable nothing is sent; one that cannot be right, or a
 * manager that does not listen, is a warning in the log, and the node goes on. Nothing blocks.
 * What the manager acts on (READY, RELOADING, STOPPING) is kept and sent again, in order, while
 * its queue is full; the rest is not: the next one says it anew.
 *
 * Owner: the main thread.
 */
#ifndef TICKCAST_APP_NOTIFY_H
#define TICKCAST_APP_NOTIFY_H

#include "runtime/loop.h"

#include <stdbool.h>
#include <stdint.h>

struct notify;

/* Reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID. Returns owned, whatever they say. */
struct notify *notify_new(struct loop *loop);
void notify_free(struct notify *n);

bool notify_is_on(const struct notify *n); /* somebody is to be told */

/* How long the manager waits for a sign of life; 0: for ever. */
uint64_t notify_watchdog_us(const struct notify *n);

void notify_ready(struct notify *n);     /* started, or reloaded */
void notify_reloading(struct notify *n); /* to be followed by notify_ready */
void notify_stopping(struct notify *n);

/* A line for people, without line breaks. False: it could not be sent now. */
bool notify_status(struct notify *n, const char *text);
void notify_alive(struct notify *n);               /* WATCHDOG=1 */
void notify_extend(struct notify *n, uint64_t us); /* give it that long from now */

#endif
