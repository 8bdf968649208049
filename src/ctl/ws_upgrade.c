/*
 * ws_upgrade.c - asking for a WebSocket, and checking that this is what one got.
 *
 * Everything the server may grant was asked for here, so that an answer with anything else is
 * refused (RFC 6455, 4.1). permessage-deflate is only taken without context takeover in the
 * server's direction: the inflater keeps no window between messages.
 */
#include "ctl/ws_upgrade.h"

#include "protocol/http_head.h"
#include "protocol/ws_handshake.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define KEY_BYTES 16 /* RFC 6455, 4.1 */

static void make_key(struct rng *rng, char out[25])
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    /* 16 bytes are 21 whole groups of 6 bits, 2 bits in a last one, and two signs of padding. */
    size_t at = 0;
    for (; at < KEY_BYTES * 8 / 6; at++)
        out[at] = alphabet[rng_below(rng, 64)];
    out[at++] = alphabet[rng_below(rng, 4) << 4];
    memcpy(out + at, "==", 3);
}

void ws_upgrade_request(struct ws_upgrade *up, struct rng *rng, struct slice authority,
                        struct slice target, struct buf *out)
{
    make_key(rng, up->key);
    buf_append_str(out, "GET ");
    buf_append(out, target.ptr, target.len);
    buf_append_str(out, " HTTP/1.1\r\nHost: ");
    buf_append(out, authority.ptr, authority.len);
    buf_append_str(out, "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ");
    buf_append_str(out, up->key);
    if (up->subprotocol != NULL) {
        buf_append_str(out, "\r\nSec-WebSocket-Protocol: ");
        buf_append_str(out, up->subprotocol);
    }
    if (up->deflate)
        buf_append_str(out, "\r\nSec-WebSocket-Extensions: permessage-deflate; "
                            "server_no_context_takeover; client_no_context_takeover");
    buf_append_str(out, "\r\n\r\n");
}

static struct slice trim(struct slice s)
{
    while (s.len > 0 && (*s.ptr == ' ' || *s.ptr == '\t'))
        s = slice_of(s.ptr + 1, s.len - 1);
    while (s.len > 0 && (s.ptr[s.len - 1] == ' ' || s.ptr[s.len - 1] == '\t'))
        s.len--;
    return s;
}

/* Cuts off what stands before a mark, or everything; the mark is dropped. */
static struct slice cut_at(struct slice *left, const char *mark)
{
    size_t mark_len = strlen(mark);
    const char *found = left->len != 0 ? memmem(left->ptr, left->len, mark, mark_len) : NULL;
    if (found == NULL) {
        struct slice all = *left;
        *left = slice_of(left->ptr + left->len, 0);
        return all;
    }
    struct slice part = slice_of(left->ptr, (size_t)(found - left->ptr));
    *left = slice_of(found + mark_len, left->len - part.len - mark_len);
    return part;
}

/* The value of the first field of that name, behind the status line; NULL ptr when absent. */
static struct slice find_field(struct slice head, const char *name)
{
    cut_at(&head, "\r\n");
    while (head.len > 0) {
        struct slice line = cut_at(&head, "\r\n");
        struct slice key = cut_at(&line, ":");
        if (http_name_is(key, name))
            return trim(line);
    }
    return slice_of(NULL, 0);
}

static bool has_token(struct slice list, const char *token)
{
    while (list.len > 0) {
        if (http_name_is(trim(cut_at(&list, ",")), token))
            return true;
    }
    return false;
}

/* Is this answer one that we asked for, and can read? RFC 7692, 7.1 */
static bool judge_extension(struct ws_upgrade *up, struct slice value)
{
    bool forgets = false;
    if (!up->deflate || !http_name_is(trim(cut_at(&value, ";")), "permessage-deflate"))
        return false;
    while (value.len > 0) {
        struct slice parameter = trim(cut_at(&value, ";"));
        struct slice name = trim(cut_at(&parameter, "="));
        if (http_name_is(name, "server_no_context_takeover"))
            forgets = true;
        else if (!http_name_is(name, "client_no_context_takeover") &&
                 !http_name_is(name, "server_max_window_bits"))
            return false;
    }
    up->has_deflate = forgets;
    return forgets;
}

static enum ws_upgrade_result bad(struct ws_upgrade *up, const char *what)
{
    snprintf(up->error, sizeof up->error, "the answer to the upgrade %s", what);
    return WS_UPGRADE_BAD;
}

static enum ws_upgrade_result judge_fields(struct ws_upgrade *up, struct slice head)
{
    char accept[29];
    ws_handshake_accept_key(slice_str(up->key), accept);
    if (!http_name_is(find_field(head, "Upgrade"), "websocket") ||
        !has_token(find_field(head, "Connection"), "Upgrade"))
        return bad(up, "is no upgrade to WebSocket");
    struct slice given = find_field(head, "Sec-WebSocket-Accept");
    if (given.ptr == NULL || !slice_is(given, accept))
        return bad(up, "does not belong to our key");
    struct slice subprotocol = find_field(head, "Sec-WebSocket-Protocol");
    const char *wanted = up->subprotocol != NULL ? up->subprotocol : "";
    if (subprotocol.ptr != NULL ? !slice_is(subprotocol, wanted) : *wanted != '\0')
        return bad(up, "has another subprotocol than we asked for");
    struct slice extension = find_field(head, "Sec-WebSocket-Extensions");
    if (extension.ptr != NULL && !judge_extension(up, extension))
        return bad(up, "has extensions that we did not ask for");
    return WS_UPGRADE_DONE;
}

/* What Content-Length says. A number that is none, or too large to matter, is taken as not said. */
static size_t body_bytes_of(struct slice head)
{
    struct slice value = find_field(head, "Content-Length");
    size_t bytes = 0;
    if (value.len == 0 || value.len > 9)
        return SIZE_MAX;
    for (size_t i = 0; i < value.len; i++) {
        if (value.ptr[i] < '0' || value.ptr[i] > '9')
            return SIZE_MAX;
        bytes = bytes * 10 + (size_t)(value.ptr[i] - '0');
    }
    return bytes;
}

enum ws_upgrade_result ws_upgrade_judge(struct ws_upgrade *up, struct slice head)
{
    struct slice rest = head;
    struct slice line = cut_at(&rest, "\r\n");
    if (line.len < 12 || memcmp(line.ptr, "HTTP/1.1 ", 9) != 0)
        return bad(up, "is not HTTP/1.1");
    if (memcmp(line.ptr + 9, "101", 3) != 0) {
        snprintf(up->error, sizeof up->error, "%.*s", (int)(line.len - 9), line.ptr + 9);
        up->body_bytes = body_bytes_of(head);
        return WS_UPGRADE_REFUSED;
    }
    return judge_fields(up, head);
}
