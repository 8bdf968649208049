/*
 * test_positions.c - clients that come back with positions: what is recovered, and what is not.
 */
#include "base/mem.h"
#include "domain/hub.h"
#include "scene.h"
#include "unit.h"

#include <stdio.h>

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

static const struct unit_test tests[] = {
    {"what several commands recover fits the limit", test_recovered_by_several_commands},
    {NULL, NULL},
};
const struct unit_suite suite_positions = {"positions", tests};
