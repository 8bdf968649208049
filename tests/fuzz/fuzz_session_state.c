/*
 * fuzz_session_state.c - whatever stands in Redis under a session's key: what is taken means the
 * same when it is written again.
 */
#include "protocol/session_state.h"

#include "base/mem.h"
#include "protocol/channel.h"
#include "protocol/stamp.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void require_same(const struct session_state_channel *a,
                         const struct session_state_channel *b)
{
    require(channel_is_valid(a->channel) && slice_equal(a->channel, b->channel));
    require(a->mode == b->mode && (a->mode == MODE_LATEST || a->mode == MODE_ALL));
    require(a->max_rate == b->max_rate && a->delta == b->delta);
    require(a->has_position == b->has_position && a->seq == b->seq && a->seq <= STAMP_NUMBER_MAX);
    require(slice_equal(a->epoch, b->epoch) && a->epoch.len <= STAMP_EPOCH_MAX);
}

static void check_again(const struct session_state *state)
{
    struct buf text = {0};
    struct session_state again;
    session_state_begin(&text);
    for (size_t i = 0; i < state->count; i++)
        session_state_add(&text, &state->channels[i]);
    session_state_end(&text);
    if (session_state_parse(buf_slice(&text), &again)) {
        require(again.count == state->count);
        for (size_t i = 0; i < state->count; i++)
            require_same(&state->channels[i], &again.channels[i]);
        session_state_fini(&again);
    } else {
        require(text.len > SESSION_STATE_BYTES_MAX);
    }
    buf_fini(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct session_state state;
    char *copy = mem_dup(data, size);
    if (session_state_parse(slice_of(copy, size), &state)) {
        check_again(&state);
        session_state_fini(&state);
    }
    free(copy);
    return 0;
}
