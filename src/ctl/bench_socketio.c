/*
 * bench_socketio.c - the benchmark's clients as those of Socket.IO (protocol 5, Engine.IO 4).
 *
 * Over a WebSocket without polling before it, every text message starts with digits that say what
 * it is. After the server's `0{...}` the client opens the namespace with `40`; to the answer to
 * that it sends the event `subscribe` with its channels and asks for an ack; then it is subscribed.
 * `2` is a ping and wants `3`. Events, `42[...]`, are what is counted, and are left to the reader.
 */
#include "ctl/bench_run.h"

#include <string.h>
#include <sys/socket.h>

#define HEAD_MAX_BYTES 8 /* of a masked frame below 64 KiB */

/* A text frame, masked with zeroes: legal, and the payload can stay as it is. */
static bool send_text(const struct bench_client *c, const struct buf *text)
{
    unsigned char head[HEAD_MAX_BYTES] = {0x81};
    size_t head_len = 6;
    if (text->len < 126) {
        head[1] = (unsigned char)(0x80 | text->len);
    } else {
        head_len = HEAD_MAX_BYTES;
        head[1] = 0x80 | 126;
        head[2] = (unsigned char)(text->len >> 8);
        head[3] = (unsigned char)text->len;
    }
    struct buf frame = {0};
    buf_append(&frame, head, head_len);
    buf_append(&frame, text->data, text->len);
    bool is_whole = send(c->fd, frame.data, frame.len, MSG_NOSIGNAL) == (ssize_t)frame.len;
    buf_fini(&frame);
    return is_whole;
}

static bool send_word(const struct bench_client *c, const char *word)
{
    struct buf text = {0};
    buf_append_str(&text, word);
    bool is_sent = send_text(c, &text);
    buf_fini(&text);
    return is_sent;
}

static bool send_subscribe(const struct bench *b, const struct bench_client *c)
{
    const struct bench_slot *slots = b->slots + (size_t)(c - b->clients) * b->slot_count;
    struct buf text = {0};
    buf_append_str(&text, "420[\"subscribe\",[");
    const char *between = "";
    for (uint32_t i = 0; i < b->slot_count; i++) {
        if (slots[i].channel == 0)
            continue;
        char name[BENCH_NAME_BYTES];
        bench_channel_name(b, slots[i].channel - 1, name);
        buf_printf(&text, "%s\"%s\"", between, name);
        between = ",";
    }
    buf_append_str(&text, "]]");
    bool is_sent = send_text(c, &text);
    buf_fini(&text);
    return is_sent;
}

static bool starts_with(struct slice text, const char *start)
{
    return text.len >= strlen(start) && memcmp(text.ptr, start, strlen(start)) == 0;
}

enum bench_socketio bench_socketio_take(struct bench *b, struct bench_client *c, struct slice text)
{
    if (starts_with(text, "42"))
        return BENCH_SOCKETIO_EVENT;
    bool is_fine = true;
    if (starts_with(text, "430") && !c->subscribed)
        bench_client_subscribed(b, c);
    else if (starts_with(text, "40"))
        is_fine = send_subscribe(b, c);
    else if (starts_with(text, "0"))
        is_fine = send_word(c, "40");
    else if (starts_with(text, "2"))
        is_fine = send_word(c, "3");
    else if (!starts_with(text, "6")) /* a no-operation */
        is_fine = false;
    return is_fine ? BENCH_SOCKETIO_DONE : BENCH_SOCKETIO_WRONG;
}
