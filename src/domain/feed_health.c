/*
 * feed_health.c - canary out, canary in, and the verdict.
 */
#include "domain/feed_health.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/rng.h"

#include <stdio.h>
#include <stdlib.h>

#define PERIODS_MAX       3     /* the contract's: seen within three periods */
#define LOG_DIAL_EVERY_MS 30000 /* a long outage must not fill the log */

struct feed_health {
    struct feed_health_setup setup;
    struct loop_timer *timer;
    char channel[160]; /* prefix, `canary:`, node id */
    size_t prefix_len;
    char token[24];       /* this process: canaries of a namesake are not ours */
    uint64_t next_number; /* of the canary to send */
    uint64_t
        next_answered;   /* of the one whose answer comes next: there is one for each, in order */
    uint64_t next_heard; /* above all that came back */
    uint64_t seen_ms;    /* when one last came back on the present link; 0: not yet */
    uint64_t read_ms;    /* when anything last came over the subscriber link */
    uint64_t up_ms;      /* since when the subscriber link is up; 0: it is not */
    uint64_t asked_ms;   /* since when a canary waits for the command link's answer; 0: none does */
    uint64_t unheard_ms; /* since when a published one waits to be heard; 0: none does */
    uint64_t answered_ms; /* when anything last came over the command link */
    const char *reason;
    uint64_t dial_logged_ms;
};

static uint64_t now(const struct feed_health *h)
{
    return loop_now_ms(h->setup.loop);
}

static const char *judge(const struct feed_health *h)
{
    uint64_t patience_ms = PERIODS_MAX * h->setup.period_ms;
    if (h->up_ms == 0)
        return "redis_lost";
    if (h->seen_ms == 0)
        return h->reason != NULL ? h->reason : "canary_lost";
    if (now(h) - h->seen_ms > patience_ms)
        return "canary_lost";
    if (h->setup.has_unconfirmed(h->setup.arg) && h->reason != NULL)
        return h->reason;
    return NULL;
}

void feed_health_check(struct feed_health *h)
{
    const char *reason = judge(h);
    bool was_ok = h->reason == NULL;
    if (was_ok == (reason == NULL))
        return;
    h->reason = reason;
    h->setup.on_change(h->setup.arg, reason);
}

/* Answered or lost with the link: either way nothing is being waited for. One that was published is
 * on its way back now. */
static void on_sent(void *arg, const struct redis_reply_view *reply)
{
    struct feed_health *h = arg;
    uint64_t number = h->next_answered++;
    h->asked_ms = 0;
    /* It may have come back before the answer did. */
    if (reply->kind == REDIS_REPLIED_INT && number >= h->next_heard && h->unheard_ms == 0)
        h->unheard_ms = now(h);
}

void feed_health_send(struct feed_health *h)
{
    if (!redis_link_is_up(h->setup.command))
        return;
    char payload[64];
    int len = snprintf(payload, sizeof payload, "%s:%llu:%llu", h->token,
                       (unsigned long long)h->next_number++, (unsigned long long)clock_mono_ns());
    const struct slice args[] = {slice_str("PUBLISH"), slice_str(h->channel),
                                 slice_of(payload, (size_t)len)};
    if (h->asked_ms == 0)
        h->asked_ms = now(h);
    redis_link_command(h->setup.command, args, 3, on_sent, h);
    metrics_add(h->setup.metrics, METRIC_CANARY_SENT, 1);
}

static bool is_canary(const struct feed_health *h, struct slice channel)
{
    return slice_equal(channel, slice_str(h->channel + h->prefix_len));
}

bool feed_health_on_message(struct feed_health *h, struct slice channel, struct slice payload)
{
    if (!is_canary(h, channel))
        return false;
    size_t token_len = strlen(h->token);
    unsigned long long number, sent_ns;
    char text[64];
    if (payload.len >= sizeof text || payload.len <= token_len ||
        memcmp(payload.ptr, h->token, token_len) != 0)
        return true; /* somebody else's, or forged: no sign of life */
    memcpy(text, payload.ptr, payload.len);
    text[payload.len] = '\0';
    if (sscanf(text + token_len, ":%llu:%llu", &number, &sent_ns) != 2)
        return true;
    if (number < h->next_number && number >= h->next_heard)
        h->next_heard = number + 1;
    uint64_t now_ns = clock_mono_ns();
    if (sent_ns <= now_ns)
        metrics_set(h->setup.metrics, METRIC_CANARY_RTT_US, (now_ns - sent_ns) / 1000);
    metrics_add(h->setup.metrics, METRIC_CANARY_SEEN, 1);
    h->seen_ms = now(h);
    feed_health_check(h);
    return true;
}

void feed_health_on_read(struct feed_health *h)
{
    h->read_ms = now(h);
    h->unheard_ms = 0;
    feed_health_check(h);
}

void feed_health_on_answers(struct feed_health *h)
{
    h->answered_ms = now(h);
}

void feed_health_on_up(struct feed_health *h)
{
    h->up_ms = now(h);
    h->seen_ms = h->unheard_ms = 0;
    redis_link_subscribe(h->setup.subscriber, slice_str(h->channel));
}

void feed_health_on_subscribed(struct feed_health *h, struct slice channel)
{
    if (is_canary(h, channel))
        feed_health_send(h);
}

void feed_health_on_down(struct feed_health *h)
{
    h->up_ms = 0;
    h->seen_ms = 0;
    h->dial_logged_ms = 0;
    feed_health_check(h);
}

void feed_health_on_dial_failed(struct feed_health *h, const char *link, const char *reason)
{
    uint64_t now_ms = now(h);
    if (h->dial_logged_ms != 0 && now_ms - h->dial_logged_ms < LOG_DIAL_EVERY_MS)
        return;
    h->dial_logged_ms = now_ms;
    log_warn("redis_dial_failed", LOG_STR("link", link), LOG_STR("reason", reason));
}

static bool is_over(const struct feed_health *h, uint64_t since_ms)
{
    return since_ms != 0 && now(h) - since_ms > PERIODS_MAX * h->setup.period_ms;
}

static void drop_both(struct feed_health *h)
{
    redis_link_reset(h->setup.command, "no canary");
    redis_link_reset(h->setup.subscriber, "no canary");
}

/* An open link that carries nothing is redone. Only what was published can be heard: with the
 * command link down or behind, the silence shows nothing. */
static void drop_dead_link(struct feed_health *h)
{
    if (h->up_ms != 0 && redis_link_is_up(h->setup.command) && is_over(h, h->unheard_ms))
        drop_both(h);
}

/* The command link may be dead while the subscriber link is not: canaries leave, and nothing says
 * that they arrived. One that answers other commands meanwhile is only busy. */
static void drop_dead_command_link(struct feed_health *h)
{
    uint64_t answered_ms = h->answered_ms > h->asked_ms ? h->answered_ms : h->asked_ms;
    if (h->asked_ms == 0 || !is_over(h, answered_ms))
        return;
    if (h->up_ms != 0 && is_over(h, h->read_ms > h->up_ms ? h->read_ms : h->up_ms))
        drop_both(h); /* the whole way is dead */
    else
        redis_link_reset(h->setup.command, "no answer to a canary");
}

static void on_period(void *arg)
{
    struct feed_health *h = arg;
    feed_health_check(h);
    drop_dead_link(h);
    drop_dead_command_link(h);
    feed_health_send(h);
}

struct feed_health *feed_health_new(const struct feed_health_setup *setup)
{
    struct feed_health *h = mem_zalloc(sizeof *h);
    h->setup = *setup;
    h->reason = "starting";
    h->prefix_len = strlen(setup->prefix);
    snprintf(h->channel, sizeof h->channel, "%scanary:%s", setup->prefix, setup->node_id);
    struct rng rng;
    rng_init_random(&rng);
    snprintf(h->token, sizeof h->token, "%016llx", (unsigned long long)rng_next(&rng));
    h->timer = loop_timer_new(setup->loop, on_period, h);
    loop_timer_repeat(h->timer, setup->period_ms);
    return h;
}

void feed_health_free(struct feed_health *h)
{
    loop_timer_free(h->timer);
    free(h);
}
