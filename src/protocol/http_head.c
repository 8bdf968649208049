/*
 * http_head.c - strict request-head parser.
 *
 * Pure. One pass from the first byte to the empty line, looking at no more than max bytes, and
 * judging every byte where it stands: the answer to a head does not depend on the pieces in which
 * it comes. It keeps nothing between calls and starts over with each; a head is small, and the
 * time for it to arrive is bounded elsewhere. It does not decode the path.
 */
#include "protocol/http_head.h"

#include <stdint.h>
#include <string.h>

#define HTTP_BLANKS " \t" /* optional white space (RFC 9110, 5.6.3) */

enum { OK = 0, MORE = -1, MALFORMED = 400, TARGET_TOO_LONG = 414, TOO_LARGE = 431, VERSION = 505 };

struct scan {
    const char *at;
    const char *end;
};

/* --- characters --------------------------------------------------------------------------- */

static bool is_alnum(unsigned char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_one_of(unsigned char c, const char *set)
{
    return c != '\0' && strchr(set, c) != NULL;
}

bool http_is_token_char(unsigned char c)
{
    return is_alnum(c) || is_one_of(c, "!#$%&'*+-.^_`|~");
}

/* Browsers leave some characters in a query that RFC 3986 wants encoded, so all visible ASCII
 * passes but for the fragment's mark. */
static bool is_target_char(unsigned char c)
{
    return c > ' ' && c < 0x7f && c != '#';
}

static bool is_value_char(unsigned char c)
{
    return c == '\t' || (c >= ' ' && c != 0x7f);
}

/* A name, an address, a port; without the comma that a merged pair of Host lines would have. */
static bool is_host_char(unsigned char c)
{
    return is_alnum(c) || is_one_of(c, "-._~!$&'()*+;=:[]%");
}

static struct slice take_while(struct scan *s, bool (*is_wanted)(unsigned char))
{
    const char *start = s->at;
    while (s->at < s->end && is_wanted((unsigned char)*s->at))
        s->at++;
    return slice_of(start, (size_t)(s->at - start));
}

/* Takes exactly this text, as far as there are bytes. */
static int take_text(struct scan *s, const char *text)
{
    for (; *text != '\0'; text++, s->at++) {
        if (s->at == s->end)
            return MORE;
        if (*s->at != *text)
            return MALFORMED;
    }
    return OK;
}

/* --- request line ------------------------------------------------------------------------- */

static int take_method(struct scan *s, struct http_head *head)
{
    head->method = take_while(s, http_is_token_char);
    if (head->method.len == 0 && s->at < s->end)
        return MALFORMED;
    return take_text(s, " ");
}

static int take_target(struct scan *s, struct http_head *head, size_t max)
{
    if (s->at < s->end && *s->at != '/')
        return MALFORMED;
    struct slice target = take_while(s, is_target_char);
    if (target.len > max)
        return TARGET_TOO_LONG;
    const char *mark = target.len != 0 ? memchr(target.ptr, '?', target.len) : NULL;
    size_t path_len = mark != NULL ? (size_t)(mark - target.ptr) : target.len;
    head->path = slice_of(target.ptr, path_len);
    head->query = mark != NULL ? slice_of(mark + 1, target.len - path_len - 1) : slice_of("", 0);
    return take_text(s, " ");
}

static int take_digit(struct scan *s, unsigned *digit)
{
    if (s->at == s->end)
        return MORE;
    if (*s->at < '0' || *s->at > '9')
        return MALFORMED;
    *digit = (unsigned)(*s->at++ - '0');
    return OK;
}

static int take_version(struct scan *s, struct http_head *head)
{
    unsigned major;
    int rc;
    if ((rc = take_text(s, "HTTP/")) != OK || (rc = take_digit(s, &major)) != OK ||
        (rc = take_text(s, ".")) != OK || (rc = take_digit(s, &head->minor)) != OK)
        return rc;
    if (major != 1 || head->minor > 1)
        return VERSION;
    return take_text(s, "\r\n");
}

/* --- fields ------------------------------------------------------------------------------- */

/* Judges a field against those before it. */
static int check_field(const struct http_head *head, const struct http_field *field)
{
    if (http_name_is(field->name, "transfer-encoding"))
        return MALFORMED;
    if (http_name_is(field->name, "content-length"))
        return slice_is(field->value, "0") ? OK : MALFORMED;
    if (!http_name_is(field->name, "host"))
        return OK;
    struct scan s = {field->value.ptr, field->value.ptr + field->value.len};
    take_while(&s, is_host_char);
    return s.at == s.end && http_head_count(head, "host") == 0 ? OK : MALFORMED;
}

static int take_field(struct scan *s, struct http_head *head)
{
    if (head->field_count == HTTP_HEAD_FIELDS_MAX)
        return TOO_LARGE;
    int rc;
    struct http_field field = {.name = take_while(s, http_is_token_char)};
    if (field.name.len == 0)
        return MALFORMED; /* also a folded line */
    if ((rc = take_text(s, ":")) != OK)
        return rc;
    field.value = slice_trim(take_while(s, is_value_char), HTTP_BLANKS);
    if ((rc = take_text(s, "\r\n")) != OK || (rc = check_field(head, &field)) != OK)
        return rc;
    head->fields[head->field_count++] = field;
    return OK;
}

static int take_fields(struct scan *s, struct http_head *head)
{
    int rc = OK;
    while (rc == OK && s->at < s->end && *s->at != '\r')
        rc = take_field(s, head);
    if (rc != OK || (rc = take_text(s, "\r\n")) != OK)
        return rc;
    bool has_host = http_head_count(head, "host") != 0;
    return has_host || head->minor == 0 ? OK : MALFORMED; /* RFC 9112, 3.2 */
}

int http_head_parse(struct http_head *head, const char *ptr, size_t len, size_t max)
{
    if (len == 0)
        return MORE;
    struct scan s = {ptr, ptr + (len < max ? len : max)};
    int rc;
    head->field_count = 0;
    if ((rc = take_method(&s, head)) == OK && (rc = take_target(&s, head, max / 2)) == OK &&
        (rc = take_version(&s, head)) == OK)
        rc = take_fields(&s, head);
    head->bytes = (size_t)(s.at - ptr);
    return rc == MORE && len >= max ? TOO_LARGE : rc;
}

/* --- looking things up -------------------------------------------------------------------- */

static unsigned char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (unsigned char)(c | 0x20) : (unsigned char)c;
}

bool http_name_is(struct slice s, const char *name)
{
    if (s.len != strlen(name))
        return false;
    for (size_t i = 0; i < s.len; i++) {
        if (lower(s.ptr[i]) != lower(name[i]))
            return false;
    }
    return true;
}

bool http_head_next(const struct http_head *head, const char *name, size_t *it, struct slice *value)
{
    while (*it < head->field_count) {
        const struct http_field *field = &head->fields[(*it)++];
        if (http_name_is(field->name, name)) {
            *value = field->value;
            return true;
        }
    }
    return false;
}

struct slice http_head_find(const struct http_head *head, const char *name)
{
    size_t it = 0;
    struct slice value = {0};
    http_head_next(head, name, &it, &value);
    return value;
}

size_t http_head_count(const struct http_head *head, const char *name)
{
    size_t it = 0, count = 0;
    struct slice value;
    while (http_head_next(head, name, &it, &value))
        count++;
    return count;
}

/* Cuts s at the first separator: returns what is before it, leaves what is behind. */
static struct slice cut(struct slice *s, char separator)
{
    const char *mark = s->len != 0 ? memchr(s->ptr, separator, s->len) : NULL;
    struct slice before = slice_of(s->ptr, mark != NULL ? (size_t)(mark - s->ptr) : s->len);
    size_t taken = before.len + (mark != NULL);
    *s = slice_of(taken != 0 ? s->ptr + taken : s->ptr, s->len - taken);
    return before;
}

bool http_list_next(struct slice *rest, struct slice *element)
{
    while (rest->len != 0) {
        *element = slice_trim(cut(rest, ','), HTTP_BLANKS);
        if (element->len != 0)
            return true;
    }
    return false;
}

bool http_head_has_token(const struct http_head *head, const char *name, const char *token)
{
    size_t it = 0;
    struct slice list, element;
    while (http_head_next(head, name, &it, &list)) {
        while (http_list_next(&list, &element)) {
            if (http_name_is(element, token))
                return true;
        }
    }
    return false;
}

/* --- query -------------------------------------------------------------------------------- */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    unsigned char l = lower(c);
    return l >= 'a' && l <= 'f' ? l - 'a' + 10 : -1;
}

static bool percent_decode(struct slice s, struct buf *out)
{
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        if (c == '%') {
            int high = s.len - i > 2 ? hex_digit(s.ptr[i + 1]) : -1;
            int low = high >= 0 ? hex_digit(s.ptr[i + 2]) : -1;
            if (low < 0 || high + low == 0)
                return false;
            c = (char)(high << 4 | low);
            i += 2;
        }
        buf_append(out, &c, 1);
    }
    return true;
}

int http_query_get(struct slice query, const char *name, struct buf *out)
{
    buf_clear(out);
    while (query.len != 0) {
        struct slice value = cut(&query, '&');
        if (slice_is(cut(&value, '='), name))
            return percent_decode(value, out) ? 1 : -1;
    }
    return 0;
}

/* --- statuses ----------------------------------------------------------------------------- */

const char *http_reason(int status)
{
    static const struct {
        int status;
        const char *reason;
    } table[] = {
        {101, "Switching Protocols"},
        {200, "OK"},
        {204, "No Content"},
        {304, "Not Modified"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {408, "Request Timeout"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {426, "Upgrade Required"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {503, "Service Unavailable"},
        {505, "HTTP Version Not Supported"},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        if (table[i].status == status)
            return table[i].reason;
    }
    return "Unknown";
}
