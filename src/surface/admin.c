/*
 * admin.c - one table row per admin command.
 *
 *      payload ──parse──> row ──check──> run on the main thread, or on every worker
 *                                                      │ each posts back how many it touched
 *      RPUSH tc:admin:reply:<id> <──reply──────────────┘
 */
#include "surface/admin.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "domain/hub.h"
#include "domain/session.h"
#include "protocol/channel.h"
#include "protocol/json_text.h"
#include "protocol/messages.h"
#include "protocol/trace.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REPLY_TTL_S    "60"
#define DATA_BYTES_MAX 65536 /* of a notice: it goes to every client */

struct admin {
    struct admin_setup setup;
    uint64_t started_ms;
};

/* One command under way. Made by the main thread, read by the workers, freed by the main thread. */
struct admin_call {
    struct admin *admin;
    const struct admin_row *row;
    char id[ADMIN_ID_BYTES_MAX + 1];  /* "" when no reply is wanted */
    char trace[TRACE_BYTES_MAX + 16]; /* given, or made of the id; "" without either */
    unsigned waiting;                 /* workers that have not reported */
    uint64_t affected;
    const char *error;     /* static text, or error_text's; NULL: it went well */
    struct buf error_text; /* for one that is made up */
    struct buf extra;      /* JSON members for the reply, each with a comma in front */
    struct frame *notice;
    char *channel; /* notice: only followers of it; unsubscribe */
    char *conn;    /* kick, unsubscribe */
    bool to_user;  /* narrowed to a signed-in user; there are none yet */
    uint16_t code;
    char reason[WS_CONTROL_PAYLOAD_MAX - 1];
};

struct admin_row {
    const char *cmd;
    /* Checks the command's members; false with call->error set. */
    bool (*prepare)(struct admin_call *call, const cJSON *command, struct slice text);
    /* Acts on one connection; says whether it was touched. NULL: nothing to do with clients. */
    bool (*visit)(struct admin_call *call, struct conn *c);
};

static bool fail(struct admin_call *call, const char *error)
{
    call->error = error;
    return false;
}

static bool has_member(const cJSON *command, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(command, name) != NULL;
}

static const char *string_member(const cJSON *command, const char *name)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(command, name));
}

static bool is_text_or_absent(const cJSON *command, const char *name)
{
    return !has_member(command, name) || string_member(command, name) != NULL;
}

/* Whom a command is about: a connection, or a user's. */
static bool check_whom(struct admin_call *call, const cJSON *command)
{
    if (!is_text_or_absent(command, "user"))
        return fail(call, "user is not a string");
    if (!is_text_or_absent(command, "conn"))
        return fail(call, "conn is not a string");
    return has_member(command, "user") || has_member(command, "conn") ||
           fail(call, "user or conn is missing");
}

/* --- the commands --------------------------------------------------------------------------- */

static bool prepare_ping(struct admin_call *call, const cJSON *command, struct slice text)
{
    (void)call;
    (void)command;
    (void)text;
    return true;
}

/* The raw text of a top-level member: what clients get must be what the operator wrote. */
static bool find_raw(struct slice text, const char *name, struct slice *value)
{
    struct json_members members;
    struct slice key;
    bool found = false;
    if (!json_members_init(&members, text))
        return false;
    while (!found && json_members_next(&members, &key, value))
        found = slice_is(key, name);
    return found;
}

static bool prepare_notice(struct admin_call *call, const cJSON *command, struct slice text)
{
    struct slice data;
    const char *channel = string_member(command, "channel");
    if (!find_raw(text, "data", &data))
        return fail(call, "data is missing");
    if (data.len > DATA_BYTES_MAX)
        return fail(call, "data is over 65536 bytes");
    if (has_member(command, "channel") &&
        (channel == NULL || !channel_is_valid(slice_str(channel))))
        return fail(call, "channel is not a channel name");
    if (!is_text_or_absent(command, "user"))
        return fail(call, "user is not a string");
    call->to_user = has_member(command, "user");
    call->channel = channel != NULL ? mem_strdup(channel) : NULL;
    call->notice = message_notice(data);
    return true;
}

static bool visit_notice(struct admin_call *call, struct conn *c)
{
    struct session *s = c->upper;
    if (call->to_user)
        return false;
    if (call->channel != NULL && !session_follows(s, slice_str(call->channel)))
        return false;
    return session_notify(s, call->notice);
}

static bool prepare_kick(struct admin_call *call, const cJSON *command, struct slice text)
{
    (void)text;
    const char *conn = string_member(command, "conn");
    const char *reason = string_member(command, "reason");
    const cJSON *code = cJSON_GetObjectItemCaseSensitive(command, "code");
    if (!check_whom(call, command))
        return false;
    if (has_member(command, "reason") &&
        (reason == NULL || strlen(reason) > WS_CONTROL_PAYLOAD_MAX - 2))
        return fail(call, "reason is not a string of at most 123 bytes");
    call->code = WS_CLOSE_KICKED;
    if (code != NULL) {
        double value = cJSON_IsNumber(code) ? code->valuedouble : 0;
        if (value < 1000 || value > 4999 || value != (uint16_t)value ||
            !ws_close_code_is_legal((unsigned)value))
            return fail(call, "code is not a close code");
        call->code = (uint16_t)value;
    }
    snprintf(call->reason, sizeof call->reason, "%s", reason != NULL ? reason : "kicked");
    call->conn = conn != NULL ? mem_strdup(conn) : NULL;
    return true;
}

static bool is_named(const struct admin_call *call, const struct conn *c)
{
    char text[SESSION_CONN_TEXT];
    session_conn_text(c->upper, text);
    return call->conn != NULL && strcmp(text, call->conn) == 0;
}

static bool visit_kick(struct admin_call *call, struct conn *c)
{
    if (!is_named(call, c))
        return false;
    conn_close(c, call->code, call->reason, METRIC_ENDED_KICKED);
    return true;
}

static bool prepare_loglevel(struct admin_call *call, const cJSON *command, struct slice text)
{
    (void)text;
    const char *name = string_member(command, "level");
    enum log_level level;
    if (name == NULL || !log_level_parse(slice_str(name), &level))
        return fail(call, "level is not one of debug, info, warn, error");
    log_set_level(level);
    buf_printf(&call->extra, ",\"level\":\"%s\"", log_level_name(level));
    return true;
}

static uint64_t sum(const struct admin *a, enum metric id)
{
    uint64_t total = 0;
    for (unsigned i = 0; i < a->setup.worker_count; i++)
        total += metrics_get(&a->setup.workers[i]->metrics, id);
    return total;
}

static bool prepare_stats(struct admin_call *call, const cJSON *command, struct slice text)
{
    (void)command;
    (void)text;
    const struct admin *a = call->admin;
    const struct {
        const char *name;
        uint64_t value;
    } numbers[] = {
        {"clients", sum(a, METRIC_CONNECTIONS)},
        {"subscriptions", sum(a, METRIC_SUBSCRIPTIONS)},
        {"channels", metrics_get(a->setup.metrics, METRIC_REDIS_CHANNELS)},
        {"publications", metrics_get(a->setup.metrics, METRIC_PUBLICATIONS)},
        {"deliveries", sum(a, METRIC_DELIVERIES)},
        {"up_ms", loop_now_ms(a->setup.loop) - a->started_ms},
        {"log_dropped", log_dropped()},
    };
    buf_printf(&call->extra, ",\"version\":\"%s\",\"feed\":\"%s\",\"stats\":{", TICKCAST_VERSION,
               bus_readiness(a->setup.bus) == NULL ? "ok" : "suspect");
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        buf_printf(&call->extra, "%s\"%s\":%llu", i > 0 ? "," : "", numbers[i].name,
                   (unsigned long long)numbers[i].value);
    buf_append_str(&call->extra, "}");
    return true;
}

/* affected: how many clients the node has to take leave of. */
static bool answer_drain(struct admin_call *call)
{
    const struct drain *d = call->admin->setup.drain;
    call->affected = drain_clients(d);
    buf_printf(&call->extra, ",\"state\":\"%s\"", drain_state_name(drain_get(d)));
    return true;
}

static bool prepare_drain(struct admin_call *call, const cJSON *command, struct slice text)
{
    (void)text;
    const struct admin_setup *setup = &call->admin->setup;
    const cJSON *seconds = cJSON_GetObjectItemCaseSensitive(command, "seconds");
    uint64_t window_ms = (uint64_t)setup->config->listen.drain_s * 1000;
    if (seconds != NULL) {
        double value = cJSON_IsNumber(seconds) ? seconds->valuedouble : -1;
        if (!(value >= 0 && value <= DRAIN_SECONDS_MAX))
            return fail(call, "seconds is not a number from 0 to 3600");
        window_ms = (uint64_t)(value * 1000);
    }
    drain_begin(setup->drain, (uint64_t)setup->config->listen.drain_grace_s * 1000, window_ms);
    return answer_drain(call);
}

static bool prepare_undrain(struct admin_call *call, const cJSON *command, struct slice text)
{
    (void)command;
    (void)text;
    if (!call->admin->setup.may_undrain(call->admin->setup.arg))
        return fail(call, "the node is stopping");
    drain_undo(call->admin->setup.drain);
    return answer_drain(call);
}

static bool prepare_unsubscribe(struct admin_call *call, const cJSON *command, struct slice text)
{
    (void)text;
    const char *conn = string_member(command, "conn");
    const char *channel = string_member(command, "channel");
    if (!check_whom(call, command))
        return false;
    if (channel == NULL || !channel_is_valid(slice_str(channel)))
        return fail(call, "channel is missing, or not a channel name");
    call->conn = conn != NULL ? mem_strdup(conn) : NULL;
    call->channel = mem_strdup(channel);
    return true;
}

static bool visit_unsubscribe(struct admin_call *call, struct conn *c)
{
    return is_named(call, c) && session_end_subscription(c->upper, slice_str(call->channel));
}

static bool prepare_reload(struct admin_call *call, const cJSON *command, struct slice text)
{
    (void)command;
    (void)text;
    const struct admin_setup *setup = &call->admin->setup;
    if (setup->reload(setup->arg, &call->extra, &call->error_text))
        return true;
    buf_append(&call->error_text, "", 1);
    return fail(call, call->error_text.data);
}

/* Touches nobody: a worker that has come here has taken the configuration, which was posted to it
 * before, so that the reply says what is true. */
static bool visit_reload(struct admin_call *call, struct conn *c)
{
    (void)call;
    (void)c;
    return false;
}

static const struct admin_row rows[] = {
    {"ping", prepare_ping, NULL},
    {"notice", prepare_notice, visit_notice},
    {"kick", prepare_kick, visit_kick},
    {"loglevel", prepare_loglevel, NULL},
    {"stats", prepare_stats, NULL},
    {"unsubscribe", prepare_unsubscribe, visit_unsubscribe},
    {"drain", prepare_drain, NULL},
    {"undrain", prepare_undrain, NULL},
    {"reload", prepare_reload, visit_reload},
};

static const struct admin_row *find_row(const char *cmd)
{
    for (size_t i = 0; cmd != NULL && i < sizeof rows / sizeof *rows; i++) {
        if (strcmp(cmd, rows[i].cmd) == 0)
            return &rows[i];
    }
    return NULL;
}

/* --- the reply ------------------------------------------------------------------------------ */

static void append_reply(const struct admin_call *call, const char *cmd, struct buf *out)
{
    buf_append_str(out, "{\"node\":");
    json_append_string(out, slice_str(call->admin->setup.config->node.id));
    buf_append_str(out, ",\"cmd\":");
    json_append_string(out, slice_str(cmd));
    if (call->error != NULL) {
        buf_append_str(out, ",\"ok\":false,\"error\":");
        json_append_string(out, slice_str(call->error));
    } else {
        buf_append_str(out, ",\"ok\":true,\"affected\":");
        buf_append_u64(out, call->affected);
        buf_append(out, call->extra.data, call->extra.len);
    }
    buf_append_str(out, ",\"trace\":");
    json_append_string(out, slice_str(call->trace));
    buf_append_str(out, "}");
}

static void send_reply(const struct admin_call *call, const char *cmd)
{
    struct redis_link *link = bus_command_link(call->admin->setup.bus);
    struct buf key = {0}, reply = {0};
    buf_printf(&key, "%sadmin:reply:%s", call->admin->setup.config->redis.prefix, call->id);
    append_reply(call, cmd, &reply);
    const struct slice push[] = {slice_str("RPUSH"), buf_slice(&key), buf_slice(&reply)};
    const struct slice expire[] = {slice_str("EXPIRE"), buf_slice(&key), slice_str(REPLY_TTL_S)};
    redis_link_command(link, push, 3, NULL, NULL);
    redis_link_command(link, expire, 3, NULL, NULL);
    buf_fini(&key);
    buf_fini(&reply);
}

static void finish(struct admin_call *call, const char *cmd)
{
    bool ok = call->error == NULL;
    metrics_add(call->admin->setup.metrics, ok ? METRIC_ADMIN_COMMANDS : METRIC_ADMIN_ERRORS, 1);
    log_often(LOG_CALLS, LOG_INFO, "admin", LOG_STR("trace", call->trace), LOG_STR("cmd", cmd),
              LOG_STR("id", call->id), LOG_INT("ok", ok), LOG_INT("affected", call->affected),
              LOG_STR("error", ok ? "" : call->error));
    if (call->id[0] != '\0')
        send_reply(call, cmd);
    if (call->notice != NULL)
        frame_unref(call->notice);
    buf_fini(&call->extra);
    buf_fini(&call->error_text);
    free(call->channel);
    free(call->conn);
    free(call);
}

/* --- the workers' part ------------------------------------------------------------------------ */

struct admin_message {
    struct message message;
    struct admin_call *call;
    struct worker *worker;
    uint64_t affected;
};

static void run_report(struct message *m)
{
    struct admin_message *am = (struct admin_message *)m;
    struct admin_call *call = am->call;
    call->affected += am->affected;
    free(am);
    if (--call->waiting == 0)
        finish(call, call->row->cmd);
}

static void visit_conn(struct conn *c, void *arg)
{
    struct admin_message *am = arg;
    if (c->upper != NULL && am->call->row->visit(am->call, c))
        am->affected++;
}

static void run_visit(struct message *m)
{
    struct admin_message *am = (struct admin_message *)m;
    worker_each_conn(am->worker, visit_conn, am);
    am->message.run = run_report;
    loop_post(am->call->admin->setup.loop, &am->message);
}

static void visit_clients(struct admin_call *call)
{
    const struct admin_setup *setup = &call->admin->setup;
    call->waiting = setup->worker_count;
    for (unsigned i = 0; i < setup->worker_count; i++) {
        struct admin_message *am = mem_zalloc(sizeof *am);
        am->message.run = run_visit;
        am->call = call;
        am->worker = setup->workers[i];
        loop_post(am->worker->loop, &am->message);
    }
}

/* --- a message ------------------------------------------------------------------------------ */

bool admin_read_id(const struct cJSON *command, struct slice text, char *out)
{
    const cJSON *id = cJSON_GetObjectItemCaseSensitive(command, "id");
    struct slice written;
    out[0] = '\0';
    if (id == NULL)
        return true;
    if (cJSON_IsString(id))
        written = slice_str(id->valuestring);
    else if (!find_raw(text, "id", &written) || !json_is_integer(written))
        return false;
    if (written.len == 0 || written.len > ADMIN_ID_BYTES_MAX)
        return false;
    memcpy(out, written.ptr, written.len);
    out[written.len] = '\0';
    return true;
}

/* The trace that the command was given, else one that its id makes. False: unusable. */
static bool read_trace(const cJSON *command, struct admin_call *call)
{
    const cJSON *trace = cJSON_GetObjectItemCaseSensitive(command, "trace");
    if (trace == NULL && call->id[0] != '\0')
        snprintf(call->trace, sizeof call->trace, "admin:%s", call->id);
    if (trace == NULL)
        return true;
    const char *text = cJSON_GetStringValue(trace);
    if (text == NULL || !trace_is_valid(slice_str(text)))
        return false;
    snprintf(call->trace, sizeof call->trace, "%s", text);
    return true;
}

/* A command for another node is none of our business; one whose `node` is no text is malformed,
 * and every node says so. */
static bool is_for_us(const struct admin *a, const cJSON *command)
{
    const char *name = string_member(command, "node");
    return name == NULL || strcmp(name, a->setup.config->node.id) == 0;
}

/* cJSON ends a text at an escaped NUL: a command must not be taken for what stands in front of it.
 * A notice's data is passed on as it was written. */
static bool is_cut_short(struct slice text)
{
    struct json_members members;
    struct slice key, value;
    bool found = !json_members_init(&members, text);
    while (!found && json_members_next(&members, &key, &value))
        found =
            json_has_escaped_nul(key) || (!slice_is(key, "data") && json_has_escaped_nul(value));
    return found;
}

/* A "Node" too: what was meant for one is not to be done by all. */
static bool has_unusable_node(const cJSON *command)
{
    return cJSON_HasObjectItem(command, "node") && string_member(command, "node") == NULL;
}

static void start(struct admin *a, const cJSON *command, struct slice text)
{
    struct admin_call *call = mem_zalloc(sizeof *call);
    const char *cmd = string_member(command, "cmd");
    call->admin = a;
    call->row = find_row(cmd);
    bool id_ok = admin_read_id(command, text, call->id);
    if (is_cut_short(text))
        call->error = "a text holds an escaped NUL";
    else if (!id_ok)
        call->error = "id is not a text or a whole number of at most 64 bytes";
    else if (!read_trace(command, call))
        call->error = "trace is not 1 to 64 bytes of printable ASCII without space";
    else if (has_unusable_node(command))
        call->error = "node is not a string";
    else if (cmd == NULL)
        call->error = "cmd is missing";
    else if (call->row == NULL)
        call->error = "unknown command";
    bool ok = call->error == NULL && call->row->prepare(call, command, text);
    if (ok && call->row->visit != NULL)
        visit_clients(call);
    else
        finish(call, cmd != NULL ? cmd : "");
}

void admin_on_message(struct admin *a, struct slice payload)
{
    cJSON *command = NULL;
    log_often(LOG_CALLS, LOG_DEBUG, "admin_heard", LOG_INT("bytes", payload.len));
    if (utf8_is_valid(payload.ptr, payload.len) && json_text_is_valid(payload))
        command = cJSON_ParseWithLength(payload.ptr, payload.len);
    if (cJSON_IsObject(command)) {
        if (is_for_us(a, command))
            start(a, command, payload);
    } else {
        metrics_add(a->setup.metrics, METRIC_ADMIN_ERRORS, 1);
        log_often(LOG_FAULTS, LOG_WARN, "admin_malformed", LOG_INT("bytes", payload.len));
    }
    cJSON_Delete(command);
}

struct admin *admin_new(const struct admin_setup *setup)
{
    struct admin *a = mem_zalloc(sizeof *a);
    a->setup = *setup;
    a->started_ms = loop_now_ms(setup->loop);
    return a;
}

void admin_set_config(struct admin *a, const struct config *next)
{
    a->setup.config = next;
}

void admin_free(struct admin *a)
{
    free(a);
}
