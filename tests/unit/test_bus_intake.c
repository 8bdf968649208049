/*
 * test_bus_intake.c - from Redis messages to numbered publications.
 */
#include "base/map.h"
#include "base/mem.h"
#include "domain/bus_channel.h"
#include "unit.h"

#include <stdlib.h>
#include <string.h>

struct world {
    struct metrics metrics;
    struct bus_intake intake;
    struct bus_channel *channel;
    enum intake_result result; /* of the last feed */
};

static void world_init(struct world *w)
{
    memset(w, 0, sizeof *w);
    bus_intake_init(&w->intake, &w->metrics);
    struct slice name = slice_str("quote:AAPL");
    w->channel = mem_zalloc(sizeof *w->channel + name.len);
    w->channel->hash = map_hash(name);
    w->channel->name_len = (uint8_t)name.len;
    memcpy(w->channel->name, name.ptr, name.len);
}

static void world_fini(struct world *w)
{
    if (w->channel->last != NULL)
        publication_unref(w->channel->last);
    free(w->channel);
}

static struct publication *feed(struct world *w, const char *message)
{
    struct publication *p = NULL;
    w->result = bus_intake_take(&w->intake, w->channel, slice_str(message), &p);
    return w->result == INTAKE_TAKEN ? p : NULL;
}

static void test_plain_is_numbered(void)
{
    struct world w;
    world_init(&w);
    char epoch[STAMP_EPOCH_MAX];
    for (uint64_t seq = 1; seq <= 3; seq++) {
        struct publication *p = feed(&w, "{\"price\":\"1.23\"}");
        CU_ASSERT_PTR_NOT_NULL_FATAL(p);
        CU_ASSERT_EQUAL(p->seq, seq);
        CU_ASSERT(p->is_json);
        CU_ASSERT_EQUAL(p->epoch_len, 12);
        if (seq == 1)
            memcpy(epoch, p->epoch, p->epoch_len);
        CU_ASSERT(memcmp(epoch, p->epoch, p->epoch_len) == 0);
        CU_ASSERT_PTR_EQUAL(w.channel->last, p);
        publication_unref(p);
    }
    world_fini(&w);
}

static void test_two_numberings_differ(void)
{
    struct world a, b;
    world_init(&a);
    world_init(&b);
    struct publication *p = feed(&a, "1"), *q = feed(&b, "1");
    CU_ASSERT_FALSE(slice_equal(publication_epoch(p), publication_epoch(q)));
    publication_unref(p);
    publication_unref(q);
    world_fini(&a);
    world_fini(&b);
}

static void test_stamp_is_taken(void)
{
    struct world w;
    world_init(&w);
    struct publication *p = feed(&w, "@c91e:815:1780000000340 {\"price\":\"1\"}");
    CU_ASSERT_PTR_NOT_NULL_FATAL(p);
    CU_ASSERT_EQUAL(p->seq, 815);
    CU_ASSERT_EQUAL(p->ts_ms, 1780000000340);
    CU_ASSERT(slice_is(publication_epoch(p), "c91e"));
    publication_unref(p);

    CU_ASSERT_PTR_NULL(feed(&w, "@c91e:815:1780000000340 {}")); /* a repeat */
    CU_ASSERT_EQUAL(w.result, INTAKE_REGRESSED);
    CU_ASSERT_PTR_NULL(feed(&w, "@c91e:814:1780000000340 {}")); /* a step back */
    CU_ASSERT_EQUAL(w.result, INTAKE_REGRESSED);
    CU_ASSERT_EQUAL(w.channel->seq, 815);

    p = feed(&w, "@c91f:1:5 {}"); /* numbering begun anew */
    CU_ASSERT_PTR_NOT_NULL_FATAL(p);
    CU_ASSERT_EQUAL(p->seq, 1);
    publication_unref(p);
    world_fini(&w);
}

static void test_plain_on_a_stamped_channel_stays_outside(void)
{
    struct world w;
    world_init(&w);
    struct publication *stamped = feed(&w, "@c91e:1:5 {}");
    struct publication *plain = feed(&w, "{\"test\":1}");
    CU_ASSERT_PTR_NOT_NULL_FATAL(plain);
    CU_ASSERT_EQUAL(plain->seq, 0);
    CU_ASSERT_PTR_EQUAL(w.channel->last, stamped);
    CU_ASSERT_EQUAL(w.channel->seq, 1);
    publication_unref(stamped);
    publication_unref(plain);
    world_fini(&w);
}

static void test_cleared_ends_the_value(void)
{
    struct world w;
    world_init(&w);
    publication_unref(feed(&w, "@c91e:1:5 {}"));
    struct publication *p = feed(&w, "@c91e:2:5 ");
    CU_ASSERT_PTR_NOT_NULL_FATAL(p);
    CU_ASSERT(p->cleared);
    CU_ASSERT_PTR_NULL(w.channel->last);
    publication_unref(p);
    world_fini(&w);
}

static void test_what_cannot_travel_is_counted(void)
{
    struct world w;
    world_init(&w);
    CU_ASSERT_PTR_NULL(feed(&w, "@not a stamp"));
    CU_ASSERT_PTR_NULL(feed(&w, "@"));
    CU_ASSERT_EQUAL(metrics_get(&w.metrics, METRIC_DROPPED_STAMP), 2);
    CU_ASSERT_PTR_NULL(feed(&w, "\xff\xfe"));
    CU_ASSERT_PTR_NULL(feed(&w, "@c91e:1:5 \xff"));
    CU_ASSERT_EQUAL(metrics_get(&w.metrics, METRIC_DROPPED_UTF8), 2);
    CU_ASSERT_EQUAL(w.channel->seq, 0);
    struct publication *p = feed(&w, "not json");
    CU_ASSERT_PTR_NOT_NULL_FATAL(p);
    CU_ASSERT_FALSE(p->is_json);
    CU_ASSERT_EQUAL(metrics_get(&w.metrics, METRIC_NOT_JSON), 1);
    CU_ASSERT_EQUAL(metrics_get(&w.metrics, METRIC_PUBLICATIONS), 1);
    publication_unref(p);
    world_fini(&w);
}

static const struct unit_test tests[] = {
    {"plain messages are numbered", test_plain_is_numbered},
    {"two numberings have two epochs", test_two_numberings_differ},
    {"stamps are taken, repeats dropped", test_stamp_is_taken},
    {"plain on a stamped channel stays outside", test_plain_on_a_stamped_channel_stays_outside},
    {"cleared ends the value", test_cleared_ends_the_value},
    {"what cannot travel is counted", test_what_cannot_travel_is_counted},
    {NULL, NULL},
};
const struct unit_suite suite_bus_intake = {"bus_intake", tests};
