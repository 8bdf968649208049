/*
 * listener.h - accepts client sockets in one place and spreads them over the workers.
 *
 * Owner: the main thread. A socket goes to the worker with the fewest. When descriptors run out,
 * accepting pauses instead of spinning on a socket that stays readable; clients wait in the
 * kernel's backlog meanwhile.
 */
#ifndef TICKCAST_RUNTIME_LISTENER_H
#define TICKCAST_RUNTIME_LISTENER_H

#include "base/buf.h"
#include "protocol/metrics.h"
#include "runtime/loop.h"
#include "runtime/worker.h"

#include <stdbool.h>
#include <stdint.h>

struct listener;

#define LISTENER_ADDRESS_BYTES 64

/* Takes a socket that listens: one of listener_bind, or one that was inherited. workers are
 * borrowed. max_sockets: beyond so many, a socket is closed as soon as it is accepted. */
struct listener *listener_new(struct loop *loop, int fd, struct worker **workers, unsigned count,
                              uint64_t max_sockets, struct metrics *metrics);
void listener_free(struct listener *l);

/* The bound address as `host:port`. Lives as long as the listener. */
const char *listener_address(const struct listener *l);

/* Bounds what the kernel holds unsent for each socket accepted from now on; 0: as it likes. */
void listener_set_unsent_bytes(struct listener *l, int bytes);

/* Sockets over all workers, as for listener_new, from now on. */
void listener_set_max_sockets(struct listener *l, uint64_t max_sockets);

void listener_start(struct listener *l); /* begins to accept */

/* Stops accepting, for good, and closes the socket. Of an inherited one others have copies: it goes
 * on taking connects, which wait for whoever accepts next. */
void listener_stop(struct listener *l);

/* Binds `host:port` and listens; port 0 picks a free one. Returns the descriptor, or -1 with a line
 * in error. May block on a host name. */
int listener_bind(const char *address, struct buf *error);

/* Writes the address that a socket is bound to as `host:port`. */
void listener_write_address(int fd, char text[LISTENER_ADDRESS_BYTES]);

#endif
