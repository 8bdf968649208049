/*
 * config_file.c - reads a configuration file and cuts it into sections and settings.
 *
 * Called on the main thread at start and on reload. Knows nothing of options: which sections and
 * keys there are, and what a value may be, is for the handler to say. The first fault ends it.
 */
#include "protocol/config_file.h"

#include "base/utf8.h"
#include "protocol/option_table.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define READ_BYTES 16384 /* at a time; most files are smaller */
#define UTF8_BOM   "\xef\xbb\xbf"

bool config_file_read(const char *path, struct buf *out, struct buf *error)
{
    FILE *f = fopen(path, "re");
    if (f == NULL) {
        buf_printf(error, "%s: cannot be opened: %s", path, strerror(errno));
        return false;
    }
    size_t got;
    do {
        got = fread(buf_reserve(out, READ_BYTES), 1, READ_BYTES, f);
        out->len += got;
    } while (got != 0 && out->len <= CONFIG_FILE_BYTES_MAX);
    bool failed = ferror(f) != 0;
    int why = errno;
    fclose(f);
    if (failed)
        buf_printf(error, "%s: cannot be read: %s", path, strerror(why));
    else if (out->len > CONFIG_FILE_BYTES_MAX)
        buf_printf(error, "%s: is larger than %d bytes", path, CONFIG_FILE_BYTES_MAX);
    else
        return true;
    return false;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

struct slice config_file_trim(struct slice s)
{
    return slice_trim(s, " \t\r");
}

static size_t find(struct slice s, char c)
{
    const char *at = s.len != 0 ? memchr(s.ptr, c, s.len) : NULL;
    return at != NULL ? (size_t)(at - s.ptr) : s.len;
}

/* `[name]` or `[name label]`, trimmed, the brackets included in line. */
static bool cut_section(struct slice line, struct slice *name, struct slice *label)
{
    if (line.len < 2 || line.ptr[line.len - 1] != ']')
        return false;
    struct slice inner = config_file_trim(slice_of(line.ptr + 1, line.len - 2));
    size_t end = 0;
    while (end < inner.len && !is_blank(inner.ptr[end]))
        end++;
    *name = slice_of(inner.ptr, end);
    *label = config_file_trim(slice_of(inner.ptr + end, inner.len - end));
    return name->len != 0;
}

static bool cut_setting(struct slice line, struct slice *key, struct slice *value)
{
    size_t equals = find(line, '=');
    if (equals == line.len)
        return false;
    *key = config_file_trim(slice_of(line.ptr, equals));
    *value = config_file_trim(slice_of(line.ptr + equals + 1, line.len - equals - 1));
    return key->len != 0;
}

/* Enough to recognise a line by; what follows, with or without a blank, may be a password. */
static struct slice first_word(struct slice line)
{
    line = config_file_trim(line);
    size_t end = 0;
    while (end < line.len && !is_blank(line.ptr[end])) {
        char c = line.ptr[end++];
        if (c == '=' || c == ':')
            break;
    }
    return slice_of(line.ptr, end);
}

/* What keeps a line from being of the grammar, or NULL. */
static const char *parse_line(struct slice line, unsigned number,
                              const struct config_file_handler *handler, bool *refused)
{
    struct slice first = {0};
    struct slice second = {0};
    if (find(line, '\0') != line.len)
        return "holds a NUL byte";
    if (!utf8_is_valid(line.ptr, line.len))
        return "is not UTF-8";
    line = config_file_trim(line);
    if (line.len == 0 || line.ptr[0] == '#' || line.ptr[0] == ';')
        return NULL;
    if (line.ptr[0] == '[') {
        if (!cut_section(line, &first, &second))
            return "is not [section] or [namespace NAME]";
        *refused = !handler->on_section(handler->arg, first, second, number);
        return NULL;
    }
    if (!cut_setting(line, &first, &second))
        return "is not key = value, [section] or a comment";
    *refused = !handler->on_setting(handler->arg, first, second, number);
    return NULL;
}

bool config_file_parse(const char *path, struct slice text,
                       const struct config_file_handler *handler, struct buf *error)
{
    size_t bom = strlen(UTF8_BOM);
    if (text.len >= bom && memcmp(text.ptr, UTF8_BOM, bom) == 0)
        text = slice_of(text.ptr + bom, text.len - bom);
    for (unsigned number = 1; text.len != 0; number++) {
        size_t end = find(text, '\n');
        struct slice line = slice_of(text.ptr, end);
        bool refused = false;
        const char *wrong = parse_line(line, number, handler, &refused);
        if (wrong != NULL) {
            buf_printf(error, "%s:%u: \"", path, number);
            option_append_shown(error, first_word(line));
            buf_printf(error, "\" %s", wrong);
        }
        if (wrong != NULL || refused)
            return false;
        size_t used = end < text.len ? end + 1 : end;
        text = slice_of(text.ptr + used, text.len - used);
    }
    return true;
}
