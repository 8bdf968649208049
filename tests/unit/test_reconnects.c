/*
 * test_reconnects.c - who came back how often, for how long that is remembered, and how many are.
 */
#include "domain/reconnects.h"

#include "unit.h"

#include <stdio.h>
#include <string.h>

#define MINUTE_MS 60000u
#define START_MS  (1000u * RECONNECTS_WINDOW_MS)

static uint32_t note(struct reconnects *r, const char *name, uint64_t now_ms)
{
    return reconnects_note(r, slice_str(name), now_ms);
}

static uint32_t count(const struct reconnects *r, const char *name, uint64_t now_ms)
{
    return reconnects_count(r, slice_str(name), now_ms);
}

static void it_counts_returns_by_name(void)
{
    struct reconnects r;
    reconnects_init(&r, 10);
    CU_ASSERT_EQUAL(count(&r, "session:a", START_MS), 0);
    CU_ASSERT_EQUAL(note(&r, "session:a", START_MS), 0);
    CU_ASSERT_EQUAL(note(&r, "session:a", START_MS + 1), 1);
    CU_ASSERT_EQUAL(note(&r, "session:b", START_MS + 2), 0);
    CU_ASSERT_EQUAL(note(&r, "session:a", START_MS + 3), 2);
    CU_ASSERT_EQUAL(count(&r, "session:a", START_MS + 3), 2);
    CU_ASSERT_EQUAL(count(&r, "session:b", START_MS + 3), 0);
    reconnects_fini(&r);
}

static void a_return_is_forgotten_within_the_hour(void)
{
    struct reconnects r;
    reconnects_init(&r, 10);
    note(&r, "u", START_MS);
    CU_ASSERT_EQUAL(note(&r, "u", START_MS + MINUTE_MS), 1);
    CU_ASSERT_EQUAL(note(&r, "u", START_MS + 30 * MINUTE_MS), 2);
    CU_ASSERT_EQUAL(count(&r, "u", START_MS + 50 * MINUTE_MS), 2);
    CU_ASSERT_EQUAL(count(&r, "u", START_MS + 61 * MINUTE_MS), 1);
    CU_ASSERT_EQUAL(count(&r, "u", START_MS + 91 * MINUTE_MS), 0);
    CU_ASSERT_EQUAL(count(&r, "u", START_MS + 100 * RECONNECTS_WINDOW_MS), 0);
    reconnects_fini(&r);
}

static void who_comes_every_20_minutes_has_three(void)
{
    struct reconnects r;
    reconnects_init(&r, 10);
    uint64_t now_ms = START_MS;
    uint32_t had = note(&r, "u", now_ms);
    for (int i = 0; i < 50; i++)
        had = note(&r, "u", now_ms += 20 * MINUTE_MS);
    CU_ASSERT_EQUAL(had, 3);
    reconnects_fini(&r);
}

static void who_stays_away_for_an_hour_is_new(void)
{
    struct reconnects r;
    reconnects_init(&r, 10);
    note(&r, "u", START_MS);
    note(&r, "u", START_MS);
    CU_ASSERT_EQUAL(note(&r, "u", START_MS + RECONNECTS_WINDOW_MS), 0);
    CU_ASSERT_EQUAL(note(&r, "u", START_MS + RECONNECTS_WINDOW_MS), 1);
    reconnects_fini(&r);
}

static void the_least_recently_seen_goes_first(void)
{
    struct reconnects r;
    char name[32];
    reconnects_init(&r, 3);
    note(&r, "kept", START_MS);
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof name, "session:%d", i);
        CU_ASSERT_EQUAL(note(&r, name, START_MS), 0);
        CU_ASSERT_EQUAL(note(&r, "kept", START_MS), (uint32_t)i + 1);
        CU_ASSERT(r.names.count <= 3);
    }
    CU_ASSERT_EQUAL(note(&r, "session:99", START_MS), 1);
    CU_ASSERT_EQUAL(note(&r, "session:1", START_MS), 0);
    reconnects_fini(&r);
}

static void those_not_seen_for_an_hour_are_let_go(void)
{
    struct reconnects r;
    char name[32];
    reconnects_init(&r, 1000);
    for (int i = 0; i < 1000; i++) {
        snprintf(name, sizeof name, "%d", i);
        note(&r, name, START_MS);
    }
    for (int i = 0; i < 400; i++)
        note(&r, "later", START_MS + RECONNECTS_WINDOW_MS);
    CU_ASSERT_EQUAL(r.names.count, 1);
    reconnects_fini(&r);
}

static void odd_names_are_not_counted(void)
{
    struct reconnects r;
    char name[RECONNECTS_NAME_MAX + 2];
    memset(name, 'x', sizeof name);
    name[sizeof name - 1] = '\0';
    reconnects_init(&r, 10);
    for (int i = 0; i < 3; i++) {
        CU_ASSERT_EQUAL(note(&r, "", START_MS), 0);
        CU_ASSERT_EQUAL(note(&r, name, START_MS), 0);
    }
    CU_ASSERT_EQUAL(r.names.count, 0);
    name[RECONNECTS_NAME_MAX] = '\0';
    note(&r, name, START_MS);
    CU_ASSERT_EQUAL(note(&r, name, START_MS), 1);
    reconnects_fini(&r);
}

static void a_flood_of_returns_saturates(void)
{
    struct reconnects r;
    reconnects_init(&r, 10);
    uint32_t had = 0;
    for (int i = 0; i < 70000; i++)
        had = note(&r, "u", START_MS);
    CU_ASSERT_EQUAL(had, UINT16_MAX);
    reconnects_fini(&r);
}

static const struct unit_test tests[] = {
    {"it counts returns by name", it_counts_returns_by_name},
    {"a return is forgotten within the hour", a_return_is_forgotten_within_the_hour},
    {"who comes every 20 minutes has three", who_comes_every_20_minutes_has_three},
    {"who stays away for an hour is new", who_stays_away_for_an_hour_is_new},
    {"the least recently seen goes first", the_least_recently_seen_goes_first},
    {"those not seen for an hour are let go", those_not_seen_for_an_hour_are_let_go},
    {"odd names are not counted", odd_names_are_not_counted},
    {"a flood of returns saturates", a_flood_of_returns_saturates},
    {NULL, NULL},
};
const struct unit_suite suite_reconnects = {"reconnects", tests};
