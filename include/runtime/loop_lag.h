/*
 * loop_lag.h - how long those who need a loop have to wait for their turn.
 *
 * A timer that is set again each time it has fired, and looks how late that was: what everything
 * else in the loop (a read, a flush to thousands of clients) makes others wait. Ten samples a second
 * in equal distances say what share of the time a loop is that late, whatever it is that takes so
 * long. Owner: the loop's thread.
 */
#ifndef TICKCAST_RUNTIME_LOOP_LAG_H
#define TICKCAST_RUNTIME_LOOP_LAG_H

#include "protocol/metrics.h"
#include "runtime/loop.h"

struct loop_lag;

/* Begins at once. metrics: of the loop's thread; both are borrowed. Before the loop runs. */
struct loop_lag *loop_lag_new(struct loop *l, struct metrics *metrics);
void loop_lag_free(struct loop_lag *lag); /* NULL is harmless */

#endif
