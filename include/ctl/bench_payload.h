/*
 * bench_payload.h - the payload that the benchmark publishes, and how to read it back cheaply.
 *
 *   {"n":"000000000815","c":"000042","t":"0000001234567890123","q":"...filler..."}
 *
 * n numbers the publications of one channel from 1 (0: warm-up, not counted), c is the channel's
 * index and t the monotonic clock in ns at publishing. Every field has a fixed width and place, so
 * that every payload has the same length and a reader needs no parser. The filler is a quote's
 * fields with changing digits, so that compression has something true to work on.
 */
#ifndef TICKCAST_CTL_BENCH_PAYLOAD_H
#define TICKCAST_CTL_BENCH_PAYLOAD_H

#include "base/rng.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define PAYLOAD_MARK       "{\"n\":\"" /* where a payload starts inside a push */
#define PAYLOAD_MARK_BYTES 6
#define PAYLOAD_NUMBER_AT  6
#define PAYLOAD_CHANNEL_AT 25
#define PAYLOAD_TIME_AT    38
#define PAYLOAD_FILLER_AT  64
#define PAYLOAD_MIN_BYTES  66
#define PAYLOAD_MAX_BYTES  (1 << 20) /* the node's own default bound on a publication */
#define PAYLOAD_CHANNELS   1000000   /* what six digits can name */

#define PAYLOAD_NUMBER_DIGITS  12
#define PAYLOAD_CHANNEL_DIGITS 6
#define PAYLOAD_TIME_DIGITS    19

static inline void payload_put_digits(char *at, unsigned digits, uint64_t value)
{
    while (digits-- > 0) {
        at[digits] = (char)('0' + value % 10);
        value /= 10;
    }
}

/* Eight digits at once: neighbours are joined to pairs, pairs to fours, fours to the number. */
static inline uint64_t payload_get_8_digits(const char *at)
{
    uint64_t v;
    memcpy(&v, at, sizeof v);
    v = (v & 0x0f0f0f0f0f0f0f0fu) * 2561 >> 8;
    v = (v & 0x00ff00ff00ff00ffu) * 6553601 >> 16;
    return (v & 0x0000ffff0000ffffu) * 42949672960001u >> 32;
}

static inline uint64_t payload_get_digits(const char *at, unsigned digits)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < digits; i++)
        value = value * 10 + (uint64_t)(at[i] - '0');
    return value;
}

static inline uint64_t payload_number(const char *payload)
{
    const char *at = payload + PAYLOAD_NUMBER_AT;
    return payload_get_digits(at, 4) * 100000000u + payload_get_8_digits(at + 4);
}

static inline uint32_t payload_channel(const char *payload)
{
    return (uint32_t)payload_get_digits(payload + PAYLOAD_CHANNEL_AT, PAYLOAD_CHANNEL_DIGITS);
}

static inline uint64_t payload_time_ns(const char *payload)
{
    const char *at = payload + PAYLOAD_TIME_AT;
    return payload_get_digits(at, 3) * 10000000000000000u +
           payload_get_8_digits(at + 3) * 100000000u + payload_get_8_digits(at + 11);
}

static inline void payload_stamp(char *payload, uint64_t number, uint32_t channel, uint64_t now_ns)
{
    payload_put_digits(payload + PAYLOAD_NUMBER_AT, PAYLOAD_NUMBER_DIGITS, number);
    payload_put_digits(payload + PAYLOAD_CHANNEL_AT, PAYLOAD_CHANNEL_DIGITS, channel);
    payload_put_digits(payload + PAYLOAD_TIME_AT, PAYLOAD_TIME_DIGITS, now_ns);
}

/* Writes a whole payload of exactly size bytes (PAYLOAD_MIN_BYTES or more), all numbers zero. */
static inline void payload_init(char *payload, size_t size, struct rng *random)
{
    static const char head[] = "{\"n\":\"000000000000\",\"c\":\"000000\","
                               "\"t\":\"0000000000000000000\",\"q\":\"";
    memcpy(payload, head, PAYLOAD_FILLER_AT);
    size_t at = PAYLOAD_FILLER_AT;
    while (at < size - 2) {
        char quote[128];
        int len =
            snprintf(quote, sizeof quote,
                     "bid=%u.%02u bidsize=%u00 ask=%u.%02u asksize=%u00 last=%u.%02u "
                     "volume=%u venue=%c; ",
                     (unsigned)rng_below(random, 300) + 50, (unsigned)rng_below(random, 100),
                     (unsigned)rng_below(random, 90) + 1, (unsigned)rng_below(random, 300) + 50,
                     (unsigned)rng_below(random, 100), (unsigned)rng_below(random, 90) + 1,
                     (unsigned)rng_below(random, 300) + 50, (unsigned)rng_below(random, 100),
                     (unsigned)rng_below(random, 100000000), (char)('A' + rng_below(random, 26)));
        size_t room = size - 2 - at;
        size_t take = (size_t)len < room ? (size_t)len : room;
        memcpy(payload + at, quote, take);
        at += take;
    }
    memcpy(payload + size - 2, "\"}", 2);
}

#endif
