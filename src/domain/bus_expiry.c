/*
 * bus_expiry.c - values that expire in Redis end on the node, too.
 *
 * Main thread. A message does not say how long its value lives: that is up to each publication. So
 * the node looks, soon after a message, and from then on when the life is over, which later
 * publications will have renewed:
 *
 *      message ──FIRST_LOOK_MS──> look: 700 ms left ──701 ms──> look: 400 ms left ──401 ms──> gone:
 *                                                                              the value has ended
 *
 * Most channels have no life at all, so who is told "for ever" looks less and less often, and never
 * without another message. A look is one PTTL, and waits behind whatever else is read.
 *
 * What was never seen to have a life does not end here: a key that is not there may have been lost
 * with all of Redis, or the stamps be made by somebody who stores nothing.
 */
#include "domain/bus_read.h"

#define TICK_MS       100
#define SLOTS         1024
#define FIRST_LOOK_MS 200 /* the shortest life is a second */
#define PAUSE_MIN_MS  1000
#define PAUSE_MAX_MS  60000 /* between two looks that only messages ask for */

static uint64_t now_ms(const struct bus *b)
{
    return loop_now_ms(b->setup.loop);
}

static void set(struct bus *b, struct bus_channel *c, uint64_t due_ms)
{
    if (b->expiries.count == 0)
        loop_timer_repeat(b->expiry_timer, TICK_MS);
    wheel_set(&b->expiries, &c->expiry, due_ms);
}

static void set_no_later(struct bus *b, struct bus_channel *c, uint64_t due_ms)
{
    if (!wheel_timer_is_set(&c->expiry) || c->expiry.due_ms > due_ms)
        set(b, c, due_ms);
}

void bus_expiry_found(struct bus *b, struct bus_channel *c, int64_t ttl_ms)
{
    c->has_expiry = ttl_ms >= 0;
    if (c->has_expiry)
        set(b, c, now_ms(b) + (uint64_t)ttl_ms + 1);
    else
        wheel_cancel(&b->expiries, &c->expiry);
}

void bus_expiry_on_message(struct bus *b, struct bus_channel *c)
{
    uint64_t due_ms = now_ms(b) + FIRST_LOOK_MS;
    if (c->is_stamped)
        set_no_later(b, c, due_ms > c->look_from_ms ? due_ms : c->look_from_ms);
}

void bus_expiry_look_again(struct bus *b, struct bus_channel *c)
{
    set_no_later(b, c, now_ms(b) + TICK_MS);
}

/* The next value will have a life, too: has_expiry stays, and a message is looked at soon. */
void bus_expiry_end(struct bus *b, struct bus_channel *c)
{
    c->look_pause_ms = 0;
    c->look_from_ms = 0;
    wheel_cancel(&b->expiries, &c->expiry);
    bool had_value = c->last != NULL;
    struct publication *p = bus_intake_end(&b->intake, c);
    if (had_value)
        bus_hand_out(b, c, p);
    else
        publication_unref(p);
    bus_let_go(b, c);
}

/* --- looking --------------------------------------------------------------------------------- */

static void on_due(struct wheel_timer *t, void *arg)
{
    struct bus *b = arg;
    struct bus_channel *c = list_entry(t, struct bus_channel, expiry);
    bool can_ask = b->command != NULL && redis_link_is_up(b->command);
    if (c->read == NULL && c->live && can_ask)
        bus_read_start(bus_read_new(b, c, BUS_READ_EXPIRY, STORED_NO_LOG));
    else
        bus_expiry_look_again(b, c); /* another read is under way */
}

static void on_tick(void *arg)
{
    struct bus *b = arg;
    wheel_advance(&b->expiries, now_ms(b), on_due, b);
    if (b->expiries.count == 0)
        loop_timer_cancel(b->expiry_timer);
}

static void on_found(struct bus *b, struct bus_channel *c, int64_t ttl_ms, bool is_unchanged)
{
    if (is_unchanged || !wheel_timer_is_set(&c->expiry)) {
        bus_expiry_found(b, c, ttl_ms);
        return;
    }
    c->has_expiry = c->has_expiry || ttl_ms >= 0;
    if (ttl_ms >= 0) /* a message came meanwhile, whose value may live for less */
        set_no_later(b, c, now_ms(b) + (uint64_t)ttl_ms + 1);
}

static void on_gone(struct bus *b, struct bus_channel *c)
{
    if (c->has_expiry)
        bus_expiry_end(b, c);
    else if (c->ns->history_ttl_s > 0) /* as long as its namespace's live, if nobody stores them */
        bus_expiry_found(b, c, c->ns->history_ttl_s * 1000);
}

void bus_on_expiry_read(struct bus_read *r, const struct stored_reading *reading)
{
    struct bus *b = r->bus;
    struct bus_channel *c = r->channel;
    bool is_unchanged = r->seen == c->seq; /* else a newer value came while this was read */
    uint64_t pause_ms = c->look_pause_ms != 0 ? 2 * c->look_pause_ms : PAUSE_MIN_MS;
    c->look_pause_ms = (uint32_t)(pause_ms < PAUSE_MAX_MS ? pause_ms : PAUSE_MAX_MS);
    c->look_from_ms = now_ms(b) + c->look_pause_ms;
    bus_read_end(r);
    if (reading->status == STORED_VALUE)
        on_found(b, c, reading->ttl_ms, is_unchanged);
    else if (reading->status == STORED_NONE && is_unchanged)
        on_gone(b, c);
    else if (reading->status == STORED_LOST || reading->status == STORED_LATER)
        bus_expiry_look_again(b, c);
    bus_serve_recoveries(b, c);
}

/* --- life ------------------------------------------------------------------------------------ */

void bus_expiry_forget(struct bus *b, struct bus_channel *c)
{
    wheel_cancel(&b->expiries, &c->expiry);
}

void bus_expiry_init(struct bus *b)
{
    wheel_init(&b->expiries, TICK_MS, SLOTS, now_ms(b));
    b->expiry_timer = loop_timer_new(b->setup.loop, on_tick, b);
}

void bus_expiry_fini(struct bus *b)
{
    loop_timer_free(b->expiry_timer);
    wheel_fini(&b->expiries);
}
