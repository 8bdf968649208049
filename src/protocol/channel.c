/*
 * channel.c - the grammar of channel names.
 *
 * Pure. The alphabet leaves out what means something elsewhere: the comma separates names in a
 * URL, quotes and backslash would need escaping in JSON, and braces, stars and brackets are
 * Redis's hash tags and patterns. So a valid name goes into any of them as it stands.
 */
#include "protocol/channel.h"

#define CHANNEL_REFUSED ",\"\\{}*?[]"

static bool is_channel_byte(char c)
{
    return c > ' ' && c < 0x7f && strchr(CHANNEL_REFUSED, c) == NULL;
}

bool channel_is_valid(struct slice name)
{
    if (name.len == 0 || name.len > CHANNEL_BYTES_MAX)
        return false;
    for (size_t i = 0; i < name.len; i++) {
        if (!is_channel_byte(name.ptr[i]))
            return false;
    }
    const char *colon = memchr(name.ptr, ':', name.len);
    return colon != NULL && colon != name.ptr && colon != name.ptr + name.len - 1;
}

struct slice channel_namespace(struct slice name)
{
    const char *colon = memchr(name.ptr, ':', name.len);
    return slice_of(name.ptr, colon != NULL ? (size_t)(colon - name.ptr) : name.len);
}
