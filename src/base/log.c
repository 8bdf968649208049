/*
 * log.c - log lines on standard error, written by a thread of their own.
 *
 *      any thread                          writer thread
 *      format on the stack                 wait
 *      lock, memcpy ──► ring 1 MiB ──────► lock, memcpy out whole lines, unlock
 *      (no room: count)                    poll, write ──► standard error
 *
 * The lock is held for a copy of at most a line or a chunk, never for a write. The writer writes
 * whole lines of at most PIPE_BUF bytes together, so several processes may share one pipe without
 * mixing their lines, and polls first, so that it can give up in time at the end even if nobody
 * reads. Standard error stays in blocking mode: its file description may be shared with a shell.
 */
#include "base/log.h"

#include "base/clock.h"
#include "base/utf8.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_BYTES    4096 /* one line with its newline; not above PIPE_BUF */
#define VALUE_BYTES   1024 /* one escaped value, so that one long value leaves room for others */
#define NODE_BYTES    128
#define RING_BYTES    (1u << 20) /* some 8,000 usual lines */
#define FLUSH_MS      1000       /* how long log_fini writes */
#define POLL_SLICE_MS 50         /* how late the writer notices that it has to end */

_Static_assert(LINE_BYTES <= PIPE_BUF, "a line must go into a pipe in one piece");

static const char *const level_names[] = {"debug", "info", "warn", "error"};
#define LEVELS (sizeof level_names / sizeof level_names[0])

static atomic_int min_level = LOG_INFO;
static atomic_uint_fast64_t drop_count;
static atomic_uint_fast64_t stop_at_ms; /* monotonic; 0 while the writer has no reason to end */

static atomic_int line_format = LOG_TEXT;

/* Set by log_init before there is a second thread, and left alone from then on. */
static char node_name[NODE_BYTES];
static pthread_t writer;

static struct {
    pthread_mutex_t lock; /* guards the rest of this struct */
    pthread_cond_t changed;
    bool running;        /* lines go through the ring */
    size_t head;         /* where the oldest byte lies */
    size_t used;         /* bytes queued: whole lines */
    uint64_t unreported; /* lines dropped since the last log_dropped line */
    char ring[RING_BYTES];
} queue = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

/* --- levels ------------------------------------------------------------------------------- */

void log_set_level(enum log_level level)
{
    atomic_store_explicit(&min_level, (int)level, memory_order_relaxed); /* orders nothing else */
}

void log_set_format(enum log_format format)
{
    atomic_store_explicit(&line_format, (int)format, memory_order_relaxed); /* the same */
}

bool log_is_on(enum log_level level)
{
    return (int)level >= atomic_load_explicit(&min_level, memory_order_relaxed);
}

bool log_level_parse(struct slice name, enum log_level *level)
{
    for (size_t i = 0; i < LEVELS; i++) {
        if (slice_is(name, level_names[i])) {
            *level = (enum log_level)i;
            return true;
        }
    }
    return false;
}

const char *log_level_name(enum log_level level)
{
    return (size_t)level < LEVELS ? level_names[level] : "unknown";
}

uint64_t log_dropped(void)
{
    return atomic_load_explicit(&drop_count, memory_order_relaxed);
}

/* --- one line ----------------------------------------------------------------------------- */

struct line {
    bool is_json; /* decided once: the format may change meanwhile */
    size_t len;
    char data[LINE_BYTES];
};

#define LINE_END_BYTES 2 /* "}\n" */

static size_t line_room(const struct line *l)
{
    return sizeof l->data - LINE_END_BYTES - l->len;
}

/* Appends all of it or nothing. */
static bool line_add(struct line *l, const char *ptr, size_t len)
{
    if (len > line_room(l))
        return false;
    memcpy(l->data + l->len, ptr, len);
    l->len += len;
    return true;
}

static bool line_add_str(struct line *l, const char *text)
{
    return line_add(l, text, strlen(text));
}

/* Length of the character at s[0], or of the bytes there that are no character. */
static size_t char_bytes(struct slice s, bool *valid)
{
    struct utf8 u = {0};
    size_t n = 0;
    while (n < s.len && utf8_feed(&u, s.ptr + n, 1)) {
        n++;
        if (utf8_is_complete(&u)) {
            *valid = true;
            return n;
        }
    }
    *valid = false;
    return n != 0 ? n : 1;
}

/* The code of a character that a terminal or a line reader might act upon, else -1: control
 * characters (C0, DEL, C1) and the Unicode line and paragraph separators. */
static int control_code(const unsigned char *c, size_t len)
{
    if (len == 1)
        return c[0] < 0x20 || c[0] == 0x7f ? c[0] : -1;
    if (len == 2)
        return c[0] == 0xc2 && c[1] < 0xa0 ? c[1] : -1;
    bool separator = len == 3 && c[0] == 0xe2 && c[1] == 0x80 && (c[2] & 0xfe) == 0xa8;
    return separator ? 0x2000 | (c[2] & 0x3f) : -1;
}

/* Appends one character as it stands inside a JSON string. */
static bool line_add_escaped(struct line *l, struct slice c, bool valid)
{
    if (!valid)
        return line_add_str(l, "\xef\xbf\xbd"); /* U+FFFD */
    if (*c.ptr == '"' || *c.ptr == '\\')
        return line_add(l, (const char[]){'\\', *c.ptr}, 2);
    int code = control_code((const unsigned char *)c.ptr, c.len);
    if (code < 0)
        return line_add(l, c.ptr, c.len);
    if (code == '\n' || code == '\r' || code == '\t')
        return line_add(l, (const char[]){'\\', code == '\n' ? 'n' : code == '\r' ? 'r' : 't'}, 2);
    char hex[7];
    snprintf(hex, sizeof hex, "\\u%04x", (unsigned)code & 0xffff);
    return line_add(l, hex, 6);
}

/* Appends text escaped, cut to what there is room for; one byte is left for a closing quote. */
static void line_add_cut(struct line *l, struct slice text)
{
    size_t room = line_room(l) - 1;
    size_t end = l->len + (room < VALUE_BYTES ? room : VALUE_BYTES);
    size_t cut_at = l->len; /* the last place where "..." still fits */
    while (text.len != 0) {
        bool valid;
        size_t n = char_bytes(text, &valid);
        size_t before = l->len;
        if (before + 3 <= end)
            cut_at = before;
        if (!line_add_escaped(l, slice_of(text.ptr, n), valid) || l->len > end) {
            l->len = cut_at;
            line_add_str(l, "...");
            return;
        }
        text = slice_of(text.ptr + n, text.len - n);
    }
}

/* In text format a plain word stands alone; everything else becomes a JSON string. */
static bool needs_quotes(struct slice text)
{
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        if (c <= ' ' || c >= 0x7f || c == '"' || c == '=' || c == '\\')
            return true;
    }
    return text.len == 0;
}

#define FIELD_BYTES_MIN 24 /* a number, or some of a text with its quotes */

/* Appends a field's name; false, with nothing appended, when the line has no room for more. */
static bool line_add_key(struct line *l, const char *key)
{
    bool json = l->is_json;
    bool first = l->len <= 1; /* in JSON the brace is there already */
    size_t before = l->len;
    if (line_room(l) > strlen(key) + FIELD_BYTES_MIN + 4 &&
        (first || line_add_str(l, json ? "," : " ")) && (!json || line_add_str(l, "\"")) &&
        line_add_str(l, key) && line_add_str(l, json ? "\":" : "="))
        return true;
    l->len = before;
    return false;
}

static void line_add_text(struct line *l, const char *key, struct slice text)
{
    if (!line_add_key(l, key))
        return;
    bool quoted = l->is_json || needs_quotes(text);
    if (quoted)
        line_add_str(l, "\"");
    line_add_cut(l, text);
    if (quoted)
        line_add_str(l, "\"");
}

static void line_add_int(struct line *l, const char *key, int64_t number)
{
    char digits[24];
    snprintf(digits, sizeof digits, "%" PRId64, number);
    if (line_add_key(l, key))
        line_add_str(l, digits);
}

static void line_add_time(struct line *l)
{
    uint64_t now_ms = clock_unix_ms();
    time_t seconds = (time_t)(now_ms / 1000);
    struct tm tm;
    char text[40];
    gmtime_r(&seconds, &tm);
    size_t len = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(text + len, sizeof text - len, ".%03uZ", (unsigned)(now_ms % 1000));
    line_add_text(l, "time", slice_str(text));
}

static void line_format_all(struct line *l, enum log_level level, const char *event,
                            const struct log_field *fields)
{
    l->len = 0;
    l->is_json = atomic_load_explicit(&line_format, memory_order_relaxed) == LOG_JSON;
    if (l->is_json)
        line_add_str(l, "{");
    line_add_time(l);
    line_add_text(l, "level", slice_str(log_level_name(level)));
    if (node_name[0] != '\0')
        line_add_text(l, "node", slice_str(node_name));
    line_add_text(l, "event", slice_str(event));
    for (const struct log_field *f = fields; f != NULL && f->key != NULL; f++) {
        if (f->kind == LOG_FIELD_INT)
            line_add_int(l, f->key, f->number);
        else
            line_add_text(l, f->key, f->text);
    }
    if (l->is_json)
        l->data[l->len++] = '}'; /* line_room kept two bytes for this and the newline */
    l->data[l->len++] = '\n';
}

/* --- writing ------------------------------------------------------------------------------ */

static bool is_past_stop(void)
{
    uint64_t stop_ms = atomic_load_explicit(&stop_at_ms, memory_order_relaxed);
    return stop_ms != 0 && clock_mono_ms() >= stop_ms;
}

/* Writes everything; an error loses the rest, for there is nowhere to report it. */
static void write_all(const char *ptr, size_t len)
{
    while (len != 0) {
        ssize_t n = write(STDERR_FILENO, ptr, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return;
        ptr += n;
        len -= (size_t)n;
    }
}

/* Writes when there is room for it. False when the time to end came first. */
static bool write_when_ready(const char *ptr, size_t len)
{
    struct pollfd fd = {.fd = STDERR_FILENO, .events = POLLOUT};
    while (poll(&fd, 1, POLL_SLICE_MS) <= 0) {
        if (is_past_stop())
            return false;
    }
    write_all(ptr, len);
    return true;
}

/* Copies bytes out of the ring, which stay there. The lock is held. */
static void ring_peek(char *out, size_t len)
{
    size_t first = RING_BYTES - queue.head;
    if (first > len)
        first = len;
    memcpy(out, queue.ring + queue.head, first);
    memcpy(out + first, queue.ring, len - first);
}

/* Takes as many whole lines as one write may carry. The lock is held; used > 0. */
static void ring_take(struct line *chunk)
{
    size_t len = queue.used < sizeof chunk->data ? queue.used : sizeof chunk->data;
    ring_peek(chunk->data, len);
    const char *last = memrchr(chunk->data, '\n', len);
    chunk->len = (size_t)(last - chunk->data) + 1;
    queue.head = (queue.head + chunk->len) % RING_BYTES;
    queue.used -= chunk->len;
}

/* Tells how many lines of each kind there were beyond the bound, once a second. */
static bool report_suppressed(bool is_end)
{
    struct line l;
    bool ok = true;
    uint64_t in_ms = log_bound_report_in_ms(clock_mono_ms());
    if (in_ms == UINT64_MAX || (in_ms > 0 && !is_end))
        return true;
    for (enum log_kind kind = 0; kind < LOG_KINDS && ok; kind++) {
        uint64_t count = log_bound_report(kind);
        if (count == 0)
            continue;
        line_format_all(&l, LOG_WARN, "log_suppressed",
                        (const struct log_field[]){
                            LOG_STR("kind", log_kind_name(kind)), LOG_INT("count", count), {0}});
        ok = write_when_ready(l.data, l.len);
    }
    log_bound_reported(clock_mono_ms());
    return ok;
}

static bool write_drop_report(uint64_t count)
{
    struct line l;
    line_format_all(&l, LOG_WARN, "log_dropped",
                    (const struct log_field[]){LOG_INT("count", count), {0}});
    return write_when_ready(l.data, l.len);
}

/* The lock is held. Waits for lines, for the end, or until suppressed lines have to be told. */
static void wait_for_work(void)
{
    while (queue.used == 0 && queue.running) {
        uint64_t in_ms = log_bound_report_in_ms(clock_mono_ms());
        if (in_ms == 0)
            return;
        if (in_ms == UINT64_MAX) {
            pthread_cond_wait(&queue.changed, &queue.lock);
            continue;
        }
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += (long)(in_ms % 1000) * 1000000;
        until.tv_sec += (time_t)(in_ms / 1000) + until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&queue.changed, &queue.lock, &until);
    }
}

static void *run_writer(void *arg)
{
    struct line chunk;
    bool ok = true;
    while (ok) {
        pthread_mutex_lock(&queue.lock);
        wait_for_work();
        bool is_over = queue.used == 0 && !queue.running;
        chunk.len = 0;
        if (queue.used != 0)
            ring_take(&chunk);
        pthread_mutex_unlock(&queue.lock);
        if (chunk.len != 0)
            ok = write_when_ready(chunk.data, chunk.len);
        ok = ok && report_suppressed(is_over);
        if (is_over)
            break;

        pthread_mutex_lock(&queue.lock);
        uint64_t unreported = ok ? queue.unreported : 0;
        queue.unreported -= unreported;
        pthread_mutex_unlock(&queue.lock);
        if (unreported != 0)
            ok = write_drop_report(unreported);
    }
    return arg;
}

/* Queues a line, or drops and counts it. False when lines do not go through the ring. */
static bool ring_put(const struct line *l)
{
    pthread_mutex_lock(&queue.lock);
    bool running = queue.running;
    bool fits = running && l->len <= RING_BYTES - queue.used;
    if (fits) {
        size_t tail = (queue.head + queue.used) % RING_BYTES;
        size_t first = RING_BYTES - tail < l->len ? RING_BYTES - tail : l->len;
        memcpy(queue.ring + tail, l->data, first);
        memcpy(queue.ring, l->data + first, l->len - first);
        if (queue.used == 0)
            pthread_cond_signal(&queue.changed);
        queue.used += l->len;
    }
    if (running && !fits) {
        queue.unreported++;
        atomic_fetch_add_explicit(&drop_count, 1, memory_order_relaxed);
    }
    pthread_mutex_unlock(&queue.lock);
    return running;
}

void log_write(enum log_level level, const char *event, const struct log_field *fields)
{
    struct line l;
    line_format_all(&l, level, event, fields);
    if (!ring_put(&l))
        write_all(l.data, l.len);
}

bool log_may(enum log_kind kind)
{
    enum log_verdict verdict = log_bound_take(kind, clock_mono_ms());
    if (verdict == LOG_SUPPRESS_FIRST) { /* the writer may wait without a limit */
        pthread_mutex_lock(&queue.lock);
        pthread_cond_signal(&queue.changed);
        pthread_mutex_unlock(&queue.lock);
    }
    return verdict == LOG_WRITE;
}

/* --- start and end ------------------------------------------------------------------------ */

/* Says whether lines go through the ring. Returns whether they did. */
static bool set_running(bool running)
{
    pthread_mutex_lock(&queue.lock);
    bool was_running = queue.running;
    queue.running = running;
    pthread_cond_signal(&queue.changed);
    pthread_mutex_unlock(&queue.lock);
    return was_running;
}

void log_init(enum log_level level, enum log_format format, const char *node)
{
    log_set_level(level);
    log_set_format(format);
    snprintf(node_name, sizeof node_name, "%s", node);
    atomic_store(&stop_at_ms, 0);
    set_running(true);

    sigset_t all, before; /* signals are for the main thread */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    /* Without a writer lines go straight to standard error, which is better than nowhere. */
    if (pthread_create(&writer, NULL, run_writer, NULL) != 0)
        set_running(false);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void log_fini(void)
{
    atomic_store(&stop_at_ms, clock_mono_ms() + FLUSH_MS);
    if (!set_running(false))
        return;
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 1 + FLUSH_MS / 1000; /* the writer ends by itself, unless a write hangs */
    if (pthread_timedjoin_np(writer, NULL, &until) != 0)
        pthread_detach(writer);
    pthread_mutex_lock(&queue.lock);
    queue.head = queue.used = 0; /* what could not be written in time is lost */
    pthread_mutex_unlock(&queue.lock);
}
