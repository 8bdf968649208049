/*
 * trace.c - checking, making and reading trace ids.
 */
#include "protocol/trace.h"

#include "protocol/channel.h"

#include <stdio.h>
#include <string.h>

#define PARENT_BYTES    55 /* 00-<32>-<16>-<2> */
#define PARENT_ID_START 3
#define PARENT_ID_BYTES 32

bool trace_is_valid(struct slice trace)
{
    if (trace.len == 0 || trace.len > TRACE_BYTES_MAX)
        return false;
    for (size_t i = 0; i < trace.len; i++) {
        if (trace.ptr[i] <= ' ' || trace.ptr[i] > '~')
            return false;
    }
    return true;
}

static bool is_hex(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (!((text[i] >= '0' && text[i] <= '9') || (text[i] >= 'a' && text[i] <= 'f')))
            return false;
    }
    return true;
}

static bool is_zero(const char *text, size_t len)
{
    return strspn(text, "0") >= len;
}

bool trace_of_parent(struct slice parent, struct slice *trace)
{
    const char *p = parent.ptr;
    *trace = (struct slice){0};
    /* A later version may have more behind it, after another dash. */
    if (parent.len < PARENT_BYTES || (parent.len > PARENT_BYTES && p[PARENT_BYTES] != '-'))
        return false;
    if (p[2] != '-' || p[35] != '-' || p[52] != '-' || !is_hex(p, 2) || !is_hex(p + 3, 32) ||
        !is_hex(p + 36, 16) || !is_hex(p + 53, 2))
        return false;
    bool is_first = memcmp(p, "00", 2) == 0;
    if (memcmp(p, "ff", 2) == 0 || (is_first && parent.len != PARENT_BYTES))
        return false;
    if (is_zero(p + 3, 32) || is_zero(p + 36, 16))
        return false;
    *trace = slice_of(p + PARENT_ID_START, PARENT_ID_BYTES);
    return true;
}

void trace_make(struct rng *rng, char *out)
{
    snprintf(out, TRACE_MADE_BYTES + 1, "%016llx%016llx", (unsigned long long)rng_next(rng),
             (unsigned long long)rng_next(rng));
}

/* Takes what stands before the next space off the text, or all of it. */
static struct slice take_word(struct slice *text)
{
    const char *space = text->len > 0 ? memchr(text->ptr, ' ', text->len) : NULL;
    size_t len = space != NULL ? (size_t)(space - text->ptr) : text->len;
    struct slice word = slice_of(text->ptr, len);
    size_t used = space != NULL ? len + 1 : len;
    *text = slice_of(text->ptr + used, text->len - used);
    return word;
}

bool trace_note_parse(struct slice payload, struct trace_note *out)
{
    if (payload.len == 0 || payload.ptr[payload.len - 1] == ' ')
        return false;
    out->trace = take_word(&payload);
    out->channel = take_word(&payload);
    out->is_made = slice_is(payload, "made");
    return trace_is_valid(out->trace) && channel_is_valid(out->channel) &&
           (out->is_made || payload.len == 0);
}

void trace_note_append(struct buf *out, const struct trace_note *note)
{
    buf_append(out, note->trace.ptr, note->trace.len);
    buf_append_str(out, " ");
    buf_append(out, note->channel.ptr, note->channel.len);
    if (note->is_made)
        buf_append_str(out, " made");
}
