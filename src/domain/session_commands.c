/*
 * session_commands.c - what a client may ask for besides subscribing: unsubscribe, snapshot, list,
 * publish, ping; and the limits on asking.
 */
#include "domain/session_commands.h"

#include "base/mem.h"
#include "domain/resume.h"
#include "domain/subscription_set.h"
#include "protocol/messages.h"

#include <stdlib.h>

/* Commands over the limit, in a row, before the client is closed: it is not listening. */
#define REFUSED_IN_A_ROW_MAX 500
#define PUBLISHES_MAX        1000 /* of one client that Redis has not answered */

void session_queue_text(struct session *s, struct buf *text)
{
    session_send(s, frame_text(text));
    buf_fini(text);
}

static void reply_error(struct session *s, enum error_code error, const char *id, const char *why)
{
    if (!s->format.raw)
        session_send(s, message_error(error, id, why, false));
}

void session_append_result(struct buf *ack, uint64_t accepted, const struct buf *rejected)
{
    buf_append_str(ack, ",\"accepted\":");
    buf_append_u64(ack, accepted);
    buf_append_str(ack, ",\"rejected\":[");
    buf_append(ack, rejected->data, rejected->len);
    buf_append_str(ack, "]");
}

/* --- unsubscribe, snapshot, list ------------------------------------------------------------ */

static void queue_result_ack(struct session *s, const char *id, uint64_t accepted,
                             struct buf *rejected)
{
    struct buf ack = {0};
    message_begin_ack(&ack, id);
    session_append_result(&ack, accepted, rejected);
    buf_append_str(&ack, "}");
    session_queue_text(s, &ack);
    buf_fini(rejected);
}

/* A channel that the session does not have: such a one may not even be there to be had. */
static void reject_absent(const struct session *s, struct slice channel, struct buf *rejected)
{
    const struct config_namespace *ns;
    enum error_code error = session_check_channel(s, channel, &ns);
    message_append_rejected(rejected, channel, error != ERR_NONE ? error : ERR_NOT_SUBSCRIBED);
}

/* What is left of the subscriptions without some channels. Those that it did not have are appended
 * to rejected; returns the number of others. */
static uint64_t take_channels(struct session *s, const struct slice *channels, size_t count,
                              struct buf *rejected, struct subs *left)
{
    /* Those that still wait first: ending a wait may change the set. */
    bool *was_waiting = mem_zalloc(count + 1);
    for (size_t i = 0; i < count; i++)
        was_waiting[i] = session_cancel_pending(s, channels[i]);
    uint64_t taken = 0;
    session_settle(s);
    *left = subs_union(s->cohort, NULL, 0);
    for (size_t i = 0; i < count; i++) {
        struct hub_channel *c = hub_find(session_hub(s), channels[i]);
        if ((c != NULL && subs_remove(left, c)) || was_waiting[i])
            taken++;
        else
            reject_absent(s, channels[i], rejected);
    }
    free(was_waiting);
    return taken;
}

static void do_unsubscribe(struct session *s, const struct command *command)
{
    struct buf rejected = {0};
    struct subs left;
    uint64_t accepted =
        take_channels(s, command->channels, command->channel_count, &rejected, &left);
    queue_result_ack(s, command->id, accepted, &rejected);
    session_change_set(s, &left, NULL);
    free(left.list);
}

bool session_end_subscription(struct session *s, struct slice channel)
{
    struct buf rejected = {0};
    struct subs left;
    bool had_it = take_channels(s, &channel, 1, &rejected, &left) > 0;
    if (had_it && !s->format.raw)
        session_send(s, message_unsubscribed(channel));
    session_change_set(s, &left, NULL);
    free(left.list);
    buf_fini(&rejected);
    return had_it;
}

static void do_snapshot(struct session *s, const struct command *command)
{
    struct buf rejected = {0};
    uint64_t accepted = 0;
    session_settle(s);
    struct catchup *cu = s->cohort != NULL ? catchup_new(s->cohort->sub_count, s->catchup) : NULL;
    for (uint32_t i = 0; cu != NULL && i < s->cohort->sub_count; i++)
        cu->at[i] = catchup_standing(s, i);
    for (size_t i = 0; i < command->channel_count; i++) {
        const struct cohort_sub *present = session_find_sub(s, command->channels[i]);
        if (present == NULL) {
            reject_absent(s, command->channels[i], &rejected);
            continue;
        }
        if (present->channel->ns->snapshot)
            standing_want_snapshot(&cu->at[present - s->cohort->subs], present->channel->last);
        accepted++;
    }
    queue_result_ack(s, command->id, accepted, &rejected);
    if (cu != NULL)
        catchup_begin(s, cu);
}

void session_append_sub(struct buf *ack, const struct cohort_sub *sub, bool is_first)
{
    buf_append_str(ack, is_first ? "{\"channel\":\"" : ",{\"channel\":\"");
    buf_append(ack, sub->channel->name, sub->channel->name_len);
    buf_printf(ack, "\",\"mode\":\"%s\",\"max_rate\":%u,\"delta\":%s}",
               command_mode_name(sub->mode), sub->max_rate, sub->delta ? "true" : "false");
}

static void do_list(struct session *s, const struct command *command)
{
    struct buf ack = {0};
    message_begin_ack(&ack, command->id);
    buf_append_str(&ack, ",\"channels\":[");
    for (uint32_t i = 0; s->cohort != NULL && i < s->cohort->sub_count; i++)
        session_append_sub(&ack, &s->cohort->subs[i], i == 0);
    buf_append_str(&ack, "]}");
    session_queue_text(s, &ack);
}

/* --- publish -------------------------------------------------------------------------------- */

/* A publication that Redis has not answered. */
struct client_publish {
    struct list in_hub;
    struct session *session;
    uint64_t token;
    char id[COMMAND_ID_JSON_MAX];
};

static void free_publish(struct client_publish *cp)
{
    list_remove(&cp->in_hub);
    cp->session->publish_count--;
    free(cp);
}

void session_forget_publishes(struct session *s)
{
    struct list *publishes = &session_hub(s)->publishes, *next;
    for (struct list *at = publishes->next; s->publish_count > 0 && at != publishes; at = next) {
        struct client_publish *cp = list_entry(at, struct client_publish, in_hub);
        next = at->next;
        if (cp->session == s)
            free_publish(cp);
    }
}

/* Until clients can sign in, only a namespace that lets anyone publish does. */
static enum error_code check_publish(const struct session *s, const struct command *command)
{
    const struct config *config = s->conn->worker->config;
    const struct config_namespace *ns = NULL;
    enum error_code error = session_check_channel(s, command->channel, &ns);
    if (error != ERR_NONE)
        return error;
    if (ns->publish != PUBLISH_ANYONE)
        return ERR_FORBIDDEN;
    if (command->data.len > (size_t)config->limits.payload_bytes)
        return ERR_TOO_LARGE;
    if (s->publish_count >= PUBLISHES_MAX)
        return ERR_RATE_LIMITED;
    return session_hub(s)->upstream.publish != NULL ? ERR_NONE : ERR_FEED_UNAVAILABLE;
}

static void do_publish(struct session *s, const struct command *command)
{
    struct hub *h = session_hub(s);
    enum error_code error = check_publish(s, command);
    if (error != ERR_NONE) {
        reply_error(s, error, command->id, NULL);
        return;
    }
    struct client_publish *cp = mem_zalloc(sizeof *cp);
    cp->session = s;
    cp->token = h->next_token++;
    memcpy(cp->id, command->id, sizeof cp->id);
    list_append(&h->publishes, &cp->in_hub);
    s->publish_count++;
    h->upstream.publish(h->upstream.arg, h->worker->index, command->channel, command->data,
                        cp->token);
}

void session_on_published(struct hub *h, uint64_t token, enum error_code error, uint64_t seq,
                          struct slice epoch)
{
    /* Redis answers in order: the first one nearly always is the one. */
    struct list *at = h->publishes.next;
    while (at != &h->publishes && list_entry(at, struct client_publish, in_hub)->token != token)
        at = at->next;
    if (at == &h->publishes)
        return; /* the client has gone */
    struct client_publish *cp = list_entry(at, struct client_publish, in_hub);
    struct session *s = cp->session;
    if (error != ERR_NONE) {
        reply_error(s, error, cp->id, NULL);
    } else {
        struct buf ack = {0};
        message_begin_ack(&ack, cp->id);
        buf_append_str(&ack, ",\"seq\":");
        buf_append_u64(&ack, seq);
        buf_append_str(&ack, ",\"epoch\":\"");
        buf_append(&ack, epoch.ptr, epoch.len);
        buf_append_str(&ack, "\"}");
        metrics_add(session_metrics(s), METRIC_CLIENT_PUBLISHES, 1);
        session_queue_text(s, &ack);
    }
    free_publish(cp);
}

/* --- ping, and what is refused -------------------------------------------------------------- */

static void do_ping(struct session *s, const struct command *command)
{
    session_send(s, message_pong(command->id, command->echo));
}

static void do_refuse(struct session *s, const struct command *command)
{
    reply_error(s, ERR_FORBIDDEN, command->id, "this node does not offer that");
}

/* --- one message ------------------------------------------------------------------------------ */

static void run_command(struct session *s, struct command *command)
{
    static void (*const handlers[])(struct session * s, const struct command *command) = {
        [COMMAND_SUBSCRIBE] = session_begin_subscribe,
        [COMMAND_UNSUBSCRIBE] = do_unsubscribe,
        [COMMAND_SNAPSHOT] = do_snapshot,
        [COMMAND_LIST] = do_list,
        [COMMAND_PUBLISH] = do_publish,
        [COMMAND_AUTH] = do_refuse,
        [COMMAND_PING] = do_ping,
    };
    if (command->kind == COMMAND_RESUME)
        resume_begin(s, command); /* keeps what it holds */
    else
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
    if (!s->format.raw)
        session_send(s, message_error(ERR_RATE_LIMITED, id, NULL, is_hopeless));
    if (is_hopeless)
        conn_close(s->conn, WS_CLOSE_RATE_LIMITED, "rate_limited", METRIC_ENDED_LIMIT);
    return false;
}

void session_on_message(struct session *s, enum ws_opcode opcode, struct slice payload)
{
    if (s->format.raw) {
        is_within_rate(s, ""); /* raw clients only listen, but must not talk without end */
        return;
    }
    if (opcode != WS_OP_TEXT) {
        conn_close(s->conn, WS_CLOSE_UNSUPPORTED, "text messages only", METRIC_ENDED_PROTOCOL);
        return;
    }
    if (slice_is(payload, "ping")) {
        session_send(s, frame_new(WS_OP_TEXT, false, slice_str("pong"), (struct slice){0}, 4));
        return;
    }
    metrics_add(session_metrics(s), METRIC_COMMANDS, 1);
    struct command command;
    const char *why = NULL;
    enum error_code error = command_parse(payload, &command, &why);
    if (is_within_rate(s, command.id)) {
        if (error == ERR_NONE) {
            run_command(s, &command);
        } else {
            metrics_add(session_metrics(s), METRIC_ERR_COMMAND, 1);
            reply_error(s, error, command.id, why);
        }
    }
    command_fini(&command);
}
