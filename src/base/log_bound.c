/*
 * log_bound.c - a count per kind and second, in one atomic word.
 *
 *      window = second << 32 | lines asked for in it
 *
 * Whoever finds an older second there begins the new one, with relaxed orders: a line more or less
 * at the turn of a second does not matter. `untold` and `due_ms` are ordered: a line is counted
 * before it looks whether a report is due, and a report is over before the counts are looked at
 * again, so that none is left untold.
 */
#include "base/log_bound.h"

#include <stdatomic.h>
#include <stddef.h>

#define REPORT_EVERY_MS 1000

static const char *const kind_names[LOG_KINDS] = {
    [LOG_CLIENTS] = "clients",
    [LOG_CALLS] = "calls",
    [LOG_TRACES] = "traces",
    [LOG_FAULTS] = "faults",
};

static atomic_uint_fast32_t bound; /* lines per second; 0: none */
static struct {
    atomic_uint_fast64_t window;
    atomic_uint_fast64_t untold; /* suppressed since the last report */
} kinds[LOG_KINDS];
static atomic_uint_fast64_t total;
static atomic_uint_fast64_t due_ms; /* when to report; 0: nothing to tell */

void log_bound_set(uint32_t lines_per_s)
{
    atomic_store_explicit(&bound, lines_per_s, memory_order_relaxed);
}

/* Lines asked for in this second, this one included. */
static uint32_t count_line(enum log_kind kind, uint64_t now_ms)
{
    atomic_uint_fast64_t *window = &kinds[kind].window;
    uint64_t second = now_ms / 1000 << 32;
    uint_fast64_t seen = atomic_load_explicit(window, memory_order_relaxed);
    while (seen >> 32 << 32 != second) {
        if (atomic_compare_exchange_weak_explicit(window, &seen, second | 1, memory_order_relaxed,
                                                  memory_order_relaxed))
            return 1;
    }
    return (uint32_t)atomic_fetch_add_explicit(window, 1, memory_order_relaxed) + 1;
}

enum log_verdict log_bound_take(enum log_kind kind, uint64_t now_ms)
{
    uint32_t most = (uint32_t)atomic_load_explicit(&bound, memory_order_relaxed);
    if (most == 0 || count_line(kind, now_ms) <= most)
        return LOG_WRITE;
    atomic_fetch_add_explicit(&total, 1, memory_order_relaxed);
    atomic_fetch_add(&kinds[kind].untold, 1);
    uint_fast64_t none = 0;
    bool is_first = atomic_load(&due_ms) == 0 &&
                    atomic_compare_exchange_strong(&due_ms, &none, now_ms + REPORT_EVERY_MS);
    return is_first ? LOG_SUPPRESS_FIRST : LOG_SUPPRESS;
}

uint64_t log_bound_report_in_ms(uint64_t now_ms)
{
    uint64_t due = atomic_load_explicit(&due_ms, memory_order_relaxed);
    if (due == 0)
        return UINT64_MAX;
    return due > now_ms ? due - now_ms : 0;
}

uint64_t log_bound_report(enum log_kind kind)
{
    return atomic_exchange_explicit(&kinds[kind].untold, 0, memory_order_relaxed);
}

void log_bound_reported(uint64_t now_ms)
{
    atomic_store(&due_ms, 0);
    for (size_t i = 0; i < LOG_KINDS; i++) {
        if (atomic_load(&kinds[i].untold) != 0)
            atomic_store(&due_ms, now_ms + REPORT_EVERY_MS);
    }
}

uint64_t log_bound_total(void)
{
    return atomic_load_explicit(&total, memory_order_relaxed);
}

const char *log_kind_name(enum log_kind kind)
{
    return (size_t)kind < LOG_KINDS ? kind_names[kind] : "unknown";
}
