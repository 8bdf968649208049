/*
 * test_hub.c - the fan-out path against a model: worker, sessions, cohorts and hub, without Redis.
 *
 * Clients on socket pairs with tiny buffers subscribe, unsubscribe, ping, read odd amounts, vanish
 * and come back at random, while publications are numbered per channel. Every byte that a client
 * reads is decoded and held against the rules: an item only between the acks of subscribe and
 * unsubscribe, the first one with its epoch, each later one exactly one above, no gap, no repeat;
 * pongs in order; at the end everyone has the newest. A seed that fails is printed and repeats.
 */
#include "base/map.h"
#include "base/mem.h"
#include "base/rng.h"
#include "domain/hub.h"
#include "protocol/config.h"
#include "runtime/conn.h"
#include "surface/client_http.h"
#include "unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CHANNELS = 12, CLIENTS = 14, STEPS = 3000, PAYLOAD_MAX = 900, SMALL_BUFFER = 4096 };

struct channel {
    char name[32];
    bool wanted;   /* the hub follows it */
    bool live;     /* and was told so */
    uint64_t seq;  /* of the last publication handed to the hub */
    unsigned last; /* fewest steps until it is told that the channel is live */
};

struct client {
    int fd; /* our end; -1: not connected */
    bool upgraded;
    bool deflate;
    struct buf in;
    struct ws_decoder decoder;
    unsigned next_id;
    unsigned pending_id; /* of the command under way; 0: none */
    bool pending_is_subscribe;
    unsigned pending_channel;
    bool subscribed[CHANNELS];
    uint64_t seq[CHANNELS]; /* last item's; 0: the first is still to come */
    unsigned pings, pongs;
};

struct world {
    uint64_t seed;
    struct rng rng;
    struct config *config;
    struct loop *loop;
    struct worker *worker;
    struct hub *hub;
    struct ws_inflater *inflater;
    struct buf inflated;
    struct channel channels[CHANNELS];
    struct client clients[CLIENTS];
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

static void confirm_channels(struct world *w)
{
    for (int i = 0; i < CHANNELS; i++) {
        struct channel *ch = &w->channels[i];
        if (!ch->wanted || ch->live || ch->last-- > 0)
            continue;
        ch->live = true;
        hub_post_live(w->hub, slice_str(ch->name), NULL);
    }
}

static void publish(struct world *w, struct channel *ch)
{
    char payload[PAYLOAD_MAX];
    if (!ch->live)
        return;
    size_t filler = (size_t)rng_below(&w->rng, PAYLOAD_MAX - 64);
    int len = snprintf(payload, sizeof payload, "{\"n\":%llu,\"x\":\"%0*d\"}",
                       (unsigned long long)++ch->seq, (int)filler, 7);
    const struct publication_head head = {.channel = slice_str(ch->name),
                                          .channel_hash = map_hash(slice_str(ch->name)),
                                          .epoch = slice_str("e1"),
                                          .seq = ch->seq,
                                          .ts_ms = 1,
                                          .is_json = true};
    struct publication **list = mem_alloc(sizeof(struct publication *));
    list[0] = publication_new(&head, slice_of(payload, (size_t)len));
    hub_post_publications(w->hub, list, 1);
}

/* --- a turn of the loop ----------------------------------------------------------------------- */

struct stop {
    struct message message;
    struct loop *loop;
};

static void on_stop(struct message *m)
{
    loop_stop(((struct stop *)m)->loop);
}

static void turn(struct world *w)
{
    struct stop stop = {.message = {.run = on_stop}, .loop = w->loop};
    loop_post(w->loop, &stop.message);
    loop_run(w->loop);
}

/* --- a client ------------------------------------------------------------------------------- */

static void forget(struct client *c)
{
    if (c->fd >= 0)
        close(c->fd);
    ws_decoder_fini(&c->decoder);
    buf_fini(&c->in);
    *c = (struct client){.fd = -1};
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
    buf_printf(&request,
               "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
               "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n",
               c->deflate ? "Sec-WebSocket-Extensions: permessage-deflate\r\n" : "");
    atomic_fetch_add(&w->worker->load, 1);
    worker_give_socket(w->worker, pair[1]);
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

static void command(struct world *w, struct client *c)
{
    char text[200];
    if (!c->upgraded || c->pending_id != 0)
        return;
    c->pending_id = ++c->next_id;
    c->pending_channel = (unsigned)rng_below(&w->rng, CHANNELS);
    c->pending_is_subscribe = !c->subscribed[c->pending_channel];
    snprintf(text, sizeof text, "{\"action\":\"%s\",\"id\":%u,\"channels\":[\"%s\"]}",
             c->pending_is_subscribe ? "subscribe" : "unsubscribe", c->pending_id,
             w->channels[c->pending_channel].name);
    send_frame(w, c, WS_OP_TEXT, text);
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

static void on_ack(struct world *w, struct client *c, struct slice text)
{
    unsigned ch = c->pending_channel;
    if (number_after(text, "\"id\":") != c->pending_id || !has(text, "\"accepted\":1"))
        complain(w, "not the ack that was due", c, text);
    c->subscribed[ch] = c->pending_is_subscribe;
    c->seq[ch] = 0;
    c->pending_id = 0;
}

static void on_push(struct world *w, struct client *c, struct slice text)
{
    int ch = 0;
    char key[64];
    do {
        snprintf(key, sizeof key, "\"channel\":\"%s\"", w->channels[ch].name);
    } while (!has(text, key) && ++ch < CHANNELS);
    if (ch == CHANNELS || !c->subscribed[ch]) {
        complain(w, "an item of a channel that is not subscribed", c, text);
        return;
    }
    uint64_t seq = number_after(text, "\"seq\":");
    bool is_first = c->seq[ch] == 0;
    if (is_first != has(text, "\"epoch\":"))
        complain(w, "the epoch belongs to the first item", c, text);
    if (!is_first && seq != c->seq[ch] + 1)
        complain(w, "a gap, a repeat or a step back", c, text);
    if (number_after(text, "\"n\":") != seq || (has(text, "\"snap\":") && !is_first))
        complain(w, "not the publication of that number", c, text);
    c->seq[ch] = seq;
}

static void on_event(struct world *w, struct client *c, enum ws_event event, struct ws_message *m)
{
    if (event == WS_PONG) {
        unsigned number = 0;
        if (!slice_to_unsigned(m->payload, UINT16_MAX, &number) || number != ++c->pongs)
            complain(w, "pong out of order", c, m->payload);
    } else if (event != WS_MESSAGE) {
        complain(w, "closed or broken", c, slice_str(m->why != NULL ? m->why : "close"));
    } else if (has(m->payload, "\"action\":\"ack\"")) {
        on_ack(w, c, m->payload);
    } else if (has(m->payload, "\"action\":\"push\"")) {
        on_push(w, c, m->payload);
    } else if (!has(m->payload, "\"action\":\"hello\"")) {
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

/* --- a run ---------------------------------------------------------------------------------- */

static void act(struct world *w)
{
    struct client *c = &w->clients[rng_below(&w->rng, CLIENTS)];
    uint64_t dice = rng_below(&w->rng, 100);
    if (dice < 45) {
        publish(w, &w->channels[rng_below(&w->rng, CHANNELS)]);
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

/* Turns and reads until nobody has anything left to say. */
static void settle_all(struct world *w)
{
    for (int quiet = 0; quiet < 30 && !w->failed; quiet++) {
        confirm_channels(w);
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
        publish(w, &w->channels[i]);
    settle_all(w);
    for (int i = 0; i < CLIENTS && !w->failed; i++) {
        const struct client *c = &w->clients[i];
        if (c->pending_id != 0 || c->pings != c->pongs)
            complain(w, "a command or ping without an answer", c, slice_str(""));
        for (int ch = 0; ch < CHANNELS; ch++) {
            if (c->subscribed[ch] && c->seq[ch] != w->channels[ch].seq)
                complain(w, "not the newest", c, slice_str(w->channels[ch].name));
        }
    }
}

static void world_init(struct world *w, uint64_t seed)
{
    *w = (struct world){.seed = seed};
    rng_init_seed(&w->rng, seed);
    const char *sets[] = {seed % 2 == 0 ? "node.pace_ms=0" : "node.pace_ms=1", "node.id=t",
                          "limits.commands_per_s=1000000", "node.ping_ms=0", NULL};
    const struct config_source source = {.sets = sets};
    struct buf error = {0}, warnings = {0};
    w->config = config_load(&source, &error, &warnings);
    CU_ASSERT_PTR_NOT_NULL_FATAL(w->config);
    buf_fini(&warnings);
    w->loop = loop_new();
    w->worker = worker_new(0, w->loop, w->config, &client_ops);
    const struct hub_upstream upstream = {
        .interest = on_interest, .readiness = on_readiness, .arg = w};
    w->hub = hub_new(w->worker, &upstream);
    worker_start(w->worker);
    hub_post_feed(w->hub, true, NULL);
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
    const struct metrics *m = &w->worker->metrics;
    CU_ASSERT_EQUAL(w->worker->conn_count, 0);
    CU_ASSERT_EQUAL(atomic_load(&w->worker->load), 0);
    CU_ASSERT_EQUAL(w->hub->channels.count, 0);
    CU_ASSERT_EQUAL(w->hub->cohorts.count, 0);
    CU_ASSERT_EQUAL(metrics_get(m, METRIC_CONNECTIONS), 0);
    CU_ASSERT_EQUAL(metrics_get(m, METRIC_SUBSCRIPTIONS), 0);
    CU_ASSERT_EQUAL(metrics_get(m, METRIC_COHORTS), 0);
    CU_ASSERT_EQUAL(metrics_get(m, METRIC_CHANNELS), 0);
}

static void world_fini(struct world *w)
{
    worker_abort_all(w->worker);
    hub_free(w->hub);
    worker_free(w->worker);
    loop_free(w->loop);
    config_unref(w->config);
    ws_inflater_free(w->inflater);
    buf_fini(&w->inflated);
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

/* --- single rules ----------------------------------------------------------------------------- */

static struct client *subscriber(struct world *w, int index, unsigned channel)
{
    struct client *c = &w->clients[index];
    connect_client(w, c);
    settle_all(w);
    c->pending_id = ++c->next_id;
    c->pending_channel = channel;
    c->pending_is_subscribe = true;
    char text[200];
    snprintf(text, sizeof text, "{\"action\":\"subscribe\",\"id\":%u,\"channels\":[\"%s\"]}",
             c->pending_id, w->channels[channel].name);
    send_frame(w, c, WS_OP_TEXT, text);
    settle_all(w);
    return c;
}

static void test_same_set_shares_a_cohort(void)
{
    struct world *w = mem_alloc(sizeof *w);
    world_init(w, 2);
    const struct metrics *m = &w->worker->metrics;
    unsigned plain = 0, packed = 0;
    for (int i = 0; i < 6; i++)
        *(subscriber(w, i, 0)->deflate ? &packed : &plain) += 1;
    CU_ASSERT_EQUAL(metrics_get(m, METRIC_COHORTS), (plain > 0) + (packed > 0));
    subscriber(w, 6, 1);
    CU_ASSERT_EQUAL(metrics_get(m, METRIC_COHORTS), (uint64_t)(plain > 0) + (packed > 0) + 1);
    CU_ASSERT_FALSE(w->failed);
    check_empty(w);
    world_fini(w);
    free(w);
}

/* The first goes out in its own turn; what follows within the pace waits, and leaves together. */
static void test_pacing(void)
{
    struct world *w = mem_alloc(sizeof *w);
    world_init(w, 2);
    w->hub->pace_ms = 300;
    struct client *c = subscriber(w, 0, 0);
    const struct metrics *m = &w->worker->metrics;
    uint64_t writes = metrics_get(m, METRIC_WRITES);
    publish(w, &w->channels[0]);
    turn(w);
    CU_ASSERT_EQUAL(metrics_get(m, METRIC_WRITES), writes + 1);
    for (int i = 0; i < 10; i++) {
        publish(w, &w->channels[0]);
        turn(w);
    }
    CU_ASSERT_EQUAL(metrics_get(m, METRIC_WRITES), writes + 1);
    for (int ms = 0; ms < 5000 && metrics_get(m, METRIC_WRITES) == writes + 1; ms++) {
        usleep(1000);
        turn(w);
    }
    CU_ASSERT_EQUAL(metrics_get(m, METRIC_WRITES), writes + 2);
    CU_ASSERT_EQUAL(metrics_get(m, METRIC_DELIVERIES), 11);
    settle_all(w);
    CU_ASSERT_EQUAL(c->seq[0], 11);
    CU_ASSERT_FALSE(w->failed);
    check_empty(w);
    world_fini(w);
    free(w);
}

static void test_who_never_reads_is_closed(void)
{
    struct world *w = mem_alloc(sizeof *w);
    world_init(w, 4);
    subscriber(w, 0, 0);
    const struct metrics *m = &w->worker->metrics;
    for (int i = 0; i < 100000 && metrics_get(m, METRIC_ENDED_SLOW) == 0; i++) {
        publish(w, &w->channels[0]);
        turn(w);
    }
    CU_ASSERT_EQUAL(metrics_get(m, METRIC_ENDED_SLOW), 1);
    CU_ASSERT_EQUAL(metrics_get(m, METRIC_CONNECTIONS), 0);
    check_empty(w);
    world_fini(w);
    free(w);
}

static const struct unit_test tests[] = {
    {"random lives keep to the model", test_random_lives},
    {"another seed every time", test_another_seed_every_time},
    {"the same set and format share a cohort", test_same_set_shares_a_cohort},
    {"pacing: at once, then together", test_pacing},
    {"who never reads is closed past the hard limit", test_who_never_reads_is_closed},
    {NULL, NULL},
};
const struct unit_suite suite_hub = {"hub", tests};
