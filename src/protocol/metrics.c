/*
 * metrics.c - adds up what the threads counted and writes it in Prometheus' text format 0.0.4.
 *
 * Called by the thread that answers a scrape. The other threads go on counting meanwhile: each
 * value is read once, so a scrape is never torn within a value or a histogram, but two values
 * need not be of the same instant.
 *
 * The process_ metrics follow the names every Prometheus client uses; one that the system does
 * not tell (no /proc) is left out.
 */
#include "protocol/metrics.h"

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S         1e9
#define FIRST_BOUND_NS   1000u /* 1 µs */
#define PROC_STAT_BYTES  1024  /* /proc/self/stat: 52 numbers and a name of at most 64 bytes */
#define STAT_START_FIELD 22    /* proc(5): starttime, in ticks since boot */

struct metric_row {
    const char *type;
    const char *name;
    const char *labels;
    const char *help;
};

#define TYPE_GAUGE   "gauge"
#define TYPE_COUNTER "counter"

static const struct metric_row rows[METRIC_COUNT] = {
#define METRIC_ROW(symbol, type, name, labels, help) {TYPE_##type, name, labels, help},
    METRIC_TABLE(METRIC_ROW)
#undef METRIC_ROW
};

const char *metrics_labels(enum metric id)
{
    return rows[id].labels;
}

static const struct metric_row histogram_rows[HISTOGRAM_COUNT] = {
#define METRIC_ROW(symbol, name, help) {"histogram", name, "", help},
    METRIC_HISTOGRAM_TABLE(METRIC_ROW)
#undef METRIC_ROW
};

/* --- counting ------------------------------------------------------------------------------- */

/* The first bucket whose bound, 1 µs * 2^i, is not below ns; HISTOGRAM_BUCKETS is +Inf. */
static unsigned bucket_of(uint64_t ns)
{
    unsigned i = 0;
    while (i < HISTOGRAM_BUCKETS && ((uint64_t)FIRST_BOUND_NS << i) < ns)
        i++;
    return i;
}

void metrics_observe_ns(struct metrics *m, enum metric_histogram id, uint64_t ns, uint64_t count)
{
    metrics_bump(&m->histograms[id].buckets[bucket_of(ns)], count);
    metrics_bump(&m->histograms[id].sum_ns, ns * count);
}

uint64_t metrics_sum(struct metrics *const *all, size_t count, enum metric id)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += metrics_get(all[i], id);
    return sum;
}

uint64_t metrics_histogram_sum(struct metrics *const *all, size_t count, enum metric_histogram id,
                               uint64_t *sum_ns)
{
    uint64_t observations = 0;
    *sum_ns = 0;
    for (size_t i = 0; i < count; i++) {
        const struct metrics_histogram *h = &all[i]->histograms[id];
        for (size_t b = 0; b <= HISTOGRAM_BUCKETS; b++)
            observations += atomic_load_explicit(&h->buckets[b], memory_order_relaxed);
        *sum_ns += atomic_load_explicit(&h->sum_ns, memory_order_relaxed);
    }
    return observations;
}

/* --- the process ---------------------------------------------------------------------------- */

static bool read_resident_bytes(double *value)
{
    FILE *f = fopen("/proc/self/statm", "re");
    if (f == NULL)
        return false;
    unsigned long pages = 0;
    bool found = fscanf(f, "%*u %lu", &pages) == 1;
    fclose(f);
    *value = (double)pages * (double)sysconf(_SC_PAGESIZE);
    return found;
}

/* Linux 6.2 and later tell the number as the folder's size; counting 20,000 entries takes
 * milliseconds, which is kept for older kernels. */
static bool read_open_fds(double *value)
{
    struct stat st;
    if (stat("/proc/self/fd", &st) == 0 && st.st_size > 0) {
        *value = (double)st.st_size;
        return true;
    }
    DIR *dir = opendir("/proc/self/fd");
    if (dir == NULL)
        return false;
    *value = -1; /* the folder's own descriptor */
    for (const struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir))
        *value += entry->d_name[0] != '.';
    closedir(dir);
    return true;
}

static bool read_max_fds(double *value)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
        return false;
    *value = (double)limit.rlim_cur;
    return true;
}

static bool read_cpu_seconds(double *value)
{
    struct timespec used;
    if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used) != 0)
        return false;
    *value = (double)used.tv_sec + (double)used.tv_nsec / NS_PER_S;
    return true;
}

static bool read_boot_time(double *value)
{
    FILE *f = fopen("/proc/stat", "re");
    if (f == NULL)
        return false;
    char *line = NULL;
    size_t size = 0;
    bool found = false;
    while (!found && getline(&line, &size, f) > 0)
        found = sscanf(line, "btime %lf", value) == 1;
    free(line);
    fclose(f);
    return found;
}

/* Ticks from boot to our start. The name in field 2 may hold anything, so fields are counted from
 * the last ')'. */
static bool read_start_ticks(double *value)
{
    char text[PROC_STAT_BYTES];
    FILE *f = fopen("/proc/self/stat", "re");
    if (f == NULL)
        return false;
    size_t len = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[len] = '\0';
    const char *at = strrchr(text, ')');
    for (int field = 2; at != NULL && field < STAT_START_FIELD; field++)
        at = strchr(at + 1, ' ');
    return at != NULL && sscanf(at, "%lf", value) == 1;
}

static bool read_start_time(double *value)
{
    double boot = 0;
    double ticks = 0;
    if (!read_boot_time(&boot) || !read_start_ticks(&ticks))
        return false;
    *value = boot + ticks / (double)sysconf(_SC_CLK_TCK);
    return true;
}

/* clang-format off */
#define PROCESS_TABLE(X)                                                                           \
    X(read_resident_bytes, GAUGE, "process_resident_memory_bytes", "", "Resident memory of the process") \
    X(read_open_fds, GAUGE, "process_open_fds", "", "File descriptors open now")                   \
    X(read_max_fds, GAUGE, "process_max_fds", "", "Most file descriptors that may be open")        \
    X(read_cpu_seconds, COUNTER, "process_cpu_seconds_total", "", "CPU time used, in user mode and in the kernel") \
    X(read_start_time, GAUGE, "process_start_time_seconds", "", "Unix time at which the process started")
/* clang-format on */

static const struct process_row {
    bool (*read)(double *value);
    struct metric_row row;
} process_rows[] = {
#define PROCESS_ROW(read, type, name, labels, help) {read, {TYPE_##type, name, labels, help}},
    PROCESS_TABLE(PROCESS_ROW)
#undef PROCESS_ROW
};

/* --- exposition ----------------------------------------------------------------------------- */

static void expose_header(struct buf *out, const struct metric_row *row)
{
    buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", row->name, row->help, row->name, row->type);
}

static void expose_label_value(struct buf *out, const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '\n') {
            buf_append_str(out, "\\n");
            continue;
        }
        if (*text == '\\' || *text == '"')
            buf_append(out, "\\", 1);
        buf_append(out, text, 1);
    }
}

static void expose_info(struct buf *out, const char *node)
{
    static const struct metric_row row = {TYPE_GAUGE, "tickcast_info", "",
                                          "Always 1; version and name of the node"};
    expose_header(out, &row);
    buf_append_str(out, "tickcast_info{version=\"" TICKCAST_VERSION "\",node=\"");
    expose_label_value(out, node);
    buf_append_str(out, "\"} 1\n");
}

static void expose_values(struct buf *out, struct metrics *const *all, size_t count)
{
    const char *name = "";
    for (size_t i = 0; i < METRIC_COUNT; i++) {
        const struct metric_row *row = &rows[i];
        if (strcmp(name, row->name) != 0)
            expose_header(out, row);
        name = row->name;
        buf_append_str(out, name);
        if (row->labels[0] != '\0')
            buf_printf(out, "{%s}", row->labels);
        uint64_t value = metrics_sum(all, count, (enum metric)i);
        if (strcmp(row->type, TYPE_GAUGE) == 0) /* one owner may be below zero, for a moment */
            buf_printf(out, " %lld\n", (long long)value);
        else
            buf_printf(out, " %llu\n", (unsigned long long)value);
    }
}

static void expose_histogram(struct buf *out, struct metrics *const *all, size_t count, size_t id)
{
    const char *name = histogram_rows[id].name;
    uint64_t total = 0;
    uint64_t sum_ns = 0;
    expose_header(out, &histogram_rows[id]);
    for (size_t b = 0; b <= HISTOGRAM_BUCKETS; b++) {
        for (size_t i = 0; i < count; i++)
            total += atomic_load_explicit(&all[i]->histograms[id].buckets[b], memory_order_relaxed);
        if (b < HISTOGRAM_BUCKETS)
            buf_printf(out, "%s_bucket{le=\"%.9g\"} %llu\n", name,
                       (double)((uint64_t)FIRST_BOUND_NS << b) / NS_PER_S,
                       (unsigned long long)total);
    }
    for (size_t i = 0; i < count; i++)
        sum_ns += atomic_load_explicit(&all[i]->histograms[id].sum_ns, memory_order_relaxed);
    buf_printf(out, "%s_bucket{le=\"+Inf\"} %llu\n%s_sum %.9f\n%s_count %llu\n", name,
               (unsigned long long)total, name, (double)sum_ns / NS_PER_S, name,
               (unsigned long long)total);
}

static void expose_process(struct buf *out)
{
    for (size_t i = 0; i < sizeof process_rows / sizeof *process_rows; i++) {
        const struct metric_row *row = &process_rows[i].row;
        double value = 0;
        if (!process_rows[i].read(&value))
            continue;
        expose_header(out, row);
        buf_printf(out, "%s %.15g\n", row->name, value);
    }
}

void metrics_expose(struct buf *out, struct metrics *const *all, size_t count, const char *node)
{
    expose_info(out, node);
    expose_values(out, all, count);
    for (size_t i = 0; i < HISTOGRAM_COUNT; i++)
        expose_histogram(out, all, count, i);
    expose_process(out);
}
