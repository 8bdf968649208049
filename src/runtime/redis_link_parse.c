/*
 * redis_link_parse.c - hiredis's reader with reply functions of our own. Main thread.
 *
 * The reader tells us of each value as it completes, with its place in the tree above it. On a
 * subscriber link nothing is built from that: of an array of three or four we note what it is and
 * on which channel, and its last element, while it still lies in the reader's buffer, is handed
 * out. On a command link the values become nodes of a redis_tree.
 *
 *      *3 $7 message $2 ch $5 hello          *4 $8 pmessage $2 c* $2 ch $5 hello
 *           kind       channel  payload           kind           channel  payload
 *
 * The reader would buffer a bulk of any length. So whenever it stops for want of bytes we look at
 * what it waits for: a complete line that it left in the buffer can only be the length of a bulk.
 * A payload that is too long is then skipped: the reader is thrown away, the bytes of the bulk are
 * counted off, and a new reader goes on behind them. So is the name of a channel that a pattern
 * brings, which may be of any length, too; its payload then stands alone, and is passed over.
 *
 * Returning NULL from a reply function makes the reader fail; that is how parsing is stopped.
 */
#include "runtime/redis_link_parse.h"

#include "base/mem.h"
#include "runtime/redis_link_tree.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    FEED_BYTES = 16 * 1024,     /* the reader moves its remainder for every KiB consumed */
    IDLE_BYTES = 64 * 1024,     /* buffer that an idle reader may keep */
    CHANNEL_MAX = 512,          /* longest channel name handed out */
    NAME_MAX_BYTES = 64 * 1024, /* longest line, and longest bulk that is no payload */
    DEPTH_MAX = 7,              /* nested arrays; what every hiredis can do */
    HEADER_MAX = 1 + 20 + 2,    /* "$", the digits of 2^63, CRLF */
};

#define BULK_MAX (INT64_C(1) << 32) /* Redis's own limit is 512 MiB unless raised */

enum push_kind { PUSH_NONE, PUSH_MESSAGE, PUSH_SUBSCRIBED, PUSH_UNSUBSCRIBED };

/* What the array being read on a subscriber link has told so far. */
struct push {
    enum push_kind kind;
    size_t elements;  /* 3 or 4, else 0: nothing of ours */
    size_t complete;  /* elements read */
    bool has_channel; /* false also when the name is too long */
    size_t channel_len;
    char channel[CHANNEL_MAX];
};

struct redis_parse {
    redisReader *reader;
    const struct redis_parse_ops *ops;
    void *arg;
    size_t payload_bytes;
    bool is_subscriber;
    bool is_stopped;
    uint64_t skip_bytes; /* of the stream, before the next reply */
    bool is_orphaned;    /* which is the payload of a message whose channel's name was skipped */
    struct push push;
    struct redis_tree tree;
    const char *why; /* a reason of our own; NULL: the reader's */
    char reader_why[128];
};

static const struct {
    const char *name;
    size_t elements;
    enum push_kind kind;
} push_kinds[] = {
    {"message", 3, PUSH_MESSAGE},          {"pmessage", 4, PUSH_MESSAGE},
    {"subscribe", 3, PUSH_SUBSCRIBED},     {"psubscribe", 3, PUSH_SUBSCRIBED},
    {"unsubscribe", 3, PUSH_UNSUBSCRIBED},
};

static struct redis_parse *parser_of(const redisReadTask *task)
{
    return task->privdata;
}

/* The reader takes NULL for "out of memory" and fails; why says what it really is. */
static void *refuse(struct redis_parse *p, const char *why)
{
    p->why = why;
    return NULL;
}

static bool is_depth_legal(const redisReadTask *task)
{
    int depth = 1;
    while ((task = task->parent) != NULL)
        depth++;
    return depth <= DEPTH_MAX;
}

/* === Subscriber links ========================================================================= */

static struct slice push_channel(const struct push *push)
{
    return slice_of(push->channel, push->channel_len);
}

static enum push_kind push_kind_of(struct slice name, size_t elements)
{
    for (size_t i = 0; i < sizeof push_kinds / sizeof *push_kinds; i++) {
        if (push_kinds[i].elements == elements && slice_is(name, push_kinds[i].name))
            return push_kinds[i].kind;
    }
    return PUSH_NONE;
}

static void push_hand_out(struct redis_parse *p, struct slice payload)
{
    if (payload.len > p->payload_bytes)
        p->ops->on_oversize(p->arg, push_channel(&p->push), payload.len);
    else
        p->ops->on_message(p->arg, push_channel(&p->push), payload);
}

static void push_keep_channel(struct push *push, struct slice name)
{
    if (name.len > sizeof push->channel)
        return;
    memcpy(push->channel, name.ptr, name.len);
    push->channel_len = name.len;
    push->has_channel = true;
}

static void push_add_text(struct redis_parse *p, size_t at, struct slice text)
{
    struct push *push = &p->push;
    if (at == 0)
        push->kind = push_kind_of(text, push->elements);
    else if (push->kind != PUSH_NONE && at == push->elements - 2)
        push_keep_channel(push, text);
    else if (push->kind == PUSH_MESSAGE && at == push->elements - 1 && push->has_channel)
        push_hand_out(p, text);
}

static void push_add_number(struct redis_parse *p, size_t at)
{
    const struct push *push = &p->push;
    if (!push->has_channel || at != push->elements - 1)
        return;
    if (push->kind == PUSH_SUBSCRIBED)
        p->ops->on_subscribed(p->arg, push_channel(push));
    else if (push->kind == PUSH_UNSUBSCRIBED)
        p->ops->on_unsubscribed(p->arg, push_channel(push));
}

/* True, with its place in *at, for an element of an array that may be one of ours. */
static bool push_is_element(struct redis_parse *p, const redisReadTask *task, size_t *at)
{
    if (task->parent == NULL || task->parent->parent != NULL || p->push.elements == 0)
        return false;
    *at = (size_t)task->idx;
    p->push.complete = *at + 1;
    return true;
}

/* Any value but NULL does: the reader only hands it back. */
static void *sub_done(struct redis_parse *p)
{
    return p->is_stopped ? NULL : p;
}

static void *sub_string(const redisReadTask *task, char *str, size_t len)
{
    struct redis_parse *p = parser_of(task);
    size_t at;
    if (push_is_element(p, task, &at)) {
        push_add_text(p, at, slice_of(str, len));
    } else if (task->parent == NULL && p->is_orphaned) {
        p->is_orphaned = false;
    } else if (task->parent == NULL) {
        bool is_error = task->type == REDIS_REPLY_ERROR;
        const struct redis_reply_view reply = {
            .kind = is_error ? REDIS_REPLIED_ERROR : REDIS_REPLIED_TEXT,
            .text = slice_of(str, len),
        };
        p->ops->on_reply(p->arg, &reply);
    }
    return sub_done(p);
}

static void *sub_integer(const redisReadTask *task, long long number)
{
    struct redis_parse *p = parser_of(task);
    size_t at;
    if (push_is_element(p, task, &at)) {
        push_add_number(p, at);
    } else if (task->parent == NULL) {
        const struct redis_reply_view reply = {.kind = REDIS_REPLIED_INT, .number = number};
        p->ops->on_reply(p->arg, &reply);
    }
    return sub_done(p);
}

static void *sub_nil(const redisReadTask *task)
{
    struct redis_parse *p = parser_of(task);
    size_t at;
    if (!push_is_element(p, task, &at) && task->parent == NULL) {
        const struct redis_reply_view reply = {.kind = REDIS_REPLIED_NIL};
        p->ops->on_reply(p->arg, &reply);
    }
    return sub_done(p);
}

static void *sub_array_of(const redisReadTask *task, size_t elements)
{
    struct redis_parse *p = parser_of(task);
    if (!is_depth_legal(task))
        return refuse(p, "a reply is nested too deep");
    size_t at;
    if (task->parent == NULL) {
        p->push.kind = PUSH_NONE;
        p->push.elements = elements == 3 || elements == 4 ? elements : 0;
        p->push.complete = 0;
        p->push.has_channel = false;
    } else if (push_is_element(p, task, &at)) {
        p->push.kind = PUSH_NONE; /* or what is inside would be taken for the payload */
    }
    return sub_done(p);
}

/* === Command links ============================================================================ */

static struct redis_reply_view *tree_place(struct redis_parse *p, const redisReadTask *task)
{
    if (task->parent == NULL)
        return redis_tree_nodes(&p->tree, 1);
    /* The nodes are ours and writable; only those who are shown the finished reply may not. */
    struct redis_reply_view *parent = task->parent->obj;
    return (struct redis_reply_view *)&parent->elements[task->idx];
}

static void *tree_string(const redisReadTask *task, char *str, size_t len)
{
    struct redis_parse *p = parser_of(task);
    if (len > p->payload_bytes && task->type == REDIS_REPLY_STRING)
        return refuse(p, "reply too large");
    struct redis_reply_view *node = tree_place(p, task);
    if (node == NULL || !redis_tree_copy(&p->tree, slice_of(str, len), &node->text))
        return refuse(p, "reply too large");
    node->kind = task->type == REDIS_REPLY_ERROR ? REDIS_REPLIED_ERROR : REDIS_REPLIED_TEXT;
    return node;
}

static void *tree_integer(const redisReadTask *task, long long number)
{
    struct redis_parse *p = parser_of(task);
    struct redis_reply_view *node = tree_place(p, task);
    if (node == NULL)
        return refuse(p, "reply too large");
    node->kind = REDIS_REPLIED_INT;
    node->number = number;
    return node;
}

static void *tree_nil(const redisReadTask *task)
{
    struct redis_parse *p = parser_of(task);
    struct redis_reply_view *node = tree_place(p, task);
    if (node == NULL)
        return refuse(p, "reply too large");
    node->kind = REDIS_REPLIED_NIL;
    return node;
}

static void *tree_array_of(const redisReadTask *task, size_t elements)
{
    struct redis_parse *p = parser_of(task);
    if (!is_depth_legal(task))
        return refuse(p, "a reply is nested too deep");
    struct redis_reply_view *node = tree_place(p, task);
    struct redis_reply_view *nodes = redis_tree_nodes(&p->tree, elements);
    if (node == NULL || nodes == NULL)
        return refuse(p, "reply too large");
    node->kind = REDIS_REPLIED_ARRAY;
    node->number = (long long)elements;
    node->elements = nodes;
    return node;
}

/* === The reader =============================================================================== */

/* All that we gave the reader belongs to the parser. */
static void free_nothing(void *obj)
{
    (void)obj;
}

#if HIREDIS_MAJOR >= 1

static void *sub_array(const redisReadTask *task, size_t elements)
{
    return sub_array_of(task, elements);
}

static void *tree_array(const redisReadTask *task, size_t elements)
{
    return tree_array_of(task, elements);
}

/* RESP3 was not asked for, so its types are as wrong as any other stray byte. */
static void *no_double(const redisReadTask *task, double number, char *str, size_t len)
{
    (void)number, (void)str, (void)len;
    return refuse(parser_of(task), "a reply of an unknown type");
}

static void *no_bool(const redisReadTask *task, int is_true)
{
    (void)is_true;
    return refuse(parser_of(task), "a reply of an unknown type");
}

#define REPLY_FUNCTIONS(prefix)                                                                  \
    {                                                                                            \
        .createString = prefix##_string, .createArray = prefix##_array,                          \
        .createInteger = prefix##_integer, .createNil = prefix##_nil, .createDouble = no_double, \
        .createBool = no_bool, .freeObject = free_nothing                                        \
    }

#else

static void *sub_array(const redisReadTask *task, int elements)
{
    return sub_array_of(task, (size_t)elements);
}

static void *tree_array(const redisReadTask *task, int elements)
{
    return tree_array_of(task, (size_t)elements);
}

#define REPLY_FUNCTIONS(prefix)                                                                  \
    {                                                                                            \
        .createString = prefix##_string, .createArray = prefix##_array,                          \
        .createInteger = prefix##_integer, .createNil = prefix##_nil, .freeObject = free_nothing \
    }

#endif

/* Not const: the reader takes a plain pointer, but never writes through it. */
static redisReplyObjectFunctions sub_functions = REPLY_FUNCTIONS(sub);
static redisReplyObjectFunctions tree_functions = REPLY_FUNCTIONS(tree);

static void open_reader(struct redis_parse *p)
{
    p->reader = redisReaderCreateWithFunctions(p->is_subscriber ? &sub_functions : &tree_functions);
    if (p->reader == NULL) {
        fputs("tickcast: out of memory for a Redis reader\n", stderr);
        abort();
    }
    p->reader->privdata = p;
    p->reader->maxbuf = IDLE_BYTES;
    p->push.elements = 0;
}

struct redis_parse *redis_parse_new(bool is_subscriber, size_t payload_bytes,
                                    const struct redis_parse_ops *ops, void *arg)
{
    struct redis_parse *p = mem_zalloc(sizeof *p);
    p->is_subscriber = is_subscriber;
    p->payload_bytes = payload_bytes;
    p->ops = ops;
    p->arg = arg;
    open_reader(p);
    return p;
}

void redis_parse_set_payload_bytes(struct redis_parse *p, size_t payload_bytes)
{
    p->payload_bytes = payload_bytes;
}

void redis_parse_free(struct redis_parse *p)
{
    if (p == NULL)
        return;
    redisReaderFree(p->reader);
    redis_tree_fini(&p->tree);
    free(p);
}

void redis_parse_reset(struct redis_parse *p)
{
    redisReaderFree(p->reader);
    redis_tree_clear(&p->tree);
    p->is_stopped = false;
    p->skip_bytes = 0;
    p->is_orphaned = false;
    p->why = NULL;
    open_reader(p);
}

void redis_parse_stop(struct redis_parse *p)
{
    p->is_stopped = true;
}

/* === Bytes in ================================================================================= */

/* The length of the bulk that the reader, out of bytes, is waiting for, and in *header_bytes where
 * the bulk begins behind what is left; -1 when it waits for something else. The reader has consumed
 * the type's byte by then, but does not promise to. */
static int64_t awaited_bulk(const redisReader *r, size_t *header_bytes)
{
    const char *left = r->buf + r->pos;
    size_t len = r->len - r->pos;
    size_t at = len > 0 && left[0] == '$' ? 1 : 0;
    int64_t bytes = 0;
    size_t digits = 0;
    for (; at < len && at < HEADER_MAX && left[at] >= '0' && left[at] <= '9'; at++, digits++) {
        if (bytes <= BULK_MAX)
            bytes = bytes * 10 + (left[at] - '0');
    }
    if (digits == 0 || len - at < 2 || left[at] != '\r' || left[at + 1] != '\n')
        return -1;
    *header_bytes = at + 2;
    return bytes;
}

static bool is_payload_next(const struct push *push)
{
    return push->elements > 0 && push->kind == PUSH_MESSAGE && push->complete == push->elements - 1;
}

/* Of a message that matched a pattern. */
static bool is_foreign_name_next(const struct push *push)
{
    return push->elements == 4 && push->kind == PUSH_MESSAGE && push->complete == 2;
}

/* All that is left in the reader is the head of the bulk and a part of it. */
static void skip_bulk(struct redis_parse *p, uint64_t bytes, size_t header_bytes)
{
    size_t in_reader = p->reader->len - p->reader->pos - header_bytes;
    p->skip_bytes = bytes + 2 - in_reader;
    redisReaderFree(p->reader);
    open_reader(p);
    if (p->push.has_channel)
        p->ops->on_oversize(p->arg, push_channel(&p->push), bytes);
    else if (p->is_orphaned)
        p->ops->on_oversize(p->arg, slice_str(""), bytes);
}

/* Bounds what the reader may go on collecting. False: the stream is refused. */
static bool check_awaited(struct redis_parse *p)
{
    size_t header_bytes = 0;
    int64_t bytes = awaited_bulk(p->reader, &header_bytes);
    if (bytes < 0) {
        if (p->reader->len - p->reader->pos <= NAME_MAX_BYTES)
            return true;
        p->why = "protocol error: a line is too long";
        return false;
    }
    if (bytes > BULK_MAX) {
        p->why = "protocol error: a bulk is too long";
        return false;
    }
    bool is_payload = p->is_subscriber && (p->is_orphaned || is_payload_next(&p->push));
    bool is_name = p->is_subscriber && is_foreign_name_next(&p->push);
    size_t limit = p->is_subscriber && !is_payload ? NAME_MAX_BYTES : p->payload_bytes;
    if ((uint64_t)bytes <= limit)
        return true;
    if (!is_payload && !is_name) {
        p->why = p->is_subscriber ? "protocol error: a name is too long" : "reply too large";
        return false;
    }
    p->is_orphaned = is_name;
    skip_bulk(p, (uint64_t)bytes, header_bytes);
    return true;
}

/* Hands out every reply that is complete in the reader. */
static bool drain_reader(struct redis_parse *p)
{
    void *reply;
    for (;;) {
        if (redisReaderGetReply(p->reader, &reply) != REDIS_OK)
            return false;
        if (reply == NULL)
            return check_awaited(p) && !p->is_stopped;
        if (p->is_subscriber)
            continue;
        p->ops->on_reply(p->arg, reply);
        redis_tree_clear(&p->tree);
        if (p->is_stopped)
            return false;
    }
}

static const char *reason_of(struct redis_parse *p)
{
    if (p->is_stopped)
        return "stopped";
    if (p->why != NULL)
        return p->why;
    snprintf(p->reader_why, sizeof p->reader_why, "%s", p->reader->errstr);
    return p->reader_why;
}

bool redis_parse_feed(struct redis_parse *p, const char *bytes, size_t len, const char **why)
{
    bool is_sound = !p->is_stopped && p->why == NULL;
    while (is_sound && len > 0) {
        size_t count = len < FEED_BYTES ? len : FEED_BYTES;
        if (p->skip_bytes > 0) {
            count = count < p->skip_bytes ? count : (size_t)p->skip_bytes;
            p->skip_bytes -= count;
        } else {
            is_sound = redisReaderFeed(p->reader, bytes, count) == REDIS_OK && drain_reader(p);
        }
        bytes += count;
        len -= count;
    }
    if (!is_sound)
        *why = reason_of(p);
    return is_sound;
}
