/*
 * market.c - the random walk.
 *
 * A price is a whole number of ticks of 0.01. One step of a symbol is the sum of three uniform
 * moves, wide in proportion to the price, so that returns look alike at 10 and at 500 and large
 * moves are rare. Nothing here is floating point: rounding would differ between compilers, and a
 * seed would no longer name one sequence.
 */
#include "ctl/market.h"

#include "base/mem.h"
#include "base/rng.h"

#include <stdio.h>
#include <stdlib.h>

#define PRICE_MIN  100      /* ticks; 1.00: below it a tick would be a large move */
#define PRICE_MAX  10000000 /* ticks; 100000.00 */
#define WIDTH_PART 4000     /* a uniform move reaches 1/4000 of the price */
#define MOVES      3        /* uniform moves in a step */
#define SPREAD_MAX 4        /* ticks between bid and ask */
#define LOTS_MAX   50       /* round lots shown at the bid or the ask */
#define ROUND_LOT  100      /* shares */

static const char *const tickers[] = {
    "AAPL", "MSFT", "NVDA", "AMZN", "GOOGL", "META", "TSLA", "BRK.B", "AVGO",  "JPM",
    "LLY",  "V",    "XOM",  "UNH",  "MA",    "COST", "JNJ",  "PG",    "HD",    "ABBV",
    "WMT",  "NFLX", "BAC",  "KO",   "CRM",   "ORCL", "CVX",  "MRK",   "AMD",   "PEP",
    "CSCO", "LIN",  "TMO",  "ACN",  "MCD",   "WFC",  "ABT",  "PM",    "IBM",   "GE",
    "TXN",  "QCOM", "NOW",  "CAT",  "DIS",   "INTU", "ISRG", "VZ",    "AMGN",  "GS",
    "NEE",  "RTX",  "SPGI", "PFE",  "UBER",  "DHR",  "LOW",  "T",     "CMCSA", "AXP",
    "HON",  "UNP",  "AMAT", "BKNG", "BLK",   "PGR",  "COP",  "SYK",   "ETN",   "MS",
    "BSX",  "TJX",  "LMT",  "VRTX", "C",     "ELV",  "ADP",  "PLD",   "MDT",   "SBUX",
    "CB",   "MMC",  "ADI",  "REGN", "MU",    "BMY",  "DE",   "GILD",  "PANW",  "AMT",
    "LRCX", "SO",   "INTC", "NKE",  "CI",    "UPS",  "DUK",  "MO",    "SHW",   "ZTS",
};

#define TICKER_COUNT (sizeof tickers / sizeof tickers[0])

struct symbol {
    char name[24];
    int64_t mid; /* this and all prices: ticks */
    int64_t bid;
    int64_t ask;
    int64_t last;
    int64_t open;
    int64_t high;
    int64_t low;
    int64_t close;   /* of the previous day */
    uint64_t volume; /* shares of the day */
    uint64_t traded; /* shares of the last step */
    uint64_t lot;    /* shares per tick of movement: how liquid it is */
    bool is_buy;     /* who took, in the last step */
};

struct market {
    struct market_config config;
    struct rng rng;
    struct symbol symbols[];
};

/* A price that walks out of the range is sent back by as much as it was over. */
static int64_t reflect(int64_t price)
{
    if (price < PRICE_MIN)
        return 2 * PRICE_MIN - price;
    if (price > PRICE_MAX)
        return 2 * PRICE_MAX - price;
    return price;
}

static void step(struct rng *rng, struct symbol *s)
{
    int64_t width = s->mid / WIDTH_PART + 1;
    int64_t move = 0;
    for (int i = 0; i < MOVES; i++)
        move += (int64_t)rng_below(rng, (uint64_t)(2 * width + 1)) - width;
    int64_t spread = 1 + (int64_t)rng_below(rng, SPREAD_MAX);
    s->mid = reflect(s->mid + move);
    s->bid = s->mid - spread / 2;
    s->ask = s->bid + spread;
    s->is_buy = rng_below(rng, 2) == 0;
    s->last = s->is_buy ? s->ask : s->bid;
    s->high = s->last > s->high ? s->last : s->high;
    s->low = s->last < s->low ? s->last : s->low;
    s->traded = s->lot * (uint64_t)llabs(move) + 1 + rng_below(rng, s->lot);
    s->volume += s->traded;
}

static void open_symbol(struct rng *rng, struct symbol *s, size_t index)
{
    if (index < TICKER_COUNT)
        snprintf(s->name, sizeof s->name, "%s", tickers[index]);
    else
        snprintf(s->name, sizeof s->name, "SIM%03zu", index + 1);
    s->close = 1000 + (int64_t)rng_below(rng, 50000); /* 10.00 .. 509.99 */
    s->mid = s->close + (int64_t)rng_below(rng, (uint64_t)(s->close / 50)) - s->close / 100;
    s->lot = 10 + rng_below(rng, 200);
    s->open = s->high = s->low = s->last = s->mid;
}

struct market *market_new(const struct market_config *config)
{
    struct market *m = mem_zalloc(sizeof *m + config->symbols * sizeof m->symbols[0]);
    m->config = *config;
    rng_init_seed(&m->rng, config->seed);
    for (size_t i = 0; i < config->symbols; i++)
        open_symbol(&m->rng, &m->symbols[i], i);
    return m;
}

void market_free(struct market *m)
{
    free(m);
}

/* Half of the time anyone, half of the time the smaller of two draws: the first symbols are the
 * busy ones, and the last still have their turn. */
static struct symbol *pick(struct market *m)
{
    uint64_t a = rng_below(&m->rng, m->config.symbols);
    uint64_t b = rng_below(&m->rng, 2 * m->config.symbols);
    return &m->symbols[a < b ? a : b];
}

static void append_price(struct buf *out, const char *key, int64_t ticks)
{
    uint64_t size = (uint64_t)llabs(ticks);
    buf_append_str(out, key);
    buf_append_str(out, ticks < 0 ? "\"-" : "\"");
    buf_append_u64(out, size / 100);
    const char cents[] = {'.', (char)('0' + size / 10 % 10), (char)('0' + size % 10), '"'};
    buf_append(out, cents, sizeof cents);
}

static void append_count(struct buf *out, const char *key, uint64_t count)
{
    buf_append_str(out, key);
    buf_append_u64(out, count);
}

static uint64_t shown_size(struct rng *rng)
{
    return ROUND_LOT * (1 + rng_below(rng, LOTS_MAX));
}

static void write_quote(struct market *m, const struct symbol *s, struct buf *out)
{
    append_price(out, ",\"bid\":", s->bid);
    append_price(out, ",\"ask\":", s->ask);
    append_count(out, ",\"bid_size\":", shown_size(&m->rng));
    append_count(out, ",\"ask_size\":", shown_size(&m->rng));
    append_price(out, ",\"price\":", s->last);
    append_price(out, ",\"open\":", s->open);
    append_price(out, ",\"high\":", s->high);
    append_price(out, ",\"low\":", s->low);
    append_price(out, ",\"close\":", s->close);
    append_count(out, ",\"volume\":", s->volume);
    append_price(out, ",\"change\":", s->last - s->close);
}

static void write_trade(const struct symbol *s, struct buf *out)
{
    append_price(out, ",\"price\":", s->last);
    append_count(out, ",\"size\":", s->traded);
    buf_append_str(out, s->is_buy ? ",\"side\":\"buy\"" : ",\"side\":\"sell\"");
}

void market_next(struct market *m, uint64_t now_ms, struct buf *channel, struct buf *payload)
{
    struct symbol *s = pick(m);
    bool is_trade = rng_below(&m->rng, 100) < m->config.trade_percent;
    step(&m->rng, s);

    buf_clear(channel);
    buf_append_str(channel, is_trade ? m->config.trade_namespace : m->config.quote_namespace);
    buf_append_str(channel, ":");
    buf_append_str(channel, s->name);

    buf_clear(payload);
    buf_append_str(payload, "{\"symbol\":\"");
    buf_append_str(payload, s->name);
    buf_append_str(payload, "\"");
    if (is_trade)
        write_trade(s, payload);
    else
        write_quote(m, s, payload);
    if (!m->config.without_time)
        append_count(payload, ",\"ts\":", now_ms);
    buf_append_str(payload, "}");
}
