/*
 * test_session_subscribe.c - what a client is subscribed to after it has asked, and asked again.
 */
#include "domain/hub.h"
#include "scene.h"
#include "unit.h"

/* A channel that is waited for counts once, however often it is asked for, and whether or not it is
 * there already. */
static void test_pending_channel_counts_once(void)
{
    struct scene *n = scene_new("limits.channels_per_client=3");
    struct scene_client a;
    scene_join(n, &a, "?channels=quote:A,quote:B");
    scene_say(&a, "{\"action\":\"subscribe\",\"id\":1,\"channels\":[\"quote:A\"],\"max_rate\":2}");
    scene_say(&a, "{\"action\":\"subscribe\",\"id\":2,\"channels\":[\"quote:C\",\"quote:D\"]}");
    scene_turn(n);
    for (const char *name = "ABC"; *name != '\0'; name++)
        scene_live(n, (char[]){'q', 'u', 'o', 't', 'e', ':', *name, '\0'}, 0, NULL);
    scene_hear(n, &a);
    scene_say(&a, "{\"action\":\"unsubscribe\",\"id\":3,\"channels\":[\"quote:C\"]}");
    scene_say(&a, "{\"action\":\"subscribe\",\"channels\":[\"quote:A\",\"quote:B\",\"quote:E\"]}");
    scene_say(&a, "{\"action\":\"subscribe\",\"channels\":[\"quote:E\",\"quote:F\"]}");
    scene_say(&a, "{\"action\":\"unsubscribe\",\"channels\":[\"quote:B\"]}");
    scene_say(&a, "{\"action\":\"subscribe\",\"channels\":[\"quote:A\",\"quote:G\"]}");
    scene_hear(n, &a);
    scene_live(n, "quote:E", 0, NULL);
    scene_live(n, "quote:G", 0, NULL);
    scene_turn(n);
    scene_say(&a, "{\"action\":\"list\",\"id\":4}");
    const char *heard = scene_hear(n, &a);
    CU_ASSERT_EQUAL(scene_count(heard, "\"id\":1,\"accepted\":1,\"rejected\":[]"), 1);
    CU_ASSERT_EQUAL(scene_count(heard, "\"id\":2,\"accepted\":1,"), 1);
    CU_ASSERT_EQUAL(scene_count(heard, "\"name\":\"too_many_channels\""), 2); /* D and F */
    CU_ASSERT_EQUAL(
        scene_count(heard, "\"channel\":\"quote:A\",\"mode\":\"latest\",\"max_rate\":2,"), 1);
    CU_ASSERT_EQUAL(scene_count(heard, "\"channel\":\"quote:G\",\"mode\""), 1);
    scene_leave(n, &a);
    scene_free(n);
}

/* Named twice in one command, new or not, it is one channel and takes one place. */
static void test_repeated_channel_takes_one_place(void)
{
    struct scene *n = scene_new("limits.channels_per_client=2");
    struct scene_client a;
    scene_join(n, &a, "?channels=quote:A,quote:A,quote:A,quote:B,quote:A,quote:B");
    scene_live(n, "quote:A", 0, NULL);
    scene_live(n, "quote:B", 0, NULL);
    scene_say(&a, "{\"action\":\"subscribe\",\"channels\":[\"quote:B\",\"quote:D\",\"quote:B\"]}");
    const char *heard = scene_hear(n, &a);
    CU_ASSERT_EQUAL(scene_count(heard, "\"accepted\":2,\"rejected\":[]"), 1);
    CU_ASSERT_EQUAL(scene_count(heard, "\"accepted\":1,\"rejected\":[{\"channel\":\"quote:D\""), 1);
    scene_leave(n, &a);
    scene_free(n);
}

/* The last of a client's wishes counts, whatever waits for Redis. */
static void test_unsubscribe_ends_all_that_waits(void)
{
    struct scene *n = scene_new(NULL);
    struct scene_client a;
    scene_join(n, &a, "?channels=quote:A");
    scene_live(n, "quote:A", 0, NULL);
    scene_hear(n, &a);
    scene_say(&a, "{\"action\":\"subscribe\",\"id\":1,\"channels\":[\"quote:A\",\"quote:B\"]}");
    scene_say(&a, "{\"action\":\"subscribe\",\"id\":2,\"channels\":[\"quote:B\"]}");
    scene_say(&a, "{\"action\":\"unsubscribe\",\"id\":3,\"channels\":[\"quote:A\",\"quote:B\"]}");
    scene_hear(n, &a);
    scene_live(n, "quote:B", 0, NULL);
    scene_turn(n);
    scene_say(&a, "{\"action\":\"list\",\"id\":4}");
    const char *heard = scene_hear(n, &a);
    CU_ASSERT_EQUAL(scene_count(heard, "\"id\":3,\"accepted\":2"), 1);
    CU_ASSERT_EQUAL(scene_count(heard, "\"id\":4,\"channels\":[]"), 1);
    scene_leave(n, &a);
    scene_free(n);
}

static const struct unit_test tests[] = {
    {"a channel that is waited for counts once", test_pending_channel_counts_once},
    {"a repeated channel takes one place", test_repeated_channel_takes_one_place},
    {"unsubscribe ends all that waits", test_unsubscribe_ends_all_that_waits},
    {NULL, NULL},
};
const struct unit_suite suite_session_subscribe = {"session_subscribe", tests};
