/*
 * test_log.c - log lines: both formats, hostile values, and a standard error that nobody reads.
 *
 * Each test puts a pipe in the place of standard error for as long as it logs.
 */
#include "base/log.h"

#include "base/clock.h"
#include "base/utf8.h"
#include "unit.h"

#include <cjson/cJSON.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int real_stderr;
static int reader;           /* our end of the pipe */
static char output[2 << 20]; /* ring and pipe together hold less */

static void capture_begin(void)
{
    int ends[2];
    fflush(stderr);
    real_stderr = dup(STDERR_FILENO);
    CU_ASSERT_FATAL(pipe(ends) == 0);
    dup2(ends[1], STDERR_FILENO);
    close(ends[1]);
    reader = ends[0];
}

/* Gives standard error back and reads what was written. */
static const char *capture_end(void)
{
    dup2(real_stderr, STDERR_FILENO);
    close(real_stderr);
    size_t len = 0;
    ssize_t n;
    while ((n = read(reader, output + len, sizeof output - 1 - len)) > 0)
        len += (size_t)n;
    close(reader);
    output[len] = '\0';
    return output;
}

/* One line with these fields, as log_write makes it. */
static const char *logged(enum log_format format, const struct log_field *fields)
{
    capture_begin();
    log_init(LOG_INFO, format, "n1");
    log_write(LOG_INFO, "it", fields);
    log_fini();
    return capture_end();
}

#define TIME_BYTES 24 /* 2026-01-02T03:04:05.678Z */

static void check_time(const char *text)
{
    static const char form[] = "dddd-dd-ddTdd:dd:dd.dddZ";
    for (size_t i = 0; i < TIME_BYTES; i++) {
        if (form[i] == 'd')
            CU_ASSERT(text[i] >= '0' && text[i] <= '9')
        else
            CU_ASSERT_EQUAL(text[i], form[i]);
    }
}

static void writes_text_lines(void)
{
    capture_begin();
    log_init(LOG_INFO, LOG_TEXT, "n1");
    log_debug("hidden");
    log_info("redis_connected", LOG_STR("host", "a b"), LOG_INT("ms", -12));
    log_warn("bare");
    log_fini();
    const char *text = capture_end();
    CU_ASSERT_FATAL(strlen(text) > 2 * TIME_BYTES);
    CU_ASSERT(memcmp(text, "time=", 5) == 0);
    check_time(text + 5);
    static const char first[] = " level=info node=n1 event=redis_connected host=\"a b\" ms=-12\n";
    CU_ASSERT_FATAL(strncmp(text + 5 + TIME_BYTES, first, sizeof first - 1) == 0);
    const char *second = text + 5 + TIME_BYTES + sizeof first - 1;
    CU_ASSERT_STRING_EQUAL(second + 5 + TIME_BYTES, " level=warn node=n1 event=bare\n");
}

static void writes_json_lines(void)
{
    const char *text = logged(
        LOG_JSON, (const struct log_field[]){LOG_STR("host", "a b"), LOG_INT("ms", 12), {0}});
    CU_ASSERT(strncmp(text, "{\"time\":\"", 9) == 0);
    check_time(text + 9);
    CU_ASSERT_STRING_EQUAL(
        text + 9 + TIME_BYTES,
        "\",\"level\":\"info\",\"node\":\"n1\",\"event\":\"it\",\"host\":\"a b\",\"ms\":12}\n");
}

/* What a value looks like in text format, and inside the quotes of JSON. */
static const struct {
    struct slice value;
    const char *text;
    const char *json;
} values[] = {
    {{"plain", 5}, "plain", "plain"},
    {{"a/b:c,d;e'f{}[]", 15}, "a/b:c,d;e'f{}[]", "a/b:c,d;e'f{}[]"},
    {{NULL, 0}, "\"\"", ""},
    {{"a b", 3}, "\"a b\"", "a b"},
    {{"x level=error", 13}, "\"x level=error\"", "x level=error"},
    {{"a=b", 3}, "\"a=b\"", "a=b"},
    {{"\" b=\"c", 6}, "\"\\\" b=\\\"c\"", "\\\" b=\\\"c"},
    {{"a\\", 2}, "\"a\\\\\"", "a\\\\"},
    {{"a\nevent=b", 9}, "\"a\\nevent=b\"", "a\\nevent=b"},
    {{"\r\t", 2}, "\"\\r\\t\"", "\\r\\t"},
    {{"\0\x1b[1m\x7f", 6}, "\"\\u0000\\u001b[1m\\u007f\"", "\\u0000\\u001b[1m\\u007f"},
    {{"\xc3\xa9", 2}, "\"\xc3\xa9\"", "\xc3\xa9"},
    {{"\xc2\x85\xe2\x80\xa8\xe2\x80\xa9", 8}, "\"\\u0085\\u2028\\u2029\"", "\\u0085\\u2028\\u2029"},
    {{"a\xff"
      "b\xe2\x82z",
      6},
     "\"a\xef\xbf\xbd"
     "b\xef\xbf\xbdz\"",
     "a\xef\xbf\xbd"
     "b\xef\xbf\xbdz"},
    {{"\xed\xa0\x80", 3},
     "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"",
     "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
};

static void escapes_values(void)
{
    char expected[256];
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        const struct log_field fields[] = {LOG_SLICE("v", values[i].value), LOG_INT("n", 1), {0}};
        snprintf(expected, sizeof expected, " event=it v=%s n=1\n", values[i].text);
        const char *text = logged(LOG_TEXT, fields);
        CU_ASSERT_FATAL(strstr(text, " event=it") != NULL);
        CU_ASSERT_STRING_EQUAL(strstr(text, " event=it"), expected);
        snprintf(expected, sizeof expected, ",\"v\":\"%s\",\"n\":1}\n", values[i].json);
        text = logged(LOG_JSON, fields);
        CU_ASSERT_FATAL(strstr(text, ",\"v\"") != NULL);
        CU_ASSERT_STRING_EQUAL(strstr(text, ",\"v\""), expected);
    }
}

/* Every byte alone and every length around the limits leave one line of valid JSON. */
static void json_is_always_valid(void)
{
    static char large[6000];
    for (int unit = 0; unit < 256; unit += 5) {
        memset(large, unit, sizeof large);
        for (size_t len = 1000; len < 1030; len++) {
            const struct log_field fields[] = {LOG_SLICE("a", slice_of(large, len)),
                                               LOG_SLICE("b", slice_of(large, 6000)),
                                               LOG_SLICE("c", slice_of(large, 6000)),
                                               LOG_SLICE("d", slice_of(large, len)),
                                               LOG_SLICE("e", slice_of(large, len / 2)),
                                               LOG_INT("f", INT64_MIN),
                                               {0}};
            capture_begin();
            log_init(LOG_INFO, LOG_JSON, "n1");
            log_write(LOG_INFO, "it", fields);
            log_fini();
            const char *text = capture_end();
            size_t bytes = strlen(text);
            CU_ASSERT_FATAL(bytes > 1000 && bytes <= 4096);
            CU_ASSERT_PTR_EQUAL(strchr(text, '\n'), text + bytes - 1);
            CU_ASSERT(utf8_is_valid(text, bytes));
            cJSON *json = cJSON_Parse(text);
            CU_ASSERT_PTR_NOT_NULL_FATAL(json);
            CU_ASSERT_PTR_NOT_NULL(strstr(text, "...\",\"c\":\""));
            cJSON_Delete(json);
        }
    }
}

static void cuts_only_what_is_too_long(void)
{
    static char large[1025];
    memset(large, 'x', sizeof large);
    const char *text = logged(
        LOG_TEXT,
        (const struct log_field[]){LOG_SLICE("a", slice_of(large, 1024)), LOG_INT("n", 1), {0}});
    CU_ASSERT_PTR_NULL(strstr(text, "..."));
    text = logged(LOG_TEXT, (const struct log_field[]){
                                LOG_SLICE("a", slice_of(large, 1025)), LOG_INT("n", 1), {0}});
    const char *dots = strstr(text, "...");
    CU_ASSERT_PTR_NOT_NULL_FATAL(dots);
    CU_ASSERT_STRING_EQUAL(dots, "... n=1\n");
    CU_ASSERT_EQUAL(dots + 3 - (strstr(text, " a=") + 3), 1024);
}

static void knows_levels(void)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};
    for (int i = 0; i < 4; i++) {
        enum log_level level = LOG_DEBUG;
        CU_ASSERT(log_level_parse(slice_str(names[i]), &level));
        CU_ASSERT_EQUAL((int)level, i);
        CU_ASSERT_STRING_EQUAL(log_level_name(level), names[i]);
        log_set_level(level);
        for (int j = 0; j < 4; j++)
            CU_ASSERT_EQUAL(log_is_on((enum log_level)j), j >= i);
    }
    enum log_level level;
    CU_ASSERT_FALSE(log_level_parse(slice_str("INFO"), &level));
    CU_ASSERT_FALSE(log_level_parse(slice_str(""), &level));
    CU_ASSERT_FALSE(log_level_parse(slice_str("infos"), &level));
    log_set_level(LOG_INFO);
}

static void writes_directly_without_a_writer(void)
{
    logged(LOG_TEXT, NULL); /* started and ended once */
    capture_begin();
    log_info("late", LOG_INT("n", 1));
    const char *text = capture_end();
    CU_ASSERT_PTR_NOT_NULL(strstr(text, " event=late n=1\n"));
}

#define THREADS     4
#define THREAD_LOGS 3000 /* together more than a pipe holds, less than the ring */

static void *log_many(void *arg)
{
    for (int i = 0; i < THREAD_LOGS; i++)
        log_info("tick", LOG_INT("thread", (intptr_t)arg), LOG_INT("i", i));
    log_set_level(LOG_INFO);
    return NULL;
}

static void *read_all(void *arg)
{
    size_t len = 0;
    ssize_t n;
    while ((n = read(reader, output + len, sizeof output - 1 - len)) > 0)
        len += (size_t)n;
    output[len] = '\0';
    return arg;
}

/* Lines of several threads come whole, and those of one thread in order. */
static void check_thread_lines(void)
{
    int next[THREADS] = {0}, lines = 0;
    char *rest = NULL;
    for (char *line = strtok_r(output, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        int thread = -1, i = -1, end = -1;
        const char *event = strstr(line, " event=tick thread=");
        CU_ASSERT_PTR_NOT_NULL_FATAL(event);
        CU_ASSERT_EQUAL(sscanf(event, " event=tick thread=%d i=%d%n", &thread, &i, &end), 2);
        CU_ASSERT_FATAL(thread >= 0 && thread < THREADS);
        CU_ASSERT_EQUAL(event[end], '\0');
        CU_ASSERT_EQUAL(i, next[thread]);
        next[thread] = i + 1;
        lines++;
    }
    CU_ASSERT_EQUAL(lines, THREADS * THREAD_LOGS);
}

static void keeps_lines_of_threads_whole(void)
{
    uint64_t dropped = log_dropped();
    pthread_t threads[THREADS], collector;
    capture_begin();
    log_init(LOG_INFO, LOG_TEXT, "n1");
    pthread_create(&collector, NULL, read_all, NULL);
    for (intptr_t i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, log_many, (void *)i);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    log_fini();
    dup2(real_stderr, STDERR_FILENO); /* closes the pipe's last writing end */
    close(real_stderr);
    pthread_join(collector, NULL);
    close(reader);
    CU_ASSERT_EQUAL(log_dropped(), dropped);
    check_thread_lines();
}

#define FLOOD 30000 /* lines; more than ring and pipe take */

static void drops_counts_and_says_so(void)
{
    uint64_t before = log_dropped();
    capture_begin();
    log_init(LOG_INFO, LOG_TEXT, "n1");
    uint64_t started_ms = clock_mono_ms();
    for (int i = 0; i < FLOOD; i++)
        log_info("flood", LOG_INT("i", i));
    CU_ASSERT(clock_mono_ms() - started_ms < 5000); /* nobody reads, nobody waits */
    uint64_t dropped = log_dropped() - before;
    CU_ASSERT(dropped > 0 && dropped < FLOOD);

    pthread_t collector; /* there is room again */
    pthread_create(&collector, NULL, read_all, NULL);
    log_fini();
    dup2(real_stderr, STDERR_FILENO);
    close(real_stderr);
    pthread_join(collector, NULL);
    close(reader);
    uint64_t lines = 0, reported = 0;
    for (const char *at = output; (at = strstr(at, " event=flood ")) != NULL; at++)
        lines++;
    for (const char *at = output; (at = strstr(at, " event=log_dropped count=")) != NULL; at++)
        reported += strtoull(at + strlen(" event=log_dropped count="), NULL, 10);
    CU_ASSERT_EQUAL(lines, FLOOD - dropped);
    CU_ASSERT_EQUAL(reported, dropped);
}

static void gives_up_at_the_end(void)
{
    capture_begin();
    log_init(LOG_INFO, LOG_TEXT, "n1");
    for (int i = 0; i < FLOOD; i++)
        log_info("flood", LOG_INT("i", i));
    uint64_t started_ms = clock_mono_ms();
    log_fini();
    uint64_t took_ms = clock_mono_ms() - started_ms;
    CU_ASSERT(took_ms >= 900 && took_ms < 1900);
    capture_end();
    CU_ASSERT_PTR_NOT_NULL(strstr(logged(LOG_TEXT, NULL), " event=it\n")); /* and starts anew */
}

static void survives_a_closed_reader(void)
{
    signal(SIGPIPE, SIG_IGN);
    capture_begin();
    close(reader);
    log_init(LOG_INFO, LOG_TEXT, "n1");
    for (int i = 0; i < FLOOD; i++)
        log_info("flood", LOG_INT("i", i));
    log_fini();
    log_info("direct");
    reader = open("/dev/null", O_RDONLY);
    CU_ASSERT_STRING_EQUAL(capture_end(), "");
    signal(SIGPIPE, SIG_DFL);
}

static const struct unit_test tests[] = {
    {"writes text lines", writes_text_lines},
    {"writes JSON lines", writes_json_lines},
    {"escapes values", escapes_values},
    {"JSON is always valid", json_is_always_valid},
    {"cuts only what is too long", cuts_only_what_is_too_long},
    {"knows levels", knows_levels},
    {"writes directly without a writer", writes_directly_without_a_writer},
    {"keeps lines of threads whole", keeps_lines_of_threads_whole},
    {"drops, counts and says so", drops_counts_and_says_so},
    {"gives up at the end", gives_up_at_the_end},
    {"survives a closed reader", survives_a_closed_reader},
    {NULL, NULL},
};
const struct unit_suite suite_log = {"log", tests};
