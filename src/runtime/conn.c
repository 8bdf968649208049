/*
 * conn.c - a client socket: states, reading, writing, closing.
 *
 * Runs in the worker's thread alone. Reading: one recv per readiness into the worker's buffer,
 * decoded in place; fair, because epoll is level-triggered. The first one is tried when the socket
 * comes, with the request behind it. Writing: private frames are gathered into one writev at the
 * end of the turn, tried directly; writability is waited for only after the kernel refused bytes.
 */
#include "runtime/conn.h"

#include "base/clock.h"
#include "base/mem.h"
#include "runtime/poller.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define CLOSE_WAIT_MS 3000  /* for the peer to take and answer a close frame */
#define SLOW_WAIT_MS  10000 /* the same, for a peer whose slowness is why it is closed */
#define LINGER_MS     1000  /* for the peer to read the last bytes before the socket closes */
#define GATHER_PIECES 64    /* frames per writev; more than the socket usually takes */

#define CONTROL_WAITING_MAX 64 /* control frames behind a full socket, before pongs are merged */

/* --- state --------------------------------------------------------------------------------- */

static void leave_open(struct conn *c)
{
    if (c->decoder != NULL) {
        ws_decoder_fini(c->decoder);
        free(c->decoder);
        c->decoder = NULL;
    }
    metrics_add(&c->worker->metrics, METRIC_CONNECTIONS, (uint64_t)-1);
    metrics_add(&c->worker->metrics, c->cause, 1);
    c->worker->ops->on_closed(c);
    c->upper = NULL;
}

static void unblock(struct conn *c)
{
    if (c->blocked)
        metrics_add(&c->worker->metrics, METRIC_CLIENTS_BLOCKED, (uint64_t)-1);
    c->blocked = false;
}

static void unlink_dead(struct conn *c)
{
    struct worker *w = c->worker;
    unblock(c);
    close(c->fd);
    wheel_cancel(&w->wheel, &c->timer);
    worker_remove_conn(w, c);
    list_remove(&c->link);
    list_append(&w->dead, &c->link);
}

static void drop_head(struct conn *c)
{
    if (c->head == NULL)
        return;
    buf_fini(c->head);
    free(c->head);
    c->head = NULL;
}

/* The one door for a connection's state. */
static void set_state(struct conn *c, enum conn_state next)
{
    static const uint8_t allowed[] = {
        [CONN_HTTP] = 1 << CONN_OPEN | 1 << CONN_CLOSING | 1 << CONN_DEAD,
        [CONN_OPEN] = 1 << CONN_CLOSING | 1 << CONN_DEAD,
        [CONN_CLOSING] = 1 << CONN_LINGER | 1 << CONN_DEAD,
        [CONN_LINGER] = 1 << CONN_DEAD,
        [CONN_DEAD] = 0,
    };
    enum conn_state before = c->state;
    assert(allowed[before] & 1 << next);
    (void)allowed;
    if (before == CONN_HTTP)
        drop_head(c); /* its place is the decoder's from now on */
    c->state = (uint8_t)next;
    if (before == CONN_OPEN)
        leave_open(c);
    if (next == CONN_DEAD)
        unlink_dead(c);
}

static void mark_dirty(struct conn *c)
{
    if (list_is_empty(&c->link))
        list_append(&c->worker->dirty, &c->link);
}

void conn_abort(struct conn *c, enum metric cause)
{
    if (c->state == CONN_DEAD)
        return;
    if (c->state == CONN_OPEN)
        c->cause = (uint8_t)cause;
    set_state(c, CONN_DEAD);
}

void conn_fail_later(struct conn *c, uint16_t code, enum metric cause)
{
    if (c->state != CONN_OPEN || c->cause != 0)
        return;
    c->cause = (uint8_t)cause;
    c->close_code = code;
    list_remove(&c->link);
    list_append(&c->worker->failed, &c->link);
}

void conn_set_timer(struct conn *c, uint64_t in_ms)
{
    worker_set_timer(c->worker, &c->timer, in_ms);
}

/* --- writing ------------------------------------------------------------------------------- */

static struct outq *private_queue(struct conn *c)
{
    if (c->outq == NULL)
        c->outq = mem_zalloc(sizeof *c->outq);
    return c->outq;
}

/* Around whatever changes the private queue: what it held before is handed over. */
static uint64_t queue_bytes(const struct conn *c)
{
    return c->outq != NULL ? c->outq->bytes : 0;
}

static void count_queue(struct conn *c, uint64_t before)
{
    metrics_add(&c->worker->metrics, METRIC_QUEUED_BYTES, queue_bytes(c) - before);
}

static void push(struct conn *c, struct frame *f)
{
    uint64_t before = queue_bytes(c);
    outq_push(private_queue(c), f);
    count_queue(c, before);
}

static void drop_unsent(struct conn *c)
{
    uint64_t before = queue_bytes(c);
    if (c->outq != NULL)
        outq_drop_unsent(c->outq);
    count_queue(c, before);
}

static void drop_queue(struct conn *c)
{
    if (c->outq == NULL)
        return;
    metrics_add(&c->worker->metrics, METRIC_QUEUED_BYTES, -c->outq->bytes);
    outq_fini(c->outq);
    free(c->outq);
    c->outq = NULL;
}

void conn_wait_writable(struct conn *c)
{
    if (c->blocked)
        return;
    c->blocked = true;
    metrics_add(&c->worker->metrics, METRIC_CLIENTS_BLOCKED, 1);
    c->blocked_at_ms = (uint32_t)loop_now_ms(c->worker->loop);
    int unsent = 0;
    /* What the kernel holds is as late as what we hold. Asked only here: it is a system call. */
    if (ioctl(conn_fd(c), SIOCOUTQ, &unsent) == 0)
        c->kernel_bytes = (uint32_t)unsent;
    metrics_add(&c->worker->metrics, METRIC_WRITES_BLOCKED, 1);
    poller_change(c->worker->poller, c->fd, POLLER_READ_WRITE, c);
    if (c->state == CONN_OPEN)
        c->worker->ops->on_blocked(c);
}

uint64_t conn_waiting_bytes(const struct conn *c)
{
    return (c->outq != NULL ? c->outq->bytes : 0) + (c->blocked ? c->kernel_bytes : 0);
}

uint64_t conn_unsent_bytes(const struct conn *c)
{
    int unsent = 0;
    return ioctl(conn_fd(c), SIOCOUTQNSD, &unsent) == 0 ? (uint64_t)unsent : 0;
}

uint64_t conn_blocked_ms(const struct conn *c)
{
    return c->blocked ? (uint32_t)loop_now_ms(c->worker->loop) - c->blocked_at_ms : 0;
}

static void begin_linger(struct conn *c)
{
    shutdown(conn_fd(c), SHUT_WR);
    set_state(c, CONN_LINGER);
    conn_set_timer(c, LINGER_MS);
}

/* Everything queued is with the kernel. */
static void on_queue_empty(struct conn *c)
{
    bool is_awaited = c->blocked || c->wants_drained;
    drop_queue(c);
    if (c->blocked) {
        poller_change(c->worker->poller, c->fd, POLLER_READ, c);
        unblock(c);
    }
    c->wants_drained = false;
    if (is_awaited && c->state == CONN_OPEN)
        c->worker->ops->on_drained(c);
    if (c->state == CONN_CLOSING && !c->awaits_close)
        begin_linger(c);
}

/* One gathered write. False when no more can be written now. */
static bool write_some(struct conn *c)
{
    struct iovec pieces[GATHER_PIECES];
    int count = outq_gather(c->outq, pieces, GATHER_PIECES);
    struct msghdr message = {.msg_iov = pieces, .msg_iovlen = (size_t)count};
    size_t offered = 0;
    for (int i = 0; i < count; i++)
        offered += pieces[i].iov_len;
    ssize_t n = sendmsg(conn_fd(c), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    metrics_add(&c->worker->metrics, METRIC_WRITES, 1);
    if (n < 0) {
        if (errno == EAGAIN || errno == EINTR)
            conn_wait_writable(c);
        else
            conn_abort(c, METRIC_ENDED_LOST);
        return false;
    }
    /* A page never hears of control frames: to it a ping is silence. */
    if (outq_has_message(c->outq))
        c->last_sent_ms = (uint32_t)loop_now_ms(c->worker->loop);
    outq_consume(c->outq, (size_t)n);
    metrics_add(&c->worker->metrics, METRIC_QUEUED_BYTES, -(uint64_t)n);
    if ((size_t)n == offered)
        return true;
    conn_wait_writable(c);
    return false;
}

static void write_queue(struct conn *c)
{
    while (c->outq != NULL && !outq_is_empty(c->outq)) {
        if (!write_some(c))
            return;
    }
    on_queue_empty(c);
}

void conn_call_when_drained(struct conn *c)
{
    c->wants_drained = true;
    mark_dirty(c);
}

void conn_flush(struct conn *c)
{
    if (c->state != CONN_DEAD && !c->blocked)
        write_queue(c);
}

void conn_queue_shared(struct conn *c, struct frame *f)
{
    if (c->state == CONN_DEAD || c->has_last_words) {
        frame_unref(f);
        return;
    }
    push(c, f);
    mark_dirty(c);
}

static bool is_past_hard_bytes(const struct conn *c)
{
    return c->outq != NULL &&
           outq_memory_bytes(c->outq) > (uint64_t)c->worker->config->limits.hard_bytes;
}

void conn_queue(struct conn *c, struct frame *f)
{
    if (!is_past_hard_bytes(c)) {
        conn_queue_shared(c, f);
        return;
    }
    frame_unref(f);
    conn_fail_slow(c, NULL);
}

/* A peer that sends pings and reads nothing is owed the newest pong alone (RFC 6455, 5.5.3), so beyond
 * a few none makes the queue longer. */
static void push_control(struct conn *c, struct frame *f, bool is_pong)
{
    struct outq *q = private_queue(c);
    bool is_enough = is_pong && c->blocked && q->control >= CONTROL_WAITING_MAX;
    if (!is_enough || !outq_try_replace_control(q, f))
        outq_push_control(q, f);
}

void conn_queue_control(struct conn *c, enum ws_opcode opcode, struct slice payload)
{
    if (c->state != CONN_OPEN)
        return;
    if (is_past_hard_bytes(c)) {
        conn_fail_later(c, WS_CLOSE_SLOW, METRIC_ENDED_SLOW);
        return;
    }
    uint64_t before = queue_bytes(c);
    push_control(c, frame_new(opcode, false, payload, (struct slice){0}, (uint32_t)payload.len),
                 opcode == WS_OP_PONG);
    count_queue(c, before);
    mark_dirty(c);
}

void conn_keep_rest(struct conn *c, struct frame *f, uint32_t sent)
{
    if (sent == 0 && c->has_last_words)
        return;
    uint64_t before = queue_bytes(c);
    if (sent > 0)
        outq_push_partial(private_queue(c), frame_ref(f), sent);
    else
        outq_push(private_queue(c), frame_ref(f));
    count_queue(c, before);
    mark_dirty(c);
}

/* --- closing ------------------------------------------------------------------------------- */

static void send_close(struct conn *c, struct frame *f, bool await_answer)
{
    set_state(c, CONN_CLOSING); /* the upper layers still see what was not written */
    /* A reply that is just being written (an error that says why) goes first; a backlog does not.
     */
    if (c->blocked && !c->has_last_words)
        drop_unsent(c);
    push(c, f);
    c->awaits_close = await_answer;
    conn_set_timer(c, c->has_last_words ? SLOW_WAIT_MS : CLOSE_WAIT_MS);
    list_remove(&c->link);
    mark_dirty(c);
}

void conn_fail_slow(struct conn *c, struct frame *words)
{
    if (c->state != CONN_OPEN || c->cause != 0) {
        if (words != NULL)
            frame_unref(words);
        return;
    }
    drop_unsent(c);
    if (words != NULL)
        push(c, words);
    c->has_last_words = true;
    conn_wait_writable(c); /* so that the upper layer, too, sends nothing behind what was dropped */
    conn_fail_later(c, WS_CLOSE_SLOW, METRIC_ENDED_SLOW);
}

void conn_close(struct conn *c, uint16_t code, const char *reason, enum metric cause)
{
    if (c->state != CONN_OPEN)
        return;
    c->cause = (uint8_t)cause;
    c->close_code = code;
    /* After an error of the protocol nothing more that the peer says can be trusted; and who never stops
     * would have all of it decoded. */
    bool await_answer = cause != METRIC_ENDED_PROTOCOL && cause != METRIC_ENDED_LIMIT;
    send_close(c, frame_close(code, reason), await_answer);
}

void conn_fail_now(struct conn *c)
{
    if (c->state != CONN_OPEN)
        return;
    enum metric cause = c->cause;
    if (c->close_code == 0)
        conn_abort(c, cause);
    else
        conn_close(c, c->close_code, "", cause);
}

static void on_peer_close(struct conn *c, const struct ws_message *m)
{
    if (c->state == CONN_CLOSING) {
        c->awaits_close = false;
        if (c->outq == NULL)
            begin_linger(c);
        return;
    }
    c->cause = METRIC_ENDED_CLIENT;
    c->close_code = m->code;
    struct frame *answer =
        m->code == WS_CLOSE_NO_STATUS
            ? frame_new(WS_OP_CLOSE, false, (struct slice){0}, (struct slice){0}, 0)
            : frame_close(m->code, "");
    send_close(c, answer, false);
}

static void on_protocol_error(struct conn *c, const struct ws_message *m)
{
    static const struct {
        uint16_t code;
        enum metric metric;
    } metrics[] = {
        {WS_CLOSE_TOO_LARGE, METRIC_ERR_TOO_LARGE},
        {WS_CLOSE_BAD_DATA, METRIC_ERR_BAD_DATA},
        {0, METRIC_ERR_PROTOCOL},
    };
    if (c->state == CONN_CLOSING) {
        c->awaits_close = false;
        if (c->outq == NULL)
            begin_linger(c);
        return;
    }
    size_t i = 0;
    while (metrics[i].code != 0 && metrics[i].code != m->code)
        i++;
    metrics_add(&c->worker->metrics, metrics[i].metric, 1);
    conn_close(c, m->code, m->why, METRIC_ENDED_PROTOCOL);
}

/* --- reading ------------------------------------------------------------------------------- */

/* Acts on one decoded event. False when nothing more may be decoded. */
static bool on_ws_event(struct conn *c, enum ws_event event, const struct ws_message *m)
{
    bool is_open = c->state == CONN_OPEN;
    switch (event) {
    case WS_MESSAGE:
        if (is_open)
            c->worker->ops->on_message(c, m->opcode, m->payload);
        return c->state == CONN_OPEN || c->state == CONN_CLOSING;
    case WS_PING: conn_queue_control(c, WS_OP_PONG, m->payload); return true;
    case WS_PONG:
        c->pings_unanswered = 0;
        if (is_open)
            c->worker->ops->on_pong(c, m->payload);
        return true;
    case WS_CLOSE: on_peer_close(c, m); return false;
    case WS_ERROR: on_protocol_error(c, m); return false;
    case WS_NEED_MORE: return false;
    }
    return false;
}

/* A decoder is needed only from here to the next message boundary; it lives on the stack unless
 * the bytes end inside a message. */
static void decode(struct conn *c, uint8_t *ptr, size_t len)
{
    struct worker *w = c->worker;
    const struct ws_decoder_config config = {
        .is_server = true,
        .deflate = c->deflate,
        .message_bytes = (size_t)w->config->limits.message_bytes,
        .inflater = w->inflater,
        .inflated = &w->inflated,
    };
    struct ws_decoder decoder = {0};
    if (c->decoder != NULL) {
        decoder = *c->decoder;
        free(c->decoder);
        c->decoder = NULL;
    }
    bool more = true;
    while (more) {
        struct ws_message m = {0};
        size_t used = 0;
        enum ws_event event = ws_decoder_next(&decoder, &config, ptr, len, &used, &m);
        ptr += used;
        len -= used;
        more = on_ws_event(c, event, &m);
    }
    bool may_go_on = c->state == CONN_OPEN || (c->state == CONN_CLOSING && c->awaits_close);
    if (may_go_on && !ws_decoder_is_idle(&decoder))
        c->decoder = mem_dup(&decoder, sizeof decoder);
    else
        ws_decoder_fini(&decoder);
}

/* Acts on a whole head, or one that will never be good. bytes must outlive the state HTTP. */
static void answer_head(struct conn *c, const struct http_head *head, int status,
                        struct slice bytes)
{
    const struct worker *w = c->worker;
    if (status > 0) {
        w->ops->on_bad_request(c, head, status);
        return;
    }
    w->ops->on_request(c, head);
    if (c->state == CONN_OPEN && head->bytes < bytes.len)
        decode(c, (uint8_t *)bytes.ptr + head->bytes, bytes.len - head->bytes);
}

static void read_head(struct conn *c, uint8_t *ptr, size_t len)
{
    struct buf whole = {0};
    struct slice bytes = slice_of((char *)ptr, len);
    if (c->head != NULL) {
        buf_append(c->head, ptr, len);
        bytes = buf_slice(c->head);
    }
    struct http_head head;
    int status =
        http_head_parse(&head, bytes.ptr, bytes.len, (size_t)c->worker->config->limits.head_bytes);
    if (status >= 0) {
        if (c->head != NULL) {
            whole = *c->head;
            *c->head = (struct buf){0};
        }
        answer_head(c, &head, status, bytes);
        buf_fini(&whole);
    } else if (c->head == NULL) {
        c->head = mem_zalloc(sizeof *c->head);
        buf_append(c->head, ptr, len);
    }
}

static void on_readable(struct conn *c)
{
    uint8_t *buffer = c->worker->read_buffer;
    ssize_t n = recv(conn_fd(c), buffer, WORKER_READ_BYTES, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        conn_abort(c, METRIC_ENDED_LOST);
        return;
    }
    if (c->state == CONN_HTTP)
        read_head(c, buffer, (size_t)n);
    else if (c->state == CONN_OPEN || (c->state == CONN_CLOSING && c->awaits_close))
        decode(c, buffer, (size_t)n);
    /* Otherwise the peer has nothing to say that matters: read and forget until it closes. */
}

void conn_on_ready(void *conn, bool readable, bool writable)
{
    struct conn *c = conn;
    if (writable && c->blocked)
        write_queue(c);
    if (readable && c->state != CONN_DEAD)
        on_readable(c);
}

/* --- life ---------------------------------------------------------------------------------- */

static void keep_peer(struct conn *c, const union socket_peer *peer)
{
    c->address_family = (uint8_t)peer->any.sa_family;
    if (peer->any.sa_family == AF_INET) {
        memcpy(c->address, &peer->v4.sin_addr, sizeof peer->v4.sin_addr);
        c->port = ntohs(peer->v4.sin_port);
    } else if (peer->any.sa_family == AF_INET6) {
        memcpy(c->address, &peer->v6.sin6_addr, sizeof peer->v6.sin6_addr);
        c->port = ntohs(peer->v6.sin6_port);
    }
}

/* Nobody will hear of it. Relaxed: load is for choosing a worker, nothing hangs on its order. */
static void refuse_socket(struct worker *w, int fd)
{
    close(fd);
    metrics_add(&w->metrics, METRIC_ACCEPT_REFUSED, 1);
    atomic_fetch_sub_explicit(&w->load, 1, memory_order_relaxed);
}

void conn_accept(struct worker *w, int fd, const union socket_peer *peer)
{
    struct conn *c = mem_zalloc(sizeof *c);
    if (!poller_add(w->poller, fd, c)) {
        free(c);
        refuse_socket(w, fd);
        return;
    }
    c->worker = w;
    c->fd = fd;
    c->state = CONN_HTTP;
    list_init(&c->link);
    wheel_timer_init(&c->timer);
    c->accepted_us = (uint32_t)(clock_mono_ns() / 1000);
    keep_peer(c, peer);
    worker_add_conn(w, c);
    metrics_add(&w->metrics, METRIC_SOCKETS, 1);
    conn_set_timer(c, (uint64_t)w->config->listen.handshake_ms);
    if (w->first_reads == 0)
        return; /* in a storm the clients that are there get their turn in between */
    w->first_reads--;
    on_readable(c); /* the request is there already, see listener.c */
}

void conn_respond(struct conn *c, struct slice response, unsigned status)
{
    static const enum metric by_class[] = {
        [2] = METRIC_HTTP_2XX, [4] = METRIC_HTTP_4XX, [5] = METRIC_HTTP_5XX};
    assert(c->state == CONN_HTTP && (status / 100 == 2 || status / 100 == 4 || status / 100 == 5));
    metrics_add(&c->worker->metrics, by_class[status / 100], 1);
    push(c, frame_raw(response));
    c->close_code = (uint16_t)status;
    c->awaits_close = false;
    set_state(c, CONN_CLOSING);
    conn_set_timer(c, CLOSE_WAIT_MS);
    mark_dirty(c);
}

void conn_upgrade(struct conn *c, struct slice response, bool deflate, void *upper)
{
    assert(c->state == CONN_HTTP);
    outq_push_control(private_queue(c), frame_raw(response)); /* no pong may overtake it */
    count_queue(c, 0);
    c->deflate = deflate;
    c->upper = upper;
    c->kernel_bytes = 0;
    set_state(c, CONN_OPEN);
    wheel_cancel(&c->worker->wheel, &c->timer);
    metrics_add(&c->worker->metrics, METRIC_CONNECTIONS, 1);
    metrics_add(&c->worker->metrics, METRIC_CONNECTIONS_TOTAL, 1);
    mark_dirty(c);
}

void conn_on_timer(struct conn *c)
{
    if (c->state == CONN_OPEN) {
        c->worker->ops->on_timer(c);
        return;
    }
    if (c->state == CONN_HTTP)
        metrics_add(&c->worker->metrics, METRIC_HANDSHAKE_TIMEOUTS, 1);
    conn_abort(c, METRIC_ENDED_LOST);
}

void conn_free(struct conn *c)
{
    struct worker *w = c->worker;
    drop_queue(c);
    if (c->decoder != NULL) {
        ws_decoder_fini(c->decoder);
        free(c->decoder);
    }
    metrics_add(&w->metrics, METRIC_SOCKETS, (uint64_t)-1);
    /* Relaxed: a number for choosing a worker, nothing hangs on its order. */
    atomic_fetch_sub_explicit(&w->load, 1, memory_order_relaxed);
    free(c);
}

void conn_peer_text(const struct conn *c, char *out, size_t size)
{
    char host[INET6_ADDRSTRLEN] = "unknown";
    bool is_v6 = c->address_family == AF_INET6;
    if (c->address_family != 0)
        inet_ntop(c->address_family, c->address, host, sizeof host);
    snprintf(out, size, is_v6 ? "[%s]:%u" : "%s:%u", host, c->port);
}

void conn_read_traffic(const struct conn *c, struct conn_traffic *out)
{
    struct tcp_info info = {0};
    socklen_t len = sizeof info;
    if (getsockopt(conn_fd(c), IPPROTO_TCP, TCP_INFO, &info, &len) != 0)
        info = (struct tcp_info){0};
    *out = (struct conn_traffic){.sent_bytes = info.tcpi_bytes_acked,
                                 .received_bytes = info.tcpi_bytes_received,
                                 .rtt_us = info.tcpi_rtt};
}
