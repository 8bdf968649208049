/*
 * subscription_set.c - ordered lists of subscriptions: sort, merge, remove.
 */
#include "domain/subscription_set.h"

#include "base/mem.h"
#include "domain/session.h"

#include <stdlib.h>
#include <string.h>

static int compare_ids(const void *a, const void *b)
{
    uint64_t x = ((const struct cohort_sub *)a)->channel->id;
    uint64_t y = ((const struct cohort_sub *)b)->channel->id;
    return x < y ? -1 : x > y;
}

void subs_sort(struct cohort_sub *list, uint32_t count)
{
    qsort(list, count, sizeof *list, compare_ids);
}

static struct subs merge(const struct cohort_sub *have, uint32_t have_count,
                         const struct cohort_sub *added, uint32_t count)
{
    struct subs all = {.list = mem_alloc((have_count + count + 1) * sizeof *all.list)};
    uint32_t i = 0, j = 0;
    while (i < have_count || j < count) {
        bool take_added =
            i == have_count || (j < count && added[j].channel->id <= have[i].channel->id);
        if (take_added && i < have_count && added[j].channel == have[i].channel)
            i++;
        all.list[all.count++] = take_added ? added[j++] : have[i++];
    }
    return all;
}

struct subs subs_union(const struct cohort *c, const struct cohort_sub *added, uint32_t count)
{
    return merge(c != NULL ? c->subs : NULL, c != NULL ? c->sub_count : 0, added, count);
}

uint32_t subs_count_wanted(const struct session *s)
{
    struct subs all = subs_union(s->cohort, NULL, 0);
    for (const struct list *at = s->requests.next; at != &s->requests; at = at->next) {
        const struct sub_request *r = list_entry(at, struct sub_request, in_session);
        struct subs more = merge(all.list, all.count, r->subs, r->count);
        free(all.list);
        all = more;
    }
    free(all.list);
    return all.count;
}

struct cohort_sub *subs_find(struct cohort_sub *list, uint32_t count,
                             const struct hub_channel *channel)
{
    uint32_t low = 0, high = count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (list[mid].channel->id < channel->id)
            low = mid + 1;
        else
            high = mid;
    }
    return low < count && list[low].channel == channel ? &list[low] : NULL;
}

bool subs_remove(struct subs *set, const struct hub_channel *channel)
{
    struct cohort_sub *found = subs_find(set->list, set->count, channel);
    if (found == NULL)
        return false;
    size_t behind = (size_t)(set->list + set->count - found) - 1;
    memmove(found, found + 1, behind * sizeof *found);
    set->count--;
    return true;
}
