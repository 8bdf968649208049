/*
 * service.h - the node as its service manager sees it: ready, reloading, stopping, alive, and a
 * line of status, by notify.h and watchdog.h. All of it is nothing without a manager.
 *
 * Owner: the main thread.
 */
#ifndef TICKCAST_APP_SERVICE_H
#define TICKCAST_APP_SERVICE_H

#include "domain/bus.h"
#include "domain/drain.h"
#include "runtime/loop.h"
#include "runtime/worker.h"

struct service;

struct service_setup { /* all borrowed */
    struct loop *loop; /* the main thread's */
    const struct bus *bus;
    const struct drain *drain;
    struct worker **workers;
    unsigned worker_count;
};

/* Reads the environment; see notify.h. */
struct service *service_new(const struct service_setup *setup);

void service_ready(struct service *s);     /* the listeners accept, or a reload is over */
void service_reloading(struct service *s); /* to be followed by service_ready, done or refused */

/* The end has begun, and is planned to take so long; the manager is asked for as much. Once. */
void service_stopping(struct service *s, uint64_t planned_ms);

void service_free(struct service *s); /* once no worker runs and mailboxes are empty; NULL too */

#endif
