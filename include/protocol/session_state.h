/*
 * session_state.h - what is kept of a client session while its client is between two nodes.
 *
 *      {"v":1,"channels":[{"channel":"trade:AAPL","mode":"all","epoch":"c91e","seq":815},…]}
 *
 * One object for each subscription: its options, and the last publication that the client was
 * sent. Members at their default are left out. Read back from Redis, where anybody may have
 * written it, so everything is checked. Pure.
 */
#ifndef TICKCAST_PROTOCOL_SESSION_STATE_H
#define TICKCAST_PROTOCOL_SESSION_STATE_H

#include "base/buf.h"
#include "protocol/command.h"

#include <stdbool.h>
#include <stdint.h>

#define SESSION_STATE_BYTES_MAX 1048576 /* one that is larger is neither stored nor read */

struct session_state_channel {
    struct slice channel;
    enum delivery_mode mode;
    uint32_t max_rate; /* 0: no limit */
    bool delta;
    bool has_position;
    struct slice epoch; /* empty: nothing had ever been published, and seq is 0 */
    uint64_t seq;
};

/* All three in this order append to out; the channel's name is valid. */
void session_state_begin(struct buf *out);
void session_state_add(struct buf *out, const struct session_state_channel *channel);
void session_state_end(struct buf *out);

struct session_state {
    struct session_state_channel *channels; /* owned; their slices borrow from the text */
    size_t count;
};

/* False, with nothing to release, when the text is none that the functions above write. */
bool session_state_parse(struct slice text, struct session_state *out);
void session_state_fini(struct session_state *s);

/* --- the session's id: 128 random bits, 32 lower-case hex digits as text ----------------------- */

#define SESSION_ID_TEXT 33 /* with the NUL */

bool session_id_parse(struct slice text, uint8_t id[SESSION_ID_BYTES]);
void session_id_text(const uint8_t id[SESSION_ID_BYTES], char text[SESSION_ID_TEXT]);

#endif
