/*
 * test_live.c - what the bus tells a worker of a channel's state, and what clients hear of it.
 */
#include "base/mem.h"
#include "domain/hub.h"
#include "scene.h"
#include "unit.h"

#include <stdlib.h>

/* A channel was left and followed again before the bus knew: its state may be newer than what was
 * under way. */
static void test_live_brings_what_is_newer(void)
{
    struct scene *n = scene_new(NULL);
    struct scene_client a;
    scene_join(n, &a, "?channels=quote:A");
    scene_publish(n, "quote:A", 5, "{\"n\":5}"); /* under way since the channel was followed last */
    scene_live(n, "quote:A", 7, "{\"n\":7}");
    const char *heard = scene_hear(n, &a);
    CU_ASSERT_EQUAL(scene_count(heard, "{\"n\":7}"), 1);
    /* And the same for those who were answered too early. */
    scene_live(n, "quote:A", 10, "{\"n\":10}");
    scene_live(n, "quote:A", 10, "{\"n\":10}");
    heard = scene_hear(n, &a);
    CU_ASSERT_EQUAL(scene_count(heard, "{\"n\":10}"), 1);
    scene_leave(n, &a);
    scene_free(n);
}

static void publish_stamped(struct scene *n, uint64_t seq, const char *payload)
{
    struct publication **list = mem_alloc(sizeof(struct publication *));
    list[0] =
        scene_make((struct publication_head){.is_stamped = true}, "quote:A", "e1", seq, payload);
    hub_post_publications(n->at.hub, list, 1);
}

/* The same when the value has ended meanwhile: by its publisher, or expired. */
static void check_live_brings_an_end(const struct position *base, const char *end)
{
    struct scene *n = scene_new(NULL);
    struct scene_client a, b;
    scene_join(n, &a, "?channels=quote:A");
    publish_stamped(n, 5, "{\"n\":5}");
    hub_post_live(n->at.hub, slice_str("quote:A"), NULL, base, true);
    CU_ASSERT_EQUAL(scene_count(scene_hear(n, &a), "\"data\""), 0);
    scene_join(n, &b, "?channels=quote:A");
    CU_ASSERT_EQUAL(scene_count(scene_hear(n, &b), "\"data\""), 0);
    /* And the same for those who were answered too early. */
    publish_stamped(n, 9, "{\"n\":9}");
    struct position later = *base;
    later.seq += later.epoch_len != 0 ? 4 : 0;
    for (int i = 0; i < 2; i++)
        hub_post_live(n->at.hub, slice_str("quote:A"), NULL, &later, true);
    const char *heard = scene_hear(n, &a);
    CU_ASSERT_EQUAL(scene_count(heard, "{\"n\":9}"), 1);
    CU_ASSERT_EQUAL(scene_count(heard, "\"cleared\":true"), 1);
    CU_ASSERT_EQUAL(scene_count(heard, end), 1);
    scene_leave(n, &a);
    scene_leave(n, &b);
    scene_free(n);
}

static void test_live_brings_an_end(void)
{
    const struct position cleared = {.seq = 7, .ts_ms = 1, .epoch_len = 2, .epoch = "e1"};
    const struct position expired = {.seq = 0};
    check_live_brings_an_end(&cleared, "\"seq\":11,\"ts\":1,\"cleared\":true,\"missed\":1}");
    check_live_brings_an_end(&expired, "{\"channel\":\"quote:A\",\"ts\":");
}

/* Nobody knows whether it has: the store refuses to say. */
static void test_live_without_what_is_stored_brings_no_end(void)
{
    const struct position unknown = {.seq = 0};
    struct scene *n = scene_new(NULL);
    struct scene_client a;
    scene_join(n, &a, "?channels=quote:A");
    publish_stamped(n, 5, "{\"n\":5}");
    hub_post_live(n->at.hub, slice_str("quote:A"), NULL, &unknown, false);
    const char *heard = scene_hear(n, &a);
    CU_ASSERT_EQUAL(scene_count(heard, "{\"n\":5}"), 1);
    CU_ASSERT_EQUAL(scene_count(heard, "\"suspect\":[\"quote:A\"]"), 1);
    CU_ASSERT_EQUAL(scene_count(heard, "\"cleared\""), 0);
    scene_leave(n, &a);
    scene_free(n);
}

/* While the feed is suspect nobody waits for the state, so it comes as an item like any other. What
 * the node lost before it is nothing that this client missed. */
static void test_first_item_misses_nothing(void)
{
    struct scene *n = scene_new(NULL);
    struct scene_client a;
    hub_post_feed(n->at.hub, false, "redis_lost");
    scene_join(n, &a, "?channels=quote:A");
    CU_ASSERT_EQUAL(scene_count(scene_hear(n, &a), "\"accepted\":1"), 1);
    struct publication *last =
        scene_make((struct publication_head){.gap = 2}, "quote:A", "e1", 9, "{\"n\":9}");
    hub_post_live(n->at.hub, slice_str("quote:A"), last, NULL, true);
    publication_unref(last);
    scene_publish(n, "quote:A", 10, "{\"n\":10}");
    const char *heard = scene_hear(n, &a);
    CU_ASSERT_EQUAL(scene_count(heard, "\"epoch\":\"e1\",\"seq\":9,"), 1);
    CU_ASSERT_EQUAL(scene_count(heard, "{\"n\":10}"), 1);
    CU_ASSERT_EQUAL(scene_count(heard, "\"missed\""), 0);
    scene_leave(n, &a);
    scene_free(n);
}

/* The same when it is healed before the channel is live here. */
static void test_first_healed_item_misses_nothing(void)
{
    struct scene *n = scene_new(NULL);
    struct scene_client a;
    hub_post_feed(n->at.hub, false, "redis_lost");
    scene_join(n, &a, "?channels=quote:A");
    CU_ASSERT_EQUAL(scene_count(scene_hear(n, &a), "\"accepted\":1"), 1);
    struct publication **list = mem_alloc(2 * sizeof(struct publication *));
    list[0] = scene_make((struct publication_head){.gap = 4}, "quote:A", "e1", 10, "{\"n\":10}");
    list[1] = scene_make((struct publication_head){.gap = 1}, "quote:A", "e1", 12, "{\"n\":12}");
    hub_post_publications(n->at.hub, list, 2);
    const char *heard = scene_hear(n, &a);
    CU_ASSERT_EQUAL(scene_count(heard, "\"seq\":10,"), 1);
    CU_ASSERT_EQUAL(scene_count(heard, "\"seq\":12,"), 1);
    CU_ASSERT_EQUAL(scene_count(heard, "\"missed\":4"), 0);
    CU_ASSERT_EQUAL(scene_count(heard, "\"missed\":1"), 1);
    scene_leave(n, &a);
    scene_free(n);
}

/* What was healed comes before the news that all is well, whatever holds it back. */
static void test_healed_before_ok(void)
{
    struct scene *n = scene_new("namespace.chat.batch_ms=60000");
    struct scene_client c[2];
    hub_post_feed(n->at.hub, false, "redis_lost");
    for (int i = 0; i < 2; i++)
        scene_join(n, &c[i], "?channels=chat:A");
    scene_live(n, "chat:A", 0, NULL);
    scene_publish(n, "chat:A", 1, "1");
    scene_publish(n, "chat:A", 2, "2");
    hub_post_feed(n->at.hub, true, NULL);
    for (int i = 0; i < 2; i++) {
        const char *heard = scene_hear(n, &c[i]);
        const char *newest = strstr(heard, "\"data\":2"), *ok = strstr(heard, "\"feed\":\"ok\"}\n");
        CU_ASSERT_PTR_NOT_NULL_FATAL(newest);
        CU_ASSERT_PTR_NOT_NULL_FATAL(ok);
        CU_ASSERT(newest < ok);
        scene_leave(n, &c[i]);
    }
    scene_free(n);
}

static const struct unit_test tests[] = {
    {"live brings what is newer", test_live_brings_what_is_newer},
    {"what was healed comes before ok", test_healed_before_ok},
    {"live brings an end", test_live_brings_an_end},
    {"a channel that is live without what is stored brings no end",
     test_live_without_what_is_stored_brings_no_end},
    {"the first item misses nothing", test_first_item_misses_nothing},
    {"the first healed item misses nothing", test_first_healed_item_misses_nothing},
    {NULL, NULL},
};
const struct unit_suite suite_live = {"live", tests};
