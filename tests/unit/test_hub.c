/*
 * test_hub.c - the fan-out path against a model: worker, sessions, cohorts and hub, without Redis.
 *
 * Clients on socket pairs with tiny buffers subscribe with random modes, rates and positions,
 * change their mind, ask for snapshots, ping, read odd amounts, vanish and come back at random,
 * while publications are numbered per channel. Every byte that a client reads is decoded and held
 * against the rules: an item only between the acks of subscribe and unsubscribe, the first one with
 * its epoch, each later one above the one before by one and what it says was missed, which in mode
 * `all` is nothing but what never came; a patch only on what it patches; pongs in order; at the end
 * everyone has the newest. Odd seeds are wild: gaps, new epochs, plain messages, values that end or
 * are healed, raw clients. A seed that fails is printed and repeats.
 */
#include "base/map.h"
#include "base/mem.h"
#include "base/rng.h"
#include "domain/hub.h"
#include "lone_node.h"
#include "protocol/config.h"
#include "protocol/json_text.h"
#include "runtime/conn.h"
#include "surface/client_http.h"
#include "unit.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    CHANNELS = 12,
    CLIENTS = 14,
    STEPS = 3000,
    PAYLOAD_MAX = 900,
    SMALL_BUFFER = 4096,
    QUESTIONS_MAX = 256,
    RAW_CLIENTS = 3
};

/* One publication of a channel. */
struct entry {
    uint64_t index; /* counts all of the channel, lost ones included: what `missed` is about */
    uint64_t seq;   /* rises over all epochs, so that it names one; 0: a plain message */
    uint64_t gap;
    unsigned epoch;
    bool cleared;
    bool healed; /* a state read from the store */
};

struct channel {
    char name[32];
    bool wanted;   /* the hub follows it */
    bool live;     /* and was told so */
    unsigned last; /* fewest steps until it is told that the channel is live */
    uint64_t index, seq;
    unsigned epoch;
    struct entry *log;
    unsigned count, cap;
};

struct client {
    int fd; /* our end; -1: not connected */
    bool upgraded;
    bool deflate;
    bool raw;
    struct buf in;
    struct ws_decoder decoder;
    unsigned next_id;
    unsigned pending_id; /* of the command under way; 0: none */
    enum { JOINS, STAYS, LEAVES } pending;
    unsigned pending_channel;
    bool pending_delta, pending_all;
    uint64_t pending_since; /* the position it came back with; 0: none */
    bool subscribed[CHANNELS];
    bool first[CHANNELS];      /* the first item is still to come */
    bool all[CHANNELS];        /* mode `all` was asked for, from the start of the subscription */
    bool delta[CHANNELS];      /* patches were asked for */
    uint64_t index[CHANNELS];  /* last item's */
    uint64_t strict[CHANNELS]; /* from here on nothing may be left out untold */
    uint64_t seq[CHANNELS];    /* last numbered item's */
    size_t filler[CHANNELS];   /* of its value, put together from patches; 0: it has none */
    unsigned epoch[CHANNELS];
    bool awaits_state[CHANNELS]; /* in mode `all`: plain messages may overtake it */
    unsigned pings, pongs;
};

struct question { /* upstream.recover, to be answered */
    unsigned channel;
    unsigned epoch;
    uint64_t seq;
    uint64_t token;
};

struct world {
    uint64_t seed;
    struct rng rng;
    bool is_wild; /* raw clients, gaps, new epochs, plain messages, ended and healed values */
    struct lone_node at;
    struct ws_inflater *inflater;
    struct buf inflated;
    struct channel channels[CHANNELS];
    struct client clients[CLIENTS];
    struct question questions[QUESTIONS_MAX];
    unsigned question_count;
    bool is_suspect;                     /* the feed, as the hub was told */
    uint64_t patches, missed, recovered; /* seen by clients: the paths were taken */
    bool failed;
};

static void complain(struct world *w, const char *what, const struct client *c, struct slice text)
{
    if (!w->failed)
        fprintf(stderr, "\n  seed %llu, client %td: %s: %.*s\n", (unsigned long long)w->seed,
                c - w->clients, what, (int)(text.len < 300 ? text.len : 300), text.ptr);
    w->failed = true;
}

/* --- the bus's part ------------------------------------------------------------------------- */

static void on_interest(void *arg, unsigned worker, struct slice name, bool wanted)
{
    (void)worker;
    struct world *w = arg;
    for (int i = 0; i < CHANNELS; i++) {
        struct channel *ch = &w->channels[i];
        if (!slice_is(name, ch->name))
            continue;
        ch->wanted = wanted;
        ch->live = false;
        ch->last = (unsigned)rng_below(&w->rng, 6);
    }
}

static const char *on_readiness(const void *arg)
{
    (void)arg;
    return NULL;
}

static int filler_of(uint64_t n)
{
    return (int)(n * 7919 % 4 == 0 ? n * 104729 % (PAYLOAD_MAX - 64) + 1 : 40);
}

/* The same bytes whenever it is made. */
static struct publication *make(const struct channel *ch, const struct entry *e)
{
    char payload[PAYLOAD_MAX], epoch[16];
    uint64_t n = e->index;
    int filler = filler_of(n);
    int len = snprintf(payload, sizeof payload, "{\"n\":%llu,\"c\":\"%s\",\"x\":\"%0*d\"}",
                       (unsigned long long)n, ch->name, filler, 7);
    snprintf(epoch, sizeof epoch, "e%u", e->epoch);
    const struct publication_head head = {.channel = slice_str(ch->name),
                                          .channel_hash = map_hash(slice_str(ch->name)),
                                          .epoch = slice_str(epoch),
                                          .seq = e->seq,
                                          .ts_ms = 1,
                                          .gap = e->gap,
                                          .cleared = e->cleared,
                                          .is_snapshot = e->healed,
                                          .is_json = !e->cleared};
    return publication_new(&head, slice_of(payload, e->cleared ? 0 : (size_t)len));
}

static const struct entry *find_entry(const struct channel *ch, uint64_t seq)
{
    for (unsigned i = ch->count; seq != 0 && i > 0; i--) {
        if (ch->log[i - 1].seq == seq)
            return &ch->log[i - 1];
    }
    return NULL;
}

static bool any_between(const struct channel *ch, uint64_t after, uint64_t before)
{
    for (unsigned i = ch->count; i > 0 && ch->log[i - 1].index > after; i--) {
        if (ch->log[i - 1].index < before)
            return true;
    }
    return false;
}

/* The next one of a channel: now and then not a common one. */
static struct entry *add_entry(struct world *w, struct channel *ch, bool is_common)
{
    uint64_t dice = is_common || !w->is_wild ? 100 : rng_below(&w->rng, 100);
    struct entry e = {0};
    if (dice < 4)
        e.gap = rng_below(&w->rng, 3) + 1;
    else if (dice < 8)
        e.cleared = true;
    else if (dice < 10)
        e.healed = true;
    else if (dice < 12)
        ch->epoch++;
    bool is_plain = dice >= 12 && dice < 18 && ch->seq != 0;
    ch->index += e.gap + 1;
    if (!is_plain)
        ch->seq += e.gap + 1 + (e.healed ? 5 : 0);
    e.index = ch->index;
    e.seq = is_plain ? 0 : ch->seq;
    e.epoch = ch->epoch;
    if (ch->count == ch->cap) {
        ch->cap = ch->cap != 0 ? ch->cap * 2 : 64;
        ch->log = mem_realloc(ch->log, ch->cap * sizeof *ch->log);
    }
    ch->log[ch->count] = e;
    return &ch->log[ch->count++];
}

static void confirm_channels(struct world *w)
{
    for (int i = 0; i < CHANNELS; i++) {
        struct channel *ch = &w->channels[i];
        if (!ch->wanted || ch->live || ch->last-- > 0)
            continue;
        ch->live = true;
        const struct entry *e = find_entry(ch, ch->seq);
        struct publication *last = e != NULL && !e->cleared ? make(ch, e) : NULL;
        hub_post_live(w->at.hub, slice_str(ch->name), last, NULL, true);
        if (last != NULL)
            publication_unref(last);
    }
}

static void publish(struct world *w, struct channel *ch, bool is_common)
{
    if (!ch->live)
        return;
    struct publication **list = mem_alloc(sizeof(struct publication *));
    list[0] = make(ch, add_entry(w, ch, is_common));
    hub_post_publications(w->at.hub, list, 1);
}

static void on_recover(void *arg, unsigned worker, struct slice name, struct slice epoch,
                       uint64_t seq, uint64_t token)
{
    (void)worker;
    struct world *w = arg;
    unsigned ch = 0;
    while (!slice_is(name, w->channels[ch].name))
        ch++;
    unsigned number = 0;
    CU_ASSERT(slice_to_unsigned(slice_of(epoch.ptr + 1, epoch.len - 1), UINT16_MAX, &number));
    CU_ASSERT_FATAL(w->question_count < QUESTIONS_MAX);
    w->questions[w->question_count++] =
        (struct question){.channel = ch, .epoch = number, .seq = seq, .token = token};
}

/* What is numbered behind a position; false when it is not all there, or something was renewed. */
static bool collect(const struct channel *ch, const struct question *q, struct publication **list,
                    uint32_t *count)
{
    const struct entry *e = find_entry(ch, q->seq), *end = ch->log + ch->count;
    bool is_whole = e != NULL && e->epoch == q->epoch;
    for (*count = 0; is_whole && ++e < end;) {
        if (e->seq == 0)
            continue;
        list[(*count)++] = make(ch, e);
        is_whole = e->epoch == q->epoch && e->gap == 0 && !e->healed;
    }
    return is_whole;
}

/* Answers a question about a channel that is live; now and then it cannot be recovered. */
static void answer(struct world *w)
{
    for (unsigned i = 0; i < w->question_count; i++) {
        const struct question q = w->questions[i];
        const struct channel *ch = &w->channels[q.channel];
        if (!ch->live)
            continue;
        w->questions[i] = w->questions[--w->question_count];
        uint32_t count = 0;
        struct publication **list = mem_alloc((ch->count + 1) * sizeof *list);
        bool recovered = collect(ch, &q, list, &count) && rng_below(&w->rng, 5) > 0;
        hub_post_recovery(w->at.hub, q.token, list, count, recovered);
        return;
    }
}

/* --- a turn of the loop ----------------------------------------------------------------------- */

static void turn(struct world *w)
{
    lone_node_turn(&w->at);
}

/* --- a client ------------------------------------------------------------------------------- */

static void forget(struct client *c)
{
    if (c->fd >= 0)
        close(c->fd);
    ws_decoder_fini(&c->decoder);
    buf_fini(&c->in);
    struct client next = {.fd = -1};
    memcpy(next.seq, c->seq, sizeof next.seq); /* what it may come back with */
    memcpy(next.epoch, c->epoch, sizeof next.epoch);
    *c = next;
}

static void connect_client(struct world *w, struct client *c)
{
    int pair[2];
    int small = SMALL_BUFFER;
    CU_ASSERT_EQUAL_FATAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    c->fd = pair[0];
    c->deflate = rng_below(&w->rng, 2) == 0;
    struct buf request = {0};
    c->raw = c - w->clients < RAW_CLIENTS && w->is_wild;
    buf_append_str(&request, "GET /ws");
    for (unsigned ch = 0; c->raw && ch < CHANNELS; ch += 3) {
        buf_append_str(&request, ch == 0 ? "?format=raw&channels=" : ",");
        buf_append_str(&request, w->channels[ch].name);
        c->subscribed[ch] = true;
    }
    buf_printf(&request,
               " HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
               "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n",
               c->deflate ? "Sec-WebSocket-Extensions: permessage-deflate\r\n" : "");
    atomic_fetch_add(&w->at.worker->load, 1);
    worker_give_socket(w->at.worker, pair[1], &(union socket_peer){0});
    CU_ASSERT_EQUAL(write(c->fd, request.data, request.len), (ssize_t)request.len);
    buf_fini(&request);
}

static void send_frame(struct world *w, struct client *c, enum ws_opcode opcode, const char *text)
{
    struct buf frame = {0};
    ws_encode_masked(&frame, opcode, true, slice_str(text), (uint32_t)rng_next(&w->rng));
    CU_ASSERT_EQUAL(write(c->fd, frame.data, frame.len), (ssize_t)frame.len);
    buf_fini(&frame);
}

static void append_options(struct world *w, struct client *c, struct buf *text)
{
    unsigned ch = c->pending_channel;
    bool is_again = c->subscribed[ch];
    c->pending_delta = rng_below(&w->rng, 2) == 0;
    c->pending_all = rng_below(&w->rng, 2) == 0;
    c->pending_since = 0;
    buf_printf(text, ",\"delta\":%s,\"mode\":\"%s\"", c->pending_delta ? "true" : "false",
               c->pending_all ? "all" : "latest");
    if (rng_below(&w->rng, 3) == 0)
        buf_printf(text, ",\"max_rate\":%u", (unsigned)rng_below(&w->rng, 3) * 300);
    if (rng_below(&w->rng, 4) == 0)
        buf_append_str(text, ",\"snapshot\":false");
    if (is_again || c->seq[ch] == 0 || rng_below(&w->rng, 3) == 0)
        return;
    c->pending_since = c->seq[ch];
    buf_printf(text, ",\"since\":{\"%s\":{\"epoch\":\"e%u\",\"seq\":%llu}}", w->channels[ch].name,
               c->epoch[ch], (unsigned long long)c->seq[ch]);
}

static void command(struct world *w, struct client *c)
{
    struct buf text = {0};
    if (!c->upgraded || c->pending_id != 0 || c->raw)
        return;
    unsigned ch = c->pending_channel = (unsigned)rng_below(&w->rng, CHANNELS);
    c->pending_id = ++c->next_id;
    uint64_t dice = rng_below(&w->rng, 4);
    const char *action = !c->subscribed[ch] || dice == 0 ? "subscribe"
                         : dice == 1                     ? "snapshot"
                                                         : "unsubscribe";
    c->pending = action[0] == 'u' ? LEAVES : action[1] == 'u' ? JOINS : STAYS;
    buf_printf(&text, "{\"action\":\"%s\",\"id\":%u,\"channels\":[\"%s\"]", action, c->pending_id,
               w->channels[ch].name);
    if (c->pending == JOINS)
        append_options(w, c, &text);
    buf_append(&text, "}", 2);
    send_frame(w, c, WS_OP_TEXT, text.data);
    buf_fini(&text);
}

static void ping(struct world *w, struct client *c)
{
    char text[16];
    if (!c->upgraded)
        return;
    snprintf(text, sizeof text, "%u", ++c->pings);
    send_frame(w, c, WS_OP_PING, text);
}

static bool has(struct slice text, const char *what)
{
    return memmem(text.ptr, text.len, what, strlen(what)) != NULL;
}

static uint64_t number_after(struct slice text, const char *key)
{
    const char *at = memmem(text.ptr, text.len, key, strlen(key));
    return at != NULL ? strtoull(at + strlen(key), NULL, 10) : 0;
}

static void on_subscribed(struct world *w, struct client *c, struct slice text)
{
    unsigned ch = c->pending_channel;
    bool recovered = has(text, "\"recovered\":[");
    if (!c->subscribed[ch]) {
        c->first[ch] = true;
        c->all[ch] = c->pending_all;
        const struct entry *e = recovered ? find_entry(&w->channels[ch], c->pending_since) : NULL;
        c->index[ch] = e != NULL ? e->index : 0;
        c->seq[ch] = recovered ? c->pending_since : 0;
        c->epoch[ch] = e != NULL ? e->epoch : UINT_MAX;
        c->strict[ch] = w->channels[ch].index;
        w->recovered += recovered;
    }
    c->awaits_state[ch] = c->pending_all && !recovered;
    /* A plain message that was skipped before is in no snapshot. */
    if (c->pending_all && !c->all[ch])
        c->strict[ch] = w->channels[ch].index;
    c->all[ch] = c->all[ch] && c->pending_all;
    c->delta[ch] = c->pending_delta;
    if (recovered && c->pending_since == 0)
        complain(w, "recovered what was not asked for", c, text);
}

static void on_ack(struct world *w, struct client *c, struct slice text)
{
    unsigned ch = c->pending_channel;
    if (number_after(text, "\"id\":") != c->pending_id || !has(text, "\"accepted\":1"))
        complain(w, "not the ack that was due", c, text);
    if (c->pending == JOINS)
        on_subscribed(w, c, text);
    c->subscribed[ch] = c->pending != LEAVES;
    c->pending_id = 0;
}

static void check_order(struct world *w, struct client *c, unsigned ch, struct slice item,
                        const struct entry *e)
{
    const struct channel *channel = &w->channels[ch];
    uint64_t last = c->index[ch], missed = number_after(item, "\"missed\":");
    bool is_snap = has(item, "\"snap\":true"), is_patch = has(item, "\"patch\":true");
    bool is_settled = !c->awaits_state[ch];
    bool is_strict = last != 0 && last >= c->strict[ch] && !c->first[ch] && is_settled;
    c->awaits_state[ch] = c->awaits_state[ch] && e->seq == 0;
    if (!is_snap && e->index <= last && is_settled)
        complain(w, "a repeat or a step back", c, item);
    if (!is_snap && is_strict && e->index != last + missed + 1)
        complain(w, "a gap that was not told", c, item);
    if (is_snap && is_strict && e->index > last + missed + 1)
        complain(w, "a snapshot that does not follow what was sent", c, item);
    if (missed > channel->seq && missed > channel->index) /* since a position: in numbers */
        complain(w, "more missed than there was", c, item);
    if (c->all[ch] && !is_snap && is_strict && any_between(channel, last, e->index))
        complain(w, "missed in mode all", c, item);
    if (is_patch && (!c->delta[ch] || missed != 0 || c->first[ch]))
        complain(w, "a patch that was not asked for, or has no base", c, item);
    w->patches += is_patch;
    w->missed += missed;
    c->index[ch] = e->index > last ? e->index : last;
}

static void check_epoch(struct world *w, struct client *c, unsigned ch, struct slice item,
                        const struct entry *e)
{
    bool is_told = has(item, "\"epoch\":"), is_snap = has(item, "\"snap\":true");
    bool is_due = c->first[ch] || c->epoch[ch] != e->epoch;
    char epoch[32];
    snprintf(epoch, sizeof epoch, "\"epoch\":\"e%u\"", e->epoch);
    if (is_due && !is_told)
        complain(w, "a first item without epoch", c, item);
    /* Where the value has ended the worker does not know the epoch, and says it once more. */
    if (!is_due && !is_snap && is_told && !w->is_wild)
        complain(w, "an epoch where it is known", c, item);
    if (is_told && !has(item, epoch))
        complain(w, "not the epoch of that number", c, item);
    c->first[ch] = false;
    c->epoch[ch] = e->epoch;
    c->seq[ch] = e->seq;
}

/* The value that the client has now, put together from patches, is that of the publication. */
static void check_value(struct world *w, struct client *c, unsigned ch, struct slice item,
                        const struct entry *e)
{
    const char *x = memmem(item.ptr, item.len, "\"x\":\"", 5);
    bool is_patch = has(item, "\"patch\":true");
    if (is_patch && c->filler[ch] == 0)
        complain(w, "a patch of no value", c, item);
    if (x != NULL)
        c->filler[ch] = strspn(x + 5, "07");
    else if (!is_patch)
        c->filler[ch] = 0;
    if (c->filler[ch] != (e->cleared ? 0 : (size_t)filler_of(e->index)))
        complain(w, "not the value of that number", c, item);
}

static void on_item(struct world *w, struct client *c, struct slice item)
{
    unsigned ch = 0;
    char key[64];
    do {
        snprintf(key, sizeof key, "\"channel\":\"%s\"", w->channels[ch].name);
    } while (!has(item, key) && ++ch < CHANNELS);
    if (ch == CHANNELS || !c->subscribed[ch]) {
        complain(w, "an item of a channel that is not subscribed", c, item);
        return;
    }
    uint64_t seq = number_after(item, "\"seq\":"), n = number_after(item, "\"n\":");
    const struct entry plain = {.index = n};
    const struct entry *e = seq != 0 ? find_entry(&w->channels[ch], seq) : &plain;
    if (e == NULL || (!e->cleared && n != e->index) || has(item, "\"plain\":true") != (seq == 0)) {
        complain(w, "not the publication of that number", c, item);
        return;
    }
    check_order(w, c, ch, item, e);
    if (seq == 0)
        return;
    check_epoch(w, c, ch, item, e);
    check_value(w, c, ch, item, e);
}

/* A payload alone: newer than the one before. */
static void on_raw(struct world *w, struct client *c, struct slice text)
{
    for (unsigned ch = 0; ch < CHANNELS; ch++) {
        char key[64];
        snprintf(key, sizeof key, "\"c\":\"%s\"", w->channels[ch].name);
        if (!has(text, key))
            continue;
        uint64_t n = number_after(text, "\"n\":");
        if (!c->subscribed[ch] || n <= c->index[ch])
            complain(w, "a repeat or a step back, raw", c, text);
        c->index[ch] = n;
    }
}

/* The items of a push: objects side by side, without brackets in their strings. */
static void on_push(struct world *w, struct client *c, struct slice text)
{
    const char *at = memchr(text.ptr, '[', text.len), *end = text.ptr + text.len, *start = NULL;
    int depth = 0;
    if (!json_text_is_valid(text))
        complain(w, "not JSON", c, text);
    for (; at < end; at++) {
        if (*at == '{' && depth++ == 0)
            start = at;
        if (*at == '}' && --depth == 0)
            on_item(w, c, slice_of(start, (size_t)(at + 1 - start)));
    }
}

static void on_event(struct world *w, struct client *c, enum ws_event event, struct ws_message *m)
{
    if (event == WS_PONG) {
        unsigned number = 0;
        if (!slice_to_unsigned(m->payload, UINT16_MAX, &number) || number != ++c->pongs)
            complain(w, "pong out of order", c, m->payload);
    } else if (event != WS_MESSAGE) {
        complain(w, "closed or broken", c, slice_str(m->why != NULL ? m->why : "close"));
    } else if (c->raw) {
        on_raw(w, c, m->payload);
    } else if (has(m->payload, "\"action\":\"ack\"")) {
        on_ack(w, c, m->payload);
    } else if (has(m->payload, "\"action\":\"push\"")) {
        on_push(w, c, m->payload);
    } else if (!has(m->payload, "\"action\":\"hello\"") &&
               !has(m->payload, "\"action\":\"state\"") &&
               !has(m->payload, "\"action\":\"slow\"")) {
        complain(w, "unexpected", c, m->payload);
    }
}

static void decode(struct world *w, struct client *c)
{
    const struct ws_decoder_config config = {.deflate = c->deflate,
                                             .message_bytes = 1 << 20,
                                             .inflater = w->inflater,
                                             .inflated = &w->inflated};
    enum ws_event event;
    do {
        struct ws_message m = {0};
        size_t used = 0;
        event = ws_decoder_next(&c->decoder, &config, (uint8_t *)c->in.data, c->in.len, &used, &m);
        if (event != WS_NEED_MORE)
            on_event(w, c, event, &m);
        buf_consume(&c->in, used);
    } while (event != WS_NEED_MORE && !w->failed);
}

/* Takes up to `most` bytes from the socket. False when there were none. */
static bool take(struct world *w, struct client *c, size_t most)
{
    ssize_t n = read(c->fd, buf_reserve(&c->in, most), most);
    if (n == 0)
        complain(w, "the node hung up", c, slice_str(""));
    if (n <= 0)
        return false;
    c->in.len += (size_t)n;
    if (!c->upgraded) {
        const char *end = memmem(c->in.data, c->in.len, "\r\n\r\n", 4);
        if (end == NULL)
            return true;
        buf_consume(&c->in, (size_t)(end + 4 - c->in.data));
        c->upgraded = true;
    }
    if (c->in.len > 0)
        decode(w, c);
    return true;
}

static void tell_feed(struct world *w, bool ok)
{
    w->is_suspect = !ok;
    hub_post_feed(w->at.hub, ok, ok ? NULL : "redis_lost");
}

/* --- a run ---------------------------------------------------------------------------------- */

static void act(struct world *w)
{
    if (rng_below(&w->rng, 4) == 0)
        answer(w);
    if (w->is_wild && rng_below(&w->rng, 200) == 0)
        tell_feed(w, w->is_suspect);
    struct client *c = &w->clients[rng_below(&w->rng, CLIENTS)];
    uint64_t dice = rng_below(&w->rng, 100);
    if (dice < 45) {
        publish(w, &w->channels[rng_below(&w->rng, CHANNELS)], false);
    } else if (c->fd < 0) {
        connect_client(w, c);
    } else if (dice < 60) {
        command(w, c);
    } else if (dice < 65) {
        ping(w, c);
    } else if (dice < 66) {
        forget(c);
    } else {
        take(w, c, (size_t)rng_below(&w->rng, 3000) + 1);
    }
}

static bool any_answerable(const struct world *w)
{
    for (unsigned i = 0; i < w->question_count; i++) {
        if (w->channels[w->questions[i].channel].live)
            return true;
    }
    return false;
}

/* Turns and reads until nobody has anything left to say. */
static void settle_all(struct world *w)
{
    for (int quiet = 0; quiet < 30 && !w->failed; quiet++) {
        confirm_channels(w);
        while (w->question_count > 0 && any_answerable(w))
            answer(w);
        turn(w);
        for (int i = 0; i < CLIENTS; i++) {
            if (w->clients[i].fd >= 0 && take(w, &w->clients[i], 65536))
                quiet = 0;
        }
        usleep(200); /* pacing waits for the clock */
    }
}

static void check_newest(struct world *w)
{
    for (int i = 0; i < CHANNELS; i++)
        publish(w, &w->channels[i], true);
    settle_all(w);
    for (int i = 0; i < CLIENTS && !w->failed; i++) {
        const struct client *c = &w->clients[i];
        if (c->pending_id != 0 || c->pings != c->pongs)
            complain(w, "a command or ping without an answer", c, slice_str(""));
        for (int ch = 0; ch < CHANNELS; ch++) {
            if (c->subscribed[ch] && c->index[ch] != w->channels[ch].index)
                complain(w, "not the newest", c, slice_str(w->channels[ch].name));
        }
    }
}

static void world_init(struct world *w, uint64_t seed)
{
    *w = (struct world){.seed = seed, .is_wild = seed % 2 == 1};
    rng_init_seed(&w->rng, seed);
    const char *sets[] = {
        seed % 2 == 0 ? "node.pace_ms=0" : "node.pace_ms=1",
        "node.id=t",
        "limits.commands_per_s=1000000",
        "node.ping_ms=0",
        seed % 3 == 0 ? "limits.soft_bytes=6000" : "limits.soft_bytes=30000",
        "namespace.quote.mode=latest",
        "namespace.quote.modes=latest all",
        "namespace.trade.modes=latest all",
        seed % 4 == 0 ? "namespace.trade.batch_ms=3" : "namespace.trade.batch_ms=0",
        seed % 5 == 0 ? "namespace.quote.batch_ms=2" : "namespace.quote.batch_ms=0",
        NULL};
    const struct hub_upstream upstream = {
        .interest = on_interest, .recover = on_recover, .readiness = on_readiness, .arg = w};
    lone_node_init(&w->at, sets, &upstream);
    hub_post_feed(w->at.hub, true, NULL);
    w->inflater = ws_inflater_new();
    for (int i = 0; i < CHANNELS; i++)
        snprintf(w->channels[i].name, sizeof w->channels[i].name, "%s:c%d",
                 i % 2 == 0 ? "quote" : "trade", i);
    for (int i = 0; i < CLIENTS; i++)
        w->clients[i].fd = -1;
}

/* All clients leave: nothing of them may be left. */
static void check_empty(struct world *w)
{
    for (int i = 0; i < CLIENTS; i++)
        forget(&w->clients[i]);
    for (int i = 0; i < 5; i++)
        turn(w);
    const struct metrics *m = &w->at.worker->metrics;
    CU_ASSERT_EQUAL(w->at.worker->conn_count, 0);
    CU_ASSERT_EQUAL(atomic_load(&w->at.worker->load), 0);
    CU_ASSERT_EQUAL(w->at.hub->channels.count, 0);
    CU_ASSERT_EQUAL(w->at.hub->cohorts.count, 0);
    CU_ASSERT_EQUAL(w->at.hub->recovering.count, 0);
    CU_ASSERT_EQUAL(metrics_get(m, METRIC_CONNECTIONS), 0);
    CU_ASSERT_EQUAL(metrics_get(m, METRIC_SUBSCRIPTIONS), 0);
    CU_ASSERT_EQUAL(metrics_get(m, METRIC_COHORTS), 0);
    CU_ASSERT_EQUAL(metrics_get(m, METRIC_CHANNELS), 0);
}

static void world_fini(struct world *w)
{
    lone_node_end_worker(&w->at);
    lone_node_fini(&w->at);
    ws_inflater_free(w->inflater);
    buf_fini(&w->inflated);
    for (int i = 0; i < CHANNELS; i++)
        free(w->channels[i].log);
}

static void run_seed(uint64_t seed)
{
    struct world *w = mem_alloc(sizeof *w);
    world_init(w, seed);
    for (int step = 0; step < STEPS && !w->failed; step++) {
        act(w);
        if (rng_below(&w->rng, 3) == 0) {
            confirm_channels(w);
            turn(w);
        }
    }
    settle_all(w);
    check_newest(w);
    CU_ASSERT_FALSE(w->failed);
    if (!w->failed)
        check_empty(w);
    for (int i = 0; i < CLIENTS; i++)
        forget(&w->clients[i]);
    world_fini(w);
    free(w);
}

static void test_random_lives(void)
{
    for (uint64_t seed = 1; seed <= 20; seed++)
        run_seed(seed);
}

static void test_another_seed_every_time(void)
{
    const char *given = getenv("HUB_SEED");
    struct rng rng;
    rng_init_random(&rng);
    run_seed(given != NULL ? strtoull(given, NULL, 10) : rng_next(&rng) >> 16);
}

static const struct unit_test tests[] = {
    {"random lives keep to the model", test_random_lives},
    {"another seed every time", test_another_seed_every_time},
    {NULL, NULL},
};
const struct unit_suite suite_hub = {"hub", tests};
