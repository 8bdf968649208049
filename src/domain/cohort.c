/*
 * cohort.c - a cohort's subscriptions and its members.
 */
#include "domain/cohort.h"

#include "base/mem.h"
#include "domain/cohort_priv.h"
#include "domain/hub.h"
#include "domain/session.h"
#include "domain/subscription_set.h"

#include <assert.h>
#include <stdlib.h>

#define MEMBERS_FIRST 2

/* --- the set ------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 33)) * 0xff51afd7ed558ccdu;
    x = (x ^ (x >> 33)) * 0xc4ceb9fe1a85ec53u;
    return x ^ (x >> 33);
}

uint64_t cohort_sub_hash(const struct cohort_sub *sub)
{
    uint64_t options = (uint64_t)sub->max_rate << 9 | (uint64_t)sub->delta << 8 | sub->mode;
    return mix(sub->channel->hash ^ mix(options + 1));
}

uint64_t cohort_format_hash(struct cohort_format format)
{
    return mix(1u + format.raw + 2u * format.deflate + 4u * format.window_bits);
}

static void enter_channel(struct cohort *c, uint32_t index)
{
    struct hub_channel *channel = c->subs[index].channel;
    if (channel->cohort_count == channel->cohort_cap) {
        channel->cohort_cap = channel->cohort_cap != 0 ? channel->cohort_cap * 2 : 2;
        channel->cohorts =
            mem_realloc(channel->cohorts, channel->cohort_cap * sizeof *channel->cohorts);
    }
    c->subs[index].back = channel->cohort_count;
    channel->cohorts[channel->cohort_count++] =
        (struct channel_follower){.cohort = c,
                                  .sub_index = index,
                                  .is_gated = cohort_is_gated(c, index),
                                  .delta = c->subs[index].delta};
    channel->delta_count += c->subs[index].delta;
    channel->pins++;
}

static void leave_channel(struct cohort *c, uint32_t index)
{
    struct hub_channel *channel = c->subs[index].channel;
    uint32_t at = c->subs[index].back;
    struct channel_follower last = channel->cohorts[--channel->cohort_count];
    channel->cohorts[at] = last;
    last.cohort->subs[last.sub_index].back = at;
    channel->delta_count -= c->subs[index].delta;
    hub_unpin(c->hub, channel);
}

static void enter_all(struct cohort *c, const struct cohort_sub *subs, uint32_t count)
{
    c->subs = mem_dup(subs, count * sizeof *subs);
    c->sub_count = count;
    c->has_latest = c->has_all = false;
    for (uint32_t i = 0; i < count; i++) {
        c->has_latest = c->has_latest || subs[i].mode == MODE_LATEST;
        c->has_all = c->has_all || subs[i].mode == MODE_ALL;
    }
    cohort_make_gates(c);
    for (uint32_t i = 0; i < count; i++)
        enter_channel(c, i);
    metrics_add(&c->hub->worker->metrics, METRIC_SUBSCRIPTIONS,
                (uint64_t)c->sub_count * c->member_count);
}

static void leave_all(struct cohort *c)
{
    metrics_add(&c->hub->worker->metrics, METRIC_SUBSCRIPTIONS,
                -((uint64_t)c->sub_count * c->member_count));
    for (uint32_t i = 0; i < c->sub_count; i++)
        leave_channel(c, i);
    cohort_drop_gates(c);
}

struct cohort *cohort_new(struct hub *hub, struct cohort_format format,
                          const struct cohort_sub *subs, uint32_t count, uint64_t set_hash)
{
    struct cohort *c = mem_zalloc(sizeof *c);
    c->hub = hub;
    c->format = format;
    c->set_hash = set_hash;
    list_init(&c->due);
    list_init(&c->waiting);
    wheel_timer_init(&c->pace);
    wheel_timer_init(&c->gate_timer);
    enter_all(c, subs, count);
    metrics_add(&hub->worker->metrics, METRIC_COHORTS, 1);
    return c;
}

void cohort_free(struct cohort *c)
{
    assert(c->member_count == 0);
    leave_all(c);
    free(c->subs);
    for (uint32_t i = 0; i < c->ring_count; i++)
        cohort_drop_frame(c, c->ring[(c->ring_first + i) & (c->ring_cap - 1)].frame);
    for (uint64_t i = c->part_first; i < c->part_end; i++)
        item_unref(c->parts[i & (c->part_cap - 1)].item);
    list_remove(&c->due);
    wheel_cancel(&c->hub->pacing.wheel, &c->pace);
    metrics_add(&c->hub->worker->metrics, METRIC_COHORTS, (uint64_t)-1);
    free(c->ring);
    free(c->parts);
    free(c->members);
    free(c);
}

void cohort_set_subs(struct cohort *c, const struct cohort_sub *subs, uint32_t count,
                     uint64_t set_hash)
{
    struct cohort_sub *old = c->subs;
    uint32_t old_count = c->sub_count;
    /* Nobody needs the stream so far, and its parts name their subscriptions by place. */
    c->flushed = c->head;
    c->unflushed = 0;
    cohort_trim(c);
    /* Pinned over the change, so that a channel in both sets does not die in between. */
    for (uint32_t i = 0; i < old_count; i++)
        old[i].channel->pins++;
    leave_all(c);
    enter_all(c, subs, count);
    c->set_hash = set_hash;
    for (uint32_t i = 0; i < old_count; i++)
        hub_unpin(c->hub, old[i].channel);
    free(old);
}

struct cohort_sub *cohort_find(const struct cohort *c, const struct hub_channel *channel)
{
    return subs_find(c->subs, c->sub_count, channel);
}

/* --- members ------------------------------------------------------------------------------- */

uint32_t cohort_join(struct cohort *c, struct conn *conn)
{
    cohort_seal(c); /* what is pending was published before */
    if (c->member_count == c->member_cap) {
        c->member_cap =
            c->member_cap != 0 ? c->member_cap + (c->member_cap + 1) / 2 : MEMBERS_FIRST;
        c->members = mem_realloc(c->members, c->member_cap * sizeof *c->members);
    }
    c->members[c->member_count] = (struct cohort_member){
        .cursor = c->head, .conn = conn, .fd = conn_fd(conn), .state = MEMBER_IN_STEP};
    if (conn->blocked)
        cohort_set_state(c, c->member_count, MEMBER_HELD);
    metrics_add(&c->hub->worker->metrics, METRIC_SUBSCRIPTIONS, c->sub_count);
    return c->member_count++;
}

static void count_state(struct cohort *c, enum member_state state, uint32_t change)
{
    if (state == MEMBER_HELD)
        c->held_count += change;
    if (state == MEMBER_LAGGING) {
        c->lagging_count += change;
        metrics_add(&c->hub->worker->metrics, METRIC_CLIENTS_LAGGING, (uint64_t)(int32_t)change);
    }
}

void cohort_leave(struct cohort *c, uint32_t index)
{
    bool was_held = c->members[index].state == MEMBER_HELD;
    count_state(c, c->members[index].state, (uint32_t)-1);
    metrics_add(&c->hub->worker->metrics, METRIC_SUBSCRIPTIONS, -(uint64_t)c->sub_count);
    struct cohort_member last = c->members[--c->member_count];
    if (index != c->member_count) {
        c->members[index] = last;
        session_set_member_index(last.conn->upper, index);
    }
    /* The channels may be quiet from now on. While others are held it costs a walk over all. */
    if (was_held && c->held_count == 0)
        cohort_trim(c);
}

void cohort_set_state(struct cohort *c, uint32_t index, enum member_state state)
{
    struct cohort_member *m = &c->members[index];
    if (m->state == MEMBER_LAGGING && state != MEMBER_LAGGING)
        m->cursor = c->head;
    count_state(c, m->state, (uint32_t)-1);
    count_state(c, state, 1);
    m->state = (uint8_t)state;
}
