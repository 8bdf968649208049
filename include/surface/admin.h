/*
 * admin.h - commands to the fleet (docs/protocol.md, 4): heard on `tc:admin`, answered by RPUSH.
 *
 * Main thread. A command that concerns clients is posted to every worker; when all have counted
 * whom it touched, one reply goes to `tc:admin:reply:<id>`. A command that is malformed, unknown
 * or not for this node changes nothing.
 */
#ifndef TICKCAST_SURFACE_ADMIN_H
#define TICKCAST_SURFACE_ADMIN_H

#include "base/slice.h"
#include "domain/bus.h"
#include "domain/drain.h"
#include "protocol/metrics.h"
#include "runtime/worker.h"

struct admin;

struct admin_setup {
    struct loop *loop; /* the main thread's */
    const struct config *config;
    struct metrics *metrics; /* of the main thread */
    struct bus *bus;
    struct drain *drain;
    /* Appends members of a reply, each with a comma in front; false with a line in error. */
    bool (*reload)(void *arg, struct buf *report, struct buf *error);
    bool (*may_undrain)(const void *arg); /* a node that stops stays drained */
    void *arg;
    struct worker **workers;
    unsigned worker_count;
};

struct admin *admin_new(const struct admin_setup *setup);
void admin_free(struct admin *a); /* no call may be under way: the workers are stopped */

/* Goes on with another configuration, borrowed. */
void admin_set_config(struct admin *a, const struct config *next);

#define ADMIN_ID_BYTES_MAX 64

/* The id of a command, which was parsed from text, into ADMIN_ID_BYTES_MAX + 1 bytes: as a client's,
 * a text or a whole number as it was written; "" where there is none. False: unusable. */
struct cJSON;
bool admin_read_id(const struct cJSON *command, struct slice text, char *out);

/* A message of the admin channel; borrows. */
void admin_on_message(struct admin *a, struct slice payload);

#endif
