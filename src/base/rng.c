/*
 * rng.c - SplitMix64.
 */
#include "base/rng.h"

#include "base/clock.h"

#include <sys/random.h>

void rng_init_seed(struct rng *r, uint64_t seed)
{
    r->state = seed;
}

void rng_init_random(struct rng *r)
{
    /* Early in boot the kernel may have none to give; the clock will do for jitter and ids. */
    if (getrandom(&r->state, sizeof r->state, GRND_NONBLOCK) != (ssize_t)sizeof r->state)
        r->state = clock_mono_ns() ^ clock_unix_ms() << 20;
}

uint64_t rng_next(struct rng *r)
{
    uint64_t z = r->state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint64_t rng_below(struct rng *r, uint64_t limit)
{
    /* The bias of the plain remainder is below limit / 2^64: nothing that jitter could notice. */
    return rng_next(r) % limit;
}

double rng_unit(struct rng *r)
{
    return (double)(rng_next(r) >> 11) * 0x1.0p-53;
}

bool rng_fill_secret(void *out, size_t bytes)
{
    return getrandom(out, bytes, GRND_NONBLOCK) == (ssize_t)bytes;
}
