/*
 * redis_url.c - reads the address of a Redis.
 *
 *   redis://user:p%40ss@host:6379/2         unix://user:pass@/run/redis.sock?db=2
 *           `--userinfo-' `-place--' db             `-userinfo' `-place------' db
 *
 * Pure and strict: a part that is there but wrong is an error, never ignored, because a node that
 * quietly talks to another database than the one asked for is worse than one that does not start.
 * Reserved bytes in user, password and socket path are written percent-encoded.
 */
#include "protocol/redis_url.h"

#include "base/slice.h"

#include <arpa/inet.h>

#define REDIS_PORT     6379
#define REDIS_DB_MAX   65535
#define UNIX_PATH_MAX  107 /* sun_path is 108 bytes with its NUL */
#define REDIS_PORT_MAX 65535

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* Copies s, percent-decoded and NUL-terminated. False when it does not fit, an escape is broken,
 * or a byte would be NUL. */
static bool decode(struct slice s, char *out, size_t out_size)
{
    size_t len = 0;
    for (size_t i = 0; i < s.len; i++) {
        int byte = (unsigned char)s.ptr[i];
        if (s.ptr[i] == '%') {
            int high = i + 2 < s.len ? hex_digit(s.ptr[i + 1]) : -1;
            int low = i + 2 < s.len ? hex_digit(s.ptr[i + 2]) : -1;
            if (high < 0 || low < 0)
                return false;
            byte = high * 16 + low;
            i += 2;
        }
        if (byte == 0 || len + 1 >= out_size)
            return false;
        out[len++] = (char)byte;
    }
    out[len] = '\0';
    return true;
}

static struct slice slice_from(struct slice s, size_t at)
{
    return slice_of(s.ptr + at, s.len - at);
}

/* The place of c in s, or s.len. */
static size_t find(struct slice s, char c)
{
    const char *at = s.len != 0 ? memchr(s.ptr, c, s.len) : NULL;
    return at != NULL ? (size_t)(at - s.ptr) : s.len;
}

static bool cut_prefix(struct slice *s, const char *prefix)
{
    size_t len = strlen(prefix);
    if (s->len < len || memcmp(s->ptr, prefix, len) != 0)
        return false;
    *s = slice_from(*s, len);
    return true;
}

/* Takes `user:pass@` off the front of the authority, which ends at the first '/'. */
static bool cut_userinfo(struct slice *rest, struct redis_url *out, const char **why)
{
    size_t authority = find(*rest, '/');
    size_t end = authority;
    while (end > 0 && rest->ptr[end - 1] != '@')
        end--;
    if (end == 0)
        return true;
    struct slice info = slice_of(rest->ptr, end - 1);
    size_t colon = find(info, ':');
    if (colon == info.len) {
        *why = "before @ stands user:password, or :password alone";
        return false;
    }
    if (!decode(slice_of(info.ptr, colon), out->user, sizeof out->user)) {
        *why = "the user is longer than 127 bytes or badly percent-encoded";
        return false;
    }
    if (!decode(slice_from(info, colon + 1), out->password, sizeof out->password)) {
        *why = "the password is longer than 255 bytes or badly percent-encoded";
        return false;
    }
    *rest = slice_from(*rest, end);
    return true;
}

static bool is_host_name(struct slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        bool alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!alnum && c != '.' && c != '-' && c != '_')
            return false;
    }
    return s.len != 0;
}

/* Takes `host` or `[v6]` off the front; what follows is left in rest. */
static bool cut_host(struct slice *rest, struct redis_url *out, const char **why)
{
    struct in6_addr ignored;
    bool bracketed = cut_prefix(rest, "[");
    size_t len = find(*rest, bracketed ? ']' : ':');
    struct slice host = slice_of(rest->ptr, len);
    *why = "the host is missing, too long or not a name or address";
    if (len >= sizeof out->host || (bracketed && len == rest->len))
        return false;
    if (len != 0)
        memcpy(out->host, host.ptr, len);
    out->host[len] = '\0';
    if (bracketed ? inet_pton(AF_INET6, out->host, &ignored) != 1 : !is_host_name(host))
        return false;
    *rest = slice_from(*rest, len + (bracketed ? 1 : 0));
    return true;
}

static bool parse_tcp(struct slice rest, struct redis_url *out, const char **why)
{
    size_t slash = find(rest, '/');
    struct slice place = slice_of(rest.ptr, slash);
    if (!cut_host(&place, out, why))
        return false;
    out->port = REDIS_PORT;
    if (place.len != 0) {
        unsigned port = 0;
        if (!cut_prefix(&place, ":") || !slice_to_unsigned(place, REDIS_PORT_MAX, &port) ||
            port == 0) {
            *why = "the port is not a number from 1 to 65535";
            return false;
        }
        out->port = (uint16_t)port;
    }
    if (slash + 1 >= rest.len)
        return true;
    *why = "after the host's / stands a database number from 0 to 65535";
    return slice_to_unsigned(slice_from(rest, slash + 1), REDIS_DB_MAX, &out->db);
}

static bool parse_unix(struct slice rest, struct redis_url *out, const char **why)
{
    size_t query = find(rest, '?');
    struct slice path = slice_of(rest.ptr, query);
    out->is_unix = true;
    if (!decode(path, out->host, UNIX_PATH_MAX + 1) || out->host[0] != '/') {
        *why = "the socket's path is not absolute, longer than 107 bytes or badly percent-encoded";
        return false;
    }
    if (query == rest.len)
        return true;
    struct slice option = slice_from(rest, query + 1);
    *why = "after the path's ? stands db= and a number from 0 to 65535";
    return cut_prefix(&option, "db=") && slice_to_unsigned(option, REDIS_DB_MAX, &out->db);
}

static bool parse(struct slice rest, struct redis_url *out, const char **why)
{
    if (cut_prefix(&rest, "redis://"))
        return cut_userinfo(&rest, out, why) && parse_tcp(rest, out, why);
    if (cut_prefix(&rest, "unix://"))
        return cut_userinfo(&rest, out, why) && parse_unix(rest, out, why);
    *why = cut_prefix(&rest, "rediss://") ? "rediss:// (TLS to Redis) is not built yet"
                                          : "it begins with neither redis:// nor unix://";
    return false;
}

bool redis_url_parse(const char *text, struct redis_url *out, const char **why)
{
    *out = (struct redis_url){0};
    *why = NULL;
    if (!parse(slice_str(text), out, why)) {
        *out = (struct redis_url){0};
        return false;
    }
    *why = NULL;
    return true;
}
