/*
 * clock.h - the two clocks.
 *
 * Monotonic time measures and schedules; Unix time is what clients and logs are shown.
 */
#ifndef TICKCAST_BASE_CLOCK_H
#define TICKCAST_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t clock_read_ns(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static inline uint64_t clock_mono_ns(void)
{
    return clock_read_ns(CLOCK_MONOTONIC);
}

static inline uint64_t clock_mono_ms(void)
{
    return clock_mono_ns() / 1000000u;
}

static inline uint64_t clock_unix_ms(void)
{
    return clock_read_ns(CLOCK_REALTIME) / 1000000u;
}

#endif
