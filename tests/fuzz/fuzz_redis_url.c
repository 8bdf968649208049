/*
 * fuzz_redis_url.c - any text as the address of a Redis.
 *
 * What is accepted has a place to connect to, and what is refused says why and leaves nothing of
 * a password behind.
 */
#include "base/mem.h"
#include "protocol/redis_url.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = mem_strndup((const char *)data, size);
    struct redis_url url;
    const char *why;
    bool good = redis_url_parse(text, &url, &why);
    if (good != (why == NULL) || good != (url.host[0] != '\0'))
        abort();
    if (good && url.is_unix ? url.host[0] != '/' || strlen(url.host) > 107
                            : good && (url.port == 0 || strchr(url.host, '/') != NULL))
        abort();
    if (!good && url.password[0] != '\0')
        abort();
    free(text);
    return 0;
}
