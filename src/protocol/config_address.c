/*
 * config_address.c - `host:port` and `[v6]:port`.
 *
 * Says only whether the text is well formed: whether the host exists is for whoever binds or
 * connects to find out.
 */
#include "protocol/config.h"

#include <arpa/inet.h>

#define PORT_MAX        65535
#define PORT_DIGITS_MAX 5

static bool read_port(const char *text, uint16_t *port)
{
    unsigned value = 0;
    size_t len = strspn(text, "0123456789");
    if (len == 0 || len > PORT_DIGITS_MAX || text[len] != '\0')
        return false;
    for (; *text != '\0'; text++)
        value = value * 10 + (unsigned)(*text - '0');
    *port = (uint16_t)value;
    return value <= PORT_MAX;
}

static bool is_host(struct slice host, bool bracketed)
{
    char v6[INET6_ADDRSTRLEN];
    struct in6_addr ignored;
    if (host.len == 0)
        return false;
    if (!bracketed)
        return strspn(host.ptr,
                      "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz._-") >=
               host.len;
    if (host.len >= sizeof v6)
        return false;
    memcpy(v6, host.ptr, host.len);
    v6[host.len] = '\0';
    return inet_pton(AF_INET6, v6, &ignored) == 1;
}

bool config_split_address(const char *address, char *host, size_t host_size, uint16_t *port)
{
    bool bracketed = address[0] == '[';
    const char *start = bracketed ? address + 1 : address;
    const char *end = strchr(start, bracketed ? ']' : ':');
    if (end == NULL || (bracketed && end[1] != ':'))
        return false;
    struct slice name = slice_of(start, (size_t)(end - start));
    if (!is_host(name, bracketed) || !read_port(end + (bracketed ? 2 : 1), port))
        return false;
    size_t len = name.len < host_size ? name.len : host_size - 1;
    memcpy(host, name.ptr, len);
    host[len] = '\0';
    return true;
}
