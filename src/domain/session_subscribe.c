/*
 * session_subscribe.c - subscribing: from the channels asked for to a place in a cohort.
 *
 * Three steps. Its channels are checked and pinned in the hub (begin); it waits until Redis has
 * confirmed the new ones, and the bus has answered for the positions that the client came back with
 * (the hub counts down); then the ack is queued, what was recovered follows, and the session moves
 * to the cohort of its new set, where it catches up with what it is owed (finish). A pinned channel
 * cannot disappear in between, whatever other clients do.
 *
 *      since 815 ──> the bus: 816 … 820 ──> recorded meanwhile: 821, 822 ──> ack, 816 … 822, stream
 */
#include "domain/session_commands.h"

#include "base/clock.h"
#include "base/mem.h"
#include "domain/resume.h"
#include "domain/subscription_set.h"
#include "protocol/channel.h"
#include "protocol/messages.h"
#include "protocol/push.h"

#include <stdlib.h>

#define RATE_MAX     1000  /* updates per second: more is no limit to speak of */
#define RECORDED_MAX 65536 /* publications recovered for one request */
#define GATHERED_MAX 256   /* of them in one message */

/* What an item is besides channel and payload, about: {"channel":"","seq":815,"ts":…,"data":}, */
#define RECOVERED_ENVELOPE 64
#define TOKEN_INDEX_BITS   24 /* of a token: which recovery of its request */

static struct hub *hub_for(const struct session *s)
{
    return hub_of(s->conn->worker);
}

static struct metrics *metrics_for(const struct session *s)
{
    return &s->conn->worker->metrics;
}

struct cohort_sub *session_find_sub(const struct session *s, struct slice name)
{
    const struct hub_channel *c = hub_find(hub_for(s), name);
    return c != NULL && s->cohort != NULL ? cohort_find(s->cohort, c) : NULL;
}

/* --- moving to the cohort of a new set -------------------------------------------------------- */

static void move(struct session *s, const struct cohort_sub *subs, uint32_t count)
{
    struct hub *h = hub_for(s);
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

static struct recovery *find_recovery(const struct sub_request *r,
                                      const struct hub_channel *channel)
{
    uint32_t low = 0, high = r->recovery_count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (r->recoveries[mid].channel_id < channel->id)
            low = mid + 1;
        else
            high = mid;
    }
    bool is_found = low < r->recovery_count && r->recoveries[low].channel == channel;
    return is_found ? &r->recoveries[low] : NULL;
}

static bool has_number(const struct recovery *v)
{
    for (uint32_t i = 0; i < v->count; i++) {
        if (v->list[i]->seq != 0)
            return true;
    }
    return false;
}

/* The client came back with a position. */
static void stand_after_recovery(struct standing *at, const struct recovery *v)
{
    if (v->state != RECOVERY_FAILED) {
        at->has_base = true;
        at->wants_epoch = !has_number(v);
        return;
    }
    at->wants_snap = true;
    at->since = mem_dup(&v->since, sizeof v->since);
    at->wants_epoch = true; /* also where the epoch shows in an item that it has already */
}

static void stand_as_wished(struct session *s, struct standing *at, const struct cohort_sub *sub,
                            bool is_new, const struct sub_request *r)
{
    const struct hub_channel *c = sub->channel;
    if (subs_find(r->subs, r->count, c) == NULL)
        return;
    const struct recovery *v = is_new ? find_recovery(r, c) : NULL;
    if (s->format.raw) {
        at->has_base = true;
    } else if (v != NULL) {
        stand_after_recovery(at, v);
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

static enum error_code check_channel(const struct session *s, struct slice name,
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
static const struct cohort_sub *find_pending_sub(const struct session *s, struct slice name)
{
    const struct hub_channel *c = list_is_empty(&s->requests) ? NULL : hub_find(hub_for(s), name);
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
    enum error_code error = check_channel(s, name, &ns);
    const struct cohort_sub *present = error == ERR_NONE ? session_find_sub(s, name) : NULL;
    const struct cohort_sub *pending = error == ERR_NONE ? find_pending_sub(s, name) : NULL;
    present = pending != NULL ? pending : present;
    bool is_new = present == NULL;
    if (error == ERR_NONE && is_new && !has_room(r))
        error = ERR_TOO_MANY_CHANNELS;
    if (error != ERR_NONE) {
        metrics_add(metrics_for(s), METRIC_ERR_CHANNEL, 1);
        message_append_rejected(&r->rejected, name, error);
        return;
    }
    enum delivery_mode mode = grant_mode(ns, present, command->mode);
    bool delta = present != NULL ? present->delta : false;
    r->added += is_new;
    r->subs[r->count] = (struct cohort_sub){
        .channel = hub_pin(hub_for(s), name, ns),
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

/* --- positions ------------------------------------------------------------------------------ */

static struct slice number_key(const uint64_t *number)
{
    return slice_of((const char *)number, sizeof *number);
}

static void drop_recovered(struct sub_request *r, struct recovery *v)
{
    r->recovered -= v->count;
    r->session->recovered_bytes -= (uint32_t)v->bytes;
    for (uint32_t i = 0; i < v->count; i++)
        publication_unref(v->list[i]);
    free(v->list);
    v->list = NULL;
    v->count = v->cap = 0;
    v->bytes = 0;
}

static void add_recovered(struct sub_request *r, struct recovery *v, struct publication *p)
{
    uint64_t bytes = (uint64_t)p->payload_bytes + p->channel_len + RECOVERED_ENVELOPE;
    if (v->count == v->cap) {
        v->cap = v->cap != 0 ? v->cap * 2 : 8;
        v->list = mem_realloc(v->list, v->cap * sizeof(struct publication *));
    }
    v->list[v->count++] = publication_ref(p);
    v->bytes += bytes;
    r->recovered++;
    r->session->recovered_bytes += (uint32_t)bytes;
}

/* What may be queued for one client at once, and so held for it, whatever it asks with: half of what
 * ends it, because what is published meanwhile must fit, too. */
static uint64_t recovered_bytes_max(const struct sub_request *r)
{
    return (uint64_t)r->session->conn->worker->config->limits.hard_bytes / 2;
}

static bool is_too_much(const struct sub_request *r)
{
    return r->recovered > RECORDED_MAX || r->session->recovered_bytes > recovered_bytes_max(r);
}

static void fail_recovery(struct sub_request *r, struct recovery *v)
{
    if (v->state == RECOVERY_DONE)
        hub_drop_recorder(r, (uint32_t)(v - r->recoveries));
    drop_recovered(r, v);
    v->state = RECOVERY_FAILED;
}

static void finish_recovery(struct sub_request *r, struct recovery *v)
{
    v->state = RECOVERY_DONE;
    hub_add_recorder(r, (uint32_t)(v - r->recoveries));
    if (is_too_much(r))
        fail_recovery(r, v);
}

void session_record(struct sub_request *r, uint32_t recovery, const struct item *item, uint64_t gap)
{
    struct recovery *v = &r->recoveries[recovery];
    add_recovered(r, v, item->p);
    if (gap != item->p->gap || is_too_much(r)) /* what only this worker lost is in no publication */
        fail_recovery(r, v);
}

static void ask_recovery(struct sub_request *r, struct recovery *v)
{
    struct hub *h = hub_for(r->session);
    const struct hub_channel *c = v->channel;
    bool is_same = slice_equal(slice_of(c->epoch, c->epoch_len), position_epoch(&v->since));
    if (is_same && c->last != NULL && c->last->p->seq == v->since.seq && !c->is_doubtful &&
        (c->live || !h->feed_ok)) {
        finish_recovery(r, v); /* nothing was missed */
        return;
    }
    if (!h->feed_ok || h->upstream.recover == NULL) {
        v->state = RECOVERY_FAILED;
        return;
    }
    r->waiting++;
    uint64_t token = r->number << TOKEN_INDEX_BITS | (uint64_t)(v - r->recoveries);
    h->upstream.recover(h->upstream.arg, h->worker->index, hub_channel_name(c),
                        position_epoch(&v->since), v->since.seq, token);
}

static void ask_recoveries(struct sub_request *r, const struct command *command)
{
    struct session *s = r->session;
    struct hub *h = hub_for(s);
    if (command->since_count == 0 || s->format.raw)
        return;
    r->recoveries = mem_zalloc((r->count + 1) * sizeof *r->recoveries);
    r->number = h->next_token++;
    map_put(&h->recovering, map_hash(number_key(&r->number)), number_key(&r->number), r);
    for (uint32_t i = 0; i < r->count; i++) {
        struct hub_channel *c = r->subs[i].channel;
        const struct command_since *since = command_find_since(command, hub_channel_name(c));
        bool is_new = s->cohort == NULL || cohort_find(s->cohort, c) == NULL;
        if (since == NULL || !is_new)
            continue;
        struct recovery *v = &r->recoveries[r->recovery_count++];
        v->channel = c;
        v->channel_id = c->id;
        v->since.seq = since->seq;
        v->since.is_trusted = !h->feed_ok;
        v->since.epoch_len = (uint8_t)since->epoch.len;
        memcpy(v->since.epoch, since->epoch.ptr, since->epoch.len);
        ask_recovery(r, v);
    }
}

void session_on_recovery(struct hub *h, uint64_t token, struct publication *const *list,
                         uint32_t count, bool recovered)
{
    uint64_t number = token >> TOKEN_INDEX_BITS;
    uint32_t index = (uint32_t)(token & ((1u << TOKEN_INDEX_BITS) - 1));
    struct sub_request *r =
        map_get(&h->recovering, map_hash(number_key(&number)), number_key(&number));
    if (r == NULL || r->recoveries[index].state != RECOVERY_ASKED ||
        r->recoveries[index].channel == NULL)
        return; /* the client has gone, or was answered without */
    struct recovery *v = &r->recoveries[index];
    for (uint32_t i = 0; recovered && i < count && !is_too_much(r); i++)
        add_recovered(r, v, list[i]);
    if (recovered)
        finish_recovery(r, v);
    else
        fail_recovery(r, v);
    if (--r->waiting == 0)
        session_finish_request(r);
}

/* Items on their way into one message. */
struct gathering {
    struct push_part parts[GATHERED_MAX];
    uint32_t count;
    size_t bytes;
};

static void flush_gathered(struct session *s, struct gathering *g)
{
    if (g->count == 0)
        return;
    struct push w;
    push_open(&w, g->bytes, g->count);
    for (uint32_t i = 0; i < g->count; i++)
        push_put(&w, &g->parts[i]);
    session_queue_push(s, push_close(&w));
    g->count = 0;
    g->bytes = 0;
}

static void gather(struct session *s, struct gathering *g, struct publication *p,
                   enum publication_form form, uint64_t missed)
{
    const struct push_part part = {.single = publication_frame(p, form, NULL), .missed = missed};
    size_t more = push_part_bytes(&part);
    if (g->count == GATHERED_MAX || (g->count > 0 && g->bytes + more > PUSH_BYTES_MAX))
        flush_gathered(s, g);
    g->parts[g->count++] = part;
    g->bytes += more;
}

/* Queues what was recovered, in order; the first item, and each first one of an epoch, says so. What
 * the link lost before one may have come from the log. */
static void queue_recovered(struct session *s, struct gathering *g, const struct recovery *v)
{
    struct slice epoch = {0};
    uint64_t had = v->since.seq;
    for (uint32_t i = 0; i < v->count; i++) {
        struct publication *p = v->list[i];
        enum publication_form form = p->is_snapshot ? FORM_JSON_SNAP : FORM_JSON;
        if (p->seq != 0 && !slice_equal(epoch, publication_epoch(p))) {
            form = p->is_snapshot ? FORM_JSON_SNAP : FORM_JSON_EPOCH;
            epoch = publication_epoch(p);
        }
        gather(s, g, p, form, p->seq == had + 1 ? 0 : p->gap);
        had = p->seq != 0 ? p->seq : had;
    }
}

static void forget_recovery(struct sub_request *r, const struct hub_channel *c)
{
    struct recovery *v = find_recovery(r, c);
    if (v == NULL)
        return;
    if (v->state == RECOVERY_ASKED)
        r->waiting--;
    fail_recovery(r, v);
    v->channel = NULL;
}

/* What is known of a channel whose value has ended. False: it has one, or nobody knows. */
static bool find_end(const struct sub_request *r, const struct hub_channel *c,
                     struct publication_head *end)
{
    const struct publication *last = c->last != NULL ? c->last->p : NULL;
    *end = (struct publication_head){.channel = hub_channel_name(c),
                                     .channel_hash = c->hash,
                                     .epoch = slice_str(""),
                                     .ts_ms = clock_unix_ms(),
                                     .received_ns = clock_mono_ns(),
                                     .cleared = true};
    if (last != NULL && last->cleared) {
        end->epoch = publication_epoch(last);
        end->seq = last->seq;
        end->ts_ms = last->ts_ms;
    } else if (last == NULL && c->base.epoch_len != 0) {
        end->epoch = position_epoch(&c->base);
        end->seq = c->base.seq;
        end->ts_ms = c->base.ts_ms;
    } else { /* where values expire, none that is stored has expired */
        return last == NULL && c->live && hub_for(r->session)->feed_ok && c->ns->history_ttl_s > 0;
    }
    return true;
}

/* The value that the client has has ended meanwhile, and there is no snapshot to say so. */
static void tell_end(struct sub_request *r, struct recovery *v)
{
    struct publication_head end;
    if (v->state != RECOVERY_FAILED || !find_end(r, v->channel, &end))
        return;
    if (slice_equal(end.epoch, position_epoch(&v->since))) {
        bool is_ahead = v->since.seq > end.seq;
        if (v->since.seq == end.seq || (is_ahead && v->since.is_trusted))
            return; /* it knows, or may have a newer value */
        end.gap = is_ahead ? 0 : end.seq - v->since.seq - 1;
        if (is_ahead)
            end.seq = 0; /* a number that it would ignore */
    }
    v->state = RECOVERY_ENDED;
    struct publication *p = publication_new(&end, (struct slice){0});
    add_recovered(r, v, p);
    publication_unref(p);
}

/* Together with what waits for the client already, which other requests may have recovered. */
static void fail_what_does_not_fit(struct sub_request *r)
{
    uint64_t waiting = conn_waiting_bytes(r->session->conn);
    for (uint32_t i = 0; i < r->recovery_count; i++) {
        struct recovery *v = &r->recoveries[i];
        if (v->count > 0 && waiting + v->bytes > recovered_bytes_max(r))
            fail_recovery(r, v);
        waiting += v->bytes;
    }
}

static void settle_recoveries(struct sub_request *r)
{
    fail_what_does_not_fit(r);
    const struct cohort *have = r->session->cohort;
    for (uint32_t i = 0; i < r->recovery_count; i++) {
        struct recovery *v = &r->recoveries[i];
        if (v->channel == NULL)
            continue;
        if (have != NULL && cohort_find(have, v->channel) != NULL) {
            forget_recovery(r, v->channel); /* another request of the client was first */
            continue;
        }
        if (v->state == RECOVERY_ASKED)
            v->state = RECOVERY_FAILED; /* the feed was lost meanwhile */
        if (!hub_for(r->session)->feed_ok)
            v->since.is_trusted = true; /* nor can it be checked now */
        tell_end(r, v);
        metrics_add(metrics_for(r->session),
                    v->state == RECOVERY_DONE ? METRIC_RECOVERED : METRIC_NOT_RECOVERED, 1);
    }
}

/* --- the request ---------------------------------------------------------------------------- */

struct sub_request *session_open_request(struct session *s, const struct command *command,
                                         size_t channel_count)
{
    struct sub_request *r = mem_zalloc(sizeof *r);
    r->session = s;
    memcpy(r->id, command->id, sizeof r->id);
    r->snapshot = command->snapshot != TRI_NO;
    r->snapshot_again = command->snapshot == TRI_YES;
    r->subs = mem_alloc((channel_count + 1) * sizeof *r->subs);
    return r;
}

void session_start_request(struct sub_request *r, const struct command *command)
{
    struct session *s = r->session;
    r->count = subs_sort(hub_for(s), r->subs, r->count);
    s->pending_channels += r->count;
    list_append(&s->requests, &r->in_session);
    list_append(&hub_for(s)->requests, &r->in_hub);
    r->waiting = 1; /* this function */
    if (hub_for(s)->feed_ok)
        wait_for_channels(r);
    ask_recoveries(r, command);
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
    struct hub *h = hub_for(r->session);
    for (uint32_t i = 0; i < r->count; i++) {
        if (r->waiting > 0)
            stop_waiting(r, r->subs[i].channel);
    }
    for (uint32_t i = 0; i < r->recovery_count; i++)
        fail_recovery(r, &r->recoveries[i]);
    if (r->recoveries != NULL)
        map_del(&h->recovering, map_hash(number_key(&r->number)), number_key(&r->number));
    free(r->recoveries);
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

static void append_recovered(struct buf *ack, const struct sub_request *r)
{
    const char *between = ",\"recovered\":[\"";
    for (uint32_t i = 0; i < r->recovery_count; i++) {
        const struct recovery *v = &r->recoveries[i];
        if (v->state != RECOVERY_DONE || v->channel == NULL)
            continue;
        buf_append_str(ack, between);
        buf_append(ack, v->channel->name, v->channel->name_len);
        between = "\",\"";
    }
    if (between[0] == '"')
        buf_append_str(ack, "\"]");
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
    append_recovered(&ack, r);
    append_doubtful(&ack, r);
    if (!hub_for(r->session)->feed_ok)
        buf_append_str(&ack, ",\"feed\":\"suspect\"");
    buf_append_str(&ack, "}");
    session_queue_text(r->session, &ack);
}

void session_finish_request(struct sub_request *r)
{
    struct session *s = r->session;
    session_settle(s);
    settle_recoveries(r);
    if (!s->format.raw && !r->is_unheard)
        queue_subscribe_ack(r);
    struct gathering g = {.count = 0};
    for (uint32_t i = 0; i < r->recovery_count; i++)
        queue_recovered(s, &g, &r->recoveries[i]);
    flush_gathered(s, &g);
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
        forget_recovery(r, c);
        memmove(&r->subs[i], &r->subs[i + 1], (--r->count - i) * sizeof *r->subs);
        s->pending_channels--;
        if (r->waiting == 0)
            session_finish_request(r);
        hub_unpin(hub_for(s), c);
        return true;
    }
    return false;
}

bool session_cancel_pending(struct session *s, struct slice name)
{
    struct hub_channel *c = hub_find(hub_for(s), name);
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
    hub_unpin(hub_for(s), c);
    return was_pending;
}
