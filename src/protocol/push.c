/*
 * push.c - puts items together that were encoded alone.
 *
 *      {"action":"push","items":[ {"channel":…,"data":…} ]}       the frame of one publication
 *                                 └──── its item ────┘
 *
 * `missed` belongs to a subscription, not to the publication, so it is added here, in front of the
 * item's closing brace.
 */
#include "protocol/push.h"

#include <assert.h>

#define HEAD_BYTES (sizeof PUSH_HEAD - 1)
#define TAIL_BYTES (sizeof PUSH_TAIL - 1)
#define MISSED_KEY ",\"missed\":"
#define DIGITS_MAX 20

static struct slice item_of(const struct frame *single)
{
    struct slice text = frame_payload(single);
    assert(text.len > HEAD_BYTES + TAIL_BYTES);
    return slice_of(text.ptr + HEAD_BYTES, text.len - HEAD_BYTES - TAIL_BYTES);
}

static unsigned count_digits(uint64_t n)
{
    unsigned digits = 1;
    while (n >= 10) {
        n /= 10;
        digits++;
    }
    return digits;
}

size_t push_part_bytes(const struct push_part *part)
{
    size_t bytes = item_of(part->single).len + 1; /* and a comma, or the tail's room */
    if (part->missed != 0)
        bytes += sizeof MISSED_KEY - 1 + count_digits(part->missed);
    return bytes;
}

static void put(struct push *w, const void *ptr, size_t len)
{
    memcpy(w->at, ptr, len);
    w->at += len;
}

/* One part has no comma in front. */
static size_t payload_bytes(size_t parts_bytes)
{
    return HEAD_BYTES + parts_bytes - 1 + TAIL_BYTES;
}

size_t push_frame_bytes(size_t parts_bytes)
{
    uint8_t header[WS_HEADER_MAX];
    size_t payload = payload_bytes(parts_bytes);
    return ws_encode_header(header, WS_OP_TEXT, false, payload) + payload;
}

static void begin(struct push *w, struct frame *frame, uint8_t *payload)
{
    w->frame = frame;
    w->at = payload;
    w->has_items = false;
    put(w, PUSH_HEAD, HEAD_BYTES);
}

void push_open(struct push *w, size_t parts_bytes, uint32_t count)
{
    assert(count > 0 && count <= PUSH_ITEMS_MAX);
    struct frame *f = frame_open(payload_bytes(parts_bytes));
    f->items = (uint16_t)count;
    begin(w, f, f->bytes + f->header_len);
}

void push_start(struct push *w, uint8_t *at, size_t parts_bytes)
{
    begin(w, NULL, at + ws_encode_header(at, WS_OP_TEXT, false, payload_bytes(parts_bytes)));
}

static void put_missed(struct push *w, uint64_t missed)
{
    char digits[DIGITS_MAX] = {0};
    unsigned count = count_digits(missed);
    for (unsigned i = count; i > 0; i--) {
        digits[i - 1] = (char)('0' + missed % 10);
        missed /= 10;
    }
    put(w, MISSED_KEY, sizeof MISSED_KEY - 1);
    put(w, digits, count);
}

void push_put(struct push *w, const struct push_part *part)
{
    struct slice item = item_of(part->single);
    if (w->has_items)
        put(w, ",", 1);
    w->has_items = true;
    put(w, item.ptr, item.len - 1);
    if (part->missed != 0)
        put_missed(w, part->missed);
    put(w, "}", 1);
}

void push_end(struct push *w)
{
    put(w, PUSH_TAIL, TAIL_BYTES);
}

struct frame *push_close(struct push *w)
{
    push_end(w);
    assert(w->at == w->frame->bytes + w->frame->len);
    return w->frame;
}
