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
    w.channel->has_hole = true; /* behind it: the plain one does not say what was lost */
    struct publication *plain = feed(&w, "{\"test\":1}");
    CU_ASSERT_PTR_NOT_NULL_FATAL(plain);
    CU_ASSERT_EQUAL(plain->seq, 0);
    CU_ASSERT_PTR_EQUAL(w.channel->last, stamped);
    CU_ASSERT_EQUAL(w.channel->seq, 1);
    CU_ASSERT(w.channel->has_hole);
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

static void feed_ok(struct world *w, const char *message, uint64_t seq, uint64_t gap)
{
    struct publication *p = feed(w, message);
    CU_ASSERT_PTR_NOT_NULL_FATAL(p);
    CU_ASSERT_EQUAL(p->seq, seq);
    CU_ASSERT_EQUAL(p->gap, gap);
    publication_unref(p);
}

static void test_what_lies_between_is_a_gap(void)
{
    struct world w;
    world_init(&w);
    feed_ok(&w, "@e:5:1 {}", 5, 0); /* the first one follows nothing */
    feed_ok(&w, "@e:6:1 {}", 6, 0);
    feed_ok(&w, "@e:10:1 {}", 10, 3);
    feed_ok(&w, "@f:7:1 {}", 7, 0); /* numbered anew */
    feed_ok(&w, "@f:9007199254740991:1 {}", 9007199254740991, 9007199254740983);
    world_fini(&w);
}

static struct publication *read_back(struct world *w, uint64_t seq, const char *data, bool snapshot)
{
    const struct stored_entry entry = {.seq = seq, .ts_ms = seq * 10, .data = slice_str(data)};
    return bus_intake_stored(&w->intake, w->channel, &entry, snapshot);
}

/* The store is read over another connection, so what it covers may still be on its way. */
static void test_what_the_store_covers_is_dropped(void)
{
    struct world w;
    world_init(&w);
    bus_intake_set_epoch(w.channel, slice_str("e"), 8);
    struct publication *p = read_back(&w, 8, "1", true);
    CU_ASSERT_PTR_NOT_NULL_FATAL(p);
    CU_ASSERT(p->is_snapshot && p->seq == 8 && p->gap == 0 && p->ts_ms == 80);
    publication_unref(p);
    CU_ASSERT_PTR_NULL(feed(&w, "@e:7:70 1"));
    CU_ASSERT_EQUAL(w.result, INTAKE_DROPPED);
    CU_ASSERT_PTR_NULL(feed(&w, "@e:8:80 1"));
    CU_ASSERT_EQUAL(w.result, INTAKE_DROPPED);
    feed_ok(&w, "@e:9:90 1", 9, 0);
    CU_ASSERT_PTR_NULL(feed(&w, "@e:8:80 1")); /* once more: no delay explains that */
    CU_ASSERT_EQUAL(w.result, INTAKE_REGRESSED);
    CU_ASSERT_EQUAL(metrics_get(&w.metrics, METRIC_DROPPED_STALE), 2);
    world_fini(&w);
}

static void test_healed_with_a_gap(void)
{
    struct world w;
    world_init(&w);
    feed_ok(&w, "@e:3:1 {}", 3, 0);
    struct publication *p = read_back(&w, 6, "1", false);
    CU_ASSERT_PTR_NOT_NULL_FATAL(p);
    CU_ASSERT(!p->is_snapshot && p->gap == 2);
    publication_unref(p);
    CU_ASSERT_PTR_NULL(read_back(&w, 7, "\xff", false));
    CU_ASSERT_EQUAL(w.channel->seq, 6);
    const struct stored_entry large = {.seq = 8, .is_too_large = true};
    CU_ASSERT_PTR_NULL(bus_intake_stored(&w.intake, w.channel, &large, false));
    CU_ASSERT_EQUAL(metrics_get(&w.metrics, METRIC_DROPPED_LARGE), 1);
    feed_ok(&w, "@e:9:1 {}", 9, 2); /* the two that could not travel */
    world_fini(&w);
}

static void test_the_old_epoch_stands_for_the_new_one(void)
{
    struct world w;
    world_init(&w);
    feed_ok(&w, "@old:100:1 {}", 100, 0);
    bus_intake_renew(w.channel, slice_str("new"), 90);
    struct publication *p = feed(&w, "@old:91:1 {}"); /* stamped before it was renewed */
    CU_ASSERT_PTR_NOT_NULL_FATAL(p);
    CU_ASSERT(slice_is(publication_epoch(p), "new"));
    CU_ASSERT_EQUAL(p->seq, 91);
    publication_unref(p);
    feed_ok(&w, "@new:92:1 {}", 92, 0);
    CU_ASSERT_PTR_NULL(feed(&w, "@old:92:1 {}"));
    CU_ASSERT_EQUAL(w.result, INTAKE_DROPPED);
    feed_ok(&w, "@third:1:1 {}", 1, 0);
    p = feed(&w, "@old:5:1 {}"); /* retired no longer: a numbering like any other */
    CU_ASSERT(p != NULL && slice_is(publication_epoch(p), "old"));
    publication_unref(p);
    world_fini(&w);
}

static void test_an_ended_value_ends_the_numbering(void)
{
    struct world w;
    world_init(&w);
    feed_ok(&w, "@e:3:1 {}", 3, 0);
    struct publication *p = bus_intake_end(&w.intake, w.channel);
    CU_ASSERT(p->cleared && p->seq == 0);
    publication_unref(p);
    CU_ASSERT_PTR_NULL(w.channel->last);
    p = feed(&w, "plain"); /* numbered again: nobody stamps any more */
    CU_ASSERT(p != NULL && p->seq == 1 && p->epoch_len == 12);
    publication_unref(p);
    world_fini(&w);
}

static const struct unit_test tests[] = {
    {"plain messages are numbered", test_plain_is_numbered},
    {"what lies between is a gap", test_what_lies_between_is_a_gap},
    {"what the store covers is dropped", test_what_the_store_covers_is_dropped},
    {"healed with a gap", test_healed_with_a_gap},
    {"the old epoch stands for the new one", test_the_old_epoch_stands_for_the_new_one},
    {"an ended value ends the numbering", test_an_ended_value_ends_the_numbering},
    {"two numberings have two epochs", test_two_numberings_differ},
    {"stamps are taken, repeats dropped", test_stamp_is_taken},
    {"plain on a stamped channel stays outside", test_plain_on_a_stamped_channel_stays_outside},
    {"cleared ends the value", test_cleared_ends_the_value},
    {"what cannot travel is counted", test_what_cannot_travel_is_counted},
    {NULL, NULL},
};
const struct unit_suite suite_bus_intake = {"bus_intake", tests};
