/*
 * bench_report.c - the result for people or as one JSON object.
 */
#include "ctl/bench_run.h"

#include <stdio.h>

static double ratio(double a, double b)
{
    return b > 0 ? a / b : 0;
}

/* Lines that mean nothing in a mode, or were not measured, are left out of the table. */
static void print_line(const struct bench *b, const char *name, double value, const char *unit,
                       int digits)
{
    if (b->options.json)
        printf(",\"%s\":%.*f", name, digits, value);
    else if (value != 0 || digits == 0)
        printf("%-24s %14.*f %s\n", name, digits, value, unit);
}

static void print_memory(const struct bench *b)
{
    double before = (double)b->before.resident_bytes;
    double idle = (double)b->idle.resident_bytes;
    print_line(b, "rss_before_bytes", before, "", 0);
    print_line(b, "rss_idle_bytes", idle, "", 0);
    print_line(b, "rss_end_bytes", (double)b->end.resident_bytes, "", 0);
    print_line(b, "bytes_per_connection", ratio(idle - before, b->subscribed), "", 1);
}

static void print_connects(const struct bench *b)
{
    print_line(b, "connected", b->open, "", 0);
    print_line(b, "closed", b->closed, "", 0);
    print_line(b, "connect_s", (double)b->connect_ns / 1e9, "s", 3);
    print_line(b, "connect_cpu_s", b->connect_cpu_s, "s of the node", 3);
    print_line(b, "pings", (double)b->pings, "answered", 0);
    print_line(b, "upgrades_per_cpu_s", ratio(b->subscribed, b->connect_cpu_s), "", 0);
}

static void print_load(const struct bench *b)
{
    const struct bench_publisher *p = &b->publisher;
    double publish_s = p->last_ns > p->first_ns ? (double)(p->last_ns - p->first_ns) / 1e9 : 0;
    print_line(b, "publications", (double)p->total, "", 0);
    print_line(b, "publications_per_s", ratio((double)p->total, publish_s), "", 1);
    print_line(b, "published_late_us", (double)p->late_ns / 1e3, "us at most", 1);
    print_line(b, "expected", (double)b->expected, "", 0);
    print_line(b, "deliveries", (double)b->deliveries, b->estimated ? "(estimated)" : "", 0);
    print_line(b, "lost", (double)b->lost, "", 0);
    print_line(b, "out_of_order", (double)b->out_of_order, "", 0);
    print_line(b, "missed", (double)b->missed, "", 0);
    print_line(b, "foreign", (double)b->foreign, "", 0);
    print_line(b, "frames", (double)b->frames, "", 0);
    print_line(b, "bytes", (double)b->bytes, "", 0);
    print_line(b, "payload_bytes", (double)b->payload_bytes, "", 0);
    print_line(b, "seconds", b->seconds, "s", 3);
    print_line(b, "deliveries_per_s", ratio((double)b->deliveries, b->seconds), "/s", 0);
    print_line(b, "cpu_s", b->cpu_s, "s of the node", 4);
    print_line(b, "own_cpu_s", b->own_cpu_s, "s of this program", 4);
    print_line(b, "load_busy", b->load_busy, "of the load's cores", 3);
    print_line(b, "cpu_us_per_delivery", ratio(b->cpu_s * 1e6, (double)b->deliveries), "us", 4);
}

/* Quantiles in a row; of what was not seen there are none. */
static void print_quantiles(const struct bench *b, const char *name, const struct histogram *h)
{
    static const struct {
        const char *name;
        double q;
    } rows[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p999", 0.999}, {"max", 1.0}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char full[64];
        snprintf(full, sizeof full, "%s_%s_us", name, rows[i].name);
        print_line(b, full, (double)histogram_quantile_ns(h, rows[i].q) / 1e3, "us", 1);
    }
}

static void print_latency(const struct bench *b)
{
    print_line(b, "timed", (double)b->latency.total, "deliveries", 0);
    print_line(b, "late", (double)b->late, "of them", 0);
    print_quantiles(b, "latency", &b->latency);
    print_quantiles(b, "client_mean", &b->client_mean);
    print_quantiles(b, "first_to_last", &b->pass);
    print_quantiles(b, "last_client", &b->last_client);
}

void bench_report(const struct bench *b)
{
    static const char *const modes[] = {"load", "idle", "storm"};
    const struct bench_options *o = &b->options;
    if (o->json)
        printf("{\"mode\":\"%s\",\"format\":\"%s\",\"compress\":%s,\"estimated\":%s",
               modes[o->mode], o->raw ? "raw" : "json", o->compress ? "true" : "false",
               b->estimated ? "true" : "false");
    else
        printf("%-24s %14s\n", "mode", modes[o->mode]);
    print_line(b, "clients", (double)o->clients, "", 0);
    print_line(b, "channels", (double)o->channels, "of each client", 0);
    print_line(b, "of", (double)o->of, "channels", 0);
    print_line(b, "size", (double)o->size, "bytes", 0);
    print_connects(b);
    if (o->mode == BENCH_LOAD) {
        print_load(b);
        print_latency(b);
    }
    if (o->pids.count > 0)
        print_memory(b);
    if (o->json)
        puts("}");
}
