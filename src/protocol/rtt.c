/*
 * rtt.c - the smoothing, in whole units.
 *
 * Both figures stay between 1 and UINT16_MAX once they are known, because 0 says that they are not;
 * a round trip below half a unit is therefore told as one unit. Rounding makes a figure stop within
 * half a millisecond of where it is going.
 */
#include "protocol/rtt.h"

#include <stdlib.h>

#define SMOOTHED_SHARE  8 /* RFC 6298's alpha is 1/8 */
#define DEVIATION_SHARE 4 /* and its beta 1/4 */

static int32_t to_units(uint64_t us)
{
    if (us >= RTT_MAX_US)
        return UINT16_MAX;
    int32_t units = (int32_t)((us + RTT_UNIT_US / 2) / RTT_UNIT_US);
    return units > 0 ? units : 1;
}

/* One n-th of the way from one figure to another, rounded. */
static uint16_t step(int32_t from, int32_t to, int32_t n)
{
    int32_t way = to - from;
    int32_t half = way < 0 ? -n / 2 : n / 2;
    return (uint16_t)(from + (way + half) / n);
}

void rtt_add(struct rtt *r, uint64_t sample_us)
{
    int32_t sample = to_units(sample_us);
    if (r->smoothed == 0) {
        r->smoothed = (uint16_t)sample;
        return;
    }
    int32_t off = abs(sample - r->smoothed);
    off = off > 0 ? off : 1;
    r->deviation = r->deviation == 0 ? (uint16_t)off : step(r->deviation, off, DEVIATION_SHARE);
    r->smoothed = step(r->smoothed, sample, SMOOTHED_SHARE);
}
