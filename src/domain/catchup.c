/*
 * catchup.c - falling behind, and catching up with values instead of the stream.
 *
 *      HELD ──past the soft mark──> LAGGING: seen[] = what each subscription has had last
 *                                      │  publications go by and cost nothing
 *      socket drains ──> rounds of at most PUSH_BYTES_MAX: for each subscription that is behind,
 *                        the channel's newest value, with `missed` ──> nothing left: IN_STEP
 */
#include "domain/catchup.h"

#include "base/mem.h"
#include "domain/hub.h"
#include "domain/session.h"
#include "protocol/messages.h"
#include "protocol/push.h"

#include <stdlib.h>

#define ROUND_ITEMS 256 /* in one message */

struct catchup *catchup_new(uint32_t count, const struct catchup *before)
{
    struct catchup *cu = mem_zalloc(sizeof *cu + count * sizeof(struct standing));
    cu->count = count;
    if (before != NULL) {
        cu->is_slow = before->is_slow;
        cu->was_told = before->was_told;
        cu->peak_bytes = before->peak_bytes;
    }
    return cu;
}

void catchup_free(struct catchup *cu)
{
    for (uint32_t i = 0; cu != NULL && i < cu->count; i++)
        standing_fini(&cu->at[i]);
    free(cu);
}

/* --- standings ------------------------------------------------------------------------------ */

struct standing catchup_standing(struct session *s, uint32_t sub_index)
{
    uint64_t position = cohort_position(s->cohort, sub_index);
    struct standing at = {.seen = position, .has_base = true};
    if (s->catchup != NULL) {
        at = s->catchup->at[sub_index];
        s->catchup->at[sub_index].since = NULL;
    } else if (hub_take_note(s->cohort->subs[sub_index].channel, s, &at) && at.seen < position) {
        at.seen = position;
    }
    return at;
}

const struct standing *catchup_peek(const struct session *s, uint32_t index)
{
    struct notes *notes = &s->cohort->subs[index].channel->notes;
    if (s->catchup != NULL)
        return &s->catchup->at[index];
    uint32_t place = s->note_count > 0 ? notes_find(notes, s) : NOTES_NONE;
    return place != NOTES_NONE ? &notes->list[place].at : NULL;
}

/* Is there something that the stream of the cohort will not bring? */
static bool is_behind(const struct cohort *c, uint32_t index, const struct standing *at)
{
    return at->wants_snap ||
           (c->subs[index].mode == MODE_LATEST && at->seen < cohort_position(c, index));
}

static bool is_any_behind(const struct session *s, const struct catchup *cu)
{
    for (uint32_t i = 0; i < s->cohort->sub_count; i++) {
        if (is_behind(s->cohort, i, &cu->at[i]))
            return true;
    }
    return false;
}

/* In step again. What is special about the next item of a channel goes into a note: that it must
 * carry the epoch, or that a gate still holds back what this client has already. */
static void rejoin(struct session *s)
{
    struct cohort *c = s->cohort;
    for (uint32_t i = 0; i < c->sub_count; i++) {
        const struct standing *at = &s->catchup->at[i];
        if (!standing_is_plain(at) || at->seen > cohort_position(c, i))
            hub_add_note(c->subs[i].channel, s, at); /* which takes what it owns */
    }
    free(s->catchup);
    s->catchup = NULL;
    cohort_set_state(c, s->member_index, s->conn->blocked ? MEMBER_HELD : MEMBER_IN_STEP);
}

void catchup_begin(struct session *s, struct catchup *cu)
{
    catchup_free(s->catchup);
    s->catchup = cu;
    cohort_set_state(s->cohort, s->member_index, MEMBER_LAGGING);
    if (!cu->is_slow && !is_any_behind(s, cu))
        rejoin(s);
    else
        catchup_serve(s);
}

/* --- falling behind ------------------------------------------------------------------------- */

/* Takes back what the parts that were never sent would have brought. Those of mode `all` are kept:
 * they go to the private queue. */
static void take_back(struct cohort *c, uint32_t index, struct catchup *cu, uint64_t from)
{
    struct session *s = c->members[index].conn->upper;
    for (uint64_t i = from; i < c->part_sealed; i++) {
        const struct cohort_part *p = cohort_part(c, i);
        struct standing *at = &cu->at[p->sub_index];
        if (c->subs[p->sub_index].mode == MODE_ALL)
            session_queue_item(s, p->item, p->form, p->missed);
        else if (at->seen >= p->item->count)
            at->seen = p->item->count - p->missed - 1;
    }
}

void catchup_begin_slow(struct cohort *c, uint32_t index, uint64_t waiting)
{
    struct cohort_member *m = &c->members[index];
    struct session *s = m->conn->upper;
    struct catchup *cu = catchup_new(c->sub_count, NULL);
    cu->is_slow = true;
    cu->peak_bytes = waiting;
    for (uint32_t i = 0; i < c->sub_count; i++)
        cu->at[i] = catchup_standing(s, i);
    take_back(c, index, cu, cohort_part_behind(c, m->cursor));
    s->catchup = cu;
    cohort_set_state(c, index, MEMBER_LAGGING);
    metrics_add(&c->hub->worker->metrics, METRIC_SLOW_EPISODES, 1);
}

/* --- publications that must not be skipped -------------------------------------------------- */

static bool has_value(const struct hub_channel *c)
{
    return c->last != NULL && !c->last->p->cleared;
}

/* The newest value of mode `all`, or that it has ended: what is owed where the client lacks what lies
 * before. NULL: it has that. */
static struct item *state_owed(const struct hub_channel *c, const struct standing *at,
                               enum publication_form *form)
{
    if (c->last == NULL || standing_covers(at, c->last->p))
        return NULL;
    *form = has_value(c) ? FORM_JSON_SNAP : hub_form(c, c->last, at->seen);
    return has_value(c) || c->last->count > at->seen ? c->last : NULL;
}

static void queue_taken(struct session *s, struct standing *at, struct item *item,
                        enum publication_form form)
{
    uint64_t missed = standing_take(at, item, &form);
    session_queue_item(s, item, form, missed);
}

/* The full state is still to come, and must not cost what is published meanwhile: a new value is
 * the state, and in front of a plain message goes the one that there is. */
static void queue_part_with_state(struct session *s, struct standing *at,
                                  const struct cohort_part *p)
{
    const struct hub_channel *c = s->cohort->subs[p->sub_index].channel;
    const struct publication *pub = p->item->p;
    enum publication_form form;
    bool is_plain = pub->seq == 0 && !pub->cleared;
    if (is_plain && (c->last == NULL || c->last->count > p->item->count)) {
        session_queue_item(s, p->item, FORM_JSON, 0);
        at->seen++; /* the state stands for one less */
        return;
    }
    at->wants_snap = false;
    if (!is_plain) {
        form = pub->cleared ? hub_form(c, p->item, at->seen) : FORM_JSON_SNAP;
        queue_taken(s, at, p->item, form);
        return;
    }
    struct item *state = state_owed(c, at, &form);
    if (state != NULL)
        queue_taken(s, at, state, form);
    queue_taken(s, at, p->item, FORM_JSON);
}

static void queue_part(struct session *s, struct standing *at, const struct cohort_part *p)
{
    if (at->seen >= p->item->count || standing_covers(at, p->item->p))
        return;
    if (at->wants_snap)
        queue_part_with_state(s, at, p);
    else
        queue_taken(s, at, p->item, p->form);
}

static void queue_all_mode(struct session *s, uint64_t from, uint64_t to)
{
    const struct cohort *c = s->cohort;
    for (uint64_t i = from; i < to; i++) {
        const struct cohort_part *p = cohort_part(c, i);
        if (c->subs[p->sub_index].mode == MODE_ALL)
            queue_part(s, &s->catchup->at[p->sub_index], p);
    }
    uint64_t waiting = conn_waiting_bytes(s->conn);
    const struct config *config = c->hub->worker->config;
    if (waiting > (uint64_t)config->limits.hard_bytes ||
        conn_blocked_ms(s->conn) > (uint64_t)config->limits.hard_age_ms)
        session_end_slow(s, waiting);
}

void catchup_queue_all_mode(struct cohort *c, uint64_t from, uint64_t to)
{
    for (uint32_t i = 0; i < c->member_count; i++) {
        if (c->members[i].state == MEMBER_LAGGING)
            queue_all_mode(c->members[i].conn->upper, from, to);
    }
}

/* --- catching up ---------------------------------------------------------------------------- */

/* What one session gets, put together in messages. */
struct round {
    struct push_part parts[ROUND_ITEMS];
    struct item *items[ROUND_ITEMS]; /* borrowed: the channels hold them for the whole round */
    uint8_t forms[ROUND_ITEMS];
    uint32_t count;       /* in the message at hand; raw: in the round */
    size_t message_bytes; /* in the message at hand */
    size_t bytes;         /* in the round */
};

static void send_message(struct session *s, struct round *r)
{
    uint32_t count = r->count;
    size_t bytes = r->message_bytes;
    r->count = 0;
    r->message_bytes = 0;
    if (count == 0 || s->format.raw)
        return;
    if (count == 1 && r->parts[0].missed == 0) {
        session_queue_item(s, r->items[0], r->forms[0], 0);
        return;
    }
    struct push w;
    push_open(&w, bytes, count);
    for (uint32_t i = 0; i < count; i++)
        push_put(&w, &r->parts[i]);
    session_queue_push(s, push_close(&w));
}

static void add_item(struct session *s, struct round *r, struct standing *at, struct item *item,
                     enum publication_form form)
{
    uint64_t missed = standing_take(at, item, &form);
    metrics_add(session_metrics(s), METRIC_CONFLATED, missed);
    if (s->format.raw) {
        session_queue_item(s, item, FORM_RAW, 0);
        r->bytes += item->p->payload_bytes;
        r->count++;
        return;
    }
    const struct push_part part = {.single = publication_frame(item->p, form, NULL),
                                   .missed = missed};
    size_t more = push_part_bytes(&part);
    if (r->count > 0 && r->message_bytes + more > PUSH_BYTES_MAX)
        send_message(s, r);
    r->message_bytes += more;
    r->bytes += more;
    r->parts[r->count] = part;
    r->items[r->count] = item;
    r->forms[r->count] = (uint8_t)form;
    r->count++;
}

/* The full state, where it is owed; all the rest was queued when it came. */
static void serve_all_mode(struct session *s, struct round *r, uint32_t index)
{
    const struct hub_channel *channel = s->cohort->subs[index].channel;
    struct standing *at = &s->catchup->at[index];
    if (!at->wants_snap)
        return;
    enum publication_form form;
    struct item *state = state_owed(channel, at, &form);
    at->wants_snap = false;
    if (state != NULL)
        add_item(s, r, at, state, form);
    if (at->seen < cohort_position(s->cohort, index))
        at->seen = cohort_position(s->cohort, index);
}

/* What one subscription is owed now: nothing, the full state, or the newest value. */
static void serve_one(struct session *s, struct round *r, uint32_t index)
{
    const struct cohort *c = s->cohort;
    const struct hub_channel *channel = c->subs[index].channel;
    struct standing *at = &s->catchup->at[index];
    if (c->subs[index].mode == MODE_ALL) {
        serve_all_mode(s, r, index);
        return;
    }
    if (at->wants_snap) {
        at->wants_snap = false;
        if (has_value(channel) && !standing_covers(at, channel->last->p))
            add_item(s, r, at, channel->last, FORM_JSON_SNAP);
    }
    if (cohort_position(c, index) <= at->seen)
        return;
    if (channel->last != NULL && channel->last->count > at->seen &&
        !standing_covers(at, channel->last->p))
        add_item(s, r, at, channel->last, hub_form(channel, channel->last, at->seen));
    if (channel->plain != NULL && channel->plain->count > at->seen)
        add_item(s, r, at, channel->plain, FORM_JSON);
}

/* Goes over the subscriptions from where the last round stopped. True when all were looked at. */
static bool fill_round(struct session *s, struct round *r)
{
    struct catchup *cu = s->catchup;
    uint32_t count = s->cohort->sub_count;
    for (uint32_t looked = 0; looked < count; looked++) {
        /* A subscription may bring two items. */
        if (r->bytes >= PUSH_BYTES_MAX || r->count + 2 > ROUND_ITEMS)
            return false;
        serve_one(s, r, cu->next);
        cu->next = cu->next + 1 < count ? cu->next + 1 : 0;
    }
    return true;
}

static void tell_slow(struct session *s)
{
    struct catchup *cu = s->catchup;
    if (!cu->is_slow || cu->was_told || s->format.raw)
        return;
    cu->was_told = true;
    uint64_t conflated = 0;
    for (uint32_t i = 0; i < s->cohort->sub_count; i++) {
        uint64_t position = cohort_position(s->cohort, i);
        if (s->cohort->subs[i].mode == MODE_LATEST && position > cu->at[i].seen + 1)
            conflated += position - cu->at[i].seen - 1;
    }
    session_send(s, message_slow(cu->peak_bytes, conflated));
}

/* What a gate of mode `all` holds back must not come after a snapshot that covers it. */
static void release_before_snapshots(const struct session *s)
{
    struct cohort *c = s->cohort;
    for (uint32_t i = 0; c->gates != NULL && i < c->sub_count; i++) {
        if (s->catchup->at[i].wants_snap && c->gates[i].held_count > 0) {
            cohort_gates_release_all_mode(c);
            return;
        }
    }
}

void catchup_serve(struct session *s)
{
    struct round r;
    if (!s->conn->blocked)
        release_before_snapshots(s);
    cohort_seal(s->cohort); /* what a value covers must not come again from the stream */
    if (s->conn->blocked)
        return;
    tell_slow(s);
    r.count = 0;
    r.message_bytes = r.bytes = 0;
    bool is_done = fill_round(s, &r);
    send_message(s, &r);
    if (is_done)
        rejoin(s);
    else
        conn_call_when_drained(s->conn);
}

/* --- before the time ------------------------------------------------------------------------ */

static void queue_held(struct session *s, struct standing *at, const struct hub_channel *c,
                       struct item *item)
{
    if (item != NULL && item->count > at->seen && !standing_covers(at, item->p))
        queue_taken(s, at, item, hub_form(c, item, at->seen));
}

void catchup_queue_held(struct session *s)
{
    struct cohort *c = s->cohort;
    if (c == NULL || s->catchup != NULL || list_is_empty(&c->waiting))
        return;
    struct catchup *cu = catchup_new(c->sub_count, NULL);
    for (uint32_t i = 0; i < c->sub_count; i++) {
        const struct hub_channel *channel = c->subs[i].channel;
        cu->at[i] = catchup_standing(s, i);
        if (c->subs[i].mode != MODE_LATEST)
            continue;
        queue_held(s, &cu->at[i], channel, channel->last);
        queue_held(s, &cu->at[i], channel, channel->plain);
    }
    s->catchup = cu;
    rejoin(s);
}
