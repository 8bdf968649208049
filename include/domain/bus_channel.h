/*
 * bus_channel.h - one channel that the node follows, and how its messages become publications.
 *
 * Owner: the main thread. Pure apart from counting: the tests feed it payloads.
 */
#ifndef TICKCAST_DOMAIN_BUS_CHANNEL_H
#define TICKCAST_DOMAIN_BUS_CHANNEL_H

#include "base/rng.h"
#include "base/wheel.h"
#include "protocol/metrics.h"
#include "protocol/publication.h"

#include <stdbool.h>
#include <stdint.h>

struct bus_channel {
    uint64_t hash;
    uint64_t workers;  /* bit i: worker i follows it */
    bool live;         /* Redis confirmed the subscription on the present link */
    bool is_stamped;   /* its publishers stamp: plain messages are shown, but not numbered */
    uint8_t epoch_len; /* 0: nothing numbered yet */
    char epoch[STAMP_EPOCH_MAX];
    uint64_t seq;              /* of the last numbered publication */
    struct publication *last;  /* its value, a reference; NULL when none or cleared */
    struct wheel_timer linger; /* set while no worker follows it */
    uint8_t name_len;
    char name[];
};

static inline struct slice bus_channel_name(const struct bus_channel *c)
{
    return slice_of(c->name, c->name_len);
}

struct bus_intake {
    struct metrics *metrics;
    struct rng rng; /* epochs of plain channels */
};

void bus_intake_init(struct bus_intake *in, struct metrics *metrics);

/*
 * Makes a publication of one message on a channel, numbers it where it is plain, and keeps it as
 * the channel's value. Returns owned, or NULL when it was counted and dropped: a stamp that does
 * not parse, bytes that are not UTF-8, a number that is not above the last one of its epoch.
 */
struct publication *bus_intake_make(struct bus_intake *in, struct bus_channel *c,
                                    struct slice message);

#endif
