/*
 * scene.c - see scene.h.
 */
#include "scene.h"

#include "base/map.h"
#include "base/mem.h"
#include "domain/session.h"
#include "protocol/config.h"
#include "unit.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SMALL_BUFFER 4096

/* --- the node ------------------------------------------------------------------------------- */

static void on_interest(void *arg, unsigned worker, struct slice name, bool wanted)
{
    (void)arg;
    (void)worker;
    (void)name;
    (void)wanted;
}

static void on_recover(void *arg, unsigned worker, struct slice name, struct slice epoch,
                       uint64_t seq, uint64_t token)
{
    (void)worker;
    (void)name;
    (void)epoch;
    (void)seq;
    struct scene *n = arg;
    if (n->token_count < SCENE_TOKENS_MAX)
        n->tokens[n->token_count++] = token;
}

struct scene *scene_new(const char *set)
{
    struct scene *n = mem_zalloc(sizeof *n);
    const char *sets[] = {"node.pace_ms=0",
                          "node.id=t",
                          "limits.commands_per_s=1000000",
                          "node.ping_ms=0",
                          "namespace.quote.mode=latest",
                          "namespace.quote.modes=latest all",
                          "namespace.chat.mode=all",
                          set != NULL ? set : "node.heartbeat_ms=0",
                          NULL};
    const struct hub_upstream upstream = {.interest = on_interest, .recover = on_recover, .arg = n};
    lone_node_init(&n->at, sets, &upstream);
    hub_post_feed(n->at.hub, true, NULL);
    n->inflater = ws_inflater_new();
    return n;
}

void scene_free(struct scene *n)
{
    lone_node_end_worker(&n->at);
    lone_node_fini(&n->at);
    ws_inflater_free(n->inflater);
    buf_fini(&n->inflated);
    free(n);
}

void scene_turn(struct scene *n)
{
    lone_node_turn(&n->at);
}

/* --- publications --------------------------------------------------------------------------- */

struct publication *scene_make(struct publication_head head, const char *channel, const char *epoch,
                               uint64_t seq, const char *payload)
{
    head.channel = slice_str(channel);
    head.channel_hash = map_hash(head.channel);
    head.epoch = slice_str(epoch);
    head.seq = seq;
    head.ts_ms = 1;
    head.is_json = true;
    head.cleared = payload == NULL;
    return publication_new(&head, payload != NULL ? slice_str(payload) : (struct slice){0});
}

void scene_publish(struct scene *n, const char *channel, uint64_t seq, const char *payload)
{
    struct publication **list = mem_alloc(sizeof(struct publication *));
    list[0] = scene_make((struct publication_head){0}, channel, "e1", seq, payload);
    hub_post_publications(n->at.hub, list, 1);
}

void scene_live(struct scene *n, const char *channel, uint64_t seq, const char *payload)
{
    struct publication *last =
        seq != 0 ? scene_make((struct publication_head){0}, channel, "e1", seq, payload) : NULL;
    hub_post_live(n->at.hub, slice_str(channel), last, NULL, true);
    if (last != NULL)
        publication_unref(last);
}

/* --- clients -------------------------------------------------------------------------------- */

void scene_connect(struct scene *n, struct scene_client *c, const struct scene_socket *socket)
{
    int pair[2];
    int buffer = socket->buffer != 0 ? socket->buffer : SMALL_BUFFER;
    *c = (struct scene_client){.fd = -1, .deflate = socket->deflate};
    CU_ASSERT_EQUAL_FATAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
    c->fd = pair[0];
    struct buf request = {0};
    buf_printf(&request,
               "GET /ws%s HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
               "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n",
               socket->query, c->deflate ? "Sec-WebSocket-Extensions: permessage-deflate\r\n" : "");
    atomic_fetch_add(&n->at.worker->load, 1);
    worker_give_socket(n->at.worker, pair[1], &(union socket_peer){0});
    CU_ASSERT_EQUAL(write(c->fd, request.data, request.len), (ssize_t)request.len);
    buf_fini(&request);
}

void scene_join_with(struct scene *n, struct scene_client *c, const struct scene_socket *socket)
{
    scene_connect(n, c, socket);
    scene_turn(n);
    scene_turn(n);
}

void scene_join(struct scene *n, struct scene_client *c, const char *query)
{
    scene_join_with(n, c, &(struct scene_socket){.query = query});
}

void scene_leave(struct scene *n, struct scene_client *c)
{
    close(c->fd);
    ws_decoder_fini(&c->decoder);
    buf_fini(&c->in);
    buf_fini(&c->heard);
    scene_turn(n);
    scene_turn(n);
}

void scene_say(struct scene_client *c, const char *text)
{
    struct buf frame = {0};
    ws_encode_masked(&frame, WS_OP_TEXT, true, slice_str(text), 7);
    CU_ASSERT_EQUAL(write(c->fd, frame.data, frame.len), (ssize_t)frame.len);
    buf_fini(&frame);
}

static void decode(struct scene *n, struct scene_client *c)
{
    const struct ws_decoder_config config = {.deflate = c->deflate,
                                             .message_bytes = 1 << 24,
                                             .inflater = n->inflater,
                                             .inflated = &n->inflated};
    enum ws_event event;
    do {
        struct ws_message m = {0};
        size_t used = 0;
        event = ws_decoder_next(&c->decoder, &config, (uint8_t *)c->in.data, c->in.len, &used, &m);
        if (event == WS_MESSAGE) {
            buf_append(&c->heard, m.payload.ptr, m.payload.len);
            buf_append(&c->heard, "\n", 1);
        } else if (event == WS_CLOSE) {
            buf_printf(&c->heard, "close %u\n", m.code);
        }
        buf_consume(&c->in, used);
    } while (event != WS_NEED_MORE && event != WS_CLOSE && event != WS_ERROR);
}

bool scene_take(struct scene *n, struct scene_client *c)
{
    ssize_t len = read(c->fd, buf_reserve(&c->in, 65536), 65536);
    if (len <= 0)
        return false;
    c->in.len += (size_t)len;
    c->bytes += (uint64_t)len;
    if (!c->upgraded) {
        const char *end = memmem(c->in.data, c->in.len, "\r\n\r\n", 4);
        if (end == NULL)
            return true;
        buf_consume(&c->in, (size_t)(end + 4 - c->in.data));
        c->upgraded = true;
    }
    decode(n, c);
    return true;
}

const char *scene_hear(struct scene *n, struct scene_client *c)
{
    for (int quiet = 0; quiet < 4; quiet++) {
        scene_turn(n);
        if (scene_take(n, c))
            quiet = 0;
    }
    *buf_reserve(&c->heard, 1) = '\0';
    return c->heard.data;
}

void scene_forget(struct scene_client *c)
{
    buf_clear(&c->heard);
}

unsigned scene_count(const char *text, const char *what)
{
    unsigned count = 0;
    for (const char *at = text; (at = strstr(at, what)) != NULL; at++)
        count++;
    return count;
}
