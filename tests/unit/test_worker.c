/*
 * test_worker.c - sockets that are given to a worker.
 */
#include "base/mem.h"
#include "scene.h"
#include "unit.h"

#include <stdlib.h>

#define CROWD 300 /* more than are read in the turn that brings them */

/* Whose request is there is upgraded in the turn that brings it; a crowd takes more than one, so
 * that others get theirs. */
static void test_crowd_takes_more_than_a_turn(void)
{
    struct scene *n = scene_new(NULL);
    const struct metrics *m = &n->at.worker->metrics;
    struct scene_client *c = mem_zalloc(CROWD * sizeof *c);
    scene_connect(n, &c[0], &(struct scene_socket){.query = ""});
    scene_turn(n);
    CU_ASSERT_EQUAL(metrics_get(m, METRIC_CONNECTIONS), 1);
    for (int i = 1; i < CROWD; i++)
        scene_connect(n, &c[i], &(struct scene_socket){.query = ""});
    scene_turn(n);
    CU_ASSERT_EQUAL(metrics_get(m, METRIC_SOCKETS), CROWD);
    CU_ASSERT(metrics_get(m, METRIC_CONNECTIONS) > 1);
    CU_ASSERT(metrics_get(m, METRIC_CONNECTIONS) < CROWD);
    scene_turn(n);
    CU_ASSERT_EQUAL(metrics_get(m, METRIC_CONNECTIONS), CROWD);
    for (int i = 0; i < CROWD; i++)
        scene_leave(n, &c[i]);
    free(c);
    scene_free(n);
}

/* The node is ending: nobody begins a session that would only be ended with the others. */
static void test_given_too_late(void)
{
    struct scene *n = scene_new(NULL);
    struct scene_client c;
    scene_turn(n);
    scene_connect(n, &c, &(struct scene_socket){.query = "?channels=quote:A"});
    worker_abort_all(n->at.worker);
    CU_ASSERT_EQUAL(metrics_get(&n->at.worker->metrics, METRIC_CONNECTIONS_TOTAL), 0);
    CU_ASSERT_EQUAL(metrics_get(&n->at.worker->metrics, METRIC_SOCKETS), 0);
    scene_leave(n, &c);
    scene_free(n);
}

static const struct unit_test tests[] = {
    {"a crowd takes more than a turn", test_crowd_takes_more_than_a_turn},
    {"given too late", test_given_too_late},
    {NULL, NULL},
};
const struct unit_suite suite_worker = {"worker", tests};
