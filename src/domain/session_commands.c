/*
 * session_commands.c - what a client may ask for: subscribe, unsubscribe, snapshot, list, ping.
 *
 * A subscribe goes through three steps: its channels are checked and pinned in the hub (begin);
 * it waits until Redis has confirmed the new ones (the hub counts down); then the ack is queued,
 * the session moves to the cohort of its new set, and snapshots follow the ack (finish). A pinned
 * channel cannot disappear in between, whatever other clients do.
 */
#include "domain/session_commands.h"

#include "base/mem.h"
#include "domain/subscription_set.h"
#include "protocol/channel.h"
#include "protocol/json_text.h"
#include "protocol/messages.h"

#include <stdlib.h>

/* Commands over the limit, in a row, before the client is closed: it is not listening. */
#define REFUSED_IN_A_ROW_MAX 500

static struct hub *hub_for(const struct session *s)
{
    return hub_of(s->conn->worker);
}

static struct metrics *metrics_for(const struct session *s)
{
    return &s->conn->worker->metrics;
}

static void queue_text(struct session *s, struct buf *text)
{
    session_send(s, frame_text(text));
    buf_fini(text);
}

static void reply_error(struct session *s, enum error_code error, const char *id, const char *why)
{
    if (!s->format.raw)
        session_send(s, message_error(error, id, why, false));
}

/* --- items that must carry the epoch --------------------------------------------------------- */

static void add_fresh(struct session *s, struct hub_channel *c)
{
    c->fresh = mem_realloc(c->fresh, (c->fresh_count + 1) * sizeof(struct session *));
    c->fresh[c->fresh_count++] = s;
    s->fresh_count++;
}

static void drop_fresh(struct session *s, struct hub_channel *c)
{
    for (uint32_t i = 0; i < c->fresh_count; i++) {
        if (c->fresh[i] != s)
            continue;
        c->fresh[i] = c->fresh[--c->fresh_count];
        s->fresh_count--;
        return;
    }
}

void session_forget_fresh(struct session *s)
{
    for (uint32_t i = 0; s->fresh_count > 0 && i < s->cohort->sub_count; i++)
        drop_fresh(s, s->cohort->subs[i].channel);
}

/* --- moving to the cohort of a new set -------------------------------------------------------- */

/* What is pending of the old set must have been settled. Takes nothing; subs are copied. */
static void change_set(struct session *s, const struct cohort_sub *subs, uint32_t count)
{
    struct hub *h = hub_for(s);
    if (count == 0) {
        session_leave_cohort(s);
        return;
    }
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

static void settle(struct session *s)
{
    if (s->cohort != NULL)
        cohort_settle(s->cohort, s->member_index);
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

static bool has_room(const struct session *s, uint32_t adding)
{
    uint64_t have = (s->cohort != NULL ? s->cohort->sub_count : 0) + s->pending_channels;
    return have + adding < (uint64_t)s->conn->worker->config->limits.channels_per_client;
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

static struct cohort_sub *find_present(const struct session *s, struct slice name)
{
    const struct hub_channel *c = hub_find(hub_for(s), name);
    return c != NULL && s->cohort != NULL ? cohort_find(s->cohort, c) : NULL;
}

static void request_channel(struct sub_request *r, struct slice name, enum delivery_mode mode)
{
    struct session *s = r->session;
    const struct config_namespace *ns = NULL;
    enum error_code error = check_channel(s, name, &ns);
    struct cohort_sub *present = error == ERR_NONE ? find_present(s, name) : NULL;
    if (error == ERR_NONE && present == NULL && !has_room(s, r->added))
        error = ERR_TOO_MANY_CHANNELS;
    if (error != ERR_NONE) {
        metrics_add(metrics_for(s), METRIC_ERR_CHANNEL, 1);
        message_append_rejected(&r->rejected, name, error);
        return;
    }
    r->added += present == NULL;
    r->subs[r->count++] = (struct cohort_sub){.channel = hub_pin(hub_for(s), name, ns),
                                              .mode = (uint8_t)grant_mode(ns, present, mode)};
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

static void begin_subscribe(struct session *s, const struct command *command)
{
    struct sub_request *r = mem_zalloc(sizeof *r);
    r->session = s;
    memcpy(r->id, command->id, sizeof r->id);
    r->snapshot = command->snapshot != TRI_NO;
    r->snapshot_again = command->snapshot == TRI_YES;
    r->subs = mem_alloc((command->channel_count + 1) * sizeof *r->subs);
    for (size_t i = 0; i < command->channel_count; i++)
        request_channel(r, command->channels[i], command->mode);
    r->count = subs_sort(hub_for(s), r->subs, r->count);
    s->pending_channels += r->count;
    list_append(&s->requests, &r->in_session);
    list_append(&hub_for(s)->requests, &r->in_hub);
    if (hub_for(s)->feed_ok)
        wait_for_channels(r);
    if (r->waiting == 0)
        session_finish_request(r);
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
    begin_subscribe(s, &command);
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
    for (uint32_t i = 0; i < r->count; i++) {
        if (r->waiting > 0)
            stop_waiting(r, r->subs[i].channel);
    }
    r->session->pending_channels -= r->count;
    list_remove(&r->in_session);
    list_remove(&r->in_hub);
    for (uint32_t i = 0; i < r->count; i++)
        hub_unpin(hub_for(r->session), r->subs[i].channel);
    buf_fini(&r->rejected);
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
    buf_append_str(ack, ",\"granted\":{");
    bool same_mode = true;
    for (uint32_t i = 1; i < r->count; i++)
        same_mode = same_mode && r->subs[i].mode == r->subs[0].mode;
    if (same_mode)
        buf_printf(ack, "\"mode\":\"%s\",", command_mode_name(r->subs[0].mode));
    buf_append_str(ack, "\"max_rate\":0}");
}

static void append_result(struct buf *ack, uint64_t accepted, const struct buf *rejected)
{
    buf_append_str(ack, ",\"accepted\":");
    buf_append_u64(ack, accepted);
    buf_append_str(ack, ",\"rejected\":[");
    buf_append(ack, rejected->data, rejected->len);
    buf_append_str(ack, "]");
}

static void queue_subscribe_ack(const struct sub_request *r)
{
    struct buf ack = {0};
    message_begin_ack(&ack, r->id);
    append_result(&ack, r->count, &r->rejected);
    append_granted(&ack, r);
    if (!hub_for(r->session)->feed_ok)
        buf_append_str(&ack, ",\"feed\":\"suspect\"");
    buf_append_str(&ack, "}");
    queue_text(r->session, &ack);
}

static void push_snapshot(struct session *s, struct hub_channel *c)
{
    struct frame *f = hub_frame(hub_for(s), c->last, s->format, FORM_JSON_SNAP);
    conn_queue_shared(s->conn, frame_ref(f));
    drop_fresh(s, c);
}

/* After the ack: the channel's state, or a note that its first item must carry the epoch. */
static void begin_channel(struct session *s, const struct sub_request *r, struct hub_channel *c,
                          bool is_new)
{
    bool wants_snapshot = is_new ? r->snapshot : r->snapshot_again;
    if (wants_snapshot && c->last != NULL)
        push_snapshot(s, c);
    else if (is_new && c->epoch_len > 0)
        add_fresh(s, c);
}

void session_finish_request(struct sub_request *r)
{
    struct session *s = r->session;
    settle(s);
    if (!s->format.raw)
        queue_subscribe_ack(r);
    bool *is_new = mem_alloc(r->count + 1);
    for (uint32_t i = 0; i < r->count; i++)
        is_new[i] = s->cohort == NULL || cohort_find(s->cohort, r->subs[i].channel) == NULL;
    struct subs all = subs_union(s->cohort, r->subs, r->count);
    change_set(s, all.list, all.count);
    free(all.list);
    for (uint32_t i = 0; i < r->count && !s->format.raw; i++)
        begin_channel(s, r, r->subs[i].channel, is_new[i]);
    free(is_new);
    free_request(r);
}

static void do_subscribe(struct session *s, const struct command *command)
{
    begin_subscribe(s, command);
}

/* --- unsubscribe, snapshot, list, ping ---------------------------------------------------------
 */

/* Takes a channel out of the subscribes that still wait. True when there was one. */
static bool cancel_pending(struct session *s, struct slice name)
{
    const struct hub_channel *c = hub_find(hub_for(s), name);
    if (c == NULL)
        return false;
    for (struct list *at = s->requests.next; at != &s->requests; at = at->next) {
        struct sub_request *r = list_entry(at, struct sub_request, in_session);
        for (uint32_t i = 0; i < r->count; i++) {
            if (r->subs[i].channel != c)
                continue;
            stop_waiting(r, r->subs[i].channel);
            hub_unpin(hub_for(s), r->subs[i].channel);
            memmove(&r->subs[i], &r->subs[i + 1], (--r->count - i) * sizeof *r->subs);
            s->pending_channels--;
            if (r->waiting == 0)
                session_finish_request(r);
            return true;
        }
    }
    return false;
}

static void queue_result_ack(struct session *s, const char *id, uint64_t accepted,
                             struct buf *rejected)
{
    struct buf ack = {0};
    message_begin_ack(&ack, id);
    append_result(&ack, accepted, rejected);
    buf_append_str(&ack, "}");
    queue_text(s, &ack);
    buf_fini(rejected);
}

static void do_unsubscribe(struct session *s, const struct command *command)
{
    /* Those that still wait first: ending a wait may change the set. */
    bool *was_waiting = mem_zalloc(command->channel_count + 1);
    for (size_t i = 0; i < command->channel_count; i++) {
        struct slice name = command->channels[i];
        was_waiting[i] = find_present(s, name) == NULL && cancel_pending(s, name);
    }
    struct buf rejected = {0};
    uint64_t accepted = 0;
    settle(s);
    struct subs left = subs_union(s->cohort, NULL, 0);
    for (size_t i = 0; i < command->channel_count; i++) {
        struct hub_channel *c = hub_find(hub_for(s), command->channels[i]);
        bool was_there = c != NULL && subs_remove(&left, c);
        if (was_there)
            drop_fresh(s, c);
        if (was_there || was_waiting[i])
            accepted++;
        else
            message_append_rejected(&rejected, command->channels[i], ERR_NOT_SUBSCRIBED);
    }
    free(was_waiting);
    change_set(s, left.list, left.count);
    free(left.list);
    queue_result_ack(s, command->id, accepted, &rejected);
}

static void do_snapshot(struct session *s, const struct command *command)
{
    struct buf rejected = {0};
    uint64_t accepted = 0;
    for (size_t i = 0; i < command->channel_count; i++) {
        if (find_present(s, command->channels[i]) != NULL)
            accepted++;
        else
            message_append_rejected(&rejected, command->channels[i], ERR_NOT_SUBSCRIBED);
    }
    settle(s);
    queue_result_ack(s, command->id, accepted, &rejected);
    for (size_t i = 0; i < command->channel_count; i++) {
        struct cohort_sub *present = find_present(s, command->channels[i]);
        if (present != NULL && present->channel->last != NULL)
            push_snapshot(s, present->channel);
    }
}

static void do_list(struct session *s, const struct command *command)
{
    struct buf ack = {0};
    message_begin_ack(&ack, command->id);
    buf_append_str(&ack, ",\"channels\":[");
    for (uint32_t i = 0; s->cohort != NULL && i < s->cohort->sub_count; i++) {
        const struct cohort_sub *sub = &s->cohort->subs[i];
        buf_append_str(&ack, i > 0 ? ",{\"channel\":\"" : "{\"channel\":\"");
        buf_append(&ack, sub->channel->name, sub->channel->name_len);
        buf_printf(&ack, "\",\"mode\":\"%s\",\"max_rate\":%u}", command_mode_name(sub->mode),
                   sub->max_rate);
    }
    buf_append_str(&ack, "]}");
    queue_text(s, &ack);
}

static void do_ping(struct session *s, const struct command *command)
{
    session_send(s, message_pong(command->id, command->echo));
}

static void do_refuse(struct session *s, const struct command *command)
{
    reply_error(s, ERR_FORBIDDEN, command->id, "this node does not offer that");
}

/* --- one message ------------------------------------------------------------------------------ */

static void run_command(struct session *s, const struct command *command)
{
    static void (*const handlers[])(struct session * s, const struct command *command) = {
        [COMMAND_SUBSCRIBE] = do_subscribe, [COMMAND_UNSUBSCRIBE] = do_unsubscribe,
        [COMMAND_SNAPSHOT] = do_snapshot,   [COMMAND_LIST] = do_list,
        [COMMAND_PUBLISH] = do_refuse,      [COMMAND_AUTH] = do_refuse,
        [COMMAND_PING] = do_ping,
    };
    handlers[command->kind](s, command);
}

/* False when this one is over the limit; a client that never stops is closed. */
static bool is_within_rate(struct session *s, const char *id)
{
    struct worker *w = s->conn->worker;
    if (rate_limit_try_take(&s->commands, (uint32_t)w->config->limits.commands_per_s,
                            loop_now_ms(w->loop))) {
        s->refused_in_a_row = 0;
        return true;
    }
    metrics_add(&w->metrics, METRIC_ERR_RATE, 1);
    bool is_hopeless = ++s->refused_in_a_row >= REFUSED_IN_A_ROW_MAX;
    session_send(s, message_error(ERR_RATE_LIMITED, id, NULL, is_hopeless));
    if (is_hopeless)
        conn_close(s->conn, WS_CLOSE_RATE_LIMITED, "rate_limited", METRIC_ENDED_LIMIT);
    return false;
}

void session_on_message(struct session *s, enum ws_opcode opcode, struct slice payload)
{
    if (s->format.raw)
        return; /* raw clients only listen */
    if (opcode != WS_OP_TEXT) {
        conn_close(s->conn, WS_CLOSE_UNSUPPORTED, "text messages only", METRIC_ENDED_PROTOCOL);
        return;
    }
    if (slice_is(payload, "ping")) {
        session_send(s, frame_new(WS_OP_TEXT, false, slice_str("pong"), (struct slice){0}, 4));
        return;
    }
    metrics_add(metrics_for(s), METRIC_COMMANDS, 1);
    struct command command;
    const char *why = NULL;
    enum error_code error = command_parse(payload, &command, &why);
    if (is_within_rate(s, command.id)) {
        if (error == ERR_NONE) {
            run_command(s, &command);
        } else {
            metrics_add(metrics_for(s), METRIC_ERR_COMMAND, 1);
            reply_error(s, error, command.id, why);
        }
    }
    command_fini(&command);
}
