/*
 * rate_limit.h - token bucket: so many per second, with a burst of one second's worth.
 */
#ifndef TICKCAST_PROTOCOL_RATE_LIMIT_H
#define TICKCAST_PROTOCOL_RATE_LIMIT_H

#include <stdbool.h>
#include <stdint.h>

struct rate_limit {
    uint32_t tokens_milli; /* thousandths of a token left */
    uint32_t last_ms;      /* low 32 bits of the monotonic clock at the last refill */
};

void rate_limit_init(struct rate_limit *r, uint32_t per_second, uint64_t now_ms);

/* Takes one token; false when there is none. per_second 0 means unlimited. */
bool rate_limit_try_take(struct rate_limit *r, uint32_t per_second, uint64_t now_ms);

#endif
