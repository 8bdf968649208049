/*
 * fuzz_inflate.c - inflating what a peer sends is bounded; what we deflate inflates again.
 */
#include "protocol/ws_deflate.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define MAX_BYTES 5000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void inflate_anything(struct ws_inflater *i, const uint8_t *data, size_t size)
{
    struct buf out = {0}, again = {0};
    enum ws_inflate_result result = ws_inflater_run(i, data, size, MAX_BYTES, &out);
    require(out.len <= MAX_BYTES && out.cap <= 2 * MAX_BYTES);
    require(ws_inflater_run(i, data, size, MAX_BYTES, &again) == result);
    require(slice_equal(buf_slice(&out), buf_slice(&again)));
    if (result == WS_INFLATE_OK && out.len > 0) /* one byte less is one too few */
        require(ws_inflater_run(i, data, size, out.len - 1, &again) == WS_INFLATE_TOO_LARGE);
    buf_fini(&out);
    buf_fini(&again);
}

static void round_trip(struct ws_deflater *d, struct ws_inflater *i, const uint8_t *data,
                       size_t size)
{
    struct buf packed = {0}, plain = {0};
    if (ws_deflater_run(d, data, size, &packed)) {
        require(packed.len < size);
        require(ws_inflater_run(i, packed.data, packed.len, size, &plain) == WS_INFLATE_OK);
        require(plain.len == size && memcmp(plain.data, data, size) == 0);
    } else {
        require(packed.len == 0);
    }
    buf_fini(&packed);
    buf_fini(&plain);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct ws_inflater *inflater;
    static struct ws_deflater *deflaters[2];
    if (inflater == NULL) {
        inflater = ws_inflater_new();
        deflaters[0] = ws_deflater_new(6, 15);
        deflaters[1] = ws_deflater_new(1, 9);
    }
    inflate_anything(inflater, data, size);
    round_trip(deflaters[0], inflater, data, size);
    round_trip(deflaters[1], inflater, data, size);
    return 0;
}
