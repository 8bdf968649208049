/*
 * test_ctl_text.c - what tickcastctl reads from a server: URLs, the answer to an upgrade, and
 * parts of JSON texts.
 */
#include "ctl/json_scan.h"
#include "ctl/ws_client.h"
#include "ctl/ws_upgrade.h"
#include "protocol/ws_handshake.h"
#include "unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- URLs ----------------------------------------------------------------------------------- */

static const struct {
    const char *url;
    const char *host; /* NULL: refused */
    const char *port;
    const char *target;
} url_rows[] = {
    {"ws://127.0.0.1:8080", "127.0.0.1", "8080", "/ws"},
    {"ws://127.0.0.1:8080/", "127.0.0.1", "8080", "/ws"},
    {"ws://h", "h", "80", "/ws"},
    {"ws://h?token=a", "h", "80", "/ws?token=a"},
    {"ws://h/?token=a", "h", "80", "/ws?token=a"},
    {"ws://h:1/x/y?a=b", "h", "1", "/x/y?a=b"},
    {"ws://[::1]:65535/ws", "::1", "65535", "/ws"},
    {"ws://[::1]", "::1", "80", "/ws"},
    {"wss://h", NULL, NULL, NULL},
    {"http://h", NULL, NULL, NULL},
    {"ws://", NULL, NULL, NULL},
    {"ws:///ws", NULL, NULL, NULL},
    {"ws://:80", NULL, NULL, NULL},
    {"ws://h:", NULL, NULL, NULL},
    {"ws://h:0", NULL, NULL, NULL},
    {"ws://h:65536", NULL, NULL, NULL},
    {"ws://h:100000", NULL, NULL, NULL},
    {"ws://h:8x", NULL, NULL, NULL},
    {"ws://[::1", NULL, NULL, NULL},
    {"ws://[]:1", NULL, NULL, NULL},
    {"ws://[::1]x", NULL, NULL, NULL},
    {"ws://u:p@h", NULL, NULL, NULL},
    {"ws://h/#a", NULL, NULL, NULL},
    {"ws://h/ws HTTP/1.1\r\nX: y", NULL, NULL, NULL},
};

static void test_urls(void)
{
    for (size_t i = 0; i < sizeof url_rows / sizeof url_rows[0]; i++) {
        struct ws_client_url url;
        const char *why = NULL;
        bool ok = ws_client_url_parse(url_rows[i].url, &url, &why);
        CU_ASSERT_EQUAL(ok, url_rows[i].host != NULL);
        if (ok && url_rows[i].host != NULL) {
            CU_ASSERT_STRING_EQUAL(url.host, url_rows[i].host);
            CU_ASSERT_STRING_EQUAL(url.port, url_rows[i].port);
            CU_ASSERT(slice_is(buf_slice(&url.target), url_rows[i].target));
        } else {
            CU_ASSERT(why != NULL);
        }
        buf_fini(&url.target);
    }
}

/* --- the upgrade ---------------------------------------------------------------------------- */

static void test_the_request(void)
{
    struct ws_upgrade up = {.subprotocol = "p", .deflate = true};
    struct rng rng;
    struct buf out = {0};
    rng_init_seed(&rng, 1);
    ws_upgrade_request(&up, &rng, slice_str("h:1"), slice_str("/ws?a=b"), &out);
    struct http_head head;
    struct ws_handshake shake;
    const char *why = NULL;
    CU_ASSERT_EQUAL_FATAL(http_head_parse(&head, out.data, out.len, 16384), 0);
    CU_ASSERT_EQUAL(head.bytes, out.len);
    CU_ASSERT_EQUAL(ws_handshake_check(&head, &shake, &why), 101);
    CU_ASSERT(shake.deflate);
    CU_ASSERT(slice_is(http_head_find(&head, "Host"), "h:1"));
    CU_ASSERT(slice_is(head.query, "a=b"));
    buf_fini(&out);
}

#define OK_HEAD "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"

static const struct {
    const char *head; /* up to the accept key, which follows with the rest when `rest` is set */
    const char *rest;
    bool deflate; /* asked for */
    enum ws_upgrade_result want;
} answer_rows[] = {
    {OK_HEAD, "\r\nSec-WebSocket-Protocol: p\r\n\r\n", false, WS_UPGRADE_DONE},
    {OK_HEAD, "\r\nsec-websocket-protocol:p\r\n\r\n", true, WS_UPGRADE_DONE},
    {"HTTP/1.1 101 x\r\nupgrade: WebSocket\r\nconnection: keep-alive, upgrade\r\n",
     "\r\nSec-WebSocket-Protocol: p\r\n\r\n", false, WS_UPGRADE_DONE},
    {OK_HEAD, "\r\n\r\n", false, WS_UPGRADE_BAD}, /* our subprotocol is missing */
    {OK_HEAD, "\r\nSec-WebSocket-Protocol: q\r\n\r\n", false, WS_UPGRADE_BAD},
    {OK_HEAD, "x\r\nSec-WebSocket-Protocol: p\r\n\r\n", false, WS_UPGRADE_BAD}, /* wrong key */
    {OK_HEAD "Sec-WebSocket-Protocol: p\r\n\r\n", NULL, false, WS_UPGRADE_BAD}, /* no key */
    {"HTTP/1.1 101 x\r\nUpgrade: websocket\r\n", "\r\nSec-WebSocket-Protocol: p\r\n\r\n", false,
     WS_UPGRADE_BAD},
    {"HTTP/1.1 101 x\r\nConnection: Upgrade\r\n", "\r\nSec-WebSocket-Protocol: p\r\n\r\n", false,
     WS_UPGRADE_BAD},
    {OK_HEAD "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n",
     "\r\nSec-WebSocket-Protocol: p\r\n\r\n", false, WS_UPGRADE_BAD}, /* not asked for */
    {OK_HEAD "Sec-WebSocket-Extensions: permessage-deflate\r\n",
     "\r\nSec-WebSocket-Protocol: p\r\n\r\n", true, WS_UPGRADE_BAD}, /* keeps its window */
    {OK_HEAD "Sec-WebSocket-Extensions: x-other\r\n", "\r\nSec-WebSocket-Protocol: p\r\n\r\n", true,
     WS_UPGRADE_BAD},
    {"HTTP/1.1 503 Service Unavailable\r\n\r\n", NULL, false, WS_UPGRADE_REFUSED},
    {"HTTP/1.0 101 x\r\n\r\n", NULL, false, WS_UPGRADE_BAD},
    {"HTTP/1.1 10\r\n\r\n", NULL, false, WS_UPGRADE_BAD},
    {"SSH-2.0-x\r\n\r\n", NULL, false, WS_UPGRADE_BAD},
    {"\r\n\r\n", NULL, false, WS_UPGRADE_BAD},
};

static void test_answers(void)
{
    for (size_t i = 0; i < sizeof answer_rows / sizeof answer_rows[0]; i++) {
        struct ws_upgrade up = {.subprotocol = "p", .deflate = answer_rows[i].deflate};
        strcpy(up.key, "dGhlIHNhbXBsZSBub25jZQ=="); /* RFC 6455, 1.3 */
        struct buf head = {0};
        buf_append_str(&head, answer_rows[i].head);
        if (answer_rows[i].rest != NULL) {
            buf_append_str(&head, "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
            buf_append_str(&head, answer_rows[i].rest);
        }
        CU_ASSERT_EQUAL(ws_upgrade_judge(&up, buf_slice(&head)), answer_rows[i].want);
        CU_ASSERT((answer_rows[i].want == WS_UPGRADE_DONE) == (up.error[0] == '\0'));
        buf_fini(&head);
    }
}

static void test_deflate_is_agreed(void)
{
    struct ws_upgrade up = {.deflate = true, .key = "dGhlIHNhbXBsZSBub25jZQ=="};
    static const char head[] =
        OK_HEAD "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
                "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; "
                "client_no_context_takeover; server_max_window_bits=10\r\n\r\n";
    CU_ASSERT_EQUAL(ws_upgrade_judge(&up, slice_str(head)), WS_UPGRADE_DONE);
    CU_ASSERT(up.has_deflate);
}

/* --- JSON ----------------------------------------------------------------------------------- */

static void test_members(void)
{
    static const char text[] = " { \"a\" : 1.10 ,\"b\":\"x\\\"},{\" , "
                               "\"c\":[{\"d\":\"]\"},[]],\"e\":{\"a\":2},\"f\":null } ";
    struct slice json = slice_str(text);
    CU_ASSERT(slice_is(json_member(json, "a"), "1.10"));
    CU_ASSERT(slice_is(json_member(json, "b"), "\"x\\\"},{\""));
    CU_ASSERT(slice_is(json_member(json, "c"), "[{\"d\":\"]\"},[]]"));
    CU_ASSERT(slice_is(json_member(json, "e"), "{\"a\":2}"));
    CU_ASSERT(slice_is(json_member(json, "f"), "null"));
    CU_ASSERT(json_member(json, "d").ptr == NULL);
    CU_ASSERT(json_member(slice_str("{}"), "a").ptr == NULL);
    CU_ASSERT(json_member(slice_str("[\"a\"]"), "a").ptr == NULL);
    CU_ASSERT(json_member(slice_str("5"), "a").ptr == NULL);
    CU_ASSERT(json_is_string(slice_str("\"ab\""), "ab"));
    CU_ASSERT(!json_is_string(slice_str("ab"), "ab"));
}

static void test_elements(void)
{
    static const char *const want[] = {"1", "\"a,b\"", "{\"x\":[1,2]}", "true"};
    struct json_walk walk;
    struct slice value;
    CU_ASSERT_FATAL(json_walk_start(&walk, slice_str("[ 1,\"a,b\" ,{\"x\":[1,2]} , true]")));
    for (size_t i = 0; i < 4; i++) {
        CU_ASSERT_FATAL(json_walk_next(&walk, NULL, &value));
        CU_ASSERT(slice_is(value, want[i]));
    }
    CU_ASSERT(!json_walk_next(&walk, NULL, &value));
    CU_ASSERT(json_walk_start(&walk, slice_str("[ ]")) && !json_walk_next(&walk, NULL, &value));
    CU_ASSERT(!json_walk_start(&walk, slice_str("")));
}

/* A text that is cut anywhere, hence no JSON, ends the walk inside its bytes. */
static void test_cut_json_stays_inside(void)
{
    static const char text[] = "{\"a\":[1,{\"b\":\"\\\"\"}],\"c\" : -1.5e3,\"d\":{}}";
    for (size_t len = 0; len < sizeof text; len++) {
        char *exact = malloc(len + 1);
        memcpy(exact + 1, text, len); /* ends where the memory ends */
        struct json_walk walk;
        struct slice key, value;
        int steps = 0;
        if (json_walk_start(&walk, slice_of(exact + 1, len))) {
            while (steps < 10 && json_walk_next(&walk, &key, &value)) {
                CU_ASSERT(value.ptr + value.len <= exact + 1 + len);
                steps++;
            }
        }
        CU_ASSERT(steps < 10);
        free(exact);
    }
}

static const struct unit_test tests[] = {
    {"URLs", test_urls},
    {"the request", test_the_request},
    {"answers", test_answers},
    {"deflate is agreed", test_deflate_is_agreed},
    {"members", test_members},
    {"elements", test_elements},
    {"cut JSON stays inside", test_cut_json_stays_inside},
    {NULL, NULL},
};
const struct unit_suite suite_ctl_text = {"ctl_text", tests};
