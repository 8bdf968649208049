/*
 * redis_client.h - a blocking connection to Redis for tickcastctl. Shows nothing of hiredis.
 *
 * One owner thread. Connects, authenticates and selects the database, all under a timeout. After
 * a function has returned false the connection is of no use any more: redis_client_error says
 * why, and the owner frees it and may connect anew. It never redials by itself.
 */
#ifndef TICKCAST_CTL_REDIS_CLIENT_H
#define TICKCAST_CTL_REDIS_CLIENT_H

#include "base/buf.h"
#include "base/slice.h"
#include "protocol/redis_url.h"
#include "protocol/stamp.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define REDIS_CLIENT_TIMEOUT_MS 5000 /* for connecting, and for each reply */

struct publish_script_call;
struct redis_client;

enum redis_answer_kind {
    REDIS_ANSWER_TEXT,
    REDIS_ANSWER_INT,
    REDIS_ANSWER_NIL,
    REDIS_ANSWER_ARRAY
};

/* The answer to one command. Valid until redis_answer_fini. */
struct redis_answer {
    enum redis_answer_kind kind;
    struct slice text;      /* TEXT */
    long long number;       /* INT */
    struct slice *elements; /* ARRAY: of texts; what is no text has a NULL ptr */
    size_t count;
    void *owner;
};

/* What a pipeline came to. Sums up over calls. */
struct redis_pipeline_result {
    uint64_t answered;  /* publications that Redis accepted */
    uint64_t refused;   /* answered with an error */
    uint64_t receivers; /* nodes that heard them, added up */
};

/* Returns owned, or NULL with one line for people in error. */
struct redis_client *redis_client_connect(const struct redis_url *url, int timeout_ms,
                                          struct buf *error);
void redis_client_free(struct redis_client *c); /* NULL is fine */

/* Why the last call failed. Borrows. */
const char *redis_client_error(const struct redis_client *c);

/*
 * Runs one command. extra_ms: how much longer than the usual timeout the answer may take, for
 * commands that block. False when the connection failed or Redis answered with an error; out then
 * needs no fini.
 */
bool redis_client_command(struct redis_client *c, const struct slice *args, size_t count,
                          int extra_ms, struct redis_answer *out);
void redis_answer_fini(struct redis_answer *answer);

/* PUBLISH now. *receivers: how many subscribers heard it. */
bool redis_client_publish(struct redis_client *c, struct slice channel, struct slice payload,
                          long long *receivers);

/* What the publishing script says of a publication. */
struct redis_client_stamp {
    long long seq;
    char epoch[STAMP_EPOCH_MAX + 1];
};

/* Runs the publishing script now; its text is sent when Redis does not know it. */
bool redis_client_publish_stamped(struct redis_client *c, struct publish_script_call *call,
                                  struct redis_client_stamp *out);

/* Queues a PUBLISH without sending it; both are copied. */
void redis_client_queue_publish(struct redis_client *c, struct slice channel, struct slice payload);
size_t redis_client_queued(const struct redis_client *c);       /* publications not yet flushed */
size_t redis_client_queued_bytes(const struct redis_client *c); /* their names and payloads */

/*
 * Sends what is queued and reads all answers, adding them up in *result. False when the connection
 * failed: what was queued and not answered may or may not have been published. An error reply does
 * not fail the pipeline; it is counted, and kept for redis_client_error.
 */
bool redis_client_flush(struct redis_client *c, struct redis_pipeline_result *result);

#endif
