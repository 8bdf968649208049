/*
 * test_cohort_send.c - how a cohort's stream is given to its members: what is one write, what enters
 * the ring, what is counted.
 */
#include "base/mem.h"
#include "domain/cohort.h"
#include "domain/session.h"
#include "scene.h"
#include "unit.h"

#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

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
    scene_join_with(n, &a, &(struct scene_socket){.query = query, .buffer = WIDE});
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

/* A socket that fails in the middle of the members costs those around it nothing, and is not tried
 * again. */
static void test_failed_send_harms_no_other(void)
{
    struct scene *n = scene_new(NULL);
    const struct metrics *m = &n->at.worker->metrics;
    const struct scene_socket wide = {.query = "?channels=chat:A", .buffer = WIDE};
    struct scene_client c[3];
    for (int i = 0; i < 3; i++)
        scene_join_with(n, &c[i], &wide);
    scene_live(n, "chat:A", 0, NULL);
    for (int i = 0; i < 3; i++) {
        scene_hear(n, &c[i]);
        scene_forget(&c[i]);
    }
    CU_ASSERT_EQUAL(shutdown(c[1].fd, SHUT_RD), 0); /* nothing to read there, and no room */
    uint64_t writes = metrics_get(m, METRIC_WRITES);
    publish_of_all_sizes(n, 1);
    scene_turn(n);
    CU_ASSERT_EQUAL(metrics_get(m, METRIC_WRITES), writes + 9); /* four for each of two, and one */
    CU_ASSERT_EQUAL(metrics_get(m, METRIC_ENDED_LOST), 1);
    CU_ASSERT_EQUAL(metrics_get(m, METRIC_CONNECTIONS), 2);
    CU_ASSERT_EQUAL(metrics_get(m, METRIC_DELIVERIES), 16);
    CU_ASSERT_EQUAL(metrics_get(m, METRIC_STREAM_BYTES), 0);
    scene_publish(n, "chat:A", 9, "9");
    CU_ASSERT_EQUAL(scene_count(scene_hear(n, &c[0]), "{\"n\":"), 7);
    CU_ASSERT_EQUAL(scene_count(scene_hear(n, &c[0]), "\"data\":9"), 1);
    CU_ASSERT_STRING_EQUAL(scene_hear(n, &c[0]), scene_hear(n, &c[2]));
    CU_ASSERT_EQUAL(metrics_get(m, METRIC_DELIVERIES), 18);
    struct metrics *of_all[] = {&n->at.worker->metrics};
    uint64_t sum_ns;
    CU_ASSERT_EQUAL(metrics_histogram_sum(of_all, 1, HISTOGRAM_DELIVERY, &sum_ns), 18);
    for (int i = 0; i < 3; i++)
        scene_leave(n, &c[i]);
    scene_free(n);
}

/* A compressing cohort sends a lone publication without a ring, and as it would stand in it: who
 * cannot take all of it goes on within the same frame. `missed` makes it another one. */
static void test_compressed_alone(void)
{
    struct scene *n = scene_new(NULL);
    const struct metrics *m = &n->at.worker->metrics;
    struct scene_client a, b;
    static char text[60000];
    for (size_t i = 0, len = 0; len < sizeof text - 16; i++) /* which shrinks, but not to nothing */
        len += (size_t)snprintf(text + len, 16, "%s%zu", i == 0 ? "[" : ",", i * i % 9973);
    strcat(text, "]");
    scene_join_with(
        n, &a,
        &(struct scene_socket){.query = "?channels=chat:A", .buffer = WIDE, .deflate = true});
    scene_live(n, "chat:A", 0, NULL);
    scene_hear(n, &a);
    uint64_t before = a.bytes;
    scene_publish(n, "chat:A", 1, text);
    scene_turn(n);
    CU_ASSERT_EQUAL(cohort_of(n, "chat:A")->ring_cap, 0);
    scene_hear(n, &a);
    CU_ASSERT(a.bytes - before > 8192 && a.bytes - before < sizeof text / 2 + 8192);
    scene_join_with(n, &b, &(struct scene_socket){.query = "?channels=chat:A", .deflate = true});
    scene_publish(n, "chat:A", 2, "2"); /* which says the epoch to who came last */
    scene_hear(n, &a);
    scene_hear(n, &b);
    for (uint64_t seq = 3; seq < 10; seq += 3) { /* the third and the fourth time with `missed` */
        scene_forget(&a);
        scene_forget(&b);
        struct publication **list = mem_alloc(sizeof(struct publication *));
        list[0] = scene_make((struct publication_head){.gap = seq == 3 ? 0 : 2}, "chat:A", "e1",
                             seq, text);
        hub_post_publications(n->at.hub, list, 1);
        scene_turn(n);
        CU_ASSERT_EQUAL(cohort_of(n, "chat:A")->held_count, 1);
        const char *by_a = scene_hear(n, &a);
        CU_ASSERT_EQUAL(scene_count(by_a, "\"data\":["), 1);
        CU_ASSERT_EQUAL(scene_count(by_a, "\"missed\":2"), seq != 3);
        CU_ASSERT_STRING_EQUAL(by_a, scene_hear(n, &b));
        CU_ASSERT_EQUAL(metrics_get(m, METRIC_STREAM_BYTES), 0); /* without another flush */
    }
    scene_leave(n, &a);
    scene_leave(n, &b);
    scene_free(n);
}

/* Held before its second batch and past the mark with the third: what came in the first, before
 * there was a ring, it has had. The kernel doubles the buffer, which the first batch fills. */
static void test_lagging_behind_a_whole_batch(void)
{
    struct scene *n = scene_new("limits.soft_bytes=60000");
    struct scene_client a;
    static char big[60000];
    snprintf(big, sizeof big, "{\"x\":\"%0*d\"}", (int)sizeof big - 20, 7);
    scene_join_with(n, &a,
                    &(struct scene_socket){.query = "?channels=quote:A,quote:B", .buffer = 56000});
    scene_live(n, "quote:A", 0, NULL);
    scene_live(n, "quote:B", 0, NULL);
    scene_hear(n, &a);
    scene_publish(n, "quote:A", 1, "{\"n\":1}");
    for (uint64_t seq = 1; seq <= 6; seq++) /* two in a batch */
        scene_publish(n, "quote:B", seq, big);
    scene_turn(n);
    CU_ASSERT_EQUAL(cohort_of(n, "quote:A")->lagging_count, 1);
    const char *heard = scene_hear(n, &a);
    CU_ASSERT_EQUAL(scene_count(heard, "{\"n\":1}"), 1);
    CU_ASSERT_EQUAL(scene_count(heard, "\"seq\":6,"), 1);
    scene_leave(n, &a);
    scene_free(n);
}

/* The end of a value makes no frame for raw clients. One that was pending when a channel was taken
 * from the set says nothing about the channel that has its place now. */
static void test_lagging_behind_another_set(void)
{
    struct scene *n = scene_new("limits.soft_bytes=60000");
    struct scene_client a;
    static char big[60000];
    snprintf(big, sizeof big, "{\"x\":\"%0*d\"}", (int)sizeof big - 20, 7);
    scene_join_with(n, &a,
                    &(struct scene_socket){.query = "?format=raw&channels=quote:A,quote:B,quote:C",
                                           .buffer = 56000});
    scene_live(n, "quote:A", 0, NULL);
    scene_live(n, "quote:B", 0, NULL);
    scene_live(n, "quote:C", 0, NULL);
    scene_hear(n, &a);
    scene_publish(n, "quote:B", 1, big);
    scene_publish(n, "quote:B", 2, "{\"n\":2}");
    scene_publish(n, "quote:C", 1, big); /* which fills the socket */
    scene_turn(n);
    const struct cohort *c = cohort_of(n, "quote:A");
    CU_ASSERT_EQUAL(c->held_count, 0); /* not yet */
    n->at.hub->pace_ms = 50;
    scene_publish(n, "quote:A", 1, NULL);
    scene_turn(n);
    session_end_subscription(c->members[0].conn->upper, slice_str("quote:A"));
    for (uint64_t seq = 2; seq <= 5; seq++)
        scene_publish(n, "quote:C", seq, big);
    for (int ms = 0; ms < 5000 && c->lagging_count == 0; ms++) {
        usleep(1000);
        scene_turn(n);
    }
    CU_ASSERT_EQUAL(c->lagging_count, 1);
    CU_ASSERT_EQUAL(scene_count(scene_hear(n, &a), "{\"n\":2}"), 1);
    scene_leave(n, &a);
    scene_free(n);
}

/* The end of a value is nothing to raw clients, and nothing is kept of it for one that is held up. */
static void test_ends_cost_nothing_among_raw(void)
{
    struct scene *n = scene_new(NULL);
    struct scene_client a;
    scene_join(n, &a, "?format=raw&channels=chat:A");
    scene_live(n, "chat:A", 0, NULL);
    scene_hear(n, &a);
    publish_of_all_sizes(n, 1);
    scene_turn(n);
    const struct cohort *c = cohort_of(n, "chat:A");
    CU_ASSERT_EQUAL(c->held_count, 1);
    uint64_t kept = c->part_end - c->part_first;
    CU_ASSERT(kept > 0);
    for (uint64_t seq = 9; seq < 100; seq++) {
        scene_publish(n, "chat:A", seq, NULL);
        scene_turn(n);
    }
    CU_ASSERT_EQUAL(c->part_end - c->part_first, kept);
    CU_ASSERT_EQUAL(scene_count(scene_hear(n, &a), "\"n\":"), 7);
    scene_leave(n, &a);
    scene_free(n);
}

/* Who comes between two publications of a turn has the second one, and one that is settled between
 * them has both: all are counted once, whatever way they went. */
static void test_counted_once_on_every_way(void)
{
    struct scene *n = scene_new(NULL);
    const struct metrics *m = &n->at.worker->metrics;
    struct scene_client a, b;
    scene_join(n, &a, "?channels=chat:A");
    scene_live(n, "chat:A", 0, NULL);
    scene_hear(n, &a);
    scene_publish(n, "chat:A", 1, "1");
    scene_connect(n, &b, &(struct scene_socket){.query = "?channels=chat:A"});
    scene_publish(n, "chat:A", 2, "2");
    scene_turn(n);
    scene_publish(n, "chat:A", 3, "3"); /* nobody is special any more */
    scene_turn(n);
    CU_ASSERT_EQUAL(metrics_get(m, METRIC_DELIVERIES), 5);
    scene_publish(n, "chat:A", 4, "4");
    hub_post_feed(n->at.hub, true, NULL); /* which settles everybody */
    scene_publish(n, "chat:A", 5, "5");
    scene_turn(n);
    CU_ASSERT_EQUAL(metrics_get(m, METRIC_DELIVERIES), 9);
    CU_ASSERT_EQUAL(scene_count(scene_hear(n, &a), "\"data\":"), 5);
    CU_ASSERT_EQUAL(scene_count(scene_hear(n, &b), "\"data\":"), 4);
    scene_leave(n, &a);
    scene_leave(n, &b);
    scene_free(n);
}

/* How often each member was served first, by an edge-triggered epoll set: it tells sockets in the
 * order in which something came for them. */
static void check_first_places(struct scene *n, int order, unsigned members)
{
    enum { ROUNDS = 20 };
    unsigned firsts[16] = {0};
    struct epoll_event told[16];
    for (unsigned i = 0; i < ROUNDS * members; i++) {
        static uint64_t seq;
        scene_publish(n, "chat:A", ++seq, "1");
        scene_turn(n);
        CU_ASSERT_EQUAL_FATAL(epoll_wait(order, told, 16, 0), (int)members);
        firsts[told[0].data.u32]++;
    }
    for (unsigned i = 0; i < members; i++)
        CU_ASSERT(firsts[i] >= ROUNDS - 3 && firsts[i] <= ROUNDS + 3);
}

/* Whoever is served first has each quote earlier than all others: everybody is in turn, however
 * many there are. */
static void test_everybody_is_served_first_in_turn(void)
{
    enum { MEMBERS = 10 };
    struct scene *n = scene_new(NULL);
    struct scene_client c[MEMBERS];
    int order = epoll_create1(0);
    for (uint32_t i = 0; i < MEMBERS; i++) {
        scene_join_with(n, &c[i],
                        &(struct scene_socket){.query = "?channels=chat:A", .buffer = WIDE});
        struct epoll_event ev = {.events = EPOLLIN | EPOLLET, .data.u32 = i};
        CU_ASSERT_EQUAL_FATAL(epoll_ctl(order, EPOLL_CTL_ADD, c[i].fd, &ev), 0);
    }
    scene_live(n, "chat:A", 0, NULL);
    scene_turn(n);
    for (unsigned members = MEMBERS; members > 0; members--) {
        epoll_wait(order, (struct epoll_event[MEMBERS]){0}, MEMBERS, 0);
        check_first_places(n, order, members);
        scene_leave(n, &c[members - 1]);
    }
    close(order);
    scene_free(n);
}

/* What was kept for one who left is kept for nobody. */
static void test_nothing_is_kept_for_who_left(void)
{
    struct scene *n = scene_new(NULL);
    const struct metrics *m = &n->at.worker->metrics;
    struct scene_client a, b;
    scene_join_with(n, &a, &(struct scene_socket){.query = "?channels=chat:A", .buffer = WIDE});
    scene_join(n, &b, "?channels=chat:A");
    scene_live(n, "chat:A", 0, NULL);
    scene_hear(n, &a);
    publish_of_all_sizes(n, 1);
    scene_turn(n);
    CU_ASSERT_EQUAL(cohort_of(n, "chat:A")->held_count, 1);
    CU_ASSERT(metrics_get(m, METRIC_STREAM_BYTES) > 100000);
    scene_leave(n, &b);
    CU_ASSERT_EQUAL(metrics_get(m, METRIC_STREAM_BYTES), 0);
    scene_hear(n, &a);
    scene_leave(n, &a);
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
        scene_join_with(n, &c[i], &(struct scene_socket){.query = query, .buffer = WIDE});
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
    {"a lone publication, compressed", test_compressed_alone},
    {"lagging behind a whole batch", test_lagging_behind_a_whole_batch},
    {"lagging behind another set", test_lagging_behind_another_set},
    {"ends cost nothing among raw clients", test_ends_cost_nothing_among_raw},
    {"counted once on every way", test_counted_once_on_every_way},
    {"everybody is served first in turn", test_everybody_is_served_first_in_turn},
    {"nothing is kept for who left", test_nothing_is_kept_for_who_left},
    {"a publication after a burst", test_publication_after_a_burst},
    {NULL, NULL},
};
const struct unit_suite suite_cohort_send = {"cohort_send", tests};
