/*
 * test_outq.c - the private queue: order, overtaking control frames, partly written fronts.
 */
#include "base/buf.h"
#include "protocol/outq.h"
#include "unit.h"

#include <stdio.h>
#include <string.h>

static struct frame *text(const char *s)
{
    return frame_raw(slice_str(s));
}

/* Takes everything out, `step` bytes at a time, as a socket would. */
static void drain(struct outq *q, size_t step, struct buf *out)
{
    while (!outq_is_empty(q)) {
        struct iovec pieces[3];
        int count = outq_gather(q, pieces, 3);
        size_t left = step;
        for (int i = 0; i < count && left > 0; i++) {
            size_t n = pieces[i].iov_len < left ? pieces[i].iov_len : left;
            buf_append(out, pieces[i].iov_base, n);
            left -= n;
        }
        outq_consume(q, step - left);
    }
}

static void test_order_for_every_step(void)
{
    for (size_t step = 1; step < 20; step++) {
        struct outq q = {0};
        struct buf out = {0};
        outq_push(&q, text("one"));
        outq_push(&q, text("two"));
        outq_push_control(&q, text("PING"));
        outq_push_control(&q, text("PONG"));
        outq_push(&q, text("three"));
        CU_ASSERT_EQUAL(q.bytes, 19);
        drain(&q, step, &out);
        UNIT_ASSERT_BYTES(out.data, out.len, "PINGPONGonetwothree");
        CU_ASSERT_EQUAL(q.bytes, 0);
        CU_ASSERT_EQUAL(q.control, 0);
        buf_fini(&out);
        outq_fini(&q);
    }
}

static void test_control_never_cuts_a_frame(void)
{
    struct outq q = {0};
    struct buf out = {0};
    outq_push(&q, text("begun"));
    outq_push(&q, text("next"));
    outq_consume(&q, 2);
    outq_push_control(&q, text("PING"));
    outq_push_control(&q, text("PONG"));
    drain(&q, 4, &out);
    UNIT_ASSERT_BYTES(out.data, out.len, "gunPINGPONGnext");
    buf_fini(&out);
    outq_fini(&q);
}

static void test_a_cut_control_frame_stays_in_front(void)
{
    struct outq q = {0};
    struct buf out = {0};
    outq_push(&q, text("data"));
    outq_push_control(&q, text("PING"));
    outq_consume(&q, 1);
    outq_push_control(&q, text("PONG"));
    drain(&q, 100, &out);
    UNIT_ASSERT_BYTES(out.data, out.len, "INGPONGdata");
    buf_fini(&out);
    outq_fini(&q);
}

static void test_partial_goes_first(void)
{
    struct outq q = {0};
    struct buf out = {0};
    outq_push(&q, text("later"));
    outq_push_partial(&q, text("shared"), 4);
    outq_push_control(&q, text("PING"));
    CU_ASSERT_EQUAL(q.bytes, 2 + 4 + 5);
    drain(&q, 3, &out);
    UNIT_ASSERT_BYTES(out.data, out.len, "edPINGlater");
    buf_fini(&out);
    outq_fini(&q);
}

static void replace(struct outq *q, const char *s, bool is_replaced)
{
    struct frame *f = text(s);
    bool was_replaced = outq_try_replace_control(q, f);
    CU_ASSERT_EQUAL(was_replaced, is_replaced);
    if (!was_replaced)
        frame_unref(f);
}

/* Kinds are told by the first byte. */
static void test_replaces_the_last_control_of_its_kind(void)
{
    struct outq q = {0};
    struct buf out = {0};
    replace(&q, "pong", false);
    outq_push(&q, text("pdata"));
    replace(&q, "pong", false);
    outq_push_control(&q, text("pong"));
    replace(&q, "p2", true);
    outq_push_control(&q, text("qing"));
    replace(&q, "p3", false);
    outq_push_control(&q, text("p4"));
    replace(&q, "p5", true);
    CU_ASSERT_EQUAL(q.bytes, 2 + 4 + 2 + 5);
    outq_consume(&q, 1); /* what is partly written stays */
    outq_push_control(&q, text("p6"));
    replace(&q, "p77", true);
    drain(&q, 100, &out);
    UNIT_ASSERT_BYTES(out.data, out.len, "2qingp5p77pdata");
    outq_push_control(&q, text("pong"));
    outq_consume(&q, 1);
    replace(&q, "p8", false);
    buf_fini(&out);
    outq_fini(&q);
}

static void test_drop_keeps_what_is_begun(void)
{
    struct outq q = {0};
    struct buf out = {0};
    outq_push(&q, text("begun"));
    outq_push(&q, text("dropped"));
    outq_consume(&q, 3);
    outq_drop_unsent(&q);
    outq_push(&q, text("CLOSE"));
    drain(&q, 100, &out);
    UNIT_ASSERT_BYTES(out.data, out.len, "unCLOSE");
    buf_fini(&out);

    outq_push(&q, text("a"));
    outq_push_control(&q, text("b"));
    outq_drop_unsent(&q);
    CU_ASSERT(outq_is_empty(&q));
    CU_ASSERT_EQUAL(q.bytes, 0);
    outq_fini(&q);
}

static void test_wraps_and_grows(void)
{
    struct outq q = {0};
    struct buf out = {0}, expected = {0};
    char name[16];
    for (int i = 0; i < 1000; i++) {
        int len = snprintf(name, sizeof name, "%d,", i);
        buf_append(&expected, name, (size_t)len);
        outq_push(&q, text(name));
        if (i % 3 == 0) {
            struct iovec piece;
            outq_gather(&q, &piece, 1);
            buf_append(&out, piece.iov_base, piece.iov_len);
            outq_consume(&q, piece.iov_len);
        }
    }
    drain(&q, 7, &out);
    CU_ASSERT_EQUAL_FATAL(out.len, expected.len);
    CU_ASSERT(memcmp(out.data, expected.data, out.len) == 0);
    buf_fini(&out);
    buf_fini(&expected);
    outq_fini(&q);
}

static const struct unit_test tests[] = {
    {"order, whatever the socket takes at a time", test_order_for_every_step},
    {"control overtakes but never cuts a frame", test_control_never_cuts_a_frame},
    {"a cut control frame stays in front", test_a_cut_control_frame_stays_in_front},
    {"the rest of a shared frame goes first", test_partial_goes_first},
    {"replaces the last control frame of its kind", test_replaces_the_last_control_of_its_kind},
    {"dropping keeps what is begun", test_drop_keeps_what_is_begun},
    {"wraps and grows", test_wraps_and_grows},
    {NULL, NULL},
};
const struct unit_suite suite_outq = {"outq", tests};
