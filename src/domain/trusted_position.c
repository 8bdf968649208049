/*
 * trusted_position.c - after an outage: the positions that nobody could check are checked.
 *
 *      suspect   since 100, taken on trust ──> note: 96 … 100 are not sent again
 *      ok        the channel is at 95: is 96 still under way, or was it never so far?
 *                subscribed anew with since 100, unheard ──> recovered, or a snapshot
 *
 * Nearly always there is nothing to do: the channel has come up to the position, or gone past it. What
 * comes while a client's position is looked at is not lost: the answer covers it (bus_recovery.c).
 */
#include "domain/trusted_position.h"

#include "base/mem.h"
#include "domain/catchup.h"
#include "domain/session_commands.h"
#include "domain/subscription_set.h"

#include <stdlib.h>

/* Is it still unknown whether the client has the newest? A newer value than its own it was given, or
 * will be, and the end of one that came as an item. */
static bool is_open(const struct hub_channel *c, const struct standing *at)
{
    if (at->since == NULL || !at->since->is_trusted)
        return false;
    const struct publication *last = c->last != NULL ? c->last->p : NULL;
    if (last == NULL)
        return true;
    return last->seq != 0 && last->seq < at->since->seq &&
           slice_equal(publication_epoch(last), position_epoch(at->since));
}

static bool is_any_noted(const struct hub *h)
{
    size_t it = 0;
    const struct hub_channel *c;
    while ((c = map_next(&h->channels, &it)) != NULL) {
        for (uint32_t i = 0; i < c->notes.count; i++) {
            if (is_open(c, &c->notes.list[i].at))
                return true;
        }
    }
    return false;
}

static bool is_any_open(const struct session *s)
{
    for (uint32_t i = 0; i < s->cohort->sub_count; i++) {
        const struct standing *at = catchup_peek(s, i);
        if (at != NULL && is_open(s->cohort->subs[i].channel, at))
            return true;
    }
    return false;
}

/* Takes the open ones out of the set, and puts them into a request with their positions. */
static void check(struct session *s)
{
    session_settle(s);
    uint32_t count = s->cohort->sub_count;
    struct position *copies = mem_alloc(count * sizeof *copies);
    struct command command = {.max_rate = -1};
    command.since = mem_alloc(count * sizeof *command.since);
    struct subs left = {.list = mem_alloc(count * sizeof *left.list)};
    struct sub_request *r = session_open_request(s, &command, count);
    r->is_unheard = true;
    for (uint32_t i = 0; i < count; i++) {
        struct hub_channel *c = s->cohort->subs[i].channel;
        const struct standing *at = catchup_peek(s, i);
        if (at == NULL || !is_open(c, at)) {
            left.list[left.count++] = s->cohort->subs[i];
            continue;
        }
        struct position *copy = &copies[command.since_count];
        *copy = *at->since;
        command.since[command.since_count++] = (struct command_since){
            .channel = hub_channel_name(c), .epoch = position_epoch(copy), .seq = copy->seq};
        session_request_channel(r, hub_channel_name(c), &command);
    }
    command_order_since(&command);
    session_change_set(s, &left, NULL);
    session_start_request(r, &command);
    free(left.list);
    free(command.since);
    free(copies);
}

/* arg: is any position in a note open? */
static void check_client(struct conn *conn, void *arg)
{
    const bool *is_noted = arg;
    struct session *s = conn->upper;
    if (s == NULL || s->cohort == NULL)
        return;
    bool may_be_open = s->catchup != NULL || (*is_noted && s->note_count > 0);
    if (may_be_open && is_any_open(s))
        check(s);
}

void trusted_positions_check(struct hub *h)
{
    bool is_noted = is_any_noted(h);
    worker_each_conn(h->worker, check_client, &is_noted);
}
