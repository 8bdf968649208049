/*
 * fuzz_ws_codec.c - the frame decoder must not care how its bytes were cut.
 *
 * The first byte of an input chooses role, compression and how the bytes are cut; the rest is what
 * a peer sends. What is handed out must be the same whole, byte by byte and in pieces; kept memory
 * must follow the bytes that came.
 */
#include "protocol/ws_codec.h"

#include <stdint.h>
#include <stdlib.h>

#define MESSAGE_BYTES 2000
#define ROLE_BIT      1
#define DEFLATE_BIT   2

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct drive {
    struct ws_decoder decoder;
    struct ws_decoder_config config;
    struct buf events;
    bool over;
};

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void write_event(struct buf *events, enum ws_event event, const struct ws_message *m)
{
    buf_printf(events, "%d %d %u %zu ", event, event == WS_ERROR ? 0 : (int)m->opcode,
               event == WS_CLOSE || event == WS_ERROR ? m->code : 0u,
               event == WS_ERROR ? 0 : m->payload.len);
    if (event != WS_ERROR)
        buf_append(events, m->payload.ptr, m->payload.len);
}

static void check_message(enum ws_event event, const struct ws_message *m)
{
    if (event == WS_ERROR) {
        require(m->why != NULL && ws_close_code_is_legal(m->code));
        return;
    }
    require(m->payload.len <= (event == WS_MESSAGE ? MESSAGE_BYTES : WS_CONTROL_PAYLOAD_MAX));
    if (event == WS_CLOSE || (event == WS_MESSAGE && m->opcode == WS_OP_TEXT))
        require(utf8_is_valid(m->payload.ptr, m->payload.len));
}

static void feed(struct drive *v, const uint8_t *ptr, size_t len)
{
    uint8_t *copy = malloc(len + 1);
    size_t at = 0, used;
    if (len > 0)
        memcpy(copy, ptr, len);
    while (!v->over) {
        struct ws_message m = {0};
        enum ws_event event =
            ws_decoder_next(&v->decoder, &v->config, copy + at, len - at, &used, &m);
        at += used;
        require(at <= len);
        if (event == WS_NEED_MORE) {
            require(at == len);
            break;
        }
        check_message(event, &m);
        write_event(&v->events, event, &m);
        v->over = event == WS_CLOSE || event == WS_ERROR;
    }
    free(copy);
}

/* Feeds the bytes in steps; returns the events. */
static struct buf run(uint8_t choice, const uint8_t *data, size_t size, size_t step)
{
    static struct ws_inflater *inflater;
    struct buf inflated = {0};
    if (inflater == NULL)
        inflater = ws_inflater_new();
    struct drive v = {.config = {.is_server = (choice & ROLE_BIT) != 0,
                                 .deflate = (choice & DEFLATE_BIT) != 0,
                                 .message_bytes = MESSAGE_BYTES,
                                 .inflater = inflater,
                                 .inflated = &inflated}};
    for (size_t at = 0; at < size && !v.over; at += step) {
        feed(&v, data + at, size - at < step ? size - at : step);
        require(v.decoder.message.cap <= 256 + 2 * (at + step));
    }
    ws_decoder_fini(&v.decoder);
    buf_fini(&inflated);
    return v.events;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    struct buf whole = run(data[0], data + 1, size - 1, size);
    struct buf bytes = run(data[0], data + 1, size - 1, 1);
    struct buf steps = run(data[0], data + 1, size - 1, 2 + data[0] / 4);
    require(slice_equal(buf_slice(&whole), buf_slice(&bytes)));
    require(slice_equal(buf_slice(&whole), buf_slice(&steps)));
    buf_fini(&whole);
    buf_fini(&bytes);
    buf_fini(&steps);
    return 0;
}
