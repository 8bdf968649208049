/*
 * scene.h - a lone node played step by step: clients on socket pairs, publications of every kind,
 * and what each client hears.
 */
#ifndef TICKCAST_TESTS_SCENE_H
#define TICKCAST_TESTS_SCENE_H

#include "base/buf.h"
#include "domain/hub.h"
#include "lone_node.h"
#include "protocol/publication.h"
#include "protocol/ws_codec.h"

#include <stdbool.h>
#include <stdint.h>

enum { SCENE_TOKENS_MAX = 64 };

struct scene {
    struct lone_node at;
    struct ws_inflater *inflater;
    struct buf inflated;
    uint64_t tokens[SCENE_TOKENS_MAX]; /* questions for the bus, in order */
    unsigned token_count;
};

struct scene_client {
    int fd;
    bool upgraded;
    bool deflate; /* offered, and so agreed */
    struct buf in;
    struct ws_decoder decoder;
    struct buf heard; /* all messages, a line each */
    uint64_t bytes;   /* read off the socket */
};

/* Without pace or pings; quote: of mode latest, or all where that is asked for, chat: of mode all.
 * set: one more option, or NULL. Returns owned. */
struct scene *scene_new(const char *set);
void scene_free(struct scene *n);

void scene_turn(struct scene *n); /* of the node's loop */

/* --- publications --------------------------------------------------------------------------- */

/* payload NULL: the value is cleared; seq 0: a plain message. Returns owned. */
struct publication *scene_make(struct publication_head head, const char *channel, const char *epoch,
                               uint64_t seq, const char *payload);
void scene_publish(struct scene *n, const char *channel, uint64_t seq, const char *payload);
void scene_live(struct scene *n, const char *channel, uint64_t seq, const char *payload);

/* --- clients -------------------------------------------------------------------------------- */

struct scene_socket {
    const char *query;
    int buffer; /* of the node's socket: what it takes that is not read; 0: 4 KiB */
    bool deflate;
};

/* Comes to the node in its next turn, with its request. */
void scene_connect(struct scene *n, struct scene_client *c, const struct scene_socket *socket);

/* The same, and the turns until it is upgraded. */
void scene_join(struct scene *n, struct scene_client *c, const char *query);
void scene_join_with(struct scene *n, struct scene_client *c, const struct scene_socket *socket);
void scene_leave(struct scene *n, struct scene_client *c);

/* Written now, read by the node in its next turn. */
void scene_say(struct scene_client *c, const char *text);

/* Reads once. False when there was nothing. */
bool scene_take(struct scene *n, struct scene_client *c);

/* Reads until nothing more comes. Returns all that was heard since scene_forget, ended by a zero. */
const char *scene_hear(struct scene *n, struct scene_client *c);
void scene_forget(struct scene_client *c);

unsigned scene_count(const char *text, const char *what); /* how often is it in there? */

#endif
