/*
 * test_store.c - publishing from inside the node, against a scripted Redis.
 *
 * What the store tells its callers is written down as text, "name what;" each.
 */
#include "scripted_redis.h"
#include "unit.h"

#include "domain/store.h"

#include <stdio.h>
#include <stdlib.h>

#define NOSCRIPT "-NOSCRIPT No matching script.\r\n"
#define PASSED   "a later publication of the channel came first"

struct shop {
    struct world world;
    struct store *store;
    struct buf done;
    const char *name_again; /* published from inside the next answer; NULL: nothing */
};

/* A caller. Frees itself when it is answered. */
struct caller {
    struct shop *shop;
    char name[24];
};

static void publish(struct shop *shop, const char *name, const char *payload);

static void on_done(void *arg, const struct store_result *result)
{
    static const char *const words[] = {"ok", "lost", "refused"};
    struct caller *caller = arg;
    struct shop *shop = caller->shop;
    buf_printf(&shop->done, "%s %s", caller->name, words[result->status]);
    if (result->epoch.len > 0)
        buf_printf(&shop->done, " %llu@%.*s", (unsigned long long)result->seq,
                   (int)result->epoch.len, result->epoch.ptr);
    if (result->error.len > 0)
        buf_printf(&shop->done, " %.*s", (int)result->error.len, result->error.ptr);
    buf_append_str(&shop->done, ";");
    free(caller);
    const char *again = shop->name_again;
    shop->name_again = NULL;
    if (again != NULL)
        publish(shop, again, "again");
}

static struct caller *caller_new(struct shop *shop, const char *name)
{
    struct caller *caller = calloc(1, sizeof *caller);
    caller->shop = shop;
    snprintf(caller->name, sizeof caller->name, "%s", name);
    return caller;
}

static void publish(struct shop *shop, const char *name, const char *payload)
{
    store_publish(shop->store, slice_str("quote:A"), slice_str(payload), 5, 60, on_done,
                  caller_new(shop, name));
}

static void publish_plain(struct shop *shop, const char *name, const char *payload)
{
    store_publish_plain(shop->store, slice_str("trade:A"), slice_str(payload), on_done,
                        caller_new(shop, name));
}

static void shop_open(struct shop *shop)
{
    *shop = (struct shop){0};
    world_up(&shop->world, false);
    shop->store = store_new("tc:");
    store_set_link(shop->store, shop->world.link);
}

static void shop_close(struct shop *shop)
{
    world_close(&shop->world);
    store_free(shop->store);
    buf_fini(&shop->done);
}

static bool await_done(struct shop *shop, const char *expected)
{
    for (unsigned i = 0; i < PATIENCE_MS && !slice_is(buf_slice(&shop->done), expected); i += 2)
        pump(&shop->world, NULL, 2);
    if (slice_is(buf_slice(&shop->done), expected))
        return true;
    fprintf(stderr, "\n  expected: %s\n  got:      %.*s\n", expected, (int)shop->done.len,
            shop->done.data);
    return false;
}

/* Do the texts stand in what Redis received one behind the other? Waits for the last. */
static bool await_in_order(struct shop *shop, const char *const *texts)
{
    size_t count = 0;
    while (texts[count] != NULL)
        count++;
    if (!await_received(&shop->world, texts[count - 1]))
        return false;
    const struct buf *received = &shop->world.received;
    const char *at = received->data, *end = received->data + received->len;
    for (size_t i = 0; i < count; i++) {
        const char *found = memmem(at, (size_t)(end - at), texts[i], strlen(texts[i]));
        if (found == NULL)
            return false;
        at = found + strlen(texts[i]);
    }
    return true;
}

/* --- one publication ------------------------------------------------------------------------- */

static void runs_the_script_by_its_digest(void)
{
    struct shop shop;
    shop_open(&shop);
    store_publish(shop.store, slice_str("quote:A"), slice_of("a\0\r\n\xff", 5), 5, 60, on_done,
                  caller_new(&shop, "A"));
    CU_ASSERT(await_received(&shop.world, "$1\r\n5\r\n$2\r\n60\r\n"));
    const struct buf *received = &shop.world.received;
    static const char tail[] = "$1\r\n1\r\n$12\r\n{tc:quote:A}\r\n$5\r\na\0\r\n\xff\r\n"
                               "$1\r\n5\r\n$2\r\n60\r\n";
    static const char head[] = "*7\r\n$7\r\nEVALSHA\r\n$40\r\n";
    CU_ASSERT_EQUAL_FATAL(received->len, sizeof head - 1 + 42 + sizeof tail - 1);
    CU_ASSERT_EQUAL(memcmp(received->data, head, sizeof head - 1), 0);
    CU_ASSERT_EQUAL(memcmp(received->data + sizeof head - 1 + 42, tail, sizeof tail - 1), 0);
    server_say(&shop.world, "*2\r\n:9007199254740991\r\n$4\r\nc91e\r\n");
    CU_ASSERT(await_done(&shop, "A ok 9007199254740991@c91e;"));
    shop_close(&shop);
}

static void plain_is_a_publish(void)
{
    struct shop shop;
    shop_open(&shop);
    publish_plain(&shop, "A", "1");
    publish_plain(&shop, "B", "");
    CU_ASSERT(await_received(&shop.world,
                             "*3\r\n$7\r\nPUBLISH\r\n$10\r\ntc:trade:A\r\n$1\r\n1\r\n"
                             "*3\r\n$7\r\nPUBLISH\r\n$10\r\ntc:trade:A\r\n$0\r\n\r\n"));
    server_say(&shop.world, ":3\r\n-NOPERM no\r\n");
    CU_ASSERT(await_done(&shop, "A ok;B refused NOPERM no;"));
    shop_close(&shop);
}

/* Each is one answer of Redis to a stamped and a plain publication. */
static void odd_answers_refuse(void)
{
    static const struct {
        const char *says;
        const char *stamped;
        const char *plain;
    } rows[] = {
        {"-ERR no\r\n", "ERR no", "ERR no"},
        {"*2\r\n$1\r\n1\r\n$1\r\na\r\n", "Redis answered something unexpected",
         "Redis answered something unexpected"},
        {"*2\r\n:1\r\n:2\r\n", "Redis answered something unexpected",
         "Redis answered something unexpected"},
        {"*1\r\n:1\r\n", "Redis answered something unexpected",
         "Redis answered something unexpected"},
        {"$-1\r\n", "Redis answered something unexpected", "Redis answered something unexpected"},
        {"+OK\r\n", "Redis answered something unexpected", "Redis answered something unexpected"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct shop shop;
        char expected[200];
        shop_open(&shop);
        publish(&shop, "A", "1");
        publish_plain(&shop, "B", "1");
        CU_ASSERT(await_received(&shop.world, "PUBLISH"));
        server_say(&shop.world, rows[i].says);
        server_say(&shop.world, rows[i].says);
        snprintf(expected, sizeof expected, "A refused %s;B refused %s;", rows[i].stamped,
                 rows[i].plain);
        CU_ASSERT(await_done(&shop, expected));
        shop_close(&shop);
    }
}

/* --- a Redis that does not know the script --------------------------------------------------- */

static void text_is_sent_once_and_order_kept(void)
{
    struct shop shop;
    shop_open(&shop);
    publish(&shop, "A", "first");
    publish(&shop, "B", "second");
    CU_ASSERT(await_received(&shop.world, "second"));
    buf_clear(&shop.world.received);
    server_say(&shop.world, NOSCRIPT);
    pump(&shop.world, NULL, 20);
    publish(&shop, "C", "third"); /* must not pass the second */
    pump(&shop.world, NULL, 20);
    CU_ASSERT_EQUAL(shop.world.received.len, 0);
    server_say(&shop.world, NOSCRIPT);
    const char *const order[] = {"*7\r\n$4\r\nEVAL\r\n",
                                 "redis.call('PUBLISH'",
                                 "first",
                                 "*7\r\n$7\r\nEVALSHA\r\n",
                                 "second",
                                 "*7\r\n$7\r\nEVALSHA\r\n",
                                 "third",
                                 NULL};
    CU_ASSERT(await_in_order(&shop, order));
    server_say(&shop.world,
               "*2\r\n:1\r\n$1\r\ne\r\n*2\r\n:2\r\n$1\r\ne\r\n*2\r\n:3\r\n$1\r\ne\r\n");
    CU_ASSERT(await_done(&shop, "A ok 1@e;B ok 2@e;C ok 3@e;"));
    buf_clear(&shop.world.received);
    publish(&shop, "D", "fourth");
    CU_ASSERT(await_received(&shop.world, "fourth"));
    CU_ASSERT_FALSE(has_bytes(&shop.world.received, "EVAL\r\n"));
    server_say(&shop.world, "*2\r\n:4\r\n$1\r\ne\r\n");
    CU_ASSERT(await_done(&shop, "A ok 1@e;B ok 2@e;C ok 3@e;D ok 4@e;"));
    shop_close(&shop);
}

/* Another node brought the script back between two of ours: the first must not come after the
 * second, neither in Redis nor at clients. What is of another channel may. */
static void what_was_passed_is_refused(void)
{
    struct shop shop;
    shop_open(&shop);
    publish(&shop, "A", "alpha");
    store_publish(shop.store, slice_str("quote:B"), slice_str("other"), 5, 60, on_done,
                  caller_new(&shop, "B"));
    publish(&shop, "C", "second");
    publish(&shop, "D", "third");
    CU_ASSERT(await_received(&shop.world, "third"));
    buf_clear(&shop.world.received);
    server_say(&shop.world, NOSCRIPT NOSCRIPT "*2\r\n:1\r\n$1\r\ne\r\n" NOSCRIPT);
    CU_ASSERT(await_done(&shop, "A refused " PASSED ";C ok 1@e;"));
    const char *const order[] = {"EVAL\r\n", "other", "EVALSHA\r\n", "third", NULL};
    CU_ASSERT(await_in_order(&shop, order));
    CU_ASSERT_FALSE(has_bytes(&shop.world.received, "alpha"));
    server_say(&shop.world, "*2\r\n:1\r\n$1\r\ne\r\n*2\r\n:2\r\n$1\r\ne\r\n");
    CU_ASSERT(await_done(&shop, "A refused " PASSED ";C ok 1@e;B ok 1@e;D ok 2@e;"));
    shop_close(&shop);
}

static void unknown_twice_is_refused(void)
{
    struct shop shop;
    shop_open(&shop);
    publish(&shop, "A", "1");
    CU_ASSERT(await_received(&shop.world, "EVALSHA\r\n"));
    server_say(&shop.world, NOSCRIPT);
    CU_ASSERT(await_received(&shop.world, "EVAL\r\n"));
    server_say(&shop.world, NOSCRIPT);
    CU_ASSERT(await_done(&shop, "A refused NOSCRIPT No matching script.;"));
    shop_close(&shop);
}

/* --- a Redis that goes away ------------------------------------------------------------------ */

static void lost_with_the_link(void)
{
    struct shop shop;
    shop_open(&shop);
    publish(&shop, "A", "1");
    publish_plain(&shop, "B", "1");
    CU_ASSERT(await_received(&shop.world, "PUBLISH"));
    shop.name_again = "C"; /* the link is down by then */
    server_hang_up(&shop.world);
    CU_ASSERT(await_done(&shop, "A lost;C lost;B lost;"));
    shop_close(&shop);
}

static void lost_at_once_while_down(void)
{
    struct shop shop;
    shop_open(&shop);
    server_close(&shop.world);
    CU_ASSERT(await_call(&shop.world, "down"));
    publish(&shop, "A", "1");
    publish_plain(&shop, "B", "1");
    CU_ASSERT(slice_is(buf_slice(&shop.done), "A lost;B lost;"));
    shop_close(&shop);
}

static void lost_while_held(void)
{
    struct shop shop;
    shop_open(&shop);
    publish(&shop, "A", "1");
    publish(&shop, "B", "second");
    CU_ASSERT(await_received(&shop.world, "second"));
    server_say(&shop.world, NOSCRIPT);
    pump(&shop.world, NULL, 20);
    publish(&shop, "C", "1");
    CU_ASSERT_EQUAL(shop.done.len, 0);
    server_hang_up(&shop.world);
    CU_ASSERT(await_done(&shop, "B lost;A lost;C lost;"));
    shop_close(&shop);
}

static void freed_with_callers_waiting(void)
{
    struct shop shop;
    shop_open(&shop);
    publish(&shop, "A", "1");
    publish_plain(&shop, "B", "1");
    world_close(&shop.world);
    CU_ASSERT_EQUAL(shop.done.len, 0);
    store_free(shop.store);
    CU_ASSERT(slice_is(buf_slice(&shop.done), "A lost;B lost;"));
    buf_fini(&shop.done);
}

/* --- bounds ---------------------------------------------------------------------------------- */

static void number_in_flight_is_bounded(void)
{
    struct shop shop;
    shop_open(&shop);
    for (int i = 0; i < STORE_IN_FLIGHT_MAX; i++)
        publish_plain(&shop, "A", "1");
    CU_ASSERT_EQUAL(shop.done.len, 0);
    publish(&shop, "B", "1");
    publish_plain(&shop, "C", "1");
    CU_ASSERT(slice_is(buf_slice(&shop.done), "B refused too many publications are under way;"
                                              "C refused too many publications are under way;"));
    buf_clear(&shop.done);
    server_say(&shop.world, ":0\r\n");
    CU_ASSERT(await_done(&shop, "A ok;"));
    publish_plain(&shop, "D", "1");
    CU_ASSERT(slice_is(buf_slice(&shop.done), "A ok;"));
    shop_close(&shop);
}

static void bytes_in_flight_are_bounded(void)
{
    struct shop shop;
    shop_open(&shop);
    char *payload = calloc(1, STORE_IN_FLIGHT_BYTES_MAX + 1);
    store_publish_plain(shop.store, slice_str("a:b"),
                        slice_of(payload, STORE_IN_FLIGHT_BYTES_MAX + 1), on_done,
                        caller_new(&shop, "A"));
    CU_ASSERT(slice_is(buf_slice(&shop.done), "A refused too many publications are under way;"));
    buf_clear(&shop.done);
    store_publish_plain(shop.store, slice_str("a:b"), slice_of(payload, STORE_IN_FLIGHT_BYTES_MAX),
                        on_done, caller_new(&shop, "B"));
    CU_ASSERT_EQUAL(shop.done.len, 0);
    publish(&shop, "C", "1");
    CU_ASSERT(slice_is(buf_slice(&shop.done), "C refused too many publications are under way;"));
    free(payload);
    shop_close(&shop);
}

static void keeps_where_there_is_something_to_keep(void)
{
    CU_ASSERT_FALSE(store_keeps(&(struct config_namespace){.history_ttl_s = 5}));
    CU_ASSERT(store_keeps(&(struct config_namespace){.snapshot = true}));
    CU_ASSERT(store_keeps(&(struct config_namespace){.history = 1}));
}

static const struct unit_test tests[] = {
    {"runs the script by its digest", runs_the_script_by_its_digest},
    {"plain is a publish", plain_is_a_publish},
    {"odd answers refuse", odd_answers_refuse},
    {"text is sent once and order kept", text_is_sent_once_and_order_kept},
    {"what was passed is refused", what_was_passed_is_refused},
    {"unknown twice is refused", unknown_twice_is_refused},
    {"lost with the link", lost_with_the_link},
    {"lost at once while down", lost_at_once_while_down},
    {"lost while held", lost_while_held},
    {"freed with callers waiting", freed_with_callers_waiting},
    {"number in flight is bounded", number_in_flight_is_bounded},
    {"bytes in flight are bounded", bytes_in_flight_are_bounded},
    {"keeps where there is something to keep", keeps_where_there_is_something_to_keep},
    {NULL, NULL},
};

const struct unit_suite suite_store = {"store", tests};
