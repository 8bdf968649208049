/*
 * test_sim.c - the made-up market: repeatable, well-formed, and with volume that follows movement.
 */
#include "base/buf.h"
#include "ctl/market.h"
#include "protocol/channel.h"
#include "protocol/json_text.h"
#include "unit.h"

#include <cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct market *make(size_t symbols, uint64_t seed, unsigned trade_percent, bool without_time)
{
    return market_new(&(struct market_config){.symbols = symbols,
                                              .seed = seed,
                                              .quote_namespace = "quote",
                                              .trade_namespace = "trade",
                                              .trade_percent = trade_percent,
                                              .without_time = without_time});
}

/* What a market says in a while, one publication a line. */
static struct buf record(uint64_t seed, uint64_t now_ms, bool without_time)
{
    struct market *m = make(150, seed, 25, without_time);
    struct buf channel = {0}, payload = {0}, all = {0};
    for (int i = 0; i < 2000; i++) {
        market_next(m, now_ms + (uint64_t)i, &channel, &payload);
        buf_append(&all, channel.data, channel.len);
        buf_append_str(&all, " ");
        buf_append(&all, payload.data, payload.len);
        buf_append_str(&all, "\n");
    }
    market_free(m);
    buf_fini(&channel);
    buf_fini(&payload);
    return all;
}

static void test_a_seed_names_one_sequence(void)
{
    struct buf a = record(7, 1, true), b = record(7, 999, true), c = record(8, 1, true);
    struct buf d = record(7, 1, false), e = record(7, 999, false);
    CU_ASSERT(slice_equal(buf_slice(&a), buf_slice(&b)));
    CU_ASSERT(!slice_equal(buf_slice(&a), buf_slice(&c)));
    CU_ASSERT(!slice_equal(buf_slice(&d), buf_slice(&e)));
    CU_ASSERT(memmem(a.data, a.len, "\"ts\":", 5) == NULL);
    CU_ASSERT(memmem(d.data, d.len, "\"ts\":2}", 7) != NULL);
    struct buf *all[] = {&a, &b, &c, &d, &e};
    for (size_t i = 0; i < 5; i++)
        buf_fini(all[i]);
}

static double number(const cJSON *tree, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(tree, key);
    CU_ASSERT_FATAL(item != NULL);
    return cJSON_IsString(item) ? strtod(item->valuestring, NULL) : item->valuedouble;
}

/* A price is a string of digits with exactly two behind the point. */
static void assert_price(const cJSON *tree, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(tree, key);
    CU_ASSERT_FATAL(cJSON_IsString(item));
    const char *digits = item->valuestring + (item->valuestring[0] == '-');
    size_t whole = strspn(digits, "0123456789");
    CU_ASSERT(whole > 0 && digits[whole] == '.');
    CU_ASSERT(strspn(digits + whole + 1, "0123456789") == 2 && digits[whole + 3] == '\0');
}

static void assert_quote(const cJSON *tree)
{
    static const char *const prices[] = {"bid",  "ask", "price", "open",
                                         "high", "low", "close", "change"};
    for (size_t i = 0; i < sizeof prices / sizeof prices[0]; i++)
        assert_price(tree, prices[i]);
    CU_ASSERT(number(tree, "bid") > 0 && number(tree, "bid") < number(tree, "ask"));
    CU_ASSERT(number(tree, "bid") <= number(tree, "price"));
    CU_ASSERT(number(tree, "price") <= number(tree, "ask"));
    CU_ASSERT(number(tree, "low") <= number(tree, "price"));
    CU_ASSERT(number(tree, "price") <= number(tree, "high"));
    CU_ASSERT(number(tree, "low") <= number(tree, "open"));
    CU_ASSERT(number(tree, "open") <= number(tree, "high"));
    CU_ASSERT(fabs(number(tree, "price") - number(tree, "close") - number(tree, "change")) < 1e-6);
    CU_ASSERT(number(tree, "bid_size") > 0 && number(tree, "ask_size") > 0);
    CU_ASSERT(number(tree, "ts") == 1780000000123.0);
}

static void assert_trade(const cJSON *tree)
{
    const char *side = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(tree, "side"));
    assert_price(tree, "price");
    CU_ASSERT(number(tree, "size") > 0);
    CU_ASSERT_FATAL(side != NULL);
    CU_ASSERT(strcmp(side, "buy") == 0 || strcmp(side, "sell") == 0);
}

static void test_publications_are_well_formed(void)
{
    struct market *m = make(300, 3, 25, false);
    struct buf channel = {0}, payload = {0};
    int trades = 0;
    for (int i = 0; i < 5000; i++) {
        market_next(m, 1780000000123u, &channel, &payload);
        CU_ASSERT(channel_is_valid(buf_slice(&channel)));
        CU_ASSERT(json_text_is_valid(buf_slice(&payload)));
        cJSON *tree = cJSON_ParseWithLength(payload.data, payload.len);
        const char *symbol = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(tree, "symbol"));
        CU_ASSERT_FATAL(symbol != NULL && channel.len > 6);
        CU_ASSERT(slice_is(slice_of(channel.data + 6, channel.len - 6), symbol));
        if (memcmp(channel.data, "trade:", 6) == 0) {
            assert_trade(tree);
            trades++;
        } else {
            CU_ASSERT(memcmp(channel.data, "quote:", 6) == 0);
            assert_quote(tree);
        }
        cJSON_Delete(tree);
    }
    CU_ASSERT(trades > 1000 && trades < 1500); /* 25 % of 5000 */
    market_free(m);
    buf_fini(&channel);
    buf_fini(&payload);
}

static void test_volume_grows_with_the_movement(void)
{
    struct market *m = make(1, 11, 0, true);
    struct buf channel = {0}, payload = {0};
    double price = 0, volume = 0, traded[2] = {0};
    int steps[2] = {0};
    for (int i = 0; i < 5000; i++) {
        market_next(m, 0, &channel, &payload);
        cJSON *tree = cJSON_ParseWithLength(payload.data, payload.len);
        double grown = number(tree, "volume") - volume;
        double moved = fabs(number(tree, "price") - price);
        CU_ASSERT(grown > 0);
        bool is_large = moved > number(tree, "price") / 4000;
        if (i > 0) {
            traded[is_large] += grown;
            steps[is_large]++;
        }
        volume += grown;
        price = number(tree, "price");
        cJSON_Delete(tree);
    }
    CU_ASSERT_FATAL(steps[0] > 100 && steps[1] > 100);
    CU_ASSERT(traded[1] / steps[1] > 1.5 * traded[0] / steps[0]);
    market_free(m);
    buf_fini(&channel);
    buf_fini(&payload);
}

/* Every symbol has its turn, each under a name of its own, also past the list of tickers. */
static void test_all_symbols_take_part(void)
{
    enum { SYMBOLS = 150 };
    struct market *m = make(SYMBOLS, 5, 0, true);
    struct buf channel = {0}, payload = {0};
    char *seen[SYMBOLS] = {0};
    size_t count = 0;
    for (int i = 0; i < 20000; i++) {
        market_next(m, 0, &channel, &payload);
        buf_append(&channel, "", 1);
        size_t at = 0;
        while (at < count && strcmp(seen[at], channel.data) != 0)
            at++;
        if (at == count) {
            CU_ASSERT_FATAL(count < SYMBOLS);
            seen[count++] = strdup(channel.data);
        }
    }
    CU_ASSERT_EQUAL(count, SYMBOLS);
    for (size_t i = 0; i < count; i++)
        free(seen[i]);
    market_free(m);
    buf_fini(&channel);
    buf_fini(&payload);
}

static const struct unit_test tests[] = {
    {"a seed names one sequence", test_a_seed_names_one_sequence},
    {"publications are well-formed", test_publications_are_well_formed},
    {"volume grows with the movement", test_volume_grows_with_the_movement},
    {"all symbols take part", test_all_symbols_take_part},
    {NULL, NULL},
};
const struct unit_suite suite_sim = {"sim", tests};
