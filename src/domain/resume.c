/*
 * resume.c - the worker's side of client sessions: ids, asking for one, keeping one.
 *
 *      resume_begin ──> ask ──post_take──> store … resume_post_answer ──> sub_request ──> ack
 *
 * What the store gives back becomes a subscribe with positions, through the same door as any other
 * (session_subscribe.c), so that there is one way in which a client catches up. Between the answer
 * and the ack the taken state is nowhere else but in the request: should the connection end there,
 * the request's channels are stored again with the rest.
 */
#include "domain/resume.h"

#include "base/log.h"
#include "base/mem.h"
#include "domain/sent_position.h"
#include "domain/session_commands.h"
#include "domain/session_quality.h"
#include "domain/session_recovery.h"
#include "domain/subscription_set.h"
#include "protocol/json_text.h"
#include "protocol/messages.h"

#include <stdlib.h>

static uint64_t grace_ms(const struct worker *w)
{
    return (uint64_t)w->config->listen.session_grace_s * 1000;
}

/* --- ids --------------------------------------------------------------------------------------- */

static void adopt_id(struct session *s, const uint8_t id[SESSION_ID_BYTES])
{
    struct session_ids *ids = &session_hub(s)->session_ids;
    if (s->resume_slot != 0)
        session_ids_drop(ids, s->resume_slot);
    s->resume_slot = session_ids_take(ids, id);
    char name[SESSION_NAME_TEXT];
    session_name(s, name);
    session_note_arrival(s, slice_str(name));
}

static const uint8_t *id_of(const struct session *s)
{
    return session_ids_at(&session_hub(s)->session_ids, s->resume_slot);
}

static bool has_sessions(const struct session *s)
{
    return session_hub(s)->sessions != NULL && grace_ms(s->conn->worker) > 0;
}

bool resume_open(struct session *s)
{
    uint8_t id[SESSION_ID_BYTES];
    if (!has_sessions(s) || !rng_fill_secret(id, sizeof id))
        return false;
    adopt_id(s, id);
    return true;
}

void resume_id_text(const struct session *s, char text[SESSION_ID_TEXT])
{
    text[0] = '\0';
    if (s->resume_slot != 0)
        session_id_text(id_of(s), text);
}

/* --- coming back ------------------------------------------------------------------------------- */

/* A client waits for its session; the key in hub->resuming is the token: its session's number. */
struct resume_ask {
    struct session *session;
    uint64_t token;
    struct command command; /* owned */
};

static struct slice token_key(const uint64_t *token)
{
    return slice_of((const char *)token, sizeof *token);
}

/* id: of the session that was asked for, where another one may be by now; or NULL. */
static struct resume_ask *take_ask(struct hub *h, uint64_t token, const uint8_t *id)
{
    const struct resume_ask *ask =
        map_get(&h->resuming, map_hash(token_key(&token)), token_key(&token));
    if (ask == NULL || (id != NULL && memcmp(ask->command.session, id, SESSION_ID_BYTES) != 0))
        return NULL;
    return map_del(&h->resuming, map_hash(token_key(&token)), token_key(&token));
}

static void ask_free(struct resume_ask *ask)
{
    command_fini(&ask->command);
    free(ask);
}

/* Positions of the stored channels and of the client; the client's count, where both have one. */
static struct command gather_positions(const struct session_state *state,
                                       const struct command *command)
{
    struct command positions = {.since_count = 0};
    size_t most = state->count + command->since_count;
    positions.since = mem_alloc((most + 1) * sizeof *positions.since);
    for (size_t i = 0; i < state->count; i++) {
        const struct session_state_channel *c = &state->channels[i];
        if (c->has_position && command_find_since(command, c->channel) == NULL)
            positions.since[positions.since_count++] =
                (struct command_since){.channel = c->channel, .epoch = c->epoch, .seq = c->seq};
    }
    if (command->since_count > 0)
        memcpy(&positions.since[positions.since_count], command->since,
               command->since_count * sizeof *command->since);
    positions.since_count += command->since_count;
    command_order_since(&positions);
    return positions;
}

static void request_stored(struct sub_request *r, const struct session_state *state)
{
    for (size_t i = 0; i < state->count; i++) {
        const struct session_state_channel *c = &state->channels[i];
        const struct command one = {
            .mode = c->mode, .max_rate = c->max_rate, .delta = c->delta ? TRI_YES : TRI_NO};
        session_request_channel(r, c->channel, &one);
    }
}

/* The store has spoken: the session is there, or it begins anew. */
static void resume_with(struct session *s, const struct command *command, bool is_found,
                        const struct session_state *state)
{
    size_t count = is_found ? state->count : command->channel_count;
    struct sub_request *r = session_open_request(s, command, count);
    r->resume = mem_zalloc(sizeof *r->resume);
    r->resume->resumed = is_found;
    if (is_found) {
        r->snapshot = true;
        r->snapshot_again = false;
        request_stored(r, state);
    } else {
        for (size_t i = 0; i < command->channel_count; i++)
            session_request_channel(r, command->channels[i], command);
    }
    struct command positions = gather_positions(state, command);
    session_start_request(r, &positions);
    command_fini(&positions);
}

static void count_answer(const struct session *s, enum session_take result)
{
    static const enum metric metrics[] = {
        [SESSION_FOUND] = METRIC_SESSIONS_RESUMED,
        [SESSION_UNKNOWN] = METRIC_SESSIONS_UNKNOWN,
        [SESSION_UNUSABLE] = METRIC_SESSIONS_UNUSABLE,
        [SESSION_UNREAD] = METRIC_SESSIONS_UNREAD,
    };
    metrics_add(session_metrics(s), metrics[result], 1);
}

static void finish_ask(struct session *s, const struct command *command, enum session_take result,
                       struct slice text)
{
    struct session_state state = {0};
    if (result == SESSION_FOUND && !session_state_parse(text, &state))
        result = SESSION_UNUSABLE;
    count_answer(s, result);
    if (result == SESSION_FOUND)
        adopt_id(s, command->session);
    else if (s->resume_slot == 0)
        resume_open(s);
    resume_with(s, command, result == SESSION_FOUND, &state);
    session_state_fini(&state);
}

void resume_begin(struct session *s, struct command *command)
{
    struct hub *h = session_hub(s);
    struct command own = *command;
    *command = (struct command){0};
    struct slice key = token_key(&s->id);
    if (map_get(&h->resuming, map_hash(key), key) != NULL) {
        session_send(s, message_error(ERR_RATE_LIMITED, own.id, "a resume is under way", false));
        command_fini(&own);
        return;
    }
    if (!has_sessions(s)) {
        finish_ask(s, &own, SESSION_UNKNOWN, (struct slice){0});
        command_fini(&own);
        return;
    }
    struct resume_ask *ask = mem_alloc(sizeof *ask);
    *ask = (struct resume_ask){.session = s, .token = s->id, .command = own};
    map_put(&h->resuming, map_hash(key), token_key(&ask->token), ask);
    session_store_post_take(h->sessions, own.session, h, ask->token);
}

static void append_channels(struct buf *text, struct slice channels)
{
    const char *at = channels.ptr, *end = channels.ptr + channels.len;
    buf_append_str(text, ",\"channels\":[");
    for (bool is_first = true; at <= end; is_first = false) {
        const char *comma = memchr(at, ',', (size_t)(end - at));
        const char *stop = comma != NULL ? comma : end;
        buf_append_str(text, is_first ? "" : ",");
        json_append_string(text, slice_of(at, (size_t)(stop - at)));
        at = stop + 1;
    }
    buf_append_str(text, "]");
}

void resume_begin_url(struct session *s, struct slice id, struct slice channels)
{
    struct buf text = {0};
    struct command command;
    const char *why;
    buf_append_str(&text, "{\"action\":\"resume\",\"session\":");
    json_append_string(&text, id);
    if (channels.len > 0)
        append_channels(&text, channels);
    buf_append_str(&text, "}");
    if (command_parse(buf_slice(&text), &command, &why) == ERR_NONE)
        resume_begin(s, &command);
    command_fini(&command);
    buf_fini(&text);
}

void resume_append_ack(struct buf *ack, const struct sub_request *r)
{
    char id[SESSION_ID_TEXT];
    resume_id_text(r->session, id);
    if (id[0] != '\0')
        buf_printf(ack, ",\"session\":\"%s\"", id);
    buf_append_str(ack, r->resume->resumed ? ",\"resumed\":true" : ",\"resumed\":false");
    buf_append_str(ack, ",\"channels\":[");
    for (uint32_t i = 0; i < r->count; i++)
        session_append_sub(ack, &r->subs[i], i == 0);
    buf_append_str(ack, "]");
}

/* --- the answer, from the main thread ---------------------------------------------------------- */

struct answer_message {
    struct message message;
    struct hub *hub;
    uint64_t token;
    uint8_t id[SESSION_ID_BYTES];
    enum session_take result;
    struct buf text;
};

static void run_answer(struct message *m)
{
    struct answer_message *am = (struct answer_message *)m;
    struct resume_ask *ask = take_ask(am->hub, am->token, am->id);
    if (ask != NULL) {
        finish_ask(ask->session, &ask->command, am->result, buf_slice(&am->text));
        ask_free(ask);
    } else if (am->result == SESSION_FOUND) {
        /* Who asked has gone, or was told that it took too long: it may ask again. */
        session_store_post_save(am->hub->sessions, am->id, &am->text, grace_ms(am->hub->worker));
    }
    buf_fini(&am->text);
    free(am);
}

void resume_post_answer(struct hub *h, uint64_t token, const uint8_t id[SESSION_ID_BYTES],
                        enum session_take result, struct slice text)
{
    struct answer_message *am = mem_zalloc(sizeof *am);
    am->message.run = run_answer;
    am->hub = h;
    am->token = token;
    am->result = result;
    memcpy(am->id, id, SESSION_ID_BYTES);
    if (result == SESSION_FOUND)
        buf_append(&am->text, text.ptr, text.len);
    loop_post(h->worker->loop, &am->message);
}

/* --- leaving ----------------------------------------------------------------------------------- */

/* Did the connection end without anybody meaning the session to end? Whoever leaves a node that
 * drains does as he was told, in whatever words. */
static bool may_come_back(const struct conn *c)
{
    switch (c->cause) {
    case METRIC_ENDED_DRAIN:
    case METRIC_ENDED_LOST:
    case METRIC_ENDED_PING: return true;
    case METRIC_ENDED_CLIENT:
        return c->close_code == WS_CLOSE_GOING_AWAY || hub_of(c->worker)->departures != NULL;
    default: return false;
    }
}

static void add_sub(struct buf *text, const struct cohort_sub *sub, const struct position *at)
{
    struct session_state_channel c = {.channel = hub_channel_name(sub->channel),
                                      .mode = sub->mode,
                                      .max_rate = sub->max_rate,
                                      .delta = sub->delta};
    if (at != NULL) {
        c.has_position = true;
        c.epoch = position_epoch(at);
        c.seq = at->seq;
    }
    session_state_add(text, &c);
}

static void add_present(struct session *s, struct buf *text)
{
    struct sent_position *sent = sent_positions(s);
    for (uint32_t i = 0; sent != NULL && i < s->cohort->sub_count; i++)
        add_sub(text, &s->cohort->subs[i], sent[i].is_known ? &sent[i].at : NULL);
    free(sent);
}

/* What was taken from the store, and not acknowledged before the connection ended; or is looked at
 * again after an outage. Recoveries are
 * in the order of the subscriptions. */
static void add_pending(const struct session *s, const struct sub_request *r, struct buf *text)
{
    uint32_t next = 0;
    for (uint32_t i = 0; i < r->count; i++) {
        const struct hub_channel *c = r->subs[i].channel;
        while (next < r->recovery_count && r->recoveries[next].channel == NULL)
            next++;
        bool has_position = next < r->recovery_count && r->recoveries[next].channel == c;
        const struct position *at = has_position ? &r->recoveries[next++].since : NULL;
        if (s->cohort == NULL || cohort_find(s->cohort, c) == NULL)
            add_sub(text, &r->subs[i], at);
    }
}

static void store(struct session *s)
{
    struct buf text = {0};
    session_state_begin(&text);
    add_present(s, &text);
    for (struct list *at = s->requests.next; at != &s->requests; at = at->next) {
        const struct sub_request *r = list_entry(at, struct sub_request, in_session);
        if (r->resume != NULL || r->is_unheard)
            add_pending(s, r, &text);
    }
    session_state_end(&text);
    if (text.len <= SESSION_STATE_BYTES_MAX) {
        session_store_post_save(session_hub(s)->sessions, id_of(s), &text,
                                grace_ms(s->conn->worker));
    } else {
        metrics_add(session_metrics(s), METRIC_SESSIONS_NOT_STORED, 1);
        log_warn("session_not_stored", LOG_STR("reason", "too_large"), LOG_INT("bytes", text.len));
    }
    buf_fini(&text);
}

void resume_on_end(struct session *s)
{
    struct hub *h = session_hub(s);
    struct resume_ask *ask = h->resuming.count > 0 ? take_ask(h, s->id, NULL) : NULL;
    if (ask != NULL)
        ask_free(ask); /* its answer goes back to the store */
    if (s->resume_slot != 0 && has_sessions(s) && may_come_back(s->conn))
        store(s);
    if (s->resume_slot != 0)
        session_ids_drop(&h->session_ids, s->resume_slot);
}

bool resume_flush(struct session *s)
{
    struct conn *c = s->conn;
    if (s->resume_slot != 0)
        conn_flush(c);
    return c->state == CONN_OPEN;
}
