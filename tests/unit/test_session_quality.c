/*
 * test_session_quality.c - pings, pongs and ends of one connection on a socket pair, and arrivals.
 */
#include "base/mem.h"
#include "domain/hub.h"
#include "domain/quality_monitor.h"
#include "domain/session_quality.h"
#include "lone_node.h"
#include "protocol/config.h"
#include "surface/client_http.h"
#include "unit.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { STAMP_BYTES = 8 };

struct node {
    struct lone_node at;
    struct quality_monitor *monitor;
};

static void on_interest(void *arg, unsigned worker, struct slice name, bool wanted)
{
    (void)arg;
    (void)worker;
    (void)name;
    (void)wanted;
}

static void node_init(struct node *n, const char *set)
{
    const char *sets[] = {"node.id=t", "node.ping_ms=0", "node.heartbeat_ms=0", set, NULL};
    const struct hub_upstream upstream = {.interest = on_interest};
    lone_node_init(&n->at, sets, &upstream);
    /* It lives for less than a tick, and asks neither bus nor store before. */
    const struct quality_monitor_setup setup = {
        .loop = n->at.loop, .config = n->at.config, .metrics = &n->at.worker->metrics};
    n->monitor = quality_monitor_new(&setup);
    n->at.hub->monitor = n->monitor;
}

static void node_fini(struct node *n)
{
    lone_node_end_worker(&n->at);
    quality_monitor_free(n->monitor);
    lone_node_fini(&n->at);
}

static void turn(struct node *n)
{
    lone_node_turn(&n->at);
}

/* Returns our end; *s is the node's. */
static int join(struct node *n, struct session **s)
{
    static const char request[] =
        "GET /ws?format=raw HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    char response[1024];
    int pair[2];
    CU_ASSERT_EQUAL_FATAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    atomic_fetch_add(&n->at.worker->load, 1);
    worker_give_socket(n->at.worker, pair[1], &(union socket_peer){0});
    CU_ASSERT_EQUAL(write(pair[0], request, sizeof request - 1), (ssize_t)sizeof request - 1);
    turn(n);
    turn(n);
    CU_ASSERT(read(pair[0], response, sizeof response) > 100);
    CU_ASSERT_EQUAL_FATAL(n->at.worker->conn_count, 1);
    *s = n->at.worker->conns[0]->upper;
    return pair[0];
}

static void ping(struct node *n, struct session *s, int fd, char stamp[STAMP_BYTES])
{
    char frame[2 + STAMP_BYTES];
    session_settle_ping(s);
    session_send_ping(s);
    turn(n);
    CU_ASSERT_EQUAL_FATAL(read(fd, frame, sizeof frame), (ssize_t)sizeof frame);
    CU_ASSERT_EQUAL(memcmp(frame, "\x89\x08", 2), 0);
    memcpy(stamp, frame + 2, STAMP_BYTES);
}

static void pong(struct node *n, int fd, const char *payload, size_t len)
{
    struct buf frame = {0};
    ws_encode_masked(&frame, WS_OP_PONG, true, slice_of(payload, len), 7);
    CU_ASSERT_EQUAL(write(fd, frame.data, frame.len), (ssize_t)frame.len);
    buf_fini(&frame);
    turn(n);
    turn(n);
}

static uint64_t counted(const struct node *n, enum metric id)
{
    return metrics_get(&n->at.worker->metrics, id);
}

static uint64_t measured(const struct node *n, enum metric_histogram id)
{
    struct metrics *const all[] = {&n->at.worker->metrics};
    uint64_t sum_ns;
    return metrics_histogram_sum(all, 1, id, &sum_ns);
}

static struct session_quality quality_of(const struct session *s)
{
    struct session_quality q;
    session_read_quality(s, &q);
    return q;
}

/* --- pings ---------------------------------------------------------------------------------- */

static void an_answer_is_measured_once(void)
{
    struct node n;
    struct session *s;
    char stamp[STAMP_BYTES];
    node_init(&n, NULL);
    int fd = join(&n, &s);
    CU_ASSERT_FALSE(quality_of(s).is_measured);
    ping(&n, s, fd, stamp);
    for (int i = 0; i < 3; i++)
        pong(&n, fd, stamp, STAMP_BYTES);
    CU_ASSERT_EQUAL(measured(&n, HISTOGRAM_PING), 1);
    CU_ASSERT_EQUAL(measured(&n, HISTOGRAM_PING_DEVIATION), 0);
    CU_ASSERT_TRUE(quality_of(s).is_measured);
    CU_ASSERT_FALSE(quality_of(s).has_deviation);
    ping(&n, s, fd, stamp);
    usleep(20000);
    pong(&n, fd, stamp, STAMP_BYTES);
    CU_ASSERT_EQUAL(measured(&n, HISTOGRAM_PING_DEVIATION), 1);
    CU_ASSERT(quality_of(s).deviation_us > 10000);
    CU_ASSERT_EQUAL(counted(&n, METRIC_PINGS_SENT), 2);
    CU_ASSERT_EQUAL(counted(&n, METRIC_PINGS_LOST), 0);
    close(fd);
    node_fini(&n);
}

static void the_answer_to_an_older_ping_is_none(void)
{
    struct node n;
    struct session *s;
    char first[STAMP_BYTES], second[STAMP_BYTES];
    node_init(&n, NULL);
    int fd = join(&n, &s);
    ping(&n, s, fd, first);
    usleep(1000);
    ping(&n, s, fd, second);
    CU_ASSERT_EQUAL(counted(&n, METRIC_PINGS_LOST), 1);
    pong(&n, fd, first, STAMP_BYTES);
    CU_ASSERT_EQUAL(measured(&n, HISTOGRAM_PING), 0);
    pong(&n, fd, second, STAMP_BYTES);
    CU_ASSERT_EQUAL(measured(&n, HISTOGRAM_PING), 1);
    close(fd);
    node_fini(&n);
}

/* They show that the client lives, whatever is in them, and change no figure. */
static void foreign_pongs_are_no_answer(void)
{
    struct node n;
    struct session *s;
    char stamp[STAMP_BYTES + 1] = "";
    char large[125] = "";
    node_init(&n, NULL);
    int fd = join(&n, &s);
    pong(&n, fd, "00000000", STAMP_BYTES); /* before there was a ping */
    s->conn->pings_unanswered = 2;
    ping(&n, s, fd, stamp);
    pong(&n, fd, stamp, STAMP_BYTES - 1);
    CU_ASSERT_EQUAL(quality_of(s).pings_unanswered, 0);
    pong(&n, fd, stamp, STAMP_BYTES + 1);
    pong(&n, fd, "", 0);
    pong(&n, fd, large, sizeof large);
    stamp[0] ^= 1;
    pong(&n, fd, stamp, STAMP_BYTES);
    CU_ASSERT_EQUAL(measured(&n, HISTOGRAM_PING), 0);
    session_settle_ping(s);
    session_settle_ping(s);
    CU_ASSERT_EQUAL(counted(&n, METRIC_PINGS_LOST), 1);
    close(fd);
    node_fini(&n);
}

/* --- beginning and end ---------------------------------------------------------------------- */

static uint64_t short_lived_after(const char *set, unsigned wait_us, enum metric cause)
{
    struct node n;
    struct session *s;
    node_init(&n, set);
    int fd = join(&n, &s);
    usleep(wait_us);
    turn(&n);
    conn_close(s->conn, WS_CLOSE_NORMAL, "", cause);
    uint64_t count = counted(&n, METRIC_SHORT_LIVED);
    close(fd);
    node_fini(&n);
    return count;
}

static void only_what_ended_soon_and_by_itself_is_short_lived(void)
{
    CU_ASSERT_EQUAL(short_lived_after(NULL, 0, METRIC_ENDED_CLIENT), 1);
    CU_ASSERT_EQUAL(short_lived_after(NULL, 0, METRIC_ENDED_LOST), 1);
    CU_ASSERT_EQUAL(short_lived_after(NULL, 0, METRIC_ENDED_PROTOCOL), 1);
    CU_ASSERT_EQUAL(short_lived_after(NULL, 0, METRIC_ENDED_KICKED), 0);
    CU_ASSERT_EQUAL(short_lived_after(NULL, 0, METRIC_ENDED_DRAIN), 0);
    CU_ASSERT_EQUAL(short_lived_after("quality.short_lived_ms=100", 250000, METRIC_ENDED_CLIENT),
                    0);
}

static void arrivals_are_counted_by_name(void)
{
    struct node n;
    struct session *s;
    node_init(&n, NULL);
    int fd = join(&n, &s);
    for (int i = 0; i < 3; i++)
        session_note_arrival(s, slice_str("session:00ff"));
    session_note_arrival(s, slice_str("user:42"));
    turn(&n);
    CU_ASSERT_EQUAL(quality_monitor_reconnects(n.monitor, slice_str("session:00ff")), 2);
    CU_ASSERT_EQUAL(quality_monitor_reconnects(n.monitor, slice_str("user:42")), 0);
    CU_ASSERT_EQUAL(quality_monitor_reconnects(n.monitor, slice_str("user:43")), 0);
    close(fd);
    node_fini(&n);
}

/* A hundred thousand idle connections pay for every step to the allocator's next size. */
static void what_is_measured_fits_the_allocator_s_slack(void)
{
    CU_ASSERT(sizeof(struct conn) <= 264);
    CU_ASSERT(sizeof(struct session) <= 88);
}

static const struct unit_test tests[] = {
    {"an answer is measured once", an_answer_is_measured_once},
    {"the answer to an older ping is none", the_answer_to_an_older_ping_is_none},
    {"foreign pongs are no answer", foreign_pongs_are_no_answer},
    {"only what ended soon and by itself is short-lived",
     only_what_ended_soon_and_by_itself_is_short_lived},
    {"arrivals are counted by name", arrivals_are_counted_by_name},
    {"what is measured fits the allocator's slack", what_is_measured_fits_the_allocator_s_slack},
    {NULL, NULL},
};
const struct unit_suite suite_session_quality = {"session_quality", tests};
