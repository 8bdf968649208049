/*
 * sim.c - `tickcastctl sim`: publishes a made-up market at a steady rate.
 *
 * Publication n is due at start + n / rate, an absolute time, so that lateness never adds up.
 * What is due leaves in one pipeline; above 1000 per second it leaves in groups, once a
 * millisecond. When Redis goes away the market stands still and a new schedule begins when it is
 * back: a burst of everything that was missed would be of no use to anybody.
 */
#include "base/clock.h"
#include "ctl/commands.h"
#include "ctl/market.h"
#include "ctl/options.h"
#include "ctl/stop.h"
#include "ctl/target.h"
#include "protocol/channel.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#define GROUP_MAX       512        /* publications in one pipeline: some 150 KB */
#define GROUP_NS        1000000u   /* groups leave at most this often */
#define REDIAL_NS       250000000u /* between attempts to reach Redis again */
#define REDIAL_LIMIT_MS 1000       /* for one attempt */
#define SYMBOLS_DEFAULT 200
#define RATE_DEFAULT    200
#define RATE_MAX        10000000
#define TRADES_DEFAULT  25 /* per cent */
#define NS_PER_S        1000000000.0

struct sim {
    struct ctl_target target;
    int64_t symbols;
    int64_t seed;
    int64_t count; /* 0: for ever */
    int64_t trades;
    double rate; /* 0: as fast as Redis takes them */
    bool without_time;
    const char *quote_namespace;
    const char *trade_namespace;

    struct redis_url url;
    struct redis_client *redis;
    struct market *market;
    struct buf channel, payload, full;
    struct redis_pipeline_result result;
    uint64_t made;          /* publications generated so far */
    uint64_t lost;          /* in a pipeline when Redis went away */
    uint64_t schedule_ns;   /* when the schedule began */
    uint64_t schedule_made; /* what had been made by then */
};

static uint64_t due_ns(const struct sim *sim, uint64_t number)
{
    if (sim->rate <= 0)
        return 0;
    double after = (double)(number - sim->schedule_made) * NS_PER_S / sim->rate;
    return sim->schedule_ns + (uint64_t)after;
}

static void restart_schedule(struct sim *sim)
{
    sim->schedule_ns = clock_mono_ns();
    sim->schedule_made = sim->made;
}

static bool is_finished(const struct sim *sim)
{
    return sim->count != 0 && sim->made >= (uint64_t)sim->count;
}

static void queue_due(struct sim *sim)
{
    uint64_t now = clock_mono_ns();
    uint64_t now_ms = clock_unix_ms();
    for (int n = 0; n < GROUP_MAX && !is_finished(sim) && due_ns(sim, sim->made) <= now; n++) {
        market_next(sim->market, now_ms, &sim->channel, &sim->payload);
        redis_client_queue_publish(
            sim->redis, ctl_target_name(&sim->target, buf_slice(&sim->channel), &sim->full),
            buf_slice(&sim->payload));
        sim->made++;
    }
}

/* Tries until Redis is back or a signal asks to stop. */
static void redial(struct sim *sim)
{
    ctl_say("sim: redis lost: %s; trying again", redis_client_error(sim->redis));
    sim->lost += redis_client_queued(sim->redis);
    redis_client_free(sim->redis);
    sim->redis = NULL;
    while (sim->redis == NULL && !stop_wait_until(clock_mono_ns() + REDIAL_NS)) {
        struct buf error = {0};
        sim->redis = redis_client_connect(&sim->url, REDIAL_LIMIT_MS, &error);
        buf_fini(&error);
    }
    if (sim->redis != NULL)
        ctl_say("sim: redis is back");
    restart_schedule(sim);
}

static void flush(struct sim *sim)
{
    uint64_t refused = sim->result.refused;
    if (!redis_client_flush(sim->redis, &sim->result))
        redial(sim);
    else if (refused == 0 && sim->result.refused != 0)
        ctl_say("sim: redis refuses: %s", redis_client_error(sim->redis));
}

static void run_market(struct sim *sim)
{
    uint64_t group_ns = 0;
    restart_schedule(sim);
    while (!is_finished(sim)) {
        uint64_t due = due_ns(sim, sim->made);
        if (stop_wait_until(due > group_ns ? due : group_ns))
            break;
        group_ns = sim->rate > 0 ? clock_mono_ns() + GROUP_NS : 0;
        queue_due(sim);
        flush(sim);
    }
}

static int report(const struct sim *sim, double seconds)
{
    uint64_t published = sim->result.answered;
    ctl_say("sim: published=%" PRIu64 " refused=%" PRIu64 " lost=%" PRIu64 " receivers=%" PRIu64
            " seconds=%.3f rate=%.1f",
            published, sim->result.refused, sim->lost, sim->result.receivers, seconds,
            seconds > 0 ? (double)published / seconds : 0.0);
    return published == 0 && sim->made != 0 ? CTL_FAILED : CTL_OK;
}

/* Would the longest channel of this namespace be legal? */
static int check_namespace(const char *option, const char *name)
{
    char channel[2 * CHANNEL_BYTES_MAX];
    snprintf(channel, sizeof channel, "%s:SIM%d", name, MARKET_SYMBOLS_MAX);
    if (strchr(name, ':') == NULL && channel_is_valid(slice_str(channel)))
        return CTL_CONTINUE;
    return ctl_misuse("sim: %s: '%s' cannot be a namespace", option, name);
}

static int run(struct sim *sim)
{
    int status = check_namespace("--namespace", sim->quote_namespace);
    if (status == CTL_CONTINUE)
        status = check_namespace("--trade-namespace", sim->trade_namespace);
    if (status == CTL_CONTINUE)
        status = ctl_target_check(&sim->target, &sim->url);
    if (status == CTL_CONTINUE)
        status = ctl_target_connect(&sim->target, &sim->redis);
    if (status != CTL_CONTINUE)
        return status;
    sim->market = market_new(&(struct market_config){
        .symbols = (size_t)sim->symbols,
        .seed = (uint64_t)sim->seed,
        .quote_namespace = sim->quote_namespace,
        .trade_namespace = sim->trade_namespace,
        .trade_percent = (unsigned)sim->trades,
        .without_time = sim->without_time,
    });
    stop_on_signals();
    uint64_t started = clock_mono_ns();
    run_market(sim);
    return report(sim, (double)(clock_mono_ns() - started) / NS_PER_S);
}

static void release(struct sim *sim)
{
    redis_client_free(sim->redis);
    market_free(sim->market);
    buf_fini(&sim->channel);
    buf_fini(&sim->payload);
    buf_fini(&sim->full);
}

int ctl_sim(int argc, char **argv)
{
    struct sim sim = {.target = CTL_TARGET_DEFAULT,
                      .symbols = SYMBOLS_DEFAULT,
                      .seed = 1,
                      .trades = TRADES_DEFAULT,
                      .rate = RATE_DEFAULT,
                      .quote_namespace = "quote",
                      .trade_namespace = "trade"};
    const struct ctl_option options[] = {
        {"--symbols", CTL_INT, &sim.symbols, "N", "symbols in the market (default 200)", 1,
         MARKET_SYMBOLS_MAX},
        {"--rate", CTL_REAL, &sim.rate, "R",
         "publications per second over all (default 200); 0: as fast as possible", 0, RATE_MAX},
        {"--seed", CTL_INT, &sim.seed, "S", "same seed, same payloads (default 1)", 0, INT64_MAX},
        {"--count", CTL_INT, &sim.count, "N", "stop after N publications (default 0: never)", 0,
         INT64_MAX},
        {"--trades", CTL_INT, &sim.trades, "PERCENT", "share of trades (default 25)", 0, 100},
        {"--namespace", CTL_TEXT, &sim.quote_namespace, "NAME", "of quotes (default quote)", 0, 0},
        {"--trade-namespace", CTL_TEXT, &sim.trade_namespace, "NAME", "of trades (default trade)",
         0, 0},
        {"--no-ts", CTL_FLAG, &sim.without_time, NULL, "leave ts out of the payloads", 0, 0},
        CTL_TARGET_ROWS(&sim.target),
        {0},
    };
    const struct ctl_usage usage = {
        "", "Publishes quotes and trades of a random-walk market until SIGINT or SIGTERM.", options,
        0, 0};
    struct ctl_operands operands;
    int status = ctl_parse(&usage, argc, argv, &operands);
    if (status == CTL_CONTINUE)
        status = run(&sim);
    release(&sim);
    return status;
}
