/*
 * rng.h - random numbers that need not be secret: jitter, ids, simulated prices.
 *
 * SplitMix64 (Steele, Lea, Flood 2014): tiny state, repeatable from a seed. One owner each.
 */
#ifndef TICKCAST_BASE_RNG_H
#define TICKCAST_BASE_RNG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rng {
    uint64_t state;
};

void rng_init_random(struct rng *r); /* from the kernel (getrandom) */
void rng_init_seed(struct rng *r, uint64_t seed);
uint64_t rng_next(struct rng *r);
uint64_t rng_below(struct rng *r, uint64_t limit); /* 0 .. limit-1; limit > 0 */
double rng_unit(struct rng *r);                    /* [0, 1) */

/* Bytes that nobody can guess, straight from the kernel. False: early in boot it has none to give. */
bool rng_fill_secret(void *out, size_t bytes); /* at most 256 */

#endif
