/*
 * fuzz_http_head.c - request head, opening handshake and query.
 *
 * Beside what the sanitizers see it holds the parsers to their word: the answer does not depend on
 * the pieces in which a head arrives, slices lie inside the head, and an agreed extension is one
 * that we may send.
 */
#include "base/mem.h"
#include "protocol/http_head.h"
#include "protocol/ws_handshake.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define HEAD_MAX 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check_inside(struct slice s, const char *ptr, size_t len)
{
    assert(s.len == 0 || (s.ptr >= ptr && s.ptr + s.len <= ptr + len));
}

/* Prefixes answer "more" until the answer is there; an answer is final. */
static void check_prefix(const char *ptr, size_t len, size_t cut, int answer)
{
    struct http_head head;
    char *copy = mem_dup(ptr, cut);
    int rc = http_head_parse(&head, copy, cut, HEAD_MAX);
    free(copy);
    assert(rc == -1 || rc == answer);
    assert(cut < len || rc == answer);
}

static void check_queries(const struct http_head *head)
{
    static const char *const names[] = {"channels", "token", "format"};
    struct buf out = {0};
    for (size_t i = 0; i < 3; i++) {
        int found = http_query_get(head->query, names[i], &out);
        assert(found >= -1 && found <= 1);
        assert(found != 1 || out.len <= head->query.len);
        assert(found != 1 || out.len == 0 || memchr(out.data, '\0', out.len) == NULL);
    }
    buf_fini(&out);
}

static void check_handshake(const struct http_head *head, const char *ptr, size_t len)
{
    struct ws_handshake hs;
    const char *why = NULL;
    int status = ws_handshake_check(head, &hs, &why);
    assert(status == 101 || status == 400 || status == 405 || status == 426);
    assert(why != NULL && (why[0] == '\0') == (status == 101));
    if (status != 101)
        return;
    check_inside(hs.bearer, ptr, len);
    assert(strlen(hs.accept) == 28);
    assert(hs.window_bits >= 9 && hs.window_bits <= 15);
    assert(hs.deflate == (hs.extension[0] != '\0'));
    struct buf out = {0};
    ws_handshake_respond(&out, &hs, "tickcast.v1+json");
    assert(memcmp(out.data + out.len - 4, "\r\n\r\n", 4) == 0);
    buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    const char *ptr = (const char *)data;
    static struct http_head head;
    int rc = http_head_parse(&head, ptr, len, HEAD_MAX);
    assert(rc == 0 || rc == -1 || rc == 400 || rc == 414 || rc == 431 || rc == 505);
    size_t step = len / 16 + 1; /* some prefixes, and those near the end */
    for (size_t cut = 0; cut <= len; cut += cut + 4 > len ? 1 : step)
        check_prefix(ptr, len, cut, rc);
    if (rc != 0)
        return 0;
    assert(head.bytes <= len && head.bytes <= HEAD_MAX && head.field_count <= HTTP_HEAD_FIELDS_MAX);
    assert(memcmp(ptr + head.bytes - 4, "\r\n\r\n", 4) == 0);
    check_inside(head.path, ptr, head.bytes);
    check_inside(head.query, ptr, head.bytes);
    for (size_t i = 0; i < head.field_count; i++) {
        check_inside(head.fields[i].name, ptr, head.bytes);
        check_inside(head.fields[i].value, ptr, head.bytes);
    }
    check_queries(&head);
    check_handshake(&head, ptr, head.bytes);
    return 0;
}
