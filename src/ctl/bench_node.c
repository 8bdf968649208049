/*
 * bench_node.c - what the node's process has used.
 *
 * Processor time comes from the process's own clock (POSIX lets one process read another's): it is
 * exact to the nanosecond, where utime + stime of /proc/PID/stat are the same sum cut to ticks of
 * 10 ms. Memory comes from smaps_rollup, because the kernel keeps VmRSS only about right (off by up
 * to a quarter of a megabyte for each CPU).
 */
#include "ctl/bench_run.h"

#include <stdio.h>
#include <time.h>

double node_cpu_read_s(int64_t pid)
{
    clockid_t id;
    struct timespec ts;
    if (pid == 0 || clock_getcpuclockid((pid_t)pid, &id) != 0 || clock_gettime(id, &ts) != 0)
        return 0;
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
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

struct node_usage node_usage_read(int64_t pid)
{
    if (pid == 0)
        return (struct node_usage){0};
    return (struct node_usage){.cpu_s = node_cpu_read_s(pid),
                               .resident_bytes = read_resident_bytes(pid)};
}
