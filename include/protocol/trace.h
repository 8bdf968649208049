/*
 * trace.h - trace ids: what may be one, and the note that carries one through Redis.
 *
 * What is published on a channel is the publisher's and has no room for an id. So an id goes ahead
 * of its publication as a message of its own, on `tc:trace`, in the same transaction: to a
 * subscriber nothing comes between the two.
 *
 *      tc:trace       4bf92f3577b34da6a3ce929d0e0e4736 quote:AAPL        trace, channel
 *      tc:quote:AAPL  @c91e:815:1780000000340 {"price":"190.01"}
 *
 * A third word, `made`, says that nobody gave the id: nodes then log it at level debug. A stamped
 * publication without a given id needs no note: its identity, `quote:AAPL@c91e:815`, is the same on
 * every node.
 *
 * Pure.
 */
#ifndef TICKCAST_PROTOCOL_TRACE_H
#define TICKCAST_PROTOCOL_TRACE_H

#include "base/buf.h"
#include "base/rng.h"
#include "base/slice.h"

#include <stdbool.h>

#define TRACE_CHANNEL      "trace" /* behind the prefix */
#define TRACE_BYTES_MAX    64
#define TRACE_MADE_BYTES   32  /* hex digits, as in a W3C trace id */
#define TRACE_IDENTITY_MAX 180 /* channel (128), '@', epoch (32), ':', 16 digits */

/* 1 to TRACE_BYTES_MAX bytes of printable ASCII without space. */
bool trace_is_valid(struct slice trace);

/* The trace id of a W3C Traceparent (version-id-parent-flags, 00-<32 hex>-<16 hex>-<2 hex>): lower
 * case, not all zeros. False, with an empty slice, when it is none. Borrows. */
bool trace_of_parent(struct slice parent, struct slice *trace);

/* Writes TRACE_MADE_BYTES random hex digits and a NUL. */
void trace_make(struct rng *rng, char *out);

struct trace_note {
    struct slice trace;   /* borrows, as does channel */
    struct slice channel; /* valid */
    bool is_made;
};

/* Anybody may publish there. False: it is no note. */
bool trace_note_parse(struct slice payload, struct trace_note *out);
void trace_note_append(struct buf *out, const struct trace_note *note);

#endif
