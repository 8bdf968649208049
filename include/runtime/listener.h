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

/* Binds `host:port` and listens; port 0 picks a free one. NULL with a line in error. workers are
 * borrowed. max_sockets: beyond so many, a socket is closed as soon as it is accepted. */
struct listener *listener_new(struct loop *loop, const char *address, struct worker **workers,
                              unsigned count, uint64_t max_sockets, struct metrics *metrics,
                              struct buf *error);
void listener_free(struct listener *l);

/* The bound address as `host:port`. Lives as long as the listener. */
const char *listener_address(const struct listener *l);

/* Bounds what the kernel holds unsent for each socket accepted from now on; 0: as it likes. */
void listener_set_unsent_bytes(struct listener *l, int bytes);

/* Sockets over all workers, as for listener_new, from now on. */
void listener_set_max_sockets(struct listener *l, uint64_t max_sockets);

void listener_start(struct listener *l); /* begins to accept */
void listener_stop(struct listener *l);  /* stops accepting, for good */

/* Binds a listening socket, for listeners of other kinds. Returns the descriptor or -1 with a line
 * in error; writes the bound address into text (64 bytes). */
int listener_bind(const char *address, char *text, struct buf *error);

#endif
