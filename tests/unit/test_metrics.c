/*
 * test_metrics.c - sums over owners, histogram buckets, and the exposition's shape.
 */
#include "unit.h"

#include "base/mem.h"
#include "protocol/metrics.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* The exposition of two owners as a string that the caller frees. */
static char *expose(struct metrics *a, struct metrics *b, const char *node)
{
    struct metrics *const all[] = {a, b};
    struct buf out = {0};
    metrics_expose(&out, all, 2, node);
    char *text = mem_strndup(out.data, out.len);
    buf_fini(&out);
    return text;
}

static bool has_line(const char *text, const char *line)
{
    size_t len = strlen(line);
    for (const char *at = strstr(text, line); at != NULL; at = strstr(at + 1, line)) {
        if ((at == text || at[-1] == '\n') && at[len] == '\n')
            return true;
    }
    return false;
}

static int count(const char *text, const char *part)
{
    int found = 0;
    for (const char *at = strstr(text, part); at != NULL; at = strstr(at + 1, part))
        found++;
    return found;
}

static void test_sum(void)
{
    struct metrics a = {0};
    struct metrics b = {0};
    struct metrics *const all[] = {&a, &b};
    metrics_add(&a, METRIC_CONNECTIONS, 3);
    metrics_add(&b, METRIC_CONNECTIONS, 2);
    metrics_add(&b, METRIC_CONNECTIONS, (uint64_t)-1);
    metrics_set(&a, METRIC_FEED_OK, 1);
    CU_ASSERT_EQUAL(metrics_sum(all, 2, METRIC_CONNECTIONS), 4);
    CU_ASSERT_EQUAL(metrics_sum(all, 1, METRIC_CONNECTIONS), 3);
    CU_ASSERT_EQUAL(metrics_sum(all, 2, METRIC_FEED_OK), 1);
    CU_ASSERT_EQUAL(metrics_sum(all, 0, METRIC_FEED_OK), 0);
}

static void test_expose_values(void)
{
    struct metrics a = {0};
    struct metrics b = {0};
    metrics_add(&a, METRIC_CONNECTIONS, 3);
    metrics_add(&b, METRIC_CONNECTIONS, 4);
    metrics_add(&b, METRIC_ENDED_SLOW, 9);
    metrics_add(&a, METRIC_CHANNELS, (uint64_t)-1);
    metrics_set(&b, METRIC_PUBLICATIONS, UINT64_MAX);
    char *text = expose(&a, &b, "n1");
    CU_ASSERT_TRUE(has_line(text, "# TYPE tickcast_connections gauge"));
    CU_ASSERT_TRUE(has_line(text, "tickcast_connections 7"));
    CU_ASSERT_TRUE(has_line(text, "tickcast_channels -1"));
    CU_ASSERT_TRUE(has_line(text, "tickcast_publications_total 18446744073709551615"));
    CU_ASSERT_TRUE(has_line(text, "tickcast_connections_ended_total{cause=\"slow\"} 9"));
    CU_ASSERT_TRUE(has_line(text, "tickcast_connections_ended_total{cause=\"client\"} 0"));
    CU_ASSERT_EQUAL(count(text, "# TYPE tickcast_connections_ended_total counter\n"), 1);
    CU_ASSERT_EQUAL(count(text, "# HELP tickcast_connections_ended_total "), 1);
    CU_ASSERT_TRUE(has_line(text, "tickcast_info{version=\"" TICKCAST_VERSION "\",node=\"n1\"} 1"));
    CU_ASSERT_EQUAL(text[strlen(text) - 1], '\n');
    free(text);
}

/* A family's rows stand together: its header appears once, however many rows it has. */
static void test_each_header_once(void)
{
    static const char *const names[] = {
#define NAME(symbol, type, name, labels, help) name,
        METRIC_TABLE(NAME)
#undef NAME
    };
    struct metrics a = {0};
    struct metrics b = {0};
    char *text = expose(&a, &b, "n1");
    for (size_t i = 0; i < METRIC_COUNT; i++) {
        char header[128];
        snprintf(header, sizeof header, "# TYPE %s ", names[i]);
        CU_ASSERT_EQUAL(count(text, header), 1);
    }
    free(text);
}

static void test_label_escaping(void)
{
    struct metrics a = {0};
    struct metrics b = {0};
    char *text = expose(&a, &b, "a\"b\\c\nd");
    CU_ASSERT_PTR_NOT_NULL(strstr(text, ",node=\"a\\\"b\\\\c\\nd\"} 1\n"));
    free(text);
}

static void test_buckets(void)
{
    static const struct {
        uint64_t ns;
        unsigned bucket;
    } cases[] = {
        {0, 0},
        {1000, 0}, /* a bound is inclusive */
        {1001, 1},
        {2000, 1},
        {2001, 2},
        {8388608000, 23},
        {8388608001, HISTOGRAM_BUCKETS},
        {UINT64_MAX, HISTOGRAM_BUCKETS},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct metrics m = {0};
        metrics_observe_ns(&m, HISTOGRAM_DELIVERY, cases[i].ns, 5);
        CU_ASSERT_EQUAL(m.histograms[HISTOGRAM_DELIVERY].buckets[cases[i].bucket], 5);
    }
}

static void test_expose_histogram(void)
{
    struct metrics a = {0};
    struct metrics b = {0};
    metrics_observe_ns(&a, HISTOGRAM_DELIVERY, 900, 2);
    metrics_observe_ns(&b, HISTOGRAM_DELIVERY, 3000, 10);
    metrics_observe_ns(&b, HISTOGRAM_DELIVERY, 20000000000, 1);
    char *text = expose(&a, &b, "n1");
    CU_ASSERT_TRUE(has_line(text, "# TYPE tickcast_delivery_seconds histogram"));
    CU_ASSERT_TRUE(has_line(text, "tickcast_delivery_seconds_bucket{le=\"1e-06\"} 2"));
    CU_ASSERT_TRUE(has_line(text, "tickcast_delivery_seconds_bucket{le=\"2e-06\"} 2"));
    CU_ASSERT_TRUE(has_line(text, "tickcast_delivery_seconds_bucket{le=\"4e-06\"} 12"));
    CU_ASSERT_TRUE(has_line(text, "tickcast_delivery_seconds_bucket{le=\"8.388608\"} 12"));
    CU_ASSERT_TRUE(has_line(text, "tickcast_delivery_seconds_bucket{le=\"+Inf\"} 13"));
    CU_ASSERT_TRUE(has_line(text, "tickcast_delivery_seconds_count 13"));
    CU_ASSERT_TRUE(has_line(text, "tickcast_delivery_seconds_sum 20.000031800"));
    CU_ASSERT_EQUAL(count(text, "tickcast_delivery_seconds_bucket{"), HISTOGRAM_BUCKETS + 1);
    free(text);
}

static double value_of(const char *text, const char *name)
{
    char needle[128];
    snprintf(needle, sizeof needle, "\n%s ", name);
    const char *at = strstr(text, needle);
    CU_ASSERT_PTR_NOT_NULL_FATAL(at);
    return strtod(at + strlen(needle), NULL);
}

static void test_process(void)
{
    struct metrics a = {0};
    struct metrics b = {0};
    char *before = expose(&a, &b, "n1");
    FILE *held = fopen("/dev/null", "r");
    char *text = expose(&a, &b, "n1");
    CU_ASSERT_PTR_NOT_NULL_FATAL(held);
    fclose(held);
    CU_ASSERT_EQUAL(value_of(text, "process_open_fds"), value_of(before, "process_open_fds") + 1);
    CU_ASSERT_TRUE(value_of(text, "process_resident_memory_bytes") > 100000);
    CU_ASSERT_TRUE(value_of(text, "process_cpu_seconds_total") > 0);
    double age = (double)time(NULL) - value_of(text, "process_start_time_seconds");
    CU_ASSERT_TRUE(age > -3 && age < 3600);
    free(before);
    free(text);
}

static const struct unit_test tests[] = {
    {"sum", test_sum},
    {"expose_values", test_expose_values},
    {"each_header_once", test_each_header_once},
    {"label_escaping", test_label_escaping},
    {"buckets", test_buckets},
    {"expose_histogram", test_expose_histogram},
    {"process", test_process},
    {0},
};

const struct unit_suite suite_metrics = {"metrics", tests};
