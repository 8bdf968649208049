/*
 * test_redis_url.c - every part of a Redis address, present, absent and wrong.
 */
#include "unit.h"

#include "protocol/redis_url.h"

#include <stdio.h>
#include <string.h>

static void test_accepts(void)
{
    static const struct {
        const char *text;
        struct redis_url url;
    } cases[] = {
        {"redis://127.0.0.1", {.host = "127.0.0.1", .port = 6379}},
        {"redis://127.0.0.1/", {.host = "127.0.0.1", .port = 6379}},
        {"redis://redis-1.example_x:7000/15",
         {.host = "redis-1.example_x", .port = 7000, .db = 15}},
        {"redis://[::1]", {.host = "::1", .port = 6379}},
        {"redis://[2001:db8::7]:65535/65535", {.host = "2001:db8::7", .port = 65535, .db = 65535}},
        {"redis://:secret@h", {.host = "h", .port = 6379, .password = "secret"}},
        {"redis://ann:a%40b%2Fc%3a@h:1/0",
         {.host = "h", .port = 1, .user = "ann", .password = "a@b/c:"}},
        {"redis://u:p:q@r@h", {.host = "h", .port = 6379, .user = "u", .password = "p:q@r"}},
        {"redis://u:%C3%A9@h", {.host = "h", .port = 6379, .user = "u", .password = "\xc3\xa9"}},
        {"unix:///run/redis.sock", {.is_unix = true, .host = "/run/redis.sock"}},
        {"unix:///run/redis.sock?db=3", {.is_unix = true, .host = "/run/redis.sock", .db = 3}},
        {"unix://u:p@/a%3Fb@c?db=0",
         {.is_unix = true, .host = "/a?b@c", .user = "u", .password = "p"}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct redis_url *want = &cases[i].url;
        struct redis_url got;
        const char *why = "";
        CU_ASSERT_TRUE(redis_url_parse(cases[i].text, &got, &why));
        CU_ASSERT_PTR_NULL(why);
        CU_ASSERT_EQUAL(got.is_unix, want->is_unix);
        CU_ASSERT_STRING_EQUAL(got.host, want->host);
        CU_ASSERT_EQUAL(got.port, want->port);
        CU_ASSERT_STRING_EQUAL(got.user, want->user);
        CU_ASSERT_STRING_EQUAL(got.password, want->password);
        CU_ASSERT_EQUAL(got.db, want->db);
    }
}

static void test_refuses(void)
{
    static const char scheme[] = "it begins with neither redis:// nor unix://";
    static const char info[] = "before @ stands user:password, or :password alone";
    static const char user[] = "the user is longer than 127 bytes or badly percent-encoded";
    static const char password[] = "the password is longer than 255 bytes or badly percent-encoded";
    static const char host[] = "the host is missing, too long or not a name or address";
    static const char port[] = "the port is not a number from 1 to 65535";
    static const char db[] = "after the host's / stands a database number from 0 to 65535";
    static const char path[] =
        "the socket's path is not absolute, longer than 107 bytes or badly percent-encoded";
    static const char query[] = "after the path's ? stands db= and a number from 0 to 65535";
    static const struct {
        const char *text;
        const char *why;
    } cases[] = {
        {"", scheme},
        {"redis:/h", scheme},
        {"REDIS://h", scheme},
        {"http://h", scheme},
        {"127.0.0.1:6379", scheme},
        {"rediss://h", "rediss:// (TLS to Redis) is not built yet"},
        {"redis://secret@h", info},
        {"redis://@h", info},
        {"redis://a%zz:p@h", user},
        {"redis://a%00:p@h", user},
        {"redis://u:p%@h", password},
        {"redis://u:p%4@h", password},
        {"redis://", host},
        {"redis:///1", host},
        {"redis://:6379", host},
        {"redis://a b", host},
        {"redis://h?db=1", host},
        {"redis://[::1", host},
        {"redis://[]:1", host},
        {"redis://[h]:1", host},
        {"redis://h:", port},
        {"redis://h:0", port},
        {"redis://h:65536", port},
        {"redis://h:6379x", port},
        {"redis://h:-1", port},
        {"redis://::1", host},
        {"redis://[::1]6379", port},
        {"redis://h/x", db},
        {"redis://h/65536", db},
        {"redis://h/100000", db},
        {"redis://h/1/", db},
        {"redis://h/-1", db},
        {"unix://", path},
        {"unix://run/redis.sock", path},
        {"unix:///a%00b", path},
        {"unix:///a?", query},
        {"unix:///a?db=", query},
        {"unix:///a?db=99999", query},
        {"unix:///a?x=1", query},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct redis_url got;
        const char *why = NULL;
        CU_ASSERT_FALSE(redis_url_parse(cases[i].text, &got, &why));
        CU_ASSERT_PTR_NOT_NULL_FATAL(why);
        CU_ASSERT_STRING_EQUAL(why, cases[i].why);
        CU_ASSERT_STRING_EQUAL(got.host, "");
        CU_ASSERT_STRING_EQUAL(got.password, "");
    }
}

/* Each field holds exactly its longest value, and no byte more. */
static void test_lengths(void)
{
    static const struct {
        const char *before;
        size_t longest;
        const char *after;
    } cases[] = {
        {"redis://", 255, ""},
        {"redis://", 127, ":p@h"},
        {"redis://u:", 255, "@h"},
        {"unix:///", 106, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (size_t extra = 0; extra < 2; extra++) {
            char text[600];
            char filler[300];
            memset(filler, 'x', sizeof filler);
            snprintf(text, sizeof text, "%s%.*s%s", cases[i].before,
                     (int)(cases[i].longest + extra), filler, cases[i].after);
            struct redis_url got;
            const char *why = NULL;
            CU_ASSERT_EQUAL(redis_url_parse(text, &got, &why), extra == 0);
        }
    }
}

static const struct unit_test tests[] = {
    {"accepts", test_accepts},
    {"refuses", test_refuses},
    {"lengths", test_lengths},
    {0},
};

const struct unit_suite suite_redis_url = {"redis_url", tests};
