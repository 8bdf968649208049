/*
 * scripted_redis.h - a Redis that does only what a test tells it to, and a link that dials it.
 *
 * Both live in one event loop. The server listens on a port of the kernel's choice; what the link
 * calls back is written down as text. Nothing waits longer than PATIENCE_MS.
 */
#ifndef TICKCAST_TESTS_SCRIPTED_REDIS_H
#define TICKCAST_TESTS_SCRIPTED_REDIS_H

#include "base/buf.h"
#include "runtime/redis_link.h"

#include <event2/util.h>

#include <stdbool.h>
#include <stdint.h>

#define PATIENCE_MS 5000 /* before a test gives up */
#define HELLO       "*3\r\n$6\r\nCLIENT\r\n$7\r\nSETNAME\r\n$8\r\ntickcast\r\n"
#define MESSAGE     "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$5\r\nhello\r\n"

enum { PAYLOAD_BYTES = 64 };

/* Where, if anywhere, a callback does something to its own link. */
enum place { AT_NONE, AT_UP, AT_DOWN, AT_DIAL_FAILED, AT_MESSAGE, AT_ERROR, AT_READ_END, AT_REPLY };
enum deed { DO_FREE, DO_RESET, DO_SUBSCRIBE, DO_COMMAND };

struct world {
    struct event_base *base;
    struct evdns_base *dns;
    struct redis_link_config config;
    struct redis_link *link;
    struct buf calls; /* what the link called, "name detail;" each */
    enum place place;
    enum deed deed;

    int listener;
    struct event *accepting;
    int fd; /* the accepted connection, -1 when none */
    struct event *reading;
    bool is_gone; /* the link closed its end */
    struct buf received;
    unsigned accepted;
    uint64_t accepted_ms[64];
    bool is_slammer; /* closes what it accepts */
};

void on_reply(void *arg, const struct redis_reply_view *reply);
void command(struct world *w, const char *name);
void on_dial_failed(void *arg, const char *reason);
void server_hang_up(struct world *w);
void server_accept(evutil_socket_t fd, short what, void *arg);
void server_send(struct world *w, const char *text, size_t len);
void server_say(struct world *w, const char *text);
void server_listen(struct world *w);
void server_close(struct world *w);
void world_open(struct world *w, bool is_subscriber);
void world_dial(struct world *w);
void world_close(struct world *w);
bool pump(struct world *w, bool (*is_done)(struct world *w), unsigned ms);
bool has_bytes(const struct buf *b, const char *text);
bool is_accepted(struct world *w);
bool await_received(struct world *w, const char *text);
bool await_call(struct world *w, const char *text);
unsigned count_calls(const struct world *w, const char *text);
bool is_noted(const struct world *w, const char *expected);
void world_up(struct world *w, bool is_subscriber);

#endif
