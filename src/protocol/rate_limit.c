/*
 * rate_limit.c - token bucket in eight bytes.
 *
 * So many tokens a second are as many thousandths a millisecond, so the refill is exact without
 * fractions. The 32 bits of time wrap after 49 days; a client that was silent for just that long
 * finds its bucket as it left it, which costs it a second.
 */
#include "protocol/rate_limit.h"

#define TOKEN_MILLI 1000u

/* One second's worth, in thousandths. */
static uint32_t burst_milli(uint32_t per_second)
{
    uint64_t burst = (uint64_t)per_second * TOKEN_MILLI;
    return burst < UINT32_MAX ? (uint32_t)burst : UINT32_MAX;
}

void rate_limit_init(struct rate_limit *r, uint32_t per_second, uint64_t now_ms)
{
    r->tokens_milli = burst_milli(per_second);
    r->last_ms = (uint32_t)now_ms;
}

bool rate_limit_try_take(struct rate_limit *r, uint32_t per_second, uint64_t now_ms)
{
    if (per_second == 0)
        return true;
    uint32_t elapsed_ms = (uint32_t)now_ms - r->last_ms;
    uint64_t tokens = r->tokens_milli + (uint64_t)elapsed_ms * per_second;
    uint32_t burst = burst_milli(per_second);
    r->tokens_milli = tokens < burst ? (uint32_t)tokens : burst;
    r->last_ms = (uint32_t)now_ms;
    if (r->tokens_milli < TOKEN_MILLI)
        return false;
    r->tokens_milli -= TOKEN_MILLI;
    return true;
}
