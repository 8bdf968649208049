/*
 * bench.c - `tickcastctl bench`: load on a node, and what became of it.
 *
 * A run in order: read the tape if there is one, connect everybody, let the node settle, read its
 * memory, start the publisher, read until all that was published has arrived or nothing more comes,
 * read the node's processor time, report. Each step has a time limit; the program ends by itself.
 *
 *      publisher thread ──PUBLISH──> Redis ──> node ──WebSocket──> main thread (epoll)
 *            ^                                                          │
 *            └───────── how far the slowest client is (an atomic) ──────┘
 */
#include "ctl/bench.h"

#include "base/clock.h"
#include "ctl/bench_run.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CONNECT_LIMIT_NS 60000000000u
#define START_LIMIT_NS   40000000000u /* subscribers in Redis, warm-up */
#define QUIET_NS         5000000000u  /* no byte for so long: what is missing will not come */
#define QUIET_SAMPLE_NS  1000000000u  /* the same where not everybody is looked at: the usual end */
#define QUIET_TAPE_NS    3000000000u  /* the same where a node may hold things back on purpose */
#define DRAIN_LIMIT_NS   30000000000u
#define TURN_MS          5
#define HOLD_TURN_MS     50

static uint64_t seconds_to_ns(double seconds)
{
    return (uint64_t)(seconds * 1e9);
}

static bool connect_all(struct bench *b)
{
    uint64_t start_ns = clock_mono_ns();
    double cpu_s = node_cpu_read_s(&b->options.pids);
    while (b->subscribed + b->closed < b->options.clients) {
        bench_clients_open(b);
        bench_turn(b, TURN_MS);
        if (clock_mono_ns() - start_ns > CONNECT_LIMIT_NS)
            break;
    }
    b->connect_ns = clock_mono_ns() - start_ns;
    b->connect_cpu_s = node_cpu_read_s(&b->options.pids) - cpu_s;
    if (b->subscribed < b->options.clients && b->error[0] == '\0')
        snprintf(b->error, sizeof b->error, "only %u of %lld clients subscribed", b->subscribed,
                 (long long)b->options.clients);
    if (b->options.compress && b->compressed < b->subscribed && b->error[0] == '\0')
        snprintf(b->error, sizeof b->error, "compression was granted to %u of %u clients",
                 b->compressed, b->subscribed);
    return b->error[0] == '\0';
}

static void turn_for(struct bench *b, double seconds)
{
    uint64_t end_ns = clock_mono_ns() + seconds_to_ns(seconds);
    while (clock_mono_ns() < end_ns)
        bench_turn(b, TURN_MS);
}

/* ---- what should have arrived ---------------------------------------------------------------- */

static uint64_t expected_of(const struct bench *b, size_t index)
{
    const struct bench_slot *slots = b->slots + index * b->slot_count;
    uint64_t expected = 0;
    for (uint32_t i = 0; i < b->slot_count; i++) {
        if (slots[i].channel != 0)
            expected += b->publisher.published[slots[i].channel - 1];
    }
    return expected;
}

/* Everybody who reads, or the inspected alone. */
static uint64_t expected_total(const struct bench *b, bool of_inspected)
{
    uint64_t expected = 0;
    for (size_t i = 0; i < (size_t)b->options.clients; i++) {
        if (!b->clients[i].stalled && (!of_inspected || b->clients[i].inspected))
            expected += expected_of(b, i);
    }
    return expected;
}

/* ---- load ----------------------------------------------------------------------------------- */

/* The slowest client's place in the publisher's sequence. Channels take turns, so a client with M
 * of K channels has seen about K/M publications for each that it got. */
static void tell_slowest(struct bench *b)
{
    uint64_t items = bench_slowest(b);
    if (items == UINT64_MAX)
        return;
    uint64_t place = items * (uint64_t)b->options.of / (uint64_t)b->options.channels;
    atomic_store_explicit(&b->shared.slowest, place, memory_order_relaxed);
}

/* Waits for the publisher to be done with Redis and the warm-up. */
static bool await_live(struct bench *b)
{
    uint64_t limit_ns = clock_mono_ns() + START_LIMIT_NS;
    while (!atomic_load(&b->shared.live)) {
        if (atomic_load(&b->shared.finished) || clock_mono_ns() > limit_ns)
            return false;
        bench_turn(b, 1);
        atomic_store_explicit(&b->shared.heard_ns, b->last_ns, memory_order_relaxed);
    }
    return true;
}

static void read_while_published(struct bench *b)
{
    uint64_t limit_ns = clock_mono_ns() + seconds_to_ns(b->options.seconds * 2) + DRAIN_LIMIT_NS;
    while (!atomic_load_explicit(&b->shared.finished, memory_order_relaxed)) {
        bench_turn(b, TURN_MS);
        if (b->options.window > 0)
            tell_slowest(b);
        if (clock_mono_ns() > limit_ns || b->open == 0)
            atomic_store(&b->shared.stop, true);
    }
}

static uint64_t quiet_ns(const struct bench *b)
{
    if (b->tape != NULL)
        return QUIET_TAPE_NS;
    return b->options.compress ? QUIET_SAMPLE_NS : QUIET_NS;
}

static void read_the_rest(struct bench *b)
{
    uint64_t start_ns = clock_mono_ns();
    uint64_t expected = expected_total(b, true);
    for (;;) {
        uint64_t now_ns = clock_mono_ns();
        uint64_t last_ns = b->last_ns > start_ns ? b->last_ns : start_ns;
        bool is_quiet = now_ns > last_ns + quiet_ns(b);
        bool is_sample = b->options.compress || b->tape != NULL;
        bool is_all = b->deliveries >= expected && (!is_sample || is_quiet);
        if (is_all || is_quiet || now_ns - start_ns > DRAIN_LIMIT_NS || b->open == 0)
            return;
        bench_turn(b, 1);
    }
}

/* For all clients what was counted of those that were looked into. */
static uint64_t scaled(const struct bench *b, uint64_t of_inspected, uint64_t expected)
{
    return (uint64_t)((double)of_inspected / (double)expected * (double)b->expected + 0.5);
}

/* With compression only a sample of clients was looked into; the rest got the same. */
static void settle_counts(struct bench *b)
{
    uint64_t expected = expected_total(b, true);
    b->expected = expected_total(b, false);
    uint64_t got = b->deliveries;
    b->lost = expected > got ? expected - got : 0;
    b->estimated = expected != b->expected && expected > 0;
    if (b->estimated) {
        b->deliveries = scaled(b, got, expected);
        b->missed = scaled(b, b->missed, expected);
        b->lost = scaled(b, b->lost, expected);
        b->payload_bytes = scaled(b, b->payload_bytes, expected);
    }
    if (b->tape == NULL)
        b->payload_bytes = b->deliveries * (uint64_t)b->options.size;
}

/* What we and our cores have done; from one call to the next is what is reported. */
static void take_own_usage(struct bench *b)
{
    double cpu_s = (double)clock_read_ns(CLOCK_PROCESS_CPUTIME_ID) / 1e9;
    struct load_usage load = load_usage_read();
    b->own_cpu_s = cpu_s - b->own_cpu_start_s;
    b->load_busy = load_usage_share(&b->load_start, &load);
    b->own_cpu_start_s = cpu_s;
    b->load_start = load;
}

static bool run_load(struct bench *b)
{
    b->counting = true;
    if (!bench_publisher_start(b))
        return false;
    bool is_live = await_live(b);
    take_own_usage(b);
    if (!is_live)
        atomic_store(&b->shared.stop, true);
    b->frames = b->bytes = 0; /* the warm-up's */
    read_while_published(b);
    bench_publisher_join(b);
    if (is_live)
        read_the_rest(b);
    b->cpu_s = node_cpu_read_s(&b->options.pids) - b->publisher.cpu_s;
    take_own_usage(b);
    if (b->last_ns > b->publisher.first_ns)
        b->seconds = (double)(b->last_ns - b->publisher.first_ns) / 1e9;
    settle_counts(b);
    bench_latency_finish(b);
    if (b->publisher.error[0] != '\0')
        snprintf(b->error, sizeof b->error, "publisher: %.140s", b->publisher.error);
    else if (!is_live)
        snprintf(b->error, sizeof b->error, "the publisher was not ready in time");
    return is_live && b->error[0] == '\0';
}

/* Somebody else sends (the bare loop); reading ends when all connections are closed. */
static bool run_reader(struct bench *b)
{
    uint64_t start_ns = clock_mono_ns();
    uint64_t limit_ns = start_ns + seconds_to_ns(b->options.seconds) + DRAIN_LIMIT_NS;
    b->counting = true;
    take_own_usage(b);
    while (b->open > 0 && clock_mono_ns() < limit_ns)
        bench_turn(b, TURN_MS);
    take_own_usage(b);
    bench_latency_finish(b);
    b->closed = 0; /* all were, as they should be */
    b->seconds = (double)(clock_mono_ns() - start_ns) / 1e9;
    b->expected = b->deliveries + b->lost;
    return b->open == 0;
}

/* Everybody stays connected and answers pings until standard input ends; whoever started us looks
 * at the machine meanwhile. */
static void hold(struct bench *b)
{
    printf("ready connected=%u\n", b->open);
    fflush(stdout);
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    char ignored[256];
    while (poll(&input, 1, 0) == 0 || read(STDIN_FILENO, ignored, sizeof ignored) > 0)
        bench_turn(b, HOLD_TURN_MS);
}

static bool run(struct bench *b)
{
    const struct bench_options *o = &b->options;
    if (o->tape != NULL && !bench_tape_load(b))
        return false;
    if (!bench_clients_init(b))
        return false;
    b->before = node_usage_read(&o->pids);
    if (!connect_all(b))
        return false;
    if (!o->publish && o->mode == BENCH_LOAD)
        return run_reader(b);
    turn_for(b, o->settle_s);
    b->idle = node_usage_read(&o->pids);
    if (o->hold)
        hold(b);
    bool is_done = o->mode != BENCH_LOAD || run_load(b);
    b->end = node_usage_read(&o->pids);
    return is_done;
}

int ctl_bench(int argc, char **argv)
{
    static struct bench bench; /* the histogram is too large for a stack */
    struct bench *b = &bench;
    *b = (struct bench){0};
    int status = bench_options_parse(argc, argv, &b->options);
    if (status != CTL_CONTINUE)
        return status;
    bool is_done = run(b);
    if (is_done)
        bench_report(b);
    else
        ctl_fail("bench: %s", b->error[0] != '\0' ? b->error : "it did not finish in time");
    bool is_whole = b->lost == 0 && b->out_of_order == 0 && b->closed == 0;
    bench_clients_fini(b);
    bench_tape_free(b->tape);
    free(b->publisher.published);
    return is_done && is_whole ? CTL_OK : CTL_FAILED;
}
