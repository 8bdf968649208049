/*
 * cohort_gate.c - how often a subscription's updates pass: max_rate and batch_ms.
 *
 *      max_rate   u──> passes   u u u . . . . |──> the newest passes, `missed` 2   . . . u──> passes
 *                 └───────── interval ────────┘ (trailing flush)
 *      batch_ms         u u u . . . |──> `latest`: the newest; `all`: all three, together
 *                 └───── window ────┘
 *
 * A gate that holds something back waits on the cohort's list, ordered by when it is due; one timer
 * per cohort follows the first of them. Updates of mode latest are not kept: when the gate opens,
 * the channel's newest value passes. Gates are shared by all members; who came while something was
 * held back is in the channel's notes (hub.h).
 *
 * Phases: markets move all at once, and clients that got their first update together would all get
 * the second together, one interval later. The first wait of a gate is therefore longer by a part
 * that depends on the cohort, the following ones are exact.
 */
#include "base/mem.h"
#include "domain/cohort.h"
#include "domain/hub.h"

#include <stdlib.h>

#define SPREAD_PART 8 /* the first wait is longer by at most this part of the interval */
#define HELD_FIRST  8
#define HELD_MAX    65536 /* publications held back by one gate: more pass early */

static uint64_t now_ms(const struct cohort *c)
{
    return loop_now_ms(c->hub->worker->loop);
}

static uint32_t gate_interval_ms(const struct cohort_sub *sub)
{
    uint32_t batch_ms = (uint32_t)sub->channel->ns->batch_ms;
    /* Rounded up: at most so many. */
    uint32_t rate_ms = sub->max_rate != 0 ? (1000 + sub->max_rate - 1) / sub->max_rate : 0;
    return batch_ms > rate_ms ? batch_ms : rate_ms;
}

void cohort_make_gates(struct cohort *c)
{
    bool any = false;
    for (uint32_t i = 0; i < c->sub_count && !any; i++)
        any = gate_interval_ms(&c->subs[i]) != 0;
    if (!any)
        return;
    c->gates = mem_zalloc(c->sub_count * sizeof *c->gates);
    for (uint32_t i = 0; i < c->sub_count; i++) {
        struct cohort_gate *g = &c->gates[i];
        list_init(&g->waiting);
        g->interval_ms = gate_interval_ms(&c->subs[i]);
        g->is_batch = c->subs[i].channel->ns->batch_ms != 0;
        g->sent = c->subs[i].channel->count;
    }
}

bool cohort_has_present_gates(const struct cohort *c)
{
    for (uint32_t i = 0; i < c->sub_count; i++) {
        uint32_t interval_ms = c->gates != NULL ? c->gates[i].interval_ms : 0;
        bool is_batch = c->gates != NULL && c->gates[i].is_batch;
        if (gate_interval_ms(&c->subs[i]) != interval_ms ||
            (c->subs[i].channel->ns->batch_ms != 0) != is_batch)
            return false;
    }
    return true;
}

static void drop_held(struct cohort_gate *g)
{
    for (uint32_t i = 0; i < g->held_count; i++)
        item_unref(g->held[i]);
    free(g->held);
    g->held = NULL;
    g->held_count = g->held_cap = 0;
}

void cohort_drop_gates(struct cohort *c)
{
    for (uint32_t i = 0; c->gates != NULL && i < c->sub_count; i++)
        drop_held(&c->gates[i]);
    free(c->gates);
    c->gates = NULL;
    list_init(&c->waiting);
    wheel_cancel(&c->hub->gates.wheel, &c->gate_timer);
}

uint64_t cohort_position(const struct cohort *c, uint32_t sub_index)
{
    return cohort_is_gated(c, sub_index) ? c->gates[sub_index].sent
                                         : c->subs[sub_index].channel->count;
}

/* --- waiting --------------------------------------------------------------------------------- */

static void follow_first(struct cohort *c)
{
    if (list_is_empty(&c->waiting)) {
        wheel_cancel(&c->hub->gates.wheel, &c->gate_timer);
        return;
    }
    uint64_t due_ms = list_entry(c->waiting.next, struct cohort_gate, waiting)->due_ms;
    if (!wheel_timer_is_set(&c->gate_timer) || c->gate_timer.due_ms != due_ms)
        hub_set_gate_timer(c->hub, c, due_ms);
}

/* Enters a gate into the list by its due time: nearly always that is the end. */
static void wait_until(struct cohort *c, struct cohort_gate *g, uint64_t due_ms)
{
    g->due_ms = due_ms;
    struct list *before = c->waiting.prev;
    while (before != &c->waiting &&
           list_entry(before, struct cohort_gate, waiting)->due_ms > due_ms)
        before = before->prev;
    list_append(before->next, &g->waiting); /* in front of the one behind it */
    if (c->waiting.next == &g->waiting)
        follow_first(c);
}

static uint64_t spread_ms(const struct cohort *c, struct cohort_gate *g)
{
    if (g->is_steady)
        return 0;
    g->is_steady = true;
    return c->set_hash % (g->interval_ms / SPREAD_PART + 1);
}

/* --- passing --------------------------------------------------------------------------------- */

static void pass(struct cohort *c, uint32_t sub_index, struct item *item)
{
    struct cohort_gate *g = &c->gates[sub_index];
    struct hub_channel *channel = c->subs[sub_index].channel;
    uint64_t missed = item->count - g->sent - 1;
    enum publication_form form = hub_form(channel, item, g->sent);
    hub_append_noted(channel, c, sub_index, item, form, missed);
    g->sent = item->count;
}

/* What the gate has held back goes into the stream. */
static void release(struct cohort *c, uint32_t sub_index)
{
    struct cohort_gate *g = &c->gates[sub_index];
    const struct hub_channel *channel = c->subs[sub_index].channel;
    for (uint32_t i = 0; i < g->held_count; i++)
        pass(c, sub_index, g->held[i]);
    drop_held(g);
    if (c->subs[sub_index].mode == MODE_LATEST && channel->last != NULL &&
        channel->last->count > g->sent)
        pass(c, sub_index, channel->last);
    if (c->subs[sub_index].mode == MODE_LATEST && channel->plain != NULL &&
        channel->plain->count > g->sent)
        pass(c, sub_index, channel->plain);
    list_remove(&g->waiting);
    g->open_ms = now_ms(c) + g->interval_ms;
}

static void hold_back(struct cohort_gate *g, struct item *item)
{
    if (g->held_count == g->held_cap) {
        g->held_cap = g->held_cap != 0 ? g->held_cap * 2 : HELD_FIRST;
        g->held = mem_realloc(g->held, g->held_cap * sizeof(struct item *));
    }
    g->held[g->held_count++] = item_ref(item);
}

void cohort_gate_take(struct cohort *c, uint32_t sub_index, struct item *item)
{
    struct cohort_gate *g = &c->gates[sub_index];
    bool is_waiting = !list_is_empty(&g->waiting);
    if (!g->is_batch && !is_waiting && now_ms(c) >= g->open_ms) {
        pass(c, sub_index, item);
        g->open_ms = now_ms(c) + g->interval_ms;
        g->is_steady = false;
        return;
    }
    if (c->subs[sub_index].mode == MODE_ALL)
        hold_back(g, item);
    if (!is_waiting) {
        uint64_t from_ms = g->is_batch ? now_ms(c) + g->interval_ms : g->open_ms;
        wait_until(c, g, from_ms + spread_ms(c, g));
    } else if (g->held_count >= HELD_MAX) {
        release(c, sub_index);
        follow_first(c);
    }
}

void cohort_gates_on_due(struct cohort *c)
{
    while (!list_is_empty(&c->waiting)) {
        struct cohort_gate *g = list_entry(c->waiting.next, struct cohort_gate, waiting);
        if (g->due_ms > now_ms(c))
            break;
        release(c, (uint32_t)(g - c->gates));
    }
    follow_first(c);
}

void cohort_gates_release_all_mode(struct cohort *c)
{
    for (uint32_t i = 0; c->gates != NULL && i < c->sub_count; i++) {
        if (c->gates[i].held_count > 0)
            release(c, i);
    }
    if (c->gates != NULL)
        follow_first(c);
}

/* --- over a change of the set ------------------------------------------------------------------- */

struct kept_gate {
    uint64_t channel_id;
    struct cohort_gate gate; /* without what it is linked to */
    bool is_waiting;
};

struct gates_kept cohort_gates_keep(const struct cohort *c)
{
    struct gates_kept kept = {0};
    if (c == NULL || c->gates == NULL)
        return kept;
    kept.list = mem_alloc(c->sub_count * sizeof *kept.list);
    for (uint32_t i = 0; i < c->sub_count; i++) {
        if (!cohort_is_gated(c, i) || c->subs[i].mode != MODE_LATEST)
            continue;
        kept.list[kept.count++] =
            (struct kept_gate){.channel_id = c->subs[i].channel->id,
                               .gate = c->gates[i],
                               .is_waiting = !list_is_empty(&c->gates[i].waiting)};
    }
    return kept;
}

static void give_back(struct cohort *c, struct cohort_gate *g, const struct kept_gate *before)
{
    if (g->interval_ms != before->gate.interval_ms || g->is_batch != before->gate.is_batch)
        return;
    g->sent = before->gate.sent;
    g->open_ms = before->gate.open_ms;
    g->is_steady = before->gate.is_steady;
    if (before->is_waiting && list_is_empty(&g->waiting)) /* in the same set it waits already */
        wait_until(c, g, before->gate.due_ms);
}

void cohort_gates_give_back(struct cohort *c, const struct gates_kept *kept)
{
    uint32_t at = 0;
    for (uint32_t i = 0; c->gates != NULL && i < c->sub_count; i++) {
        while (at < kept->count && kept->list[at].channel_id < c->subs[i].channel->id)
            at++;
        if (at < kept->count && kept->list[at].channel_id == c->subs[i].channel->id &&
            c->subs[i].mode == MODE_LATEST)
            give_back(c, &c->gates[i], &kept->list[at]);
    }
}

void cohort_gates_forget(struct gates_kept *kept)
{
    free(kept->list);
    *kept = (struct gates_kept){0};
}
