/*
 * test_delivery.c - single rules of who is sent what, each in a scene of its own.
 *
 * The model in test_hub.c tries what comes at random; here a scene is played step by step: clients
 * on socket pairs, publications of every kind (plain ones among stamped ones, cleared values, new
 * epochs, healed states), answers of the bus in the order that hurts. Each test is named after the
 * fault that it keeps away.
 */
#include "base/map.h"
#include "base/mem.h"
#include "domain/hub.h"
#include "domain/session.h"
#include "lone_node.h"
#include "protocol/config.h"
#include "surface/client_http.h"
#include "unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { TOKENS_MAX = 64, SMALL_BUFFER = 4096 };

struct node {
    struct lone_node at;
    struct ws_inflater *inflater;
    struct buf inflated;
    uint64_t tokens[TOKENS_MAX]; /* questions for the bus, in order */
    unsigned token_count;
};

struct client {
    int fd;
    bool upgraded;
    struct buf in;
    struct ws_decoder decoder;
    struct buf heard; /* all messages, a line each */
};

/* --- the node ------------------------------------------------------------------------------- */

static void on_interest(void *arg, unsigned worker, struct slice name, bool wanted)
{
    (void)arg;
    (void)worker;
    (void)name;
    (void)wanted;
}

static void on_recover(void *arg, unsigned worker, struct slice name, struct slice epoch,
                       uint64_t seq, uint64_t token)
{
    (void)worker;
    (void)name;
    (void)epoch;
    (void)seq;
    struct node *n = arg;
    if (n->token_count < TOKENS_MAX)
        n->tokens[n->token_count++] = token;
}

static struct node *node_new(const char *set)
{
    struct node *n = mem_zalloc(sizeof *n);
    const char *sets[] = {"node.pace_ms=0",
                          "node.id=t",
                          "limits.commands_per_s=1000000",
                          "node.ping_ms=0",
                          "namespace.quote.mode=latest",
                          "namespace.quote.modes=latest all",
                          "namespace.chat.mode=all",
                          set != NULL ? set : "node.heartbeat_ms=0",
                          NULL};
    const struct hub_upstream upstream = {.interest = on_interest, .recover = on_recover, .arg = n};
    lone_node_init(&n->at, sets, &upstream);
    hub_post_feed(n->at.hub, true, NULL);
    n->inflater = ws_inflater_new();
    return n;
}

static void node_free(struct node *n)
{
    lone_node_end_worker(&n->at);
    lone_node_fini(&n->at);
    ws_inflater_free(n->inflater);
    buf_fini(&n->inflated);
    free(n);
}

static void turn(struct node *n)
{
    lone_node_turn(&n->at);
}

/* --- publications --------------------------------------------------------------------------- */

static struct publication *make(struct publication_head head, const char *channel,
                                const char *epoch, uint64_t seq, const char *payload)
{
    head.channel = slice_str(channel);
    head.channel_hash = map_hash(head.channel);
    head.epoch = slice_str(epoch);
    head.seq = seq;
    head.ts_ms = 1;
    head.is_json = true;
    head.cleared = payload == NULL;
    return publication_new(&head, payload != NULL ? slice_str(payload) : (struct slice){0});
}

/* payload NULL: the value is cleared; seq 0: a plain message. */
static void publish(struct node *n, const char *channel, uint64_t seq, const char *payload)
{
    struct publication **list = mem_alloc(sizeof(struct publication *));
    list[0] = make((struct publication_head){0}, channel, "e1", seq, payload);
    hub_post_publications(n->at.hub, list, 1);
}

static void live(struct node *n, const char *channel, uint64_t seq, const char *payload)
{
    struct publication *last =
        seq != 0 ? make((struct publication_head){0}, channel, "e1", seq, payload) : NULL;
    hub_post_live(n->at.hub, slice_str(channel), last, NULL, true);
    if (last != NULL)
        publication_unref(last);
}

/* --- clients -------------------------------------------------------------------------------- */

static void client_open(struct node *n, struct client *c, const char *query)
{
    int pair[2];
    int small = SMALL_BUFFER;
    *c = (struct client){.fd = -1};
    CU_ASSERT_EQUAL_FATAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    c->fd = pair[0];
    struct buf request = {0};
    buf_printf(&request,
               "GET /ws%s HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
               "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
               query);
    atomic_fetch_add(&n->at.worker->load, 1);
    worker_give_socket(n->at.worker, pair[1], &(union socket_peer){0});
    CU_ASSERT_EQUAL(write(c->fd, request.data, request.len), (ssize_t)request.len);
    buf_fini(&request);
    turn(n);
    turn(n);
}

static void client_close(struct node *n, struct client *c)
{
    close(c->fd);
    ws_decoder_fini(&c->decoder);
    buf_fini(&c->in);
    buf_fini(&c->heard);
    turn(n);
    turn(n);
}

/* Written now, read by the node in its next turn. */
static void say(struct client *c, const char *text)
{
    struct buf frame = {0};
    ws_encode_masked(&frame, WS_OP_TEXT, true, slice_str(text), 7);
    CU_ASSERT_EQUAL(write(c->fd, frame.data, frame.len), (ssize_t)frame.len);
    buf_fini(&frame);
}

static void decode(struct node *n, struct client *c)
{
    const struct ws_decoder_config config = {
        .message_bytes = 1 << 24, .inflater = n->inflater, .inflated = &n->inflated};
    enum ws_event event;
    do {
        struct ws_message m = {0};
        size_t used = 0;
        event = ws_decoder_next(&c->decoder, &config, (uint8_t *)c->in.data, c->in.len, &used, &m);
        if (event == WS_MESSAGE) {
            buf_append(&c->heard, m.payload.ptr, m.payload.len);
            buf_append(&c->heard, "\n", 1);
        } else if (event == WS_CLOSE) {
            buf_printf(&c->heard, "close %u\n", m.code);
        }
        buf_consume(&c->in, used);
    } while (event != WS_NEED_MORE && event != WS_CLOSE && event != WS_ERROR);
}

static bool take(struct node *n, struct client *c)
{
    ssize_t len = read(c->fd, buf_reserve(&c->in, 65536), 65536);
    if (len <= 0)
        return false;
    c->in.len += (size_t)len;
    if (!c->upgraded) {
        const char *end = memmem(c->in.data, c->in.len, "\r\n\r\n", 4);
        if (end == NULL)
            return true;
        buf_consume(&c->in, (size_t)(end + 4 - c->in.data));
        c->upgraded = true;
    }
    decode(n, c);
    return true;
}

/* Reads until nothing more comes. Returns all that was ever heard, ended by a zero. */
static const char *hear(struct node *n, struct client *c)
{
    for (int quiet = 0; quiet < 4; quiet++) {
        turn(n);
        if (take(n, c))
            quiet = 0;
    }
    *buf_reserve(&c->heard, 1) = '\0';
    return c->heard.data;
}

static void forget(struct client *c)
{
    buf_clear(&c->heard);
}

static unsigned times(const char *text, const char *what)
{
    unsigned count = 0;
    for (const char *at = text; (at = strstr(at, what)) != NULL; at++)
        count++;
    return count;
}

/* --- scenes --------------------------------------------------------------------------------- */

/* A cleared value makes no frame for raw clients, yet their cohort is on its way to be flushed. */
static void test_cleared_among_raw(void)
{
    struct node *n = node_new(NULL);
    struct client a, b;
    client_open(n, &a, "?format=raw&channels=quote:A");
    live(n, "quote:A", 0, NULL);
    turn(n);
    client_open(n, &b, "?format=raw&channels=quote:B");
    publish(n, "quote:A", 1, NULL);
    live(n, "quote:B", 0, NULL);
    hub_post_feed(n->at.hub, true, NULL); /* which settles everybody */
    publish(n, "quote:A", 2, "{\"n\":2}");
    alarm(10);
    CU_ASSERT_EQUAL(times(hear(n, &a), "{\"n\":2}"), 1);
    alarm(0);
    client_close(n, &a);
    client_close(n, &b);
    node_free(n);
}

static void test_plain_is_not_repeated_with_a_snapshot(void)
{
    struct node *n = node_new(NULL);
    struct client a, b;
    client_open(n, &a, "?channels=quote:A");
    live(n, "quote:A", 0, NULL);
    publish(n, "quote:A", 1, "{\"n\":1}");
    publish(n, "quote:A", 0, "{\"plain\":0}");
    hear(n, &a);
    say(&a, "{\"action\":\"snapshot\",\"id\":1,\"channels\":[\"quote:A\"]}");
    const char *heard = hear(n, &a);
    CU_ASSERT_EQUAL(times(heard, "\"snap\":true"), 1);
    CU_ASSERT_EQUAL(times(heard, "{\"plain\":0}"), 1);
    /* Nor is it sent to who comes later. */
    client_open(n, &b, "?channels=quote:A");
    heard = hear(n, &b);
    CU_ASSERT_EQUAL(times(heard, "\"snap\":true"), 1);
    CU_ASSERT_EQUAL(times(heard, "{\"plain\":0}"), 0);
    client_close(n, &a);
    client_close(n, &b);
    node_free(n);
}

/* Two requests that wait name the same channel, with the same position: it is recovered once. */
static void test_recovered_once(void)
{
    struct node *n = node_new(NULL);
    struct client a;
    client_open(n, &a, "");
    for (int i = 0; i < 2; i++)
        say(&a, "{\"action\":\"subscribe\",\"channels\":[\"chat:A\"],\"since\":{\"chat:A\":"
                "{\"epoch\":\"e1\",\"seq\":1}}}");
    hear(n, &a);
    live(n, "chat:A", 3, "{\"n\":3}");
    CU_ASSERT_EQUAL_FATAL(n->token_count, 2);
    for (unsigned i = 0; i < 2; i++) {
        struct publication **list = mem_alloc(2 * sizeof(struct publication *));
        list[0] = make((struct publication_head){0}, "chat:A", "e1", 2, "{\"n\":2}");
        list[1] = make((struct publication_head){0}, "chat:A", "e1", 3, "{\"n\":3}");
        hub_post_recovery(n->at.hub, n->tokens[i], list, 2, true);
    }
    const char *heard = hear(n, &a);
    CU_ASSERT_EQUAL(times(heard, "\"action\":\"ack\""), 2);
    CU_ASSERT_EQUAL(times(heard, "{\"n\":2}"), 1);
    CU_ASSERT_EQUAL(times(heard, "{\"n\":3}"), 1);
    client_close(n, &a);
    node_free(n);
}

/* One recovery that becomes too much must not cost another one the publication at hand. */
static void test_overflowing_recovery_harms_no_other(void)
{
    struct node *n = node_new("limits.hard_bytes=40000");
    struct client c[3];
    static char big[12000];
    snprintf(big, sizeof big, "{\"x\":\"%0*d\"}", (int)sizeof big - 20, 7);
    for (int i = 0; i < 3; i++) {
        client_open(n, &c[i], "");
        say(&c[i], "{\"action\":\"subscribe\",\"channels\":[\"chat:A\",\"chat:B\"],\"since\":"
                   "{\"chat:A\":{\"epoch\":\"e1\",\"seq\":1}}}");
        turn(n);
        turn(n);
    }
    live(n, "chat:A", 2, "{\"n\":2}");
    for (unsigned i = 0; i < 3; i++) {
        struct publication **list = mem_alloc(sizeof(struct publication *));
        list[0] = make((struct publication_head){0}, "chat:A", "e1", 2, i == 0 ? big : "{\"n\":2}");
        hub_post_recovery(n->at.hub, n->tokens[i], list, 1, true);
    }
    publish(n, "chat:A", 3, "{\"n\":3}");
    big[8] = '1';
    publish(n, "chat:A", 4, big); /* too much for the first */
    live(n, "chat:B", 0, NULL);
    for (int i = 0; i < 3; i++) {
        const char *heard = hear(n, &c[i]);
        CU_ASSERT_EQUAL(times(heard, "\"seq\":4"), 1);
        CU_ASSERT_EQUAL(times(heard, "\"recovered\":["), i == 0 ? 0 : 1);
        client_close(n, &c[i]);
    }
    node_free(n);
}

/* The last of a client's wishes counts, whatever waits for Redis. */
static void test_unsubscribe_ends_all_that_waits(void)
{
    struct node *n = node_new(NULL);
    struct client a;
    client_open(n, &a, "?channels=quote:A");
    live(n, "quote:A", 0, NULL);
    hear(n, &a);
    say(&a, "{\"action\":\"subscribe\",\"id\":1,\"channels\":[\"quote:A\",\"quote:B\"]}");
    say(&a, "{\"action\":\"subscribe\",\"id\":2,\"channels\":[\"quote:B\"]}");
    say(&a, "{\"action\":\"unsubscribe\",\"id\":3,\"channels\":[\"quote:A\",\"quote:B\"]}");
    hear(n, &a);
    live(n, "quote:B", 0, NULL);
    turn(n);
    say(&a, "{\"action\":\"list\",\"id\":4}");
    const char *heard = hear(n, &a);
    CU_ASSERT_EQUAL(times(heard, "\"id\":3,\"accepted\":2"), 1);
    CU_ASSERT_EQUAL(times(heard, "\"id\":4,\"channels\":[]"), 1);
    client_close(n, &a);
    node_free(n);
}

/* What is published after the ack arrives in mode `all`, also while the snapshot still waits. */
static void test_all_mode_behind_a_snapshot(void)
{
    struct node *n = node_new(NULL);
    struct client a;
    static char big[20000];
    snprintf(big, sizeof big, "{\"x\":\"%0*d\"}", (int)sizeof big - 20, 7);
    client_open(n, &a, "?channels=quote:A");
    live(n, "quote:A", 0, NULL);
    hear(n, &a);
    publish(n, "quote:A", 1, big); /* the socket is full */
    turn(n);
    say(&a, "{\"action\":\"subscribe\",\"channels\":[\"quote:B\"],\"mode\":\"all\"}");
    turn(n);
    live(n, "quote:B", 1, "{\"n\":1}");
    turn(n);
    publish(n, "quote:B", 2, "{\"n\":2}");
    publish(n, "quote:B", 0, "{\"plain\":0}");
    publish(n, "quote:B", 3, "{\"n\":3}");
    publish(n, "quote:B", 0, "{\"plain\":1}");
    turn(n);
    const char *heard = hear(n, &a);
    CU_ASSERT_EQUAL(times(heard, "{\"n\":2}"), 1);
    CU_ASSERT(times(heard, "{\"n\":3}") >= 1);
    CU_ASSERT_EQUAL(times(heard, "{\"plain\":0}"), 1);
    CU_ASSERT_EQUAL(times(heard, "{\"plain\":1}"), 1);
    CU_ASSERT_EQUAL(times(heard, "\"missed\""), 0);
    forget(&a);
    publish(n, "quote:B", 4, "{\"n\":4}");
    heard = hear(n, &a);
    CU_ASSERT_EQUAL(times(heard, "{\"n\":4}"), 1);
    CU_ASSERT_EQUAL(times(heard, "\"missed\""), 0);
    client_close(n, &a);
    node_free(n);
}

/* A client of mode `all` that is held up and asks for a snapshot loses nothing by that. */
static void test_snapshot_costs_no_event(void)
{
    struct node *n = node_new(NULL);
    struct client a;
    static char big[20000];
    snprintf(big, sizeof big, "{\"x\":\"%0*d\"}", (int)sizeof big - 20, 7);
    client_open(n, &a, "");
    say(&a, "{\"action\":\"subscribe\",\"channels\":[\"quote:A\"],\"mode\":\"all\"}");
    hear(n, &a);
    live(n, "quote:A", 0, NULL);
    publish(n, "quote:A", 1, "{\"n\":1}");
    hear(n, &a);
    publish(n, "quote:A", 2, big); /* the socket is full */
    turn(n);
    say(&a, "{\"action\":\"snapshot\",\"channels\":[\"quote:A\"]}");
    turn(n);
    publish(n, "quote:A", 3, "{\"n\":3}");
    publish(n, "quote:A", 4, NULL);
    const char *heard = hear(n, &a);
    CU_ASSERT_EQUAL(times(heard, "{\"n\":3}"), 1);
    CU_ASSERT_EQUAL(times(heard, "\"cleared\":true"), 1);
    CU_ASSERT_EQUAL(times(heard, "\"missed\""), 0);
    client_close(n, &a);
    node_free(n);
}

/* A channel was left and followed again before the bus knew: its state may be newer than what was
 * under way. */
static void test_live_brings_what_is_newer(void)
{
    struct node *n = node_new(NULL);
    struct client a;
    client_open(n, &a, "?channels=quote:A");
    publish(n, "quote:A", 5, "{\"n\":5}"); /* under way since the channel was followed last */
    live(n, "quote:A", 7, "{\"n\":7}");
    const char *heard = hear(n, &a);
    CU_ASSERT_EQUAL(times(heard, "{\"n\":7}"), 1);
    /* And the same for those who were answered too early. */
    live(n, "quote:A", 10, "{\"n\":10}");
    live(n, "quote:A", 10, "{\"n\":10}");
    heard = hear(n, &a);
    CU_ASSERT_EQUAL(times(heard, "{\"n\":10}"), 1);
    client_close(n, &a);
    node_free(n);
}

/* While the feed is suspect nobody waits for the state, so it comes as an item like any other. What
 * the node lost before it is nothing that this client missed. */
static void test_first_item_misses_nothing(void)
{
    struct node *n = node_new(NULL);
    struct client a;
    hub_post_feed(n->at.hub, false, "redis_lost");
    client_open(n, &a, "?channels=quote:A");
    CU_ASSERT_EQUAL(times(hear(n, &a), "\"accepted\":1"), 1);
    struct publication *last =
        make((struct publication_head){.gap = 2}, "quote:A", "e1", 9, "{\"n\":9}");
    hub_post_live(n->at.hub, slice_str("quote:A"), last, NULL, true);
    publication_unref(last);
    publish(n, "quote:A", 10, "{\"n\":10}");
    const char *heard = hear(n, &a);
    CU_ASSERT_EQUAL(times(heard, "\"epoch\":\"e1\",\"seq\":9,"), 1);
    CU_ASSERT_EQUAL(times(heard, "{\"n\":10}"), 1);
    CU_ASSERT_EQUAL(times(heard, "\"missed\""), 0);
    client_close(n, &a);
    node_free(n);
}

/* The same when it is healed before the channel is live here. */
static void test_first_healed_item_misses_nothing(void)
{
    struct node *n = node_new(NULL);
    struct client a;
    hub_post_feed(n->at.hub, false, "redis_lost");
    client_open(n, &a, "?channels=quote:A");
    CU_ASSERT_EQUAL(times(hear(n, &a), "\"accepted\":1"), 1);
    struct publication **list = mem_alloc(2 * sizeof(struct publication *));
    list[0] = make((struct publication_head){.gap = 4}, "quote:A", "e1", 10, "{\"n\":10}");
    list[1] = make((struct publication_head){.gap = 1}, "quote:A", "e1", 12, "{\"n\":12}");
    hub_post_publications(n->at.hub, list, 2);
    const char *heard = hear(n, &a);
    CU_ASSERT_EQUAL(times(heard, "\"seq\":10,"), 1);
    CU_ASSERT_EQUAL(times(heard, "\"seq\":12,"), 1);
    CU_ASSERT_EQUAL(times(heard, "\"missed\":4"), 0);
    CU_ASSERT_EQUAL(times(heard, "\"missed\":1"), 1);
    client_close(n, &a);
    node_free(n);
}

/* What a client says that it has is not sent again; the first item that is still says the epoch. */
static void test_epoch_behind_what_is_covered(void)
{
    struct node *n = node_new(NULL);
    struct client c;
    hub_post_feed(n->at.hub, false, "redis_lost");
    client_open(n, &c, "");
    say(&c, "{\"action\":\"subscribe\",\"channels\":[\"chat:x\"],"
            "\"since\":{\"chat:x\":{\"epoch\":\"e1\",\"seq\":5}}}");
    turn(n);
    publish(n, "chat:x", 5, "5");
    turn(n);
    say(&c, "{\"action\":\"subscribe\",\"channels\":[\"chat:y\"]}");
    turn(n);
    publish(n, "chat:x", 8, "8");
    const char *heard = hear(n, &c);
    CU_ASSERT_PTR_NULL(strstr(heard, "\"seq\":5"));
    CU_ASSERT_PTR_NOT_NULL(
        strstr(heard, "\"epoch\":\"e1\",\"seq\":8,\"ts\":1,\"data\":8,\"missed\":2"));
    client_close(n, &c);
    node_free(n);
}

/* A state that was healed while a recovery was under way replaces what the client has. */
static void test_recorded_snapshot(void)
{
    struct node *n = node_new(NULL);
    struct client a;
    client_open(n, &a, "");
    say(&a, "{\"action\":\"subscribe\",\"channels\":[\"quote:A\",\"quote:B\"],\"since\":"
            "{\"quote:A\":{\"epoch\":\"e1\",\"seq\":1}}}");
    hear(n, &a);
    live(n, "quote:A", 2, "{\"n\":2}");
    struct publication **list = mem_alloc(sizeof(struct publication *));
    list[0] = make((struct publication_head){0}, "quote:A", "e1", 2, "{\"n\":2}");
    hub_post_recovery(n->at.hub, n->tokens[0], list, 1, true);
    list = mem_alloc(sizeof(struct publication *));
    list[0] = make((struct publication_head){.is_snapshot = true}, "quote:A", "e1", 9, "{\"n\":9}");
    hub_post_publications(n->at.hub, list, 1);
    live(n, "quote:B", 0, NULL);
    const char *heard = hear(n, &a);
    CU_ASSERT_EQUAL(times(heard, "\"seq\":9,\"ts\":1,\"snap\":true"), 1);
    client_close(n, &a);
    node_free(n);
}

/* What was recovered counts as it is sent, so that nobody is closed as slow for coming back. */
static void test_recovered_fits(void)
{
    struct node *n = node_new("limits.hard_bytes=100000");
    struct client a;
    client_open(n, &a, "");
    say(&a, "{\"action\":\"subscribe\",\"channels\":[\"chat:A\"],\"since\":"
            "{\"chat:A\":{\"epoch\":\"e1\",\"seq\":1}}}");
    hear(n, &a);
    live(n, "chat:A", 2001, "{\"n\":1}");
    struct publication **list = mem_alloc(2000 * sizeof(struct publication *));
    for (unsigned i = 0; i < 2000; i++)
        list[i] = make((struct publication_head){0}, "chat:A", "e1", 2 + i, "{\"n\":1}");
    hub_post_recovery(n->at.hub, n->tokens[0], list, 2000, true);
    turn(n);
    publish(n, "chat:A", 2002, "{\"n\":2002}");
    turn(n);
    const char *heard = hear(n, &a);
    CU_ASSERT_EQUAL(times(heard, "\"slow\""), 0);
    CU_ASSERT_EQUAL(times(heard, "close "), 0);
    CU_ASSERT_EQUAL(times(heard, "{\"n\":2002}"), 1);
    client_close(n, &a);
    node_free(n);
}

static void test_same_set_shares_a_cohort(void)
{
    struct node *n = node_new(NULL);
    const struct metrics *m = &n->at.worker->metrics;
    struct client c[7];
    for (int i = 0; i < 6; i++)
        client_open(n, &c[i], i % 2 == 0 ? "?channels=quote:A" : "?format=raw&channels=quote:A");
    live(n, "quote:A", 0, NULL);
    turn(n);
    CU_ASSERT_EQUAL(metrics_get(m, METRIC_COHORTS), 2);
    client_open(n, &c[6], "?channels=quote:B");
    live(n, "quote:B", 0, NULL);
    turn(n);
    CU_ASSERT_EQUAL(metrics_get(m, METRIC_COHORTS), 3);
    for (int i = 0; i < 7; i++)
        client_close(n, &c[i]);
    CU_ASSERT_EQUAL(metrics_get(m, METRIC_COHORTS), 0);
    node_free(n);
}

/* The first goes out in its own turn; what follows within the pace waits, and leaves together. */
static void test_pacing(void)
{
    struct node *n = node_new(NULL);
    const struct metrics *m = &n->at.worker->metrics;
    struct client a;
    n->at.hub->pace_ms = 300;
    client_open(n, &a, "?channels=quote:A");
    live(n, "quote:A", 0, NULL);
    hear(n, &a);
    uint64_t writes = metrics_get(m, METRIC_WRITES);
    for (uint64_t seq = 1; seq <= 11; seq++) {
        publish(n, "quote:A", seq, "{\"n\":1}");
        turn(n);
        CU_ASSERT_EQUAL(metrics_get(m, METRIC_WRITES), writes + 1);
    }
    for (int ms = 0; ms < 5000 && metrics_get(m, METRIC_WRITES) == writes + 1; ms++) {
        usleep(1000);
        turn(n);
    }
    CU_ASSERT_EQUAL(metrics_get(m, METRIC_WRITES), writes + 2);
    CU_ASSERT_EQUAL(metrics_get(m, METRIC_DELIVERIES), 11);
    CU_ASSERT_EQUAL(times(hear(n, &a), "{\"n\":1}"), 11);
    client_close(n, &a);
    node_free(n);
}

/* Cohorts of other sets may have the same to send. */
static void test_same_bytes_are_packed_once(void)
{
    struct node *n = node_new(NULL);
    const struct cohort_format format = {.deflate = true, .window_bits = 15};
    struct frame *packed[3];
    struct buf text = {0};
    while (text.len < 1000)
        buf_append_str(&text, "{\"price\":\"190.01\"}");
    for (int i = 0; i < 3; i++) {
        if (i == 2)
            turn(n); /* nothing is kept for the next one */
        packed[i] = hub_pack(n->at.hub, frame_text(&text), format);
        CU_ASSERT(packed[i]->len < text.len / 2);
    }
    CU_ASSERT_PTR_EQUAL(packed[0], packed[1]);
    CU_ASSERT_PTR_NOT_EQUAL(packed[1], packed[2]);
    for (int i = 0; i < 3; i++)
        frame_unref(packed[i]);
    turn(n);
    buf_fini(&text);
    node_free(n);
}

/* A market that moves at once is not sent at once to everyone who wants two updates per second. */
static void test_phases_are_spread(void)
{
    enum { CLIENTS = 8, PATIENCE_MS = 5000 };
    struct node *n = node_new(NULL);
    struct client c[CLIENTS];
    int heard_at[CLIENTS] = {0}, first = PATIENCE_MS, last = 0;
    char text[128];
    for (int i = 0; i < CLIENTS; i++) { /* each in a cohort of its own */
        client_open(n, &c[i], "");
        snprintf(text, sizeof text,
                 "{\"action\":\"subscribe\",\"channels\":[\"quote:A\",\"quote:B%d\"],"
                 "\"max_rate\":2}",
                 i);
        say(&c[i], text);
        turn(n);
        snprintf(text, sizeof text, "quote:B%d", i);
        live(n, text, 0, NULL);
    }
    live(n, "quote:A", 0, NULL);
    publish(n, "quote:A", 1, "1");
    publish(n, "quote:A", 2, "2");
    for (int ms = 1; ms < PATIENCE_MS && last == 0; ms++) {
        usleep(1000);
        turn(n);
        last = ms;
        for (int i = 0; i < CLIENTS; i++) {
            take(n, &c[i]);
            *buf_reserve(&c[i].heard, 1) = '\0';
            if (heard_at[i] == 0 && times(c[i].heard.data, "\"data\":2") == 1)
                heard_at[i] = ms;
            last = heard_at[i] == 0 ? 0 : last;
        }
    }
    for (int i = 0; i < CLIENTS; i++) {
        CU_ASSERT_EQUAL(times(c[i].heard.data, "\"data\":1"), 1);
        first = heard_at[i] < first ? heard_at[i] : first;
    }
    CU_ASSERT(first > 0);
    CU_ASSERT(last > first);
    for (int i = 0; i < CLIENTS; i++)
        client_close(n, &c[i]);
    node_free(n);
}

static void test_who_never_reads_is_closed(void)
{
    struct node *n = node_new("limits.hard_bytes=100000");
    const struct metrics *m = &n->at.worker->metrics;
    struct client a;
    client_open(n, &a, "?channels=chat:A");
    live(n, "chat:A", 0, NULL);
    turn(n);
    for (uint64_t seq = 1; seq < 100000 && metrics_get(m, METRIC_ENDED_SLOW) == 0; seq++) {
        publish(n, "chat:A", seq, "{\"n\":1}");
        turn(n);
    }
    CU_ASSERT_EQUAL(metrics_get(m, METRIC_ENDED_SLOW), 1);
    CU_ASSERT_EQUAL(metrics_get(m, METRIC_CONNECTIONS), 0);
    client_close(n, &a);
    node_free(n);
}

static const struct unit_test tests[] = {
    {"the same set and format share a cohort", test_same_set_shares_a_cohort},
    {"pacing: at once, then together", test_pacing},
    {"the same bytes are packed once", test_same_bytes_are_packed_once},
    {"phases of max_rate are spread", test_phases_are_spread},
    {"who never reads is closed past the hard limit", test_who_never_reads_is_closed},
    {"a cleared value among raw clients", test_cleared_among_raw},
    {"a plain message is not repeated", test_plain_is_not_repeated_with_a_snapshot},
    {"what two requests recover comes once", test_recovered_once},
    {"a recovery that overflows harms no other", test_overflowing_recovery_harms_no_other},
    {"unsubscribe ends all that waits", test_unsubscribe_ends_all_that_waits},
    {"mode all arrives while a snapshot waits", test_all_mode_behind_a_snapshot},
    {"a snapshot asked for costs no event", test_snapshot_costs_no_event},
    {"live brings what is newer", test_live_brings_what_is_newer},
    {"the first item misses nothing", test_first_item_misses_nothing},
    {"the first healed item misses nothing", test_first_healed_item_misses_nothing},
    {"a healed state in what is recovered", test_recorded_snapshot},
    {"what is recovered fits the limit", test_recovered_fits},
    {"the first item that is not covered says the epoch", test_epoch_behind_what_is_covered},
    {NULL, NULL},
};
const struct unit_suite suite_delivery = {"delivery", tests};
