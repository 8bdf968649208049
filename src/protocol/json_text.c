/*
 * json_text.c - a strict JSON scanner (RFC 8259) and the string writer.
 *
 * Pure. One pass over the bytes. The nesting is a stack of bits, one per level: object or array;
 * so depth costs no recursion and no memory. Every publication passes through here, and most of
 * its bytes are inside strings: those are looked at eight at a time.
 *
 * It does not check UTF-8 (the caller has), does not refuse repeated members, and takes lone
 * surrogates in \u escapes for granted, as the grammar does.
 */
#include "protocol/json_text.h"

#include <stdint.h>

#define EACH_BYTE(b) (0x0101010101010101u * (uint64_t)(b))

struct scan {
    const char *at;
    const char *end;
};

/* --- the parts of a value -------------------------------------------------------------------- */

static void skip_space(struct scan *s)
{
    while (s->at < s->end && (*s->at == ' ' || *s->at == '\n' || *s->at == '\r' || *s->at == '\t'))
        s->at++;
}

static bool take(struct scan *s, char c)
{
    if (s->at == s->end || *s->at != c)
        return false;
    s->at++;
    return true;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool take_digits(struct scan *s)
{
    const char *start = s->at;
    while (s->at < s->end && is_digit(*s->at))
        s->at++;
    return s->at > start;
}

static bool scan_number(struct scan *s)
{
    take(s, '-');
    if (!take(s, '0') && !take_digits(s))
        return false;
    if (take(s, '.') && !take_digits(s))
        return false;
    if (take(s, 'e') || take(s, 'E')) {
        if (!take(s, '+'))
            take(s, '-');
        return take_digits(s);
    }
    return true;
}

static bool is_hex(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* Behind a backslash. */
static bool scan_escape(struct scan *s)
{
    if (s->at == s->end)
        return false;
    char c = *s->at++;
    if (c != 'u')
        return c != '\0' && strchr("\"\\/bfnrt", c) != NULL;
    if (s->end - s->at < 4)
        return false;
    for (int i = 0; i < 4; i++) {
        if (!is_hex(*s->at++))
            return false;
    }
    return true;
}

/* Does one of eight bytes end a plain run: a control byte, a quote or a backslash? It may be
 * wrong only behind a byte that does, so the answer for the eight is exact. */
static bool has_special(uint64_t eight)
{
    uint64_t quote = eight ^ EACH_BYTE('"'), backslash = eight ^ EACH_BYTE('\\');
    uint64_t found = (eight - EACH_BYTE(0x20)) & ~eight;
    found |= (quote - EACH_BYTE(1)) & ~quote;
    found |= (backslash - EACH_BYTE(1)) & ~backslash;
    return (found & EACH_BYTE(0x80)) != 0;
}

static bool is_special(char c)
{
    return (unsigned char)c < 0x20 || c == '"' || c == '\\';
}

static const char *skip_plain(const char *at, const char *end)
{
    uint64_t eight;
    while ((size_t)(end - at) >= sizeof eight) {
        memcpy(&eight, at, sizeof eight);
        if (has_special(eight))
            break;
        at += sizeof eight;
    }
    while (at < end && !is_special(*at))
        at++;
    return at;
}

static bool scan_string(struct scan *s)
{
    if (!take(s, '"'))
        return false;
    for (;;) {
        s->at = skip_plain(s->at, s->end);
        if (take(s, '"'))
            return true;
        if (!take(s, '\\') || !scan_escape(s))
            return false;
    }
}

static bool scan_word(struct scan *s, const char *word)
{
    size_t len = strlen(word);
    if ((size_t)(s->end - s->at) < len || memcmp(s->at, word, len) != 0)
        return false;
    s->at += len;
    return true;
}

static bool scan_scalar(struct scan *s)
{
    if (s->at == s->end)
        return false;
    switch (*s->at) {
    case '"': return scan_string(s);
    case 't': return scan_word(s, "true");
    case 'f': return scan_word(s, "false");
    case 'n': return scan_word(s, "null");
    default: return scan_number(s);
    }
}

/* --- values in values ------------------------------------------------------------------------ */

struct nesting {
    unsigned depth;
    uint64_t objects[JSON_DEPTH_MAX / 64]; /* bit per level: an object, else an array */
};

static bool is_in_object(const struct nesting *n)
{
    unsigned level = n->depth - 1;
    return (n->objects[level / 64] >> level % 64 & 1) != 0;
}

static bool enter(struct nesting *n, bool object)
{
    if (n->depth == JSON_DEPTH_MAX)
        return false;
    unsigned level = n->depth++;
    uint64_t bit = (uint64_t)1 << level % 64;
    n->objects[level / 64] = object ? n->objects[level / 64] | bit : n->objects[level / 64] & ~bit;
    return true;
}

static bool scan_key(struct scan *s)
{
    skip_space(s);
    if (!scan_string(s))
        return false;
    skip_space(s);
    return take(s, ':');
}

/* Behind a value inside a container: closes what ends here. Afterwards either the outermost
 * container is closed (depth 0), or the next value of one that is open starts. */
static bool scan_after_value(struct scan *s, struct nesting *n)
{
    while (n->depth > 0) {
        bool object = is_in_object(n);
        skip_space(s);
        if (take(s, ','))
            return !object || scan_key(s);
        if (!take(s, object ? '}' : ']'))
            return false;
        n->depth--;
    }
    return true;
}

static bool scan_value(struct scan *s)
{
    struct nesting n;
    memset(&n, 0, sizeof n);
    do {
        skip_space(s);
        bool object = take(s, '{');
        if (object || take(s, '[')) {
            if (!enter(&n, object))
                return false;
            skip_space(s);
            if (!take(s, object ? '}' : ']')) {
                if (object && !scan_key(s))
                    return false;
                continue;
            }
            n.depth--;
        } else if (!scan_scalar(s)) {
            return false;
        }
        if (!scan_after_value(s, &n))
            return false;
    } while (n.depth > 0);
    return true;
}

bool json_text_is_valid(struct slice text)
{
    if (text.len == 0)
        return false;
    struct scan s = {.at = text.ptr, .end = text.ptr + text.len};
    if (!scan_value(&s))
        return false;
    skip_space(&s);
    return s.at == s.end;
}

/* --- members of an object -------------------------------------------------------------------- */

static bool step_inside(struct slice text, char opening, struct slice *rest)
{
    struct scan s = {.at = text.ptr, .end = text.ptr + text.len};
    skip_space(&s);
    bool is_there = take(&s, opening);
    *rest = slice_of(s.at, (size_t)(s.end - s.at));
    return is_there;
}

bool json_members_init(struct json_members *m, struct slice text)
{
    return step_inside(text, '{', &m->rest);
}

bool json_members_next(struct json_members *m, struct slice *key, struct slice *value)
{
    struct scan s = {.at = m->rest.ptr, .end = m->rest.ptr + m->rest.len};
    skip_space(&s);
    take(&s, ',');
    skip_space(&s);
    const char *start = s.at;
    if (!scan_string(&s))
        return false;
    *key = slice_of(start + 1, (size_t)(s.at - start) - 2);
    skip_space(&s);
    take(&s, ':');
    skip_space(&s);
    start = s.at;
    if (!scan_value(&s))
        return false;
    *value = slice_of(start, (size_t)(s.at - start));
    m->rest = slice_of(s.at, (size_t)(s.end - s.at));
    return true;
}

/* --- elements of an array -------------------------------------------------------------------- */

bool json_elements_init(struct json_elements *e, struct slice text)
{
    return step_inside(text, '[', &e->rest);
}

bool json_elements_next(struct json_elements *e, struct slice *value)
{
    struct scan s = {.at = e->rest.ptr, .end = e->rest.ptr + e->rest.len};
    skip_space(&s);
    take(&s, ',');
    skip_space(&s);
    const char *start = s.at;
    if (!scan_value(&s))
        return false;
    *value = slice_of(start, (size_t)(s.at - start));
    e->rest = slice_of(s.at, (size_t)(s.end - s.at));
    return true;
}

/* --- escapes --------------------------------------------------------------------------------- */

bool json_is_integer(struct slice json)
{
    size_t i = json.ptr[0] == '-';
    size_t first = i;
    while (i < json.len && json.ptr[i] >= '0' && json.ptr[i] <= '9')
        i++;
    return i > first && i == json.len;
}

bool json_has_escaped_nul(struct slice json)
{
    static const char nul[] = "\\u0000";
    const char *at = json.ptr, *end = at + json.len;
    while ((at = memchr(at, '\\', (size_t)(end - at))) != NULL) {
        if ((size_t)(end - at) >= sizeof nul - 1 && memcmp(at, nul, sizeof nul - 1) == 0)
            return true;
        at += 2; /* valid JSON: something follows a backslash */
    }
    return false;
}

/* --- writing --------------------------------------------------------------------------------- */

static void append_escape(struct buf *out, unsigned char c)
{
    static const char hex[] = "0123456789abcdef";
    static const char letters[] = "\"\"\\\\\bb\ff\nn\rr\tt"; /* the byte, then its letter */

    for (size_t i = 0; i + 1 < sizeof letters; i += 2) {
        if ((unsigned char)letters[i] == c) {
            buf_append(out, (char[]){'\\', letters[i + 1]}, 2);
            return;
        }
    }
    buf_append(out, (char[]){'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]}, 6);
}

void json_append_string(struct buf *out, struct slice text)
{
    const char *at = text.ptr, *end = at + text.len;
    buf_append(out, "\"", 1);
    while (at < end) {
        const char *stop = skip_plain(at, end);
        buf_append(out, at, (size_t)(stop - at));
        if (stop < end)
            append_escape(out, (unsigned char)*stop++);
        at = stop;
    }
    buf_append(out, "\"", 1);
}
