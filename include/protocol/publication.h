/*
 * publication.h - one received publication and its encodings.
 *
 * Immutable and shared by all threads by reference count. Each encoding is made when the first
 * client needs it and installed by compare-and-swap, so it is normally made once per node,
 * whichever worker comes first; the loser of a rare race drops its copy.
 *
 *      payload ── lives inside the raw frame, header in front: `raw` clients get it as it is
 *      forms[] ── raw, json, json+epoch, snapshot, patch; each plain and deflated; NULL until asked
 */
#ifndef TICKCAST_PROTOCOL_PUBLICATION_H
#define TICKCAST_PROTOCOL_PUBLICATION_H

#include "base/slice.h"
#include "protocol/compressor.h"
#include "protocol/frame.h"
#include "protocol/stamp.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum publication_form {
    FORM_RAW,
    FORM_JSON,
    FORM_JSON_EPOCH, /* with `epoch`: the first item of a subscription or of an epoch */
    FORM_JSON_SNAP,  /* with `epoch` and `snap`: the full state */
    FORM_JSON_PATCH, /* with `patch`: what changed since the publication before */
    FORM_COUNT
};

struct publication {
    atomic_uint refs;
    uint32_t payload_bytes;
    uint64_t channel_hash; /* map_hash of the channel */
    uint64_t seq;          /* 0: a plain message on a stamped channel */
    uint64_t ts_ms;        /* Unix */
    uint64_t received_ns;  /* monotonic, when it was read from Redis */
    uint64_t gap;          /* publications right before this one that this node never got */
    bool cleared;          /* the channel's value has ended; no payload */
    bool is_json;          /* else the payload travels as a JSON string */
    bool is_stamped;       /* its numbers are the same on every node */
    bool is_snapshot;      /* a state read from the store: followers replace what they have */
    uint8_t epoch_len;
    char epoch[STAMP_EPOCH_MAX];
    _Atomic(struct frame *) forms[2 * FORM_COUNT]; /* plain, then deflated */
    uint8_t channel_len;
    char channel[];
};

struct publication_head {
    struct slice channel; /* valid: at most CHANNEL_BYTES_MAX bytes */
    uint64_t channel_hash;
    struct slice epoch;
    uint64_t seq;
    uint64_t ts_ms;
    uint64_t received_ns;
    uint64_t gap;
    bool cleared;
    bool is_json;
    bool is_stamped;
    bool is_snapshot;
};

/* Copies everything, payload included. Returns owned, with one reference. */
struct publication *publication_new(const struct publication_head *head, struct slice payload);

static inline struct publication *publication_ref(struct publication *p)
{
    /* Relaxed: the caller holds a reference already. */
    atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed);
    return p;
}

void publication_unref(struct publication *p);

static inline struct slice publication_channel(const struct publication *p)
{
    return slice_of(p->channel, p->channel_len);
}

static inline struct slice publication_epoch(const struct publication *p)
{
    return slice_of(p->epoch, p->epoch_len);
}

/*
 * The frame of a form, made now if need be: one publication alone in its message. Borrows: it lives
 * as long as the publication. NULL for the raw form of a cleared value, which has no bytes to send.
 * compressor NULL: the plain form. The compressed form of a message that is short or does not
 * shrink is its plain form. FORM_JSON_PATCH is to be prepared first.
 */
struct frame *publication_frame(struct publication *p, enum publication_form form,
                                struct compressor *compressor);

/* The plain form: most often it is there, and a load. */
static inline struct frame *publication_plain(struct publication *p, enum publication_form form)
{
    /* Acquire pairs with the release of whoever made it. */
    struct frame *f = atomic_load_explicit(&p->forms[form], memory_order_acquire);
    return f != NULL ? f : publication_frame(p, form, NULL);
}

/* Makes FORM_JSON_PATCH, given the publication with the number right before. Where a patch is not
 * possible or does not pay, that form is FORM_JSON from then on. */
void publication_prepare_patch(struct publication *p, const struct publication *before);

#endif
