/*
 * subscription_set.h - arithmetic on ordered lists of subscriptions.
 *
 * A set is an array of cohort_sub ordered by channel id, each channel once. These functions move
 * no pins but those they say; owner: the worker's thread.
 */
#ifndef TICKCAST_DOMAIN_SUBSCRIPTION_SET_H
#define TICKCAST_DOMAIN_SUBSCRIPTION_SET_H

#include "domain/cohort.h"
#include "domain/hub.h"

struct subs {
    struct cohort_sub *list; /* owned by whoever holds the struct */
    uint32_t count;
};

/* Orders a list of different channels by their ids. */
void subs_sort(struct cohort_sub *list, uint32_t count);

/* What a cohort follows (NULL: nothing) together with `added`, which is ordered; where both have a
 * channel, added's options count. */
struct subs subs_union(const struct cohort *c, const struct cohort_sub *added, uint32_t count);

/* How many channels a session has, and will have with what it waits for. */
uint32_t subs_count_wanted(const struct session *s);

/* The subscription to a channel in an ordered list, or NULL. */
struct cohort_sub *subs_find(struct cohort_sub *list, uint32_t count,
                             const struct hub_channel *channel);

/* Takes a channel out; false when it was not in. */
bool subs_remove(struct subs *set, const struct hub_channel *channel);

#endif
