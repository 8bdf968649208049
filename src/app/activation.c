/*
 * activation.c - reads what was passed, and makes sure that it is what it should be.
 */
#include "app/activation.h"

#include "base/slice.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define FIRST_FD      3
#define SOCKETS_MAX   16 /* two are of use */
#define PID_MAX_LIMIT 4194304
#define SAID_BYTES    40 /* of a value that is quoted */

struct passed {
    unsigned count;
    bool has_names;
    struct slice names[SOCKETS_MAX];
};

static bool refuse(struct buf *error, const char *variable, const char *value, const char *what)
{
    buf_printf(error, "%s=", variable);
    for (size_t i = 0; i < SAID_BYTES && value[i] != '\0'; i++)
        buf_append(error, value[i] > ' ' && value[i] < 127 ? &value[i] : "?", 1); /* stays a line */
    buf_printf(error, " %s", what);
    return false;
}

static bool read_names(struct passed *p, const char *text, struct buf *error)
{
    unsigned found = 0;
    for (const char *name = text; name != NULL; found++) {
        const char *end = strchr(name, ':');
        if (found < p->count)
            p->names[found] = end != NULL ? slice_of(name, (size_t)(end - name)) : slice_str(name);
        name = end != NULL ? end + 1 : NULL;
    }
    p->has_names = true;
    if (found == p->count)
        return true;
    return refuse(error, "LISTEN_FDNAMES", text, "has not one name for each of LISTEN_FDS");
}

/* count stays 0 where nothing was passed to this process. */
static bool read_environment(struct passed *p, struct buf *error)
{
    const char *count = getenv("LISTEN_FDS");
    const char *pid = getenv("LISTEN_PID");
    const char *names = getenv("LISTEN_FDNAMES");
    unsigned whose = 0;
    if (count == NULL || pid == NULL)
        return true;
    if (!slice_to_unsigned(slice_str(pid), PID_MAX_LIMIT, &whose))
        return refuse(error, "LISTEN_PID", pid, "is not a process id");
    if (whose != (unsigned)getpid())
        return true; /* of another process, which left us its environment */
    if (!slice_to_unsigned(slice_str(count), SOCKETS_MAX, &p->count))
        return refuse(error, "LISTEN_FDS", count, "is not a number from 0 to 16");
    return p->count == 0 || names == NULL || read_names(p, names, error);
}

static int option_of(int fd, int name)
{
    int value = -1;
    socklen_t len = sizeof value;
    return getsockopt(fd, SOL_SOCKET, name, &value, &len) == 0 ? value : -1;
}

static const char *find_fault(int fd)
{
    int domain = option_of(fd, SO_DOMAIN);
    if (fcntl(fd, F_GETFD) < 0)
        return "is not open";
    if (domain < 0)
        return "is not a socket";
    if (domain != AF_INET && domain != AF_INET6)
        return "is not a socket of IPv4 or IPv6";
    if (option_of(fd, SO_TYPE) != SOCK_STREAM)
        return "is not a stream socket";
    if (option_of(fd, SO_ACCEPTCONN) != 1)
        return "does not listen; Accept=yes in the socket unit does not suit";
    return NULL;
}

static bool is_on_loopback(int fd)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } bound = {0};
    socklen_t len = sizeof bound;
    if (getsockname(fd, &bound.any, &len) != 0)
        return false;
    if (bound.any.sa_family == AF_INET)
        return ntohl(bound.v4.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
    return IN6_IS_ADDR_LOOPBACK(&bound.v6.sin6_addr);
}

static bool take_over(int fd, struct buf *error)
{
    const char *fault = find_fault(fd);
    if (fault != NULL) {
        buf_printf(error, "inherited descriptor %d %s", fd, fault);
        return false;
    }
    /* Non-blocking is a property of the socket that we share with the manager, who does not mind. */
    int flags = fcntl(fd, F_GETFL);
    if (flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0 &&
        fcntl(fd, F_SETFD, FD_CLOEXEC) == 0)
        return true;
    buf_printf(error, "inherited descriptor %d: %s", fd, strerror(errno));
    return false;
}

/* Where this socket goes; NULL: nowhere. */
static int *place_of(struct activation *a, const struct passed *p, unsigned i, bool is_named)
{
    if (!is_named)
        return i == 0 ? &a->client_fd : NULL;
    if (slice_is(p->names[i], "client"))
        return &a->client_fd;
    return slice_is(p->names[i], "ops") ? &a->ops_fd : NULL;
}

static bool has_our_names(const struct passed *p)
{
    for (unsigned i = 0; p->has_names && i < p->count; i++) {
        if (slice_is(p->names[i], "client") || slice_is(p->names[i], "ops"))
            return true;
    }
    return false;
}

static bool place_sockets(struct activation *a, const struct passed *p, struct buf *warnings,
                          struct buf *error)
{
    bool is_named = has_our_names(p);
    for (unsigned i = 0; i < p->count; i++) {
        int fd = FIRST_FD + (int)i;
        int *place = place_of(a, p, i, is_named);
        if (place == NULL && fcntl(fd, F_GETFD) >= 0) {
            buf_printf(warnings, "inherited descriptor %d is neither client nor ops: closed\n", fd);
            close(fd);
            continue;
        }
        if (place != NULL && *place >= 0) {
            buf_printf(error, "inherited descriptors %d and %d are both named %.*s: one is taken",
                       *place, fd, (int)p->names[i].len, p->names[i].ptr);
            return false;
        }
        if (!take_over(fd, error))
            return false;
        *place = fd;
    }
    if (a->ops_fd < 0 || is_on_loopback(a->ops_fd))
        return true;
    buf_printf(error, "inherited descriptor %d, ops, is not bound to a loopback address",
               a->ops_fd);
    return false;
}

bool activation_take(struct activation *a, struct buf *warnings, struct buf *error)
{
    struct passed passed = {0};
    *a = (struct activation){.client_fd = -1, .ops_fd = -1};
    bool is_fine = read_environment(&passed, error) && place_sockets(a, &passed, warnings, error);
    unsetenv("LISTEN_FDS"); /* passed.names pointed in here */
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDNAMES");
    return is_fine;
}
