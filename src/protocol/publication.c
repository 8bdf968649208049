/*
 * publication.c - makes a publication's encodings, once.
 */
#include "protocol/publication.h"

#include "base/buf.h"
#include "base/mem.h"
#include "protocol/json_text.h"

#include <stdlib.h>
#include <string.h>

#define ENVELOPE_BYTES 160 /* room for everything around channel, epoch and payload */

struct publication *publication_new(const struct publication_head *head, struct slice payload)
{
    struct publication *p = mem_zalloc(sizeof *p + head->channel.len);
    atomic_init(&p->refs, 1);
    p->channel_hash = head->channel_hash;
    p->seq = head->seq;
    p->ts_ms = head->ts_ms;
    p->received_ns = head->received_ns;
    p->cleared = head->cleared;
    p->is_json = head->is_json;
    p->epoch_len = (uint8_t)head->epoch.len;
    memcpy(p->epoch, head->epoch.ptr, head->epoch.len);
    p->channel_len = (uint8_t)head->channel.len;
    memcpy(p->channel, head->channel.ptr, head->channel.len);
    if (!p->cleared) {
        struct frame *raw =
            frame_new(WS_OP_TEXT, false, payload, (struct slice){0}, (uint32_t)payload.len);
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

static void append_envelope(const struct publication *p, enum publication_form form,
                            struct buf *out)
{
    buf_append_str(out, "{\"action\":\"push\",\"items\":[{\"channel\":\"");
    buf_append(out, p->channel, p->channel_len); /* its alphabet needs no escaping */
    if (form != FORM_JSON && p->epoch_len != 0) {
        buf_append_str(out, "\",\"epoch\":\"");
        buf_append(out, p->epoch, p->epoch_len);
    }
    buf_append_str(out, "\"");
    if (p->seq != 0) {
        buf_append_str(out, ",\"seq\":");
        buf_append_u64(out, p->seq);
    } else {
        buf_append_str(out, ",\"plain\":true");
    }
    buf_append_str(out, ",\"ts\":");
    buf_append_u64(out, p->ts_ms);
    if (form == FORM_JSON_SNAP)
        buf_append_str(out, ",\"snap\":true");
    buf_append_str(out, p->cleared ? ",\"cleared\":true" : ",\"data\":");
}

static struct frame *encode_json(struct publication *p, enum publication_form form)
{
    struct buf text = {0};
    struct slice payload = {0};
    if (!p->cleared)
        payload = frame_payload(atomic_load_explicit(&p->forms[FORM_RAW], memory_order_relaxed));
    buf_reserve(&text, ENVELOPE_BYTES + p->channel_len + p->epoch_len + payload.len);
    append_envelope(p, form, &text);
    if (p->is_json)
        buf_append(&text, payload.ptr, payload.len);
    else if (!p->cleared)
        json_append_string(&text, payload);
    buf_append_str(&text, "}]}");
    struct frame *f = frame_text(&text);
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
        return install(slot, encode_json(p, form));
    return install(slot, compressor_pack(compressor, publication_frame(p, form, NULL)));
}
