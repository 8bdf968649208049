/*
 * fuzz_redis_stream.c - any bytes from a Redis, cut in two ways, on both kinds of link.
 *
 * The first byte of the input chooses the kind, the payload bound and the cut; the rest is the
 * stream. Fed whole and fed in pieces it must give the same, value by value and byte by byte.
 */
#include "base/buf.h"
#include "runtime/redis_link_parse.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void note(struct buf *out, char kind, struct slice a, struct slice b)
{
    buf_append(out, &kind, 1);
    buf_append_u64(out, a.len);
    buf_append(out, a.ptr, a.len);
    buf_append_u64(out, b.len);
    buf_append(out, b.ptr, b.len);
}

static void on_message(void *arg, struct slice channel, struct slice payload)
{
    note(arg, 'm', channel, payload);
}

static void on_oversize(void *arg, struct slice channel, uint64_t bytes)
{
    note(arg, 'o', channel, slice_str(""));
    buf_append_u64(arg, bytes);
}

static void on_subscribed(void *arg, struct slice channel)
{
    note(arg, 's', channel, slice_str(""));
}

static void on_unsubscribed(void *arg, struct slice channel)
{
    note(arg, 'u', channel, slice_str(""));
}

static void on_reply(void *arg, const struct redis_reply_view *reply)
{
    struct buf *out = arg;
    const char kind = (char)('0' + (int)reply->kind);
    buf_append(out, &kind, 1);
    if (reply->kind == REDIS_REPLIED_TEXT || reply->kind == REDIS_REPLIED_ERROR)
        note(out, 't', reply->text, slice_str(""));
    buf_append_u64(out, (uint64_t)reply->number);
    for (long long i = 0; reply->kind == REDIS_REPLIED_ARRAY && i < reply->number; i++)
        on_reply(arg, &reply->elements[i]);
}

static const struct redis_parse_ops ops = {
    .on_message = on_message,
    .on_oversize = on_oversize,
    .on_subscribed = on_subscribed,
    .on_unsubscribed = on_unsubscribed,
    .on_reply = on_reply,
};

static void run(uint8_t choice, const char *bytes, size_t len, size_t piece, struct buf *out)
{
    const char *why = "";
    buf_reserve(out, 1);
    struct redis_parse *p =
        redis_parse_new((choice & 1) != 0, (choice & 2) != 0 ? 16 : 70000, &ops, out);
    for (size_t at = 0; at < len; at += piece) {
        if (!redis_parse_feed(p, bytes + at, len - at < piece ? len - at : piece, &why))
            break;
    }
    redis_parse_free(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    struct buf whole = {0};
    struct buf pieces = {0};
    run(data[0], (const char *)data + 1, size - 1, size, &whole);
    run(data[0], (const char *)data + 1, size - 1, (size_t)(data[0] >> 2) + 1, &pieces);
    if (!slice_equal(buf_slice(&whole), buf_slice(&pieces)))
        abort();
    buf_fini(&whole);
    buf_fini(&pieces);
    return 0;
}
