/*
 * bench_tape.c - a recorded feed as the benchmark's load, instead of numbered payloads.
 *
 * The whole file is read before anything is measured, and every publication is kept as the command
 * that Redis will get, one behind the other; so at the time that it is due it only has to be
 * copied. The channels are those of the tape, and every client subscribes to all of them.
 *
 * What arrives cannot be recognised by number: items are counted, and their `missed` and the
 * bytes of their payloads are added up. Whether they are the right ones is for the tests to say.
 * Taken to be the right ones, the n-th of a channel (with those that it says were missed) is the
 * n-th that was published there, which gives its latency. Raw messages do not say their channel.
 */
#include "base/clock.h"
#include "base/map.h"
#include "base/mem.h"
#include "ctl/bench_run.h"
#include "ctl/json_scan.h"
#include "ctl/line_reader.h"
#include "ctl/tape.h"
#include "protocol/json_text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define LINE_BYTES_MAX (8u << 20) /* recorded snapshots reach tens of KB */

struct bench_tape {
    struct buf commands;
    struct bench_tape_entry *entries;
    size_t count;
    size_t cap;
    char **names;                  /* of channels, without the prefix */
    struct buf *places;            /* of channels: size_t each, the entries that are theirs */
    atomic_uint_fast64_t *sent_ns; /* of entries; 0: not yet */
    size_t channels;
    struct map by_name; /* to &names[i] */
    uint64_t first_us;  /* recorded time of the first publication */
};

/* ---- loading -------------------------------------------------------------------------------- */

/* The channel's index; a new one is added. False when there are too many. */
static bool find_channel(struct bench_tape *t, struct slice name, uint32_t *index)
{
    uint64_t hash = map_hash(name);
    char **known = map_get(&t->by_name, hash, name);
    if (known == NULL) {
        if (t->channels == BENCH_CHANNELS_PER_CLIENT_MAX)
            return false;
        known = &t->names[t->channels++];
        *known = mem_strndup(name.ptr, name.len);
        map_put(&t->by_name, hash, slice_of(*known, name.len), known);
    }
    *index = (uint32_t)(known - t->names);
    return true;
}

static void append_publish(struct buf *out, const char *prefix, const struct tape_entry *entry)
{
    buf_printf(out, "*3\r\n$7\r\nPUBLISH\r\n$%zu\r\n%s%.*s\r\n$%zu\r\n",
               strlen(prefix) + entry->channel.len, prefix, (int)entry->channel.len,
               entry->channel.ptr, entry->payload.len);
    buf_append(out, entry->payload.ptr, entry->payload.len);
    buf_append_str(out, "\r\n");
}

/* When a publication is due, from the first one on. A time that runs backwards is at once. */
static uint64_t due_ns(const struct bench_tape *t, const struct bench_options *o,
                       const struct tape_entry *entry)
{
    if (o->speed <= 0 || entry->time_us == 0)
        return o->rate <= 0 ? 0 : (uint64_t)((double)t->count * 1e9 / o->rate);
    if (entry->time_us <= t->first_us)
        return 0;
    return (uint64_t)((double)(entry->time_us - t->first_us) * 1e3 / o->speed);
}

static bool add_entry(struct bench *b, const struct tape_entry *entry)
{
    struct bench_tape *t = b->tape;
    uint32_t channel;
    if (!find_channel(t, entry->channel, &channel))
        return false;
    if (t->count == 0)
        t->first_us = entry->time_us;
    if (t->count == t->cap) {
        t->cap = t->cap != 0 ? 2 * t->cap : 1024;
        t->entries = mem_realloc(t->entries, t->cap * sizeof *t->entries);
    }
    append_publish(&t->commands, b->options.target.prefix, entry);
    buf_append(&t->places[channel], &t->count, sizeof t->count);
    t->entries[t->count] = (struct bench_tape_entry){
        .due_ns = due_ns(t, &b->options, entry), .end = t->commands.len, .channel = channel};
    t->count++;
    return true;
}

static bool read_lines(struct bench *b, struct line_reader *reader, struct tape *tape)
{
    for (;;) {
        struct slice line;
        struct tape_entry entry;
        switch (line_reader_next(reader, &line)) {
        case LINE_OK:
            if (tape_parse(tape, line, &entry) && !add_entry(b, &entry)) {
                snprintf(b->error, sizeof b->error, "the tape has more than %d channels",
                         BENCH_CHANNELS_PER_CLIENT_MAX);
                return false;
            }
            break;
        case LINE_TOO_LONG: break;
        case LINE_END: return true;
        case LINE_FAILED: snprintf(b->error, sizeof b->error, "%s", strerror(errno)); return false;
        }
    }
}

bool bench_tape_load(struct bench *b)
{
    struct bench_options *o = &b->options;
    struct line_reader reader = {.line_bytes_max = LINE_BYTES_MAX};
    struct tape tape = {.namespace = o->space};
    reader.fd = open(o->tape, O_RDONLY | O_CLOEXEC);
    if (reader.fd < 0) {
        snprintf(b->error, sizeof b->error, "%.100s: %s", o->tape, strerror(errno));
        return false;
    }
    b->tape = mem_zalloc(sizeof *b->tape);
    b->tape->names = mem_zalloc(BENCH_CHANNELS_PER_CLIENT_MAX * sizeof *b->tape->names);
    b->tape->places = mem_zalloc(BENCH_CHANNELS_PER_CLIENT_MAX * sizeof *b->tape->places);
    bool is_read = read_lines(b, &reader, &tape);
    close(reader.fd);
    line_reader_fini(&reader);
    tape_fini(&tape);
    if (is_read && b->tape->count == 0)
        snprintf(b->error, sizeof b->error, "%.100s holds nothing to publish", o->tape);
    if (!is_read || b->tape->count == 0)
        return false;
    b->tape->sent_ns = mem_zalloc(b->tape->count * sizeof *b->tape->sent_ns);
    o->channels = o->of = (int64_t)b->tape->channels;
    o->seconds = (double)b->tape->entries[b->tape->count - 1].due_ns / 1e9;
    return true;
}

void bench_tape_free(struct bench_tape *t)
{
    if (t == NULL)
        return;
    for (size_t i = 0; i < t->channels; i++) {
        free(t->names[i]);
        buf_fini(&t->places[i]);
    }
    free(t->names);
    free(t->places);
    free(t->sent_ns);
    free(t->entries);
    map_fini(&t->by_name);
    buf_fini(&t->commands);
    free(t);
}

/* ---- publishing ----------------------------------------------------------------------------- */

const char *bench_tape_channel(const struct bench_tape *t, uint32_t channel)
{
    return t->names[channel];
}

const struct bench_tape_entry *bench_tape_at(const struct bench_tape *t, size_t index,
                                             struct slice *command)
{
    if (index >= t->count)
        return NULL;
    size_t start = index > 0 ? t->entries[index - 1].end : 0;
    *command = slice_of(t->commands.data + start, t->entries[index].end - start);
    return &t->entries[index];
}

/* Relaxed: a number of its own, which Redis and the node carry to the reader much later. */
void bench_tape_sent(struct bench_tape *t, size_t index, uint64_t now_ns)
{
    atomic_store_explicit(&t->sent_ns[index], now_ns, memory_order_relaxed);
}

/* ---- counting ------------------------------------------------------------------------------- */

/* One item, and missed before it, on a channel of a client. */
static void time_item(struct bench *b, size_t client, struct slice name, unsigned missed)
{
    const struct bench_tape *t = b->tape;
    char **known = map_get(&t->by_name, map_hash(name), name);
    if (known == NULL)
        return;
    uint32_t channel = (uint32_t)(known - t->names);
    struct bench_slot *slot = bench_slot_of(b, client, channel);
    if (slot == NULL)
        return;
    slot->number += missed + 1;
    const struct buf *places = &t->places[channel];
    if (slot->number > places->len / sizeof(size_t))
        return;
    size_t place;
    memcpy(&place, places->data + (slot->number - 1) * sizeof place, sizeof place);
    uint64_t sent_ns = atomic_load_explicit(&t->sent_ns[place], memory_order_relaxed);
    if (sent_ns == 0)
        return;
    if (b->read_ns == 0) /* once for all items of one read */
        b->read_ns = clock_mono_ns();
    bench_latency_add(b, client, place, sent_ns);
}

static void count_item(struct bench *b, size_t client, struct slice item)
{
    struct json_walk walk;
    struct slice key, value, data = {0}, channel = {0};
    unsigned missed = 0;
    bool is_snapshot = false;
    json_walk_start(&walk, item);
    while (json_walk_next(&walk, &key, &value)) {
        if (slice_is(key, "data"))
            data = value;
        else if (slice_is(key, "channel"))
            channel = json_unquoted(value);
        else if (slice_is(key, "snap"))
            is_snapshot = slice_is(value, "true");
        else if (slice_is(key, "missed"))
            slice_to_unsigned(value, 100000000, &missed);
    }
    if (is_snapshot) /* of before; nobody published it now */
        return;
    b->deliveries++;
    b->missed += missed;
    b->payload_bytes += data.len;
    time_item(b, client, channel, missed);
}

void bench_tape_count(struct bench *b, size_t client, struct slice message)
{
    struct json_walk walk;
    struct slice item;
    if (b->options.raw) {
        b->deliveries++;
        b->payload_bytes += message.len;
        return;
    }
    if (!json_text_is_valid(message)) {
        b->out_of_order++;
        return;
    }
    if (!json_walk_start(&walk, json_member(message, "items")))
        return;
    while (json_walk_next(&walk, NULL, &item))
        count_item(b, client, item);
}
