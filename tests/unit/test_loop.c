/*
 * test_loop.c - the mailbox between threads, and the end of a turn.
 */
#include "base/mem.h"
#include "runtime/loop.h"
#include "unit.h"

#include <pthread.h>
#include <stdlib.h>

#define SENDERS  3
#define MESSAGES 2000

struct world {
    struct loop *loop;
    unsigned next[SENDERS]; /* the number expected from each sender */
    unsigned received;
    unsigned out_of_order;
    unsigned turns;
    unsigned hooks_before_message;
};

struct numbered {
    struct message message;
    struct world *world;
    unsigned sender;
    unsigned number;
};

static void on_numbered(struct message *m)
{
    struct numbered *n = (struct numbered *)m;
    struct world *w = n->world;
    if (n->number != w->next[n->sender]++)
        w->out_of_order++;
    if (++w->received == SENDERS * MESSAGES)
        loop_stop(w->loop);
    free(n);
}

struct sender {
    struct world *world;
    unsigned index;
};

static void *send_all(void *arg)
{
    const struct sender *s = arg;
    for (unsigned i = 0; i < MESSAGES; i++) {
        struct numbered *n = mem_zalloc(sizeof *n);
        n->message.run = on_numbered;
        n->world = s->world;
        n->sender = s->index;
        n->number = i;
        loop_post(s->world->loop, &n->message);
    }
    return NULL;
}

static void test_every_message_once_and_in_order(void)
{
    struct world w = {.loop = loop_new()};
    pthread_t threads[SENDERS];
    struct sender senders[SENDERS];
    for (unsigned i = 0; i < SENDERS; i++) {
        senders[i] = (struct sender){.world = &w, .index = i};
        CU_ASSERT_EQUAL_FATAL(pthread_create(&threads[i], NULL, send_all, &senders[i]), 0);
    }
    loop_run(w.loop);
    for (unsigned i = 0; i < SENDERS; i++)
        pthread_join(threads[i], NULL);
    CU_ASSERT_EQUAL(w.received, SENDERS * MESSAGES);
    CU_ASSERT_EQUAL(w.out_of_order, 0);
    loop_free(w.loop);
}

static void on_last(struct message *m)
{
    struct numbered *n = (struct numbered *)m;
    n->world->received++;
    n->world->hooks_before_message = n->world->turns;
    loop_stop(n->world->loop);
    free(n);
}

/* What a message posts to its own loop still runs in the same turn, before the hooks. */
static void on_first(struct message *m)
{
    m->run = on_last;
    loop_post(((struct numbered *)m)->world->loop, m);
}

static void count_turn(void *arg)
{
    ((struct world *)arg)->turns++;
}

static void test_own_posts_come_before_the_end_of_the_turn(void)
{
    struct world w = {.loop = loop_new()};
    loop_on_turn_end(w.loop, count_turn, &w);
    struct numbered *n = mem_zalloc(sizeof *n);
    n->message.run = on_first;
    n->world = &w;
    loop_post(w.loop, &n->message);
    loop_run(w.loop);
    CU_ASSERT_EQUAL(w.received, 1);
    CU_ASSERT_EQUAL(w.hooks_before_message, 0);
    CU_ASSERT_EQUAL(w.turns, 1);
    loop_free(w.loop);
}

static void test_free_runs_what_is_left(void)
{
    struct world w = {.loop = loop_new()};
    struct numbered *n = mem_zalloc(sizeof *n);
    n->message.run = on_last;
    n->world = &w;
    loop_post(w.loop, &n->message);
    struct loop *l = w.loop;
    loop_drain(l);
    CU_ASSERT_EQUAL(w.received, 1);
    loop_free(l);
}

static const struct unit_test tests[] = {
    {"every message once, in each sender's order", test_every_message_once_and_in_order},
    {"own posts come before the end of the turn", test_own_posts_come_before_the_end_of_the_turn},
    {"draining runs what is left", test_free_runs_what_is_left},
    {NULL, NULL},
};
const struct unit_suite suite_loop = {"loop", tests};
