/*
 * registry.c - keeps this node's entry in the registry alive.
 *
 *      timer, or registry_touch ──> facts ──EVAL──> tc:nodes       <expiry> <id>
 *                                          └─EVAL──> tc:node:<id>   fields, expiring
 *                                                        └─> the instance that stood there before
 *
 * Main thread. Two scripts of one key each, because the keys lie in different slots of a Cluster;
 * scripts, because a hash that was written and not told to expire would stay for ever. Expiries
 * are by Redis's clock, so that nodes need not agree on the time. A write that is not answered is
 * not followed by another: a Redis that hangs does not collect them.
 */
#include "domain/registry.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/rng.h"
#include "domain/registry_priv.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define PERIOD_MS       2000
#define DRAINING_MS     500    /* while somebody waits for the last client to go */
#define LIFE_TEXT       "6000" /* ms, for two writes to be missed */
#define TOUCH_MS_MIN    100    /* between two writes, however much changes */
#define CONFLICT_WRITES 5      /* without another node's entry, until a conflict is over */

/* clang-format off */
/* ARGV: id, life. Who has died cannot leave, so the others take its id out. */
static const char enlist_script[] =
    "local t = redis.call('TIME')\n"
    "local now = t[1] * 1000 + math.floor(t[2] / 1000)\n"
    "redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[2]), ARGV[1])\n"
    "redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))\n"
    "return 1\n";

/* ARGV: life, then fields and values. Whatever stood there goes. Returns its instance, where that
 * is short enough to be one. */
static const char write_script[] =
    "local was = redis.pcall('HGET', KEYS[1], 'instance')\n"
    "redis.call('DEL', KEYS[1])\n"
    "redis.call('HSET', KEYS[1], unpack(ARGV, 2))\n"
    "redis.call('PEXPIRE', KEYS[1], ARGV[1])\n"
    "return type(was) == 'string' and #was < 64 and was or false\n";

/* ARGV: instance. Another node's entry, or nobody's, stays. */
static const char remove_script[] =
    "if redis.call('HGET', KEYS[1], 'instance') == ARGV[1] then redis.call('DEL', KEYS[1]) end\n"
    "return 1\n";
/* clang-format on */

static struct slice node_id(const struct registry *r)
{
    return slice_str(r->setup.config->node.id);
}

void registry_run(struct registry *r, const char *script, const char *name, struct slice id,
                  const struct slice *args, size_t count,
                  void (*on_reply)(void *arg, const struct redis_reply_view *reply), void *arg)
{
    struct slice words[4 + 2 * REGISTRY_FIELD_COUNT + 1] = {slice_str("EVAL"), slice_str(script),
                                                            slice_str("1")};
    struct buf key = {0};
    buf_printf(&key, "%s%s", r->setup.config->redis.prefix, name);
    buf_append(&key, id.ptr, id.len);
    words[3] = buf_slice(&key);
    for (size_t i = 0; i < count; i++)
        words[4 + i] = args[i];
    redis_link_command(bus_command_link(r->setup.bus), words, 4 + count, on_reply, arg);
    buf_fini(&key);
}

/* --- what is written -------------------------------------------------------------------------- */

static uint64_t sum(const struct registry *r, enum metric id)
{
    return metrics_sum(r->setup.metrics, r->setup.metrics_count, id);
}

/* The fields' values, in a buffer that they all lie in; a slice without a ptr is left out. */
static void gather(struct registry *r, struct slice values[REGISTRY_FIELD_COUNT],
                   char digits[REGISTRY_FIELD_COUNT][24])
{
    const struct config *config = r->setup.config;
    const char *reason = bus_readiness(r->setup.bus);
    uint64_t now_ms = loop_now_ms(r->setup.loop);
    uint64_t rtt_us = sum(r, METRIC_CANARY_RTT_US);
    const char *texts[REGISTRY_FIELD_COUNT] = {
        [REGISTRY_ID] = config->node.id,
        [REGISTRY_ADDRESS] =
            config->node.advertise[0] != '\0' ? config->node.advertise : r->setup.listen_address,
        [REGISTRY_OPS] = r->setup.ops_address,
        [REGISTRY_VERSION] = TICKCAST_VERSION,
        [REGISTRY_STATE] = node_state_name(r->setup.state(r->setup.arg)),
        [REGISTRY_FEED] = reason == NULL ? "ok" : "suspect",
        [REGISTRY_REASON] = reason,
        [REGISTRY_INSTANCE] = r->instance,
    };
    const uint64_t numbers[REGISTRY_FIELD_COUNT] = {
        [REGISTRY_STARTED] = r->started_unix_ms,
        [REGISTRY_CLIENTS] = sum(r, METRIC_CONNECTIONS),
        [REGISTRY_CAPACITY] = (uint64_t)config->listen.max_connections,
        [REGISTRY_CHANNELS] = bus_followed(r->setup.bus),
        [REGISTRY_IN_PER_S] = registry_rate_read(&r->in, sum(r, METRIC_PUBLICATIONS), now_ms),
        [REGISTRY_OUT_PER_S] = registry_rate_read(&r->out, sum(r, METRIC_DELIVERIES), now_ms),
        [REGISTRY_ACCEPTS_PER_S] =
            registry_rate_read(&r->accepts, sum(r, METRIC_CONNECTIONS_TOTAL), now_ms),
        [REGISTRY_CANARY_MS] = (rtt_us + 999) / 1000,
        [REGISTRY_PID] = (uint64_t)getpid(),
    };
    for (size_t i = 0; i < REGISTRY_FIELD_COUNT; i++) {
        snprintf(digits[i], sizeof digits[i], "%" PRIu64, numbers[i]);
        const char *text = registry_field_is_number((enum registry_field)i) ? digits[i] : texts[i];
        values[i] = text != NULL ? slice_str(text) : (struct slice){0};
    }
    if (rtt_us == 0)
        values[REGISTRY_CANARY_MS] = (struct slice){0};
}

/* --- the answers ------------------------------------------------------------------------------ */

static void note_failure(struct registry *r, const struct redis_reply_view *reply)
{
    metrics_add(r->setup.metrics[0], METRIC_REGISTRY_ERRORS, 1);
    if (!r->has_failed)
        log_warn("registry_not_written", LOG_SLICE("error", reply->text));
    r->has_failed = r->fails_now = true;
}

/* An entry of another instance, after ours had been there: two nodes have one id. The first write
 * of a node may find what is left of its former life. */
static void look_for_conflict(struct registry *r, struct slice instance)
{
    bool is_other = instance.len > 0 && !slice_is(instance, r->instance);
    if (is_other && r->was_written) {
        if (r->conflict_age == 0) {
            metrics_add(r->setup.metrics[0], METRIC_REGISTRY_CONFLICTS, 1);
            log_error("node_id_taken", LOG_STR("id", r->setup.config->node.id),
                      LOG_SLICE("other_instance", instance),
                      LOG_STR("effect", "two nodes run with this id: give each its own node.id"));
        }
        r->conflict_age = 1;
    } else if (r->conflict_age > 0 && ++r->conflict_age > CONFLICT_WRITES) {
        log_info("node_id_free_again", LOG_STR("id", r->setup.config->node.id));
        r->conflict_age = 0;
    }
    r->was_written = true;
}

static void on_answer(struct registry *r, const struct redis_reply_view *reply)
{
    r->unanswered--;
    if (reply->kind == REDIS_REPLIED_ERROR)
        note_failure(r, reply);
    if (r->unanswered == 0 && !r->fails_now)
        r->has_failed = false;
}

static void on_enlisted(void *arg, const struct redis_reply_view *reply)
{
    on_answer(arg, reply);
}

static void on_written(void *arg, const struct redis_reply_view *reply)
{
    struct registry *r = arg;
    on_answer(r, reply);
    if (reply->kind == REDIS_REPLIED_TEXT)
        look_for_conflict(r, reply->text);
    else if (reply->kind == REDIS_REPLIED_NIL)
        look_for_conflict(r, (struct slice){0});
}

/* --- writing ---------------------------------------------------------------------------------- */

static void write_entry(struct registry *r)
{
    struct slice values[REGISTRY_FIELD_COUNT];
    char digits[REGISTRY_FIELD_COUNT][24];
    struct slice args[1 + 2 * REGISTRY_FIELD_COUNT] = {slice_str(LIFE_TEXT)};
    size_t count = 1;
    gather(r, values, digits);
    for (size_t i = 0; i < REGISTRY_FIELD_COUNT; i++) {
        if (values[i].ptr == NULL)
            continue;
        args[count++] = slice_str(registry_field_name((enum registry_field)i));
        args[count++] = values[i];
    }
    const struct slice enlist[] = {node_id(r), slice_str(LIFE_TEXT)};
    r->written_ms = loop_now_ms(r->setup.loop);
    r->unanswered = 2;
    r->fails_now = false;
    /* The hash first: an id that is listed has one. */
    registry_run(r, write_script, "node:", node_id(r), args, count, on_written, r);
    registry_run(r, enlist_script, "nodes", slice_str(""), enlist, 2, on_enlisted, r);
}

static bool link_is_up(const struct registry *r)
{
    const struct redis_link *link = bus_command_link(r->setup.bus);
    return link != NULL && redis_link_is_up(link);
}

static void on_due(void *arg)
{
    struct registry *r = arg;
    bool is_draining = r->setup.state(r->setup.arg) == NODE_DRAINING;
    loop_timer_set(r->timer, is_draining ? DRAINING_MS : PERIOD_MS);
    if (r->unanswered > 0)
        loop_timer_set(r->timer, TOUCH_MS_MIN); /* what has changed is not to wait two seconds */
    else if (link_is_up(r))
        write_entry(r);
}

void registry_touch(struct registry *r)
{
    uint64_t since_ms = loop_now_ms(r->setup.loop) - r->written_ms;
    if (!r->has_left)
        loop_timer_set(r->timer, since_ms < TOUCH_MS_MIN ? TOUCH_MS_MIN - since_ms : 0);
}

void registry_set_config(struct registry *r, const struct config *next)
{
    r->setup.config = next;
    registry_touch(r);
}

void registry_leave(struct registry *r)
{
    loop_timer_cancel(r->timer);
    r->has_left = true;
    if (!link_is_up(r))
        return;
    struct redis_link *link = bus_command_link(r->setup.bus);
    struct buf nodes = {0};
    buf_printf(&nodes, "%snodes", r->setup.config->redis.prefix);
    const struct slice remove[] = {slice_str("ZREM"), buf_slice(&nodes), node_id(r)};
    const struct slice own[] = {slice_str(r->instance)};
    redis_link_command(link, remove, 3, NULL, NULL);
    registry_run(r, remove_script, "node:", node_id(r), own, 1, NULL, NULL);
    redis_link_flush(link);
    buf_fini(&nodes);
}

/* --- life ------------------------------------------------------------------------------------- */

struct registry *registry_new(const struct registry_setup *setup)
{
    struct registry *r = mem_zalloc(sizeof *r);
    struct rng rng;
    r->setup = *setup;
    r->started_unix_ms = clock_unix_ms();
    rng_init_random(&rng);
    snprintf(r->instance, sizeof r->instance, "%016" PRIx64, rng_next(&rng));
    r->timer = loop_timer_new(setup->loop, on_due, r);
    list_init(&r->queries);
    return r;
}

void registry_start(struct registry *r)
{
    loop_timer_set(r->timer, 0);
}

void registry_free(struct registry *r)
{
    registry_drop_queries(r);
    loop_timer_free(r->timer);
    free(r);
}
