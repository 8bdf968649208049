/*
 * rtt.h - a connection's round trip time and its deviation, smoothed as RFC 6298 (2) says.
 *
 *      deviation += (|sample - smoothed| - deviation) / 4
 *      smoothed  += (sample - smoothed) / 8
 *
 * Two differences. The RFC begins with half of the first sample as deviation, which is a cautious
 * guess for a timer and not a measurement: here there is none until the second sample, whose
 * distance from the first it is. And the figures are kept in four bytes, in units of 125 us, so
 * that an idle connection pays next to nothing: they end at 8.19 s, and whatever took longer counts
 * as that.
 *
 * No thread of its own, no clock: samples are given. A zeroed struct has measured nothing.
 */
#ifndef TICKCAST_PROTOCOL_RTT_H
#define TICKCAST_PROTOCOL_RTT_H

#include <stdbool.h>
#include <stdint.h>

#define RTT_UNIT_US 125
#define RTT_MAX_US  (UINT16_MAX * RTT_UNIT_US) /* 8,191,875 */

struct rtt {
    uint16_t smoothed;  /* in units; 0: nothing was measured */
    uint16_t deviation; /* in units; 0: not yet known, it takes two measurements */
};

void rtt_add(struct rtt *r, uint64_t sample_us);

static inline bool rtt_is_known(const struct rtt *r)
{
    return r->smoothed != 0;
}

static inline bool rtt_has_deviation(const struct rtt *r)
{
    return r->deviation != 0;
}

static inline uint32_t rtt_us(const struct rtt *r)
{
    return (uint32_t)r->smoothed * RTT_UNIT_US;
}

static inline uint32_t rtt_deviation_us(const struct rtt *r)
{
    return (uint32_t)r->deviation * RTT_UNIT_US;
}

#endif
