/*
 * publication.c - makes a publication's encodings, once.
 */
#include "protocol/publication.h"

#include "base/buf.h"
#include "base/mem.h"
#include "protocol/json_patch.h"
#include "protocol/json_text.h"
#include "protocol/push.h"

#include <stdlib.h>
#include <string.h>

#define ENVELOPE_BYTES 160 /* room for everything around channel, epoch and payload */

struct publication *publication_new(const struct publication_head *head, struct slice payload)
{
    struct publication *p = mem_zalloc(sizeof *p + head->channel.len);
    atomic_init(&p->refs, 1);
    p->payload_bytes = (uint32_t)payload.len;
    p->channel_hash = head->channel_hash;
    p->seq = head->seq;
    p->ts_ms = head->ts_ms;
    p->received_ns = head->received_ns;
    p->gap = head->gap;
    p->cleared = head->cleared;
    p->is_json = head->is_json;
    p->is_stamped = head->is_stamped;
    p->is_snapshot = head->is_snapshot;
    p->epoch_len = (uint8_t)head->epoch.len;
    memcpy(p->epoch, head->epoch.ptr, head->epoch.len);
    p->channel_len = (uint8_t)head->channel.len;
    memcpy(p->channel, head->channel.ptr, head->channel.len);
    if (!p->cleared) {
        struct frame *raw =
            frame_new(WS_OP_TEXT, false, payload, (struct slice){0}, (uint32_t)payload.len);
        raw->items = 1;
        atomic_init(&p->forms[FORM_RAW], raw);
    }
    return p;
}

void publication_unref(struct publication *p)
{
    /* Release what this thread did with it; the last one acquires what all others did. */
    if (atomic_fetch_sub_explicit(&p->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < 2 * FORM_COUNT; i++) {
        struct frame *f = atomic_load_explicit(&p->forms[i], memory_order_relaxed);
        if (f != NULL)
            frame_unref(f);
    }
    free(p);
}

static struct slice payload_of(const struct publication *p)
{
    if (p->cleared)
        return (struct slice){0};
    return frame_payload(atomic_load_explicit(&p->forms[FORM_RAW], memory_order_relaxed));
}

static void append_envelope(const struct publication *p, enum publication_form form,
                            struct buf *out)
{
    bool has_epoch = form == FORM_JSON_EPOCH || form == FORM_JSON_SNAP;
    buf_append_str(out, PUSH_HEAD "{\"channel\":\"");
    buf_append(out, p->channel, p->channel_len); /* its alphabet needs no escaping */
    if (has_epoch && p->epoch_len != 0) {
        buf_append_str(out, "\",\"epoch\":\"");
        buf_append(out, p->epoch, p->epoch_len);
    }
    buf_append_str(out, "\"");
    if (p->seq != 0) {
        buf_append_str(out, ",\"seq\":");
        buf_append_u64(out, p->seq);
    } else if (!p->cleared) {
        buf_append_str(out, ",\"plain\":true");
    }
    buf_append_str(out, ",\"ts\":");
    buf_append_u64(out, p->ts_ms);
    if (form == FORM_JSON_SNAP)
        buf_append_str(out, ",\"snap\":true");
    if (form == FORM_JSON_PATCH)
        buf_append_str(out, ",\"patch\":true");
    buf_append_str(out, p->cleared ? ",\"cleared\":true" : ",\"data\":");
}

/* data: what stands in `data`, as JSON, or text to be made a JSON string; nothing when cleared. */
static struct frame *encode_json(const struct publication *p, enum publication_form form,
                                 struct slice data)
{
    struct buf text = {0};
    buf_reserve(&text, ENVELOPE_BYTES + p->channel_len + p->epoch_len + data.len);
    append_envelope(p, form, &text);
    if (p->is_json)
        buf_append(&text, data.ptr, data.len);
    else if (!p->cleared)
        json_append_string(&text, data);
    buf_append_str(&text, "}" PUSH_TAIL);
    struct frame *f = frame_text(&text);
    f->items = 1;
    buf_fini(&text);
    return f;
}

/* Puts a frame that was just made into its slot, or takes the one that another thread put there. */
static struct frame *install(_Atomic(struct frame *) *slot, struct frame *made)
{
    struct frame *present = NULL;
    /* Release publishes the frame's bytes; acquire sees those of the winner. */
    if (atomic_compare_exchange_strong_explicit(slot, &present, made, memory_order_release,
                                                memory_order_acquire))
        return made;
    frame_unref(made);
    return present;
}

struct frame *publication_frame(struct publication *p, enum publication_form form,
                                struct compressor *compressor)
{
    if (form == FORM_RAW && p->cleared)
        return NULL;
    _Atomic(struct frame *) *slot = &p->forms[form + (compressor != NULL ? FORM_COUNT : 0)];
    /* Acquire pairs with install's release. */
    struct frame *f = atomic_load_explicit(slot, memory_order_acquire);
    if (f != NULL)
        return f;
    if (compressor == NULL)
        return install(slot, encode_json(p, form, payload_of(p)));
    return install(slot, compressor_pack(compressor, publication_frame(p, form, NULL)));
}

void publication_prepare_patch(struct publication *p, const struct publication *before)
{
    _Atomic(struct frame *) *slot = &p->forms[FORM_JSON_PATCH];
    if (atomic_load_explicit(slot, memory_order_acquire) != NULL)
        return;
    struct buf patch = {0};
    bool is_possible = p->is_json && before->is_json && !p->cleared && !before->cleared &&
                       json_patch_make(&patch, payload_of(before), payload_of(p));
    install(slot, is_possible ? encode_json(p, FORM_JSON_PATCH, buf_slice(&patch))
                              : frame_ref(publication_frame(p, FORM_JSON, NULL)));
    buf_fini(&patch);
}
