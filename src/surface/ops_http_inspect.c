/*
 * ops_http_inspect.c - this node's channels and clients, for operators.
 *
 *   channels   main thread: a page of names ──> each worker: subscribers, a slice at a time ─┐
 *   clients                                     each worker: its connections, filtered ──────┤
 *                                                    waiting = 0: merged, ordered, answered <─┘
 *
 * A call has one part per worker, which travels to the worker and back as a message; the worker
 * writes into its own part only. The slices leave the workers time for their clients in between.
 */
#include "surface/ops_http_inspect.h"

#include "base/list.h"
#include "base/mem.h"
#include "domain/inspect.h"
#include "protocol/http_head.h"
#include "protocol/json_text.h"
#include "surface/ops_http_reply.h"

#include <event2/http.h>
#include <inttypes.h>
#include <stdlib.h>

#define SLICE_STEPS 20000 /* groups of subscribers and channels looked at in one go: about 1 ms */
#define SLICE_MS    1     /* between two slices of a worker */
#define FILTER_MAX  256   /* bytes of a parameter; names are shorter */

struct ops_inspector {
    struct ops_inspector_setup setup;
    struct list calls; /* under way */
    unsigned call_count;
};

/* What is asked of one worker. */
struct inspect_part {
    struct message message;
    struct inspect_call *call;
    struct worker *worker;
    /* channels */
    struct loop_timer *pause;
    size_t next;           /* of the page */
    uint64_t *subscribers; /* one for each channel of the page */
    /* clients */
    struct client_view *views;
    size_t count;
    size_t cap;
    uint64_t total;
};

struct inspect_call {
    struct list member; /* of the inspector's calls */
    struct ops_inspector *inspector;
    struct evhttp_request *request; /* NULL: nobody to answer */
    size_t limit;
    struct channel_page page;
    struct buf conn; /* filters; len 0: any */
    struct buf channel;
    bool to_user; /* narrowed to a signed-in user; there are none yet */
    void (*answer)(struct inspect_call *call);
    unsigned waiting;
    struct inspect_part parts[];
};

/* --- parameters ------------------------------------------------------------------------------ */

static struct slice query_of(struct evhttp_request *request)
{
    const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(request);
    const char *query = uri != NULL ? evhttp_uri_get_query(uri) : NULL;
    return slice_str(query != NULL ? query : "");
}

/* Reads a parameter; false when its encoding is broken or it is too long. Absent: empty. */
static bool read_text(struct evhttp_request *request, const char *name, struct buf *out)
{
    int found = http_query_get(query_of(request), name, out);
    if (found == 0)
        buf_clear(out);
    return found >= 0 && out->len <= FILTER_MAX;
}

static bool read_limit(struct evhttp_request *request, size_t *limit)
{
    struct buf text = {0};
    unsigned value = OPS_INSPECT_LIMIT;
    bool ok = read_text(request, "limit", &text) &&
              (text.len == 0 || slice_to_unsigned(buf_slice(&text), OPS_INSPECT_LIMIT_MAX, &value));
    buf_fini(&text);
    *limit = value;
    return ok && value > 0;
}

/* --- a call ---------------------------------------------------------------------------------- */

static struct inspect_call *call_new(struct ops_inspector *i, struct evhttp_request *request)
{
    unsigned count = i->setup.worker_count;
    struct inspect_call *call = mem_zalloc(sizeof *call + count * sizeof *call->parts);
    call->inspector = i;
    call->request = request;
    for (unsigned n = 0; n < count; n++) {
        call->parts[n].call = call;
        call->parts[n].worker = i->setup.workers[n];
    }
    list_append(&i->calls, &call->member);
    i->call_count++;
    return call;
}

static void call_free(struct inspect_call *call)
{
    for (unsigned n = 0; n < call->inspector->setup.worker_count; n++) {
        loop_timer_free(call->parts[n].pause);
        free(call->parts[n].subscribers);
        free(call->parts[n].views);
    }
    call->inspector->call_count--;
    list_remove(&call->member);
    free(call->page.views);
    buf_fini(&call->conn);
    buf_fini(&call->channel);
    free(call);
}

/* Answers with an error instead. */
static void call_refuse(struct inspect_call *call, enum error_code error, const char *message)
{
    ops_http_reply_error(call->request, error, message);
    call_free(call);
}

static void call_settle(struct inspect_call *call)
{
    if (--call->waiting > 0)
        return;
    call->answer(call);
    call_free(call);
}

static void ask_worker(struct inspect_part *part, void (*run)(struct message *m))
{
    part->message.run = run;
    loop_post(part->worker->loop, &part->message);
}

static void ask_workers(struct inspect_call *call, void (*run)(struct message *m))
{
    call->waiting = call->inspector->setup.worker_count;
    for (unsigned n = 0; n < call->inspector->setup.worker_count; n++)
        ask_worker(&call->parts[n], run);
}

static void post_back(struct inspect_part *part, void (*run)(struct message *m))
{
    part->message.run = run;
    loop_post(part->call->inspector->setup.loop, &part->message);
}

static bool is_too_busy(const struct ops_inspector *i, struct evhttp_request *request)
{
    if (i->call_count < OPS_INSPECT_CALLS_MAX)
        return false;
    ops_http_reply_error(request, ERR_RATE_LIMITED, "too many such requests are under way");
    return true;
}

/* --- channels -------------------------------------------------------------------------------- */

static void write_channel(struct buf *out, const struct channel_view *v)
{
    buf_append_str(out, "{\"channel\":");
    json_append_string(out, slice_str(v->name));
    buf_printf(out, ",\"mode\":\"%s\",\"subscribers\":%" PRIu64,
               command_mode_name((enum delivery_mode)v->mode), v->subscribers);
    if (v->epoch[0] != '\0')
        buf_printf(out, ",\"epoch\":\"%s\",\"seq\":%" PRIu64 ",\"ts\":%" PRIu64, v->epoch, v->seq,
                   v->ts_ms);
    buf_printf(out, ",\"stamped\":%s,\"live\":%s,\"value_bytes\":%" PRIu32 "}",
               v->is_stamped ? "true" : "false", v->is_live ? "true" : "false", v->value_bytes);
}

static void answer_channels(struct inspect_call *call)
{
    struct buf body = {0};
    buf_printf(&body, "{\"total\":%" PRIu64 ",\"channels\":[", call->page.total);
    for (size_t i = 0; i < call->page.count; i++) {
        struct channel_view *v = &call->page.views[i];
        for (unsigned n = 0; n < call->inspector->setup.worker_count; n++)
            v->subscribers += call->parts[n].subscribers[i];
        buf_append_str(&body, i > 0 ? "," : "");
        write_channel(&body, v);
    }
    buf_append_str(&body, "]}\n");
    ops_http_reply(call->request, 200, "application/json", &body);
    buf_fini(&body);
}

static void run_count(struct message *m);

static void on_pause_over(void *arg)
{
    ask_worker(arg, run_count);
}

/* Back on the main thread: the next slice, or this worker is done. */
static void run_counted(struct message *m)
{
    struct inspect_part *part = (struct inspect_part *)m;
    if (part->next == part->call->page.count)
        call_settle(part->call);
    else
        loop_timer_set(part->pause, SLICE_MS);
}

static void run_count(struct message *m)
{
    struct inspect_part *part = (struct inspect_part *)m;
    const struct channel_page *page = &part->call->page;
    uint64_t steps = 0;
    for (; part->next < page->count && steps < SLICE_STEPS; part->next++)
        steps +=
            1 + inspect_subscribers(hub_of(part->worker), slice_str(page->views[part->next].name),
                                    &part->subscribers[part->next]);
    post_back(part, run_counted);
}

void ops_inspector_channels(struct ops_inspector *i, struct evhttp_request *request)
{
    if (is_too_busy(i, request))
        return;
    struct inspect_call *call = call_new(i, request);
    struct buf prefix = {0}, after = {0};
    bool ok = read_limit(request, &call->limit) && read_text(request, "prefix", &prefix) &&
              read_text(request, "after", &after);
    if (ok)
        call->page =
            inspect_channels(i->setup.bus, buf_slice(&prefix), buf_slice(&after), call->limit);
    buf_fini(&prefix);
    buf_fini(&after);
    if (!ok) {
        call_refuse(call, ERR_BAD_COMMAND, "limit: 1 to 10000; prefix, after: short texts");
        return;
    }
    for (unsigned n = 0; n < i->setup.worker_count; n++) {
        struct inspect_part *part = &call->parts[n];
        part->pause = loop_timer_new(i->setup.loop, on_pause_over, part);
        part->subscribers = mem_zalloc((call->page.count + 1) * sizeof *part->subscribers);
    }
    call->answer = answer_channels;
    ask_workers(call, run_count);
}

/* --- clients --------------------------------------------------------------------------------- */

/* Milliseconds with a decimal, or null. */
static void write_ms(struct buf *out, const char *key, bool is_known, uint32_t us)
{
    if (is_known)
        buf_printf(out, ",\"%s\":%" PRIu32 ".%" PRIu32, key, us / 1000, us % 1000 / 100);
    else
        buf_printf(out, ",\"%s\":null", key);
}

static void write_quality(struct buf *out, const struct quality_monitor *monitor,
                          const struct client_view *v)
{
    const struct session_quality *q = &v->quality;
    write_ms(out, "rtt_ms", q->is_measured, q->rtt_us);
    write_ms(out, "rtt_deviation_ms", q->has_deviation, q->deviation_us);
    buf_printf(out, ",\"pings_unanswered\":%" PRIu32, q->pings_unanswered);
    if (v->name[0] != '\0')
        buf_printf(out, ",\"reconnects\":%" PRIu32,
                   quality_monitor_reconnects(monitor, slice_str(v->name)));
    else
        buf_append_str(out, ",\"reconnects\":null");
}

static void write_client(struct buf *out, const struct quality_monitor *monitor,
                         const struct client_view *v)
{
    buf_printf(out, "{\"conn\":\"%s\",\"user\":null,\"address\":\"%s\",\"format\":\"%s\"", v->conn,
               v->address, v->raw ? "raw" : "json");
    buf_printf(out, ",\"compressed\":%s,\"channels\":%" PRIu32 ",\"age_ms\":%" PRIu64,
               v->deflate ? "true" : "false", v->channels, v->quality.open_ms);
    write_quality(out, monitor, v);
    buf_printf(out, ",\"state\":\"%s\",\"pending_bytes\":%" PRIu64 ",\"blocked_ms\":%" PRIu64 "}",
               inspect_state_name(v->state), v->pending_bytes, v->blocked_ms);
}

static int compare_clients(const void *a, const void *b)
{
    uint64_t left = ((const struct client_view *)a)->id,
             right = ((const struct client_view *)b)->id;
    return left < right ? -1 : left > right;
}

/* All workers' views in the first part. */
static struct inspect_part *gather_clients(struct inspect_call *call)
{
    struct inspect_part *all = &call->parts[0];
    for (unsigned n = 1; n < call->inspector->setup.worker_count; n++) {
        struct inspect_part *part = &call->parts[n];
        all->total += part->total;
        if (part->count == 0)
            continue;
        all->views = mem_realloc(all->views, (all->count + part->count) * sizeof *all->views);
        memcpy(all->views + all->count, part->views, part->count * sizeof *part->views);
        all->count += part->count;
    }
    if (all->count > 1)
        qsort(all->views, all->count, sizeof *all->views, compare_clients);
    return all;
}

static void answer_clients(struct inspect_call *call)
{
    const struct quality_monitor *monitor = call->inspector->setup.monitor;
    const struct inspect_part *all = gather_clients(call);
    struct buf body = {0};
    buf_printf(&body, "{\"total\":%" PRIu64 ",\"clients\":[", all->total);
    for (size_t i = 0; i < all->count && i < call->limit; i++) {
        buf_append_str(&body, i > 0 ? "," : "");
        write_client(&body, monitor, &all->views[i]);
    }
    buf_append_str(&body, "]}\n");
    ops_http_reply(call->request, 200, "application/json", &body);
    buf_fini(&body);
}

static bool is_wanted(const struct inspect_call *call, const struct session *s)
{
    char conn[SESSION_CONN_TEXT];
    if (call->to_user)
        return false;
    if (call->channel.len > 0 && !session_follows(s, buf_slice(&call->channel)))
        return false;
    if (call->conn.len == 0)
        return true;
    session_conn_text(s, conn);
    return slice_is(buf_slice(&call->conn), conn);
}

static void visit_client(struct conn *c, void *arg)
{
    struct inspect_part *part = arg;
    if (c->upper == NULL || !is_wanted(part->call, c->upper))
        return;
    part->total++;
    if (part->count == part->call->limit)
        return;
    if (part->count == part->cap) {
        part->cap = part->cap != 0 ? part->cap * 2 : 64;
        part->views = mem_realloc(part->views, part->cap * sizeof *part->views);
    }
    inspect_client(c->upper, &part->views[part->count++]);
}

static void run_collected(struct message *m)
{
    call_settle(((struct inspect_part *)m)->call);
}

static void run_collect(struct message *m)
{
    struct inspect_part *part = (struct inspect_part *)m;
    worker_each_conn(part->worker, visit_client, part);
    post_back(part, run_collected);
}

void ops_inspector_clients(struct ops_inspector *i, struct evhttp_request *request)
{
    if (is_too_busy(i, request))
        return;
    struct inspect_call *call = call_new(i, request);
    struct buf user = {0};
    bool ok = read_limit(request, &call->limit) && read_text(request, "conn", &call->conn) &&
              read_text(request, "channel", &call->channel) && read_text(request, "user", &user);
    call->to_user = user.len > 0;
    buf_fini(&user);
    if (!ok) {
        call_refuse(call, ERR_BAD_COMMAND, "limit: 1 to 10000; conn, channel, user: short texts");
        return;
    }
    call->answer = answer_clients;
    ask_workers(call, run_collect);
}

/* --- life ------------------------------------------------------------------------------------ */

struct ops_inspector *ops_inspector_new(const struct ops_inspector_setup *setup)
{
    struct ops_inspector *i = mem_zalloc(sizeof *i);
    i->setup = *setup;
    list_init(&i->calls);
    return i;
}

void ops_inspector_free(struct ops_inspector *i)
{
    while (!list_is_empty(&i->calls))
        call_free(list_entry(i->calls.next, struct inspect_call, member));
    free(i);
}
