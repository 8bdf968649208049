/*
 * session_subscribe.c - subscribing: from the channels asked for to a place in a cohort.
 *
 * Three steps. Its channels are checked and pinned in the hub (begin); it waits until Redis has
 * confirmed the new ones, and the bus has answered for the positions that the client came back with
 * (session_recovery.c; the hub counts down); then the ack is queued, what was recovered follows, and
 * the session moves to the cohort of its new set, where it catches up with what it is owed (finish).
 * A pinned channel cannot disappear in between, whatever other clients do.
 */
#include "domain/session_commands.h"

#include "base/mem.h"
#include "domain/resume.h"
#include "domain/session_recovery.h"
#include "domain/subscription_set.h"
#include "protocol/channel.h"
#include "protocol/messages.h"

#include <stdlib.h>

#define RATE_MAX 1000 /* updates per second: more is no limit to speak of */

static struct cohort_sub *find_sub(const struct session *s, const struct hub_channel *c)
{
    return c != NULL && s->cohort != NULL ? cohort_find(s->cohort, c) : NULL;
}

struct cohort_sub *session_find_sub(const struct session *s, struct slice name)
{
    return find_sub(s, hub_find(session_hub(s), name));
}

/* --- moving to the cohort of a new set -------------------------------------------------------- */

static void move(struct session *s, const struct cohort_sub *subs, uint32_t count)
{
    struct hub *h = session_hub(s);
    bool is_alone = s->cohort != NULL && s->cohort->member_count == 1;
    uint64_t set_hash;
    struct cohort *next = hub_find_cohort(h, s->format, subs, count, &set_hash);
    if (next == NULL && is_alone) {
        hub_forget_cohort(h, s->cohort);
        cohort_set_subs(s->cohort, subs, count, set_hash);
        hub_remember_cohort(h, s->cohort);
        return;
    }
    if (next == NULL) {
        next = cohort_new(h, s->format, subs, count, set_hash);
        hub_remember_cohort(h, next);
    }
    if (next == s->cohort)
        return;
    uint32_t index = cohort_join(next, s->conn);
    session_leave_cohort(s);
    s->cohort = next;
    s->member_index = index;
}

void session_settle(struct session *s)
{
    if (s->cohort == NULL)
        return;
    cohort_gates_release_all_mode(s->cohort);
    cohort_settle(s->cohort, s->member_index);
}

static void stand_as_wished(struct session *s, struct standing *at, const struct cohort_sub *sub,
                            bool is_new, const struct sub_request *r)
{
    const struct hub_channel *c = sub->channel;
    if (subs_find(r->subs, r->count, c) == NULL)
        return;
    const struct recovery *v = is_new ? recovery_find(r, c) : NULL;
    if (s->format.raw) {
        at->has_base = true;
    } else if (v != NULL) {
        recovery_stand(v, at);
    } else {
        if (c->ns->snapshot && (is_new ? r->snapshot : r->snapshot_again))
            standing_want_snapshot(at, c->last);
        at->wants_epoch = at->wants_epoch || (is_new && c->epoch_len > 0);
    }
}

/* Where the session will stand in each subscription of the next set. */
static struct catchup *stand(struct session *s, const struct subs *next,
                             const struct sub_request *wishes)
{
    struct catchup *cu = catchup_new(next->count, s->catchup);
    uint32_t old_count = s->cohort != NULL ? s->cohort->sub_count : 0;
    uint32_t i = 0;
    for (uint32_t j = 0; j < next->count; j++) {
        const struct cohort_sub *sub = &next->list[j];
        while (i < old_count && s->cohort->subs[i].channel->id < sub->channel->id)
            hub_drop_note(s->cohort->subs[i++].channel, s);
        bool is_new = i == old_count || s->cohort->subs[i].channel != sub->channel;
        struct standing *at = &cu->at[j];
        if (is_new)
            at->seen = sub->channel->count;
        else
            *at = catchup_standing(s, i++);
        /* What was skipped so far cannot be had one by one any more. */
        if (!is_new && sub->mode == MODE_ALL && at->seen < sub->channel->count)
            at->wants_snap = !s->format.raw;
        if (wishes != NULL)
            stand_as_wished(s, at, sub, is_new, wishes);
    }
    while (i < old_count)
        hub_drop_note(s->cohort->subs[i++].channel, s);
    return cu;
}

void session_change_set(struct session *s, const struct subs *next,
                        const struct sub_request *wishes)
{
    if (next->count == 0) {
        session_forget_notes(s);
        session_leave_cohort(s);
        return;
    }
    struct catchup *cu = stand(s, next, wishes);
    struct gates_kept gates = cohort_gates_keep(s->cohort);
    move(s, next->list, next->count);
    if (s->cohort->member_count == 1)
        cohort_gates_give_back(s->cohort, &gates);
    cohort_gates_forget(&gates);
    catchup_begin(s, cu);
}

void session_forget_notes(struct session *s)
{
    for (uint32_t i = 0; s->note_count > 0 && i < s->cohort->sub_count; i++)
        hub_drop_note(s->cohort->subs[i].channel, s);
}

/* --- subscribe -------------------------------------------------------------------------------- */

enum error_code session_check_channel(const struct session *s, struct slice name,
                                      const struct config_namespace **ns)
{
    if (!channel_is_valid(name))
        return ERR_BAD_CHANNEL;
    *ns = config_namespace(s->conn->worker->config, channel_namespace(name));
    return *ns != NULL ? ERR_NONE : ERR_UNKNOWN_NAMESPACE;
}

/* What waits may be there already, or wait twice: near the limit it is looked at. */
static bool has_room(struct sub_request *r)
{
    const struct session *s = r->session;
    uint64_t limit = (uint64_t)s->conn->worker->config->limits.channels_per_client;
    uint64_t most = (s->cohort != NULL ? s->cohort->sub_count : 0) + (uint64_t)s->pending_channels;
    if (most + r->added < limit)
        return true;
    if (r->wanted == 0)
        r->wanted = subs_count_wanted(s);
    return (uint64_t)r->wanted + r->added < limit;
}

static bool is_mode_allowed(const struct config_namespace *ns, enum delivery_mode mode)
{
    return mode == ns->mode || (mode == MODE_LATEST && ns->allow_latest) ||
           (mode == MODE_ALL && ns->allow_all);
}

/* The mode that a subscription gets: as asked where allowed, else as it was, else the default. */
static enum delivery_mode grant_mode(const struct config_namespace *ns,
                                     const struct cohort_sub *present, enum delivery_mode asked)
{
    if (asked != MODE_UNSET && is_mode_allowed(ns, asked))
        return asked;
    return present != NULL ? present->mode : ns->mode;
}

static uint32_t grant_rate(const struct config_namespace *ns, const struct cohort_sub *present,
                           enum delivery_mode mode, int64_t asked)
{
    if (mode != MODE_LATEST)
        return 0;
    uint32_t rate = present != NULL ? present->max_rate : 0;
    if (asked >= 0)
        rate = asked < RATE_MAX ? (uint32_t)asked : RATE_MAX;
    uint32_t limit = (uint32_t)ns->max_rate;
    return limit != 0 && (rate == 0 || rate > limit) ? limit : rate;
}

static struct cohort_sub *find_in_request(const struct list *at, const struct hub_channel *c)
{
    const struct sub_request *r = list_entry(at, struct sub_request, in_session);
    return subs_find(r->subs, r->count, c);
}

/* What was last asked for of this channel, by a subscribe that still waits; else NULL. */
static const struct cohort_sub *find_pending_sub(const struct session *s,
                                                 const struct hub_channel *c)
{
    for (struct list *at = s->requests.prev; c != NULL && at != &s->requests; at = at->prev) {
        struct cohort_sub *sub = find_in_request(at, c);
        if (sub != NULL)
            return sub;
    }
    return NULL;
}

/* Requests may be done in another order than they came in: the last word counts for all. */
static void update_pending_subs(const struct session *s, const struct cohort_sub *wanted)
{
    for (struct list *at = s->requests.next; at != &s->requests; at = at->next) {
        struct cohort_sub *sub = find_in_request(at, wanted->channel);
        if (sub != NULL)
            *sub = *wanted;
    }
}

void session_request_channel(struct sub_request *r, struct slice name,
                             const struct command *command)
{
    struct session *s = r->session;
    const struct config_namespace *ns = NULL;
    enum error_code error = session_check_channel(s, name, &ns);
    struct hub_channel *c = error == ERR_NONE ? hub_find(session_hub(s), name) : NULL;
    if (c != NULL && c->asked_in == r->number)
        return; /* a channel named twice is one */
    const struct cohort_sub *pending = find_pending_sub(s, c);
    const struct cohort_sub *present = pending != NULL ? pending : find_sub(s, c);
    bool is_new = present == NULL;
    if (error == ERR_NONE && is_new && !has_room(r))
        error = ERR_TOO_MANY_CHANNELS;
    if (error != ERR_NONE) {
        metrics_add(session_metrics(s), METRIC_ERR_CHANNEL, 1);
        message_append_rejected(&r->rejected, name, error);
        return;
    }
    enum delivery_mode mode = grant_mode(ns, present, command->mode);
    bool delta = present != NULL ? present->delta : false;
    r->added += is_new;
    c = hub_pin(session_hub(s), name, ns);
    c->asked_in = r->number;
    r->subs[r->count] = (struct cohort_sub){
        .channel = c,
        .mode = (uint8_t)mode,
        .max_rate = grant_rate(ns, present, mode, command->max_rate),
        .delta =
            !s->format.raw && (command->delta == TRI_UNSET ? delta : command->delta == TRI_YES),
    };
    update_pending_subs(s, &r->subs[r->count++]);
}

/* Counts the channels that Redis has yet to confirm, and puts the request on their lists. */
static void wait_for_channels(struct sub_request *r)
{
    for (uint32_t i = 0; i < r->count; i++) {
        struct hub_channel *c = r->subs[i].channel;
        if (c->live)
            continue;
        c->waiting = mem_realloc(c->waiting, (c->waiting_count + 1) * sizeof(void *));
        c->waiting[c->waiting_count++] = r;
        r->waiting++;
    }
}

/* --- the request ---------------------------------------------------------------------------- */

struct sub_request *session_open_request(struct session *s, const struct command *command,
                                         size_t channel_count)
{
    struct sub_request *r = mem_zalloc(sizeof *r);
    r->session = s;
    r->number = session_hub(s)->next_token++;
    memcpy(r->id, command->id, sizeof r->id);
    r->snapshot = command->snapshot != TRI_NO;
    r->snapshot_again = command->snapshot == TRI_YES;
    r->subs = mem_alloc((channel_count + 1) * sizeof *r->subs);
    return r;
}

void session_start_request(struct sub_request *r, const struct command *command)
{
    struct session *s = r->session;
    subs_sort(r->subs, r->count);
    s->pending_channels += r->count;
    list_append(&s->requests, &r->in_session);
    list_append(&session_hub(s)->requests, &r->in_hub);
    r->waiting = 1; /* this function */
    if (session_hub(s)->feed_ok)
        wait_for_channels(r);
    recoveries_ask(r, command);
    if (--r->waiting == 0)
        session_finish_request(r);
}

void session_begin_subscribe(struct session *s, const struct command *command)
{
    struct sub_request *r = session_open_request(s, command, command->channel_count);
    for (size_t i = 0; i < command->channel_count; i++)
        session_request_channel(r, command->channels[i], command);
    session_start_request(r, command);
}

void session_subscribe_list(struct session *s, struct slice channels)
{
    struct command command = {.kind = COMMAND_SUBSCRIBE, .max_rate = -1};
    size_t count = 1;
    for (size_t i = 0; i < channels.len; i++)
        count += channels.ptr[i] == ',';
    command.channels = mem_alloc(count * sizeof *command.channels);
    const char *at = channels.ptr, *end = channels.ptr + channels.len;
    while (command.channel_count < count) {
        const char *comma = memchr(at, ',', (size_t)(end - at));
        const char *stop = comma != NULL ? comma : end;
        command.channels[command.channel_count++] = slice_of(at, (size_t)(stop - at));
        at = stop + 1;
    }
    session_begin_subscribe(s, &command);
    free(command.channels);
}

static void stop_waiting(struct sub_request *r, struct hub_channel *c)
{
    for (uint32_t i = 0; i < c->waiting_count; i++) {
        if (c->waiting[i] != r)
            continue;
        c->waiting[i] = c->waiting[--c->waiting_count];
        r->waiting--;
        return;
    }
}

static void free_request(struct sub_request *r)
{
    struct hub *h = session_hub(r->session);
    for (uint32_t i = 0; i < r->count; i++) {
        if (r->waiting > 0)
            stop_waiting(r, r->subs[i].channel);
    }
    recoveries_drop(r);
    r->session->pending_channels -= r->count;
    list_remove(&r->in_session);
    list_remove(&r->in_hub);
    for (uint32_t i = 0; i < r->count; i++)
        hub_unpin(h, r->subs[i].channel);
    buf_fini(&r->rejected);
    free(r->resume);
    free(r->subs);
    free(r);
}

void session_cancel_request(struct sub_request *r)
{
    free_request(r);
}

/* `granted` holds what all accepted channels have in common; `list` tells them one by one. */
static void append_granted(struct buf *ack, const struct sub_request *r)
{
    if (r->count == 0)
        return;
    const struct cohort_sub *first = &r->subs[0];
    bool same_mode = true, same_rate = true;
    for (uint32_t i = 1; i < r->count; i++) {
        same_mode = same_mode && r->subs[i].mode == first->mode;
        same_rate = same_rate && r->subs[i].max_rate == first->max_rate;
    }
    const char *between = "";
    buf_append_str(ack, ",\"granted\":{");
    if (same_mode) {
        buf_printf(ack, "\"mode\":\"%s\"", command_mode_name(first->mode));
        between = ",";
    }
    if (same_rate)
        buf_printf(ack, "%s\"max_rate\":%u", between, first->max_rate);
    buf_append_str(ack, "}");
}

/* Channels of which something may have been lost before the next publication. */
static void append_doubtful(struct buf *ack, const struct sub_request *r)
{
    const char *between = ",\"suspect\":[\"";
    for (uint32_t i = 0; i < r->count; i++) {
        const struct hub_channel *c = r->subs[i].channel;
        if (!c->is_doubtful)
            continue;
        buf_append_str(ack, between);
        buf_append(ack, c->name, c->name_len);
        between = "\",\"";
    }
    if (between[0] == '"')
        buf_append_str(ack, "\"]");
}

static void queue_subscribe_ack(const struct sub_request *r)
{
    struct buf ack = {0};
    message_begin_ack(&ack, r->id);
    session_append_result(&ack, r->count, &r->rejected);
    if (r->resume != NULL)
        resume_append_ack(&ack, r);
    else
        append_granted(&ack, r);
    recoveries_append_ack(r, &ack);
    append_doubtful(&ack, r);
    if (!session_hub(r->session)->feed_ok)
        buf_append_str(&ack, ",\"feed\":\"suspect\"");
    buf_append_str(&ack, "}");
    session_queue_text(r->session, &ack);
}

void session_finish_request(struct sub_request *r)
{
    struct session *s = r->session;
    session_settle(s);
    recoveries_settle(r);
    if (!s->format.raw && !r->is_unheard)
        queue_subscribe_ack(r);
    recoveries_queue(r);
    struct subs all = subs_union(s->cohort, r->subs, r->count);
    session_change_set(s, &all, r);
    free(all.list);
    free_request(r);
}

static bool cancel_in_request(struct sub_request *r, struct hub_channel *c)
{
    struct session *s = r->session;
    for (uint32_t i = 0; i < r->count; i++) {
        if (r->subs[i].channel != c)
            continue;
        stop_waiting(r, c);
        recovery_forget(r, c);
        memmove(&r->subs[i], &r->subs[i + 1], (--r->count - i) * sizeof *r->subs);
        s->pending_channels--;
        if (r->waiting == 0)
            session_finish_request(r);
        hub_unpin(session_hub(s), c);
        return true;
    }
    return false;
}

bool session_cancel_pending(struct session *s, struct slice name)
{
    struct hub_channel *c = hub_find(session_hub(s), name);
    bool was_pending = false;
    if (c == NULL)
        return false;
    c->pins++; /* the last request that waits for it may let it go */
    struct list *next;
    for (struct list *at = s->requests.next; at != &s->requests; at = next) {
        next = at->next;
        if (cancel_in_request(list_entry(at, struct sub_request, in_session), c))
            was_pending = true;
    }
    hub_unpin(session_hub(s), c);
    return was_pending;
}
