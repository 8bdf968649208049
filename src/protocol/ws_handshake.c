/*
 * ws_handshake.c - the opening handshake, server side.
 *
 * Pure. The list of extensions is parsed by its grammar (RFC 6455, 9.1) to its end, because a
 * broken one refuses the request whatever came before; a permessage-deflate offer in it is judged
 * parameter by parameter as it is read. Only what makes an offer legal is looked at; what the
 * client may do with its own window is no concern of an inflater that accepts any.
 */
#include "protocol/ws_handshake.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#define ACCEPT_GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11" /* RFC 6455, 1.3 */
#define SHA1_BYTES  20
#define KEY_BYTES   24 /* 16 bytes in base64, two of them padding */
#define WINDOW_BITS 15 /* where the client asks for nothing else */
#define BEARER_MARK "bearer."
#define EXTENSION   "permessage-deflate"
#define NO_TAKEOVER "server_no_context_takeover; client_no_context_takeover"

/* --- key ---------------------------------------------------------------------------------- */

void ws_handshake_accept_key(struct slice key, char out[29])
{
    unsigned char digest[EVP_MAX_MD_SIZE] = {0};
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    bool ok = md != NULL && EVP_DigestInit_ex(md, EVP_sha1(), NULL) == 1 &&
              EVP_DigestUpdate(md, key.ptr, key.len) == 1 &&
              EVP_DigestUpdate(md, ACCEPT_GUID, strlen(ACCEPT_GUID)) == 1 &&
              EVP_DigestFinal_ex(md, digest, NULL) == 1;
    EVP_MD_CTX_free(md);
    out[0] = '\0'; /* matches no answer */
    if (ok)
        EVP_EncodeBlock((unsigned char *)out, digest, SHA1_BYTES);
}

static bool is_base64_char(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '+' ||
           c == '/';
}

static bool is_key(struct slice s)
{
    if (s.len != KEY_BYTES || memcmp(s.ptr + KEY_BYTES - 2, "==", 2) != 0)
        return false;
    for (size_t i = 0; i < KEY_BYTES - 2; i++) {
        if (!is_base64_char(s.ptr[i]))
            return false;
    }
    return true;
}

/* --- subprotocols ------------------------------------------------------------------------- */

static enum ws_subprotocol subprotocol_of(struct slice name)
{
    if (slice_is(name, "tickcast.v1+json"))
        return WS_SUB_JSON;
    return slice_is(name, "tickcast.v1+raw") ? WS_SUB_RAW : WS_SUB_NONE;
}

static void judge_subprotocol(struct ws_handshake *hs, struct slice name)
{
    size_t mark_len = strlen(BEARER_MARK);
    if (hs->offered == WS_SUB_NONE)
        hs->offered = subprotocol_of(name);
    if (hs->bearer.len == 0 && name.len > mark_len && memcmp(name.ptr, BEARER_MARK, mark_len) == 0)
        hs->bearer = slice_of(name.ptr + mark_len, name.len - mark_len);
}

static void judge_subprotocols(const struct http_head *head, struct ws_handshake *hs)
{
    size_t it = 0;
    struct slice list, name;
    while (http_head_next(head, "sec-websocket-protocol", &it, &list)) {
        while (http_list_next(&list, &name))
            judge_subprotocol(hs, name);
    }
}

/* --- extensions: permessage-deflate ------------------------------------------------------- */

enum value_rule { VALUE_FORBIDDEN, VALUE_OPTIONAL, VALUE_REQUIRED };

/* A parameter value without its quotes. Window bits have at most two digits, so that is all that
 * is kept of it; len counts on. */
struct value {
    bool is_given;
    size_t len;
    char text[2];
};

/* RFC 7692, 7.1. */
static const struct {
    const char *name;
    enum value_rule rule;
    unsigned least; /* window bits that we can honour */
    bool is_server_window;
} parameters[] = {
    {"server_no_context_takeover", VALUE_FORBIDDEN, 0, false},
    {"client_no_context_takeover", VALUE_FORBIDDEN, 0, false},
    {"server_max_window_bits", VALUE_REQUIRED, 9, true}, /* zlib has no raw deflate with 8 */
    {"client_max_window_bits", VALUE_OPTIONAL, 8, false},
};
#define PARAMETERS (sizeof parameters / sizeof parameters[0])

/* One element of the extension list. */
struct offer {
    bool is_declined;
    bool seen[PARAMETERS];
    unsigned server_bits; /* 0: not asked for */
};

/* 8..15 without leading zeros, else 0. */
static unsigned window_bits_of(const struct value *v)
{
    if (v->len == 1)
        return v->text[0] == '8' || v->text[0] == '9' ? (unsigned)(v->text[0] - '0') : 0;
    if (v->len == 2 && v->text[0] == '1' && v->text[1] >= '0' && v->text[1] <= '5')
        return 10 + (unsigned)(v->text[1] - '0');
    return 0;
}

static bool honour_parameter(struct offer *offer, struct slice name, const struct value *v)
{
    size_t i = 0;
    while (i < PARAMETERS && !slice_is(name, parameters[i].name))
        i++;
    if (i == PARAMETERS || offer->seen[i])
        return false;
    offer->seen[i] = true;
    if (!v->is_given)
        return parameters[i].rule != VALUE_REQUIRED;
    unsigned bits = window_bits_of(v);
    if (parameters[i].rule == VALUE_FORBIDDEN || bits == 0 || bits < parameters[i].least)
        return false;
    if (parameters[i].is_server_window)
        offer->server_bits = bits;
    return true;
}

static void agree_deflate(struct ws_handshake *hs, const struct offer *offer)
{
    hs->deflate = true;
    hs->window_bits = (uint8_t)(offer->server_bits != 0 ? offer->server_bits : WINDOW_BITS);
    int len = snprintf(hs->extension, sizeof hs->extension, EXTENSION "; " NO_TAKEOVER);
    if (offer->server_bits != 0)
        snprintf(hs->extension + len, sizeof hs->extension - (size_t)len,
                 "; server_max_window_bits=%u", offer->server_bits);
}

/* --- extensions: grammar ------------------------------------------------------------------ */

struct scan {
    const char *at;
    const char *end;
};

static void skip_blanks(struct scan *s)
{
    while (s->at < s->end && (*s->at == ' ' || *s->at == '\t'))
        s->at++;
}

/* Takes one character, and the blanks around it. */
static bool try_take(struct scan *s, char c)
{
    skip_blanks(s);
    if (s->at == s->end || *s->at != c)
        return false;
    s->at++;
    skip_blanks(s);
    return true;
}

static struct slice take_token(struct scan *s)
{
    const char *start = s->at;
    while (s->at < s->end && http_is_token_char((unsigned char)*s->at))
        s->at++;
    return slice_of(start, (size_t)(s->at - start));
}

static void value_add(struct value *v, char c)
{
    if (v->len < sizeof v->text)
        v->text[v->len] = c;
    v->len++;
}

/* What is between the quotes has to be a token once its backslashes are gone. */
static bool take_quoted(struct scan *s, struct value *v)
{
    for (s->at++; s->at < s->end && *s->at != '"'; s->at++) {
        if (*s->at == '\\' && ++s->at == s->end)
            return false;
        if (!http_is_token_char((unsigned char)*s->at))
            return false;
        value_add(v, *s->at);
    }
    if (s->at == s->end)
        return false;
    s->at++;
    return v->len != 0;
}

static bool take_value(struct scan *s, struct value *v)
{
    v->is_given = true;
    if (s->at < s->end && *s->at == '"')
        return take_quoted(s, v);
    struct slice token = take_token(s);
    for (size_t i = 0; i < token.len; i++)
        value_add(v, token.ptr[i]);
    return token.len != 0;
}

/* One extension with its parameters. False when the syntax is broken. */
static bool take_extension(struct scan *s, struct ws_handshake *hs)
{
    struct offer offer = {0};
    struct slice extension = take_token(s);
    if (extension.len == 0)
        return false;
    while (try_take(s, ';')) {
        struct value value = {0};
        struct slice name = take_token(s);
        if (name.len == 0 || (try_take(s, '=') && !take_value(s, &value)))
            return false;
        offer.is_declined |= !honour_parameter(&offer, name, &value);
    }
    if (slice_is(extension, EXTENSION) && !offer.is_declined && !hs->deflate)
        agree_deflate(hs, &offer);
    return true;
}

/* One header line. Empty elements are legal (RFC 2616, 2.1), a line of nothing else is not. */
static bool take_extension_line(struct slice line, struct ws_handshake *hs)
{
    struct scan s = {line.ptr, line.ptr + line.len};
    size_t count = 0;
    for (;;) {
        while (try_take(&s, ','))
            continue;
        if (s.at == s.end)
            return count != 0;
        if (!take_extension(&s, hs))
            return false;
        count++;
        skip_blanks(&s);
        if (s.at != s.end && *s.at != ',')
            return false;
    }
}

static bool judge_extensions(const struct http_head *head, struct ws_handshake *hs)
{
    size_t it = 0;
    struct slice line;
    while (http_head_next(head, "sec-websocket-extensions", &it, &line)) {
        if (!take_extension_line(line, hs))
            return false;
    }
    return true;
}

/* --- the request and the answer ----------------------------------------------------------- */

static int refuse(const char **why, int status, const char *text)
{
    *why = text;
    return status;
}

int ws_handshake_check(const struct http_head *head, struct ws_handshake *hs, const char **why)
{
    *hs = (struct ws_handshake){.window_bits = WINDOW_BITS};
    *why = "";
    if (!slice_is(head->method, "GET"))
        return refuse(why, 405, "a WebSocket is opened with GET");
    if (head->minor < 1)
        return refuse(why, 400, "a WebSocket needs HTTP/1.1");
    if (!http_head_has_token(head, "upgrade", "websocket"))
        return refuse(why, 400, "no Upgrade to websocket is asked for");
    if (!http_head_has_token(head, "connection", "upgrade"))
        return refuse(why, 400, "Connection does not name Upgrade");
    if (http_head_count(head, "sec-websocket-version") > 1)
        return refuse(why, 400, "Sec-WebSocket-Version is repeated");
    if (!slice_is(http_head_find(head, "sec-websocket-version"), "13"))
        return refuse(why, 426, "Sec-WebSocket-Version has to be 13");
    struct slice key = http_head_find(head, "sec-websocket-key");
    if (http_head_count(head, "sec-websocket-key") != 1 || !is_key(key))
        return refuse(why, 400, "Sec-WebSocket-Key has to be 16 bytes in base64");
    if (!judge_extensions(head, hs))
        return refuse(why, 400, "Sec-WebSocket-Extensions is malformed");
    judge_subprotocols(head, hs);
    ws_handshake_accept_key(key, hs->accept);
    return 101;
}

void ws_handshake_respond(struct buf *out, const struct ws_handshake *hs, const char *subprotocol)
{
    buf_append_str(out, "HTTP/1.1 101 Switching Protocols\r\n"
                        "Upgrade: websocket\r\n"
                        "Connection: Upgrade\r\n");
    buf_printf(out, "Sec-WebSocket-Accept: %s\r\n", hs->accept);
    if (subprotocol != NULL)
        buf_printf(out, "Sec-WebSocket-Protocol: %s\r\n", subprotocol);
    if (hs->extension[0] != '\0')
        buf_printf(out, "Sec-WebSocket-Extensions: %s\r\n", hs->extension);
    buf_append_str(out, "\r\n");
}
