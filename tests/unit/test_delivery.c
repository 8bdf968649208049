/*
 * test_delivery.c - single rules of who is sent what, each in a scene of its own.
 *
 * The model in test_hub.c tries what comes at random; here a scene is played step by step: clients
 * on socket pairs, publications of every kind (plain ones among stamped ones, cleared values, new
 * epochs, healed states), answers of the bus in the order that hurts. Each test is named after the
 * fault that it keeps away.
 */
#include "base/mem.h"
#include "domain/hub.h"
#include "domain/sent_position.h"
#include "protocol/push.h"
#include "scene.h"
#include "unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A cleared value makes no frame for raw clients, yet their cohort is on its way to be flushed. */
static void test_cleared_among_raw(void)
{
    struct scene *n = scene_new(NULL);
    struct scene_client a, b;
    scene_join(n, &a, "?format=raw&channels=quote:A");
    scene_live(n, "quote:A", 0, NULL);
    scene_turn(n);
    scene_join(n, &b, "?format=raw&channels=quote:B");
    scene_publish(n, "quote:A", 1, NULL);
    scene_live(n, "quote:B", 0, NULL);
    hub_post_feed(n->at.hub, true, NULL); /* which settles everybody */
    scene_publish(n, "quote:A", 2, "{\"n\":2}");
    alarm(10);
    CU_ASSERT_EQUAL(scene_count(scene_hear(n, &a), "{\"n\":2}"), 1);
    alarm(0);
    scene_leave(n, &a);
    scene_leave(n, &b);
    scene_free(n);
}

static void test_plain_is_not_repeated_with_a_snapshot(void)
{
    struct scene *n = scene_new(NULL);
    struct scene_client a, b;
    scene_join(n, &a, "?channels=quote:A");
    scene_live(n, "quote:A", 0, NULL);
    scene_publish(n, "quote:A", 1, "{\"n\":1}");
    scene_publish(n, "quote:A", 0, "{\"plain\":0}");
    scene_hear(n, &a);
    scene_say(&a, "{\"action\":\"snapshot\",\"id\":1,\"channels\":[\"quote:A\"]}");
    const char *heard = scene_hear(n, &a);
    CU_ASSERT_EQUAL(scene_count(heard, "\"snap\":true"), 1);
    CU_ASSERT_EQUAL(scene_count(heard, "{\"plain\":0}"), 1);
    /* Nor is it sent to who comes later. */
    scene_join(n, &b, "?channels=quote:A");
    heard = scene_hear(n, &b);
    CU_ASSERT_EQUAL(scene_count(heard, "\"snap\":true"), 1);
    CU_ASSERT_EQUAL(scene_count(heard, "{\"plain\":0}"), 0);
    scene_leave(n, &a);
    scene_leave(n, &b);
    scene_free(n);
}

/* Two requests that wait name the same channel, with the same position: it is recovered once. */
static void test_recovered_once(void)
{
    struct scene *n = scene_new(NULL);
    struct scene_client a;
    scene_join(n, &a, "");
    for (int i = 0; i < 2; i++)
        scene_say(&a, "{\"action\":\"subscribe\",\"channels\":[\"chat:A\"],\"since\":{\"chat:A\":"
                      "{\"epoch\":\"e1\",\"seq\":1}}}");
    scene_hear(n, &a);
    scene_live(n, "chat:A", 3, "{\"n\":3}");
    CU_ASSERT_EQUAL_FATAL(n->token_count, 2);
    for (unsigned i = 0; i < 2; i++) {
        struct publication **list = mem_alloc(2 * sizeof(struct publication *));
        list[0] = scene_make((struct publication_head){0}, "chat:A", "e1", 2, "{\"n\":2}");
        list[1] = scene_make((struct publication_head){0}, "chat:A", "e1", 3, "{\"n\":3}");
        hub_post_recovery(n->at.hub, n->tokens[i], list, 2, true);
    }
    const char *heard = scene_hear(n, &a);
    CU_ASSERT_EQUAL(scene_count(heard, "\"action\":\"ack\""), 2);
    CU_ASSERT_EQUAL(scene_count(heard, "{\"n\":2}"), 1);
    CU_ASSERT_EQUAL(scene_count(heard, "{\"n\":3}"), 1);
    scene_leave(n, &a);
    scene_free(n);
}

/* One recovery that becomes too much must not cost another one the publication at hand. */
static void test_overflowing_recovery_harms_no_other(void)
{
    struct scene *n = scene_new("limits.hard_bytes=40000");
    struct scene_client c[3];
    static char big[12000];
    snprintf(big, sizeof big, "{\"x\":\"%0*d\"}", (int)sizeof big - 20, 7);
    for (int i = 0; i < 3; i++) {
        scene_join(n, &c[i], "");
        scene_say(&c[i], "{\"action\":\"subscribe\",\"channels\":[\"chat:A\",\"chat:B\"],\"since\":"
                         "{\"chat:A\":{\"epoch\":\"e1\",\"seq\":1}}}");
        scene_turn(n);
        scene_turn(n);
    }
    scene_live(n, "chat:A", 2, "{\"n\":2}");
    for (unsigned i = 0; i < 3; i++) {
        struct publication **list = mem_alloc(sizeof(struct publication *));
        list[0] =
            scene_make((struct publication_head){0}, "chat:A", "e1", 2, i == 0 ? big : "{\"n\":2}");
        hub_post_recovery(n->at.hub, n->tokens[i], list, 1, true);
    }
    scene_publish(n, "chat:A", 3, "{\"n\":3}");
    big[8] = '1';
    scene_publish(n, "chat:A", 4, big); /* too much for the first */
    scene_live(n, "chat:B", 0, NULL);
    for (int i = 0; i < 3; i++) {
        const char *heard = scene_hear(n, &c[i]);
        CU_ASSERT_EQUAL(scene_count(heard, "\"seq\":4"), 1);
        CU_ASSERT_EQUAL(scene_count(heard, "\"recovered\":["), i == 0 ? 0 : 1);
        scene_leave(n, &c[i]);
    }
    scene_free(n);
}

/* What is published after the ack arrives in mode `all`, also while the snapshot still waits. */
static void test_all_mode_behind_a_snapshot(void)
{
    struct scene *n = scene_new(NULL);
    struct scene_client a;
    static char big[20000];
    snprintf(big, sizeof big, "{\"x\":\"%0*d\"}", (int)sizeof big - 20, 7);
    scene_join(n, &a, "?channels=quote:A");
    scene_live(n, "quote:A", 0, NULL);
    scene_hear(n, &a);
    scene_publish(n, "quote:A", 1, big); /* the socket is full */
    scene_turn(n);
    scene_say(&a, "{\"action\":\"subscribe\",\"channels\":[\"quote:B\"],\"mode\":\"all\"}");
    scene_turn(n);
    scene_live(n, "quote:B", 1, "{\"n\":1}");
    scene_turn(n);
    scene_publish(n, "quote:B", 2, "{\"n\":2}");
    scene_publish(n, "quote:B", 0, "{\"plain\":0}");
    scene_publish(n, "quote:B", 3, "{\"n\":3}");
    scene_publish(n, "quote:B", 0, "{\"plain\":1}");
    scene_turn(n);
    const char *heard = scene_hear(n, &a);
    CU_ASSERT_EQUAL(scene_count(heard, "{\"n\":2}"), 1);
    CU_ASSERT(scene_count(heard, "{\"n\":3}") >= 1);
    CU_ASSERT_EQUAL(scene_count(heard, "{\"plain\":0}"), 1);
    CU_ASSERT_EQUAL(scene_count(heard, "{\"plain\":1}"), 1);
    CU_ASSERT_EQUAL(scene_count(heard, "\"missed\""), 0);
    scene_forget(&a);
    scene_publish(n, "quote:B", 4, "{\"n\":4}");
    heard = scene_hear(n, &a);
    CU_ASSERT_EQUAL(scene_count(heard, "{\"n\":4}"), 1);
    CU_ASSERT_EQUAL(scene_count(heard, "\"missed\""), 0);
    scene_leave(n, &a);
    scene_free(n);
}

/* A client of mode `all` that is held up and asks for a snapshot loses nothing by that. */
static void test_snapshot_costs_no_event(void)
{
    struct scene *n = scene_new(NULL);
    struct scene_client a;
    static char big[20000];
    snprintf(big, sizeof big, "{\"x\":\"%0*d\"}", (int)sizeof big - 20, 7);
    scene_join(n, &a, "");
    scene_say(&a, "{\"action\":\"subscribe\",\"channels\":[\"quote:A\"],\"mode\":\"all\"}");
    scene_hear(n, &a);
    scene_live(n, "quote:A", 0, NULL);
    scene_publish(n, "quote:A", 1, "{\"n\":1}");
    scene_hear(n, &a);
    scene_publish(n, "quote:A", 2, big); /* the socket is full */
    scene_turn(n);
    scene_say(&a, "{\"action\":\"snapshot\",\"channels\":[\"quote:A\"]}");
    scene_turn(n);
    scene_publish(n, "quote:A", 3, "{\"n\":3}");
    scene_publish(n, "quote:A", 4, NULL);
    const char *heard = scene_hear(n, &a);
    CU_ASSERT_EQUAL(scene_count(heard, "{\"n\":3}"), 1);
    CU_ASSERT_EQUAL(scene_count(heard, "\"cleared\":true"), 1);
    CU_ASSERT_EQUAL(scene_count(heard, "\"missed\""), 0);
    scene_leave(n, &a);
    scene_free(n);
}

/* What a client says that it has is not sent again; the first item that is still says the epoch. */
static void test_epoch_behind_what_is_covered(void)
{
    struct scene *n = scene_new(NULL);
    struct scene_client c;
    hub_post_feed(n->at.hub, false, "redis_lost");
    scene_join(n, &c, "");
    scene_say(&c, "{\"action\":\"subscribe\",\"channels\":[\"chat:x\"],"
                  "\"since\":{\"chat:x\":{\"epoch\":\"e1\",\"seq\":5}}}");
    scene_turn(n);
    scene_publish(n, "chat:x", 5, "5");
    scene_turn(n);
    scene_say(&c, "{\"action\":\"subscribe\",\"channels\":[\"chat:y\"]}");
    scene_turn(n);
    scene_publish(n, "chat:x", 8, "8");
    const char *heard = scene_hear(n, &c);
    CU_ASSERT_PTR_NULL(strstr(heard, "\"seq\":5"));
    CU_ASSERT_PTR_NOT_NULL(
        strstr(heard, "\"epoch\":\"e1\",\"seq\":8,\"ts\":1,\"data\":8,\"missed\":2"));
    scene_leave(n, &c);
    scene_free(n);
}

/* A position that is taken on trust stands in the way of a repeat, not of a snapshot that is asked
 * for. */
static void test_snapshot_of_what_is_covered(void)
{
    struct scene *n = scene_new(NULL);
    struct scene_client a;
    hub_post_feed(n->at.hub, false, "redis_lost");
    scene_join(n, &a, "");
    scene_say(&a, "{\"action\":\"subscribe\",\"channels\":[\"quote:A\"],"
                  "\"since\":{\"quote:A\":{\"epoch\":\"e1\",\"seq\":5}}}");
    scene_hear(n, &a);
    scene_live(n, "quote:A", 4, "{\"n\":4}");
    scene_say(&a, "{\"action\":\"snapshot\",\"channels\":[\"quote:A\"]}");
    CU_ASSERT_EQUAL(scene_count(scene_hear(n, &a), "\"data\""), 0); /* it is ahead */
    scene_publish(n, "quote:A", 5, "{\"n\":5}");
    hub_post_feed(n->at.hub, true, NULL);
    CU_ASSERT_EQUAL(scene_count(scene_hear(n, &a), "\"data\""), 0); /* and has this one */
    scene_say(&a, "{\"action\":\"snapshot\",\"channels\":[\"quote:A\"]}");
    scene_say(&a, "{\"action\":\"subscribe\",\"channels\":[\"quote:A\"],\"snapshot\":true}");
    const char *heard = scene_hear(n, &a);
    CU_ASSERT_EQUAL(
        scene_count(heard, "\"epoch\":\"e1\",\"seq\":5,\"ts\":1,\"snap\":true,\"data\":{\"n\":5}}"),
        2);
    scene_publish(n, "quote:A", 6, "{\"n\":6}");
    CU_ASSERT_EQUAL(scene_count(scene_hear(n, &a), "\"missed\""), 0);
    scene_leave(n, &a);
    scene_free(n);
}

/* Whoever is ahead of the node has a newer value than the one that ended, as far as can be told once
 * the feed is lost while the position is asked for. */
static void test_no_end_for_who_is_ahead(void)
{
    struct scene *n = scene_new(NULL);
    struct scene_client other, a;
    scene_join(n, &other, "?channels=chat:A");
    scene_live(n, "chat:A", 0, NULL);
    scene_publish(n, "chat:A", 5, NULL);
    scene_hear(n, &other);
    scene_join(n, &a, "");
    scene_say(&a, "{\"action\":\"subscribe\",\"channels\":[\"chat:A\"],\"since\":"
                  "{\"chat:A\":{\"epoch\":\"e1\",\"seq\":6}}}");
    scene_hear(n, &a);
    hub_post_feed(n->at.hub, false, "redis_lost");
    const char *heard = scene_hear(n, &a);
    CU_ASSERT_EQUAL(scene_count(heard, "\"accepted\":1"), 1);
    CU_ASSERT_EQUAL(scene_count(heard, "\"cleared\""), 0);
    scene_leave(n, &a);
    scene_leave(n, &other);
    scene_free(n);
}

/* A channel was let go and followed again, and has gone on in between: nothing is said to be recovered
 * that this worker never got. */
static void test_recording_with_a_gap(void)
{
    struct scene *n = scene_new(NULL);
    struct scene_client other, a;
    scene_join(n, &other, "?channels=quote:A");
    scene_live(n, "quote:A", 5, "{\"n\":5}");
    scene_join(n, &a, "");
    scene_say(&a,
              "{\"action\":\"subscribe\",\"channels\":[\"quote:A\",\"quote:B\"],\"mode\":\"all\","
              "\"since\":{\"quote:A\":{\"epoch\":\"e1\",\"seq\":5}}}");
    scene_hear(n, &a);
    scene_live(n, "quote:A", 9, "{\"n\":9}");
    scene_live(n, "quote:B", 0, NULL);
    const char *heard = scene_hear(n, &a);
    CU_ASSERT_EQUAL(scene_count(heard, "\"recovered\":["), 0);
    CU_ASSERT_EQUAL(scene_count(heard, "\"snap\":true,\"data\":{\"n\":9},\"missed\":3}"), 1);
    scene_leave(n, &a);
    scene_leave(n, &other);
    scene_free(n);
}

/* A state that was healed while a recovery was under way replaces what the client has. */
static void test_recorded_snapshot(void)
{
    struct scene *n = scene_new(NULL);
    struct scene_client a;
    scene_join(n, &a, "");
    scene_say(&a, "{\"action\":\"subscribe\",\"channels\":[\"quote:A\",\"quote:B\"],\"since\":"
                  "{\"quote:A\":{\"epoch\":\"e1\",\"seq\":1}}}");
    scene_hear(n, &a);
    scene_live(n, "quote:A", 2, "{\"n\":2}");
    struct publication **list = mem_alloc(sizeof(struct publication *));
    list[0] = scene_make((struct publication_head){0}, "quote:A", "e1", 2, "{\"n\":2}");
    hub_post_recovery(n->at.hub, n->tokens[0], list, 1, true);
    list = mem_alloc(sizeof(struct publication *));
    list[0] =
        scene_make((struct publication_head){.is_snapshot = true}, "quote:A", "e1", 9, "{\"n\":9}");
    hub_post_publications(n->at.hub, list, 1);
    scene_live(n, "quote:B", 0, NULL);
    const char *heard = scene_hear(n, &a);
    CU_ASSERT_EQUAL(scene_count(heard, "\"seq\":9,\"ts\":1,\"snap\":true"), 1);
    scene_leave(n, &a);
    scene_free(n);
}

/* Snapshots and newest values, too, come in messages of 64 KiB at most, unless one alone is larger. */
static void test_snapshots_in_messages(void)
{
    struct scene *n = scene_new(NULL);
    struct scene_client a;
    char channel[24];
    static char payload[80000];
    static const int sizes[] = {40000, 40000, 20000, 70000, 100, 65000, 100};
    scene_join_with(n, &a,
                    &(struct scene_socket){.query =
                                               "?channels=quote:0,quote:1,quote:2,quote:3,quote:4,"
                                               "quote:5,quote:6",
                                           .buffer = 1 << 20});
    for (int i = 0; i < 7; i++) {
        snprintf(channel, sizeof channel, "quote:%d", i);
        snprintf(payload, sizeof payload, "\"%0*d\"", sizes[i], 7);
        scene_live(n, channel, 1, payload);
    }
    const char *heard = scene_hear(n, &a);
    CU_ASSERT_EQUAL(scene_count(heard, "\"snap\":true"), 7);
    for (const char *at = heard; *at != '\0'; at = strchr(at, '\n') + 1) {
        struct slice message = slice_of(at, strcspn(at, "\n"));
        bool is_alone = memmem(at, message.len, "},{", 3) == NULL;
        CU_ASSERT(is_alone || message.len <= PUSH_BYTES_MAX + strlen(PUSH_HEAD PUSH_TAIL));
    }
    scene_leave(n, &a);
    scene_free(n);
}

/* What was recovered counts as it is sent, so that nobody is closed as slow for coming back. */
static void test_recovered_fits(void)
{
    struct scene *n = scene_new("limits.hard_bytes=100000");
    struct scene_client a;
    scene_join(n, &a, "");
    scene_say(&a, "{\"action\":\"subscribe\",\"channels\":[\"chat:A\"],\"since\":"
                  "{\"chat:A\":{\"epoch\":\"e1\",\"seq\":1}}}");
    scene_hear(n, &a);
    scene_live(n, "chat:A", 2001, "{\"n\":1}");
    struct publication **list = mem_alloc(2000 * sizeof(struct publication *));
    for (unsigned i = 0; i < 2000; i++)
        list[i] = scene_make((struct publication_head){0}, "chat:A", "e1", 2 + i, "{\"n\":1}");
    hub_post_recovery(n->at.hub, n->tokens[0], list, 2000, true);
    scene_turn(n);
    scene_publish(n, "chat:A", 2002, "{\"n\":2002}");
    scene_turn(n);
    const char *heard = scene_hear(n, &a);
    CU_ASSERT_EQUAL(scene_count(heard, "\"slow\""), 0);
    CU_ASSERT_EQUAL(scene_count(heard, "close "), 0);
    CU_ASSERT_EQUAL(scene_count(heard, "{\"n\":2002}"), 1);
    scene_leave(n, &a);
    scene_free(n);
}

static void test_same_set_shares_a_cohort(void)
{
    struct scene *n = scene_new(NULL);
    const struct metrics *m = &n->at.worker->metrics;
    struct scene_client c[7];
    for (int i = 0; i < 6; i++)
        scene_join(n, &c[i], i % 2 == 0 ? "?channels=quote:A" : "?format=raw&channels=quote:A");
    scene_live(n, "quote:A", 0, NULL);
    scene_turn(n);
    CU_ASSERT_EQUAL(metrics_get(m, METRIC_COHORTS), 2);
    scene_join(n, &c[6], "?channels=quote:B");
    scene_live(n, "quote:B", 0, NULL);
    scene_turn(n);
    CU_ASSERT_EQUAL(metrics_get(m, METRIC_COHORTS), 3);
    for (int i = 0; i < 7; i++)
        scene_leave(n, &c[i]);
    CU_ASSERT_EQUAL(metrics_get(m, METRIC_COHORTS), 0);
    scene_free(n);
}

/* The first goes out in its own turn; what follows within the pace waits, and leaves together. */
static void test_pacing(void)
{
    struct scene *n = scene_new(NULL);
    const struct metrics *m = &n->at.worker->metrics;
    struct scene_client a;
    n->at.hub->pace_ms = 300;
    scene_join(n, &a, "?channels=quote:A");
    scene_live(n, "quote:A", 0, NULL);
    scene_hear(n, &a);
    uint64_t writes = metrics_get(m, METRIC_WRITES);
    for (uint64_t seq = 1; seq <= 11; seq++) {
        scene_publish(n, "quote:A", seq, "{\"n\":1}");
        scene_turn(n);
        CU_ASSERT_EQUAL(metrics_get(m, METRIC_WRITES), writes + 1);
    }
    for (int ms = 0; ms < 5000 && metrics_get(m, METRIC_WRITES) == writes + 1; ms++) {
        usleep(1000);
        scene_turn(n);
    }
    CU_ASSERT_EQUAL(metrics_get(m, METRIC_WRITES), writes + 2);
    CU_ASSERT_EQUAL(metrics_get(m, METRIC_DELIVERIES), 11);
    CU_ASSERT_EQUAL(scene_count(scene_hear(n, &a), "{\"n\":1}"), 11);
    scene_leave(n, &a);
    scene_free(n);
}

/* Cohorts of other sets may have the same to send. */
static void test_same_bytes_are_packed_once(void)
{
    struct scene *n = scene_new(NULL);
    const struct cohort_format format = {.deflate = true, .window_bits = 15};
    struct frame *packed[3];
    struct buf text = {0};
    while (text.len < 1000)
        buf_append_str(&text, "{\"price\":\"190.01\"}");
    for (int i = 0; i < 3; i++) {
        if (i == 2)
            scene_turn(n); /* nothing is kept for the next one */
        packed[i] = hub_pack(n->at.hub, frame_text(&text), format);
        CU_ASSERT(packed[i]->len < text.len / 2);
    }
    CU_ASSERT_PTR_EQUAL(packed[0], packed[1]);
    CU_ASSERT_PTR_NOT_EQUAL(packed[1], packed[2]);
    for (int i = 0; i < 3; i++)
        frame_unref(packed[i]);
    scene_turn(n);
    buf_fini(&text);
    scene_free(n);
}

/* A market that moves at once is not sent at once to everyone who wants two updates per second. */
static void test_phases_are_spread(void)
{
    enum { CLIENTS = 8, PATIENCE_MS = 5000 };
    struct scene *n = scene_new(NULL);
    struct scene_client c[CLIENTS];
    int heard_at[CLIENTS] = {0}, first = PATIENCE_MS, last = 0;
    char text[128];
    for (int i = 0; i < CLIENTS; i++) { /* each in a cohort of its own */
        scene_join(n, &c[i], "");
        snprintf(text, sizeof text,
                 "{\"action\":\"subscribe\",\"channels\":[\"quote:A\",\"quote:B%d\"],"
                 "\"max_rate\":2}",
                 i);
        scene_say(&c[i], text);
        scene_turn(n);
        snprintf(text, sizeof text, "quote:B%d", i);
        scene_live(n, text, 0, NULL);
    }
    scene_live(n, "quote:A", 0, NULL);
    scene_publish(n, "quote:A", 1, "1");
    scene_publish(n, "quote:A", 2, "2");
    for (int ms = 1; ms < PATIENCE_MS && last == 0; ms++) {
        usleep(1000);
        scene_turn(n);
        last = ms;
        for (int i = 0; i < CLIENTS; i++) {
            scene_take(n, &c[i]);
            *buf_reserve(&c[i].heard, 1) = '\0';
            if (heard_at[i] == 0 && scene_count(c[i].heard.data, "\"data\":2") == 1)
                heard_at[i] = ms;
            last = heard_at[i] == 0 ? 0 : last;
        }
    }
    for (int i = 0; i < CLIENTS; i++) {
        CU_ASSERT_EQUAL(scene_count(c[i].heard.data, "\"data\":1"), 1);
        first = heard_at[i] < first ? heard_at[i] : first;
    }
    CU_ASSERT(first > 0);
    CU_ASSERT(last > first);
    for (int i = 0; i < CLIENTS; i++)
        scene_leave(n, &c[i]);
    scene_free(n);
}

static void test_who_never_reads_is_closed(void)
{
    struct scene *n = scene_new("limits.hard_bytes=100000");
    const struct metrics *m = &n->at.worker->metrics;
    struct scene_client a;
    scene_join(n, &a, "?channels=chat:A");
    scene_live(n, "chat:A", 0, NULL);
    scene_turn(n);
    for (uint64_t seq = 1; seq < 100000 && metrics_get(m, METRIC_ENDED_SLOW) == 0; seq++) {
        scene_publish(n, "chat:A", seq, "{\"n\":1}");
        scene_turn(n);
    }
    CU_ASSERT_EQUAL(metrics_get(m, METRIC_ENDED_SLOW), 1);
    CU_ASSERT_EQUAL(metrics_get(m, METRIC_CONNECTIONS), 0);
    scene_leave(n, &a);
    scene_free(n);
}

/* Publications of one turn that are too much for a client, and one behind them: having lost what
 * was dropped, it must not hear what follows as if it came next. */
static void check_silence_behind_slow(const char *query, int buffer)
{
    struct scene *n = scene_new("limits.hard_bytes=60000");
    struct scene_client a;
    static char big[20000];
    snprintf(big, sizeof big, "{\"x\":\"%0*d\"}", (int)sizeof big - 20, 7);
    scene_join_with(n, &a, &(struct scene_socket){.query = query, .buffer = buffer});
    scene_live(n, "quote:A", 0, NULL);
    scene_live(n, "chat:A", 0, NULL);
    scene_publish(n, "chat:A", 1, "1");
    scene_hear(n, &a);
    for (uint64_t seq = 2; seq <= 4; seq++) {
        scene_publish(n, "chat:A", seq, big);
        if (buffer == 0)
            scene_turn(n); /* it falls behind first */
    }
    for (uint64_t seq = 5; seq <= 7; seq++)
        scene_publish(n, "chat:A", seq, big);
    hub_post_feed(n->at.hub, true, NULL); /* which settles everybody */
    scene_publish(n, "chat:A", 8, "{\"n\":8}");
    const char *heard = scene_hear(n, &a);
    CU_ASSERT_EQUAL(scene_count(heard, "close 4101"), 1);
    CU_ASSERT_EQUAL(scene_count(heard, "{\"n\":8}"), 0);
    CU_ASSERT_EQUAL(scene_count(heard, "\"feed\":\"ok\"}\n"), 0);
    scene_leave(n, &a);
    scene_free(n);
}

static void test_nothing_follows_the_last_words(void)
{
    check_silence_behind_slow("?channels=chat:A", 1 << 20);   /* too much queued at once */
    check_silence_behind_slow("?channels=chat:A", 0);         /* held up in the stream */
    check_silence_behind_slow("?channels=chat:A,quote:A", 0); /* lagging */
}

/* What a client was not sent has a number of an epoch that ended behind it: in the next epoch that
 * number is somebody else's. */
static void check_position_of_another_epoch(bool is_settled_again)
{
    struct scene *n = scene_new(NULL);
    struct scene_client a;
    static char big[20000];
    snprintf(big, sizeof big, "{\"x\":\"%0*d\"}", (int)sizeof big - 20, 7);
    scene_join(n, &a, "?channels=chat:A");
    scene_live(n, "chat:A", 0, NULL);
    scene_publish(n, "chat:A", 98, "98");
    scene_hear(n, &a);
    scene_publish(n, "chat:A", 99, big); /* the socket is full */
    scene_publish(n, "chat:A", 100, "100");
    scene_turn(n);
    hub_post_feed(n->at.hub, true, NULL); /* which settles everybody */
    for (uint64_t seq = 50; seq < 130; seq++) {
        struct publication **list = mem_alloc(sizeof(struct publication *));
        list[0] =
            scene_make((struct publication_head){.is_stamped = true}, "chat:A", "e2", seq, "1");
        hub_post_publications(n->at.hub, list, 1);
    }
    if (is_settled_again)
        hub_post_feed(n->at.hub, true, NULL);
    scene_turn(n);
    const struct cohort *c = hub_find(n->at.hub, slice_str("chat:A"))->cohorts[0].cohort;
    struct sent_position *sent = sent_positions(c->members[0].conn->upper);
    CU_ASSERT_FALSE(sent[0].is_known);
    free(sent);
    scene_leave(n, &a);
    scene_free(n);
}

static void test_position_of_another_epoch(void)
{
    check_position_of_another_epoch(false);
    check_position_of_another_epoch(true);
}

static const struct unit_test tests[] = {
    {"the same set and format share a cohort", test_same_set_shares_a_cohort},
    {"pacing: at once, then together", test_pacing},
    {"the same bytes are packed once", test_same_bytes_are_packed_once},
    {"phases of max_rate are spread", test_phases_are_spread},
    {"who never reads is closed past the hard limit", test_who_never_reads_is_closed},
    {"nothing follows the last words", test_nothing_follows_the_last_words},
    {"a cleared value among raw clients", test_cleared_among_raw},
    {"a plain message is not repeated", test_plain_is_not_repeated_with_a_snapshot},
    {"what two requests recover comes once", test_recovered_once},
    {"a recovery that overflows harms no other", test_overflowing_recovery_harms_no_other},
    {"mode all arrives while a snapshot waits", test_all_mode_behind_a_snapshot},
    {"a snapshot asked for costs no event", test_snapshot_costs_no_event},
    {"no end for who is ahead", test_no_end_for_who_is_ahead},
    {"a snapshot of what is covered", test_snapshot_of_what_is_covered},
    {"a gap in what is recorded", test_recording_with_a_gap},
    {"a healed state in what is recovered", test_recorded_snapshot},
    {"snapshots come in messages of 64 KiB", test_snapshots_in_messages},
    {"what is recovered fits the limit", test_recovered_fits},
    {"the first item that is not covered says the epoch", test_epoch_behind_what_is_covered},
    {"the position of who was not sent the end of an epoch", test_position_of_another_epoch},
    {NULL, NULL},
};
const struct unit_suite suite_delivery = {"delivery", tests};
