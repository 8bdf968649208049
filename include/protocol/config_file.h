/*
 * config_file.h - the INI grammar of a configuration file, without any meaning.
 *
 *   # comment          ; comment          [section]          [section NAME]          key = value
 *
 * UTF-8 text of at most 1 MiB (a byte order mark is skipped), one thing a line, surrounding blanks
 * ignored. A comment is a line of its own: in a value # and ; are themselves, because addresses
 * and passwords hold them. There are no includes, quotes or continued lines.
 */
#ifndef TICKCAST_PROTOCOL_CONFIG_FILE_H
#define TICKCAST_PROTOCOL_CONFIG_FILE_H

#include "base/buf.h"
#include "base/slice.h"

#include <stdbool.h>

#define CONFIG_FILE_BYTES_MAX (1024 * 1024)

/* What is told of a file, line by line. Slices live as long as the call. False from a handler,
 * which has said why in error, ends the reading. */
struct config_file_handler {
    bool (*on_section)(void *arg, struct slice name, struct slice label, unsigned line);
    bool (*on_setting)(void *arg, struct slice key, struct slice value, unsigned line);
    void *arg;
};

/* Reads a file whole. False, with "path: why" in error, when it cannot be read or is too large. */
bool config_file_read(const char *path, struct buf *out, struct buf *error);

/* Walks through the text of a file. False, with "path:line: why" in error, at the first line that
 * is not of the grammar, or when a handler refused. */
bool config_file_parse(const char *path, struct slice text,
                       const struct config_file_handler *handler, struct buf *error);

/* Without the blanks (space, tab, carriage return) at both ends. */
struct slice config_file_trim(struct slice s);

#endif
