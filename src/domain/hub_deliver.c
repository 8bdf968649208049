/*
 * hub_deliver.c - the way of a publication from the bus to the cohorts.
 *
 *      publication ──> item (counted) ──> notes: sessions for whom this one is special
 *                                    ├──> followers: appended to each cohort's stream
 *                                    └──> gates: appended later, or replaced by a newer one
 */
#include "base/mem.h"
#include "domain/hub.h"
#include "domain/hub_priv.h"
#include "domain/session.h"
#include "domain/session_recovery.h"

#include <stdlib.h>

#define PREFETCH_COHORTS 4 /* looked ahead, each way */

/* --- forms and frames ------------------------------------------------------------------------ */

struct frame *hub_frame(struct hub *h, struct publication *p, struct cohort_format format,
                        enum publication_form form)
{
    if (format.raw)
        form = FORM_RAW;
    if (!format.deflate)
        return publication_frame(p, form, NULL);
    struct frame *f = publication_frame(p, form, &h->worker->compressor);
    if (f != NULL && !ws_deflate_fits(f->plain_bytes, format.window_bits))
        return publication_frame(p, form, NULL);
    return f;
}

enum publication_form hub_form(const struct hub_channel *c, const struct item *item, uint64_t seen)
{
    if (item->p->seq == 0)
        return FORM_JSON;
    if (seen < c->snap_count && c->snap_count <= item->count)
        return FORM_JSON_SNAP;
    return seen < c->epoch_count ? FORM_JSON_EPOCH : FORM_JSON;
}

/* --- compressed once per turn --------------------------------------------------------------- */

#define PACKS 64 /* slots; a collision only costs another compression */

struct hub_pack {
    uint64_t hash;
    struct frame *plain; /* a reference; NULL: empty */
    struct frame *packed;
};

struct hub_pack *hub_packs_new(void)
{
    return mem_zalloc(PACKS * sizeof(struct hub_pack));
}

void hub_packs_forget(struct hub *h)
{
    if (!h->has_packs)
        return;
    h->has_packs = false;
    for (unsigned i = 0; i < PACKS; i++) {
        if (h->packs[i].plain == NULL)
            continue;
        frame_unref(h->packs[i].plain);
        frame_unref(h->packs[i].packed);
        h->packs[i].plain = NULL;
    }
}

struct frame *hub_pack(struct hub *h, struct frame *plain, struct cohort_format format)
{
    if (!format.deflate || !ws_deflate_fits(plain->plain_bytes, format.window_bits))
        return plain;
    uint64_t hash = map_hash(frame_payload(plain));
    struct hub_pack *slot = &h->packs[hash % PACKS];
    if (slot->plain != NULL && slot->hash == hash &&
        slice_equal(frame_payload(slot->plain), frame_payload(plain))) {
        frame_unref(plain);
        return frame_ref(slot->packed);
    }
    struct frame *packed = compressor_pack(&h->worker->compressor, plain);
    if (slot->plain != NULL) {
        frame_unref(slot->plain);
        frame_unref(slot->packed);
    }
    *slot = (struct hub_pack){.hash = hash, .plain = plain, .packed = frame_ref(packed)};
    h->has_packs = true;
    return packed;
}

/* --- notes ------------------------------------------------------------------------------------ */

void hub_add_note(struct hub_channel *c, struct session *s, const struct standing *at)
{
    notes_add(&c->notes, s, at);
    s->note_count++;
}

static void remove_note(struct hub_channel *c, uint32_t place)
{
    c->notes.list[place].session->note_count--;
    notes_remove(&c->notes, place);
}

bool hub_take_note(struct hub_channel *c, struct session *s, struct standing *at)
{
    uint32_t place = s->note_count > 0 ? notes_find(&c->notes, s) : NOTES_NONE;
    if (place == NOTES_NONE)
        return false;
    *at = c->notes.list[place].at;
    remove_note(c, place);
    return true;
}

void hub_drop_note(struct hub_channel *c, struct session *s)
{
    struct standing at;
    if (hub_take_note(c, s, &at))
        standing_fini(&at);
}

/* Gives a noted session the item by itself, or spares it one that it has. True when the note has
 * done its work. */
static bool serve_note(struct hub_channel *c, struct channel_note *note, struct item *item)
{
    struct session *s = note->session;
    cohort_settle(s->cohort, s->member_index);
    if (item->count <= note->at.seen || standing_covers(&note->at, item->p))
        return false;
    enum publication_form form = hub_form(c, item, note->at.seen);
    uint64_t missed = standing_take(&note->at, item, &form);
    session_queue_item(s, item, form, missed);
    /* A plain message says nothing about the sequence: the first number is still to come. */
    return standing_is_plain(&note->at);
}

static void step_over(const struct session *s)
{
    struct cohort *cohort = s->cohort;
    cohort_seal(cohort);
    cohort->members[s->member_index].cursor = cohort->head;
}

/* Sessions that were served by themselves while an item is appended. */
struct served {
    struct session **list;
    uint32_t count;
};

static bool is_noted_in(const struct hub_channel *c, const struct channel_note *note,
                        const struct cohort *only)
{
    struct cohort *cohort = note->session->cohort;
    if (only != NULL)
        return cohort == only;
    return !cohort_is_gated(cohort, (uint32_t)(cohort_find(cohort, c) - cohort->subs));
}

/* only NULL: the notes of all cohorts without a gate on the channel. */
static struct served serve_notes(struct hub_channel *c, const struct cohort *only,
                                 struct item *item)
{
    struct served served = {.list = mem_alloc(c->notes.count * sizeof(struct session *))};
    for (uint32_t i = c->notes.count; i > 0; i--) {
        struct channel_note *note = &c->notes.list[i - 1];
        if (!is_noted_in(c, note, only))
            continue;
        served.list[served.count++] = note->session;
        if (serve_note(c, note, item))
            remove_note(c, i - 1);
    }
    return served;
}

static void step_over_all(struct served *served)
{
    for (uint32_t i = 0; i < served->count; i++)
        step_over(served->list[i]);
    free(served->list);
}

void hub_append_noted(struct hub_channel *c, struct cohort *cohort, uint32_t sub_index,
                      struct item *item, enum publication_form form, uint64_t missed)
{
    struct served served = {0};
    if (c->notes.count > 0)
        served = serve_notes(c, cohort, item);
    cohort_append(cohort, item, sub_index, form, missed);
    step_over_all(&served);
}

/* --- recorders ------------------------------------------------------------------------------ */

void hub_add_recorder(struct sub_request *r, uint32_t recovery)
{
    struct recovery *v = &r->recoveries[recovery];
    struct hub_channel *c = v->channel;
    if (c->recorder_count == c->recorder_cap) {
        c->recorder_cap = c->recorder_cap != 0 ? c->recorder_cap * 2 : 2;
        c->recorders = mem_realloc(c->recorders, c->recorder_cap * sizeof *c->recorders);
    }
    v->back = c->recorder_count;
    c->recorders[c->recorder_count++] =
        (struct channel_recorder){.request = r, .recovery = recovery};
}

void hub_drop_recorder(struct sub_request *r, uint32_t recovery)
{
    const struct recovery *v = &r->recoveries[recovery];
    struct hub_channel *c = v->channel;
    struct channel_recorder last = c->recorders[--c->recorder_count];
    c->recorders[v->back] = last;
    last.request->recoveries[last.recovery].back = v->back;
    if (c->recorder_count > 0)
        return;
    free(c->recorders);
    c->recorders = NULL;
    c->recorder_cap = 0;
}

/* --- delivery ------------------------------------------------------------------------------- */

static void replace(struct item **slot, struct item *item)
{
    if (*slot != NULL)
        item_unref(*slot);
    *slot = item != NULL ? item_ref(item) : NULL;
}

static bool is_epoch(const struct hub_channel *c, const struct publication *p)
{
    return slice_equal(slice_of(c->epoch, c->epoch_len), publication_epoch(p));
}

/* Else it is a plain message on a stamped channel: shown, and no part of the sequence. */
static bool is_value(const struct publication *p)
{
    return p->seq != 0 || p->cleared;
}

/* The channel goes on by one publication. Returns its item. */
static struct item *advance(struct hub_channel *c, struct publication *p, uint64_t gap)
{
    c->count += gap + 1;
    c->is_doubtful = c->is_doubtful && !is_value(p);
    struct item *item = item_new(publication_ref(p), c->count);
    if (p->seq != 0 && !is_epoch(c, p)) {
        c->epoch_len = p->epoch_len;
        memcpy(c->epoch, p->epoch, p->epoch_len);
        c->epoch_count = c->count;
    }
    if (p->is_snapshot)
        c->snap_count = c->count;
    return item;
}

static void keep_newest(struct hub_channel *c, struct item *item)
{
    bool is_last = is_value(item->p);
    replace(is_last ? &c->last : &c->plain, item);
    if (is_last)
        replace(&c->plain, NULL);
}

/* A patch is for those who have the publication right before, and nothing else to be told. */
static bool has_patch(const struct hub_channel *c, struct publication *p,
                      enum publication_form form)
{
    if (c->delta_count == 0 || form != FORM_JSON || p->seq == 0)
        return false;
    if (c->last == NULL || c->last->p->seq + 1 != p->seq)
        return false;
    publication_prepare_patch(p, c->last->p);
    return true;
}

/* Cohorts of their own lie all over the memory: the loop asks for them before it needs them, first
 * the cohort, then where its next part goes. */
static void prefetch_followers(const struct hub_channel *c, uint32_t index)
{
    if (index + 2 * PREFETCH_COHORTS < c->cohort_count)
        __builtin_prefetch(c->cohorts[index + 2 * PREFETCH_COHORTS].cohort, 1);
    if (index + PREFETCH_COHORTS < c->cohort_count)
        cohort_prefetch_part(c->cohorts[index + PREFETCH_COHORTS].cohort);
}

static void append_to_followers(const struct hub_channel *c, struct item *item,
                                enum publication_form form, bool with_patch, uint64_t gap)
{
    for (uint32_t i = 0; i < c->cohort_count; i++) {
        const struct channel_follower *f = &c->cohorts[i];
        prefetch_followers(c, i);
        if (f->is_gated)
            cohort_gate_take(f->cohort, f->sub_index, item);
        else
            cohort_append(f->cohort, item, f->sub_index,
                          with_patch && f->delta ? FORM_JSON_PATCH : form, gap);
    }
}

void hub_deliver(struct hub *h, struct publication *p, uint64_t gap)
{
    struct hub_channel *c = map_get(&h->channels, p->channel_hash, publication_channel(p));
    if (c == NULL)
        return; /* the last follower left while it was on its way */
    if (!c->live && c->last == NULL && c->plain == NULL)
        gap = 0; /* lost before anybody here was told anything */
    uint64_t seen = c->count;
    struct item *item = advance(c, p, gap);
    enum publication_form form = hub_form(c, item, seen);
    bool with_patch = gap == 0 && has_patch(c, p, form);
    keep_newest(c, item);
    for (uint32_t i = c->recorder_count; i > 0; i--) /* one that overflows takes itself off */
        session_record(c->recorders[i - 1].request, c->recorders[i - 1].recovery, item, gap);
    struct served served = {0};
    if (c->notes.count > 0)
        served = serve_notes(c, NULL, item);
    append_to_followers(c, item, form, with_patch, gap);
    step_over_all(&served);
    item_unref(item);
}
