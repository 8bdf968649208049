/*
 * test_ws_deflate.c - the examples of RFC 7692, round trips, and the bounds on inflating.
 */
#include "protocol/ws_deflate.h"

#include "base/rng.h"
#include "unit.h"

#include <stdio.h>
#include <stdlib.h>

#define MIB ((size_t)1 << 20)

static enum ws_inflate_result inflate_bytes(const void *ptr, size_t len, size_t max,
                                            struct buf *out)
{
    struct ws_inflater *i = ws_inflater_new();
    enum ws_inflate_result result = ws_inflater_run(i, ptr, len, max, out);
    ws_inflater_free(i);
    return result;
}

#define INFLATE(literal, max, out) inflate_bytes(literal, sizeof(literal) - 1, max, out)

/* Text with repetitions, different for each length. */
static void fill(char *text, size_t len)
{
    struct rng r;
    rng_init_seed(&r, len);
    for (size_t i = 0; i < len; i++)
        text[i] = i > 20 && rng_below(&r, 4) != 0 ? text[i - 17] : (char)(' ' + rng_below(&r, 90));
}

static void test_deflating_the_example(void)
{
    struct ws_deflater *d = ws_deflater_new(6, 15);
    struct buf out = {0};
    /* "Hello" alone does not get shorter than 5 bytes: 7 bytes are refused. */
    CU_ASSERT_FALSE(ws_deflater_run(d, "Hello", 5, &out));
    CU_ASSERT_EQUAL(out.len, 0);
    CU_ASSERT_FATAL(ws_deflater_run(d, "HelloHelloHello", 15, &out));
    struct buf plain = {0};
    CU_ASSERT_EQUAL(inflate_bytes(out.data, out.len, 100, &plain), WS_INFLATE_OK);
    UNIT_ASSERT_BYTES(plain.data, plain.len, "HelloHelloHello");
    buf_fini(&plain);
    buf_fini(&out);
    ws_deflater_free(d);
}

static void test_examples_of_rfc_7692(void)
{
    struct buf out = {0};
    CU_ASSERT_EQUAL(INFLATE("\xf2\x48\xcd\xc9\xc9\x07\x00", 5, &out), WS_INFLATE_OK);
    UNIT_ASSERT_BYTES(out.data, out.len, "Hello");
    CU_ASSERT_EQUAL(INFLATE("\x00\x05\x00\xfa\xffHello\x00", 5, &out), WS_INFLATE_OK);
    UNIT_ASSERT_BYTES(out.data, out.len, "Hello"); /* a block without compression */
    CU_ASSERT_EQUAL(INFLATE("\xf3\x48\xcd\xc9\xc9\x07\x00\x00", 5, &out), WS_INFLATE_OK);
    UNIT_ASSERT_BYTES(out.data, out.len, "Hello"); /* a final block */
    CU_ASSERT_EQUAL(INFLATE("\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", 5, &out),
                    WS_INFLATE_OK);
    UNIT_ASSERT_BYTES(out.data, out.len, "Hello"); /* two blocks */
    CU_ASSERT_EQUAL(INFLATE("\x00", 5, &out), WS_INFLATE_OK);
    CU_ASSERT_EQUAL(out.len, 0); /* an empty message */
    buf_fini(&out);
}

/* RFC 7692, 7.2.3.2: the second "Hello" of a connection with context takeover. */
static void test_nothing_is_remembered_between_messages(void)
{
    struct ws_inflater *i = ws_inflater_new();
    struct buf out = {0};
    CU_ASSERT_EQUAL(ws_inflater_run(i, "\xf2\x48\xcd\xc9\xc9\x07\x00", 7, 5, &out), WS_INFLATE_OK);
    CU_ASSERT_EQUAL(ws_inflater_run(i, "\xf2\x00\x11\x00\x00", 5, 5, &out), WS_INFLATE_BAD);
    CU_ASSERT_EQUAL(ws_inflater_run(i, "\xf2\x48\xcd\xc9\xc9\x07\x00", 7, 5, &out), WS_INFLATE_OK);
    UNIT_ASSERT_BYTES(out.data, out.len, "Hello");
    buf_fini(&out);
    ws_inflater_free(i);
}

static void test_final_blocks(void)
{
    struct buf out = {0};
    /* Two final blocks, and one with nothing behind it. */
    CU_ASSERT_EQUAL(
        INFLATE("\xf3\x48\xcd\xc9\xc9\x07\x00\xf3\x48\xcd\xc9\xc9\x07\x00\x00", 10, &out),
        WS_INFLATE_OK);
    UNIT_ASSERT_BYTES(out.data, out.len, "HelloHello");
    CU_ASSERT_EQUAL(INFLATE("\xf3\x48\xcd\xc9\xc9\x07\x00", 5, &out), WS_INFLATE_OK);
    UNIT_ASSERT_BYTES(out.data, out.len, "Hello");
    CU_ASSERT_EQUAL(INFLATE("\xf3\x48\xcd\xc9\xc9\x07\x00\xf3", 100, &out), WS_INFLATE_BAD);
    buf_fini(&out);
}

static void test_corrupt_data(void)
{
    struct buf out = {0};
    CU_ASSERT_EQUAL(INFLATE("\xff\xff\xff", 100, &out), WS_INFLATE_BAD);
    CU_ASSERT_EQUAL(INFLATE("\x07", 100, &out), WS_INFLATE_BAD);
    CU_ASSERT_EQUAL(INFLATE("\x00\x05\x00\xfb\xffHello\x00", 100, &out), WS_INFLATE_BAD);
    CU_ASSERT_EQUAL(INFLATE("Hello", 100, &out), WS_INFLATE_BAD);
    /* The tail belongs to the transport: with it, the message does not end where it should. */
    CU_ASSERT_EQUAL(INFLATE("\xf2\x48\xcd\xc9\xc9\x07", 100, &out), WS_INFLATE_BAD);
    buf_fini(&out);
}

static void test_no_message_cut_short_is_whole(void)
{
    char text[600];
    struct ws_deflater *d = ws_deflater_new(6, 15);
    struct buf packed = {0}, out = {0};
    fill(text, sizeof text);
    CU_ASSERT_FATAL(ws_deflater_run(d, text, sizeof text, &packed));
    for (size_t len = 1; len < packed.len; len++)
        CU_ASSERT_EQUAL(inflate_bytes(packed.data, len, 2000, &out), WS_INFLATE_BAD);
    CU_ASSERT_EQUAL(inflate_bytes(packed.data, packed.len, 600, &out), WS_INFLATE_OK);
    buf_fini(&packed);
    buf_fini(&out);
    ws_deflater_free(d);
}

/* Streams of every window are used again and again; each result stands alone. */
static void test_round_trips(void)
{
    static const size_t lengths[] = {1, 2, 30, 200, 256, 1023, 4096, 33000, 65535, 65536, 200000};
    struct buf packed = {0}, plain = {0};
    struct ws_inflater *i = ws_inflater_new();
    char *text = malloc(200000);
    for (int bits = 9; bits <= 15; bits++) {
        struct ws_deflater *d = ws_deflater_new(bits % 9 + 1, bits);
        for (size_t n = 0; n < sizeof lengths / sizeof lengths[0]; n++) {
            size_t len = lengths[n];
            fill(text, len);
            buf_clear(&packed);
            buf_append_str(&packed, "kept");
            if (!ws_deflater_run(d, text, len, &packed)) {
                CU_ASSERT(len < 40);
                CU_ASSERT_EQUAL(packed.len, 4);
                continue;
            }
            CU_ASSERT(packed.len - 4 < len);
            CU_ASSERT_EQUAL(ws_inflater_run(i, packed.data + 4, packed.len - 4, len, &plain),
                            WS_INFLATE_OK);
            CU_ASSERT_EQUAL_FATAL(plain.len, len);
            CU_ASSERT(memcmp(plain.data, text, len) == 0);
        }
        ws_deflater_free(d);
    }
    free(text);
    ws_inflater_free(i);
    buf_fini(&packed);
    buf_fini(&plain);
}

static void test_what_does_not_shrink_is_refused(void)
{
    struct ws_deflater *d = ws_deflater_new(6, 15);
    struct buf out = {0};
    uint64_t noise[512];
    struct rng r;
    rng_init_seed(&r, 7);
    for (size_t n = 0; n < 512; n++)
        noise[n] = rng_next(&r);
    for (size_t len = 0; len <= sizeof noise; len += 13)
        CU_ASSERT_FALSE(ws_deflater_run(d, noise, len, &out));
    CU_ASSERT_EQUAL(out.len, 0);
    buf_fini(&out);
    ws_deflater_free(d);
}

static void test_bound_is_exact(void)
{
    char text[3000];
    struct ws_deflater *d = ws_deflater_new(6, 15);
    struct buf packed = {0}, out = {0};
    fill(text, sizeof text);
    CU_ASSERT_FATAL(ws_deflater_run(d, text, sizeof text, &packed));
    for (size_t max = 0; max < sizeof text + 2; max++) {
        enum ws_inflate_result want = max < sizeof text ? WS_INFLATE_TOO_LARGE : WS_INFLATE_OK;
        CU_ASSERT_EQUAL(inflate_bytes(packed.data, packed.len, max, &out), want);
        CU_ASSERT(out.len <= max);
    }
    buf_fini(&packed);
    buf_fini(&out);
    ws_deflater_free(d);
}

/* 64 MiB of zeros are 64 KiB deflated: memory follows the bound, not the bomb. */
static void test_bomb_takes_no_memory(void)
{
    char *zeros = calloc(1, 64 * MIB);
    struct ws_deflater *d = ws_deflater_new(9, 15);
    struct buf packed = {0}, out = {0};
    CU_ASSERT_FATAL(ws_deflater_run(d, zeros, 64 * MIB, &packed));
    CU_ASSERT(packed.len < MIB / 8);
    CU_ASSERT_EQUAL(inflate_bytes(packed.data, packed.len, 65536, &out), WS_INFLATE_TOO_LARGE);
    CU_ASSERT(out.len <= 65536);
    CU_ASSERT(out.cap <= 2 * 65536);
    free(zeros);
    buf_fini(&packed);
    buf_fini(&out);
    ws_deflater_free(d);
}

static const struct unit_test tests[] = {
    {"deflating the example", test_deflating_the_example},
    {"examples of RFC 7692", test_examples_of_rfc_7692},
    {"nothing is remembered between messages", test_nothing_is_remembered_between_messages},
    {"final blocks", test_final_blocks},
    {"corrupt data", test_corrupt_data},
    {"no message cut short is whole", test_no_message_cut_short_is_whole},
    {"round trips", test_round_trips},
    {"what does not shrink is refused", test_what_does_not_shrink_is_refused},
    {"bound is exact", test_bound_is_exact},
    {"bomb takes no memory", test_bomb_takes_no_memory},
    {NULL, NULL},
};
const struct unit_suite suite_ws_deflate = {"ws_deflate", tests};
