/*
 * poller.c - an epoll set inside the loop's. Runs in the loop's thread.
 */
#include "runtime/poller.h"

#include "base/mem.h"

#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#define BATCH 256 /* sockets per turn: 3 KiB on the stack; the others are reported in the next */

struct poller {
    int fd;
    struct event event;
    void (*on_ready)(void *owner, bool readable, bool writable);
};

static void on_event(evutil_socket_t fd, short what, void *arg)
{
    (void)what;
    struct poller *p = arg;
    struct epoll_event ready[BATCH];
    int count = epoll_wait(fd, ready, BATCH, 0);
    for (int i = 0; i < count; i++) {
        uint32_t events = ready[i].events;
        bool has_ended = (events & (EPOLLERR | EPOLLHUP)) != 0;
        p->on_ready(ready[i].data.ptr, has_ended || (events & EPOLLIN),
                    has_ended || (events & EPOLLOUT));
    }
}

struct poller *poller_new(struct loop *loop,
                          void (*on_ready)(void *owner, bool readable, bool writable))
{
    struct poller *p = mem_zalloc(sizeof *p);
    p->on_ready = on_ready;
    p->fd = epoll_create1(EPOLL_CLOEXEC);
    if (p->fd < 0) {
        perror("tickcast: cannot make an epoll set");
        abort();
    }
    event_assign(&p->event, loop_base(loop), p->fd, EV_READ | EV_PERSIST, on_event, p);
    event_add(&p->event, NULL);
    return p;
}

void poller_free(struct poller *p)
{
    event_del(&p->event);
    close(p->fd);
    free(p);
}

static struct epoll_event wanted(enum poller_interest interest, void *owner)
{
    return (struct epoll_event){
        .events = interest == POLLER_READ ? EPOLLIN : EPOLLIN | EPOLLOUT,
        .data.ptr = owner,
    };
}

bool poller_add(struct poller *p, int fd, void *owner)
{
    struct epoll_event e = wanted(POLLER_READ, owner);
    return epoll_ctl(p->fd, EPOLL_CTL_ADD, fd, &e) == 0;
}

void poller_change(struct poller *p, int fd, enum poller_interest interest, void *owner)
{
    struct epoll_event e = wanted(interest, owner);
    epoll_ctl(p->fd, EPOLL_CTL_MOD, fd, &e); /* of a socket that is in the set: cannot fail */
}
