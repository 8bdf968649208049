/*
 * notes.h - the sessions whose next item of a channel is their own affair.
 *
 * On a quiet channel that is everybody who came since its last publication, so a session's note is
 * found by an index, which is made when many notes are first searched: subscribing only adds.
 *
 *      list    [ s7 | s2 | s9 | s4 ]      dense, in no order
 *      index   . 3 . . 1 4 . 2            places in the list from 1 on, by the session's address
 *
 * A zeroed struct is empty and holds no memory. Owner: the worker's thread.
 */
#ifndef TICKCAST_DOMAIN_NOTES_H
#define TICKCAST_DOMAIN_NOTES_H

#include "domain/standing.h"

#include <stdint.h>

#define NOTES_NONE UINT32_MAX

struct session;

/* It has had no item yet, so that one must carry the epoch, or its snapshot is newer than what the
 * others of its cohort have. */
struct channel_note {
    struct session *session;
    struct standing at; /* items up to at.seen are skipped */
};

struct notes {
    struct channel_note *list;
    uint32_t count;
    uint32_t cap;
    uint32_t *index;    /* index_cap slots; 0: empty. NULL: not made */
    uint32_t index_cap; /* a power of two, at least twice count */
};

/* The session must have no note here. Takes what `at` owns. */
void notes_add(struct notes *n, struct session *session, const struct standing *at);

/* The place of a session's note in the list, or NOTES_NONE. */
uint32_t notes_find(struct notes *n, const struct session *session);

/* Takes a note out; what its standing owns is the caller's. The last one moves into its place. */
void notes_remove(struct notes *n, uint32_t place);

void notes_fini(struct notes *n); /* must own no standing any more */

#endif
