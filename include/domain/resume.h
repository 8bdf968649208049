/*
 * resume.h - sessions that outlive their connection: a client comes back in one message.
 *
 *      ?session=new            the session gets an id, told in hello
 *      the connection ends     what is subscribed, with positions, goes to the session store,
 *                              unless client or operator meant it to end
 *      resume, ?session=<id>   the store gives it back, once; then it is a subscribe like any other
 *                              with `since`, and its one ack
 *
 * An id costs 16 bytes beside those clients that have one; others cost nothing. Owner: the
 * worker's thread, except resume_post_answer.
 */
#ifndef TICKCAST_DOMAIN_RESUME_H
#define TICKCAST_DOMAIN_RESUME_H

#include "domain/session.h"
#include "domain/session_store.h"
#include "protocol/session_state.h"

/* What a request that resumes a session must say in its ack. */
struct resume_ack {
    bool resumed;
};

/* Gives the session an id of its own. False: there are no sessions here. */
bool resume_open(struct session *s);

/* Writes the session's id; "" where it has none. */
void resume_id_text(const struct session *s, char text[SESSION_ID_TEXT]);

/* Asks the store for a session. Takes what the command holds; it is answered with one ack. */
void resume_begin(struct session *s, struct command *command);

/* The same from the URL: id is valid; channels is a comma-separated list, or empty. */
void resume_begin_url(struct session *s, struct slice id, struct slice channels);

/* Appends what the ack of a resume says more than another. */
void resume_append_ack(struct buf *ack, const struct sub_request *r);

/* Its connection is about to be closed on purpose, with everything settled: writes it out, so that
 * positions are exact. False: that failed, and the session is gone. */
bool resume_flush(struct session *s);

/* First thing of a session's end: stores it, where the client may come back. */
void resume_on_end(struct session *s);

/* From the main thread: the answer to session_store_post_take. text is copied. */
void resume_post_answer(struct hub *h, uint64_t token, const uint8_t id[SESSION_ID_BYTES],
                        enum session_take result, struct slice text);

#endif
