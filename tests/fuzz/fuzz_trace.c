/*
 * fuzz_trace.c - a trace note has one spelling: written again from its parts it is the same bytes.
 * Traceparents come along.
 */
#include "protocol/trace.h"

#include "base/mem.h"
#include "protocol/channel.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void check_note(struct slice payload)
{
    struct trace_note note;
    struct buf again = {0};
    if (!trace_note_parse(payload, &note))
        return;
    require(trace_is_valid(note.trace) && channel_is_valid(note.channel));
    trace_note_append(&again, &note);
    require(slice_equal(buf_slice(&again), payload));
    buf_fini(&again);
}

static void check_parent(struct slice parent)
{
    struct slice trace;
    bool is_one = trace_of_parent(parent, &trace);
    require(is_one == (trace.len == 32));
    require(!is_one || trace_is_valid(trace));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *copy = mem_dup(data, size);
    check_note(slice_of(copy, size));
    check_parent(slice_of(copy, size));
    free(copy);
    return 0;
}
