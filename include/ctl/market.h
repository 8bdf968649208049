/*
 * market.h - a made-up market: symbols whose prices walk at random on a grid of ticks.
 *
 * Pure: no I/O, no clock, integers only, so that a seed gives the same publications everywhere.
 * Each call makes one publication, a quote or a trade, of one symbol; a few symbols are busy and
 * most are quiet, as in a real market.
 */
#ifndef TICKCAST_CTL_MARKET_H
#define TICKCAST_CTL_MARKET_H

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MARKET_SYMBOLS_MAX 100000

struct market;

struct market_config {
    size_t symbols; /* 1 .. MARKET_SYMBOLS_MAX */
    uint64_t seed;
    const char *quote_namespace; /* borrowed for the market's life */
    const char *trade_namespace; /* likewise */
    unsigned trade_percent;      /* of the publications that are trades, 0 .. 100 */
    bool without_time;           /* leave `ts` out, so that two runs can be compared */
};

struct market *market_new(const struct market_config *config); /* returns owned */
void market_free(struct market *m);

/*
 * Moves one symbol and writes what a publisher would say, replacing what the buffers held:
 *
 *   quote:AAPL  {"symbol","bid","ask","bid_size","ask_size","price","open","high","low","close",
 *                "volume","change","ts"}
 *   trade:AAPL  {"symbol","price","size","side","ts"}
 *
 * Prices are strings with two decimals; `close` is the previous day's, `change` is price - close;
 * `volume` never shrinks and grows faster the further the price moves; `side` is the taker's,
 * `buy` at the ask or `sell` at the bid. `ts` is now_ms.
 */
void market_next(struct market *m, uint64_t now_ms, struct buf *channel, struct buf *payload);

#endif
