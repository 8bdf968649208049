/*
 * test_ws_codec.c - the frame decoder and encoder.
 *
 * A decoder is driven by a script of bytes and writes down what it hands out, one line per event:
 *
 *      text 5 Hello      binary 3 abc      ping 0      pong 2 hi      close 1000 bye
 *      error 1002
 *
 * Each script is fed whole, byte by byte and cut in two at every place, and the lines must always
 * be the same. Bytes are fed from copies of exactly their size, so that the address sanitizer sees
 * a read past the end. Masked scripts in tables use the mask 0, which is legal and keeps them
 * readable.
 */
#include "protocol/ws_codec.h"

#include "base/rng.h"
#include "unit.h"

#include <stdio.h>
#include <stdlib.h>

#define MESSAGE_BYTES 1000
#define M0            "\0\0\0\0" /* a mask that changes nothing */

/* --- driving a decoder ----------------------------------------------------------------------- */

struct drive {
    struct ws_decoder decoder;
    struct ws_decoder_config config;
    struct buf inflated;
    struct buf lines;
    bool over; /* a close or an error was handed out */
};

static void drive_init(struct drive *v, bool is_server, bool deflate, size_t message_bytes)
{
    memset(v, 0, sizeof *v);
    v->config = (struct ws_decoder_config){.is_server = is_server,
                                           .deflate = deflate,
                                           .message_bytes = message_bytes,
                                           .inflater = ws_inflater_new(),
                                           .inflated = &v->inflated};
}

static void drive_fini(struct drive *v)
{
    ws_decoder_fini(&v->decoder);
    ws_inflater_free(v->config.inflater);
    buf_fini(&v->inflated);
    buf_fini(&v->lines);
}

static void write_event(struct buf *lines, enum ws_event event, const struct ws_message *m)
{
    static const char *const names[] = {[WS_PING] = "ping", [WS_PONG] = "pong"};
    if (event == WS_ERROR) {
        buf_printf(lines, "error %u\n", m->code);
        return;
    }
    if (event == WS_CLOSE)
        buf_printf(lines, "close %u ", m->code);
    else if (event == WS_MESSAGE)
        buf_printf(lines, "%s %zu ", m->opcode == WS_OP_TEXT ? "text" : "binary", m->payload.len);
    else
        buf_printf(lines, "%s %zu ", names[event], m->payload.len);
    buf_append(lines, m->payload.ptr, m->payload.len);
    buf_append_str(lines, "\n");
}

static void drive_feed(struct drive *v, const void *ptr, size_t len)
{
    uint8_t *copy = malloc(len + 1);
    size_t at = 0, used;
    struct ws_message message;
    memcpy(copy + 1, ptr, len);
    while (!v->over) {
        memset(&message, 0, sizeof message);
        enum ws_event event =
            ws_decoder_next(&v->decoder, &v->config, copy + 1 + at, len - at, &used, &message);
        CU_ASSERT_FATAL(used <= len - at);
        at += used;
        if (event == WS_NEED_MORE)
            break;
        write_event(&v->lines, event, &message);
        v->over = event == WS_CLOSE || event == WS_ERROR;
    }
    CU_ASSERT(v->over || at == len);
    free(copy);
}

/* --- scripts --------------------------------------------------------------------------------- */

struct script {
    const char *bytes;
    size_t len;
    bool is_client; /* the decoder's role */
    bool deflate;
    size_t message_bytes; /* 0: MESSAGE_BYTES */
};

static void check_lines(const struct drive *v, const char *want, const char *how, size_t cut)
{
    bool same = slice_is(buf_slice(&v->lines), want);
    if (!same)
        printf("%s %zu: wanted <%s>, got <%.*s>\n", how, cut, want, (int)v->lines.len,
               v->lines.data);
    CU_ASSERT(same);
}

static void play(const struct script *s, size_t cut, size_t step, const char *want)
{
    struct drive v;
    size_t message_bytes = s->message_bytes != 0 ? s->message_bytes : MESSAGE_BYTES;
    drive_init(&v, !s->is_client, s->deflate, message_bytes);
    drive_feed(&v, s->bytes, cut);
    for (size_t at = cut; at < s->len; at += step)
        drive_feed(&v, s->bytes + at, s->len - at < step ? s->len - at : step);
    check_lines(&v, want, step == 1 ? "byte by byte" : "cut at", cut);
    drive_fini(&v);
}

/* Whole, byte by byte, and cut at every place. */
static void check_script(const struct script *s, const char *want)
{
    play(s, s->len, s->len + 1, want);
    play(s, 0, 1, want);
    for (size_t cut = 0; cut < s->len; cut++)
        play(s, cut, s->len, want);
}

#define CHECK(want, literal, ...) \
    check_script(&(struct script){literal, sizeof(literal) - 1, __VA_ARGS__}, want)
#define SERVER(want, literal)  CHECK(want, literal, .is_client = false)
#define CLIENT(want, literal)  CHECK(want, literal, .is_client = true)
#define DEFLATE(want, literal) CHECK(want, literal, .deflate = true)

/* --- decoding -------------------------------------------------------------------------------- */

static void test_examples_of_rfc_6455(void)
{
    CLIENT("text 5 Hello\n", "\x81\x05\x48\x65\x6c\x6c\x6f");
    SERVER("text 5 Hello\n", "\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
    CLIENT("text 5 Hello\n", "\x01\x03\x48\x65\x6c\x80\x02\x6c\x6f");
    CLIENT("ping 5 Hello\n", "\x89\x05\x48\x65\x6c\x6c\x6f");
    SERVER("pong 5 Hello\n", "\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
}

static void test_examples_of_rfc_7692(void)
{
    CHECK("text 5 Hello\n", "\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00", .is_client = true,
          .deflate = true);
    CHECK("text 5 Hello\n", "\x41\x03\xf2\x48\xcd\x80\x04\xc9\xc9\x07\x00", .is_client = true,
          .deflate = true);
    CHECK("text 5 Hello\n", "\xc1\x0b\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00",
          .is_client = true, .deflate = true);
    CHECK("text 5 Hello\n", "\xc1\x08\xf3\x48\xcd\xc9\xc9\x07\x00\x00", .is_client = true,
          .deflate = true);
    CHECK("text 5 Hello\n", "\xc1\x0d\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00",
          .is_client = true, .deflate = true);
}

static void test_empty_payloads(void)
{
    SERVER("text 0 \nbinary 0 \nping 0 \npong 0 \nclose 1005 \n",
           "\x81\x80" M0 "\x82\x80" M0 "\x89\x80" M0 "\x8a\x80" M0 "\x88\x80" M0);
    SERVER("text 0 \n", "\x01\x80" M0 "\x00\x80" M0 "\x80\x80" M0);
    DEFLATE("text 0 \n", "\xc1\x81" M0 "\0");
    DEFLATE("text 0 \n", "\xc1\x80" M0);
    DEFLATE("binary 0 \n", "\x42\x80" M0 "\x80\x81" M0 "\0");
}

static void test_control_frames_within_a_message(void)
{
    SERVER("ping 2 p1\npong 0 \ntext 6 abcdef\nping 0 \n", "\x01\x82" M0 "ab"
                                                           "\x89\x82" M0 "p1"
                                                           "\x00\x82" M0 "cd"
                                                           "\x8a\x80" M0 "\x80\x82" M0 "ef"
                                                           "\x89\x80" M0);
    /* Each frame has a mask of its own, and the message goes on with its own state behind it. */
    SERVER("ping 2 p1\ntext 6 ab\xe2\x82\xac"
           "f\n",
           "\x01\x83\x01\x02\x03\x04"
           "\x60\x60\xe1"
           "\x89\x82\x11\x22\x33\x44"
           "\x61\x13"
           "\x80\x83\x0a\x0b\x0c\x0d"
           "\x88\xa7\x6a");
    DEFLATE("ping 1 x\ntext 5 Hello\n", "\x41\x83" M0 "\xf2\x48\xcd"
                                        "\x89\x81" M0 "x"
                                        "\x80\x84" M0 "\xc9\xc9\x07\x00");
    SERVER("close 1000 bye\n", "\x01\x82" M0 "ab"
                               "\x88\x85" M0 "\x03\xe8"
                               "bye");
}

static void test_messages_in_a_row(void)
{
    SERVER("text 1 a\nbinary 2 bc\ntext 3 def\n",
           "\x81\x81" M0 "a\x82\x82" M0 "bc\x81\x83" M0 "def");
    /* A compressed message leaves nothing to the plain one behind it, nor the other way about. */
    DEFLATE("text 5 Hello\ntext 2 hi\ntext 5 Hello\n",
            "\xc1\x87" M0 "\xf2\x48\xcd\xc9\xc9\x07\x00"
            "\x81\x82" M0 "hi"
            "\xc1\x87" M0 "\xf2\x48\xcd\xc9\xc9\x07\x00");
}

static void test_reserved_bits(void)
{
    SERVER("error 1002\n", "\xc1\x80" M0);
    SERVER("error 1002\n", "\xa1\x80" M0);
    SERVER("error 1002\n", "\x91\x80" M0);
    SERVER("error 1002\n", "\xc9\x80" M0);
    DEFLATE("error 1002\n", "\xa1\x80" M0);
    DEFLATE("error 1002\n", "\x91\x80" M0);
    DEFLATE("error 1002\n", "\xd1\x80" M0);
    DEFLATE("error 1002\n", "\xc9\x80" M0); /* RSV1 on a control frame */
    DEFLATE("error 1002\n", "\xc8\x80" M0);
    DEFLATE("error 1002\n", "\x41\x81" M0 "\0"
                            "\xc0\x80" M0); /* RSV1 on a continuation */
    DEFLATE("error 1002\n", "\x01\x80" M0 "\xc0\x80" M0);
}

static void test_reserved_opcodes(void)
{
    SERVER("error 1002\n", "\x83\x80" M0);
    SERVER("error 1002\n", "\x84\x80" M0);
    SERVER("error 1002\n", "\x85\x80" M0);
    SERVER("error 1002\n", "\x86\x80" M0);
    SERVER("error 1002\n", "\x87\x80" M0);
    SERVER("error 1002\n", "\x8b\x80" M0);
    SERVER("error 1002\n", "\x8c\x80" M0);
    SERVER("error 1002\n", "\x8d\x80" M0);
    SERVER("error 1002\n", "\x8e\x80" M0);
    SERVER("error 1002\n", "\x8f\x80" M0);
    SERVER("text 1 a\nerror 1002\n", "\x81\x81" M0 "a\x83\x80" M0 "\x81\x81" M0 "b");
}

static void test_masking_rules(void)
{
    SERVER("error 1002\n", "\x81\x05Hello");
    SERVER("error 1002\n", "\x89\x00");
    CLIENT("error 1002\n", "\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
    CLIENT("error 1002\n", "\x88\x80" M0);
}

static void test_control_frames_are_short_and_whole(void)
{
    SERVER("error 1002\n", "\x09\x80" M0);
    SERVER("error 1002\n", "\x08\x80" M0);
    SERVER("error 1002\n", "\x0a\x81" M0 "x");
    SERVER("error 1002\n", "\x89\xfe\x00\x7e" M0);
    SERVER("error 1002\n", "\x89\xfe\x00\x05" M0);
    SERVER("error 1002\n", "\x88\xff\0\0\0\0\0\0\0\x01" M0);
}

static void test_lengths_in_their_shortest_form(void)
{
    SERVER("error 1002\n", "\x82\xfe\x00\x00" M0);
    SERVER("error 1002\n", "\x82\xfe\x00\x7d" M0);
    SERVER("error 1002\n", "\x82\xff\0\0\0\0\0\0\0\x7d" M0);
    SERVER("error 1002\n", "\x82\xff\0\0\0\0\0\0\xff\xff" M0);
    SERVER("error 1002\n", "\x82\xff\x80\0\0\0\0\0\0\0" M0);
    SERVER("error 1002\n", "\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff" M0);
    SERVER("error 1009\n", "\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff" M0);
}

static void test_order_of_fragments(void)
{
    SERVER("error 1002\n", "\x80\x80" M0);
    SERVER("error 1002\n", "\x00\x81" M0 "a");
    SERVER("text 1 a\nerror 1002\n", "\x81\x81" M0 "a\x80\x81" M0 "b");
    SERVER("error 1002\n", "\x01\x81" M0 "a\x81\x81" M0 "b");
    SERVER("error 1002\n", "\x01\x81" M0 "a\x02\x81" M0 "b");
    SERVER("text 2 ab\nerror 1002\n", "\x01\x81" M0 "a\x80\x81" M0 "b\x00\x81" M0 "c");
    DEFLATE("error 1002\n", "\x41\x81" M0 "\0\xc1\x81" M0 "\0");
}

static void test_close_payloads(void)
{
    SERVER("close 1005 \n", "\x88\x80" M0);
    SERVER("error 1002\n", "\x88\x81" M0 "\x03");
    SERVER("close 1000 \n", "\x88\x82" M0 "\x03\xe8");
    SERVER("close 4999 gr\xc3\xbc\xc3\x9f"
           "e\n",
           "\x88\x89" M0 "\x13\x87gr\xc3\xbc\xc3\x9f"
           "e");
    SERVER("error 1002\n", "\x88\x82" M0 "\x03\xed"); /* 1005 */
    SERVER("error 1002\n", "\x88\x82" M0 "\x00\x00");
    SERVER("error 1007\n", "\x88\x83" M0 "\x03\xe8\xff");
    SERVER("error 1007\n", "\x88\x83" M0 "\x03\xe8\xc3"); /* half a character */
    SERVER("close 1000 \n", "\x88\x82" M0 "\x03\xe8\x81\x81" M0 "x");
}

static void test_close_codes(void)
{
    for (unsigned code = 0; code < 0x10000; code++) {
        bool registered = code >= 1000 && code <= 1014 && (code < 1004 || code > 1006);
        bool want = registered || (code >= 3000 && code < 5000);
        CU_ASSERT_EQUAL(ws_close_code_is_legal(code), want);
    }
}

static void test_utf8(void)
{
    SERVER("text 3 \xe2\x82\xac\n", "\x81\x83" M0 "\xe2\x82\xac");
    SERVER("text 3 \xe2\x82\xac\n", "\x01\x81" M0 "\xe2\x00\x81" M0 "\x82\x80\x81" M0 "\xac");
    SERVER("error 1007\n", "\x81\x81" M0 "\xff");
    SERVER("error 1007\n", "\x81\x82" M0 "\xe2\x82");
    SERVER("error 1007\n", "\x01\x82" M0 "\xe2\x82\x80\x80" M0);
    SERVER("error 1007\n", "\x01\x81" M0 "\xe2\x80\x81" M0 "x");
    SERVER("error 1007\n", "\x81\x83" M0 "\xed\xa0\x80"); /* a surrogate */
    SERVER("binary 1 \xff\n", "\x82\x81" M0 "\xff");
    /* A character does not go on in the next message. */
    SERVER("error 1007\n", "\x81\x81" M0 "\xc3\x81\x81" M0 "\xa9");
    /* Compressed bytes are not text; what they inflate to is. */
    DEFLATE("error 1007\n", "\xc1\x87" M0 "\x00\x01\x00\xfe\xff\xff\x00");
    DEFLATE("binary 1 \xff\n", "\xc2\x87" M0 "\x00\x01\x00\xfe\xff\xff\x00");
    DEFLATE("error 1007\n", "\xc1\x87" M0 "\x00\x01\x00\xfe\xff\xc3\x00"); /* half a character */
}

/* RFC 6455, 8.1: the frame is far from whole when its text cannot become valid any more. */
static void test_bad_text_fails_at_its_first_bad_byte(void)
{
    static const char frame[] = "\x81\xfe\x03\xe8" M0 "abc\xe2\x82";
    struct drive v;
    drive_init(&v, true, false, MESSAGE_BYTES);
    drive_feed(&v, frame, sizeof frame - 1);
    CU_ASSERT_EQUAL(v.lines.len, 0);
    drive_feed(&v, "x", 1);
    check_lines(&v, "error 1007\n", "first bad byte", 0);
    drive_fini(&v);
}

/* Everything that two bytes tell is refused without waiting for a third. */
static void test_headers_fail_at_two_bytes(void)
{
    static const char *const starts[] = {"\x83\x80", "\xc1\x80", "\x81\x05",
                                         "\x89\xfe", "\x09\x80", "\x80\x80"};
    for (size_t i = 0; i < sizeof starts / sizeof starts[0]; i++) {
        struct drive v;
        drive_init(&v, true, false, MESSAGE_BYTES);
        drive_feed(&v, starts[i], 2);
        check_lines(&v, "error 1002\n", "start", i);
        drive_fini(&v);
    }
}

static void test_corrupt_compression(void)
{
    DEFLATE("error 1007\n", "\xc1\x83" M0 "\xff\xff\xff");
    DEFLATE("error 1007\n", "\x41\x82" M0 "\xff\xff\x80\x81" M0 "\xff");
    DEFLATE("text 5 Hello\nerror 1007\n", "\xc1\x87" M0 "\xf2\x48\xcd\xc9\xc9\x07\x00"
                                          "\xc1\x85" M0 "\xf2\x00\x11\x00\x00");
}

/* --- limits ---------------------------------------------------------------------------------- */

static void test_message_limit(void)
{
    CHECK("text 5 Hello\n", "\x81\x85" M0 "Hello", .message_bytes = 5);
    CHECK("error 1009\n", "\x81\x86" M0 "Hello!", .message_bytes = 5);
    CHECK("text 5 Hello\n", "\x01\x83" M0 "Hel\x80\x82" M0 "lo", .message_bytes = 5);
    CHECK("error 1009\n", "\x01\x83" M0 "Hel\x80\x83" M0 "lo!", .message_bytes = 5);
    CHECK("error 1009\n", "\x01\x83" M0 "Hel\x00\x83" M0 "lo!", .message_bytes = 5);
    /* Control frames are no part of it, and the next message starts anew. */
    CHECK("ping 6 123456\ntext 5 Hello\ntext 5 World\n",
          "\x01\x83" M0 "Hel\x89\x86" M0 "123456\x80\x82" M0 "lo\x81\x85" M0 "World",
          .message_bytes = 5);
    CHECK("text 5 Hello\n", "\xc1\x87" M0 "\xf2\x48\xcd\xc9\xc9\x07\x00", .deflate = true,
          .message_bytes = 5);
    CHECK("error 1009\n", "\xc1\x87" M0 "\xf2\x48\xcd\xc9\xc9\x07\x00", .deflate = true,
          .message_bytes = 4);
}

/* A conforming peer may make an incompressible message a little larger. */
static void test_compressed_message_may_be_larger_than_its_content(void)
{
    enum { LEN = 4000 };
    uint8_t stored[5 + LEN + 1] = {0x00, LEN & 0xff, LEN >> 8, 0xff & ~LEN, 0xff & ~(LEN >> 8)};
    uint8_t header[WS_HEADER_MAX];
    struct drive v;
    memset(stored + 5, 'x', LEN);
    drive_init(&v, false, true, LEN);
    size_t len = ws_encode_header(header, WS_OP_BINARY, true, sizeof stored);
    drive_feed(&v, header, len);
    drive_feed(&v, stored, sizeof stored);
    CU_ASSERT(v.lines.len > LEN && memcmp(v.lines.data, "binary 4000 x", 13) == 0);
    drive_fini(&v);
}

/* Appends a frame for a client's decoder. */
static void append_frame(struct buf *script, bool is_first, bool is_last, struct slice payload)
{
    char header[WS_HEADER_MAX];
    size_t len = ws_encode_header((uint8_t *)header, is_first ? WS_OP_TEXT : WS_OP_CONTINUATION,
                                  is_first, payload.len);
    if (!is_last)
        header[0] &= 0x7f;
    buf_append(script, header, len);
    buf_append(script, payload.ptr, payload.len);
}

#define STORED_X "\x00\x01\x00\xfe\xffx" /* a block of its own for one byte */

/* `count` bytes, flushed one by one, in one frame or in one for each, with a ping before the last.
 * Too many fragments are refused before the ping. */
static void check_flushed(size_t count, bool in_fragments, const char *end, const char *want)
{
    struct buf script = {0}, packed = {0}, lines = {0};
    for (size_t i = 0; i < count; i++) {
        buf_append(&packed, STORED_X, 6);
        if (in_fragments)
            append_frame(&script, i == 0, false, slice_of(STORED_X, 6));
    }
    buf_append(&packed, end, 1);
    buf_append(&script, "\x89\x00", 2);
    append_frame(&script, !in_fragments, true,
                 in_fragments ? slice_of(end, 1) : buf_slice(&packed));
    buf_append(&script, "\x81\x01y", 3);
    buf_append_str(&lines, "ping 0 \n");
    buf_append_str(&lines, want);
    buf_append(&lines, "", 1);
    const struct script s = {script.data, script.len, true, true, 100};
    check_script(&s, in_fragments && count > 100 ? want : lines.data);
    buf_fini(&script);
    buf_fini(&packed);
    buf_fini(&lines);
}

/* The limit is one of content: whoever flushes behind each byte sends six times as much. */
static void test_flushes_do_not_count(void)
{
    char text[100 + 1], whole[sizeof text + 40];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    snprintf(whole, sizeof whole, "text 100 %s\ntext 1 y\n", text);
    for (int in_fragments = 0; in_fragments <= 1; in_fragments++) {
        check_flushed(100, in_fragments, "", whole);
        check_flushed(101, in_fragments, "", "error 1009\n");
        check_flushed(100, in_fragments, "\x07", "error 1007\n"); /* no type of block */
    }
}

/* Nor may a message go on for ever that comes to nothing. */
static void test_flushes_have_an_end(void)
{
    enum { LIMIT = 10, MOST = 16 * LIMIT + 1024, EMPTY = 5 };
    struct drive v;
    drive_init(&v, false, true, LIMIT);
    drive_feed(&v, "\x41\x7e\x04\xa0", 4); /* MOST */
    for (int i = 0; i < MOST; i += 5)
        drive_feed(&v, "\x00\x00\x00\xff\xff", MOST - i < EMPTY ? MOST - i : EMPTY);
    check_lines(&v, "", "empty blocks", 0);
    drive_feed(&v, "\x80\x01", 2);
    check_lines(&v, "error 1009\n", "one byte more", 0);
    drive_fini(&v);

    drive_init(&v, false, true, LIMIT);
    drive_feed(&v, "\x41\x7e\x04\xa1", 4);
    check_lines(&v, "error 1009\n", "announced", 0);
    drive_fini(&v);
}

static void test_announced_length_takes_no_memory(void)
{
    static const char header[] = "\x82\xff\0\0\0\0\x06\x40\0\0" M0; /* 100 MiB */
    uint8_t piece[1000] = {0};
    struct drive v;
    drive_init(&v, true, false, MESSAGE_BYTES);
    drive_feed(&v, header, sizeof header - 1);
    check_lines(&v, "error 1009\n", "announced", 0);
    CU_ASSERT_EQUAL(v.decoder.message.cap, 0);
    drive_fini(&v);

    /* Nor does it where such a message is allowed: memory follows what came. */
    drive_init(&v, true, false, (size_t)1 << 30);
    drive_feed(&v, header, sizeof header - 1);
    CU_ASSERT_EQUAL(v.lines.len, 0);
    CU_ASSERT_EQUAL(v.decoder.message.cap, 0);
    for (size_t i = 1; i <= 20; i++) {
        drive_feed(&v, piece, sizeof piece);
        CU_ASSERT(v.decoder.message.cap <= 2 * i * sizeof piece);
    }
    drive_fini(&v);
}

/* The limit may be lowered by a reload while a message is under way. */
static void test_limit_lowered_within_a_message(void)
{
    struct drive v;
    drive_init(&v, true, false, 100);
    drive_feed(&v, "\x01\x8a" M0 "0123456789", 16);
    v.config.message_bytes = 5;
    drive_feed(&v, "\x80\x81" M0 "x", 7);
    check_lines(&v, "error 1009\n", "lowered", 0);
    drive_fini(&v);

    drive_init(&v, false, true, 10);
    drive_feed(&v, "\x41\x7e\x00\x80", 4);
    for (int i = 0; i < 20; i++)
        drive_feed(&v, i < 10 ? STORED_X : "\x00\x00\x00\xff\xff\x00", i < 10 ? 6 : 5);
    v.config.message_bytes = 9;
    drive_feed(&v, "\x00", 1);
    check_lines(&v, "error 1009\n", "lowered while inflating", 0);
    drive_fini(&v);
}

/* --- what is kept ---------------------------------------------------------------------------- */

static void test_idle_between_messages(void)
{
    static const char script[] = "\x01\x81" M0 "a\x89\x81" M0 "p\x80\x81" M0 "b";
    struct drive v;
    drive_init(&v, true, false, MESSAGE_BYTES);
    CU_ASSERT(ws_decoder_is_idle(&v.decoder));
    for (size_t i = 0; i < sizeof script - 1; i++) {
        drive_feed(&v, script + i, 1);
        CU_ASSERT_EQUAL(ws_decoder_is_idle(&v.decoder), i == sizeof script - 2);
    }
    CU_ASSERT_PTR_NULL(v.decoder.message.data);
    drive_fini(&v);
}

static void test_whole_messages_are_borrowed(void)
{
    uint8_t script[] = "\x81\x83" M0 "abc\x89\x81" M0 "p";
    struct ws_decoder d = {0};
    struct ws_decoder_config config = {.is_server = true, .message_bytes = MESSAGE_BYTES};
    struct ws_message m;
    size_t used;
    CU_ASSERT_EQUAL_FATAL(ws_decoder_next(&d, &config, script, 16, &used, &m), WS_MESSAGE);
    CU_ASSERT_EQUAL(used, 9);
    CU_ASSERT_PTR_EQUAL(m.payload.ptr, script + 6);
    CU_ASSERT(ws_decoder_is_idle(&d));
    CU_ASSERT_EQUAL_FATAL(ws_decoder_next(&d, &config, script + 9, 7, &used, &m), WS_PING);
    CU_ASSERT_PTR_EQUAL(m.payload.ptr, script + 15);
    CU_ASSERT_EQUAL(ws_decoder_next(&d, &config, NULL, 0, &used, &m), WS_NEED_MORE);
    CU_ASSERT(ws_decoder_is_idle(&d));
    ws_decoder_fini(&d);
}

/* --- encoding and every length form ---------------------------------------------------------- */

static void test_encoding_the_examples(void)
{
    uint8_t header[WS_HEADER_MAX];
    struct buf out = {0};
    UNIT_ASSERT_BYTES(header, ws_encode_header(header, WS_OP_TEXT, false, 5), "\x81\x05");
    UNIT_ASSERT_BYTES(header, ws_encode_header(header, WS_OP_TEXT, true, 7), "\xc1\x07");
    UNIT_ASSERT_BYTES(header, ws_encode_header(header, WS_OP_BINARY, false, 256),
                      "\x82\x7e\x01\x00");
    UNIT_ASSERT_BYTES(header, ws_encode_header(header, WS_OP_BINARY, false, 65536),
                      "\x82\x7f\0\0\0\0\0\x01\0\0");
    ws_encode_masked(&out, WS_OP_TEXT, true, slice_str("Hello"), 0x37fa213d);
    UNIT_ASSERT_BYTES(out.data, out.len, "\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
    buf_clear(&out);
    ws_encode_masked(&out, WS_OP_PONG, true, slice_str("Hello"), 0x37fa213d);
    UNIT_ASSERT_BYTES(out.data, out.len, "\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
    buf_clear(&out);
    ws_encode_masked(&out, WS_OP_TEXT, false, (struct slice){0}, 1);
    UNIT_ASSERT_BYTES(out.data, out.len, "\x01\x80\0\0\0\x01");
    buf_fini(&out);
}

static void check_masked_round_trip(const struct buf *sent, struct slice payload, size_t cut)
{
    struct drive v;
    char start[32];
    int start_len = snprintf(start, sizeof start, "binary %zu ", payload.len);
    drive_init(&v, true, false, 100000);
    drive_feed(&v, sent->data, cut);
    drive_feed(&v, sent->data + cut, sent->len - cut);
    CU_ASSERT_EQUAL_FATAL(v.lines.len, (size_t)start_len + payload.len + 1);
    CU_ASSERT(memcmp(v.lines.data, start, (size_t)start_len) == 0);
    CU_ASSERT(memcmp(v.lines.data + start_len, payload.ptr, payload.len) == 0);
    drive_fini(&v);
}

static void test_every_length_form(void)
{
    static const size_t lengths[] = {0, 1, 125, 126, 127, 65535, 65536, 65537};
    static char payload[65537];
    struct rng r;
    rng_init_seed(&r, 1);
    for (size_t i = 0; i < sizeof payload; i++)
        payload[i] = (char)rng_next(&r);
    for (size_t n = 0; n < sizeof lengths / sizeof lengths[0]; n++) {
        struct slice text = slice_of(payload, lengths[n]);
        struct buf sent = {0};
        ws_encode_masked(&sent, WS_OP_BINARY, true, text, (uint32_t)rng_next(&r));
        /* At every place for short ones; around the header and the end for long ones. */
        for (size_t cut = 0; cut <= sent.len; cut++) {
            if (cut > 160 && cut + 20 < sent.len)
                cut = sent.len - 20;
            check_masked_round_trip(&sent, text, cut);
        }
        buf_fini(&sent);
    }
}

/* Unmasking by eights: every phase of the mask at every length, against one byte at a time. */
static void test_unmasking_at_every_phase(void)
{
    char payload[40];
    for (size_t i = 0; i < sizeof payload; i++)
        payload[i] = (char)(i * 7);
    for (size_t len = 0; len <= sizeof payload; len++) {
        struct buf sent = {0};
        ws_encode_masked(&sent, WS_OP_BINARY, true, slice_of(payload, len), 0xa1b2c3d4);
        for (size_t i = 0; i < len; i++) {
            uint8_t key = (uint8_t)(0xa1b2c3d4u >> 8 * (3 - i % 4));
            CU_ASSERT_EQUAL((uint8_t)sent.data[6 + i], (uint8_t)payload[i] ^ key);
        }
        for (size_t cut = 0; cut <= sent.len; cut++)
            check_masked_round_trip(&sent, slice_of(payload, len), cut);
        buf_fini(&sent);
    }
}

static const struct unit_test tests[] = {
    {"examples of RFC 6455", test_examples_of_rfc_6455},
    {"examples of RFC 7692", test_examples_of_rfc_7692},
    {"empty payloads", test_empty_payloads},
    {"control frames within a message", test_control_frames_within_a_message},
    {"messages in a row", test_messages_in_a_row},
    {"reserved bits", test_reserved_bits},
    {"reserved opcodes", test_reserved_opcodes},
    {"masking rules", test_masking_rules},
    {"control frames are short and whole", test_control_frames_are_short_and_whole},
    {"lengths in their shortest form", test_lengths_in_their_shortest_form},
    {"order of fragments", test_order_of_fragments},
    {"close payloads", test_close_payloads},
    {"close codes", test_close_codes},
    {"UTF-8", test_utf8},
    {"bad text fails at its first bad byte", test_bad_text_fails_at_its_first_bad_byte},
    {"headers fail at two bytes", test_headers_fail_at_two_bytes},
    {"corrupt compression", test_corrupt_compression},
    {"message limit", test_message_limit},
    {"compressed message may be larger than its content",
     test_compressed_message_may_be_larger_than_its_content},
    {"flushes do not count", test_flushes_do_not_count},
    {"flushes have an end", test_flushes_have_an_end},
    {"announced length takes no memory", test_announced_length_takes_no_memory},
    {"limit lowered within a message", test_limit_lowered_within_a_message},
    {"idle between messages", test_idle_between_messages},
    {"whole messages are borrowed", test_whole_messages_are_borrowed},
    {"encoding the examples", test_encoding_the_examples},
    {"every length form", test_every_length_form},
    {"unmasking at every phase", test_unmasking_at_every_phase},
    {NULL, NULL},
};
const struct unit_suite suite_ws_codec = {"ws_codec", tests};
