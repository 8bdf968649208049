/*
 * test_list.c - the intrusive list.
 */
#include "base/list.h"

#include "unit.h"

struct item {
    int id;
    struct list link;
};

static void setup(struct list *head, struct item *items, int count)
{
    list_init(head);
    for (int i = 0; i < count; i++) {
        items[i].id = i;
        list_init(&items[i].link);
        list_append(head, &items[i].link);
    }
}

/* Asserts the ids on the list, in order, both ways round. */
static void check(const struct list *head, const int *ids, int count)
{
    const struct list *at = head->next;
    for (int i = 0; i < count; i++, at = at->next) {
        CU_ASSERT_PTR_NOT_EQUAL_FATAL(at, head);
        CU_ASSERT_EQUAL(list_entry(at, struct item, link)->id, ids[i]);
        CU_ASSERT_PTR_EQUAL(at->next->prev, at);
        CU_ASSERT_PTR_EQUAL(at->prev->next, at);
    }
    CU_ASSERT_PTR_EQUAL(at, head);
    CU_ASSERT_EQUAL(list_is_empty(head), count == 0);
}

static void appends_and_shifts_in_order(void)
{
    struct list head;
    struct item items[3];
    setup(&head, items, 3);
    check(&head, (const int[]){0, 1, 2}, 3);
    for (int i = 0; i < 3; i++) {
        struct list *first = list_shift(&head);
        CU_ASSERT_PTR_EQUAL(first, &items[i].link);
        CU_ASSERT(list_is_empty(first));
    }
    CU_ASSERT_PTR_NULL(list_shift(&head));
}

static void removing_twice_is_harmless(void)
{
    struct list head;
    struct item items[3];
    setup(&head, items, 3);
    list_remove(&items[1].link);
    list_remove(&items[1].link);
    check(&head, (const int[]){0, 2}, 2);
    list_append(&head, &items[1].link);
    check(&head, (const int[]){0, 2, 1}, 3);
}

static void splices_to_the_end(void)
{
    struct list a, b;
    struct item first[2], second[2];
    setup(&a, first, 2);
    setup(&b, second, 2);
    second[0].id = 7;
    second[1].id = 8;
    list_splice(&a, &b);
    check(&a, (const int[]){0, 1, 7, 8}, 4);
    check(&b, NULL, 0);
    list_splice(&a, &b); /* nothing to move */
    check(&a, (const int[]){0, 1, 7, 8}, 4);
    list_splice(&b, &a); /* into an empty list */
    check(&b, (const int[]){0, 1, 7, 8}, 4);
    check(&a, NULL, 0);
}

static const struct unit_test tests[] = {
    {"appends and shifts in order", appends_and_shifts_in_order},
    {"removing twice is harmless", removing_twice_is_harmless},
    {"splices to the end", splices_to_the_end},
    {NULL, NULL},
};
const struct unit_suite suite_list = {"list", tests};
