/*
 * option_value.c - from the text of a value to the field it belongs in.
 *
 * One parser for each enum option_type, all driven by the option's row. Values come from files and
 * variables that anyone may have written, so an error shows only a bounded, harmless copy, and of
 * a secret nothing at all.
 */
#include "protocol/option_table.h"

#include "base/mem.h"
#include "base/utf8.h"
#include "protocol/config.h"

#include <assert.h>
#include <stdlib.h>

#define SHOWN_BYTES_MAX 200 /* of a value in an error: it must stay one line that people read */
#define DIGITS_MAX      18  /* every number of so many digits fits int64_t */

/* Enums are stored as int, which is what gcc and clang give an enum without negative members. */
static_assert(sizeof(enum log_level) == sizeof(int), "enum options are stored as int");
static_assert(sizeof(enum delivery_mode) == sizeof(int), "enum options are stored as int");

/* --- messages ------------------------------------------------------------------------------- */

void option_append_shown(struct buf *out, struct slice text)
{
    bool is_cut = text.len > SHOWN_BYTES_MAX;
    size_t len = is_cut ? SHOWN_BYTES_MAX : text.len;
    while (is_cut && len > 0 && ((unsigned char)text.ptr[len] & 0xc0) == 0x80)
        len--; /* not inside a character */
    bool is_text = utf8_is_valid(text.ptr, len);
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        bool is_odd = c < 0x20 || c == 0x7f || (c >= 0x80 && !is_text);
        buf_append(out, is_odd ? "?" : &text.ptr[i], 1);
    }
    if (is_cut)
        buf_append_str(out, "...");
}

static void append_words(struct buf *out, const struct option_word *words, const char *last)
{
    for (const struct option_word *w = words; w->name != NULL; w++) {
        if (w != words)
            buf_append_str(out, w[1].name == NULL ? last : ", ");
        buf_append_str(out, w->name);
    }
}

void option_append_allowed(struct buf *out, const struct option *o)
{
    switch (o->type) {
    case OPTION_TEXT: return;
    case OPTION_INT:
        buf_printf(out, "%sa whole number from %lld to %lld",
                   (o->flags & OPTION_ZERO) != 0 ? "0 or " : "", (long long)o->min,
                   (long long)o->max);
        break;
    case OPTION_BOOL: buf_append_str(out, "yes or no"); break;
    case OPTION_WORD: append_words(out, o->words, " or "); break;
    case OPTION_MODES:
        buf_append_str(out, "one or more of ");
        append_words(out, o->words, " and ");
        break;
    }
    if ((o->flags & OPTION_AUTO) != 0)
        buf_append_str(out, ", or " OPTION_AUTO_WORD);
}

/* Says what is wrong with a value; false, for the caller to return. */
static bool refuse(const struct option *o, struct slice value, const char *wrong, struct buf *why)
{
    if ((o->flags & OPTION_SECRET) == 0) {
        buf_append_str(why, "\"");
        option_append_shown(why, value);
        buf_append_str(why, "\" ");
    }
    buf_append_str(why, wrong != NULL ? wrong : "is not ");
    if (wrong == NULL)
        option_append_allowed(why, o);
    return false;
}

/* --- one parser per type -------------------------------------------------------------------- */

static bool assign_text(const struct option *o, void *field, struct slice value, struct buf *why)
{
    for (size_t i = 0; i < value.len; i++) {
        if ((unsigned char)value.ptr[i] < 0x20 || value.ptr[i] == 0x7f)
            return refuse(o, value, "holds a control character", why);
    }
    if (!utf8_is_valid(value.ptr, value.len))
        return refuse(o, value, "is not UTF-8", why);
    if (value.len > (size_t)o->max) {
        char wrong[64];
        snprintf(wrong, sizeof wrong, "is longer than %lld bytes", (long long)o->max);
        return refuse(o, value, wrong, why);
    }
    char *copy = mem_strndup(value.ptr, value.len);
    const char *wrong = o->check != NULL ? o->check(copy) : NULL;
    if (wrong != NULL) {
        free(copy);
        return refuse(o, value, wrong, why);
    }
    char **place = field;
    free(*place);
    *place = copy;
    return true;
}

static bool assign_int(const struct option *o, void *field, struct slice value, struct buf *why)
{
    int64_t number = 0;
    bool is_number = value.len != 0 && value.len <= DIGITS_MAX;
    for (size_t i = 0; is_number && i < value.len; i++) {
        is_number = value.ptr[i] >= '0' && value.ptr[i] <= '9';
        number = number * 10 + (value.ptr[i] - '0');
    }
    bool is_zero = number == 0 && (o->flags & OPTION_ZERO) != 0;
    if (!is_number || (!is_zero && (number < o->min || number > o->max)))
        return refuse(o, value, NULL, why);
    *(int64_t *)field = number;
    return true;
}

static bool assign_bool(const struct option *o, void *field, struct slice value, struct buf *why)
{
    bool yes = slice_is(value, "yes");
    if (!yes && !slice_is(value, "no"))
        return refuse(o, value, NULL, why);
    *(bool *)field = yes;
    return true;
}

static const struct option_word *find_word(const struct option *o, struct slice name)
{
    for (const struct option_word *w = o->words; w->name != NULL; w++) {
        if (slice_is(name, w->name))
            return w;
    }
    return NULL;
}

static bool assign_word(const struct option *o, void *field, struct slice value, struct buf *why)
{
    const struct option_word *word = find_word(o, value);
    if (word == NULL)
        return refuse(o, value, NULL, why);
    memcpy(field, &word->value, sizeof word->value);
    return true;
}

static bool assign_modes(const struct option *o, struct config_namespace *ns, struct slice value,
                         struct buf *why)
{
    bool chosen[MODE_ALL + 1] = {false};
    size_t at = 0;
    size_t words = 0;
    while (at < value.len) {
        size_t end = at;
        while (end < value.len && value.ptr[end] != ' ' && value.ptr[end] != ',')
            end++;
        const struct option_word *word = find_word(o, slice_of(value.ptr + at, end - at));
        if (end != at && word == NULL)
            return refuse(o, value, NULL, why);
        if (word != NULL) {
            chosen[word->value] = true;
            words++;
        }
        at = end + 1;
    }
    if (words == 0)
        return refuse(o, value, NULL, why);
    ns->allow_latest = chosen[MODE_LATEST];
    ns->allow_all = chosen[MODE_ALL];
    return true;
}

static void assign_automatic(const struct option *o, void *base)
{
    if (o->automatic != NULL)
        *(int64_t *)((char *)base + o->offset) = o->automatic();
    if (o->type != OPTION_MODES)
        return;
    struct config_namespace *ns = base;
    ns->allow_latest = ns->allow_all = false;
}

bool option_assign(const struct option *o, void *base, struct slice value, struct buf *why)
{
    void *field = (char *)base + o->offset;
    if ((o->flags & OPTION_AUTO) != 0 && slice_is(value, OPTION_AUTO_WORD)) {
        assign_automatic(o, base);
        return true;
    }
    switch (o->type) {
    case OPTION_TEXT: return assign_text(o, field, value, why);
    case OPTION_INT: return assign_int(o, field, value, why);
    case OPTION_BOOL: return assign_bool(o, field, value, why);
    case OPTION_WORD: return assign_word(o, field, value, why);
    case OPTION_MODES: return assign_modes(o, base, value, why);
    }
    return false;
}

/* --- comparing and showing ------------------------------------------------------------------ */

static const void *field_of(const struct option *o, const void *base)
{
    return (const char *)base + o->offset;
}

static bool has_modes_of(const struct config_namespace *a, const struct config_namespace *b)
{
    return a->allow_latest == b->allow_latest && a->allow_all == b->allow_all;
}

bool option_is_equal(const struct option *o, const void *a, const void *b)
{
    const void *x = field_of(o, a);
    const void *y = field_of(o, b);
    switch (o->type) {
    case OPTION_TEXT: return strcmp(*(char *const *)x, *(char *const *)y) == 0;
    case OPTION_INT: return *(const int64_t *)x == *(const int64_t *)y;
    case OPTION_BOOL: return *(const bool *)x == *(const bool *)y;
    case OPTION_WORD: return memcmp(x, y, sizeof(int)) == 0;
    case OPTION_MODES: return has_modes_of(a, b);
    }
    return false;
}

static void copy_modes(struct config_namespace *to, const struct config_namespace *from)
{
    to->allow_latest = from->allow_latest;
    to->allow_all = from->allow_all;
}

static void copy_text(char **to, char *const *from)
{
    char *copy = mem_strdup(*from);
    free(*to);
    *to = copy;
}

void option_copy(const struct option *o, void *to, const void *from)
{
    void *place = (char *)to + o->offset;
    switch (o->type) {
    case OPTION_TEXT: copy_text(place, field_of(o, from)); break;
    case OPTION_INT: memcpy(place, field_of(o, from), sizeof(int64_t)); break;
    case OPTION_BOOL: memcpy(place, field_of(o, from), sizeof(bool)); break;
    case OPTION_WORD: memcpy(place, field_of(o, from), sizeof(int)); break;
    case OPTION_MODES: copy_modes(to, from); break;
    }
}

static const char *word_of(const struct option *o, const void *base)
{
    int value;
    memcpy(&value, field_of(o, base), sizeof value);
    const struct option_word *w = o->words;
    while (w->name != NULL && w->value != value)
        w++;
    return w->name != NULL ? w->name : "";
}

static const char *modes_of(const struct config_namespace *ns)
{
    if (ns->allow_latest && ns->allow_all)
        return "latest all";
    return ns->allow_latest ? "latest" : "all";
}

void option_append_value(struct buf *out, const struct option *o, const void *base)
{
    const void *field = field_of(o, base);
    if ((o->flags & OPTION_SECRET) != 0) {
        buf_append_str(out, "(secret)");
        return;
    }
    switch (o->type) {
    case OPTION_TEXT: option_append_shown(out, slice_str(*(char *const *)field)); break;
    case OPTION_INT: buf_printf(out, "%lld", (long long)*(const int64_t *)field); break;
    case OPTION_BOOL: buf_append_str(out, *(const bool *)field ? "yes" : "no"); break;
    case OPTION_WORD: buf_append_str(out, word_of(o, base)); break;
    case OPTION_MODES: buf_append_str(out, modes_of(base)); break;
    }
}

void option_release(void *base, bool is_namespace)
{
    for (size_t i = 0; i < option_count; i++) {
        const struct option *o = &option_table[i];
        if (o->type == OPTION_TEXT &&
            slice_is(slice_str(o->section), OPTION_NAMESPACE) == is_namespace)
            free(*(char **)((char *)base + o->offset));
    }
}
