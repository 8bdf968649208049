/*
 * bench_node.c - what the nodes' processes have used, and the cores that the load has.
 *
 * Processor time comes from the process's own clock (POSIX lets one process read another's): it is
 * exact to the nanosecond, where utime + stime of /proc/PID/stat are the same sum cut to ticks of
 * 10 ms. Memory comes from smaps_rollup, because the kernel keeps VmRSS only about right (off by up
 * to a quarter of a megabyte for each CPU).
 */
#include "ctl/bench_run.h"

#include <sched.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

double node_cpu_read_s(const struct node_pids *pids)
{
    double sum_s = 0;
    for (size_t i = 0; i < pids->count; i++) {
        clockid_t id;
        struct timespec ts;
        if (clock_getcpuclockid((pid_t)pids->pid[i], &id) == 0 && clock_gettime(id, &ts) == 0)
            sum_s += (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
    }
    return sum_s;
}

static uint64_t read_resident_bytes(int64_t pid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)pid);
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return 0;
    char line[256];
    unsigned long kilobytes = 0;
    while (fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "Rss: %lu kB", &kilobytes) == 1)
            break;
    }
    fclose(file);
    return (uint64_t)kilobytes * 1024;
}

struct node_usage node_usage_read(const struct node_pids *pids)
{
    struct node_usage usage = {.cpu_s = node_cpu_read_s(pids)};
    for (size_t i = 0; i < pids->count; i++)
        usage.resident_bytes += read_resident_bytes(pids->pid[i]);
    return usage;
}

/* What one core did since the machine started, from its line of /proc/stat. */
static bool parse_core(const char *line, unsigned *core, struct load_usage *usage)
{
    unsigned long long user, nice, system, idle, iowait, irq, softirq, steal;
    if (sscanf(line, "cpu%u %llu %llu %llu %llu %llu %llu %llu %llu", core, &user, &nice, &system,
               &idle, &iowait, &irq, &softirq, &steal) != 9)
        return false;
    usage->busy_ticks = user + nice + system + irq + softirq + steal;
    usage->ticks = usage->busy_ticks + idle + iowait;
    return true;
}

struct load_usage load_usage_read(void)
{
    struct load_usage sum = {0};
    cpu_set_t ours;
    FILE *file = fopen("/proc/stat", "r");
    if (file == NULL)
        return sum;
    if (sched_getaffinity(0, sizeof ours, &ours) == 0) {
        char line[512];
        while (fgets(line, sizeof line, file) != NULL) {
            unsigned core;
            struct load_usage usage;
            if (parse_core(line, &core, &usage) && core < CPU_SETSIZE && CPU_ISSET(core, &ours)) {
                sum.busy_ticks += usage.busy_ticks;
                sum.ticks += usage.ticks;
            }
        }
    }
    fclose(file);
    return sum;
}

double load_usage_share(const struct load_usage *before, const struct load_usage *after)
{
    if (after->ticks <= before->ticks)
        return 0;
    return (double)(after->busy_ticks - before->busy_ticks) /
           (double)(after->ticks - before->ticks);
}
