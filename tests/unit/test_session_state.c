/*
 * test_session_state.c - a session's subscriptions as text and back, and what is refused.
 */
#include "protocol/session_state.h"

#include "unit.h"

#include <stdlib.h>
#include <string.h>

static const char whole[] =
    "{\"v\":1,\"channels\":["
    "{\"channel\":\"quote:AAPL\",\"mode\":\"latest\",\"max_rate\":5,\"delta\":true,"
    "\"epoch\":\"c91e\",\"seq\":815},"
    "{\"channel\":\"chat:lobby\",\"mode\":\"all\"},"
    "{\"channel\":\"trade:NEW\",\"mode\":\"all\",\"epoch\":\"\",\"seq\":0}]}";

static void is_written_and_read_back(void)
{
    const struct session_state_channel channels[] = {
        {.channel = slice_str("quote:AAPL"),
         .mode = MODE_LATEST,
         .max_rate = 5,
         .delta = true,
         .has_position = true,
         .epoch = slice_str("c91e"),
         .seq = 815},
        {.channel = slice_str("chat:lobby"), .mode = MODE_ALL},
        {.channel = slice_str("trade:NEW"),
         .mode = MODE_ALL,
         .has_position = true,
         .epoch = slice_str("")},
    };
    struct buf text = {0};
    struct session_state state;
    session_state_begin(&text);
    for (size_t i = 0; i < 3; i++)
        session_state_add(&text, &channels[i]);
    session_state_end(&text);
    CU_ASSERT_TRUE(slice_is(buf_slice(&text), whole));
    CU_ASSERT_TRUE_FATAL(session_state_parse(buf_slice(&text), &state));
    CU_ASSERT_EQUAL_FATAL(state.count, 3);
    for (size_t i = 0; i < 3; i++) {
        const struct session_state_channel *a = &channels[i], *b = &state.channels[i];
        CU_ASSERT_TRUE(slice_equal(a->channel, b->channel));
        CU_ASSERT_EQUAL(a->mode, b->mode);
        CU_ASSERT_EQUAL(a->max_rate, b->max_rate);
        CU_ASSERT_EQUAL(a->delta, b->delta);
        CU_ASSERT_EQUAL(a->has_position, b->has_position);
        CU_ASSERT_TRUE(slice_equal(a->epoch, b->epoch));
        CU_ASSERT_EQUAL(a->seq, b->seq);
    }
    session_state_fini(&state);
    buf_fini(&text);
}

static void one_without_channels(void)
{
    struct buf text = {0};
    struct session_state state;
    session_state_begin(&text);
    session_state_end(&text);
    CU_ASSERT_TRUE(session_state_parse(buf_slice(&text), &state));
    CU_ASSERT_EQUAL(state.count, 0);
    session_state_fini(&state);
    buf_fini(&text);
}

static void later_members_are_passed_over(void)
{
    struct session_state state;
    CU_ASSERT_TRUE(session_state_parse(
        slice_str("{\"x\":[{}],\"v\":1,\"channels\":[{\"y\":{\"channel\":1},\"channel\":\"a:b\","
                  "\"mode\":\"all\"}]}"),
        &state));
    CU_ASSERT_EQUAL(state.count, 1);
    session_state_fini(&state);
}

static void what_is_not_ours_is_refused(void)
{
    static const char *const texts[] = {
        "",
        "null",
        "[]",
        "{}",
        "{\"v\":1}",
        "{\"channels\":[]}",
        "{\"v\":2,\"channels\":[]}",
        "{\"v\":\"1\",\"channels\":[]}",
        "{\"v\":1,\"channels\":{}}",
        "{\"v\":1,\"channels\":[1]}",
        "{\"v\":1,\"channels\":[{}]}",
        "{\"v\":1,\"channels\":[{\"channel\":\"a:b\"}]}",
        "{\"v\":1,\"channels\":[{\"mode\":\"all\"}]}",
        "{\"v\":1,\"channels\":[{\"channel\":\"ab\",\"mode\":\"all\"}]}",
        "{\"v\":1,\"channels\":[{\"channel\":\"a:\\u0062\",\"mode\":\"all\"}]}",
        "{\"v\":1,\"channels\":[{\"channel\":7,\"mode\":\"all\"}]}",
        "{\"v\":1,\"channels\":[{\"channel\":\"a:b\",\"mode\":\"most\"}]}",
        "{\"v\":1,\"channels\":[{\"channel\":\"a:b\",\"mode\":1}]}",
        "{\"v\":1,\"channels\":[{\"channel\":\"a:b\",\"mode\":\"all\",\"max_rate\":-1}]}",
        "{\"v\":1,\"channels\":[{\"channel\":\"a:b\",\"mode\":\"all\",\"max_rate\":1e3}]}",
        "{\"v\":1,\"channels\":[{\"channel\":\"a:b\",\"mode\":\"all\",\"max_rate\":1000001}]}",
        "{\"v\":1,\"channels\":[{\"channel\":\"a:b\",\"mode\":\"all\",\"delta\":1}]}",
        "{\"v\":1,\"channels\":[{\"channel\":\"a:b\",\"mode\":\"all\",\"seq\":1}]}",
        "{\"v\":1,\"channels\":[{\"channel\":\"a:b\",\"mode\":\"all\",\"epoch\":\"c\"}]}",
        "{\"v\":1,\"channels\":[{\"channel\":\"a:b\",\"mode\":\"all\",\"epoch\":\"c "
        "d\",\"seq\":1}]}",
        "{\"v\":1,\"channels\":[{\"channel\":\"a:b\",\"mode\":\"all\",\"epoch\":\"\",\"seq\":1}]}",
        "{\"v\":1,\"channels\":[{\"channel\":\"a:b\",\"mode\":\"all\",\"epoch\":\"c\",\"seq\":-1}]"
        "}",
        "{\"v\":1,\"channels\":[{\"channel\":\"a:b\",\"mode\":\"all\",\"seq\":9007199254740992}]}",
        "{\"v\":1,\"channels\":[{\"channel\":\"a:b\",\"mode\":\"all\",\"seq\":90071992547409920}]}",
        "{\"v\":1,\"channels\":[],\"x\":\"\xff\"}",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct session_state state;
        bool is_taken = session_state_parse(slice_str(texts[i]), &state);
        if (is_taken)
            CU_FAIL_FATAL(texts[i]);
    }
}

static void no_piece_of_it_is_taken(void)
{
    for (size_t len = 0; len < sizeof whole - 1; len++) {
        struct session_state state;
        char *copy = malloc(len + 1); /* so that reading too far is seen */
        memcpy(copy, whole, len);
        CU_ASSERT_FALSE(session_state_parse(slice_of(copy, len), &state));
        free(copy);
    }
}

static void one_that_is_too_large_is_refused(void)
{
    struct buf text = {0};
    struct session_state state;
    buf_append_str(&text, "{\"v\":1,\"channels\":[]");
    while (text.len < SESSION_STATE_BYTES_MAX)
        buf_append_str(&text, " ");
    buf_append_str(&text, "}");
    CU_ASSERT_FALSE(session_state_parse(buf_slice(&text), &state));
    buf_fini(&text);
}

static void ids(void)
{
    uint8_t id[SESSION_ID_BYTES];
    char text[SESSION_ID_TEXT];
    CU_ASSERT_TRUE(session_id_parse(slice_str("00112233445566778899aabbccddeeff"), id));
    CU_ASSERT_EQUAL(id[0], 0);
    CU_ASSERT_EQUAL(id[15], 0xff);
    session_id_text(id, text);
    CU_ASSERT_STRING_EQUAL(text, "00112233445566778899aabbccddeeff");
    static const char *const bad[] = {"",
                                      "0",
                                      "00112233445566778899aabbccddeef",
                                      "00112233445566778899aabbccddeeff0",
                                      "00112233445566778899AABBCCDDEEFF",
                                      "0011223344556677 899aabbccddeeff"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CU_ASSERT_FALSE(session_id_parse(slice_str(bad[i]), id));
}

static const struct unit_test tests[] = {
    {"is written and read back", is_written_and_read_back},
    {"one without channels", one_without_channels},
    {"later members are passed over", later_members_are_passed_over},
    {"what is not ours is refused", what_is_not_ours_is_refused},
    {"no piece of it is taken", no_piece_of_it_is_taken},
    {"one that is too large is refused", one_that_is_too_large_is_refused},
    {"ids", ids},
    {NULL, NULL},
};
const struct unit_suite suite_session_state = {"session_state", tests};
