/*
 * test_http_head.c - request heads, good and bad, each fed whole, byte by byte and cut at every
 * boundary; what is found in them; queries.
 */
#include "protocol/http_head.h"

#include "base/mem.h"
#include "unit.h"

#include <stdio.h>
#include <stdlib.h>

#define MAX 512 /* bytes of head that these tests allow */

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* Parses the first len bytes from memory that ends right behind them. */
static int parse_prefix(struct http_head *head, const char *text, size_t len)
{
    char *copy = mem_dup(text, len);
    int rc = http_head_parse(head, copy, len, MAX);
    free(copy);
    return rc;
}

/*
 * Every prefix must answer "more" until the answer is there, and no later byte may change it.
 * Returns the answer, and in *at how many bytes it took.
 */
static int parse_growing(const char *text, size_t len, size_t *at)
{
    struct http_head head;
    int answer = -1;
    *at = 0;
    for (size_t n = 0; n <= len; n++) {
        int rc = parse_prefix(&head, text, n);
        if (answer == -1 && rc != -1)
            *at = n;
        if (answer != -1)
            CU_ASSERT_EQUAL(rc, answer);
        answer = rc;
    }
    return answer;
}

static const char request[] = "GET /ws?channels=quote:AAPL,quote:MSFT&format=json HTTP/1.1\r\n"
                              "Host: example.com:8080\r\n"
                              "upgrade:websocket\r\n"
                              "Connection: keep-alive,\t Upgrade \r\n"
                              "Empty:\r\n"
                              "Blank: \t \r\n"
                              "X-List: a, b\r\n"
                              "x-list: ,C ,,\r\n"
                              "X-Bytes: caf\xc3\xa9\r\n"
                              "\r\n";

static bool slice_text_is(struct slice s, const char *text)
{
    return s.ptr != NULL && slice_is(s, text);
}

static void reads_a_request(void)
{
    struct http_head head;
    size_t len = sizeof request - 1, at;
    CU_ASSERT_EQUAL_FATAL(http_head_parse(&head, request, len, MAX), 0);
    CU_ASSERT_EQUAL(head.bytes, len);
    CU_ASSERT(slice_is(head.method, "GET"));
    CU_ASSERT(slice_is(head.path, "/ws"));
    CU_ASSERT(slice_is(head.query, "channels=quote:AAPL,quote:MSFT&format=json"));
    CU_ASSERT_EQUAL(head.minor, 1);
    CU_ASSERT_EQUAL(head.field_count, 8);
    CU_ASSERT(slice_is(head.fields[1].name, "upgrade"));
    CU_ASSERT(slice_text_is(http_head_find(&head, "HOST"), "example.com:8080"));
    CU_ASSERT(slice_text_is(http_head_find(&head, "connection"), "keep-alive,\t Upgrade"));
    CU_ASSERT(slice_text_is(http_head_find(&head, "empty"), ""));
    CU_ASSERT(slice_text_is(http_head_find(&head, "blank"), ""));
    CU_ASSERT(slice_text_is(http_head_find(&head, "X-Bytes"), "caf\xc3\xa9"));
    CU_ASSERT_PTR_NULL(http_head_find(&head, "hos").ptr);
    CU_ASSERT_PTR_NULL(http_head_find(&head, "hosts").ptr);
    CU_ASSERT_EQUAL(http_head_count(&head, "X-LIST"), 2);
    CU_ASSERT_EQUAL(http_head_count(&head, "absent"), 0);
    CU_ASSERT_EQUAL(parse_growing(request, len, &at), 0);
    CU_ASSERT_EQUAL(at, len); /* whole with its last byte and not before */
}

static void finds_tokens_in_all_lines(void)
{
    struct http_head head;
    CU_ASSERT_EQUAL_FATAL(http_head_parse(&head, request, sizeof request - 1, MAX), 0);
    CU_ASSERT(http_head_has_token(&head, "connection", "upgrade"));
    CU_ASSERT(http_head_has_token(&head, "Connection", "Keep-Alive"));
    CU_ASSERT(http_head_has_token(&head, "x-list", "A"));
    CU_ASSERT(http_head_has_token(&head, "x-list", "b"));
    CU_ASSERT(http_head_has_token(&head, "x-list", "c"));
    CU_ASSERT_FALSE(http_head_has_token(&head, "x-list", ""));
    CU_ASSERT_FALSE(http_head_has_token(&head, "x-list", "d"));
    CU_ASSERT_FALSE(http_head_has_token(&head, "connection", "keep"));
    CU_ASSERT_FALSE(http_head_has_token(&head, "empty", "a"));
    CU_ASSERT_FALSE(http_head_has_token(&head, "absent", "a"));
}

static void leaves_what_follows_alone(void)
{
    static const char two[] = "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET \x01";
    struct http_head head;
    CU_ASSERT_EQUAL(http_head_parse(&head, two, sizeof two - 1, MAX), 0);
    CU_ASSERT_EQUAL(head.bytes, sizeof two - 1 - 5);
    CU_ASSERT_EQUAL(head.query.len, 0);
    CU_ASSERT_EQUAL(head.field_count, 1);
}

#define HOST "Host: a\r\n"

/* `at`: after how many bytes the answer must be there; 0 stands for all of them. */
static const struct {
    const char *text;
    int status;
    size_t at;
} heads[] = {
    /* Good ones that look odd. */
    {"GET / HTTP/1.0\r\n\r\n", 0, 0},
    {"GET /?a=b?c HTTP/1.1\r\nHost:\r\n\r\n", 0, 0},
    {"GET //x/../%2e/{}|\\^`\"<> HTTP/1.1\r\n" HOST "\r\n", 0, 0},
    {"POST /ws HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n", 0, 0},
    {"M-SEARCH!#$%&'*+.^_`|~ / HTTP/1.1\r\n" HOST "\r\n", 0, 0},
    {"GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n", 0, 0},
    {"GET / HTTP/1.1\r\n" HOST "a:b:c\r\n!#$%&'*+-.^_`|~0: x\r\n\r\n", 0, 0},
    /* Request lines. */
    {"\r\nGET / HTTP/1.1\r\n", 400, 1},
    {" GET / HTTP/1.1\r\n", 400, 1},
    {"\x16\x03\x01\x02", 400, 1}, /* TLS */
    {"G\xc3\xa9T / HTTP/1.1\r\n", 400, 2},
    {"GET\r\n", 400, 4},
    {"GET\t/ HTTP/1.1\r\n", 400, 4},
    {"GET  / HTTP/1.1\r\n", 400, 5},
    {"GET /a b HTTP/1.1\r\n", 400, 8},
    {"GET / \r\n", 400, 7},
    {"GET /\r\n", 400, 6},
    {"GET /\n", 400, 6},
    {"GET /  HTTP/1.1\r\n", 400, 7},
    {"GET * HTTP/1.1\r\n", 400, 5},
    {"GET http://a/ HTTP/1.1\r\n", 400, 5},
    {"CONNECT a:80 HTTP/1.1\r\n", 400, 9},
    {"GET /#x HTTP/1.1\r\n", 400, 6},
    {"GET /\x01 HTTP/1.1\r\n", 400, 6},
    {"GET /\x7f HTTP/1.1\r\n", 400, 6},
    {"GET /\xc3\xa9 HTTP/1.1\r\n", 400, 6},
    {"GET / http/1.1\r\n", 400, 7},
    {"GET / HTTQ/1.1\r\n", 400, 10},
    {"GET / HTTP/x.1\r\n", 400, 12},
    {"GET / HTTP/11\r\n", 400, 13},
    {"GET / HTTP/1.x\r\n", 400, 14},
    {"GET / HTTP/1.11\r\n", 400, 15},
    {"GET / HTTP/1.1 \r\n", 400, 15},
    {"GET / HTTP/1.1\n", 400, 15},
    {"GET / HTTP/1.1\rX", 400, 16},
    {"GET / HTTP/1.2\r\n", 505, 14},
    {"GET / HTTP/2.0\r\n", 505, 14},
    {"GET / HTTP/0.9\r\n", 505, 14},
    /* Fields. */
    {"GET / HTTP/1.1\r\n Host: a\r\n", 400, 17},
    {"GET / HTTP/1.1\r\nHost : a\r\n", 400, 21},
    {"GET / HTTP/1.1\r\n: a\r\n", 400, 17},
    {"GET / HTTP/1.1\r\nHo(st: a\r\n", 400, 19},
    {"GET / HTTP/1.1\r\nHost\r\n", 400, 21},
    {"GET / HTTP/1.1\r\nHost: a\n", 400, 24},
    {"GET / HTTP/1.1\r\nHost: a\rb\r\n", 400, 25},
    {"GET / HTTP/1.1\r\n" HOST "\n", 400, 26},
    {"GET / HTTP/1.1\r\n" HOST "\rX", 400, 27},
    {"GET / HTTP/1.1\r\n" HOST " folded\r\n", 400, 26},
    {"GET / HTTP/1.1\r\n" HOST "\tfolded\r\n", 400, 26},
    {"GET / HTTP/1.1\r\n" HOST "A: b\x01", 400, 30},
    {"GET / HTTP/1.1\r\n" HOST "A: b\x7f", 400, 30},
    /* Host. */
    {"GET / HTTP/1.1\r\n\r\n", 400, 0},
    {"GET / HTTP/1.1\r\nA: b\r\n\r\n", 400, 0},
    {"GET / HTTP/1.1\r\n" HOST "hOST: a\r\n\r\n", 400, 34},
    {"GET / HTTP/1.1\r\nHost: a,b\r\n", 400, 0},
    {"GET / HTTP/1.1\r\nHost: a b\r\n", 400, 0},
    {"GET / HTTP/1.1\r\nHost: a/b\r\n", 400, 0},
    {"GET / HTTP/1.1\r\nHost: u@a\r\n", 400, 0},
    /* Bodies. */
    {"GET / HTTP/1.1\r\n" HOST "Content-Length: 1\r\n", 400, 0},
    {"GET / HTTP/1.1\r\n" HOST "Content-Length: 0, 0\r\n", 400, 0},
    {"GET / HTTP/1.1\r\n" HOST "Content-Length:\r\n", 400, 0},
    {"GET / HTTP/1.1\r\n" HOST "Content-Length: 0\r\nContent-Length: 5\r\n", 400, 0},
    {"GET / HTTP/1.1\r\n" HOST "transfer-encoding: identity\r\n", 400, 0},
};

static void judges_every_head_at_the_right_byte(void)
{
    for (size_t i = 0; i < COUNT(heads); i++) {
        size_t len = strlen(heads[i].text), at;
        size_t expected_at = heads[i].at != 0 ? heads[i].at : len;
        int status = parse_growing(heads[i].text, len, &at);
        if (status != heads[i].status || at != expected_at)
            printf("\n    head %zu: %d after %zu bytes\n", i, status, at);
        CU_ASSERT_EQUAL(status, heads[i].status);
        CU_ASSERT_EQUAL(at, expected_at);
    }
}

static void a_nul_is_malformed_everywhere(void)
{
    for (size_t i = 0; i < sizeof request - 1; i++) {
        char copy[sizeof request];
        struct http_head head;
        memcpy(copy, request, sizeof request);
        copy[i] = '\0';
        CU_ASSERT_EQUAL(http_head_parse(&head, copy, sizeof request - 1, MAX), 400);
    }
}

/* A head of exactly `len` bytes with a target of `target_len`. */
static char *make_head(size_t target_len, size_t len)
{
    char *text = mem_alloc(len + 1);
    int n = snprintf(text, len + 1, "GET /%*s HTTP/1.1\r\nHost: a\r\nX: ", (int)target_len - 1, "");
    CU_ASSERT_FATAL(n > 0 && (size_t)n + 4 <= len);
    memset(text + 5, 'x', target_len - 1);
    memset(text + n, 'y', len - (size_t)n - 4);
    memcpy(text + len - 4, "\r\n\r\n", 5);
    return text;
}

static void bounds_the_head(void)
{
    size_t at;
    char *text = make_head(10, MAX);
    CU_ASSERT_EQUAL(parse_growing(text, MAX, &at), 0);
    CU_ASSERT_EQUAL(at, MAX);
    free(text);
    for (size_t len = MAX + 1; len < MAX + 6; len++) {
        text = make_head(10, len);
        CU_ASSERT_EQUAL(parse_growing(text, len, &at), 431);
        CU_ASSERT_EQUAL(at, MAX); /* it cannot become whole any more */
        free(text);
    }
}

static void bounds_the_target(void)
{
    size_t at;
    char *text = make_head(MAX / 2, MAX);
    CU_ASSERT_EQUAL(parse_growing(text, MAX, &at), 0);
    free(text);
    text = make_head(MAX / 2 + 1, MAX);
    CU_ASSERT_EQUAL(parse_growing(text, MAX, &at), 414);
    CU_ASSERT_EQUAL(at, 4 + MAX / 2 + 1);
    free(text);
    text = make_head(MAX * 2, MAX * 3);
    CU_ASSERT_EQUAL(parse_growing(text, MAX * 3, &at), 414);
    free(text);
}

static void bounds_the_method(void)
{
    char text[MAX + 1];
    size_t at;
    memset(text, 'A', sizeof text);
    CU_ASSERT_EQUAL(parse_growing(text, sizeof text, &at), 431);
    CU_ASSERT_EQUAL(at, MAX);
}

static void bounds_the_number_of_fields(void)
{
    struct buf b = {0};
    struct http_head head;
    size_t at;
    buf_append_str(&b, "GET / HTTP/1.1\r\nHost: a\r\n");
    for (int i = 1; i < HTTP_HEAD_FIELDS_MAX; i++)
        buf_append_str(&b, "a:\r\n");
    buf_append_str(&b, "\r\n");
    CU_ASSERT_EQUAL(parse_growing(b.data, b.len, &at), 0);
    CU_ASSERT_EQUAL(http_head_parse(&head, b.data, b.len, MAX), 0);
    CU_ASSERT_EQUAL(head.field_count, HTTP_HEAD_FIELDS_MAX);
    b.len -= 2;
    buf_append_str(&b, "a:\r\n\r\n");
    CU_ASSERT_EQUAL(parse_growing(b.data, b.len, &at), 431);
    CU_ASSERT_EQUAL(at, b.len - 5); /* with the first byte of one too many */
    buf_fini(&b);
}

static const struct {
    const char *query;
    const char *name;
    int found;
    const char *value;
} queries[] = {
    {"channels=a,b", "channels", 1, "a,b"},
    {"x=1&channels=a&token=t", "channels", 1, "a"},
    {"x=1&token=t", "channels", 0, ""},
    {"", "channels", 0, ""},
    {"&&channels=a", "channels", 1, "a"},
    {"channels=a&channels=b", "channels", 1, "a"},
    {"channels", "channels", 1, ""},
    {"channels=", "channels", 1, ""},
    {"channels&x", "x", 1, ""},
    {"xchannels=1&channelsx=2", "channels", 0, ""},
    {"Channels=1", "channels", 0, ""},
    {"channels=a=b", "channels", 1, "a=b"},
    {"channels=quote%3AAAPL%2cquote%3aMSFT", "channels", 1, "quote:AAPL,quote:MSFT"},
    {"channels=a+b%20c", "channels", 1, "a+b c"},
    {"channels=%26%3D%25", "channels", 1, "&=%"},
    {"channels=%ff%01", "channels", 1, "\xff\x01"},
    {"channels=%", "channels", -1, ""},
    {"channels=%4", "channels", -1, ""},
    {"channels=%4&x=1", "channels", -1, ""},
    {"channels=%4g", "channels", -1, ""},
    {"channels=%g4", "channels", -1, ""},
    {"channels=%%41", "channels", -1, ""},
    {"channels=a%00b", "channels", -1, ""},
    {"x=%&channels=a", "channels", 1, "a"}, /* not ours to judge */
};

static void decodes_queries(void)
{
    struct buf out = {0};
    for (size_t i = 0; i < COUNT(queries); i++) {
        size_t len = strlen(queries[i].query);
        char *copy = mem_dup(queries[i].query, len);
        buf_append_str(&out, "left over");
        int found = http_query_get(slice_of(copy, len), queries[i].name, &out);
        CU_ASSERT_EQUAL(found, queries[i].found);
        if (found >= 0) {
            CU_ASSERT_EQUAL(out.len, strlen(queries[i].value));
            CU_ASSERT(slice_is(buf_slice(&out), queries[i].value));
        }
        free(copy);
    }
    /* The digits behind the query's end are not its own. */
    CU_ASSERT_EQUAL(http_query_get(slice_of("a=%41", 4), "a", &out), -1);
    CU_ASSERT_EQUAL(http_query_get(slice_of("a=%41", 3), "a", &out), -1);
    buf_fini(&out);
}

static void names_are_compared_without_case(void)
{
    CU_ASSERT(http_name_is(slice_str("Sec-WebSocket-KEY"), "sec-websocket-key"));
    CU_ASSERT_FALSE(http_name_is(slice_str("Host"), "hos"));
    CU_ASSERT_FALSE(http_name_is(slice_str("a@b"), "a`b")); /* only letters have a case */
    CU_ASSERT_FALSE(http_name_is(slice_str("[x]"), "{x}"));
}

static void knows_reasons(void)
{
    static const int sent[] = {101, 200, 400, 401, 403, 404, 405,
                               408, 414, 426, 429, 431, 503, 505};
    CU_ASSERT_STRING_EQUAL(http_reason(426), "Upgrade Required");
    CU_ASSERT_STRING_EQUAL(http_reason(431), "Request Header Fields Too Large");
    for (size_t i = 0; i < COUNT(sent); i++)
        CU_ASSERT_STRING_NOT_EQUAL(http_reason(sent[i]), http_reason(999));
}

static const struct unit_test tests[] = {
    {"reads a request", reads_a_request},
    {"finds tokens in all lines", finds_tokens_in_all_lines},
    {"leaves what follows alone", leaves_what_follows_alone},
    {"judges every head at the right byte", judges_every_head_at_the_right_byte},
    {"a NUL is malformed everywhere", a_nul_is_malformed_everywhere},
    {"bounds the head", bounds_the_head},
    {"bounds the target", bounds_the_target},
    {"bounds the method", bounds_the_method},
    {"bounds the number of fields", bounds_the_number_of_fields},
    {"decodes queries", decodes_queries},
    {"names are compared without case", names_are_compared_without_case},
    {"knows reasons", knows_reasons},
    {NULL, NULL},
};
const struct unit_suite suite_http_head = {"http_head", tests};
