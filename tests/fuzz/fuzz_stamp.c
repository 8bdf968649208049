/*
 * fuzz_stamp.c - a stamp has one spelling: written again from its parts it is the same bytes.
 *
 * Channel names come along, as their grammar is as small.
 */
#include "protocol/stamp.h"

#include "base/buf.h"
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

static void check_stamp(struct slice message)
{
    struct stamp s;
    struct buf again = {0};
    enum stamp_result result = stamp_parse(message, &s);
    require((result == STAMP_NONE) == (message.len == 0 || message.ptr[0] != '@'));
    if (result != STAMP_OK)
        return;
    require(s.epoch.len >= 1 && s.epoch.len <= STAMP_EPOCH_MAX);
    require(s.seq >= 1 && s.seq <= STAMP_NUMBER_MAX && s.ts_ms <= STAMP_NUMBER_MAX);
    buf_append_str(&again, "@");
    buf_append(&again, s.epoch.ptr, s.epoch.len);
    buf_append_str(&again, ":");
    buf_append_u64(&again, s.seq);
    buf_append_str(&again, ":");
    buf_append_u64(&again, s.ts_ms);
    buf_append_str(&again, " ");
    buf_append(&again, s.payload.ptr, s.payload.len);
    require(slice_equal(buf_slice(&again), message));
    buf_fini(&again);
}

static void check_channel(struct slice name)
{
    if (!channel_is_valid(name))
        return;
    struct slice space = channel_namespace(name);
    require(space.len >= 1 && space.len + 2 <= name.len && name.ptr[space.len] == ':');
    require(memchr(space.ptr, ':', space.len) == NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *copy = mem_dup(data, size);
    check_stamp(slice_of(copy, size));
    check_channel(slice_of(copy, size));
    free(copy);
    return 0;
}
