/*
 * test_positions.c - clients that come back with positions: what is recovered, and what is not.
 */
#include "base/mem.h"
#include "domain/hub.h"
#include "domain/sent_position.h"
#include "scene.h"
#include "unit.h"

#include <stdio.h>
#include <stdlib.h>

/* What several commands recover in one turn is as much as if it were one: nobody is closed as slow
 * for coming back with one command for each channel. */
static void test_recovered_by_several_commands(void)
{
    enum { CHANNELS = 8 };
    struct scene *n = scene_new("limits.hard_bytes=40000");
    struct scene_client a;
    char text[200], channel[24];
    static char big[8000];
    snprintf(big, sizeof big, "{\"x\":\"%0*d\"}", (int)sizeof big - 20, 7);
    scene_join_with(n, &a, &(struct scene_socket){.query = "", .buffer = 1 << 20});
    for (int i = 0; i < CHANNELS; i++) {
        snprintf(text, sizeof text,
                 "{\"action\":\"subscribe\",\"channels\":[\"quote:%d\"],"
                 "\"since\":{\"quote:%d\":{\"epoch\":\"e1\",\"seq\":1}}}",
                 i, i);
        scene_say(&a, text);
    }
    scene_hear(n, &a);
    CU_ASSERT_EQUAL_FATAL(n->token_count, CHANNELS);
    for (unsigned i = 0; i < CHANNELS; i++) {
        snprintf(channel, sizeof channel, "quote:%u", i);
        scene_live(n, channel, 3, "{\"n\":3}");
        struct publication **list = mem_alloc(2 * sizeof(struct publication *));
        list[0] = scene_make((struct publication_head){0}, channel, "e1", 2, big);
        list[1] = scene_make((struct publication_head){0}, channel, "e1", 3, "{\"n\":3}");
        hub_post_recovery(n->at.hub, n->tokens[i], list, 2, true);
    }
    const char *heard = scene_hear(n, &a);
    CU_ASSERT_EQUAL(scene_count(heard, "close "), 0);
    CU_ASSERT_EQUAL(scene_count(heard, "\"accepted\":1"), CHANNELS);
    CU_ASSERT_EQUAL(scene_count(heard, "\"recovered\":["), 2);
    CU_ASSERT_EQUAL(scene_count(heard, "\"snap\":true,\"data\":{\"n\":3},\"missed\":1}"),
                    CHANNELS - 2);
    scene_leave(n, &a);
    scene_free(n);
}

/* What several commands hold while they wait for Redis is no more than one may. */
static void test_held_by_several_commands(void)
{
    enum { COMMANDS = 4 };
    struct scene *n = scene_new("limits.hard_bytes=40000");
    struct scene_client a;
    char text[200], channel[24];
    static char big[12000];
    snprintf(big, sizeof big, "{\"x\":\"%0*d\"}", (int)sizeof big - 20, 7);
    scene_join_with(n, &a, &(struct scene_socket){.query = "", .buffer = 1 << 20});
    for (int i = 0; i < COMMANDS; i++) {
        snprintf(text, sizeof text,
                 "{\"action\":\"subscribe\",\"channels\":[\"chat:%d\",\"quote:%d\"],"
                 "\"since\":{\"chat:%d\":{\"epoch\":\"e1\",\"seq\":1}}}",
                 i, i, i);
        scene_say(&a, text);
    }
    scene_hear(n, &a);
    CU_ASSERT_EQUAL_FATAL(n->token_count, COMMANDS);
    for (unsigned i = 0; i < COMMANDS; i++) {
        snprintf(channel, sizeof channel, "chat:%u", i);
        scene_live(n, channel, 2, big);
        struct publication **list = mem_alloc(sizeof(struct publication *));
        list[0] = scene_make((struct publication_head){0}, channel, "e1", 2, big);
        hub_post_recovery(n->at.hub, n->tokens[i], list, 1, true);
    }
    for (unsigned i = 0; i < COMMANDS; i++) {
        snprintf(channel, sizeof channel, "quote:%u", i);
        scene_live(n, channel, 0, NULL);
        scene_hear(n, &a);
    }
    const char *heard = scene_hear(n, &a);
    CU_ASSERT_EQUAL(scene_count(heard, "\"accepted\":2"), COMMANDS);
    CU_ASSERT_EQUAL(scene_count(heard, "\"recovered\":["), 1);
    CU_ASSERT_EQUAL(scene_count(heard, "\"snap\":true"), COMMANDS - 1);
    /* Nothing is held any more: there is room again. */
    scene_say(&a, "{\"action\":\"subscribe\",\"channels\":[\"chat:A\"],"
                  "\"since\":{\"chat:A\":{\"epoch\":\"e1\",\"seq\":1}}}");
    scene_hear(n, &a);
    scene_live(n, "chat:A", 2, big);
    struct publication **list = mem_alloc(sizeof(struct publication *));
    list[0] = scene_make((struct publication_head){0}, "chat:A", "e1", 2, big);
    hub_post_recovery(n->at.hub, n->tokens[COMMANDS], list, 1, true);
    CU_ASSERT_EQUAL(scene_count(scene_hear(n, &a), "\"recovered\":[\"chat:A\"]"), 1);
    scene_leave(n, &a);
    scene_free(n);
}

/* A client comes back while the feed is suspect: its position is taken on trust. */
static struct scene *begin_on_trust(struct scene_client *a, const char *channels, unsigned seq)
{
    struct scene *n = scene_new(NULL);
    char text[200];
    hub_post_feed(n->at.hub, false, "redis_lost");
    scene_join(n, a, "");
    snprintf(text, sizeof text,
             "{\"action\":\"subscribe\",\"channels\":[%s],\"mode\":\"all\","
             "\"since\":{\"quote:A\":{\"epoch\":\"e1\",\"seq\":%u}}}",
             channels, seq);
    scene_say(a, text);
    CU_ASSERT_EQUAL(scene_count(scene_hear(n, a), "\"feed\":\"suspect\"}"), 1);
    return n;
}

static void answer(struct scene *n, bool recovered)
{
    struct publication **list = mem_alloc(sizeof(struct publication *));
    hub_post_recovery(n->at.hub, n->tokens[0], list, 0, recovered);
}

/* Redis came back as an older copy of itself, or the client was never so far. */
static void test_trust_that_was_wrong(void)
{
    struct scene_client a;
    struct scene *n = begin_on_trust(&a, "\"quote:A\",\"quote:B\"", 100);
    scene_live(n, "quote:A", 95, "{\"n\":95}");
    scene_live(n, "quote:B", 0, NULL);
    scene_publish(n, "quote:A", 96, "{\"n\":96}");
    hub_post_feed(n->at.hub, true, NULL);
    CU_ASSERT_EQUAL(scene_count(scene_hear(n, &a), "\"data\""), 0);
    CU_ASSERT_EQUAL_FATAL(n->token_count, 1);
    answer(n, false);
    scene_publish(n, "quote:A", 97, "{\"n\":97}");
    const char *heard = scene_hear(n, &a);
    CU_ASSERT_EQUAL(scene_count(heard, "\"snap\":true,\"data\":{\"n\":96}}"), 1);
    CU_ASSERT_EQUAL(scene_count(heard, "{\"n\":97}"), 1);
    CU_ASSERT_EQUAL(scene_count(heard, "\"missed\""), 0);
    CU_ASSERT_EQUAL(scene_count(heard, "\"action\":\"ack\""), 1);
    scene_say(&a, "{\"action\":\"list\"}");
    CU_ASSERT_EQUAL(scene_count(scene_hear(n, &a), "\"mode\":\"all\",\"max_rate\":0,"), 2);
    scene_leave(n, &a);
    scene_free(n);
}

/* This node's link is slower than the one that the client had. */
static void test_trust_that_was_right(void)
{
    struct scene_client a;
    struct scene *n = begin_on_trust(&a, "\"quote:A\"", 97);
    scene_live(n, "quote:A", 95, "{\"n\":95}");
    hub_post_feed(n->at.hub, true, NULL);
    scene_hear(n, &a);
    CU_ASSERT_EQUAL_FATAL(n->token_count, 1);
    scene_publish(n, "quote:A", 96, "{\"n\":96}");
    scene_publish(n, "quote:A", 97, "{\"n\":97}");
    answer(n, true);
    scene_publish(n, "quote:A", 98, "{\"n\":98}");
    hub_post_feed(n->at.hub, true, NULL); /* once is enough */
    const char *heard = scene_hear(n, &a);
    CU_ASSERT_EQUAL(scene_count(heard, "\"data\""), 1);
    CU_ASSERT_EQUAL(scene_count(heard, "\"epoch\":\"e1\",\"seq\":98,"), 1);
    CU_ASSERT_EQUAL(n->token_count, 1);
    scene_leave(n, &a);
    scene_free(n);
}

/* The value ended during the outage, and there is no snapshot to say so. */
static void test_trust_in_a_value_that_ended(void)
{
    struct scene_client a;
    struct scene *n = begin_on_trust(&a, "\"quote:A\"", 5);
    const struct position base = {.seq = 7, .ts_ms = 1, .epoch_len = 2, .epoch = "e1"};
    hub_post_live(n->at.hub, slice_str("quote:A"), NULL, &base, true);
    hub_post_feed(n->at.hub, true, NULL);
    scene_hear(n, &a);
    CU_ASSERT_EQUAL_FATAL(n->token_count, 1);
    answer(n, false);
    CU_ASSERT_EQUAL(
        scene_count(scene_hear(n, &a), "\"seq\":7,\"ts\":1,\"cleared\":true,\"missed\":1}"), 1);
    scene_leave(n, &a);
    scene_free(n);
}

/* The channel has come up to the position: nothing is asked. */
static void test_trust_without_a_doubt(void)
{
    struct scene_client a;
    struct scene *n = begin_on_trust(&a, "\"quote:A\"", 5);
    scene_live(n, "quote:A", 5, "{\"n\":5}");
    hub_post_feed(n->at.hub, true, NULL);
    CU_ASSERT_EQUAL(scene_count(scene_hear(n, &a), "\"data\""), 0);
    CU_ASSERT_EQUAL(n->token_count, 0);
    scene_leave(n, &a);
    scene_free(n);
}

/* A message was lost on the link and is in the log: what is recovered has it, so nothing is missed. */
static void test_gap_that_the_log_fills(void)
{
    struct scene *n = scene_new(NULL);
    struct scene_client a;
    scene_join(n, &a, "");
    scene_say(&a, "{\"action\":\"subscribe\",\"channels\":[\"chat:A\",\"chat:B\"],\"since\":"
                  "{\"chat:A\":{\"epoch\":\"e1\",\"seq\":1}}}");
    scene_hear(n, &a);
    scene_live(n, "chat:A", 4, "{\"n\":4}");
    struct publication **list = mem_alloc(3 * sizeof(struct publication *));
    for (unsigned i = 0; i < 3; i++) /* the last one came over the link, while the log was read */
        list[i] = scene_make((struct publication_head){.gap = i == 2 ? 2 : 0}, "chat:A", "e1",
                             2 + i, "{\"n\":1}");
    hub_post_recovery(n->at.hub, n->tokens[0], list, 3, true);
    list = mem_alloc(sizeof(struct publication *));
    list[0] = scene_make((struct publication_head){.gap = 3}, "chat:A", "e1", 8, "{\"n\":8}");
    hub_post_publications(n->at.hub, list, 1);
    scene_live(n, "chat:B", 0, NULL);
    const char *heard = scene_hear(n, &a);
    CU_ASSERT_EQUAL(scene_count(heard, "\"recovered\":["), 1);
    CU_ASSERT_EQUAL(scene_count(heard, "\"seq\":4,\"ts\":1,\"data\":{\"n\":1}}"), 1);
    CU_ASSERT_EQUAL(scene_count(heard, "\"seq\":8,\"ts\":1,\"data\":{\"n\":8},\"missed\":3}"), 1);
    scene_leave(n, &a);
    scene_free(n);
}

static bool has_position(const struct scene *n, const char *channel)
{
    const struct cohort *c = hub_find(n->at.hub, slice_str(channel))->cohorts[0].cohort;
    struct sent_position *sent = sent_positions(c->members[0].conn->upper);
    bool is_known = sent[0].is_known;
    free(sent);
    return is_known;
}

/* Who leaves before anybody could read what there is was not there from the beginning. */
static void test_beginning_that_nobody_saw(void)
{
    struct scene *n = scene_new("namespace.chat.history=100");
    struct scene_client a;
    hub_post_feed(n->at.hub, false, "redis_lost");
    scene_join(n, &a, "?channels=chat:A");
    scene_hear(n, &a);
    CU_ASSERT_FALSE(has_position(n, "chat:A"));
    hub_post_live(n->at.hub, slice_str("chat:A"), NULL, NULL, false); /* it could not be read */
    scene_turn(n);
    CU_ASSERT_FALSE(has_position(n, "chat:A"));
    scene_live(n, "chat:A", 0, NULL);
    scene_turn(n);
    CU_ASSERT(has_position(n, "chat:A"));
    scene_leave(n, &a);
    scene_free(n);
}

/* The log ends with a cleared value. What is published next is of the epoch that the recovered items
 * have said already; who has nothing yet hears of it then. */
static void test_epoch_goes_on_behind_an_end(void)
{
    struct scene *n = scene_new(NULL);
    struct scene_client a, b;
    const struct position base = {.seq = 4, .ts_ms = 1, .epoch_len = 2, .epoch = "e1"};
    scene_join(n, &a, "");
    scene_join(n, &b, "?channels=chat:A");
    scene_say(&a, "{\"action\":\"subscribe\",\"channels\":[\"chat:A\"],"
                  "\"since\":{\"chat:A\":{\"epoch\":\"e1\",\"seq\":2}}}");
    scene_hear(n, &a);
    CU_ASSERT_EQUAL_FATAL(n->token_count, 1);
    hub_post_live(n->at.hub, slice_str("chat:A"), NULL, &base, true);
    struct publication **list = mem_alloc(2 * sizeof(struct publication *));
    list[0] = scene_make((struct publication_head){0}, "chat:A", "e1", 3, "{\"n\":3}");
    list[1] = scene_make((struct publication_head){0}, "chat:A", "e1", 4, NULL);
    hub_post_recovery(n->at.hub, n->tokens[0], list, 2, true);
    scene_publish(n, "chat:A", 5, "{\"n\":5}");
    const char *heard = scene_hear(n, &a);
    CU_ASSERT_EQUAL(scene_count(heard, "\"epoch\":\"e1\",\"seq\":3,"), 1);
    CU_ASSERT_EQUAL(scene_count(heard, "\"channel\":\"chat:A\",\"seq\":5,"), 1);
    CU_ASSERT_EQUAL(scene_count(scene_hear(n, &b), "\"epoch\":\"e1\",\"seq\":5,"), 1);
    scene_leave(n, &a);
    scene_leave(n, &b);
    scene_free(n);
}

static const struct unit_test tests[] = {
    {"the epoch goes on behind an end", test_epoch_goes_on_behind_an_end},
    {"a beginning that nobody saw", test_beginning_that_nobody_saw},
    {"a gap that the log fills", test_gap_that_the_log_fills},
    {"trust that was wrong", test_trust_that_was_wrong},
    {"trust that was right", test_trust_that_was_right},
    {"trust in a value that ended", test_trust_in_a_value_that_ended},
    {"trust without a doubt", test_trust_without_a_doubt},
    {"what several commands recover fits the limit", test_recovered_by_several_commands},
    {"what several commands hold fits the limit", test_held_by_several_commands},
    {NULL, NULL},
};
const struct unit_suite suite_positions = {"positions", tests};
