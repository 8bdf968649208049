/*
 * command.h - what a client may say (docs/protocol.md, 2.2), parsed and checked.
 *
 * One table row per action and per member. cJSON decodes the strings; nothing of it shows here.
 */
#ifndef TICKCAST_PROTOCOL_COMMAND_H
#define TICKCAST_PROTOCOL_COMMAND_H

#include "base/slice.h"
#include "protocol/errors.h"

#include <stdbool.h>
#include <stdint.h>

enum command_kind {
    COMMAND_SUBSCRIBE,
    COMMAND_UNSUBSCRIBE,
    COMMAND_SNAPSHOT,
    COMMAND_LIST,
    COMMAND_PUBLISH,
    COMMAND_AUTH,
    COMMAND_PING,
    COMMAND_RESUME,
};

enum delivery_mode { MODE_UNSET, MODE_LATEST, MODE_ALL };
enum tristate { TRI_UNSET, TRI_NO, TRI_YES };

#define SESSION_ID_BYTES 16 /* a client session's id: 128 random bits */

#define COMMAND_ID_MAX      64 /* bytes of a string id, or of a number's text */
#define COMMAND_ID_JSON_MAX (6 * COMMAND_ID_MAX + 3) /* as JSON text, every byte escaped */

/* Where a client stands in a channel: the last publication that it has. */
struct command_since {
    struct slice channel; /* as sent, like `channels`; not necessarily one of them */
    struct slice epoch;   /* 1 .. STAMP_EPOCH_MAX bytes, of a stamp's alphabet */
    uint64_t seq;         /* 0 .. STAMP_NUMBER_MAX */
};

struct command {
    enum command_kind kind;
    char id[COMMAND_ID_JSON_MAX]; /* as JSON text, ready for the reply; "" when absent */
    struct slice *channels;       /* as sent, not yet checked against the grammar */
    size_t channel_count;
    enum delivery_mode mode;
    int64_t max_rate; /* -1: absent */
    enum tristate snapshot;
    enum tristate delta;
    struct command_since *since; /* by channel, each once; see command_find_since */
    size_t since_count;
    struct slice channel;              /* publish: as sent, not yet checked against the grammar */
    struct slice data;                 /* publish: the raw JSON text of `data` */
    uint8_t session[SESSION_ID_BYTES]; /* resume */
    struct slice echo;                 /* ping: the raw JSON text of `echo`, empty when absent */
    void *tree;                        /* private: owns what the slices above borrow */
};

/*
 * Parses one text message. Returns ERR_NONE and fills out, which the caller must release with
 * command_fini; else ERR_BAD_JSON, ERR_BAD_COMMAND or ERR_UNKNOWN_ACTION, with out->id set where
 * it could be read and *why to static text; command_fini is then harmless. text must be valid
 * UTF-8. Unknown members are ignored. Nothing in out borrows from text.
 */
enum error_code command_parse(struct slice text, struct command *out, const char **why);
void command_fini(struct command *c);

/* The position that `since` gives for the channel, or NULL. O(log n). */
const struct command_since *command_find_since(const struct command *c, struct slice channel);

/* Brings `since` into the order that it is looked up in, each channel once. For who fills it. */
void command_order_since(struct command *c);

const char *command_mode_name(enum delivery_mode mode);

#endif
