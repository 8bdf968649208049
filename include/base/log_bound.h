/*
 * log_bound.h - at most so many lines per second of each kind that peers can cause at will.
 *
 * Fifty thousand clients that connect at once must not turn into fifty thousand lines. Lines of a
 * kind beyond the bound of the running second are not even formatted; they are counted, and the
 * log's writer says once per second how many there were. Lines that only the node itself causes
 * have no kind and no bound. Any thread; nothing here blocks.
 */
#ifndef TICKCAST_BASE_LOG_BOUND_H
#define TICKCAST_BASE_LOG_BOUND_H

#include <stdbool.h>
#include <stdint.h>

/* Each kind has a bound of its own, so that a storm of one hides nothing of another. */
enum log_kind {
    LOG_CLIENTS, /* upgrades and ends of clients */
    LOG_CALLS,   /* the ops API and admin commands */
    LOG_TRACES,  /* publications that are followed */
    LOG_FAULTS,  /* what publishers and Redis do wrong */
    LOG_KINDS
};

enum log_verdict {
    LOG_WRITE,
    LOG_SUPPRESS,
    LOG_SUPPRESS_FIRST, /* the first since the last report: somebody has to wake the reporter */
};

/* Lines per second and kind; 0: no bound. */
void log_bound_set(uint32_t lines_per_s);

/* Takes one line of this second's, or counts it as suppressed. now_ms is monotonic. */
enum log_verdict log_bound_take(enum log_kind kind, uint64_t now_ms);

/* In how many milliseconds a report is due: 0 now, UINT64_MAX when there is nothing to tell. */
uint64_t log_bound_report_in_ms(uint64_t now_ms);

/* The lines suppressed since the last report of this kind, which this one is. */
uint64_t log_bound_report(enum log_kind kind);
void log_bound_reported(uint64_t now_ms); /* of every kind */

uint64_t log_bound_total(void); /* suppressed since the start */
const char *log_kind_name(enum log_kind kind);

#endif
