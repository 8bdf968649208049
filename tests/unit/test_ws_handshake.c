/*
 * test_ws_handshake.c - the opening handshake: the RFC's example to the byte, every refusal, and
 * every combination of permessage-deflate parameters, legal and illegal, from tables.
 */
#include "protocol/ws_handshake.h"

#include "unit.h"

#include <stdio.h>

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

#define KEY  "dGhlIHNhbXBsZSBub25jZQ==" /* RFC 6455, 1.3 */
#define LINE "GET /chat HTTP/1.1\r\nHost: server.example.com\r\n"
#define UP   "Upgrade: websocket\r\n"
#define CONN "Connection: Upgrade\r\n"
#define SKEY "Sec-WebSocket-Key: " KEY "\r\n"
#define VERS "Sec-WebSocket-Version: 13\r\n"

/* Judges a request of these lines; what hs borrows stays valid until the next call. */
static int check(struct ws_handshake *hs, const char *lines, const char **why)
{
    static char text[4096];
    struct http_head head;
    int len = snprintf(text, sizeof text, "%s\r\n", lines);
    CU_ASSERT_FATAL(len > 0 && (size_t)len < sizeof text);
    CU_ASSERT_EQUAL_FATAL(http_head_parse(&head, text, (size_t)len, sizeof text), 0);
    return ws_handshake_check(&head, hs, why);
}

/* The same for a good request and one more field. */
static int check_with(struct ws_handshake *hs, const char *name, const char *value)
{
    static char lines[4096];
    const char *why;
    snprintf(lines, sizeof lines, LINE UP CONN SKEY VERS "%s: %s\r\n", name, value);
    return check(hs, lines, &why);
}

static void answers_the_rfc_s_example(void)
{
    struct ws_handshake hs;
    struct buf out = {0};
    const char *why;
    CU_ASSERT_EQUAL(check(&hs, LINE UP CONN SKEY VERS, &why), 101);
    CU_ASSERT_STRING_EQUAL(hs.accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    CU_ASSERT_EQUAL(hs.offered, WS_SUB_NONE);
    CU_ASSERT_EQUAL(hs.bearer.len, 0);
    CU_ASSERT_FALSE(hs.deflate);
    CU_ASSERT_STRING_EQUAL(hs.extension, "");
    ws_handshake_respond(&out, &hs, NULL);
    UNIT_ASSERT_BYTES(out.data, out.len,
                      "HTTP/1.1 101 Switching Protocols\r\n"
                      "Upgrade: websocket\r\n"
                      "Connection: Upgrade\r\n"
                      "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
                      "\r\n");
    buf_fini(&out);
}

static void answers_with_protocol_and_extension(void)
{
    struct ws_handshake hs;
    struct buf out = {0};
    CU_ASSERT_EQUAL(
        check_with(&hs, "Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits"),
        101);
    buf_append_str(&out, "x");
    ws_handshake_respond(&out, &hs, "tickcast.v1+json");
    UNIT_ASSERT_BYTES(out.data, out.len,
                      "xHTTP/1.1 101 Switching Protocols\r\n"
                      "Upgrade: websocket\r\n"
                      "Connection: Upgrade\r\n"
                      "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
                      "Sec-WebSocket-Protocol: tickcast.v1+json\r\n"
                      "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; "
                      "client_no_context_takeover\r\n"
                      "\r\n");
    buf_fini(&out);
}

static void makes_accept_keys_of_any_length(void)
{
    char out[29];
    ws_handshake_accept_key(slice_str(KEY), out);
    CU_ASSERT_STRING_EQUAL(out, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    ws_handshake_accept_key(slice_of("", 0), out);
    CU_ASSERT_STRING_EQUAL(out, "Kfh9QIsMVZcl6xEPYxPHzW8SZ8w=");
}

static const struct {
    const char *lines;
    int status;
} requests[] = {
    /* Legal variations. */
    {LINE "upgrade: WebSocket\r\nconnection: UPGRADE\r\n" SKEY VERS, 101},
    {LINE UP "Connection: keep-alive, Upgrade\r\n" SKEY VERS, 101},
    {LINE UP "Connection: keep-alive\r\nConnection: upgrade\r\n" SKEY VERS, 101},
    {LINE "Upgrade: foo, websocket\r\n" CONN SKEY VERS, 101},
    {LINE UP CONN "Sec-WebSocket-Key: \t" KEY " \r\n" VERS, 101},
    {LINE UP CONN "Sec-WebSocket-Key: +/+/+/+/+/+/+/+/+/+/+w==\r\n" VERS, 101},
    {LINE UP CONN SKEY VERS "Content-Length: 0\r\n", 101},
    /* Method and HTTP version. */
    {"POST /chat HTTP/1.1\r\nHost: a\r\n" UP CONN SKEY VERS, 405},
    {"HEAD /chat HTTP/1.1\r\nHost: a\r\n" UP CONN SKEY VERS, 405},
    {"get /chat HTTP/1.1\r\nHost: a\r\n" UP CONN SKEY VERS, 405},
    {"GET /chat HTTP/1.0\r\nHost: a\r\n" UP CONN SKEY VERS, 400},
    /* Upgrade and Connection. */
    {LINE CONN SKEY VERS, 400},
    {LINE "Upgrade:\r\n" CONN SKEY VERS, 400},
    {LINE "Upgrade: h2c\r\n" CONN SKEY VERS, 400},
    {LINE "Upgrade: websockets\r\n" CONN SKEY VERS, 400},
    {LINE UP SKEY VERS, 400},
    {LINE UP "Connection: keep-alive\r\n" SKEY VERS, 400},
    {LINE UP "Connection: upgraded\r\n" SKEY VERS, 400},
    /* Version. */
    {LINE UP CONN SKEY, 426},
    {LINE UP CONN SKEY "Sec-WebSocket-Version: 8\r\n", 426},
    {LINE UP CONN SKEY "Sec-WebSocket-Version: 013\r\n", 426},
    {LINE UP CONN SKEY "Sec-WebSocket-Version: 13, 8\r\n", 426},
    {LINE UP CONN SKEY "Sec-WebSocket-Version:\r\n", 426},
    {LINE UP CONN SKEY VERS "Sec-WebSocket-Version: 8\r\n", 400},
    {LINE UP CONN SKEY VERS VERS, 400},
    /* Key. */
    {LINE UP CONN VERS, 400},
    {LINE UP CONN VERS SKEY SKEY, 400},
    {LINE UP CONN VERS "Sec-WebSocket-Key:\r\n", 400},
    {LINE UP CONN VERS "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=\r\n", 400},
    {LINE UP CONN VERS "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ\r\n", 400},
    {LINE UP CONN VERS "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQAA\r\n", 400},
    {LINE UP CONN VERS "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZ===\r\n", 400},
    {LINE UP CONN VERS "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==A\r\n", 400},
    {LINE UP CONN VERS "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j-Q==\r\n", 400},
    {LINE UP CONN VERS "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j Q==\r\n", 400},
    {LINE UP CONN VERS "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==, x\r\n", 400},
};

static void judges_requests(void)
{
    for (size_t i = 0; i < COUNT(requests); i++) {
        struct ws_handshake hs;
        const char *why = NULL;
        int status = check(&hs, requests[i].lines, &why);
        if (status != requests[i].status)
            printf("\n    request %zu: %d\n", i, status);
        CU_ASSERT_EQUAL(status, requests[i].status);
        CU_ASSERT_PTR_NOT_NULL_FATAL(why);
        CU_ASSERT_EQUAL(why[0] == '\0', status == 101);
    }
}

static const struct {
    const char *value;
    enum ws_subprotocol offered;
    const char *bearer;
} subprotocols[] = {
    {"tickcast.v1+json", WS_SUB_JSON, ""},
    {"tickcast.v1+raw", WS_SUB_RAW, ""},
    {"tickcast.v1+raw, tickcast.v1+json", WS_SUB_RAW, ""},
    {"chat,tickcast.v1+json,tickcast.v1+raw", WS_SUB_JSON, ""},
    {"chat, superchat", WS_SUB_NONE, ""},
    {"", WS_SUB_NONE, ""},
    {", ,", WS_SUB_NONE, ""},
    {"TICKCAST.V1+JSON", WS_SUB_NONE, ""}, /* subprotocols have a case */
    {"tickcast.v1", WS_SUB_NONE, ""},
    {"bearer.eyJh.e30.c2ln", WS_SUB_NONE, "eyJh.e30.c2ln"},
    {"bearer.abc, tickcast.v1+json", WS_SUB_JSON, "abc"},
    {"tickcast.v1+raw, bearer.abc, bearer.def", WS_SUB_RAW, "abc"},
    {"bearer., bearer.x", WS_SUB_NONE, "x"},
    {"bearer, Bearer.x", WS_SUB_NONE, ""},
};

static void chooses_subprotocols(void)
{
    for (size_t i = 0; i < COUNT(subprotocols); i++) {
        struct ws_handshake hs;
        CU_ASSERT_EQUAL(check_with(&hs, "Sec-WebSocket-Protocol", subprotocols[i].value), 101);
        CU_ASSERT_EQUAL(hs.offered, subprotocols[i].offered);
        CU_ASSERT_EQUAL_FATAL(hs.bearer.len, strlen(subprotocols[i].bearer));
        if (hs.bearer.len != 0)
            CU_ASSERT(slice_is(hs.bearer, subprotocols[i].bearer));
    }
}

static void reads_lists_over_several_lines(void)
{
    struct ws_handshake hs;
    const char *why;
    CU_ASSERT_EQUAL(check(&hs,
                          LINE UP CONN SKEY VERS "Sec-WebSocket-Protocol: chat\r\n"
                                                 "Sec-WebSocket-Extensions: x-webkit\r\n"
                                                 "Sec-WebSocket-Protocol: bearer.t, y\r\n"
                                                 "sec-websocket-protocol: tickcast.v1+raw\r\n"
                                                 "sec-websocket-extensions: permessage-deflate\r\n",
                          &why),
                    101);
    CU_ASSERT_EQUAL(hs.offered, WS_SUB_RAW);
    CU_ASSERT_EQUAL(hs.bearer.len, 1);
    CU_ASSERT(hs.deflate);
    /* A broken second line refuses what the first would have agreed. */
    CU_ASSERT_EQUAL(check(&hs,
                          LINE UP CONN SKEY VERS "Sec-WebSocket-Extensions: permessage-deflate\r\n"
                                                 "Sec-WebSocket-Extensions: ;\r\n",
                          &why),
                    400);
}

/* --- permessage-deflate -------------------------------------------------------------------- */

#define AGREED "permessage-deflate; server_no_context_takeover; client_no_context_takeover"

/* Asserts what comes of an extension header: 0 declined, 9..15 agreed with that window. */
static void check_extension(const char *value, unsigned bits, bool echoed)
{
    struct ws_handshake hs;
    char expected[128] = "";
    if (bits != 0 && echoed)
        snprintf(expected, sizeof expected, AGREED "; server_max_window_bits=%u", bits);
    else if (bits != 0)
        snprintf(expected, sizeof expected, AGREED);
    int status = check_with(&hs, "Sec-WebSocket-Extensions", value);
    if (status != 101 || hs.deflate != (bits != 0) || strcmp(hs.extension, expected) != 0)
        printf("\n    %s: %d, \"%s\"\n", value, status, hs.extension);
    CU_ASSERT_EQUAL(status, 101);
    CU_ASSERT_EQUAL(hs.deflate, bits != 0);
    CU_ASSERT_STRING_EQUAL(hs.extension, expected);
    if (bits != 0)
        CU_ASSERT_EQUAL(hs.window_bits, bits);
}

/* What may stand for each parameter in an offer; the first is its absence. */
struct choice {
    const char *text;
    bool legal;
    unsigned bits; /* server's window, 0: not asked for */
};

static const struct choice server_takeover[] = {
    {"", true, 0},
    {"; server_no_context_takeover", true, 0},
    {"; server_no_context_takeover=1", false, 0},
    {"; server_no_context_takeover=\"true\"", false, 0},
    {"; server_no_context_takeover; server_no_context_takeover", false, 0},
};
static const struct choice client_takeover[] = {
    {"", true, 0},
    {"; client_no_context_takeover", true, 0},
    {"; client_no_context_takeover=15", false, 0},
    {"; client_no_context_takeover; client_no_context_takeover", false, 0},
};
static const struct choice server_bits[] = {
    {"", true, 0},
    {"; server_max_window_bits", false, 0},
    {"; server_max_window_bits=7", false, 0},
    {"; server_max_window_bits=8", false, 0}, /* legal, but not for zlib */
    {"; server_max_window_bits=9", true, 9},
    {"; server_max_window_bits=10", true, 10},
    {"; server_max_window_bits=11", true, 11},
    {"; server_max_window_bits=12", true, 12},
    {"; server_max_window_bits=13", true, 13},
    {"; server_max_window_bits=14", true, 14},
    {"; server_max_window_bits=15", true, 15},
    {"; server_max_window_bits=\"12\"", true, 12},
    {"; server_max_window_bits=\"\\1\\2\"", true, 12},
    {"; server_max_window_bits = 12", true, 12},
    {"; server_max_window_bits=16", false, 0},
    {"; server_max_window_bits=0", false, 0},
    {"; server_max_window_bits=09", false, 0},
    {"; server_max_window_bits=010", false, 0},
    {"; server_max_window_bits=100", false, 0},
    {"; server_max_window_bits=1", false, 0},
    {"; server_max_window_bits=+10", false, 0},
    {"; server_max_window_bits=1x", false, 0},
    {"; server_max_window_bits=12; server_max_window_bits=12", false, 0},
};
static const struct choice client_bits[] = {
    {"", true, 0},
    {"; client_max_window_bits", true, 0},
    {"; client_max_window_bits=7", false, 0},
    {"; client_max_window_bits=8", true, 0},
    {"; client_max_window_bits=9", true, 0},
    {"; client_max_window_bits=10", true, 0},
    {"; client_max_window_bits=15", true, 0},
    {"; client_max_window_bits=\"15\"", true, 0},
    {"; client_max_window_bits=16", false, 0},
    {"; client_max_window_bits=08", false, 0},
    {"; client_max_window_bits=a", false, 0},
    {"; client_max_window_bits; client_max_window_bits=10", false, 0},
};
static const struct choice others[] = {
    {"", true, 0},
    {"; x_unknown", false, 0},
    {"; Server_no_context_takeover", false, 0}, /* parameters have a case */
};

static void check_choices(const struct choice *const chosen[5])
{
    /* In both orders: a parameter's place must not matter. */
    char forth[512], back[512];
    snprintf(forth, sizeof forth, "permessage-deflate%s%s%s%s%s", chosen[0]->text, chosen[1]->text,
             chosen[2]->text, chosen[3]->text, chosen[4]->text);
    snprintf(back, sizeof back, "permessage-deflate%s%s%s%s%s", chosen[4]->text, chosen[3]->text,
             chosen[2]->text, chosen[1]->text, chosen[0]->text);
    bool legal = true;
    for (size_t i = 0; i < 5; i++)
        legal &= chosen[i]->legal;
    unsigned bits = chosen[2]->bits;
    unsigned expected = legal ? (bits != 0 ? bits : 15) : 0;
    check_extension(forth, expected, bits != 0);
    check_extension(back, expected, bits != 0);
}

static void tries_every_combination(void)
{
    for (size_t a = 0; a < COUNT(server_takeover); a++) {
        for (size_t b = 0; b < COUNT(client_takeover) * COUNT(others); b++) {
            for (size_t c = 0; c < COUNT(server_bits) * COUNT(client_bits); c++)
                check_choices((const struct choice *const[5]){
                    &server_takeover[a], &client_takeover[b / COUNT(others)],
                    &server_bits[c / COUNT(client_bits)], &client_bits[c % COUNT(client_bits)],
                    &others[b % COUNT(others)]});
        }
    }
}

static const struct {
    const char *value;
    unsigned bits;
    bool echoed;
} lists[] = {
    /* Unknown ones are declined silently. */
    {"x-webkit-deflate-frame", 0, false},
    {"foo; bar=\"b\\az\"; baz=1, quux", 0, false},
    {"Permessage-Deflate", 0, false},
    {"permessage-deflates", 0, false},
    {"foo, permessage-deflate", 15, false},
    {"permessage-deflate; server_max_window_bits=10, foo; a=b", 10, true},
    /* The first offer that can be honoured wins. */
    {"permessage-deflate; server_max_window_bits=8, permessage-deflate", 15, false},
    {"permessage-deflate; x, permessage-deflate; server_max_window_bits=11", 11, true},
    {"permessage-deflate; server_max_window_bits=9, permessage-deflate", 9, true},
    {"permessage-deflate, permessage-deflate; server_max_window_bits=9", 15, false},
    {"permessage-deflate; x, permessage-deflate; y", 0, false},
    /* White space and empty elements. */
    {"permessage-deflate;server_max_window_bits=10", 10, true},
    {"permessage-deflate \t;\t server_max_window_bits\t=\t10 \t,\tfoo", 10, true},
    {",, permessage-deflate ,,", 15, false},
    {",foo,\t,permessage-deflate,", 15, false},
};

static void chooses_among_offers(void)
{
    for (size_t i = 0; i < COUNT(lists); i++)
        check_extension(lists[i].value, lists[i].bits, lists[i].echoed);
}

static const char *const broken[] = {
    "",
    ",",
    ";",
    "=",
    "\"permessage-deflate\"",
    "permessage-deflate;",
    "permessage-deflate; ,foo",
    "permessage-deflate;; client_no_context_takeover",
    "permessage-deflate; =10",
    "permessage-deflate; server_max_window_bits=",
    "permessage-deflate; server_max_window_bits=, foo",
    "permessage-deflate; server_max_window_bits=\"\"",
    "permessage-deflate; server_max_window_bits=\"10",
    "permessage-deflate; server_max_window_bits=\"10\\",
    "permessage-deflate; server_max_window_bits=\"10\\\"",
    "permessage-deflate; server_max_window_bits=\"1 0\"",
    "permessage-deflate; server_max_window_bits=\"10\"x",
    "permessage-deflate; server_max_window_bits=10\"",
    "permessage-deflate; server_max_window_bits==10",
    "permessage-deflate; server_max_window_bits 10",
    "permessage-deflate client_no_context_takeover",
    "permessage-deflate foo",
    "permessage-deflate/1",
    "permessage-deflate; a/b",
    "permessage-deflate; a=b/c",
    "permessage-deflate, foo bar",
    "permessage-deflate, (foo)",
    "permessage-deflate; a={}",
    "permessage-deflate; a=\xc3\xa9",
    "permessage-deflate; a=\"\xc3\xa9\"",
    "foo; a=\"b\"c",
    "foo=bar",
};

static void refuses_broken_syntax(void)
{
    for (size_t i = 0; i < COUNT(broken); i++) {
        struct ws_handshake hs;
        int status = check_with(&hs, "Sec-WebSocket-Extensions", broken[i]);
        if (status != 400)
            printf("\n    %s: %d\n", broken[i], status);
        CU_ASSERT_EQUAL(status, 400);
    }
}

static const struct unit_test tests[] = {
    {"answers the RFC's example", answers_the_rfc_s_example},
    {"answers with protocol and extension", answers_with_protocol_and_extension},
    {"makes accept keys of any length", makes_accept_keys_of_any_length},
    {"judges requests", judges_requests},
    {"chooses subprotocols", chooses_subprotocols},
    {"reads lists over several lines", reads_lists_over_several_lines},
    {"tries every combination of deflate parameters", tries_every_combination},
    {"chooses among offers", chooses_among_offers},
    {"refuses broken syntax", refuses_broken_syntax},
    {NULL, NULL},
};
const struct unit_suite suite_ws_handshake = {"ws_handshake", tests};
