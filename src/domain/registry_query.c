/*
 * registry_query.c - reads everybody's entries.
 *
 *      registry_ask ──> tc:nodes: ids that still count ──> tc:node:<id>, one script each, at once
 *                                                          └─> waiting = 0: answered, ordered by id
 *
 * Main thread. Anybody may write those keys, and a reply that is too long costs the link: so the
 * scripts look at types and sizes in Redis, and what is not an entry is left out here. A query is
 * answered once, by its last reply or when its time is over; its memory goes when nothing of it is
 * on the link any more.
 */
#include "base/mem.h"
#include "domain/registry_priv.h"

#include <stdio.h>
#include <stdlib.h>

struct query {
    struct list member; /* of the registry's queries */
    struct registry *registry;
    void (*on_answer)(void *arg, const struct registry_answer *answer);
    void *arg;
    bool is_answered;
    struct loop_timer *deadline;
    size_t waiting; /* replies that are still to come */
    struct registry_node *nodes;
    struct query_slot *slots; /* one for each node */
    size_t count;
    bool has_failed;
};

/* One node's hash being read. */
struct query_slot {
    struct query *query;
    struct registry_node *node;
};

static void query_free(struct query *q)
{
    list_remove(&q->member);
    q->registry->query_count--;
    loop_timer_free(q->deadline);
    for (size_t i = 0; i < q->count; i++) {
        free(q->nodes[i].id);
        buf_fini(&q->nodes[i].json);
    }
    free(q->nodes);
    free(q->slots);
    free(q);
}

static int compare(const void *a, const void *b)
{
    return strcmp(((const struct registry_node *)a)->id, ((const struct registry_node *)b)->id);
}

/* Those whose hash was there, in order, in front. Returns how many. */
static size_t sift(struct query *q)
{
    size_t kept = 0;
    for (size_t i = 0; i < q->count; i++) {
        if (q->nodes[i].json.len == 0)
            continue;
        struct registry_node node = q->nodes[kept];
        q->nodes[kept++] = q->nodes[i];
        q->nodes[i] = node;
    }
    if (kept > 1)
        qsort(q->nodes, kept, sizeof *q->nodes, compare);
    return kept;
}

static void answer(struct query *q, bool ok)
{
    struct registry_answer result = {.ok = ok, .nodes = q->nodes, .count = ok ? sift(q) : 0};
    q->is_answered = true;
    loop_timer_cancel(q->deadline);
    q->on_answer(q->arg, &result);
}

/* One reply less to wait for. Frees the query after the last. */
static void settle(struct query *q)
{
    if (--q->waiting > 0)
        return;
    if (!q->is_answered)
        answer(q, !q->has_failed);
    query_free(q);
}

static void on_deadline(void *arg)
{
    answer(arg, false); /* a reply is still to come: there is no deadline afterwards */
}

static void on_node(void *arg, const struct redis_reply_view *reply)
{
    struct query_slot *slot = arg;
    struct query *q = slot->query;
    struct registry_node *node = slot->node;
    struct slice values[REGISTRY_FIELD_COUNT] = {{0}};
    if (reply->kind == REDIS_REPLIED_ARRAY && !q->is_answered) {
        for (long long i = 0; i < reply->number && i < REGISTRY_FIELD_COUNT; i++) {
            if (reply->elements[i].kind == REDIS_REPLIED_TEXT)
                values[i] = reply->elements[i].text;
        }
        if (!registry_entry_json(slice_str(node->id), values, &node->json))
            buf_clear(&node->json); /* expired, or something else */
    } else if (reply->kind == REDIS_REPLIED_LOST) {
        q->has_failed = true;
    }
    settle(q);
}

static void read_node(struct query *q, size_t index)
{
    char max[16];
    struct slice args[1 + REGISTRY_FIELD_COUNT];
    struct query_slot *slot = &q->slots[index];
    slot->query = q;
    slot->node = &q->nodes[index];
    snprintf(max, sizeof max, "%d", REGISTRY_VALUE_MAX);
    args[0] = slice_str(max);
    for (size_t i = 0; i < REGISTRY_FIELD_COUNT; i++)
        args[1 + i] = slice_str(registry_field_name((enum registry_field)i));
    q->waiting++;
    registry_run(q->registry, registry_read_script, "node:", slice_str(slot->node->id), args,
                 1 + REGISTRY_FIELD_COUNT, on_node, slot);
}

static void read_nodes(struct query *q, const struct redis_reply_view *ids)
{
    size_t count = ids->number < REGISTRY_NODES_MAX ? (size_t)ids->number : REGISTRY_NODES_MAX;
    q->nodes = mem_zalloc((count + 1) * sizeof *q->nodes);
    q->slots = mem_zalloc((count + 1) * sizeof *q->slots);
    for (size_t i = 0; i < count; i++) {
        struct slice id = ids->elements[i].text;
        if (ids->elements[i].kind == REDIS_REPLIED_TEXT && registry_id_is_valid(id))
            q->nodes[q->count++].id = mem_strndup(id.ptr, id.len);
    }
    for (size_t i = 0; i < q->count; i++)
        read_node(q, i);
}

static void on_ids(void *arg, const struct redis_reply_view *reply)
{
    struct query *q = arg;
    if (reply->kind != REDIS_REPLIED_ARRAY)
        q->has_failed = true;
    else if (!q->is_answered)
        read_nodes(q, reply);
    settle(q);
}

void registry_ask(struct registry *r,
                  void (*on_answer)(void *arg, const struct registry_answer *answer), void *arg)
{
    struct redis_link *link = bus_command_link(r->setup.bus);
    if (r->query_count >= REGISTRY_QUERIES_MAX || link == NULL || !redis_link_is_up(link)) {
        const struct registry_answer none = {.ok = false};
        on_answer(arg, &none);
        return;
    }
    struct query *q = mem_zalloc(sizeof *q);
    char count[16], len[16];
    q->registry = r;
    q->on_answer = on_answer;
    q->arg = arg;
    q->waiting = 1;
    q->deadline = loop_timer_new(r->setup.loop, on_deadline, q);
    loop_timer_set(q->deadline, REGISTRY_ANSWER_MS);
    list_append(&r->queries, &q->member);
    r->query_count++;
    snprintf(count, sizeof count, "%d", REGISTRY_NODES_MAX);
    snprintf(len, sizeof len, "%d", REGISTRY_ID_MAX);
    const struct slice args[] = {slice_str(count), slice_str(len)};
    registry_run(r, registry_list_script, "nodes", slice_str(""), args, 2, on_ids, q);
}

void registry_drop_queries(struct registry *r)
{
    while (!list_is_empty(&r->queries))
        query_free(list_entry(r->queries.next, struct query, member));
}
