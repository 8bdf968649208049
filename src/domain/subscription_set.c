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

bool subs_remove(struct subs *set, const struct hub_channel *channel)
{
    for (uint32_t i = 0; i < set->count; i++) {
        if (set->list[i].channel != channel)
            continue;
        memmove(&set->list[i], &set->list[i + 1], (--set->count - i) * sizeof *set->list);
        return true;
    }
    return false;
}
