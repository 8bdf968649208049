/*
 * test_poller.c - sockets of a poller, driven by its loop.
 */
#include "base/mem.h"
#include "runtime/poller.h"
#include "unit.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define MANY 300 /* more than one batch */

struct watched {
    struct loop *loop;
    int mine, peer;
    unsigned readable, writable;
    struct watched *victim; /* closed when this one is ready */
    unsigned *left;         /* of those that have not been ready yet */
};

static void on_ready(void *owner, bool readable, bool writable)
{
    struct watched *w = owner;
    char byte;
    w->readable += readable;
    w->writable += writable;
    if (readable && read(w->mine, &byte, 1) < 0)
        CU_FAIL("nothing to read");
    if (w->victim != NULL)
        close(w->victim->mine);
    if (--*w->left == 0)
        loop_stop(w->loop);
}

static void watch(struct poller *p, struct watched *w, struct loop *loop, unsigned *left)
{
    int pair[2];
    CU_ASSERT_EQUAL_FATAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    *w = (struct watched){.loop = loop, .mine = pair[0], .peer = pair[1], .left = left};
    CU_ASSERT_FATAL(poller_add(p, w->mine, w));
}

static void test_each_socket_is_reported_to_its_owner(void)
{
    unsigned left = MANY;
    struct loop *loop = loop_new();
    struct poller *p = poller_new(loop, on_ready);
    struct watched *all = mem_zalloc(MANY * sizeof *all);
    for (unsigned i = 0; i < MANY; i++) {
        watch(p, &all[i], loop, &left);
        CU_ASSERT_EQUAL(write(all[i].peer, "x", 1), 1);
    }
    loop_run(loop);
    for (unsigned i = 0; i < MANY; i++) {
        CU_ASSERT_EQUAL(all[i].readable, 1);
        CU_ASSERT_EQUAL(all[i].writable, 0);
        close(all[i].mine);
        close(all[i].peer);
    }
    free(all);
    poller_free(p);
    loop_free(loop);
}

static void test_writing_is_reported_only_while_it_is_wanted(void)
{
    unsigned left = 1;
    struct watched w;
    struct loop *loop = loop_new();
    struct poller *p = poller_new(loop, on_ready);
    watch(p, &w, loop, &left);
    poller_change(p, w.mine, POLLER_READ_WRITE, &w);
    loop_run(loop);
    CU_ASSERT_EQUAL(w.writable, 1);
    CU_ASSERT_EQUAL(w.readable, 0);

    left = 1;
    poller_change(p, w.mine, POLLER_READ, &w);
    CU_ASSERT_EQUAL(write(w.peer, "x", 1), 1);
    loop_run(loop);
    CU_ASSERT_EQUAL(w.writable, 1);
    CU_ASSERT_EQUAL(w.readable, 1);
    close(w.mine);
    close(w.peer);
    poller_free(p);
    loop_free(loop);
}

static void test_the_end_of_a_peer_is_both(void)
{
    unsigned left = 1;
    struct watched w;
    struct loop *loop = loop_new();
    struct poller *p = poller_new(loop, on_ready);
    watch(p, &w, loop, &left);
    close(w.peer);
    loop_run(loop);
    CU_ASSERT_EQUAL(w.readable, 1);
    CU_ASSERT_EQUAL(w.writable, 1);
    close(w.mine);
    poller_free(p);
    loop_free(loop);
}

static void test_a_closed_socket_is_not_reported_again(void)
{
    unsigned left = 1;
    struct watched first, other;
    struct loop *loop = loop_new();
    struct poller *p = poller_new(loop, on_ready);
    watch(p, &first, loop, &left);
    watch(p, &other, loop, &left);
    first.victim = &other;
    CU_ASSERT_EQUAL(write(first.peer, "x", 1), 1);
    loop_run(loop);
    CU_ASSERT_EQUAL(send(other.peer, "x", 1, MSG_NOSIGNAL), -1);

    left = 1;
    first.victim = NULL;
    CU_ASSERT_EQUAL(write(first.peer, "x", 1), 1);
    loop_run(loop);
    CU_ASSERT_EQUAL(first.readable, 2);
    CU_ASSERT_EQUAL(other.readable + other.writable, 0);
    close(first.mine);
    close(first.peer);
    close(other.peer);
    poller_free(p);
    loop_free(loop);
}

static void test_what_cannot_be_watched_is_refused(void)
{
    int pipe_ends[2];
    struct loop *loop = loop_new();
    struct poller *p = poller_new(loop, on_ready);
    CU_ASSERT_EQUAL_FATAL(pipe(pipe_ends), 0);
    CU_ASSERT(poller_add(p, pipe_ends[0], &pipe_ends));
    CU_ASSERT(!poller_add(p, pipe_ends[0], &pipe_ends)); /* it is there already */
    close(pipe_ends[0]);
    CU_ASSERT(!poller_add(p, pipe_ends[0], &pipe_ends));
    close(pipe_ends[1]);
    poller_free(p);
    loop_free(loop);
}

static const struct unit_test tests[] = {
    {"each socket is reported to its owner", test_each_socket_is_reported_to_its_owner},
    {"writing is reported only while it is wanted",
     test_writing_is_reported_only_while_it_is_wanted},
    {"the end of a peer is both", test_the_end_of_a_peer_is_both},
    {"a closed socket is not reported again", test_a_closed_socket_is_not_reported_again},
    {"what cannot be watched is refused", test_what_cannot_be_watched_is_refused},
    {NULL, NULL},
};
const struct unit_suite suite_poller = {"poller", tests};
