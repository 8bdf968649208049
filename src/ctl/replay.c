/*
 * replay.c - `tickcastctl replay FILE`: publishes a recorded feed, or a tape, line by line.
 *
 * A recorded feed keeps its own pace, times --speed; a tape has none, and --rate gives it one.
 * Whatever is due leaves in one pipeline before we sleep. When Redis goes away in the middle the
 * replay fails: going on would leave a hole that nobody could see. A signal ends it at once, also
 * while it reads a pipe.
 */
#include "base/clock.h"
#include "ctl/commands.h"
#include "ctl/line_reader.h"
#include "ctl/options.h"
#include "ctl/stop.h"
#include "ctl/tape.h"
#include "ctl/target.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#define LINE_BYTES_MAX (8u << 20) /* recorded snapshots reach tens of KB */
#define PIPELINE_MAX   256        /* publications sent before their answers are read */
#define PIPELINE_BYTES (1u << 20)
#define RATE_MAX       10000000
#define SPEED_MAX      1000000
#define NS_PER_S       1000000000.0

struct replay {
    struct ctl_target target;
    const char *file;
    const char *namespace;
    double speed; /* 0: as fast as possible */
    double rate;  /* likewise */

    struct redis_client *redis;
    struct line_reader reader;
    struct tape tape;
    struct buf full;
    struct redis_pipeline_result result;
    uint64_t started_ns;
    uint64_t first_us; /* recorded time of the first publication */
    uint64_t queued;   /* publications so far */
    uint64_t skipped;
    uint64_t too_long;
};

static bool flush(struct replay *r)
{
    if (redis_client_flush(r->redis, &r->result))
        return true;
    ctl_fail("replay: redis: %s", redis_client_error(r->redis));
    return false;
}

/* When this entry is due, 0 for at once. A time that runs backwards is at once too. */
static uint64_t due_ns(const struct replay *r, const struct tape_entry *entry)
{
    if (entry->time_us != 0) {
        if (r->speed <= 0 || entry->time_us <= r->first_us)
            return 0;
        return r->started_ns + (uint64_t)((double)(entry->time_us - r->first_us) * 1e3 / r->speed);
    }
    return r->rate <= 0 ? 0 : r->started_ns + (uint64_t)((double)r->queued * NS_PER_S / r->rate);
}

/* Sleeps until an entry is due, after sending what was due before. False when that failed. */
static bool wait_for(struct replay *r, uint64_t due)
{
    bool is_early = due > clock_mono_ns();
    bool is_full = redis_client_queued(r->redis) >= PIPELINE_MAX ||
                   redis_client_queued_bytes(r->redis) >= PIPELINE_BYTES;
    if (!is_early && !is_full)
        return true;
    if (!flush(r))
        return false;
    if (is_early)
        stop_wait_until(due);
    return true;
}

static bool publish(struct replay *r, const struct tape_entry *entry)
{
    if (r->queued == 0) {
        r->started_ns = clock_mono_ns();
        r->first_us = entry->time_us;
    }
    if (!wait_for(r, due_ns(r, entry)))
        return false;
    redis_client_queue_publish(r->redis, ctl_target_name(&r->target, entry->channel, &r->full),
                               entry->payload);
    r->queued++;
    return true;
}

/* Goes through the file. False when it was not played to its end. */
static bool play(struct replay *r)
{
    for (;;) {
        struct slice line;
        struct tape_entry entry;
        enum line_result result = line_reader_next(&r->reader, &line);
        if (result == LINE_END)
            return flush(r);
        if (result == LINE_FAILED) {
            ctl_fail("replay: %s: %s", r->file, strerror(errno));
            return false;
        }
        if (result == LINE_TOO_LONG)
            r->too_long++;
        if (result == LINE_TOO_LONG || !tape_parse(&r->tape, line, &entry))
            r->skipped++;
        else if (!publish(r, &entry))
            return false;
    }
}

static int report(const struct replay *r, bool whole)
{
    uint64_t end_ns = clock_mono_ns();
    double seconds = r->queued != 0 ? (double)(end_ns - r->started_ns) / NS_PER_S : 0;
    if (r->too_long != 0)
        ctl_say("replay: %" PRIu64 " lines over %u bytes were skipped", r->too_long,
                LINE_BYTES_MAX);
    ctl_say("replay: published=%" PRIu64 " skipped=%" PRIu64 " refused=%" PRIu64
            " receivers=%" PRIu64 " seconds=%.3f",
            r->result.answered, r->skipped, r->result.refused, r->result.receivers, seconds);
    if (!whole)
        return ctl_fail("replay: stopped before the end of %s", r->file);
    if (r->result.refused != 0)
        return ctl_fail("replay: redis refuses: %s", redis_client_error(r->redis));
    if (r->result.answered == 0)
        return ctl_fail("replay: %s holds nothing to publish", r->file);
    return CTL_OK;
}

static int run(struct replay *r)
{
    bool is_stdin = strcmp(r->file, "-") == 0;
    int status = ctl_target_connect(&r->target, &r->redis);
    if (status != CTL_CONTINUE)
        return status;
    int fd = is_stdin ? STDIN_FILENO : open(r->file, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return ctl_fail("replay: %s: %s", r->file, strerror(errno));
    r->reader = (struct line_reader){.fd = fd, .line_bytes_max = LINE_BYTES_MAX};
    r->tape.namespace = r->namespace;
    status = report(r, play(r));
    if (!is_stdin)
        close(fd);
    return status;
}

static void release(struct replay *r)
{
    redis_client_free(r->redis);
    line_reader_fini(&r->reader);
    tape_fini(&r->tape);
    buf_fini(&r->full);
}

int ctl_replay(int argc, char **argv)
{
    struct replay r = {.target = CTL_TARGET_DEFAULT, .namespace = "quote", .speed = 1};
    const struct ctl_option options[] = {
        {"--speed", CTL_REAL, &r.speed, "X",
         "a recorded feed's pace, times X (default 1); 0: as fast as possible", 0, SPEED_MAX},
        {"--rate", CTL_REAL, &r.rate, "R",
         "a tape's publications per second (default 0: as fast as possible)", 0, RATE_MAX},
        {"--namespace", CTL_TEXT, &r.namespace, "NAME",
         "for a recorded feed's channels (default quote)", 0, 0},
        CTL_TARGET_ROWS(&r.target),
        {0},
    };
    const struct ctl_usage usage = {
        "FILE",
        "Publishes FILE ('-': standard input): a recorded feed of 'TIME: JSON' lines, on\n"
        "NAME:<product_id>, or a tape of 'CHANNEL <tab> PAYLOAD' lines. Payloads are published\n"
        "byte for byte; lines that are neither are skipped and counted.",
        options, 1, 1};
    struct ctl_operands operands;
    int status = ctl_parse(&usage, argc, argv, &operands);
    if (status == CTL_CONTINUE) {
        r.file = operands.items[0];
        status = run(&r);
    }
    release(&r);
    return status;
}
