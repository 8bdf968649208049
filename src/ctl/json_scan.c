/*
 * json_scan.c - walking over valid JSON by its punctuation.
 *
 * Outside of strings only brackets, commas, colons and white space matter; inside of them only
 * the quote and the backslash.
 */
#include "ctl/json_scan.h"

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static void skip_space(struct slice *s)
{
    while (s->len > 0 && is_space(*s->ptr)) {
        s->ptr++;
        s->len--;
    }
}

static struct slice cut(struct slice *s, size_t len)
{
    struct slice part = slice_of(s->ptr, len);
    s->ptr += len;
    s->len -= len;
    return part;
}

/* Length of the string that starts here, with its quotes. */
static size_t string_len(struct slice s)
{
    for (size_t at = 1; at < s.len; at++) {
        if (s.ptr[at] == '\\')
            at++;
        else if (s.ptr[at] == '"')
            return at + 1;
    }
    return s.len;
}

/* Length of the object or array that starts here. */
static size_t nested_len(struct slice s)
{
    size_t depth = 0;
    for (size_t at = 0; at < s.len; at++) {
        char c = s.ptr[at];
        if (c == '"')
            at += string_len(slice_of(s.ptr + at, s.len - at)) - 1;
        else if (c == '{' || c == '[')
            depth++;
        else if ((c == '}' || c == ']') && --depth == 0)
            return at + 1;
    }
    return s.len;
}

/* Length of the number or word that starts here. */
static size_t plain_len(struct slice s)
{
    size_t at = 0;
    while (at < s.len && !is_space(s.ptr[at]) && memchr(",:]}", s.ptr[at], 4) == NULL)
        at++;
    return at;
}

static struct slice cut_value(struct slice *s)
{
    if (s->len == 0)
        return *s;
    if (*s->ptr == '"')
        return cut(s, string_len(*s));
    if (*s->ptr == '{' || *s->ptr == '[')
        return cut(s, nested_len(*s));
    return cut(s, plain_len(*s));
}

/* Steps over c when it is the next character. */
static bool skip_char(struct slice *s, char c)
{
    skip_space(s);
    if (s->len == 0 || *s->ptr != c)
        return false;
    cut(s, 1);
    skip_space(s);
    return true;
}

bool json_walk_start(struct json_walk *w, struct slice text)
{
    w->left = text;
    w->is_object = skip_char(&w->left, '{');
    return w->is_object || skip_char(&w->left, '[');
}

bool json_walk_next(struct json_walk *w, struct slice *key, struct slice *value)
{
    struct slice name = {.ptr = "", .len = 0};
    if (w->left.len == 0 || *w->left.ptr == '}' || *w->left.ptr == ']')
        return false;
    if (w->is_object) {
        name = json_unquoted(cut_value(&w->left));
        if (!skip_char(&w->left, ':'))
            return false;
    }
    *value = cut_value(&w->left);
    skip_char(&w->left, ',');
    if (key != NULL)
        *key = name;
    return value->len > 0;
}

struct slice json_member(struct slice text, const char *key)
{
    struct json_walk walk;
    struct slice name, value;
    if (!json_walk_start(&walk, text) || !walk.is_object)
        return (struct slice){0};
    while (json_walk_next(&walk, &name, &value)) {
        if (slice_is(name, key))
            return value;
    }
    return (struct slice){0};
}

bool json_is_string(struct slice value, const char *text)
{
    return value.len >= 2 && value.ptr[0] == '"' && slice_is(json_unquoted(value), text);
}

struct slice json_unquoted(struct slice value)
{
    if (value.len < 2 || value.ptr[0] != '"')
        return value;
    return slice_of(value.ptr + 1, value.len - 2);
}
