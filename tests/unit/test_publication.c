/*
 * test_publication.c - a publication's encodings, byte for byte.
 */
#include "base/map.h"
#include "protocol/publication.h"
#include "unit.h"

#include <pthread.h>
#include <string.h>

static struct publication *make(struct publication_head head, const char *payload)
{
    head.channel = slice_str("quote:AAPL");
    head.channel_hash = map_hash(head.channel);
    if (head.epoch.ptr == NULL)
        head.epoch = slice_str("c91e");
    return publication_new(&head, slice_str(payload));
}

static void assert_payload(const struct frame *f, const char *expected)
{
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    struct slice payload = frame_payload(f);
    CU_ASSERT_EQUAL(payload.len, strlen(expected));
    CU_ASSERT(slice_is(payload, expected));
}

static void test_json_forms(void)
{
    struct publication *p =
        make((struct publication_head){.seq = 815, .ts_ms = 1780000000340, .is_json = true},
             "{\"price\": 190.010}");
    assert_payload(publication_frame(p, FORM_RAW, NULL), "{\"price\": 190.010}");
    assert_payload(publication_frame(p, FORM_JSON, NULL),
                   "{\"action\":\"push\",\"items\":[{\"channel\":\"quote:AAPL\",\"seq\":815,"
                   "\"ts\":1780000000340,\"data\":{\"price\": 190.010}}]}");
    assert_payload(publication_frame(p, FORM_JSON_EPOCH, NULL),
                   "{\"action\":\"push\",\"items\":[{\"channel\":\"quote:AAPL\",\"epoch\":\"c91e\","
                   "\"seq\":815,\"ts\":1780000000340,\"data\":{\"price\": 190.010}}]}");
    assert_payload(publication_frame(p, FORM_JSON_SNAP, NULL),
                   "{\"action\":\"push\",\"items\":[{\"channel\":\"quote:AAPL\",\"epoch\":\"c91e\","
                   "\"seq\":815,\"ts\":1780000000340,\"snap\":true,"
                   "\"data\":{\"price\": 190.010}}]}");
    publication_unref(p);
}

static void test_text_travels_as_a_string(void)
{
    struct publication *p = make((struct publication_head){.seq = 1, .ts_ms = 2}, "say \"hi\"\n");
    assert_payload(publication_frame(p, FORM_JSON, NULL),
                   "{\"action\":\"push\",\"items\":[{\"channel\":\"quote:AAPL\",\"seq\":1,\"ts\":2,"
                   "\"data\":\"say \\\"hi\\\"\\n\"}]}");
    assert_payload(publication_frame(p, FORM_RAW, NULL), "say \"hi\"\n");
    publication_unref(p);
}

static void test_plain_has_no_number(void)
{
    struct publication *p = make((struct publication_head){.ts_ms = 2, .is_json = true}, "7");
    assert_payload(publication_frame(p, FORM_JSON, NULL),
                   "{\"action\":\"push\",\"items\":[{\"channel\":\"quote:AAPL\",\"plain\":true,"
                   "\"ts\":2,\"data\":7}]}");
    publication_unref(p);
}

static void test_cleared_has_no_data(void)
{
    struct publication *p =
        make((struct publication_head){.seq = 3, .ts_ms = 2, .cleared = true}, "");
    assert_payload(publication_frame(p, FORM_JSON, NULL),
                   "{\"action\":\"push\",\"items\":[{\"channel\":\"quote:AAPL\",\"seq\":3,\"ts\":2,"
                   "\"cleared\":true}]}");
    CU_ASSERT_PTR_NULL(publication_frame(p, FORM_RAW, NULL));
    publication_unref(p);
}

static void test_deflated_once(void)
{
    char payload[400];
    memset(payload, 'a', sizeof payload - 1);
    payload[sizeof payload - 1] = '\0';
    struct compressor c = {.deflater = ws_deflater_new(1, 15), .min_bytes = 200};
    struct publication *p = make((struct publication_head){.seq = 1, .ts_ms = 2}, payload);
    struct frame *first = publication_frame(p, FORM_JSON, &c);
    CU_ASSERT_PTR_EQUAL(first, publication_frame(p, FORM_JSON, &c));
    CU_ASSERT(first->len < 200);
    CU_ASSERT_EQUAL(first->bytes[0], 0xc1); /* FIN, RSV1, text */
    CU_ASSERT(first->plain_bytes > 400);

    struct ws_inflater *inflater = ws_inflater_new();
    struct buf plain = {0};
    struct slice payload_sent = frame_payload(first);
    CU_ASSERT_EQUAL(ws_inflater_run(inflater, payload_sent.ptr, payload_sent.len, 4096, &plain),
                    WS_INFLATE_OK);
    CU_ASSERT(slice_equal(buf_slice(&plain), frame_payload(publication_frame(p, FORM_JSON, NULL))));
    buf_fini(&plain);
    ws_inflater_free(inflater);
    publication_unref(p);

    p = make((struct publication_head){.seq = 1, .ts_ms = 2, .is_json = true}, "1");
    CU_ASSERT_PTR_EQUAL(publication_frame(p, FORM_JSON, &c), publication_frame(p, FORM_JSON, NULL));
    publication_unref(p);
    ws_deflater_free(c.deflater);
    buf_fini(&c.scratch);
}

static void *ask_for_frame(void *arg)
{
    return publication_frame(arg, FORM_JSON, NULL);
}

static void test_threads_agree_on_one_frame(void)
{
    for (int round = 0; round < 200; round++) {
        struct publication *p =
            make((struct publication_head){.seq = 1, .ts_ms = 2, .is_json = true}, "{}");
        pthread_t threads[4];
        void *frames[4];
        for (int i = 0; i < 4; i++)
            CU_ASSERT_EQUAL_FATAL(pthread_create(&threads[i], NULL, ask_for_frame, p), 0);
        for (int i = 0; i < 4; i++)
            pthread_join(threads[i], &frames[i]);
        for (int i = 1; i < 4; i++)
            CU_ASSERT_PTR_EQUAL(frames[i], frames[0]);
        publication_unref(p);
    }
}

static const struct unit_test tests[] = {
    {"json forms, byte for byte", test_json_forms},
    {"what is not JSON travels as a string", test_text_travels_as_a_string},
    {"a plain message on a stamped channel has no number", test_plain_has_no_number},
    {"a cleared value has no data", test_cleared_has_no_data},
    {"deflated once, and only where it pays", test_deflated_once},
    {"threads agree on one frame", test_threads_agree_on_one_frame},
    {NULL, NULL},
};
const struct unit_suite suite_publication = {"publication", tests};
