/*
 * hub_post.c - what the bus tells a hub, from the main thread's messages to the worker's state.
 */
#include "base/clock.h"
#include "base/mem.h"
#include "domain/hub.h"
#include "domain/hub_priv.h"
#include "domain/session.h"
#include "domain/session_recovery.h"
#include "domain/trusted_position.h"
#include "protocol/messages.h"

#include <stdlib.h>

struct publications_message {
    struct message message;
    struct hub *hub;
    struct publication **list;
    uint32_t count;
};

static void run_publications(struct message *m)
{
    struct publications_message *pm = (struct publications_message *)m;
    for (uint32_t i = 0; i < pm->count; i++) {
        hub_deliver(pm->hub, pm->list[i], pm->list[i]->gap);
        publication_unref(pm->list[i]);
    }
    free(pm->list);
    free(pm);
}

void hub_post_publications(struct hub *h, struct publication **list, uint32_t count)
{
    struct publications_message *m = mem_zalloc(sizeof *m);
    m->message.run = run_publications;
    m->hub = h;
    m->list = list;
    m->count = count;
    loop_post(h->worker->loop, &m->message);
}

/* --- a channel is live ---------------------------------------------------------------------- */

struct live_message {
    struct message message;
    struct hub *hub;
    struct publication *last;
    struct position base;
    bool is_current;
    uint8_t name_len;
    char name[];
};

static void answer_waiting(struct hub_channel *c)
{
    struct sub_request **waiting = c->waiting;
    uint32_t count = c->waiting_count;
    c->waiting = NULL;
    c->waiting_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (--waiting[i]->waiting == 0)
            session_finish_request(waiting[i]);
    }
    free(waiting);
}

/* Takes over the state of a channel as the bus knows it. Most often nothing is known here yet, and
 * nobody follows. But a channel that was let go and followed again at once may have had
 * publications that were still under way, and none of those that came while the bus held it for let
 * go. */
static void take_state(struct hub *h, const struct hub_channel *c, struct publication *last)
{
    /* What was lost before the first one is no follower's loss. */
    uint64_t gap = c->last != NULL ? last->gap : 0;
    if (c->last != NULL && slice_equal(publication_epoch(c->last->p), publication_epoch(last))) {
        if (last->seq <= c->last->p->seq)
            return;
        if (c->last->p->seq != 0)
            gap = last->seq - c->last->p->seq - 1;
    }
    hub_deliver(h, last, gap);
}

/* The same where the bus knows of no value any more: one that was still under way has ended. base:
 * where the bus is; without an epoch the value has expired, and is numbered no further. */
static void take_end(struct hub *h, const struct hub_channel *c, const struct position *base)
{
    const struct publication *had = c->last != NULL ? c->last->p : NULL;
    bool is_numbered = base->epoch_len != 0;
    if (had == NULL || had->cleared || !had->is_stamped)
        return;
    if (is_numbered &&
        (!slice_equal(position_epoch(base), publication_epoch(had)) || base->seq <= had->seq))
        return;
    const struct publication_head head = {
        .channel = hub_channel_name(c),
        .channel_hash = c->hash,
        .epoch = publication_epoch(had),
        .seq = is_numbered ? base->seq : 0,
        .ts_ms = is_numbered ? base->ts_ms : clock_unix_ms(),
        .received_ns = clock_mono_ns(),
        .cleared = true,
        .is_stamped = true,
    };
    struct publication *end = publication_new(&head, (struct slice){0});
    hub_deliver(h, end, is_numbered ? base->seq - had->seq - 1 : 0);
    publication_unref(end);
}

/* Where the value has ended, the numbering goes on all the same: what is published next begins no
 * epoch for those who hear of this one now. Who follows already was told of none. */
static void take_base(struct hub_channel *c, const struct position *base)
{
    c->base = *base;
    if (c->epoch_len > 0 || c->cohort_count > 0)
        return;
    c->epoch_len = base->epoch_len;
    memcpy(c->epoch, base->epoch, base->epoch_len);
}

static void run_live(struct message *m)
{
    struct live_message *lm = (struct live_message *)m;
    struct hub_channel *c = hub_find(lm->hub, slice_of(lm->name, lm->name_len));
    if (c != NULL) {
        c->live = true;
        c->is_doubtful = !lm->is_current;
        if (lm->last != NULL)
            take_state(lm->hub, c, lm->last);
        else if (lm->is_current || lm->base.epoch_len != 0)
            take_end(lm->hub, c, &lm->base);
        take_base(c, &lm->base);
        c->is_doubtful = !lm->is_current;
        answer_waiting(c);
    }
    if (lm->last != NULL)
        publication_unref(lm->last);
    free(lm);
}

void hub_post_live(struct hub *h, struct slice channel, struct publication *last,
                   const struct position *base, bool is_current)
{
    struct live_message *m = mem_zalloc(sizeof *m + channel.len);
    m->message.run = run_live;
    m->hub = h;
    m->last = last != NULL ? publication_ref(last) : NULL;
    m->base = base != NULL ? *base : (struct position){0};
    m->is_current = is_current;
    m->name_len = (uint8_t)channel.len;
    memcpy(m->name, channel.ptr, channel.len);
    loop_post(h->worker->loop, &m->message);
}

/* --- the feed's state ----------------------------------------------------------------------- */

struct feed_message {
    struct message message;
    struct hub *hub;
    bool ok;
    const char *reason;
};

/* "a","b": the channels of a set for which nobody can vouch; empty when there are none. */
static void append_doubtful(const struct cohort *c, struct buf *out)
{
    for (uint32_t i = 0; i < c->sub_count; i++) {
        const struct hub_channel *channel = c->subs[i].channel;
        if (!channel->is_doubtful)
            continue;
        buf_append_str(out, out->len > 0 ? ",\"" : "\"");
        buf_append(out, channel->name, channel->name_len);
        buf_append_str(out, "\"");
    }
}

struct feed_told {
    const struct feed_message *feed;
    struct frame *shared; /* for everyone without doubtful channels */
};

static void tell_feed(struct conn *conn, void *arg)
{
    const struct feed_told *told = arg;
    struct session *s = conn->upper;
    struct buf doubtful = {0};
    if (s == NULL)
        return;
    if (told->feed->ok && s->cohort != NULL)
        append_doubtful(s->cohort, &doubtful);
    struct frame *state = doubtful.len == 0 ? frame_ref(told->shared)
                                            : message_state(true, NULL, buf_slice(&doubtful));
    session_tell_feed(s, state);
    buf_fini(&doubtful);
}

static void answer_all(struct hub *h)
{
    struct list *member;
    while ((member = h->requests.next) != &h->requests)
        session_finish_request(list_entry(member, struct sub_request, in_hub));
}

static void run_feed(struct message *m)
{
    struct feed_message *fm = (struct feed_message *)m;
    struct hub *h = fm->hub;
    h->feed_ok = fm->ok;
    h->feed_reason = fm->reason;
    const struct feed_told told = {.feed = fm,
                                   .shared = message_state(fm->ok, fm->reason, (struct slice){0})};
    worker_each_conn(h->worker, tell_feed, (void *)&told);
    frame_unref(told.shared);
    if (h->feed_ok)
        trusted_positions_check(h);
    else
        answer_all(h);
    free(fm);
}

void hub_post_feed(struct hub *h, bool ok, const char *reason)
{
    struct feed_message *m = mem_zalloc(sizeof *m);
    m->message.run = run_feed;
    m->hub = h;
    m->ok = ok;
    m->reason = reason;
    loop_post(h->worker->loop, &m->message);
}

/* --- answers -------------------------------------------------------------------------------- */

struct recovery_message {
    struct message message;
    struct hub *hub;
    uint64_t token;
    struct publication **list;
    uint32_t count;
    enum recovered recovered;
};

static void run_recovery(struct message *m)
{
    struct recovery_message *rm = (struct recovery_message *)m;
    session_on_recovery(rm->hub, rm->token, rm->list, rm->count, rm->recovered);
    for (uint32_t i = 0; i < rm->count; i++)
        publication_unref(rm->list[i]);
    free(rm->list);
    free(rm);
}

void hub_post_recovery(struct hub *h, uint64_t token, struct publication **list, uint32_t count,
                       enum recovered recovered)
{
    struct recovery_message *m = mem_zalloc(sizeof *m);
    m->message.run = run_recovery;
    m->hub = h;
    m->token = token;
    m->list = list;
    m->count = count;
    m->recovered = recovered;
    loop_post(h->worker->loop, &m->message);
}

struct published_message {
    struct message message;
    struct hub *hub;
    uint64_t token;
    enum error_code error;
    uint64_t seq;
    uint8_t epoch_len;
    char epoch[STAMP_EPOCH_MAX];
};

static void run_published(struct message *m)
{
    struct published_message *pm = (struct published_message *)m;
    session_on_published(pm->hub, pm->token, pm->error, pm->seq,
                         slice_of(pm->epoch, pm->epoch_len));
    free(pm);
}

void hub_post_published(struct hub *h, uint64_t token, enum error_code error, uint64_t seq,
                        struct slice epoch)
{
    struct published_message *m = mem_zalloc(sizeof *m);
    m->message.run = run_published;
    m->hub = h;
    m->token = token;
    m->error = error;
    m->seq = seq;
    m->epoch_len = (uint8_t)epoch.len;
    if (epoch.len != 0)
        memcpy(m->epoch, epoch.ptr, epoch.len);
    loop_post(h->worker->loop, &m->message);
}
