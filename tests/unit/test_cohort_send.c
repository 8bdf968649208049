/*
 * test_cohort_send.c - how a cohort's stream is given to its members: what is one write, what enters
 * the ring, what is counted.
 */
#include "domain/cohort.h"
#include "scene.h"
#include "unit.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define WIDE (1 << 20) /* a socket's buffer that takes all of a turn */

/* Eight publications of one turn: together with what is in front, alone, larger than a write, and a
 * value that ends. */
static void publish_of_all_sizes(struct scene *n, uint64_t seq)
{
    static const int sizes[] = {100, 70000, 50000, 30000, 140000, 100, 0, 100};
    static char payload[150000];
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        snprintf(payload, sizeof payload, "{\"n\":%zu,\"x\":\"%0*d\"}", i, sizes[i], 7);
        scene_publish(n, "chat:A", seq + i, sizes[i] != 0 ? payload : NULL);
    }
}

static const struct cohort *cohort_of(const struct scene *n, const char *channel)
{
    return hub_find(n->at.hub, slice_str(channel))->cohorts[0].cohort;
}

/* Who keeps up and who does not hear the same, to the byte, and what is counted is what came. */
static void check_all_sizes(const char *query, uint64_t items)
{
    struct scene *n = scene_new(NULL);
    const struct metrics *m = &n->at.worker->metrics;
    struct scene_client a, b;
    scene_join_with(n, &a, query, WIDE);
    scene_live(n, "chat:A", 0, NULL);
    scene_hear(n, &a);
    uint64_t before = a.bytes, writes = metrics_get(m, METRIC_WRITES);
    publish_of_all_sizes(n, 1);
    scene_turn(n);
    CU_ASSERT_EQUAL(metrics_get(m, METRIC_WRITES), writes + 4); /* of at most 128 KiB, or one */
    CU_ASSERT_EQUAL(cohort_of(n, "chat:A")->ring_cap, 0);       /* nobody needed a frame */
    scene_hear(n, &a);

    scene_join(n, &b, query);
    scene_hear(n, &b);
    before += b.bytes;
    scene_publish(n, "chat:A", 9, "9"); /* which says the epoch to who came last */
    scene_hear(n, &a);
    scene_hear(n, &b);
    scene_forget(&a);
    scene_forget(&b);
    publish_of_all_sizes(n, 10);
    scene_turn(n);
    CU_ASSERT_EQUAL(cohort_of(n, "chat:A")->held_count, 1);
    const char *by_a = scene_hear(n, &a);
    CU_ASSERT_STRING_EQUAL(by_a, scene_hear(n, &b));
    CU_ASSERT_EQUAL(scene_count(by_a, "\"n\":"), 7);
    CU_ASSERT_EQUAL(metrics_get(m, METRIC_DELIVERIES), 3 * items + 2);
    CU_ASSERT_EQUAL(metrics_get(m, METRIC_DELIVERED_BYTES), a.bytes + b.bytes - before);
    CU_ASSERT_EQUAL(metrics_get(m, METRIC_DELIVERED_BYTES),
                    metrics_get(m, METRIC_DELIVERED_PLAIN_BYTES));
    CU_ASSERT_EQUAL(metrics_get(m, METRIC_STREAM_BYTES), 0);
    scene_leave(n, &a);
    scene_leave(n, &b);
    scene_free(n);
}

static void test_batches_of_all_sizes(void)
{
    check_all_sizes("?channels=chat:A", 8);
    check_all_sizes("?format=raw&channels=chat:A", 7); /* the end of a value is no bytes */
}

/* A socket that fails in the middle of the members costs those around it nothing. */
static void test_failed_send_harms_no_other(void)
{
    struct scene *n = scene_new(NULL);
    const struct metrics *m = &n->at.worker->metrics;
    struct scene_client c[3];
    for (int i = 0; i < 3; i++)
        scene_join(n, &c[i], "?channels=chat:A");
    scene_live(n, "chat:A", 0, NULL);
    for (int i = 0; i < 3; i++) {
        scene_hear(n, &c[i]);
        scene_forget(&c[i]);
    }
    CU_ASSERT_EQUAL(shutdown(c[1].fd, SHUT_RD), 0); /* nothing to read there, and no room */
    scene_publish(n, "chat:A", 1, "{\"n\":1}");
    scene_publish(n, "chat:A", 2, "{\"n\":2}");
    scene_turn(n);
    CU_ASSERT_EQUAL(metrics_get(m, METRIC_ENDED_LOST), 1);
    CU_ASSERT_EQUAL(metrics_get(m, METRIC_CONNECTIONS), 2);
    CU_ASSERT_EQUAL(metrics_get(m, METRIC_DELIVERIES), 4);
    scene_publish(n, "chat:A", 3, "{\"n\":3}");
    CU_ASSERT_EQUAL(scene_count(scene_hear(n, &c[0]), "{\"n\":"), 3);
    CU_ASSERT_STRING_EQUAL(scene_hear(n, &c[0]), scene_hear(n, &c[2]));
    CU_ASSERT_EQUAL(metrics_get(m, METRIC_DELIVERIES), 6);
    CU_ASSERT_EQUAL(metrics_get(m, METRIC_STREAM_BYTES), 0);
    for (int i = 0; i < 3; i++)
        scene_leave(n, &c[i]);
    scene_free(n);
}

/* After a burst the memory of many cohorts' parts is given back, and the next one finds it so. */
static void test_publication_after_a_burst(void)
{
    enum { COHORTS = 6, BURST = 5000 };
    struct scene *n = scene_new(NULL);
    struct scene_client c[COHORTS];
    for (int i = 0; i < COHORTS; i++) {
        char query[64];
        snprintf(query, sizeof query, "?channels=quote:A,quote:%d", i);
        scene_join_with(n, &c[i], query, WIDE);
        scene_live(n, strchr(query, ',') + 1, 0, NULL);
    }
    scene_live(n, "quote:A", 0, NULL);
    for (int i = 0; i < COHORTS; i++)
        scene_hear(n, &c[i]);
    for (uint64_t seq = 1; seq <= BURST; seq++)
        scene_publish(n, "quote:A", seq, "1");
    scene_turn(n);
    for (int i = 0; i < COHORTS; i++)
        scene_hear(n, &c[i]);
    CU_ASSERT_EQUAL(cohort_of(n, "quote:A")->part_cap, 0);
    scene_publish(n, "quote:A", BURST + 1, "{\"n\":1}");
    for (int i = 0; i < COHORTS; i++) {
        CU_ASSERT_EQUAL(scene_count(scene_hear(n, &c[i]), "{\"n\":1}"), 1);
        scene_leave(n, &c[i]);
    }
    scene_free(n);
}

static const struct unit_test tests[] = {
    {"batches of all sizes", test_batches_of_all_sizes},
    {"a failed send harms no other", test_failed_send_harms_no_other},
    {"a publication after a burst", test_publication_after_a_burst},
    {NULL, NULL},
};
const struct unit_suite suite_cohort_send = {"cohort_send", tests};
