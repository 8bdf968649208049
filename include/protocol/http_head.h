/*
 * http_head.h - strict parser for an HTTP/1.1 request head (RFC 9112), no body.
 *
 * Pure: bytes in, slices out. Refuses what intermediaries are known to disagree about: bare LF,
 * obs-fold, space before the colon, control bytes, absolute-form or fragment targets, repeated
 * or missing Host, a body (Content-Length other than 0, Transfer-Encoding).
 */
#ifndef TICKCAST_PROTOCOL_HTTP_HEAD_H
#define TICKCAST_PROTOCOL_HTTP_HEAD_H

#include "base/buf.h"
#include "base/slice.h"

#include <stdbool.h>
#include <stddef.h>

#define HTTP_HEAD_FIELDS_MAX 64

struct http_field {
    struct slice name;  /* as sent; compare without case */
    struct slice value; /* trimmed */
};

struct http_head {
    struct slice method;
    struct slice path;  /* target up to '?', still percent-encoded */
    struct slice query; /* behind '?', empty when there is none */
    unsigned minor;     /* HTTP/1.<minor>: 0 or 1 */
    struct http_field fields[HTTP_HEAD_FIELDS_MAX];
    size_t field_count;
    size_t bytes; /* length of the head with its empty line */
};

/*
 * Parses the head at the start of ptr[0..len). Returns 0 when it is whole, -1 when more bytes are
 * needed, else the HTTP status to refuse with: 400 malformed, 414 target over max/2 bytes,
 * 431 head over max bytes or too many fields, 505 not HTTP/1.0 or 1.1. It refuses as early as it
 * can: a first line that cannot become valid is not waited for. Of a refused head only the method
 * may be looked at, which is cut where it stops being one. Slices borrow from ptr.
 */
int http_head_parse(struct http_head *head, const char *ptr, size_t len, size_t max);

/* The value of the first field of that name, or an empty slice with NULL ptr. */
struct slice http_head_find(const struct http_head *head, const char *name);
size_t http_head_count(const struct http_head *head, const char *name);

/* Iterates over the values of all fields of that name: start with *it = 0. False at the end. */
bool http_head_next(const struct http_head *head, const char *name, size_t *it,
                    struct slice *value);

/* Takes the next element, trimmed and not empty, off a comma-separated list that has no quoted
 * strings. False at the end. */
bool http_list_next(struct slice *rest, struct slice *element);

/* Does a comma-separated list field (all its lines together) hold this token, without case? */
bool http_head_has_token(const struct http_head *head, const char *name, const char *token);

/* Case-insensitive ASCII comparison. */
bool http_name_is(struct slice s, const char *name);

bool http_is_token_char(unsigned char c); /* RFC 9110, 5.6.2 */

/*
 * Finds a query parameter and percent-decodes its value into out, which is cleared first (`+` is
 * itself). The first one of that name, compared as sent, counts. Returns 1 when found, 0 when
 * absent, -1 when its encoding is broken or hides a NUL.
 */
int http_query_get(struct slice query, const char *name, struct buf *out);

/* Standard reason phrase of the statuses that we send. */
const char *http_reason(int status);

#endif
