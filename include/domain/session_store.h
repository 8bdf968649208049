/*
 * session_store.h - client sessions on their way into Redis and out of it again.
 *
 *      worker ──post_save──> waiting ──at most 256 at a time──> SET  {tc:session:<id>} … PX grace
 *      worker ──post_take──>    "    ──────────────────────> read and delete, in one script
 *             <──resume_post_answer── found, unknown, not ours, or Redis cannot be asked
 *
 * A client that was just told to leave may be at the next node before its session is in Redis, so
 * one that is not there is looked for again, twice within a third of a second. Each take is
 * answered within two seconds whatever Redis does; where Redis gives the session later all the same,
 * the hub is told, and stores it again. A save is not answered: what could not be stored is counted,
 * and its client comes back with positions of its own.
 *
 * Owner: the main thread, except the two functions that post.
 */
#ifndef TICKCAST_DOMAIN_SESSION_STORE_H
#define TICKCAST_DOMAIN_SESSION_STORE_H

#include "protocol/config.h"
#include "protocol/metrics.h"
#include "protocol/session_state.h"
#include "runtime/loop.h"
#include "runtime/redis_link.h"

#include <stdbool.h>
#include <stdint.h>

struct hub;
struct session_store;

enum session_take {
    SESSION_FOUND,
    SESSION_UNKNOWN,
    SESSION_UNUSABLE, /* there is something, and it is not ours */
    SESSION_UNREAD,   /* Redis is away, or does not answer in time */
};

/* prefix is copied; metrics are the main thread's. */
struct session_store *session_store_new(struct loop *loop, const char *prefix,
                                        struct metrics *metrics);
void session_store_set_link(struct session_store *s, struct redis_link *link); /* borrowed */

/* Has Redis answered everything? What is stored last must not be lost with the process. */
bool session_store_is_idle(const struct session_store *s);

/* Before the hubs are freed: whatever is posted from now on, or still waits, is forgotten. */
void session_store_close(struct session_store *s);
void session_store_free(struct session_store *s); /* once the link is freed, if there was one */

/* Any thread. Keeps a session for its client: takes text, of at most SESSION_STATE_BYTES_MAX. */
void session_store_post_save(struct session_store *s, const uint8_t id[SESSION_ID_BYTES],
                             struct buf *text, uint64_t grace_ms);

/* Any thread. resume_post_answer (resume.h) brings the answer to the hub. */
void session_store_post_take(struct session_store *s, const uint8_t id[SESSION_ID_BYTES],
                             struct hub *hub, uint64_t token);

#endif
