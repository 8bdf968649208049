/*
 * fuzz_json_text.c - what our validator accepts, another parser must be able to parse; and any
 * text that we write as a string must be one.
 *
 * cJSON serves as the other parser. It refuses three things that the grammar allows, which are
 * left out here: escaped lone surrogates, numbers of more than 63 characters, escaped NULs.
 */
#include "protocol/json_text.h"

#include "base/mem.h"
#include "base/utf8.h"

#include <cjson/cJSON.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

static bool is_number_byte(char c)
{
    return (c >= '0' && c <= '9') || c == '-' || c == '+' || c == '.' || c == 'e' || c == 'E';
}

static bool is_left_out(struct slice text)
{
    size_t run = 0;
    for (size_t i = 0; i < text.len; i++) {
        run = is_number_byte(text.ptr[i]) ? run + 1 : 0;
        if (run > 60 || (text.ptr[i] == '\\' && i + 1 < text.len && text.ptr[i + 1] == 'u'))
            return true;
    }
    return false;
}

static void check_members(struct slice text, const cJSON *tree)
{
    struct json_members m;
    struct slice key, value;
    int count = 0;
    require(json_members_init(&m, text) == (cJSON_IsObject(tree) != 0));
    while (cJSON_IsObject(tree) && json_members_next(&m, &key, &value)) {
        require(json_text_is_valid(value));
        require(json_text_is_valid(slice_of(key.ptr - 1, key.len + 2)));
        count++;
    }
    require(!cJSON_IsObject(tree) || count == cJSON_GetArraySize(tree));
}

static void compare_with_another_parser(struct slice text)
{
    if (!json_text_is_valid(text) || is_left_out(text))
        return;
    cJSON *tree = cJSON_ParseWithLength(text.ptr, text.len);
    require(tree != NULL);
    check_members(text, tree);
    cJSON_Delete(tree);
}

static void write_and_read_back(struct slice text)
{
    struct buf out = {0};
    json_append_string(&out, text);
    require(json_text_is_valid(buf_slice(&out)));
    if (memchr(text.ptr, '\0', text.len) == NULL) {
        cJSON *item = cJSON_ParseWithLength(out.data, out.len);
        require(cJSON_IsString(item));
        require(slice_equal(slice_str(item->valuestring), text));
        cJSON_Delete(item);
    }
    buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    char *copy = mem_dup(data, size);
    struct slice text = slice_of(copy, size);
    if (utf8_is_valid(copy, size)) {
        compare_with_another_parser(text);
        write_and_read_back(text);
    } else {
        json_text_is_valid(text); /* may say anything, but must stay inside */
    }
    free(copy);
    return 0;
}
