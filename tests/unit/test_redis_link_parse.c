/*
 * test_redis_link_parse.c - Redis streams fed whole, byte by byte and cut at every boundary.
 *
 * What the parser hands out is written down as text and compared, so that one table row is a test.
 */
#include "unit.h"

#include "base/buf.h"
#include "runtime/redis_link_parse.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MESSAGE(channel_len, channel, len, payload) \
    "*3\r\n$7\r\nmessage\r\n$" #channel_len "\r\n" channel "\r\n$" #len "\r\n" payload "\r\n"

enum { PAYLOAD_BYTES = 20 };

/* What was handed out, and when to stop the parser. */
struct record {
    struct buf text;
    struct redis_parse *parse;
    int calls;
    int stop_at; /* stop inside this call, counted from 1; 0: never */
};

static void count_call(struct record *r)
{
    if (++r->calls == r->stop_at)
        redis_parse_stop(r->parse);
}

static void note(struct record *r, const char *what, struct slice a, const char *sep,
                 struct slice b)
{
    buf_printf(&r->text, "%s %.*s%s%.*s;", what, (int)a.len, a.ptr, sep, (int)b.len, b.ptr);
    count_call(r);
}

static void on_message(void *arg, struct slice channel, struct slice payload)
{
    note(arg, "msg", channel, "=", payload);
}

static void on_oversize(void *arg, struct slice channel, uint64_t bytes)
{
    char digits[24];
    snprintf(digits, sizeof digits, "%llu", (unsigned long long)bytes);
    note(arg, "big", channel, "=", slice_str(digits));
}

static void on_subscribed(void *arg, struct slice channel)
{
    note(arg, "sub", channel, "", slice_str(""));
}

static void on_unsubscribed(void *arg, struct slice channel)
{
    note(arg, "unsub", channel, "", slice_str(""));
}

static void write_reply(struct buf *out, const struct redis_reply_view *v)
{
    switch (v->kind) {
    case REDIS_REPLIED_TEXT: buf_printf(out, "\"%.*s\"", (int)v->text.len, v->text.ptr); break;
    case REDIS_REPLIED_ERROR: buf_printf(out, "!%.*s", (int)v->text.len, v->text.ptr); break;
    case REDIS_REPLIED_INT: buf_printf(out, "%lld", v->number); break;
    case REDIS_REPLIED_NIL: buf_append_str(out, "nil"); break;
    case REDIS_REPLIED_LOST: buf_append_str(out, "lost"); break;
    case REDIS_REPLIED_ARRAY:
        buf_append_str(out, "[");
        for (long long i = 0; i < v->number; i++) {
            buf_append_str(out, i > 0 ? "," : "");
            write_reply(out, &v->elements[i]);
        }
        buf_append_str(out, "]");
        break;
    }
}

static void on_reply(void *arg, const struct redis_reply_view *reply)
{
    struct record *r = arg;
    write_reply(&r->text, reply);
    buf_append_str(&r->text, ";");
    count_call(r);
}

static const struct redis_parse_ops record_ops = {
    .on_message = on_message,
    .on_oversize = on_oversize,
    .on_subscribed = on_subscribed,
    .on_unsubscribed = on_unsubscribed,
    .on_reply = on_reply,
};

static void record_open(struct record *r, bool is_subscriber, size_t payload_bytes)
{
    *r = (struct record){0};
    buf_reserve(&r->text, 1); /* so that even an empty record has a pointer */
    r->parse = redis_parse_new(is_subscriber, payload_bytes, &record_ops, r);
}

static void record_close(struct record *r)
{
    redis_parse_free(r->parse);
    buf_fini(&r->text);
}

/* Feeds bytes in pieces; a failure is written down as "#reason". */
static void feed(struct record *r, const char *bytes, size_t len, size_t piece)
{
    const char *why = NULL;
    while (len > 0) {
        size_t n = len < piece ? len : piece;
        /* A copy of the exact size lets the sanitizers see a read past the end. */
        char *copy = malloc(n);
        memcpy(copy, bytes, n);
        bool is_sound = redis_parse_feed(r->parse, copy, n, &why);
        free(copy);
        if (!is_sound) {
            buf_printf(&r->text, "#%s", why);
            return;
        }
        bytes += n;
        len -= n;
    }
}

static bool is_recorded(const struct record *r, const char *expected)
{
    if (slice_is(buf_slice(&r->text), expected))
        return true;
    fprintf(stderr, "\n  expected: %s\n  got:      %.*s\n", expected, (int)r->text.len,
            r->text.data);
    return false;
}

static void check_pieces(bool is_subscriber, const char *bytes, size_t len, size_t first,
                         size_t piece, const char *expected)
{
    struct record r;
    record_open(&r, is_subscriber, PAYLOAD_BYTES);
    feed(&r, bytes, first, first);
    if (memchr(r.text.data, '#', r.text.len) == NULL)
        feed(&r, bytes + first, len - first, piece);
    CU_ASSERT(is_recorded(&r, expected));
    record_close(&r);
}

static void check(bool is_subscriber, const char *text, const char *expected)
{
    size_t len = strlen(text);
    check_pieces(is_subscriber, text, len, len, len, expected);
    check_pieces(is_subscriber, text, len, 1, 1, expected);
    for (size_t cut = 1; cut < len; cut++)
        check_pieces(is_subscriber, text, len, cut, len, expected);
}

struct row {
    const char *stream;
    const char *expected;
};

static const struct row subscriber_rows[] = {
    {MESSAGE(1, "a", 5, "hello"), "msg a=hello;"},
    {MESSAGE(1, "a", 0, "") MESSAGE(2, "bc", 4, "\r\n\r\n"), "msg a=;msg bc=\r\n\r\n;"},
    {"*4\r\n$8\r\npmessage\r\n$2\r\na*\r\n$2\r\nab\r\n$2\r\nhi\r\n", "msg ab=hi;"},
    {"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:0\r\n",
     "sub a;unsub a;"},
    {"*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n", ""},
    {"*3\r\n$10\r\npsubscribe\r\n$2\r\na*\r\n:1\r\n", "sub a*;"},
    {"+OK\r\n-NOPERM no\r\n:7\r\n$-1\r\n$3\r\nabc\r\n", "\"OK\";!NOPERM no;7;nil;\"abc\";"},
    {"*2\r\n$4\r\npong\r\n$0\r\n\r\n" MESSAGE(1, "a", 1, "x"), "msg a=x;"},
    {"*0\r\n*-1\r\n+x\r\n", "nil;\"x\";"},
    /* A kind with the wrong number of elements, or of the wrong type, is nothing of ours. */
    {"*4\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n+x\r\n", "\"x\";"},
    {"*3\r\n$8\r\npmessage\r\n$1\r\na\r\n$1\r\nb\r\n+x\r\n", "\"x\";"},
    {"*3\r\n:1\r\n$1\r\na\r\n$1\r\nb\r\n+x\r\n", "\"x\";"},
    {"*3\r\n$7\r\nmessage\r\n:1\r\n$1\r\nb\r\n+x\r\n", "\"x\";"},
    {"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n*1\r\n$3\r\nabc\r\n+x\r\n", "\"x\";"},
    {"*3\r\n$7\r\nmessage\r\n*1\r\n$1\r\na\r\n$1\r\nb\r\n+x\r\n", "\"x\";"},
    {"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$-1\r\n+x\r\n", "\"x\";"},
    {"*3\r\n$7\r\nmessage\r\n*1\r\n$30\r\n123456789012345678901234567890\r\n$1\r\nb\r\n+x\r\n",
     "\"x\";"},
    /* What an array told must not be left to the next one. */
    {"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n:1\r\n*3\r\n$1\r\nz\r\n$1\r\nb\r\n$1\r\nc\r\n", ""},
    /* 20 bytes are kept, 21 skipped; what looks like a reply inside a payload is payload. */
    {MESSAGE(1, "a", 20, "12345678901234567890"), "msg a=12345678901234567890;"},
    {MESSAGE(1, "a", 21, "123456789012345678901") "+x\r\n", "big a=21;\"x\";"},
    {MESSAGE(1, "a", 27, "+no\r\n$5\r\n$-1\r\n\r\n*3\r\n$7\r\nmes") MESSAGE(1, "b", 1, "y"),
     "big a=27;msg b=y;"},
    {"*4\r\n$8\r\npmessage\r\n$2\r\na*\r\n$2\r\nab\r\n$25\r\n1234567890123456789012345\r\n+x\r\n",
     "big ab=25;\"x\";"},
    /* The bound is of payloads alone. */
    {"*3\r\n$9\r\nsubscribe\r\n$25\r\n1234567890123456789012345\r\n:1\r\n",
     "sub 1234567890123456789012345;"},
    {"?\r\n", "#Protocol error, got \"?\" as reply type byte"},
    {"$65537\r\n", "#protocol error: a name is too long"},
    {"*3\r\n$7\r\nmessage\r\n$65537\r\n", "#protocol error: a name is too long"},
    {"*3\r\n$65537\r\n", "#protocol error: a name is too long"},
    {"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$4294967297\r\n", "#protocol error: a bulk is too long"},
    {"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n*1\r\n$65537\r\n", "#protocol error: a name is too long"},
};

static const struct row command_rows[] = {
    {"+OK\r\n-ERR no\r\n:-42\r\n$-1\r\n*-1\r\n", "\"OK\";!ERR no;-42;nil;nil;"},
    {"*0\r\n$0\r\n\r\n", "[];\"\";"},
    {"*3\r\n$1\r\na\r\n*2\r\n:1\r\n$-1\r\n-ERR x\r\n+y\r\n", "[\"a\",[1,nil],!ERR x];\"y\";"},
    {"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n", "[[[[[[[1]]]]]]];"},
    {"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n", "[\"message\",\"a\",\"b\"];"},
    {"$20\r\n12345678901234567890\r\n", "\"12345678901234567890\";"},
    {":1\r\n$21\r\n123456789012345678901\r\n", "1;#reply too large"},
    {"*2\r\n:1\r\n$21\r\n123456789012345678901\r\n", "#reply too large"},
    {"+a status line may be longer\r\n", "\"a status line may be longer\";"},
    {"*1000001\r\n", "#reply too large"},
    {":1x\r\n", "#Bad integer value"},
};

static void check_rows(bool is_subscriber, const struct row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++)
        check(is_subscriber, rows[i].stream, rows[i].expected);
}

static void subscriber_streams(void)
{
    check_rows(true, subscriber_rows, sizeof subscriber_rows / sizeof *subscriber_rows);
}

static void command_streams(void)
{
    check_rows(false, command_rows, sizeof command_rows / sizeof *command_rows);
}

/* hiredis 0.14 says so itself, later ones would go on for ever. */
static void nesting_is_bounded(void)
{
    for (int is_subscriber = 0; is_subscriber < 2; is_subscriber++) {
        struct record r;
        record_open(&r, is_subscriber != 0, PAYLOAD_BYTES);
        for (int i = 0; i < 9; i++)
            feed(&r, "*1\r\n", 4, 4);
        CU_ASSERT(r.text.len > 0 && r.text.data[0] == '#');
        record_close(&r);
    }
}

/* Two arrays of legal size, one in the other, must not add up to more than one may have. */
static void elements_are_bounded_in_all(void)
{
    static const char text[] = "*600000\r\n*600000\r\n";
    struct record r;
    record_open(&r, false, PAYLOAD_BYTES);
    feed(&r, text, strlen(text), strlen(text));
    CU_ASSERT(is_recorded(&r, "#reply too large"));
    record_close(&r);
}

static void endless_line_is_refused(void)
{
    static const char *const starts[] = {"+", "-", ":", "$", "*", "*3\r\n$"};
    char junk[1000];
    memset(junk, '1', sizeof junk);
    for (int i = 0; i < 12; i++) {
        struct record r;
        record_open(&r, i % 2 == 0, PAYLOAD_BYTES);
        feed(&r, starts[i / 2], strlen(starts[i / 2]), 10);
        int fed = 0;
        for (; fed < 200 && r.text.len == 0; fed++)
            feed(&r, junk, sizeof junk, sizeof junk);
        CU_ASSERT(fed < 70);
        CU_ASSERT(is_recorded(&r, "#protocol error: a line is too long"));
        record_close(&r);
    }
}

static void append_message(struct buf *out, const char *channel, size_t len, char fill)
{
    buf_printf(out, "*3\r\n$7\r\nmessage\r\n$%zu\r\n%s\r\n$%zu\r\n", strlen(channel), channel, len);
    memset(buf_reserve(out, len), fill, len);
    out->len += len;
    buf_append_str(out, "\r\n");
}

/* Pieces that end anywhere against the reader's compaction, which comes with every KiB consumed. */
static void compaction_loses_nothing(void)
{
    struct buf stream = {0};
    struct buf expected = {0};
    char channel[16];
    for (int i = 0; i < 300; i++) {
        size_t len = (size_t)(i * 37) % 1500;
        snprintf(channel, sizeof channel, "c%d", i);
        append_message(&stream, channel, len, (char)('a' + i % 26));
        buf_printf(&expected, "msg %s=", channel);
        memset(buf_reserve(&expected, len), 'a' + i % 26, len);
        expected.len += len;
        buf_append_str(&expected, ";");
    }
    buf_append(&expected, "", 1);
    static const size_t pieces[] = {1, 7, 1000, 1023, 1024, 1025, 16384, 65536, 1u << 20};
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        struct record r;
        record_open(&r, true, 4096);
        feed(&r, stream.data, stream.len, pieces[i]);
        CU_ASSERT(slice_is(buf_slice(&r.text), expected.data));
        record_close(&r);
    }
    buf_fini(&stream);
    buf_fini(&expected);
}

/* Skipped without being stored, whatever its size, and exactly to its end. */
static void large_payload_is_skipped(void)
{
    static const size_t pieces[] = {1000, 16384, 100000};
    struct buf stream = {0};
    append_message(&stream, "big", 3u << 20, '\n');
    append_message(&stream, "next", 3, 'x');
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        struct record r;
        record_open(&r, true, 100 * 1024);
        feed(&r, stream.data, stream.len, pieces[i]);
        CU_ASSERT(is_recorded(&r, "big big=3145728;msg next=xxx;"));
        record_close(&r);
    }
    buf_fini(&stream);
}

static void long_channel_is_dropped(void)
{
    char channel[600];
    for (size_t len = 511; len <= 514; len++) {
        struct buf stream = {0};
        memset(channel, 'c', len);
        channel[len] = '\0';
        append_message(&stream, channel, 2, 'x');
        append_message(&stream, channel, 100, 'x');
        append_message(&stream, "b", 1, 'y');
        struct record r;
        record_open(&r, true, PAYLOAD_BYTES);
        feed(&r, stream.data, stream.len, 64);
        CU_ASSERT_EQUAL(r.calls, len <= 512 ? 3 : 1);
        CU_ASSERT(r.text.len >= 8 && memcmp(r.text.data + r.text.len - 8, "msg b=y;", 8) == 0);
        record_close(&r);
        buf_fini(&stream);
    }
}

static void append_filled(struct buf *out, size_t len, char filler)
{
    buf_printf(out, "$%zu\r\n", len);
    for (size_t i = 0; i < len; i++)
        buf_append(out, &filler, 1);
    buf_append_str(out, "\r\n");
}

/* Patterns bring whatever somebody publishes: the link lives on, and counts it. */
static void long_channel_of_a_pattern_is_skipped(void)
{
    static const size_t payloads[] = {0, 2, 100, 70000}, pieces[] = {1, 64, 200000};
    for (size_t i = 0; i < 12; i++) {
        struct buf stream = {0};
        buf_append_str(&stream, "*4\r\n$8\r\npmessage\r\n$1\r\n*\r\n");
        append_filled(&stream, 65537, 'c');
        append_filled(&stream, payloads[i % 4], 'x');
        append_message(&stream, "b", 1, 'y');
        struct record r;
        record_open(&r, true, PAYLOAD_BYTES);
        feed(&r, stream.data, stream.len, pieces[i / 4]);
        CU_ASSERT(is_recorded(&r, "big =65537;msg b=y;"));
        record_close(&r);
        buf_fini(&stream);
    }
}

/* A reply of many blocks of memory, then small ones again. */
static void tree_of_many_blocks(void)
{
    struct buf stream = {0};
    struct buf expected = {0};
    buf_append_str(&stream, "*3000\r\n");
    buf_append_str(&expected, "[");
    for (int i = 0; i < 3000; i++) {
        buf_printf(&stream, "*2\r\n$4\r\n%04d\r\n$1200\r\n%1200d\r\n", i, i);
        buf_printf(&expected, "%s[\"%04d\",\"%1200d\"]", i > 0 ? "," : "", i, i);
    }
    buf_append_str(&stream, "+OK\r\n*1\r\n:5\r\n");
    buf_append_str(&expected, "];\"OK\";[5];");
    buf_append(&expected, "", 1);
    struct record r;
    record_open(&r, false, 4096);
    feed(&r, stream.data, stream.len, 5000);
    CU_ASSERT(slice_is(buf_slice(&r.text), expected.data));
    record_close(&r);
    buf_fini(&stream);
    buf_fini(&expected);
}

static void stop_ends_the_feed(void)
{
    static const char subscriber[] = MESSAGE(1, "a", 1, "x") "+y\r\n" MESSAGE(
        1, "b", 30,
        "123456789012345678901234567890") "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n:1";
    static const char commands[] = "+a\r\n*1\r\n:1\r\n:2\r\n";
    for (int at = 1; at <= 4; at++) {
        struct record r;
        record_open(&r, true, PAYLOAD_BYTES);
        r.stop_at = at;
        feed(&r, subscriber, strlen(subscriber), 1000);
        CU_ASSERT_EQUAL(r.calls, at);
        CU_ASSERT(r.text.len > 8 && memcmp(r.text.data + r.text.len - 8, "#stopped", 8) == 0);
        redis_parse_reset(r.parse);
        feed(&r, "+z\r\n", 4, 4);
        CU_ASSERT_EQUAL(r.calls, at + 1);
        record_close(&r);
    }
    for (int at = 1; at <= 3; at++) {
        struct record r;
        record_open(&r, false, PAYLOAD_BYTES);
        r.stop_at = at;
        feed(&r, commands, strlen(commands), 1000);
        CU_ASSERT_EQUAL(r.calls, at);
        CU_ASSERT(r.text.len > 8 && memcmp(r.text.data + r.text.len - 8, "#stopped", 8) == 0);
        record_close(&r);
    }
}

/* Half a reply, and half a skipped payload, must not leak into the next connection. */
static void reset_forgets(void)
{
    static const char *const halves[] = {
        "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$5\r\nhe",
        "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$500\r\nhe",
        "*3\r\n$7\r\nmess",
    };
    for (size_t i = 0; i < sizeof halves / sizeof *halves; i++) {
        struct record r;
        record_open(&r, true, PAYLOAD_BYTES);
        feed(&r, halves[i], strlen(halves[i]), 1000);
        redis_parse_reset(r.parse);
        buf_clear(&r.text);
        feed(&r, MESSAGE(1, "b", 1, "y"), strlen(MESSAGE(1, "b", 1, "y")), 1000);
        CU_ASSERT(is_recorded(&r, "msg b=y;"));
        record_close(&r);
    }
}

static void broken_stays_broken(void)
{
    struct record r;
    record_open(&r, true, PAYLOAD_BYTES);
    feed(&r, "$65537\r\n", 8, 8);
    buf_clear(&r.text);
    feed(&r, "+OK\r\n", 5, 5);
    CU_ASSERT(is_recorded(&r, "#protocol error: a name is too long"));
    record_close(&r);
}

static const struct unit_test tests[] = {
    {"subscriber streams", subscriber_streams},
    {"command streams", command_streams},
    {"nesting is bounded", nesting_is_bounded},
    {"elements are bounded in all", elements_are_bounded_in_all},
    {"an endless line is refused", endless_line_is_refused},
    {"compaction loses nothing", compaction_loses_nothing},
    {"a large payload is skipped", large_payload_is_skipped},
    {"a long channel is dropped", long_channel_is_dropped},
    {"a long channel of a pattern is skipped", long_channel_of_a_pattern_is_skipped},
    {"a tree of many blocks", tree_of_many_blocks},
    {"stop ends the feed", stop_ends_the_feed},
    {"reset forgets", reset_forgets},
    {"broken stays broken", broken_stays_broken},
    {NULL, NULL},
};

const struct unit_suite suite_redis_link_parse = {"redis_link_parse", tests};
