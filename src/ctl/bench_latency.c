/*
 * bench_latency.c - how long deliveries took, and how evenly.
 *
 * Of each timed publication three things are kept: every delivery's latency, for the histogram; what
 * each client had to wait on average, for the spread between clients; and when the first and the
 * last client had it. Publications that are under way are in a ring by their place in the
 * publisher's sequence; one that is so many behind that its entry is needed has long arrived.
 *
 * Only what the main thread reads comes here; with compression that is a sample of the clients.
 */
#include "base/mem.h"
#include "ctl/bench_run.h"

#include <stdlib.h>

#define RING 65536u /* publications, a power of two */

/* ---- histogram ----------------------------------------------------------------------------- */

/* 64 buckets for each power of two from 64 ns up; below, one for each nanosecond. */
static unsigned bucket_of(uint64_t ns)
{
    if (ns < 64)
        return (unsigned)ns;
    unsigned octave = 63u - (unsigned)__builtin_clzll(ns);
    return (octave - 5) * 64 + (unsigned)(ns >> (octave - 6) & 63);
}

static uint64_t bucket_top_ns(unsigned bucket)
{
    if (bucket < 64)
        return bucket;
    unsigned octave = bucket / 64 + 5;
    return ((uint64_t)(bucket % 64 + 64 + 1) << (octave - 6)) - 1;
}

static void histogram_add(struct histogram *h, uint64_t ns)
{
    h->counts[bucket_of(ns)]++;
    h->total++;
    if (ns > h->max_ns)
        h->max_ns = ns;
}

uint64_t histogram_quantile_ns(const struct histogram *h, double q)
{
    uint64_t wanted = (uint64_t)(q * (double)h->total);
    uint64_t seen = 0;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += h->counts[i];
        if (seen > wanted)
            return bucket_top_ns(i) < h->max_ns ? bucket_top_ns(i) : h->max_ns;
    }
    return h->max_ns;
}

/* ---- deliveries ---------------------------------------------------------------------------- */

/* One publication on its way to its clients. */
struct bench_spread {
    uint64_t place; /* + 1; 0: nothing here */
    uint64_t sent_ns, first_ns, last_ns;
    uint32_t clients;
};

/* What one client waited for, all in all. */
struct bench_wait {
    uint64_t ns;
    uint64_t count;
};

void bench_latency_init(struct bench *b)
{
    b->spreads = mem_zalloc(RING * sizeof *b->spreads);
    b->waits = mem_zalloc((size_t)b->options.clients * sizeof *b->waits);
}

void bench_latency_fini(struct bench *b)
{
    free(b->spreads);
    free(b->waits);
}

/* All have it who will. One that a single client follows has no spread. */
static void finish(struct bench *b, struct bench_spread *s)
{
    if (s->place == 0)
        return;
    histogram_add(&b->last_client, s->last_ns - s->sent_ns);
    if (s->clients > 1)
        histogram_add(&b->pass, s->last_ns - s->first_ns);
    s->place = 0;
}

void bench_latency_add(struct bench *b, size_t index, uint64_t place, uint64_t sent_ns)
{
    uint64_t now_ns = b->read_ns > sent_ns ? b->read_ns : sent_ns;
    uint64_t ns = now_ns - sent_ns;
    histogram_add(&b->latency, ns);
    if (ns > (uint64_t)b->options.late_ms * 1000000u)
        b->late++;
    b->waits[index].ns += ns;
    b->waits[index].count++;
    struct bench_spread *s = &b->spreads[place % RING];
    if (s->place != place + 1) {
        finish(b, s);
        *s = (struct bench_spread){.place = place + 1, .sent_ns = sent_ns, .first_ns = now_ns};
    }
    s->last_ns = now_ns;
    s->clients++;
}

void bench_latency_finish(struct bench *b)
{
    for (size_t i = 0; i < RING; i++)
        finish(b, &b->spreads[i]);
    for (size_t i = 0; i < (size_t)b->options.clients; i++) {
        if (b->waits[i].count > 0)
            histogram_add(&b->client_mean, b->waits[i].ns / b->waits[i].count);
    }
}
