/*
 * test_notes.c - notes are found whatever came and went before.
 */
#include "base/rng.h"
#include "domain/notes.h"
#include "unit.h"

#include <string.h>

#define SESSIONS 2000

/* A session's address is all that counts: these stand for SESSIONS of them. */
static char places[SESSIONS][16];
static bool is_noted[SESSIONS];

static struct session *session_of(uint32_t i)
{
    return (struct session *)(void *)places[i];
}

static void toggle(struct notes *n, uint32_t i)
{
    uint32_t place = notes_find(n, session_of(i));
    CU_ASSERT_EQUAL_FATAL(place != NOTES_NONE, is_noted[i]);
    if (is_noted[i]) {
        CU_ASSERT_EQUAL_FATAL(n->list[place].at.seen, i);
        notes_remove(n, place);
    } else {
        notes_add(n, session_of(i), &(struct standing){.seen = i});
    }
    is_noted[i] = !is_noted[i];
}

static void check_all(struct notes *n, uint32_t count)
{
    uint32_t found = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t place = notes_find(n, session_of(i));
        CU_ASSERT_EQUAL_FATAL(place != NOTES_NONE, is_noted[i]);
        if (place == NOTES_NONE)
            continue;
        CU_ASSERT_EQUAL(n->list[place].at.seen, i);
        found++;
    }
    CU_ASSERT_EQUAL(found, n->count);
}

/* Between none and all of few and many sessions, up and down. */
static void found_among_those_that_come_and_go(void)
{
    struct rng rng;
    struct notes n = {0};
    rng_init_seed(&rng, 7);
    for (uint32_t count = 3; count <= SESSIONS; count = count * 3 + 1) {
        memset(is_noted, 0, sizeof is_noted);
        for (uint32_t i = 0; i < 20 * count; i++)
            toggle(&n, (uint32_t)rng_below(&rng, count));
        check_all(&n, count);
        for (uint32_t i = 0; i < count; i++)
            if (is_noted[i])
                toggle(&n, i);
        CU_ASSERT_PTR_NULL(n.list);
        CU_ASSERT_PTR_NULL(n.index);
    }
}

static void subscribing_makes_no_index(void)
{
    struct notes n = {0};
    memset(is_noted, 0, sizeof is_noted);
    for (uint32_t i = 0; i < SESSIONS; i++) {
        notes_add(&n, session_of(i), &(struct standing){.seen = i});
        is_noted[i] = true;
    }
    CU_ASSERT_PTR_NULL(n.index);
    check_all(&n, SESSIONS);
    CU_ASSERT_PTR_NOT_NULL(n.index);
    notes_fini(&n);
}

static const struct unit_test tests[] = {
    {"found among those that come and go", found_among_those_that_come_and_go},
    {"subscribing makes no index", subscribing_makes_no_index},
    {NULL, NULL},
};
const struct unit_suite suite_notes = {"notes", tests};
