/*
 * notify.c - datagrams to the service manager.
 *
 * Each is sent to the address by itself, not over a connected socket: a manager that re-executes
 * itself may have bound a new socket under the old name.
 */
#include "app/notify.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define MESSAGE_BYTES   256 /* the longest is a status line */
#define KEPT_MAX        8   /* beyond, the oldest is superseded anyway */
#define RETRY_MS        100 /* while the manager's queue is full */
#define WATCHDOG_US_MAX (UINT64_C(1000000) * 86400 * 365)

struct notify {
    struct loop *loop;
    int fd; /* -1: nobody is to be told */
    struct sockaddr_un to;
    socklen_t to_len;
    uint64_t watchdog_us;
    bool is_failing; /* and the log says so */
    char *kept[KEPT_MAX];
    size_t kept_count;
    struct loop_timer *retry;
};

/* --- what the environment says ----------------------------------------------------------------- */

static bool read_u64(const char *text, uint64_t max, uint64_t *out)
{
    uint64_t value = 0;
    size_t len = strspn(text, "0123456789");
    if (len == 0 || len > 18 || text[len] != '\0') /* 18 digits cannot overflow */
        return false;
    for (; *text != '\0'; text++)
        value = value * 10 + (uint64_t)(*text - '0');
    *out = value;
    return value <= max;
}

static void ignore(const char *variable, const char *value, const char *reason)
{
    log_warn("notify_ignored", LOG_STR("variable", variable), LOG_STR("value", value),
             LOG_STR("reason", reason));
}

static const char *read_address(struct notify *n, const char *text)
{
    size_t len = strlen(text);
    if (text[0] != '/' && text[0] != '@')
        return "is neither a path from the root nor @ and a name";
    if (len < 2 || len >= sizeof n->to.sun_path)
        return "has no length that a socket's address can have";
    n->to.sun_family = AF_UNIX;
    memcpy(n->to.sun_path, text, len);
    if (text[0] == '@')
        n->to.sun_path[0] = '\0';
    /* The end of an abstract name is the end of the address; a path ends with its NUL. */
    n->to_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + (text[0] == '/'));
    return NULL;
}

static void open_socket(struct notify *n)
{
    const char *text = getenv("NOTIFY_SOCKET");
    if (text == NULL)
        return;
    const char *wrong = read_address(n, text);
    if (wrong == NULL) {
        n->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        wrong = n->fd < 0 ? strerror(errno) : NULL;
    }
    if (wrong != NULL)
        ignore("NOTIFY_SOCKET", text, wrong);
}

static void read_watchdog(struct notify *n)
{
    const char *period = getenv("WATCHDOG_USEC");
    const char *pid = getenv("WATCHDOG_PID");
    uint64_t whose = (uint64_t)getpid();
    if (period == NULL || n->fd < 0)
        return;
    if (pid != NULL && !read_u64(pid, UINT32_MAX, &whose)) {
        ignore("WATCHDOG_PID", pid, "is not a process id");
    } else if (whose != (uint64_t)getpid()) {
        return; /* of another process, which left us its environment */
    } else if (!read_u64(period, WATCHDOG_US_MAX, &n->watchdog_us) || n->watchdog_us == 0) {
        n->watchdog_us = 0;
        ignore("WATCHDOG_USEC", period, "is not a number of microseconds");
    }
}

/* --- sending ----------------------------------------------------------------------------------- */

static bool send_now(struct notify *n, const char *text)
{
    ssize_t sent =
        sendto(n->fd, text, strlen(text), MSG_NOSIGNAL, (const struct sockaddr *)&n->to, n->to_len);
    if (sent >= 0) {
        n->is_failing = false;
        return true;
    }
    if (!n->is_failing)
        log_warn("notify_failed", LOG_STR("reason", strerror(errno)));
    n->is_failing = true;
    return false;
}

static void drop_oldest(struct notify *n)
{
    free(n->kept[0]);
    n->kept_count--;
    memmove(n->kept, n->kept + 1, n->kept_count * sizeof *n->kept);
}

/* Only a full queue is worth waiting for: a manager that is not there will not come. */
static void send_kept(struct notify *n)
{
    while (n->kept_count > 0 &&
           (send_now(n, n->kept[0]) || (errno != EAGAIN && errno != EWOULDBLOCK)))
        drop_oldest(n);
    if (n->kept_count > 0)
        loop_timer_set(n->retry, RETRY_MS);
}

static void on_retry(void *arg)
{
    send_kept(arg);
}

static void send_surely(struct notify *n, const char *text)
{
    if (n->fd < 0)
        return;
    if (n->kept_count == KEPT_MAX)
        drop_oldest(n);
    n->kept[n->kept_count++] = mem_strdup(text);
    send_kept(n);
}

/* Never ahead of what is kept. */
static bool try_send(struct notify *n, const char *text)
{
    return n->fd >= 0 && n->kept_count == 0 && send_now(n, text);
}

void notify_ready(struct notify *n)
{
    send_surely(n, "READY=1");
}

void notify_reloading(struct notify *n)
{
    char text[MESSAGE_BYTES];
    snprintf(text, sizeof text, "RELOADING=1\nMONOTONIC_USEC=%llu",
             (unsigned long long)(clock_mono_ns() / 1000));
    send_surely(n, text);
}

void notify_stopping(struct notify *n)
{
    send_surely(n, "STOPPING=1");
}

bool notify_status(struct notify *n, const char *status)
{
    char text[MESSAGE_BYTES];
    snprintf(text, sizeof text, "STATUS=%s", status);
    return try_send(n, text);
}

void notify_alive(struct notify *n)
{
    try_send(n, "WATCHDOG=1");
}

void notify_extend(struct notify *n, uint64_t us)
{
    char text[MESSAGE_BYTES];
    snprintf(text, sizeof text, "EXTEND_TIMEOUT_USEC=%llu", (unsigned long long)us);
    try_send(n, text);
}

/* --- life -------------------------------------------------------------------------------------- */

struct notify *notify_new(struct loop *loop)
{
    struct notify *n = mem_zalloc(sizeof *n);
    n->loop = loop;
    n->fd = -1;
    n->retry = loop_timer_new(loop, on_retry, n);
    open_socket(n);
    read_watchdog(n);
    return n;
}

void notify_free(struct notify *n)
{
    while (n->kept_count > 0)
        drop_oldest(n);
    loop_timer_free(n->retry);
    if (n->fd >= 0)
        close(n->fd);
    free(n);
}

bool notify_is_on(const struct notify *n)
{
    return n->fd >= 0;
}

uint64_t notify_watchdog_us(const struct notify *n)
{
    return n->watchdog_us;
}
