/*
 * ws_codec.c - WebSocket frames in both directions (RFC 6455, 5).
 *
 * Pure, and owned by whoever owns the connection. A frame's payload is taken as it comes: unmasked
 * in place, checked, and kept only when its message cannot be finished from this run of bytes.
 * Control frames may lie between the fragments of a message, so what belongs to the frame under
 * way and what belongs to the message under way are different fields.
 *
 *      take_start    2 bytes     flags, opcode, mask bit, short length: all that can be refused
 *      take_rest     0-12 bytes  long length, mask: the announced length is checked here
 *      take_payload  remaining   unmask; control[] or message or borrowed
 *      finish_*                  a whole frame; a whole message when it was the last one
 *
 * A compressed message is kept as it is until its last byte: the inflater belongs to the worker and
 * may serve another connection in between. Only one that takes more bytes than its content may have,
 * because its sender flushes behind every few of them, gets an inflater of its own (40 KiB), and
 * `message` then holds what came out of it.
 */
#include "protocol/ws_codec.h"

#define FIN         0x80
#define RSV1        0x40
#define RSV2_3      0x30
#define OPCODE      0x0f
#define CONTROL_BIT 0x08
#define MASKED      0x80
#define LENGTH      0x7f
#define LENGTH_16   126 /* a 16-bit length follows */
#define LENGTH_64   127 /* a 64-bit length follows */

/* A byte, flushed by itself, takes a block for it and an empty one: 11 bytes, if both are stored. */
#define FLUSHED_RATIO 16
#define FLUSHED_SLACK 1024

/* What is still to be read of the bytes given to one call. */
struct input {
    uint8_t *at;
    uint8_t *end;
};

static size_t input_left(const struct input *in)
{
    return (size_t)(in->end - in->at);
}

static enum ws_event fail(struct ws_message *out, uint16_t code, const char *why)
{
    out->code = code;
    out->why = why;
    return WS_ERROR;
}

static enum ws_event break_protocol(struct ws_message *out, const char *why)
{
    return fail(out, WS_CLOSE_PROTOCOL, why);
}

static bool is_control(uint8_t opcode)
{
    return (opcode & CONTROL_BIT) != 0;
}

/* --- the header ------------------------------------------------------------------------------ */

/* Collects header bytes until there are `want`. */
static bool gather_header(struct ws_decoder *d, struct input *in, size_t want)
{
    if (d->header_len < want && input_left(in) > 0) {
        size_t take = want - d->header_len;
        if (take > input_left(in))
            take = input_left(in);
        memcpy(d->header + d->header_len, in->at, take);
        d->header_len = (uint8_t)(d->header_len + take);
        in->at += take;
    }
    return d->header_len >= want;
}

static size_t length_bytes(const uint8_t *header)
{
    uint8_t length = header[1] & LENGTH;
    if (length < LENGTH_16)
        return 0;
    return length == LENGTH_16 ? 2 : 8;
}

static size_t header_bytes(const uint8_t *header)
{
    return 2 + length_bytes(header) + ((header[1] & MASKED) != 0 ? 4 : 0);
}

static bool is_known_opcode(uint8_t opcode)
{
    return opcode <= WS_OP_BINARY || (opcode >= WS_OP_CLOSE && opcode <= WS_OP_PONG);
}

/* Refuses what the first two bytes already show to be wrong; NULL when nothing is. */
static const char *start_fault(const struct ws_decoder *d, const struct ws_decoder_config *config)
{
    uint8_t flags = d->header[0], opcode = flags & OPCODE;
    bool starts_message = opcode == WS_OP_TEXT || opcode == WS_OP_BINARY;

    if ((flags & RSV2_3) != 0)
        return "reserved bit set";
    if ((flags & RSV1) != 0 && !(config->deflate && starts_message))
        return "RSV1 set where no compressed message starts";
    if (!is_known_opcode(opcode))
        return "reserved opcode";
    if (((d->header[1] & MASKED) != 0) != config->is_server)
        return config->is_server ? "frame is not masked" : "frame is masked";
    if (is_control(opcode)) {
        if ((flags & FIN) == 0)
            return "fragmented control frame";
        return (d->header[1] & LENGTH) > WS_CONTROL_PAYLOAD_MAX ? "long control frame" : NULL;
    }
    if (starts_message && d->message_opcode != 0)
        return "new message within a fragmented one";
    if (!starts_message && d->message_opcode == 0)
        return "continuation without a message";
    return NULL;
}

/* Reads the payload length. False when it is not in its shortest form, or above 2^63. */
static bool read_length(const uint8_t *header, uint64_t *length)
{
    size_t bytes = length_bytes(header);
    *length = header[1] & LENGTH;
    if (bytes == 0)
        return true;
    *length = 0;
    for (size_t i = 0; i < bytes; i++)
        *length = *length << 8 | header[2 + i];
    if (bytes == 2)
        return *length >= LENGTH_16;
    return *length > UINT16_MAX && *length >> 63 == 0;
}

/* What is kept of a message, packed. Deflate makes incompressible data larger by an eighth at worst,
 * and a few bytes for a short one, where nobody flushes in between. */
static size_t packed_limit(const struct ws_decoder_config *config)
{
    return config->message_bytes + config->message_bytes / 8 + 64;
}

/* What a whole message may take, packed: no sender needs more, if it flushes behind each byte. It
 * bounds the work, as message_bytes bounds the memory. */
static uint64_t sent_limit(const struct ws_decoder *d, const struct ws_decoder_config *config)
{
    uint64_t max = config->message_bytes;
    return d->compressed ? FLUSHED_RATIO * max + FLUSHED_SLACK : max;
}

/* The whole header is there: sets up the frame, and the message when it is its first. */
static enum ws_event begin_frame(struct ws_decoder *d, const struct ws_decoder_config *config,
                                 struct ws_message *out)
{
    d->opcode = d->header[0] & OPCODE;
    d->fin = (d->header[0] & FIN) != 0;
    d->masked = (d->header[1] & MASKED) != 0;
    if (!read_length(d->header, &d->remaining))
        return break_protocol(out, "length is not in its shortest form");
    if (d->masked)
        memcpy(d->mask, d->header + header_bytes(d->header) - sizeof d->mask, sizeof d->mask);
    d->mask_at = 0;
    d->header_len = 0;
    d->in_frame = true;
    if (is_control(d->opcode)) {
        d->control_len = 0;
        return WS_NEED_MORE;
    }
    if (d->opcode != WS_OP_CONTINUATION) {
        d->message_opcode = d->opcode;
        d->compressed = (d->header[0] & RSV1) != 0;
        d->utf8 = (struct utf8){0};
        d->sent = 0;
    }
    uint64_t max = sent_limit(d, config);
    if (d->sent > max || d->remaining > max - d->sent)
        return fail(out, WS_CLOSE_TOO_LARGE, "message is too large");
    d->sent += d->remaining;
    return WS_NEED_MORE;
}

static enum ws_event take_header(struct ws_decoder *d, const struct ws_decoder_config *config,
                                 struct input *in, struct ws_message *out)
{
    if (!gather_header(d, in, 2))
        return WS_NEED_MORE;
    const char *fault = start_fault(d, config);
    if (fault != NULL)
        return break_protocol(out, fault);
    if (!gather_header(d, in, header_bytes(d->header)))
        return WS_NEED_MORE;
    return begin_frame(d, config, out);
}

/* --- the payload ----------------------------------------------------------------------------- */

static void unmask(struct ws_decoder *d, uint8_t *ptr, size_t len)
{
    uint8_t bytes[8];
    uint64_t eight, key;
    size_t i = 0;

    for (size_t k = 0; k < sizeof bytes; k++)
        bytes[k] = d->mask[(d->mask_at + k) % sizeof d->mask];
    memcpy(&key, bytes, sizeof key);
    for (; len - i >= sizeof eight; i += sizeof eight) {
        memcpy(&eight, ptr + i, sizeof eight);
        eight ^= key;
        memcpy(ptr + i, &eight, sizeof eight);
    }
    for (; i < len; i++)
        ptr[i] ^= bytes[i % sizeof bytes];
    d->mask_at = (uint8_t)((d->mask_at + len) % sizeof d->mask);
}

static enum ws_event finish_close(struct slice payload, struct ws_message *out)
{
    if (payload.len == 1)
        return break_protocol(out, "close frame with half a code");
    out->code = WS_CLOSE_NO_STATUS;
    out->payload = slice_of("", 0);
    if (payload.len == 0)
        return WS_CLOSE;
    const uint8_t *code = (const uint8_t *)payload.ptr;
    out->code = (uint16_t)(code[0] << 8 | code[1]);
    out->payload = slice_of(payload.ptr + 2, payload.len - 2);
    if (!ws_close_code_is_legal(out->code))
        return break_protocol(out, "illegal close code");
    if (!utf8_is_valid(out->payload.ptr, out->payload.len))
        return fail(out, WS_CLOSE_BAD_DATA, "close reason is not UTF-8");
    return WS_CLOSE;
}

static enum ws_event finish_control(struct ws_decoder *d, struct slice payload,
                                    struct ws_message *out)
{
    d->in_frame = false;
    out->opcode = d->opcode;
    out->payload = payload;
    if (d->opcode == WS_OP_CLOSE)
        return finish_close(payload, out);
    return d->opcode == WS_OP_PING ? WS_PING : WS_PONG;
}

static enum ws_event judge_inflated(enum ws_inflate_result result, enum ws_event when_ok,
                                    struct ws_message *out)
{
    switch (result) {
    case WS_INFLATE_TOO_LARGE:
        return fail(out, WS_CLOSE_TOO_LARGE, "inflated message is too large");
    case WS_INFLATE_BAD: return fail(out, WS_CLOSE_BAD_DATA, "compressed message is corrupt");
    case WS_INFLATE_OK: break;
    }
    return when_ok;
}

/* More of a message than may be kept packed: what there is of it is inflated now. */
static enum ws_event inflate_piece(struct ws_decoder *d, const struct ws_decoder_config *config,
                                   const uint8_t *ptr, size_t len, struct ws_message *out)
{
    enum ws_inflate_result result = WS_INFLATE_OK;
    if (d->inflater == NULL) {
        struct buf packed = d->message;
        d->message = (struct buf){0};
        d->inflater = ws_inflater_new();
        result = ws_inflater_feed(d->inflater, packed.data, packed.len, config->message_bytes,
                                  &d->message);
        buf_fini(&packed);
    }
    if (result == WS_INFLATE_OK)
        result = ws_inflater_feed(d->inflater, ptr, len, config->message_bytes, &d->message);
    return judge_inflated(result, WS_NEED_MORE, out);
}

static enum ws_event inflate_message(struct ws_decoder *d, const struct ws_decoder_config *config,
                                     struct slice packed, struct ws_message *out)
{
    struct buf *inflated = d->inflater != NULL ? &d->message : config->inflated;
    enum ws_inflate_result result =
        d->inflater != NULL ? ws_inflater_end(d->inflater, config->message_bytes, inflated)
                            : ws_inflater_run(config->inflater, packed.ptr, packed.len,
                                              config->message_bytes, inflated);
    ws_inflater_free(d->inflater);
    d->inflater = NULL;
    enum ws_event event = judge_inflated(result, WS_MESSAGE, out);
    if (event != WS_MESSAGE)
        return event;
    out->payload = buf_slice(inflated);
    if (out->opcode == WS_OP_TEXT && !utf8_is_valid(out->payload.ptr, out->payload.len))
        return fail(out, WS_CLOSE_BAD_DATA, "text is not UTF-8");
    return WS_MESSAGE;
}

/* The last frame of a message is whole. */
static enum ws_event finish_message(struct ws_decoder *d, const struct ws_decoder_config *config,
                                    struct slice payload, struct ws_message *out)
{
    out->opcode = d->message_opcode;
    out->payload = payload;
    d->message_opcode = 0;
    enum ws_event event = WS_MESSAGE;
    if (d->compressed)
        event = inflate_message(d, config, payload, out);
    else if (out->opcode == WS_OP_TEXT && !utf8_is_complete(&d->utf8))
        return fail(out, WS_CLOSE_BAD_DATA, "text ends within a character");
    if (out->payload.ptr == NULL)
        out->payload = slice_of("", 0);
    return event;
}

static enum ws_event take_control(struct ws_decoder *d, const uint8_t *ptr, size_t len,
                                  struct ws_message *out)
{
    if (d->control_len == 0 && d->remaining == 0)
        return finish_control(d, slice_of((const char *)ptr, len), out);
    memcpy(d->control + d->control_len, ptr, len);
    d->control_len = (uint8_t)(d->control_len + len);
    if (d->remaining > 0)
        return WS_NEED_MORE;
    return finish_control(d, slice_of((const char *)d->control, d->control_len), out);
}

/* Keeps a piece of a message whose end is not here yet. */
static enum ws_event keep_data(struct ws_decoder *d, const struct ws_decoder_config *config,
                               const uint8_t *ptr, size_t len, struct ws_message *out)
{
    bool is_too_large = d->compressed && d->message.len + len > packed_limit(config);
    if (is_too_large || d->inflater != NULL)
        return inflate_piece(d, config, ptr, len, out);
    buf_append(&d->message, ptr, len);
    return WS_NEED_MORE;
}

static enum ws_event take_data(struct ws_decoder *d, const struct ws_decoder_config *config,
                               const uint8_t *ptr, size_t len, struct ws_message *out)
{
    bool is_plain_text = d->message_opcode == WS_OP_TEXT && !d->compressed;
    if (is_plain_text && !utf8_feed(&d->utf8, ptr, len))
        return fail(out, WS_CLOSE_BAD_DATA, "text is not UTF-8");

    bool is_whole = d->fin && d->remaining == 0;
    if (is_whole && d->message.len == 0 && d->inflater == NULL) {
        d->in_frame = false;
        return finish_message(d, config, slice_of((const char *)ptr, len), out);
    }
    d->in_frame = d->remaining > 0;
    enum ws_event event = keep_data(d, config, ptr, len, out);
    if (event == WS_NEED_MORE && is_whole)
        event = finish_message(d, config, buf_slice(&d->message), out);
    return event;
}

/* Takes what there is of the current frame's payload. */
static enum ws_event take_payload(struct ws_decoder *d, const struct ws_decoder_config *config,
                                  struct input *in, struct ws_message *out)
{
    uint8_t *ptr = in->at;
    size_t len = input_left(in);
    if (len > d->remaining)
        len = (size_t)d->remaining;
    in->at += len;
    d->remaining -= len;
    if (d->masked)
        unmask(d, ptr, len);
    if (is_control(d->opcode))
        return take_control(d, ptr, len, out);
    return take_data(d, config, ptr, len, out);
}

/* --- the decoder ----------------------------------------------------------------------------- */

enum ws_event ws_decoder_next(struct ws_decoder *d, const struct ws_decoder_config *config,
                              uint8_t *ptr, size_t len, size_t *used, struct ws_message *out)
{
    struct input in = {.at = ptr, .end = ptr + len};
    enum ws_event event = WS_NEED_MORE;

    if (d->message_opcode == 0) /* what the last call handed out */
        buf_fini(&d->message);
    while (event == WS_NEED_MORE) {
        if (!d->in_frame)
            event = take_header(d, config, &in, out);
        if (!d->in_frame || event != WS_NEED_MORE)
            break;
        /* A frame without payload is whole at once; any other needs another byte. */
        if (d->remaining > 0 && input_left(&in) == 0)
            break;
        event = take_payload(d, config, &in, out);
    }
    *used = (size_t)(in.at - ptr);
    return event;
}

bool ws_decoder_is_idle(const struct ws_decoder *d)
{
    return d->header_len == 0 && !d->in_frame && d->message_opcode == 0 && d->message.data == NULL;
}

void ws_decoder_fini(struct ws_decoder *d)
{
    buf_fini(&d->message);
    ws_inflater_free(d->inflater);
    *d = (struct ws_decoder){0};
}

/* --- encoding -------------------------------------------------------------------------------- */

size_t ws_encode_header(uint8_t out[WS_HEADER_MAX], enum ws_opcode opcode, bool compressed,
                        uint64_t payload_bytes)
{
    out[0] = (uint8_t)(FIN | (compressed ? RSV1 : 0) | opcode);
    if (payload_bytes < LENGTH_16) {
        out[1] = (uint8_t)payload_bytes;
        return 2;
    }
    size_t bytes = payload_bytes <= UINT16_MAX ? 2 : 8;
    out[1] = bytes == 2 ? LENGTH_16 : LENGTH_64;
    for (size_t i = 0; i < bytes; i++)
        out[2 + i] = (uint8_t)(payload_bytes >> 8 * (bytes - 1 - i));
    return 2 + bytes;
}

void ws_encode_masked(struct buf *out, enum ws_opcode opcode, bool fin, struct slice payload,
                      uint32_t mask)
{
    uint8_t header[WS_HEADER_MAX], key[4];
    size_t len = ws_encode_header(header, opcode, false, payload.len);
    if (!fin)
        header[0] &= (uint8_t)~FIN;
    header[1] |= MASKED;
    for (size_t i = 0; i < sizeof key; i++)
        key[i] = (uint8_t)(mask >> 8 * (3 - i));
    memcpy(header + len, key, sizeof key);
    buf_append(out, header, len + sizeof key);
    char *tail = buf_reserve(out, payload.len);
    for (size_t i = 0; i < payload.len; i++)
        tail[i] = (char)(payload.ptr[i] ^ key[i % sizeof key]);
    out->len += payload.len;
}

/* RFC 6455, 7.4.1, with the codes that IANA has registered since (1012 to 1014). 1004 to 1006 and
 * 1015 must never be on the wire. */
bool ws_close_code_is_legal(unsigned code)
{
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
           (code >= 3000 && code <= 4999);
}
