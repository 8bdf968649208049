/*
 * activation.h - listening sockets that the service manager opened: sd_listen_fds(3).
 *
 * LISTEN_FDS says how many descriptors, from 3 on, LISTEN_PID for whom, LISTEN_FDNAMES which is
 * which: `client` and `ops`. Where neither name occurs the first is the client listener. Each must
 * be a stream socket of IPv4 or IPv6 that listens, the ops one on a loopback address. The manager
 * keeps its own copies: what connects while no node runs waits in the kernel's queue.
 *
 * To be called before there are threads, for it changes the environment.
 */
#ifndef TICKCAST_APP_ACTIVATION_H
#define TICKCAST_APP_ACTIVATION_H

#include "base/buf.h"

#include <stdbool.h>

struct activation {
    int client_fd; /* -1: none was passed, the node binds by itself */
    int ops_fd;
};

/* Takes the sockets over: close-on-exec, non-blocking. Those that the node has no use for are
 * closed, with a line in warnings. False with a line in error when anything else than usable
 * sockets was passed. The variables are gone afterwards. */
bool activation_take(struct activation *a, struct buf *warnings, struct buf *error)
    __attribute__((warn_unused_result));

#endif
