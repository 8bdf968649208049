/*
 * test_session_ids.c - slots for ids, given back and taken again.
 */
#include "domain/session_ids.h"

#include "unit.h"

#include <stdlib.h>
#include <string.h>

static void make_id(unsigned n, uint8_t id[SESSION_ID_BYTES])
{
    memset(id, (int)(n % 251 + 1), SESSION_ID_BYTES);
    memcpy(id, &n, sizeof n);
}

static bool has_id(const struct session_ids *ids, uint32_t slot, unsigned n)
{
    uint8_t id[SESSION_ID_BYTES];
    make_id(n, id);
    return memcmp(session_ids_at(ids, slot), id, sizeof id) == 0;
}

static uint32_t take(struct session_ids *ids, unsigned n)
{
    uint8_t id[SESSION_ID_BYTES];
    make_id(n, id);
    return session_ids_take(ids, id);
}

static void each_has_a_slot_of_its_own(void)
{
    enum { COUNT = 1000 };
    struct session_ids ids = {0};
    uint32_t slots[COUNT];
    for (unsigned i = 0; i < COUNT; i++) {
        slots[i] = take(&ids, i);
        CU_ASSERT(slots[i] != 0);
    }
    for (unsigned i = 0; i < COUNT; i++)
        CU_ASSERT(has_id(&ids, slots[i], i));
    CU_ASSERT_EQUAL(ids.count, COUNT);
    free(ids.list);
}

static void what_was_dropped_is_taken_again(void)
{
    enum { COUNT = 100 };
    struct session_ids ids = {0};
    uint32_t slots[COUNT];
    for (unsigned i = 0; i < COUNT; i++)
        slots[i] = take(&ids, i);
    for (unsigned i = 0; i < COUNT; i += 2)
        session_ids_drop(&ids, slots[i]);
    for (unsigned i = 0; i < COUNT; i += 2)
        slots[i] = take(&ids, 1000 + i);
    for (unsigned i = 0; i < COUNT; i++)
        CU_ASSERT(has_id(&ids, slots[i], i % 2 == 0 ? 1000 + i : i));
    CU_ASSERT_EQUAL(ids.count, COUNT);
    take(&ids, 7);
    CU_ASSERT_EQUAL(ids.count, COUNT + 1);
    free(ids.list);
}

static const struct unit_test tests[] = {
    {"each has a slot of its own", each_has_a_slot_of_its_own},
    {"what was dropped is taken again", what_was_dropped_is_taken_again},
    {NULL, NULL},
};
const struct unit_suite suite_session_ids = {"session_ids", tests};
