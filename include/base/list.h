/*
 * list.h - intrusive, circular, doubly linked list.
 *
 * A head and a member are the same struct. An initialised member that is on no list points at
 * itself, so list_remove is safe to repeat.
 */
#ifndef TICKCAST_BASE_LIST_H
#define TICKCAST_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *next;
    struct list *prev;
};

#define list_entry(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

static inline void list_init(struct list *l)
{
    l->next = l->prev = l;
}

static inline bool list_is_empty(const struct list *head)
{
    return head->next == head;
}

static inline void list_append(struct list *head, struct list *member)
{
    member->prev = head->prev;
    member->next = head;
    head->prev->next = member;
    head->prev = member;
}

static inline void list_remove(struct list *member)
{
    member->prev->next = member->next;
    member->next->prev = member->prev;
    list_init(member);
}

/* Takes the first member off a list; NULL when there is none. */
static inline struct list *list_shift(struct list *head)
{
    struct list *first = head->next;
    if (first == head)
        return NULL;
    list_remove(first);
    return first;
}

/* How many members there are; looks at each. */
static inline size_t list_count(const struct list *head)
{
    size_t count = 0;
    for (const struct list *at = head->next; at != head; at = at->next)
        count++;
    return count;
}

/* Moves all members of `from` to the end of `to`; `from` is empty afterwards. */
static inline void list_splice(struct list *to, struct list *from)
{
    if (list_is_empty(from))
        return;
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    list_init(from);
}

#endif
