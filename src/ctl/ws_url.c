/*
 * ws_url.c - ws:// URLs (RFC 6455, 3), as ws_client.h shows them.
 *
 * Strict: what is not a plain ws://host[:port][/path][?query] is refused rather than guessed at.
 */
#include "ctl/ws_client.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Length of the host at the start of an authority, with its brackets; 0 when there is none. */
static size_t host_len(struct slice authority)
{
    if (authority.len == 0)
        return 0;
    if (*authority.ptr == '[') {
        const char *end = memchr(authority.ptr, ']', authority.len);
        return end != NULL && end > authority.ptr + 1 ? (size_t)(end - authority.ptr) + 1 : 0;
    }
    const char *colon = memchr(authority.ptr, ':', authority.len);
    return colon != NULL ? (size_t)(colon - authority.ptr) : authority.len;
}

static bool split_authority(struct ws_client_url *out)
{
    struct slice host = slice_of(out->authority.ptr, host_len(out->authority));
    struct slice port = slice_of(host.ptr + host.len, out->authority.len - host.len);
    if (host.len > 0 && *host.ptr == '[')
        host = slice_of(host.ptr + 1, host.len - 2);
    if (host.len == 0 || host.len >= sizeof out->host)
        return false;
    memcpy(out->host, host.ptr, host.len);
    strcpy(out->port, "80");
    if (port.len == 0)
        return true;
    port = slice_of(port.ptr + 1, port.len - 1);
    unsigned number;
    bool is_port = port.ptr[-1] == ':' && port.len < sizeof out->port &&
                   slice_to_unsigned(port, UINT16_MAX, &number) && number > 0;
    if (!is_port)
        return false;
    memcpy(out->port, port.ptr, port.len);
    out->port[port.len] = '\0';
    return true;
}

static bool is_clean(const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text <= ' ' || *text > '~' || *text == '#')
            return false;
    }
    return true;
}

bool ws_client_url_parse(const char *text, struct ws_client_url *out, const char **why)
{
    memset(out, 0, sizeof *out);
    *why = "it is not ws://host[:port][/path][?query]";
    if (strncmp(text, "wss://", 6) == 0) {
        *why = "wss:// is not built yet";
        return false;
    }
    if (strncmp(text, "ws://", 5) != 0 || !is_clean(text))
        return false;
    const char *authority = text + 5;
    size_t len = strcspn(authority, "/?");
    out->authority = slice_of(authority, len);
    if (memchr(authority, '@', len) != NULL || !split_authority(out))
        return false;
    const char *target = authority + len;
    bool has_path = target[0] == '/' && target[1] != '\0' && target[1] != '?';
    if (!has_path) {
        buf_append_str(&out->target, "/ws");
        target += *target == '/';
    }
    buf_append_str(&out->target, target);
    return true;
}
