/*
 * cohort_priv.h - what the files of a cohort share of its stream.
 *
 * cohort_stream.c keeps the stream: parts become frames, frames go when nobody needs them.
 * cohort_send.c gives it to the members, cohort.c lets them go. Nobody else includes this.
 */
#ifndef TICKCAST_DOMAIN_COHORT_PRIV_H
#define TICKCAST_DOMAIN_COHORT_PRIV_H

#include "domain/cohort.h"
#include "protocol/push.h"

#include <stdint.h>

static inline struct cohort_entry *cohort_entry_at(const struct cohort *c, uint32_t index)
{
    return &c->ring[(c->ring_first + index) & (c->ring_cap - 1)];
}

static inline uint64_t cohort_entry_start(const struct cohort *c, uint32_t index)
{
    const struct cohort_entry *e = cohort_entry_at(c, index);
    return e->end - e->frame->len;
}

/* Index of the first entry that ends behind a stream offset; ring_count when there is none. */
uint32_t cohort_entry_behind(const struct cohort *c, uint64_t offset);

static inline struct push_part cohort_push_part(const struct cohort_part *p)
{
    return (struct push_part){.single = p->single, .missed = p->missed};
}

/* How many pending parts from `from` on go into one message, and how many bytes they are. */
uint32_t cohort_measure_run(const struct cohort *c, uint64_t from, size_t *bytes);

/* Lets go of the parts before a number. */
void cohort_trim_parts(struct cohort *c, uint64_t before);

/* Lets go of all that no member needs any more. */
void cohort_trim(struct cohort *c);

#endif
