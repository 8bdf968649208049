/*
 * registry_entry.h - one node in the registry: the fields of its hash, and their JSON form.
 *
 * One table for the node that writes an entry, for the ops API and for tickcastctl. Pure.
 */
#ifndef TICKCAST_PROTOCOL_REGISTRY_ENTRY_H
#define TICKCAST_PROTOCOL_REGISTRY_ENTRY_H

#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>

#define REGISTRY_ID_MAX    64  /* bytes of a node's id, as option node.id has it */
#define REGISTRY_VALUE_MAX 300 /* bytes of a field; an address is the longest of ours */

/* clang-format off */
#define REGISTRY_FIELD_TABLE(X)                                                                    \
    X(ID, "id", false)                   /* the same as in the key */                              \
    X(ADDRESS, "address", false)         /* what others can reach */                               \
    X(OPS, "ops", false)                 /* the ops listener, as bound */                          \
    X(VERSION, "version", false)                                                                   \
    X(STARTED, "started", true)          /* Unix ms */                                             \
    X(STATE, "state", false)             /* starting, ready, draining */                           \
    X(FEED, "feed", false)               /* ok, suspect */                                         \
    X(REASON, "reason", false)           /* why the feed is suspect; else absent */                \
    X(CLIENTS, "clients", true)          /* connected now */                                       \
    X(CAPACITY, "capacity", true)        /* clients that it would take */                          \
    X(CHANNELS, "channels", true)        /* with a subscriber */                                   \
    X(IN_PER_S, "in_per_s", true)        /* publications from Redis */                             \
    X(OUT_PER_S, "out_per_s", true)      /* publications to clients */                             \
    X(ACCEPTS_PER_S, "accepts_per_s", true) /* upgrades */                                         \
    X(CANARY_MS, "canary_ms", true)      /* last round through Redis, rounded up; absent before */ \
    X(PID, "pid", true)                                                                            \
    X(INSTANCE, "instance", false)       /* random, another one for each start */
/* clang-format on */

enum registry_field {
#define REGISTRY_ENUM(symbol, name, is_number) REGISTRY_##symbol,
    REGISTRY_FIELD_TABLE(REGISTRY_ENUM)
#undef REGISTRY_ENUM
        REGISTRY_FIELD_COUNT
};

const char *registry_field_name(enum registry_field field); /* static */
bool registry_field_is_number(enum registry_field field);

/* May this be a node's id? 1 to REGISTRY_ID_MAX bytes of 0-9 A-Z a-z . _ -, neither . nor - in
 * front. */
bool registry_id_is_valid(struct slice id);

/*
 * Scripts that read the registry, one key each. Anybody may write those keys, so they look at
 * types and sizes before anything leaves Redis.
 *
 * list: the ids that still count, by the clock of Redis. KEYS: tc:nodes. ARGV: most ids, longest.
 * read: values of a hash, false for what is not there or too long; nothing at all when the key is
 * something else. KEYS: tc:node:<id>. ARGV: longest value, then the fields' names.
 */
extern const char registry_list_script[];
extern const char registry_read_script[];

/*
 * Appends an entry as a JSON object, numbers as numbers, beginning with the id of its key. values:
 * REGISTRY_FIELD_COUNT of them, ptr NULL where there is none. Anybody may write the hash, so what
 * is not ours is left out: a number that is none, text that is too long or no UTF-8, an id that is
 * another one. False, with nothing appended, when no field but the id is left.
 */
bool registry_entry_json(struct slice id, const struct slice *values, struct buf *out)
    __attribute__((warn_unused_result));

/* How fast a counter rises. Zeroed before its first use. */
struct registry_rate {
    uint64_t count;
    uint64_t at_ms; /* monotonic; 0: never */
    uint64_t per_s;
};

/* Per second since the last reading, rounded; the last rate while that is less than a second old,
 * for a moment says little. 0 at first, and when the counter went back. */
uint64_t registry_rate_read(struct registry_rate *r, uint64_t count, uint64_t now_ms);

#endif
