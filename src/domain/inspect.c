/*
 * inspect.c - views of channels and clients for operators.
 *
 * A page of channels is picked by one walk with a heap of the smallest names so far, its largest on
 * top: nearly all of 100,000 channels cost one comparison each, and nothing is copied but the page.
 */
#include "domain/inspect.h"

#include "base/mem.h"
#include "domain/bus_priv.h"

#include <stdlib.h>

/* --- a page of channels ---------------------------------------------------------------------- */

struct page_heap {
    const struct bus_channel **items; /* a heap: each is larger than those below it */
    size_t count;
    size_t limit;
};

static int compare_names(struct slice a, struct slice b)
{
    int order = memcmp(a.ptr, b.ptr, a.len < b.len ? a.len : b.len);
    if (order != 0)
        return order;
    return a.len < b.len ? -1 : a.len > b.len;
}

static bool is_larger(const struct bus_channel *a, const struct bus_channel *b)
{
    return compare_names(bus_channel_name(a), bus_channel_name(b)) > 0;
}

static void swap(struct page_heap *h, size_t i, size_t j)
{
    const struct bus_channel *c = h->items[i];
    h->items[i] = h->items[j];
    h->items[j] = c;
}

static void sift_up(struct page_heap *h, size_t i)
{
    while (i > 0 && is_larger(h->items[i], h->items[(i - 1) / 2])) {
        swap(h, i, (i - 1) / 2);
        i = (i - 1) / 2;
    }
}

static void sift_down(struct page_heap *h, size_t count)
{
    size_t i = 0, child;
    while ((child = 2 * i + 1) < count) {
        if (child + 1 < count && is_larger(h->items[child + 1], h->items[child]))
            child++;
        if (!is_larger(h->items[child], h->items[i]))
            return;
        swap(h, i, child);
        i = child;
    }
}

static void offer(struct page_heap *h, const struct bus_channel *c)
{
    if (h->count < h->limit) {
        h->items[h->count++] = c;
        sift_up(h, h->count - 1);
    } else if (h->limit > 0 && is_larger(h->items[0], c)) {
        h->items[0] = c;
        sift_down(h, h->count);
    }
}

static void view_channel(const struct bus_channel *c, struct channel_view *out)
{
    memcpy(out->name, c->name, c->name_len);
    memcpy(out->epoch, c->epoch, c->epoch_len);
    out->seq = c->epoch_len > 0 ? c->seq : 0;
    out->ts_ms = c->epoch_len > 0 ? c->ts_ms : 0;
    out->value_bytes = c->last != NULL ? c->last->payload_bytes : 0;
    out->mode = (uint8_t)c->ns->mode;
    out->is_stamped = c->is_stamped;
    out->is_live = c->live;
}

struct channel_page inspect_channels(const struct bus *b, struct slice prefix, struct slice after,
                                     size_t limit)
{
    struct channel_page page = {0};
    size_t room = limit < b->channels.count ? limit : b->channels.count;
    struct page_heap heap = {.limit = limit};
    heap.items = mem_zalloc((room + 1) * sizeof *heap.items);
    size_t it = 0;
    const struct bus_channel *c;
    while ((c = map_next(&b->channels, &it)) != NULL) {
        struct slice name = bus_channel_name(c);
        if (c->workers == 0 || name.len < prefix.len ||
            (prefix.len > 0 && memcmp(name.ptr, prefix.ptr, prefix.len) != 0))
            continue;
        page.total++;
        if (after.len == 0 || compare_names(name, after) > 0)
            offer(&heap, c);
    }
    page.count = heap.count;
    page.views = mem_zalloc((heap.count + 1) * sizeof *page.views);
    for (size_t left = heap.count; left > 0; left--) {
        view_channel(heap.items[0], &page.views[left - 1]);
        heap.items[0] = heap.items[left - 1];
        sift_down(&heap, left - 1);
    }
    free(heap.items);
    return page;
}

/* --- subscribers and clients ----------------------------------------------------------------- */

uint32_t inspect_subscribers(const struct hub *h, struct slice channel, uint64_t *subscribers)
{
    const struct hub_channel *c = hub_find(h, channel);
    if (c == NULL)
        return 0;
    for (uint32_t i = 0; i < c->cohort_count; i++)
        *subscribers += c->cohorts[i].cohort->member_count;
    return c->cohort_count;
}

void inspect_client(const struct session *s, struct client_view *out)
{
    const struct conn *c = s->conn;
    *out = (struct client_view){.id = s->id, .raw = s->format.raw, .deflate = s->format.deflate};
    session_conn_text(s, out->conn);
    conn_peer_text(c, out->address, sizeof out->address);
    session_read_quality(s, &out->quality);
    session_name(s, out->name);
    out->pending_bytes = conn_waiting_bytes(c);
    out->blocked_ms = conn_blocked_ms(c);
    if (s->cohort == NULL)
        return;
    const struct cohort_member *m = &s->cohort->members[s->member_index];
    out->channels = s->cohort->sub_count;
    out->state = m->state;
    if (m->state == MEMBER_HELD)
        out->pending_bytes += s->cohort->head - m->cursor;
}

const char *inspect_state_name(uint8_t state)
{
    static const char *const names[] = {
        [MEMBER_IN_STEP] = "in_step", [MEMBER_HELD] = "held", [MEMBER_LAGGING] = "lagging"};
    return names[state];
}
