/*
 * redis_dial.c - names, addresses and connect(). Main thread.
 *
 *      start --name--> lookup --addresses--> connect --refused, slow--> next address ... failed
 *        `-- address, localhost, unix path ------^ `--connected--> fd handed over
 *
 * A lookup is a small object of its own: evdns answers even a cancelled one, later, and must then
 * find something that still lives.
 */
#include "runtime/redis_dial.h"

#include "base/clock.h"
#include "base/mem.h"

#include <errno.h>
#include <event2/dns.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <event2/util.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    ADDRESSES_MAX = 8, /* of one name; more could not be tried within a dial anyway */
    TRY_MIN_MS = 20,   /* an address always gets this long */
};

struct address {
    socklen_t len;
    union {
        struct sockaddr any;
        struct sockaddr_in ip4;
        struct sockaddr_in6 ip6;
        struct sockaddr_un path;
    } to;
};

struct lookup {
    struct redis_dial *dial; /* NULL: nobody waits any more */
    struct evdns_getaddrinfo_request *request;
};

struct redis_dial {
    struct event_base *base;
    struct evdns_base *dns;
    struct redis_url url;
    const struct redis_dial_ops *ops;
    void *arg;
    bool is_dialing;
    uint64_t deadline_ms;
    struct lookup *lookup; /* under way, for this dial or left by an earlier one */
    struct address addresses[ADDRESSES_MAX];
    size_t count; /* of addresses not used up by an earlier dial */
    size_t next;  /* to be tried */
    int fd;       /* connecting, or -1 */
    struct event connected;
    char reason[512]; /* why the last address failed */
};

static void try_next(struct redis_dial *d);

/* === Outcomes ================================================================================= */

static void close_try(struct redis_dial *d)
{
    if (d->fd < 0)
        return;
    event_del(&d->connected);
    close(d->fd);
    d->fd = -1;
}

static void fail(struct redis_dial *d)
{
    redis_dial_stop(d);
    d->ops->on_failed(d->arg, d->reason); /* may free d */
}

static void succeed(struct redis_dial *d)
{
    int fd = d->fd;
    event_del(&d->connected);
    d->fd = -1;
    redis_dial_stop(d);
    d->ops->on_connected(d->arg, fd); /* may free d */
}

static void note_failure(struct redis_dial *d, const char *what)
{
    if (d->url.is_unix)
        snprintf(d->reason, sizeof d->reason, "%s: %s", d->url.host, what);
    else
        snprintf(d->reason, sizeof d->reason, "%s:%u: %s", d->url.host, d->url.port, what);
}

/* === Connecting =============================================================================== */

static int open_socket(const struct address *a)
{
    int family = a->to.any.sa_family;
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || family == AF_UNIX)
        return fd;
    /* Neither is worth failing for. */
    int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    return fd;
}

static void on_connect_event(evutil_socket_t fd, short what, void *arg)
{
    struct redis_dial *d = arg;
    int error = 0;
    socklen_t len = sizeof error;
    if ((what & EV_TIMEOUT) != 0)
        error = ETIMEDOUT;
    else if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
        error = errno;
    if (error == 0) {
        succeed(d);
        return;
    }
    note_failure(d, strerror(error));
    close_try(d);
    try_next(d);
}

static uint64_t share_of_time_ms(const struct redis_dial *d)
{
    uint64_t now_ms = clock_mono_ms();
    uint64_t left_ms = d->deadline_ms > now_ms ? d->deadline_ms - now_ms : 0;
    uint64_t share_ms = left_ms / (d->count - d->next + 1);
    return share_ms > TRY_MIN_MS ? share_ms : TRY_MIN_MS;
}

/* False when the address failed at once. */
static bool connect_begin(struct redis_dial *d, const struct address *a)
{
    d->fd = open_socket(a);
    if (d->fd < 0) {
        note_failure(d, strerror(errno));
        return false;
    }
    event_assign(&d->connected, d->base, d->fd, EV_WRITE, on_connect_event, d);
    int status = connect(d->fd, &a->to.any, a->len);
    /* A connect that succeeds at once takes the same way as any other: the socket is writable. */
    if (status != 0 && errno != EINPROGRESS) {
        note_failure(d, strerror(errno));
        close_try(d);
        return false;
    }
    uint64_t share_ms = share_of_time_ms(d);
    struct timeval limit = {.tv_sec = (time_t)(share_ms / 1000),
                            .tv_usec = (suseconds_t)(share_ms % 1000) * 1000};
    event_add(&d->connected, &limit);
    return true;
}

static void try_next(struct redis_dial *d)
{
    while (d->next < d->count) {
        const struct address *a = &d->addresses[d->next++];
        if (connect_begin(d, a))
            return;
    }
    d->count = 0;
    fail(d);
}

/* === Names ==================================================================================== */

static void add_address(struct redis_dial *d, const struct sockaddr *to, size_t len)
{
    struct address *a = &d->addresses[d->count];
    if (d->count == ADDRESSES_MAX || len > sizeof a->to)
        return;
    memcpy(&a->to, to, len);
    a->len = (socklen_t)len;
    d->count++;
}

static void add_unix_path(struct redis_dial *d)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    if (strlen(d->url.host) < sizeof to.sun_path) {
        memcpy(to.sun_path, d->url.host, strlen(d->url.host) + 1);
        add_address(d, (const struct sockaddr *)&to, sizeof to);
    }
}

/* Adds nothing when text is not an address in digits. */
static void add_numeric(struct redis_dial *d, const char *text)
{
    struct sockaddr_in ip4 = {.sin_family = AF_INET, .sin_port = htons(d->url.port)};
    struct sockaddr_in6 ip6 = {.sin6_family = AF_INET6, .sin6_port = htons(d->url.port)};
    if (evutil_inet_pton(AF_INET, text, &ip4.sin_addr) == 1)
        add_address(d, (const struct sockaddr *)&ip4, sizeof ip4);
    else if (evutil_inet_pton(AF_INET6, text, &ip6.sin6_addr) == 1)
        add_address(d, (const struct sockaddr *)&ip6, sizeof ip6);
}

static void add_known(struct redis_dial *d)
{
    if (d->url.is_unix) {
        add_unix_path(d);
    } else if (strcasecmp(d->url.host, "localhost") == 0) {
        add_numeric(d, "127.0.0.1");
        add_numeric(d, "::1");
    } else {
        add_numeric(d, d->url.host);
    }
}

static void add_found(struct redis_dial *d, const struct evutil_addrinfo *found)
{
    for (; found != NULL; found = found->ai_next) {
        if (found->ai_family == AF_INET || found->ai_family == AF_INET6)
            add_address(d, found->ai_addr, found->ai_addrlen);
    }
}

static void on_lookup(int error, struct evutil_addrinfo *found, void *arg)
{
    struct lookup *lookup = arg;
    struct redis_dial *d = lookup->dial;
    free(lookup);
    if (d != NULL) {
        d->lookup = NULL;
        d->count = d->next = 0;
        if (error == 0)
            add_found(d, found);
    }
    if (found != NULL)
        evutil_freeaddrinfo(found);
    if (d == NULL || !d->is_dialing)
        return; /* what was found waits for the next dial */
    note_failure(d, error != 0 ? evutil_gai_strerror(error) : "host name has no address");
    try_next(d);
}

static void lookup_begin(struct redis_dial *d)
{
    char port[8];
    snprintf(port, sizeof port, "%u", d->url.port);
    const struct evutil_addrinfo hints = {.ai_family = AF_UNSPEC,
                                          .ai_socktype = SOCK_STREAM,
                                          .ai_protocol = IPPROTO_TCP,
                                          .ai_flags = EVUTIL_AI_NUMERICSERV};
    struct lookup *lookup = mem_zalloc(sizeof *lookup);
    lookup->dial = d;
    d->lookup = lookup;
    struct evdns_getaddrinfo_request *request =
        evdns_getaddrinfo(d->dns, d->url.host, port, &hints, on_lookup, lookup);
    /* NULL: it answered from inside, lookup is gone, and so may d be. */
    if (request != NULL)
        lookup->request = request;
}

/* === Calls ==================================================================================== */

struct redis_dial *redis_dial_new(struct event_base *base, struct evdns_base *dns,
                                  const struct redis_url *url, const struct redis_dial_ops *ops,
                                  void *arg)
{
    struct redis_dial *d = mem_zalloc(sizeof *d);
    d->base = base;
    d->dns = dns;
    d->url = *url;
    d->ops = ops;
    d->arg = arg;
    d->fd = -1;
    return d;
}

void redis_dial_free(struct redis_dial *d)
{
    if (d == NULL)
        return;
    redis_dial_stop(d);
    if (d->lookup != NULL) {
        d->lookup->dial = NULL;
        evdns_getaddrinfo_cancel(d->lookup->request);
    }
    free(d);
}

void redis_dial_start(struct redis_dial *d, uint64_t deadline_ms)
{
    redis_dial_stop(d);
    d->is_dialing = true;
    d->deadline_ms = deadline_ms;
    d->next = 0;
    if (d->lookup != NULL)
        return; /* the earlier one is still the quickest way to an answer */
    if (d->count == 0)
        add_known(d);
    if (d->count > 0 || d->dns == NULL || d->url.is_unix) {
        note_failure(d, d->url.is_unix ? "path too long" : "no name server to resolve it with");
        try_next(d);
    } else {
        lookup_begin(d);
    }
}

void redis_dial_stop(struct redis_dial *d)
{
    if (d->is_dialing && d->lookup == NULL)
        d->count = 0; /* used up; names are looked up again for the next dial */
    d->is_dialing = false;
    close_try(d);
}

const char *redis_dial_stage(const struct redis_dial *d)
{
    return d->lookup != NULL ? "host name not resolved in time" : "connecting took too long";
}
