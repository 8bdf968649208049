/*
 * listener.c - one listening socket, many workers.
 */
#include "runtime/listener.h"

#include "base/log.h"
#include "base/mem.h"
#include "protocol/config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG           4096 /* a reconnect storm waits here; the kernel cuts it to somaxconn */
#define ACCEPTS_PER_EVENT 64   /* so that a storm does not starve the rest of the loop */
#define PAUSE_MS          100  /* when descriptors ran out */
#define DEFER_S           1 /* a connect that says nothing is handed out all the same after that */

struct listener {
    struct loop *loop;
    struct worker **workers;
    unsigned worker_count;
    uint64_t max_sockets;
    struct metrics *metrics;
    int fd;
    struct event *readable;
    struct event *resume;
    char address[LISTENER_ADDRESS_BYTES];
};

void listener_write_address(int fd, char text[LISTENER_ADDRESS_BYTES])
{
    struct sockaddr_storage bound;
    socklen_t len = sizeof bound;
    char host[INET6_ADDRSTRLEN] = "";
    uint16_t port = 0;
    getsockname(fd, (struct sockaddr *)&bound, &len);
    if (bound.ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&bound;
        inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof host);
        port = ntohs(in6->sin6_port);
        snprintf(text, LISTENER_ADDRESS_BYTES, "[%s]:%u", host, port);
        return;
    }
    const struct sockaddr_in *in = (const struct sockaddr_in *)&bound;
    inet_ntop(AF_INET, &in->sin_addr, host, sizeof host);
    port = ntohs(in->sin_port);
    snprintf(text, LISTENER_ADDRESS_BYTES, "%s:%u", host, port);
}

static int bind_one(const struct addrinfo *ai)
{
    int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, ai->ai_addr, ai->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    int saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

int listener_bind(const char *address, struct buf *error)
{
    char host[256], service[8];
    uint16_t port;
    if (!config_split_address(address, host, sizeof host, &port)) {
        buf_printf(error, "cannot listen on %s: not an address", address);
        return -1;
    }
    snprintf(service, sizeof service, "%u", port);
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *found;
    int rc = getaddrinfo(host, service, &hints, &found); /* before the loops run: may block */
    if (rc != 0) {
        buf_printf(error, "cannot listen on %s: %s", address, gai_strerror(rc));
        return -1;
    }
    int fd = -1;
    for (const struct addrinfo *ai = found; ai != NULL && fd < 0; ai = ai->ai_next)
        fd = bind_one(ai);
    if (fd < 0)
        buf_printf(error, "cannot listen on %s: %s", address, strerror(errno));
    freeaddrinfo(found);
    return fd;
}

static struct worker *least_loaded(const struct listener *l, uint64_t *total)
{
    struct worker *best = l->workers[0];
    unsigned lowest = UINT32_MAX;
    *total = 0;
    for (unsigned i = 0; i < l->worker_count; i++) {
        unsigned load = atomic_load_explicit(&l->workers[i]->load, memory_order_relaxed);
        *total += load;
        if (load < lowest) {
            lowest = load;
            best = l->workers[i];
        }
    }
    return best;
}

static void hand_over(struct listener *l, int fd, const union socket_peer *peer)
{
    uint64_t total;
    struct worker *w = least_loaded(l, &total);
    if (total >= l->max_sockets) {
        metrics_add(l->metrics, METRIC_ACCEPT_REFUSED, 1);
        close(fd);
        return;
    }
    atomic_fetch_add_explicit(&w->load, 1, memory_order_relaxed);
    worker_give_socket(w, fd, peer);
}

static void pause_accepting(struct listener *l)
{
    metrics_add(l->metrics, METRIC_ACCEPT_PAUSES, 1);
    log_warn("accept_paused", LOG_STR("reason", strerror(errno)), LOG_INT("pause_ms", PAUSE_MS));
    event_del(l->readable);
    const struct timeval delay = {.tv_usec = PAUSE_MS * 1000};
    event_add(l->resume, &delay);
}

static void on_resume(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct listener *l = arg;
    event_add(l->readable, NULL);
}

static bool is_out_of_resources(int error)
{
    return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

static void on_readable(evutil_socket_t listening, short what, void *arg)
{
    (void)what;
    struct listener *l = arg;
    for (int i = 0; i < ACCEPTS_PER_EVENT; i++) {
        union socket_peer peer = {0};
        socklen_t len = sizeof peer;
        int fd = accept4(listening, &peer.any, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0)
            hand_over(l, fd, &peer);
        else if (is_out_of_resources(errno))
            return pause_accepting(l);
        else if (errno != EINTR && errno != ECONNABORTED)
            return;
    }
}

struct listener *listener_new(struct loop *loop, int fd, struct worker **workers, unsigned count,
                              uint64_t max_sockets, struct metrics *metrics)
{
    struct listener *l = mem_zalloc(sizeof *l);
    l->fd = fd;
    listener_write_address(fd, l->address);
    l->loop = loop;
    l->workers = workers;
    l->worker_count = count;
    l->max_sockets = max_sockets;
    l->metrics = metrics;
    /* Accepted sockets inherit this, which saves a system call each. */
    int on = 1, defer_s = DEFER_S;
    setsockopt(l->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    /* A connection is accepted when its request is there, and read at once: in a storm that saves
     * each of them a round through the loop. */
    setsockopt(l->fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &defer_s, sizeof defer_s);
    l->readable = event_new(loop_base(loop), l->fd, EV_READ | EV_PERSIST, on_readable, l);
    l->resume = event_new(loop_base(loop), -1, 0, on_resume, l);
    return l;
}

void listener_set_unsent_bytes(struct listener *l, int bytes)
{
    if (l->fd >= 0) /* an inherited one may have another bound: 0, too, is set */
        setsockopt(l->fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &bytes, sizeof bytes);
}

void listener_set_max_sockets(struct listener *l, uint64_t max_sockets)
{
    l->max_sockets = max_sockets;
}

void listener_start(struct listener *l)
{
    event_add(l->readable, NULL);
}

void listener_stop(struct listener *l)
{
    event_del(l->readable);
    event_del(l->resume);
    if (l->fd >= 0)
        close(l->fd);
    l->fd = -1;
}

void listener_free(struct listener *l)
{
    listener_stop(l);
    event_free(l->readable);
    event_free(l->resume);
    free(l);
}

const char *listener_address(const struct listener *l)
{
    return l->address;
}
