/*
 * test_redis_link.c - the link against a scripted Redis in the same event loop.
 *
 * The server listens on a port of the kernel's choice and does only what a test tells it to. What
 * the link calls back is written down as text. No test waits longer than its deadline.
 */
#include "scripted_redis.h"
#include "unit.h"

#include "base/buf.h"
#include "base/clock.h"
#include "runtime/redis_link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/dns.h>
#include <event2/dns_struct.h>
#include <event2/event.h>
#include <event2/util.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
/* === Dialing and greeting ===================================================================== */

static void greets_in_order(void)
{
    struct world w;
    world_open(&w, false);
    strcpy(w.config.url.user, "u");
    strcpy(w.config.url.password, "p w");
    w.config.url.db = 3;
    world_dial(&w);
    CU_ASSERT(await_received(&w, "*3\r\n$4\r\nAUTH\r\n$1\r\nu\r\n$3\r\np w\r\n" HELLO
                                 "*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n"));
    /* An error of CLIENT SETNAME is passed over, whatever the cut of the replies. */
    static const char replies[] = "+OK\r\n-NOPERM no permission\r\n+OK\r\n";
    for (size_t i = 0; i < strlen(replies); i++) {
        CU_ASSERT(is_noted(&w, ""));
        server_send(&w, replies + i, 1);
        pump(&w, NULL, 1);
    }
    CU_ASSERT(await_call(&w, "up ;"));
    world_close(&w);
}

static void password_alone(void)
{
    struct world w;
    world_open(&w, true);
    strcpy(w.config.url.password, "secret");
    world_dial(&w);
    CU_ASSERT(await_received(&w, "*2\r\n$4\r\nAUTH\r\n$6\r\nsecret\r\n" HELLO));
    server_say(&w, "+OK\r\n+OK\r\n");
    CU_ASSERT(await_call(&w, "up ;"));
    world_close(&w);
}

/* Each is a dial that failed, with Redis's own words, and is tried again. */
static void refusals_are_dial_failures(void)
{
    static const struct {
        bool has_password;
        const char *says;
        const char *call;
    } rows[] = {
        {true, "-WRONGPASS invalid\r\n+OK\r\n", "failed WRONGPASS invalid;"},
        {true, "-ERR Client sent AUTH, but no password is set\r\n+OK\r\n", "failed ERR Client "},
        {false, "-NOAUTH Authentication required.\r\n", "failed NOAUTH Authentication required.;"},
        {false, "-LOADING Redis is loading\r\n", "failed LOADING Redis is loading;"},
        {false, "-MASTERDOWN Link\r\n", "failed MASTERDOWN Link;"},
        {false, "-DENIED Redis is running in protected mode\r\n", "failed DENIED "},
        {false, "-ERR max number of clients reached\r\n", "failed ERR max number of clients"},
        {false, "?\r\n", "failed Protocol error"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct world w;
        world_open(&w, i % 2 == 0);
        strcpy(w.config.url.password, rows[i].has_password ? "p" : "");
        world_dial(&w);
        CU_ASSERT_FATAL(await_received(&w, HELLO));
        server_say(&w, rows[i].says);
        CU_ASSERT(await_call(&w, rows[i].call));
        CU_ASSERT_EQUAL(count_calls(&w, "failed"), 1);
        buf_clear(&w.received); /* the redial is at least 25 ms away */
        CU_ASSERT(await_received(&w, HELLO));
        server_say(&w, rows[i].has_password ? "+OK\r\n+OK\r\n" : "+OK\r\n");
        CU_ASSERT(await_call(&w, "up ;"));
        CU_ASSERT_EQUAL(count_calls(&w, "down"), 0);
        world_close(&w);
    }
}

static void refused_connection_is_redialled(void)
{
    struct world w;
    world_open(&w, false);
    server_close(&w);
    world_dial(&w);
    CU_ASSERT(await_call(&w, "Connection refused;"));
    pump(&w, NULL, 300);
    CU_ASSERT(count_calls(&w, "failed 127.0.0.1:") >= 2);
    server_listen(&w);
    CU_ASSERT(pump(&w, is_accepted, 1000)); /* at most 500 ms away */
    world_close(&w);
}

static void silent_redis_is_given_up(void)
{
    struct world w;
    world_open(&w, false);
    world_dial(&w);
    CU_ASSERT(pump(&w, is_accepted, PATIENCE_MS));
    uint64_t start_ms = clock_mono_ms();
    CU_ASSERT(await_call(&w, "failed Redis does not answer;"));
    uint64_t took_ms = clock_mono_ms() - start_ms;
    CU_ASSERT(took_ms >= 800 && took_ms < 1500);
    world_close(&w);
}

/* Half a reply of one connection must not be completed by the next. */
static void half_reply_is_forgotten(void)
{
    struct world w;
    world_open(&w, true);
    world_dial(&w);
    CU_ASSERT_FATAL(await_received(&w, HELLO));
    server_say(&w, "*3\r\n$7\r\nmess");
    pump(&w, NULL, 5);
    server_hang_up(&w);
    CU_ASSERT(await_call(&w, "failed Redis closed the connection;"));
    buf_clear(&w.received);
    CU_ASSERT_FATAL(await_received(&w, HELLO));
    server_say(&w, "+OK\r\n" MESSAGE);
    CU_ASSERT(await_call(&w, "up ;msg hello;"));
    world_close(&w);
}

/* The kernel gives up on one address, the next is tried within the same dial. */
static void next_address_is_tried(void)
{
    struct world w;
    world_open(&w, true);
    int listener = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in6 at = {.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback};
    at.sin6_port = htons(w.config.url.port);
    bool has_ip6 = listener >= 0 && bind(listener, (struct sockaddr *)&at, sizeof at) == 0 &&
                   listen(listener, 1) == 0;
    server_close(&w);
    strcpy(w.config.url.host, "LocalHost");
    world_dial(&w);
    if (has_ip6) {
        int fd = -1;
        for (int i = 0; i < 200 && fd < 0; i++) {
            pump(&w, NULL, 5);
            fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
        }
        CU_ASSERT(fd >= 0);
        CU_ASSERT(is_noted(&w, ""));
        close(fd);
    } else {
        CU_ASSERT(await_call(&w, "failed LocalHost:"));
    }
    if (listener >= 0)
        close(listener);
    world_close(&w);
}

static void unix_socket_works(void)
{
    struct world w;
    world_open(&w, true);
    server_close(&w);
    char folder[] = "/tmp/tickcast-test-XXXXXX";
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder));
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    snprintf(at.sun_path, sizeof at.sun_path, "%s/redis.sock", folder);
    w.config.url.is_unix = true;
    snprintf(w.config.url.host, sizeof w.config.url.host, "%s", at.sun_path);
    world_dial(&w);
    CU_ASSERT(await_call(&w, "redis.sock: No such file or directory;"));
    w.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    CU_ASSERT_EQUAL_FATAL(bind(w.listener, (struct sockaddr *)&at, sizeof at), 0);
    CU_ASSERT_EQUAL_FATAL(listen(w.listener, 4), 0);
    w.accepting = event_new(w.base, w.listener, EV_READ | EV_PERSIST, server_accept, &w);
    event_add(w.accepting, NULL);
    CU_ASSERT(await_received(&w, HELLO));
    server_say(&w, "+OK\r\n");
    CU_ASSERT(await_call(&w, "up ;"));
    world_close(&w);
    unlink(at.sun_path);
    rmdir(folder);
}

/* === Names ==================================================================================== */

/* Answers every question for an A record with 127.0.0.1, after delay turns with nothing. */
struct name_server {
    unsigned refuse; /* questions still to be left without an answer */
    unsigned asked;
};

static void answer_question(struct evdns_server_request *request, void *arg)
{
    struct name_server *s = arg;
    s->asked++;
    if (s->refuse > 0) {
        s->refuse--;
        evdns_server_request_drop(request);
        return;
    }
    for (int i = 0; i < request->nquestions; i++) {
        const struct evdns_server_question *q = request->questions[i];
        const struct in_addr loopback = {.s_addr = htonl(INADDR_LOOPBACK)};
        if (q->type == EVDNS_TYPE_A)
            evdns_server_request_add_a_reply(request, q->name, 1, &loopback, 1);
    }
    evdns_server_request_respond(request,
                                 strcasestr(request->questions[0]->name, "nowhere") ? 3 : 0);
}

static struct evdns_server_port *name_server_open(struct world *w, struct name_server *s)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    CU_ASSERT_EQUAL_FATAL(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    CU_ASSERT_EQUAL_FATAL(getsockname(fd, (struct sockaddr *)&at, &len), 0);
    w->dns = evdns_base_new(w->base, 0);
    CU_ASSERT_EQUAL(evdns_base_set_option(w->dns, "timeout", "0.7"), 0);
    evdns_base_nameserver_sockaddr_add(w->dns, (struct sockaddr *)&at, sizeof at, 0);
    return evdns_add_server_port_with_base(w->base, fd, 0, answer_question, s);
}

static void name_is_resolved(void)
{
    struct world w;
    struct name_server names = {0};
    world_open(&w, true);
    struct evdns_server_port *port = name_server_open(&w, &names);
    strcpy(w.config.url.host, "redis.test");
    world_dial(&w);
    CU_ASSERT(await_received(&w, HELLO));
    CU_ASSERT(names.asked > 0);
    world_close(&w);
    evdns_close_server_port(port);
}

static void unknown_name_is_a_failed_dial(void)
{
    struct world w;
    struct name_server names = {0};
    world_open(&w, true);
    struct evdns_server_port *port = name_server_open(&w, &names);
    strcpy(w.config.url.host, "nowhere.test");
    world_dial(&w);
    CU_ASSERT(await_call(&w, "failed nowhere.test:"));
    unsigned asked = names.asked;
    pump(&w, NULL, 200);
    CU_ASSERT(names.asked > asked);
    world_close(&w);
    evdns_close_server_port(port);
}

/* The answer takes longer than a dial may: that dial fails, a later one has the answer. */
static void slow_name_server_only_delays(void)
{
    struct world w;
    struct name_server names = {.refuse = 4}; /* A and AAAA, twice: 1,400 ms */
    world_open(&w, true);
    struct evdns_server_port *port = name_server_open(&w, &names);
    strcpy(w.config.url.host, "redis.test");
    world_dial(&w);
    CU_ASSERT(await_received(&w, HELLO));
    CU_ASSERT(is_noted(&w, "failed host name not resolved in time;"));
    world_close(&w);
    evdns_close_server_port(port);
}

/* evdns answers even what was cancelled, after the link is gone. */
static void free_during_a_lookup(void)
{
    struct world w;
    struct name_server names = {.refuse = 100};
    world_open(&w, true);
    struct evdns_server_port *port = name_server_open(&w, &names);
    strcpy(w.config.url.host, "redis.test");
    world_dial(&w);
    pump(&w, NULL, 20);
    redis_link_free(w.link);
    w.link = NULL;
    pump(&w, NULL, 50);
    CU_ASSERT(is_noted(&w, ""));
    world_close(&w);
    evdns_close_server_port(port);
}

static void name_without_a_resolver(void)
{
    struct world w;
    world_open(&w, true);
    strcpy(w.config.url.host, "redis.test");
    world_dial(&w);
    CU_ASSERT(await_call(&w, ": no name server to resolve it with;"));
    world_close(&w);
}

/* === Backoff ================================================================================== */

/* A Redis that accepts and closes is not hammered, and not left alone for long either. */
static void redials_are_spaced(void)
{
    static const unsigned caps_ms[] = {50, 100, 200, 400, 500, 500};
    struct world w;
    world_open(&w, false);
    w.is_slammer = true;
    uint64_t start_ms = clock_mono_ms();
    world_dial(&w);
    pump(&w, NULL, 2000);
    CU_ASSERT_FATAL(w.accepted >= 6);
    CU_ASSERT(w.accepted_ms[0] - start_ms < 100);
    for (unsigned i = 0; i + 1 < w.accepted && i < 6; i++) {
        uint64_t wait_ms = w.accepted_ms[i + 1] - w.accepted_ms[i];
        CU_ASSERT(wait_ms + 2 >= caps_ms[i] / 2);
        CU_ASSERT(wait_ms <= caps_ms[i] + 100);
    }
    CU_ASSERT_EQUAL(count_calls(&w, "down"), 0);
    world_close(&w);
}

/* Being up for a moment is no reason to start over with the shortest wait; for a second it is. */
static void only_a_stable_link_redials_quickly(void)
{
    struct world w;
    world_open(&w, false);
    world_dial(&w);
    for (int i = 0; i < 5; i++) {
        CU_ASSERT_FATAL(await_received(&w, HELLO));
        server_say(&w, "+OK\r\n");
        CU_ASSERT_FATAL(await_call(&w, "up ;"));
        server_hang_up(&w);
        CU_ASSERT_FATAL(await_call(&w, "down "));
        buf_clear(&w.calls);
        buf_clear(&w.received);
    }
    CU_ASSERT(w.accepted_ms[4] - w.accepted_ms[3] >= 195);
    CU_ASSERT_FATAL(await_received(&w, HELLO));
    server_say(&w, "+OK\r\n");
    pump(&w, NULL, 1100);
    uint64_t start_ms = clock_mono_ms();
    server_hang_up(&w);
    CU_ASSERT(pump(&w, is_accepted, PATIENCE_MS));
    CU_ASSERT(w.accepted_ms[w.accepted - 1] - start_ms < 200);
    world_close(&w);
}

/* === Subscriber links ========================================================================= */

static void messages_at_every_cut(void)
{
    static const char stream[] = MESSAGE "*3\r\n$7\r\nmessage\r\n$1\r\nb\r\n$70\r\n"
                                         "1234567890123456789012345678901234567890123456789012345"
                                         "678901234567890\r\n"
                                         "-NOPERM no\r\n*2\r\n$4\r\npong\r\n$0\r\n\r\n"
                                         "*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n"
                                         "*3\r\n$11\r\nunsubscribe\r\n$1\r\nc\r\n:1\r\n" MESSAGE;
    struct world w;
    world_up(&w, true);
    for (size_t cut = 1; cut < strlen(stream); cut++) {
        server_send(&w, stream, cut);
        pump(&w, NULL, 0);
        server_send(&w, stream + cut, strlen(stream) - cut);
        CU_ASSERT_FATAL(await_call(&w, "unsub c;msg hello;"));
        CU_ASSERT(is_noted(&w, "msg hello;big b;error NOPERM no;sub c;unsub c;msg hello;"));
        buf_clear(&w.calls);
    }
    CU_ASSERT(redis_link_is_up(w.link));
    world_close(&w);
}

static void subscribes_leave_in_batches(void)
{
    struct world w;
    world_up(&w, true);
    char name[16];
    for (int i = 0; i < 1100; i++) {
        int len = snprintf(name, sizeof name, "c%d", i);
        redis_link_subscribe(w.link, slice_of(name, (size_t)len));
    }
    redis_link_unsubscribe(w.link, slice_str("c1"));
    redis_link_psubscribe(w.link, slice_str("p*"));
    redis_link_subscribe(w.link, slice_str("last"));
    CU_ASSERT_EQUAL(w.received.len, 0);
    CU_ASSERT(await_received(&w, "*2\r\n$9\r\nSUBSCRIBE\r\n$4\r\nlast\r\n"));
    CU_ASSERT(w.received.len > 20 &&
              memcmp(w.received.data, "*501\r\n$9\r\nSUBSCRIBE\r\n", 21) == 0);
    CU_ASSERT(has_bytes(&w.received, "$4\r\nc499\r\n*501\r\n$9\r\nSUBSCRIBE\r\n$4\r\nc500\r\n"));
    CU_ASSERT(has_bytes(&w.received, "$4\r\nc999\r\n*101\r\n$9\r\nSUBSCRIBE\r\n$5\r\nc1000\r\n"));
    CU_ASSERT(has_bytes(&w.received, "$5\r\nc1099\r\n*2\r\n$11\r\nUNSUBSCRIBE\r\n$2\r\nc1\r\n"
                                     "*2\r\n$10\r\nPSUBSCRIBE\r\n$2\r\np*\r\n"
                                     "*2\r\n$9\r\nSUBSCRIBE\r\n$4\r\nlast\r\n"));
    world_close(&w);
}

/* Neither kind of link does the other's work. */
static void kinds_do_not_mix(void)
{
    struct world w;
    world_up(&w, true);
    command(&w, "GET");
    CU_ASSERT(is_noted(&w, "lost ;"));
    pump(&w, NULL, 20);
    CU_ASSERT_EQUAL(w.received.len, 0);
    world_close(&w);

    world_up(&w, false);
    redis_link_subscribe(w.link, slice_str("a"));
    pump(&w, NULL, 20);
    CU_ASSERT_EQUAL(w.received.len, 0);
    world_close(&w);
}

/* What was asked for on a dead connection is not asked again on the next: that is the owner's. */
static void batch_dies_with_its_connection(void)
{
    struct world w;
    world_up(&w, true);
    redis_link_subscribe(w.link, slice_str("old"));
    redis_link_reset(w.link, "test");
    redis_link_subscribe(w.link, slice_str("ignored"));
    CU_ASSERT_FATAL(await_received(&w, HELLO));
    server_say(&w, "+OK\r\n");
    CU_ASSERT_FATAL(await_call(&w, "up ;"));
    redis_link_subscribe(w.link, slice_str("new"));
    CU_ASSERT(await_received(&w, "*2\r\n$9\r\nSUBSCRIBE\r\n$3\r\nnew\r\n"));
    CU_ASSERT_FALSE(has_bytes(&w.received, "old"));
    CU_ASSERT_FALSE(has_bytes(&w.received, "ignored"));
    world_close(&w);
}

/* === Command links ============================================================================ */

static void replies_meet_their_commands(void)
{
    struct world w;
    world_up(&w, false);
    command(&w, "GET");
    command(&w, "SET");
    redis_link_command(w.link, (const struct slice[]){slice_str("PING")}, 1, NULL, NULL);
    command(&w, "XX");
    CU_ASSERT(await_received(&w, "*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n*2\r\n$3\r\nSET\r\n$3\r\nkey\r\n"
                                 "*1\r\n$4\r\nPING\r\n*2\r\n$2\r\nXX\r\n$3\r\nkey\r\n"));
    server_say(&w, "$1\r\n1\r\n+OK\r\n+PONG\r\n-ERR xx\r\n-ERR unasked\r\n+unasked\r\n");
    CU_ASSERT(await_call(&w, "unasked;"));
    CU_ASSERT(is_noted(&w, "reply 1;reply OK;reply ERR xx;error ERR unasked;"));
    world_close(&w);
}

static void lost_exactly_once(void)
{
    struct world w;
    world_up(&w, false);
    for (int i = 0; i < 5; i++)
        command(&w, "GET");
    CU_ASSERT_FATAL(await_received(&w, "GET"));
    server_say(&w, "+1\r\n$5\r\nhal");
    CU_ASSERT_FATAL(await_call(&w, "reply 1;"));
    server_hang_up(&w);
    CU_ASSERT_FATAL(await_call(&w, "down"));
    CU_ASSERT(is_noted(&w, "reply 1;lost ;lost ;lost ;lost ;down Redis closed the connection;"));
    command(&w, "GET");
    CU_ASSERT_EQUAL(count_calls(&w, "lost"), 5);
    pump(&w, NULL, 100);
    CU_ASSERT_EQUAL(count_calls(&w, "lost"), 5);
    CU_ASSERT_EQUAL(count_calls(&w, "down"), 1);
    world_close(&w);
}

static void large_reply_ends_the_connection(void)
{
    struct world w;
    world_up(&w, false);
    command(&w, "GET");
    CU_ASSERT_FATAL(await_received(&w, "GET"));
    server_say(&w, "$65\r\n");
    CU_ASSERT_FATAL(await_call(&w, "down"));
    CU_ASSERT(is_noted(&w, "lost ;down reply too large;"));
    world_close(&w);
}

/* A Redis that takes nothing: what waits for it is bounded, and nothing is left unanswered. */
static void unread_commands_are_bounded(void)
{
    struct world w;
    world_up(&w, false);
    event_del(w.reading);
    char *large = calloc(1, 1 << 20);
    const struct slice args[] = {slice_str("SET"), slice_str("k"), slice_of(large, 1 << 20)};
    int sent = 0;
    for (; sent < 200 && redis_link_is_up(w.link); sent++) {
        redis_link_command(w.link, args, 3, on_reply, &w);
        pump(&w, NULL, 0);
    }
    CU_ASSERT(sent > 60 && sent < 90);
    CU_ASSERT_EQUAL(count_calls(&w, "lost"), (unsigned)sent);
    CU_ASSERT_EQUAL(count_calls(&w, "down Redis does not read what is sent to it;"), 1);
    free(large);
    world_close(&w);
}

/* More than the socket takes at once arrives whole and in order. */
static void much_is_written_in_parts(void)
{
    struct world w;
    world_up(&w, false);
    enum { COUNT = 40, BYTES = 300000 };
    char *large = malloc(BYTES);
    size_t total = 0;
    for (int i = 0; i < COUNT; i++) {
        memset(large, 'a' + i % 26, BYTES);
        const struct slice args[] = {slice_str("ECHO"), slice_of(large, BYTES)};
        redis_link_command(w.link, args, 2, NULL, NULL);
        total += strlen("*2\r\n$4\r\nECHO\r\n$300000\r\n\r\n") + BYTES;
        pump(&w, NULL, 0);
    }
    uint64_t end_ms = clock_mono_ms() + PATIENCE_MS;
    while (w.received.len < total && clock_mono_ms() < end_ms)
        pump(&w, NULL, 5);
    CU_ASSERT_EQUAL_FATAL(w.received.len, total);
    size_t each = total / COUNT;
    for (int i = 0; i < COUNT; i++)
        CU_ASSERT_EQUAL(w.received.data[each * (size_t)i + each / 2], 'a' + i % 26);
    free(large);
    world_close(&w);
}

/* === The end of a connection ================================================================== */

static void down_exactly_once(void)
{
    static const struct {
        const char *says; /* NULL: hangs up */
        const char *calls;
    } rows[] = {
        {NULL, "down Redis closed the connection;"},
        {"?\r\n", "down Protocol error, got \"?\" as reply type byte;"},
        {MESSAGE "*3\r\n$99999\r\n" MESSAGE, "msg hello;down protocol error: a name is too long;"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct world w;
        world_up(&w, true);
        if (rows[i].says == NULL)
            server_hang_up(&w);
        else
            server_say(&w, rows[i].says);
        CU_ASSERT(await_call(&w, "down"));
        redis_link_reset(w.link, "it is down already");
        pump(&w, NULL, 20);
        CU_ASSERT(is_noted(&w, rows[i].calls));
        CU_ASSERT_FALSE(redis_link_is_up(w.link));
        world_close(&w);
    }
}

/* What Redis says before it closes is heard even when writing to it fails first. */
static void last_words_are_heard(void)
{
    struct world w;
    world_up(&w, false);
    server_say(&w, "-ERR good bye\r\n");
    server_hang_up(&w);
    command(&w, "GET");
    CU_ASSERT(await_call(&w, "down"));
    CU_ASSERT(has_bytes(&w.calls, "good bye;"));
    CU_ASSERT_EQUAL(count_calls(&w, "down"), 1);
    world_close(&w);
}

static void reset_redials(void)
{
    struct world w;
    world_up(&w, true);
    redis_link_reset(w.link, "the canary is dead");
    CU_ASSERT(is_noted(&w, "down the canary is dead;"));
    CU_ASSERT_FALSE(redis_link_is_up(w.link));
    CU_ASSERT(await_received(&w, HELLO));
    server_say(&w, "+OK\r\n");
    CU_ASSERT(await_call(&w, "up ;"));
    world_close(&w);
}

/* === From inside callbacks ==================================================================== */

/* Brings about every callback of a subscriber or command link, up to the redial after its end. */
static void live_a_life(struct world *w)
{
    world_dial(w);
    if (!await_received(w, HELLO))
        return;
    server_say(w, "-NOAUTH\r\n"); /* on_dial_failed */
    await_call(w, "failed");
    buf_clear(&w->received);
    if (w->link == NULL || !await_received(w, HELLO))
        return;
    server_say(w, "+OK\r\n");
    pump(w, NULL, 10);
    if (w->link != NULL && !w->config.is_subscriber) {
        command(w, "GET");
        pump(w, NULL, 10);
    }
    if (!w->is_gone && w->fd >= 0)
        server_say(w, w->config.is_subscriber ? MESSAGE "-ERR x\r\n" MESSAGE : "+1\r\n-ERR x\r\n");
    pump(w, NULL, 10);
    if (w->link != NULL && !w->config.is_subscriber)
        command(w, "GET"); /* lost */
    server_hang_up(w);
    pump(w, NULL, 100);
}

/* In each place, each deed: nothing is called after a free, downs match ups, memory is sound. */
static void anything_from_anywhere(void)
{
    for (int place = AT_UP; place <= AT_REPLY; place++) {
        for (int deed = DO_FREE; deed <= DO_COMMAND; deed++) {
            for (int is_subscriber = 0; is_subscriber < 2; is_subscriber++) {
                struct world w;
                world_open(&w, is_subscriber != 0);
                w.place = (enum place)place;
                w.deed = (enum deed)deed;
                live_a_life(&w);
                bool was_reached = w.place == AT_NONE;
                bool is_possible = place != (is_subscriber != 0 ? AT_REPLY : AT_MESSAGE);
                CU_ASSERT_EQUAL(was_reached, is_possible);
                CU_ASSERT_EQUAL(w.link == NULL, was_reached && deed == DO_FREE);
                unsigned ups = count_calls(&w, "up ;");
                unsigned downs = count_calls(&w, "down ");
                CU_ASSERT(ups >= downs && ups - downs <= (w.link == NULL ? 1u : 0u));
                world_close(&w);
            }
        }
    }
}

/* The first of several lost replies frees the link: the others are not called. */
static void free_in_the_first_of_many_lost(void)
{
    struct world w;
    world_up(&w, false);
    for (int i = 0; i < 4; i++)
        command(&w, "GET");
    w.place = AT_REPLY;
    w.deed = DO_FREE;
    server_hang_up(&w);
    CU_ASSERT(await_call(&w, "lost"));
    CU_ASSERT(is_noted(&w, "lost ;"));
    CU_ASSERT_PTR_NULL(w.link);
    world_close(&w);
}

static const struct unit_test tests[] = {
    {"greets in order", greets_in_order},
    {"a password alone", password_alone},
    {"refusals are dial failures", refusals_are_dial_failures},
    {"a refused connection is redialled", refused_connection_is_redialled},
    {"a silent Redis is given up", silent_redis_is_given_up},
    {"half a reply is forgotten", half_reply_is_forgotten},
    {"the next address is tried", next_address_is_tried},
    {"a unix socket works", unix_socket_works},
    {"a name is resolved", name_is_resolved},
    {"an unknown name is a failed dial", unknown_name_is_a_failed_dial},
    {"a slow name server only delays", slow_name_server_only_delays},
    {"free during a lookup", free_during_a_lookup},
    {"a name without a resolver", name_without_a_resolver},
    {"redials are spaced", redials_are_spaced},
    {"only a stable link redials quickly", only_a_stable_link_redials_quickly},
    {"messages at every cut", messages_at_every_cut},
    {"subscribes leave in batches", subscribes_leave_in_batches},
    {"kinds do not mix", kinds_do_not_mix},
    {"a batch dies with its connection", batch_dies_with_its_connection},
    {"replies meet their commands", replies_meet_their_commands},
    {"lost exactly once", lost_exactly_once},
    {"a large reply ends the connection", large_reply_ends_the_connection},
    {"unread commands are bounded", unread_commands_are_bounded},
    {"much is written in parts", much_is_written_in_parts},
    {"down exactly once", down_exactly_once},
    {"last words are heard", last_words_are_heard},
    {"reset redials", reset_redials},
    {"anything from anywhere", anything_from_anywhere},
    {"free in the first of many lost", free_in_the_first_of_many_lost},
    {NULL, NULL},
};

const struct unit_suite suite_redis_link = {"redis_link", tests};
