/*
 * test_push.c - several publications in one message, byte for byte; and what one client's next item
 * must say.
 */
#include "base/map.h"
#include "domain/standing.h"
#include "protocol/push.h"
#include "unit.h"

#include <stdlib.h>
#include <string.h>

static struct publication *make(const char *channel, uint64_t seq, const char *payload)
{
    const struct publication_head head = {.channel = slice_str(channel),
                                          .channel_hash = map_hash(slice_str(channel)),
                                          .epoch = slice_str("c91e"),
                                          .seq = seq,
                                          .ts_ms = 7,
                                          .is_json = true};
    return publication_new(&head, slice_str(payload));
}

/* Written into memory of the caller's, a message is byte for byte the frame. */
static void check_written_in_place(const struct push_part *parts, uint32_t count, size_t bytes,
                                   const struct frame *f)
{
    struct push w;
    uint8_t *at = malloc(push_frame_bytes(bytes));
    push_start(&w, at, bytes);
    for (uint32_t i = 0; i < count; i++)
        push_put(&w, &parts[i]);
    push_end(&w);
    CU_ASSERT_EQUAL_FATAL(push_frame_bytes(bytes), f->len);
    CU_ASSERT_EQUAL(w.at - at, f->len);
    CU_ASSERT_EQUAL(memcmp(at, f->bytes, f->len), 0);
    free(at);
}

static struct frame *join(const struct push_part *parts, uint32_t count)
{
    struct push w;
    size_t bytes = 0;
    for (uint32_t i = 0; i < count; i++)
        bytes += push_part_bytes(&parts[i]);
    push_open(&w, bytes, count);
    for (uint32_t i = 0; i < count; i++)
        push_put(&w, &parts[i]);
    struct frame *f = push_close(&w);
    check_written_in_place(parts, count, bytes, f);
    return f;
}

static void test_items_side_by_side(void)
{
    struct publication *a = make("quote:A", 1, "{\"p\":1.10}"), *b = make("quote:B", 20, "null");
    const struct push_part parts[] = {
        {.single = publication_frame(a, FORM_JSON_EPOCH, NULL)},
        {.single = publication_frame(b, FORM_JSON, NULL), .missed = 120},
        {.single = publication_frame(a, FORM_JSON_SNAP, NULL), .missed = UINT64_MAX},
    };
    struct frame *f = join(parts, 3);
    CU_ASSERT(slice_is(
        frame_payload(f),
        "{\"action\":\"push\",\"items\":["
        "{\"channel\":\"quote:A\",\"epoch\":\"c91e\",\"seq\":1,\"ts\":7,\"data\":{\"p\":1.10}},"
        "{\"channel\":\"quote:B\",\"seq\":20,\"ts\":7,\"data\":null,\"missed\":120},"
        "{\"channel\":\"quote:A\",\"epoch\":\"c91e\",\"seq\":1,\"ts\":7,\"snap\":true,"
        "\"data\":{\"p\":1.10},\"missed\":18446744073709551615}]}"));
    CU_ASSERT_EQUAL(f->items, 3);
    frame_unref(f);
    f = join(&parts[0], 1); /* one alone is the same as its own frame */
    CU_ASSERT(slice_equal(frame_payload(f), frame_payload(parts[0].single)));
    CU_ASSERT_EQUAL(f->len, parts[0].single->len);
    frame_unref(f);
    publication_unref(a);
    publication_unref(b);
}

/* The length of a message decides the form of its header: each side of both boundaries. */
static void test_every_length_of_header(void)
{
    char payload[70000];
    for (size_t size = 20; size < sizeof payload; size += size < 200 ? 1 : size < 65000 ? 997 : 7) {
        memset(payload, 'x', size);
        payload[0] = payload[size - 1] = '"';
        payload[size] = '\0';
        struct publication *p = make("q:A", 1, payload);
        const struct push_part part = {.single = publication_frame(p, FORM_JSON, NULL),
                                       .missed = 9};
        struct frame *f = join(&part, 1);
        CU_ASSERT_EQUAL(frame_payload(f).len,
                        frame_payload(part.single).len + strlen(",\"missed\":9"));
        CU_ASSERT_EQUAL(f->len, f->header_len + frame_payload(f).len);
        frame_unref(f);
        publication_unref(p);
    }
}

static struct standing take(struct standing at, uint64_t count, uint64_t seq,
                            enum publication_form *form, uint64_t *missed)
{
    struct item *item = item_new(make("q:A", seq, "1"), count);
    *missed = standing_take(&at, item, form);
    item_unref(item);
    return at;
}

static void test_standing_says_what_was_missed(void)
{
    enum publication_form form = FORM_JSON;
    uint64_t missed;
    struct standing at = take((struct standing){.seen = 5, .has_base = true}, 9, 9, &form, &missed);
    CU_ASSERT_EQUAL(missed, 3);
    CU_ASSERT_EQUAL(form, FORM_JSON);
    CU_ASSERT_EQUAL(at.seen, 9);
    take((struct standing){.seen = 5, .has_base = false}, 9, 9, &form, &missed);
    CU_ASSERT_EQUAL(missed, 0); /* it never had one */
    form = FORM_JSON_SNAP;
    take((struct standing){.seen = 9, .has_base = true}, 9, 9, &form, &missed);
    CU_ASSERT_EQUAL(missed, 0); /* a snapshot of what was seen */
    form = FORM_JSON;
    at = take((struct standing){.seen = 5, .wants_epoch = true}, 6, 0, &form, &missed);
    CU_ASSERT_EQUAL(form, FORM_JSON); /* a plain message has none */
    CU_ASSERT(at.wants_epoch);
    at = take(at, 7, 3, &form, &missed);
    CU_ASSERT_EQUAL(form, FORM_JSON_EPOCH);
    CU_ASSERT_FALSE(at.wants_epoch);
    CU_ASSERT(standing_is_plain(&at));
}

static struct position *position(const char *epoch, uint64_t seq, bool is_trusted)
{
    struct position *p = mem_zalloc(sizeof *p);
    p->seq = seq;
    p->is_trusted = is_trusted;
    p->epoch_len = (uint8_t)strlen(epoch);
    memcpy(p->epoch, epoch, p->epoch_len);
    return p;
}

static void test_a_position_is_resolved_by_the_first_number(void)
{
    enum publication_form form = FORM_JSON;
    uint64_t missed;
    struct standing at = {.seen = 1, .since = position("c91e", 10, false)};
    at = take(at, 2, 0, &form, &missed);
    CU_ASSERT_PTR_NOT_NULL(at.since);
    at = take(at, 3, 15, &form, &missed);
    CU_ASSERT_EQUAL(missed, 4);
    CU_ASSERT_PTR_NULL(at.since);
    at.since = position("other", 10, false);
    at = take(at, 4, 16, &form, &missed);
    CU_ASSERT_EQUAL(missed, 0); /* two numberings have no distance */
    at.since = position("c91e", 20, true);
    struct publication *old = make("q:A", 20, "1"), *new = make("q:A", 21, "1");
    CU_ASSERT(standing_covers(&at, old));
    CU_ASSERT_FALSE(standing_covers(&at, new));
    at.since->is_trusted = false;
    CU_ASSERT_FALSE(standing_covers(&at, old));
    publication_unref(old);
    publication_unref(new);
    standing_fini(&at);
}

static const struct unit_test tests[] = {
    {"items side by side", test_items_side_by_side},
    {"every length of header", test_every_length_of_header},
    {"a standing says what was missed", test_standing_says_what_was_missed},
    {"a position is resolved by the first number", test_a_position_is_resolved_by_the_first_number},
    {NULL, NULL},
};
const struct unit_suite suite_push = {"push", tests};
