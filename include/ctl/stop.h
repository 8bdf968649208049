/*
 * stop.h - ending a publisher cleanly, and sleeping until an absolute deadline.
 *
 * SIGINT and SIGTERM are blocked and let in only while waiting, so that none is lost between a
 * check and a sleep, and no call into Redis is torn in the middle.
 */
#ifndef TICKCAST_CTL_STOP_H
#define TICKCAST_CTL_STOP_H

#include <stdbool.h>
#include <stdint.h>

void stop_on_signals(void); /* from now on; call once, before the first wait */

/* Sleeps until that monotonic time, not at all when it has passed. True as soon as, and ever
 * after, a signal asked to stop; where stop_on_signals was not called that is never. */
bool stop_wait_until(uint64_t mono_ns);

static inline bool stop_is_asked(void)
{
    return stop_wait_until(0);
}

#endif
