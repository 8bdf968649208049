/*
 * log.h - structured log lines on standard error that never block the thread that writes them.
 *
 * A line is an event name and typed fields. It is formatted in the caller's thread, copied into a
 * bounded queue and written by a thread of its own; when the queue is full (standard error is a
 * pipe that nobody reads) the line is dropped and counted, and a line `log_dropped count=N`
 * follows as soon as there is room. Lines that peers can cause at will are bounded per second
 * besides: log_often. Any thread may log.
 *
 *   text: time=2026-01-02T03:04:05.678Z level=info node=n1 event=redis_connected host="a b" ms=12
 *   json: {"time":"…","level":"info","node":"n1","event":"redis_connected","host":"a b","ms":12}
 *
 * Values are escaped so that no input can forge a line or a field. A line is at most 4 KiB; a
 * longer field is cut and ends in "...".
 */
#ifndef TICKCAST_BASE_LOG_H
#define TICKCAST_BASE_LOG_H

#include "base/log_bound.h"
#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };
enum log_format { LOG_TEXT, LOG_JSON };

struct log_field {
    const char *key; /* NULL ends a list */
    enum { LOG_FIELD_TEXT, LOG_FIELD_INT } kind;
    struct slice text;
    int64_t number;
};

#define LOG_STR(k, v)   ((struct log_field){.key = (k), .text = slice_str(v)})
#define LOG_SLICE(k, v) ((struct log_field){.key = (k), .text = (v)})
#define LOG_INT(k, v) \
    ((struct log_field){.key = (k), .kind = LOG_FIELD_INT, .number = (int64_t)(v)})

/* Starts the writer thread. node is copied. Before this, and after log_fini, lines go straight to
 * standard error. */
void log_init(enum log_level level, enum log_format format, const char *node);
void log_fini(void); /* writes what is queued, for at most a second */

void log_set_level(enum log_level level);    /* any thread */
void log_set_format(enum log_format format); /* any thread: of the lines from now on */
bool log_is_on(enum log_level level);
bool log_level_parse(struct slice name, enum log_level *level);
const char *log_level_name(enum log_level level);
uint64_t log_dropped(void); /* lines dropped since the start */

void log_write(enum log_level level, const char *event, const struct log_field *fields);

/* As log_info("event", LOG_STR("key", value), ...); fields are evaluated only if the line is. */
#define log_at(level, event, ...)                                             \
    do {                                                                      \
        if (log_is_on(level))                                                 \
            log_write(level, event, (const struct log_field[]){__VA_ARGS__}); \
    } while (0)
#define log_debug(...) log_at(LOG_DEBUG, __VA_ARGS__, {0})
#define log_info(...)  log_at(LOG_INFO, __VA_ARGS__, {0})
#define log_warn(...)  log_at(LOG_WARN, __VA_ARGS__, {0})
#define log_error(...) log_at(LOG_ERROR, __VA_ARGS__, {0})

/* May a line of this kind be written in this second? If not, it is counted (log_bound.h). */
bool log_may(enum log_kind kind);

/* For who has asked log_is_on, and log_may, already. */
#define log_line(level, event, ...) \
    log_write(level, event, (const struct log_field[]){__VA_ARGS__, {0}})

/* For lines that peers can cause at will: as log_at, and no more than the bound of their kind. */
#define log_often(kind, level, event, ...)                                         \
    do {                                                                           \
        if (log_is_on(level) && log_may(kind))                                     \
            log_write(level, event, (const struct log_field[]){__VA_ARGS__, {0}}); \
    } while (0)

#endif
