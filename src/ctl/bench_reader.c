/*
 * bench_reader.c - walks what a client has received, as cheaply as can be.
 *
 * The reader shares a core with Redis and the publisher while the node has one for itself, and has
 * to keep up with it, so a message costs about ten nanoseconds: a raw frame is recognised by its
 * first four bytes, and its number stands at a fixed place. Everything else takes the slower way:
 * the frame header is parsed, and a push is searched for the mark that starts each payload.
 *
 * Checked for each client and channel: the number follows the one before it.
 */
#include "base/clock.h"
#include "base/mem.h"
#include "ctl/bench_payload.h"
#include "ctl/bench_run.h"

#include <sys/socket.h>

/* No push is longer; a frame that says so is not from a working node. */
#define FRAME_MAX_BYTES (64u << 20)

enum { OP_CONTINUATION = 0, OP_TEXT = 1, OP_CLOSE = 8, OP_PING = 9, OP_PONG = 10 };

struct head {
    unsigned opcode;
    bool compressed;
    size_t len;    /* of the header */
    uint64_t size; /* of the payload */
};

/* ---- items --------------------------------------------------------------------------------- */

static void check_item(struct bench *b, size_t index, const char *payload)
{
    uint32_t number = (uint32_t)payload_number(payload);
    if (number == 0 || !b->counting)
        return;
    uint32_t channel = payload_channel(payload);
    struct bench_slot *slot = bench_slot_of(b, index, channel);
    if (slot == NULL) {
        b->foreign++;
        return;
    }
    b->deliveries++;
    if (number > slot->number) {
        b->lost += number - slot->number - 1;
        b->passed[index] += number - slot->number;
        slot->number = number;
    } else {
        b->out_of_order++;
    }
    /* Channels take turns at being timed, so that few numbers on many channels give enough. */
    if ((number + channel) % (uint32_t)b->options.sample == 0) {
        if (b->read_ns == 0) /* once for all items of one read */
            b->read_ns = clock_mono_ns();
        uint64_t place = (uint64_t)(number - 1) * (uint64_t)b->options.of + channel;
        bench_latency_add(b, index, place, payload_time_ns(payload));
    }
}

/* Every payload in a push, or the one payload of a raw message. */
static void check_message(struct bench *b, size_t index, const char *ptr, size_t len)
{
    size_t size = (size_t)b->options.size;
    if (b->tape != NULL) {
        bench_tape_count(b, index, slice_of(ptr, len));
        return;
    }
    while (len >= size) {
        const char *mark = memmem(ptr, len, PAYLOAD_MARK, PAYLOAD_MARK_BYTES);
        if (mark == NULL || (size_t)(ptr + len - mark) < size)
            return;
        check_item(b, index, mark);
        len -= (size_t)(mark + size - ptr);
        ptr = mark + size;
    }
}

static void check_compressed(struct bench *b, size_t index, const char *ptr, size_t len)
{
    if (ws_inflater_run(b->inflater, ptr, len, FRAME_MAX_BYTES, &b->inflated) != WS_INFLATE_OK) {
        b->out_of_order++;
        return;
    }
    check_message(b, index, b->inflated.data, b->inflated.len);
}

/* ---- frames -------------------------------------------------------------------------------- */

/* False when more bytes are needed. */
static bool parse_head(const unsigned char *p, size_t len, struct head *h)
{
    if (len < 2)
        return false;
    unsigned short_len = p[1] & 0x7f;
    h->opcode = p[0] & 0x0f;
    h->compressed = (p[0] & 0x40) != 0;
    h->len = short_len == 127 ? 10 : short_len == 126 ? 4 : 2;
    if (len < h->len)
        return false;
    h->size = short_len;
    if (h->len > 2) {
        h->size = 0;
        for (size_t i = 2; i < h->len; i++)
            h->size = h->size << 8 | p[i];
    }
    return true;
}

/* A pong, masked with zeroes: legal, and the payload can stay as it is. */
static void answer_ping(struct bench_client *c, const char *ptr, size_t len)
{
    char pong[6 + 125] = {(char)0x8a, (char)(0x80 | len)};
    memcpy(pong + 6, ptr, len);
    /* A lost pong shows as a closed connection, which is counted. */
    ssize_t sent = send(c->fd, pong, 6 + len, MSG_NOSIGNAL);
    (void)sent;
}

static bool take_text(struct bench *b, struct bench_client *c, const struct head *h,
                      const char *payload)
{
    size_t index = (size_t)(c - b->clients);
    c->frames++;
    if (b->options.socketio) {
        enum bench_socketio kind = bench_socketio_take(b, c, slice_of(payload, (size_t)h->size));
        if (kind != BENCH_SOCKETIO_EVENT)
            return kind == BENCH_SOCKETIO_DONE;
    }
    if (b->counting) {
        b->frames++;
        if (!c->inspected)
            b->passed[index]++;
        else if (h->compressed)
            check_compressed(b, index, payload, (size_t)h->size);
        else
            check_message(b, index, payload, (size_t)h->size);
        return true;
    }
    /* The ack is short, but may be the first thing ever compressed: any second text message after
     * the hello will do for a sign that the node has worked through the subscribe. */
    if (!c->subscribed && c->frames == 2)
        bench_client_subscribed(b, c);
    return true;
}

static bool take_frame(struct bench *b, struct bench_client *c, const struct head *h,
                       const char *payload)
{
    switch (h->opcode) {
    case OP_CONTINUATION:
    case OP_TEXT: return take_text(b, c, h, payload);
    case OP_PONG: return true;
    case OP_PING:
        if (h->size > 125)
            return false;
        answer_ping(c, payload, (size_t)h->size);
        b->pings++;
        return true;
    case OP_CLOSE:
        if (h->size >= 2)
            c->close_code = (uint16_t)((unsigned char)payload[0] << 8 | (unsigned char)payload[1]);
        return false;
    default: return false;
    }
}

/* The run of raw frames of the expected size at the front; returns its bytes. */
static size_t walk_raw(struct bench *b, size_t index, const char *ptr, size_t len)
{
    size_t stride = (size_t)b->options.size + 4;
    size_t at = 0;
    for (; at + stride <= len; at += stride) {
        uint32_t head;
        memcpy(&head, ptr + at, sizeof head);
        if (head != b->frame_head)
            break;
        check_item(b, index, ptr + at + 4);
    }
    b->frames += at / stride;
    return at;
}

bool bench_reader_walk(struct bench *b, struct bench_client *c, const char *ptr, size_t len,
                       size_t *used)
{
    size_t at = 0;
    bool is_plain_raw = b->frame_head != 0 && b->counting && c->inspected;
    for (;;) {
        if (is_plain_raw)
            at += walk_raw(b, (size_t)(c - b->clients), ptr + at, len - at);
        struct head head;
        *used = at;
        if (!parse_head((const unsigned char *)ptr + at, len - at, &head))
            return true;
        if (head.size > FRAME_MAX_BYTES)
            return false;
        if (len - at < head.len + head.size)
            return true;
        if (!take_frame(b, c, &head, ptr + at + head.len))
            return false;
        at += head.len + (size_t)head.size;
    }
}
