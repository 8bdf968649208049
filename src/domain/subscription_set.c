/*
 * subscription_set.c - ordered lists of subscriptions: sort, merge, remove.
 */
#include "domain/subscription_set.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

static int compare_ids(const void *a, const void *b)
{
    uint64_t x = ((const struct cohort_sub *)a)->channel->id;
    uint64_t y = ((const struct cohort_sub *)b)->channel->id;
    return x < y ? -1 : x > y;
}

uint32_t subs_sort(struct hub *h, struct cohort_sub *list, uint32_t count)
{
    if (count < 2)
        return count;
    qsort(list, count, sizeof *list, compare_ids);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (kept > 0 && list[kept - 1].channel == list[i].channel) {
            hub_unpin(h, list[kept - 1].channel);
            kept--;
        }
        list[kept++] = list[i];
    }
    return kept;
}

struct subs subs_union(const struct cohort *c, const struct cohort_sub *added, uint32_t count)
{
    uint32_t have = c != NULL ? c->sub_count : 0;
    struct subs all = {.list = mem_alloc((have + count + 1) * sizeof *all.list)};
    uint32_t i = 0, j = 0;
    while (i < have || j < count) {
        bool take_added =
            i == have || (j < count && added[j].channel->id <= c->subs[i].channel->id);
        if (take_added && i < have && added[j].channel == c->subs[i].channel)
            i++;
        all.list[all.count++] = take_added ? added[j++] : c->subs[i++];
    }
    return all;
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
