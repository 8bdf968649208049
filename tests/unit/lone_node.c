/*
 * lone_node.c - see lone_node.h.
 */
#include "lone_node.h"

#include "surface/client_http.h"

#include "unit.h"

static struct admission admission; /* open */

void lone_node_init(struct lone_node *n, const char *const *sets,
                    const struct hub_upstream *upstream)
{
    const struct config_source source = {.sets = (const char **)sets};
    struct buf error = {0}, warnings = {0};
    n->config = config_load(&source, &error, &warnings);
    CU_ASSERT_PTR_NOT_NULL_FATAL(n->config);
    buf_fini(&warnings);
    n->loop = loop_new();
    n->worker = worker_new(0, n->loop, n->config, &client_ops, &admission);
    n->hub = hub_new(n->worker, upstream);
    worker_start(n->worker);
}

void lone_node_end_worker(struct lone_node *n)
{
    worker_abort_all(n->worker);
    CU_ASSERT_EQUAL(n->hub->channels.count, 0);
    CU_ASSERT_EQUAL(n->hub->cohorts.count, 0);
    hub_free(n->hub);
    worker_free(n->worker);
}

void lone_node_fini(struct lone_node *n)
{
    loop_free(n->loop);
    config_unref(n->config);
}

struct stop {
    struct message message;
    struct loop *loop;
};

static void on_stop(struct message *m)
{
    loop_stop(((struct stop *)m)->loop);
}

void lone_node_turn(struct lone_node *n)
{
    struct stop stop = {.message = {.run = on_stop}, .loop = n->loop};
    loop_post(n->loop, &stop.message);
    loop_run(n->loop);
}
