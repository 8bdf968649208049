/*
 * test_frame.c - shared frames and the close frame.
 */
#include "protocol/frame.h"

#include "unit.h"

#include <stdlib.h>

static void test_pieces_are_joined(void)
{
    struct frame *f = frame_new(WS_OP_TEXT, false, slice_str("Hel"), slice_str("lo"), 5);
    UNIT_ASSERT_BYTES(f->bytes, f->len, "\x81\x05Hello");
    CU_ASSERT_EQUAL(f->plain_bytes, 5);
    CU_ASSERT(slice_is(frame_payload(f), "Hello"));
    frame_unref(f);
}

static void test_compressed_frame_has_rsv1(void)
{
    struct slice packed = slice_of("\xf2\x48\xcd\xc9\xc9\x07\x00", 7);
    struct frame *f = frame_new(WS_OP_TEXT, true, packed, (struct slice){0}, 5);
    UNIT_ASSERT_BYTES(f->bytes, f->len, "\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00");
    CU_ASSERT_EQUAL(f->plain_bytes, 5);
    frame_unref(f);
}

static void test_text_of_a_buffer(void)
{
    struct buf text = {0};
    buf_append_str(&text, "Hello");
    struct frame *f = frame_text(&text);
    UNIT_ASSERT_BYTES(f->bytes, f->len, "\x81\x05Hello");
    frame_unref(f);
    buf_fini(&text);
}

static void test_every_length_form(void)
{
    static const struct {
        size_t payload;
        const char *header;
        size_t header_len;
    } rows[] = {
        {0, "\x82\x00", 2},
        {1, "\x82\x01", 2},
        {125, "\x82\x7d", 2},
        {126, "\x82\x7e\x00\x7e", 4},
        {127, "\x82\x7e\x00\x7f", 4},
        {65535, "\x82\x7e\xff\xff", 4},
        {65536, "\x82\x7f\0\0\0\0\0\x01\0\0", 10},
        {65537, "\x82\x7f\0\0\0\0\0\x01\0\x01", 10},
    };
    char *payload = calloc(1, 65537);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct slice a = slice_of(payload, rows[i].payload);
        struct frame *f = frame_new(WS_OP_BINARY, false, a, (struct slice){0}, 0);
        CU_ASSERT_EQUAL(f->header_len, rows[i].header_len);
        CU_ASSERT_EQUAL(f->len, rows[i].header_len + rows[i].payload);
        CU_ASSERT(memcmp(f->bytes, rows[i].header, rows[i].header_len) == 0);
        CU_ASSERT_EQUAL(frame_payload(f).len, rows[i].payload);
        frame_unref(f);
    }
    free(payload);
}

static void test_references(void)
{
    struct frame *f = frame_new(WS_OP_PING, false, slice_str("x"), (struct slice){0}, 1);
    CU_ASSERT_PTR_EQUAL(frame_ref(f), f);
    frame_unref(f);
    CU_ASSERT(slice_is(frame_payload(f), "x"));
    frame_unref(f);
}

static void test_close_frames(void)
{
    struct frame *f = frame_close(WS_CLOSE_DRAIN, "drain");
    UNIT_ASSERT_BYTES(f->bytes, f->len,
                      "\x88\x07\x10\x68"
                      "drain");
    frame_unref(f);
    f = frame_close(WS_CLOSE_NORMAL, NULL);
    UNIT_ASSERT_BYTES(f->bytes, f->len, "\x88\x02\x03\xe8");
    frame_unref(f);
    f = frame_close(WS_CLOSE_NO_STATUS, "never seen");
    UNIT_ASSERT_BYTES(f->bytes, f->len, "\x88\x00");
    frame_unref(f);
}

static void test_close_reason_is_cut_between_characters(void)
{
    char reason[200];
    memset(reason, 'r', sizeof reason);
    reason[sizeof reason - 1] = '\0';
    struct frame *f = frame_close(1000, reason);
    CU_ASSERT_EQUAL(f->len, 2 + WS_CONTROL_PAYLOAD_MAX);
    frame_unref(f);

    memcpy(reason + 121, "\xe2\x82\xac", 3); /* bytes 121 to 123: its last one does not fit */
    f = frame_close(1000, reason);
    CU_ASSERT_EQUAL(f->len, 2 + 2 + 121);
    frame_unref(f);

    memset(reason, 'r', sizeof reason - 1);
    memcpy(reason + 120, "\xe2\x82\xac", 3);
    f = frame_close(1000, reason);
    CU_ASSERT_EQUAL(f->len, 2 + 2 + 123);
    frame_unref(f);
}

static const struct unit_test tests[] = {
    {"pieces are joined", test_pieces_are_joined},
    {"compressed frame has RSV1", test_compressed_frame_has_rsv1},
    {"text of a buffer", test_text_of_a_buffer},
    {"every length form", test_every_length_form},
    {"references", test_references},
    {"close frames", test_close_frames},
    {"close reason is cut between characters", test_close_reason_is_cut_between_characters},
    {NULL, NULL},
};
const struct unit_suite suite_frame = {"frame", tests};
