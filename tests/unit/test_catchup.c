/*
 * test_catchup.c - clients that are held up: what they are owed once their socket takes bytes again.
 */
#include "domain/hub.h"
#include "scene.h"
#include "unit.h"

#include <stdio.h>
#include <string.h>

/* Larger than the socket's buffer and the soft mark. */
static const char *big_payload(void)
{
    static char big[20000];
    snprintf(big, sizeof big, "{\"x\":\"%0*d\"}", (int)sizeof big - 20, 7);
    return big;
}

static void hold_up(struct scene *n, struct scene_client *a)
{
    scene_join(n, a, "?channels=quote:A,quote:B");
    scene_live(n, "quote:A", 1, "{\"n\":1}");
    scene_live(n, "quote:B", 0, NULL);
    scene_hear(n, a);
    scene_publish(n, "quote:B", 1, big_payload()); /* the socket is full */
    scene_turn(n);
    for (uint64_t seq = 2; seq <= 4; seq++)
        scene_publish(n, "quote:A", seq, "{\"n\":4}");
    scene_publish(n, "quote:B", 2, big_payload());
    scene_turn(n);
    CU_ASSERT_EQUAL(metrics_get(&n->at.worker->metrics, METRIC_CLIENTS_LAGGING), 1);
}

/* A client that lags and changes to mode `all`: from the ack on nothing is left out, and what it is
 * told to have missed is what was left out before. */
static void check_all_mode_from_the_ack_on(bool is_together)
{
    struct scene *n = scene_new("limits.soft_bytes=10000");
    struct scene_client a;
    hold_up(n, &a);
    scene_say(&a, "{\"action\":\"subscribe\",\"channels\":[\"quote:A\"],\"mode\":\"all\"}");
    scene_turn(n);
    scene_publish(n, "quote:A", 0, "{\"plain\":0}");
    if (!is_together)
        scene_turn(n);
    for (uint64_t seq = 5; seq <= 7; seq++)
        scene_publish(n, "quote:A", seq, "{\"n\":7}");
    scene_turn(n);
    const char *heard = strstr(scene_hear(n, &a), "\"mode\":\"all\"");
    CU_ASSERT_PTR_NOT_NULL_FATAL(heard);
    CU_ASSERT_EQUAL(scene_count(heard, "{\"plain\":0}"), 1);
    CU_ASSERT_EQUAL(scene_count(heard, "{\"n\":7}"), 3);
    CU_ASSERT_EQUAL(scene_count(heard, "\"snap\":true"), 1);
    CU_ASSERT_EQUAL(scene_count(heard, "\"missed\""), 1);
    CU_ASSERT_EQUAL(scene_count(heard, is_together ? "\"seq\":5,\"ts\":1,\"snap\":true,"
                                                     "\"data\":{\"n\":7},\"missed\":3}"
                                                   : "\"seq\":4,\"ts\":1,\"snap\":true,"
                                                     "\"data\":{\"n\":4},\"missed\":2}"),
                    1);
    scene_leave(n, &a);
    scene_free(n);
}

static void test_all_mode_from_the_ack_on(void)
{
    check_all_mode_from_the_ack_on(true);
    check_all_mode_from_the_ack_on(false);
}

static const struct unit_test tests[] = {
    {"mode all from the ack on", test_all_mode_from_the_ack_on},
    {NULL, NULL},
};
const struct unit_suite suite_catchup = {"catchup", tests};
