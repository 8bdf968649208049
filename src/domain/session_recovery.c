/*
 * session_recovery.c - positions that a client came back with, and what it gets for them.
 *
 *      since 815 ──> the bus: 816 … 820 ──> recorded meanwhile: 821, 822 ──> ack, 816 … 822, stream
 */
#include "domain/session_recovery.h"

#include "base/clock.h"
#include "base/mem.h"
#include "domain/session_commands.h"
#include "protocol/push.h"

#include <stdlib.h>

#define RECORDED_MAX 65536 /* publications recovered for one request */
#define GATHERED_MAX 256   /* of them in one message */

/* What an item is besides channel and payload, about: {"channel":"","seq":815,"ts":…,"data":}, */
#define RECOVERED_ENVELOPE 64
#define TOKEN_INDEX_BITS   24 /* of a token: which recovery of its request */

/* --- what is recovered -------------------------------------------------------------------------- */

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
    const struct standing at = {.since = &v->since};
    if (standing_covers(&at, item->p))
        return;
    add_recovered(r, v, item->p);
    if (gap != item->p->gap || is_too_much(r)) /* what only this worker lost is in no publication */
        fail_recovery(r, v);
}

/* --- questions and answers ---------------------------------------------------------------------- */

static void ask_recovery(struct sub_request *r, struct recovery *v)
{
    struct hub *h = session_hub(r->session);
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

void recoveries_ask(struct sub_request *r, const struct command *command)
{
    struct session *s = r->session;
    struct hub *h = session_hub(s);
    if (command->since_count == 0 || s->format.raw)
        return;
    r->recoveries = mem_zalloc((r->count + 1) * sizeof *r->recoveries);
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
                         uint32_t count, enum recovered recovered)
{
    uint64_t number = token >> TOKEN_INDEX_BITS;
    uint32_t index = (uint32_t)(token & ((1u << TOKEN_INDEX_BITS) - 1));
    struct sub_request *r =
        map_get(&h->recovering, map_hash(number_key(&number)), number_key(&number));
    if (r == NULL || r->recoveries[index].state != RECOVERY_ASKED ||
        r->recoveries[index].channel == NULL)
        return; /* the client has gone, or was answered without */
    struct recovery *v = &r->recoveries[index];
    for (uint32_t i = 0; recovered != NOT_RECOVERED && i < count && !is_too_much(r); i++)
        add_recovered(r, v, list[i]);
    v->is_ahead = v->since.is_trusted = recovered == RECOVERED_AHEAD;
    if (recovered != NOT_RECOVERED)
        finish_recovery(r, v);
    else
        fail_recovery(r, v);
    if (--r->waiting == 0)
        session_finish_request(r);
}

struct recovery *recovery_find(const struct sub_request *r, const struct hub_channel *channel)
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

void recovery_forget(struct sub_request *r, const struct hub_channel *c)
{
    struct recovery *v = recovery_find(r, c);
    if (v == NULL)
        return;
    if (v->state == RECOVERY_ASKED)
        r->waiting--;
    fail_recovery(r, v);
    v->channel = NULL;
}

/* --- before the ack ----------------------------------------------------------------------------- */

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
        return last == NULL && c->live && !c->is_doubtful && session_hub(r->session)->feed_ok &&
               c->ns->history_ttl_s > 0;
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

void recoveries_settle(struct sub_request *r)
{
    fail_what_does_not_fit(r);
    const struct cohort *have = r->session->cohort;
    for (uint32_t i = 0; i < r->recovery_count; i++) {
        struct recovery *v = &r->recoveries[i];
        if (v->channel == NULL)
            continue;
        if (have != NULL && cohort_find(have, v->channel) != NULL) {
            recovery_forget(r, v->channel); /* another request of the client was first */
            continue;
        }
        if (v->state == RECOVERY_ASKED)
            v->state = RECOVERY_FAILED; /* the feed was lost meanwhile */
        if (!session_hub(r->session)->feed_ok)
            v->since.is_trusted = true; /* nor can it be checked now */
        tell_end(r, v);
        metrics_add(session_metrics(r->session),
                    v->state == RECOVERY_DONE ? METRIC_RECOVERED : METRIC_NOT_RECOVERED, 1);
    }
}

/* --- in the ack and behind it -------------------------------------------------------------------- */

void recoveries_append_ack(const struct sub_request *r, struct buf *ack)
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

void recoveries_queue(struct sub_request *r)
{
    struct gathering g = {.count = 0};
    for (uint32_t i = 0; i < r->recovery_count; i++)
        queue_recovered(r->session, &g, &r->recoveries[i]);
    flush_gathered(r->session, &g);
}

static bool has_number(const struct recovery *v)
{
    for (uint32_t i = 0; i < v->count; i++) {
        if (v->list[i]->seq != 0)
            return true;
    }
    return false;
}

void recovery_stand(const struct recovery *v, struct standing *at)
{
    if (v->state != RECOVERY_FAILED) {
        at->has_base = true;
        at->wants_epoch = !has_number(v);
        if (v->is_ahead && at->wants_epoch)
            at->since = mem_dup(&v->since, sizeof v->since);
        return;
    }
    at->wants_snap = true;
    at->since = mem_dup(&v->since, sizeof v->since);
    at->wants_epoch = true; /* also where the epoch shows in an item that it has already */
}

void recoveries_drop(struct sub_request *r)
{
    for (uint32_t i = 0; i < r->recovery_count; i++)
        fail_recovery(r, &r->recoveries[i]);
    if (r->recoveries != NULL)
        map_del(&session_hub(r->session)->recovering, map_hash(number_key(&r->number)),
                number_key(&r->number));
    free(r->recoveries);
}
