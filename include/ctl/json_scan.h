/*
 * json_scan.h - finds the parts of a JSON text without changing a byte of them.
 *
 * What a publisher wrote is shown as it was written: a price that went through a parser and a
 * printer may come out with other digits. Pure, no allocation, no recursion. The text must have
 * been checked with json_text_is_valid; on other text the answers are nonsense, but no byte
 * outside of it is read.
 */
#ifndef TICKCAST_CTL_JSON_SCAN_H
#define TICKCAST_CTL_JSON_SCAN_H

#include "base/slice.h"

#include <stdbool.h>

/* Where a walk through an object or an array is. */
struct json_walk {
    struct slice left;
    bool is_object;
};

/* Starts on an object or array; false when the text is neither. */
bool json_walk_start(struct json_walk *w, struct slice text);

/* The next member or element. key (may be NULL) is the text between the quotes, escapes
 * untouched, and empty in an array. False at the end. */
bool json_walk_next(struct json_walk *w, struct slice *key, struct slice *value);

/* The value of an object's member; ptr is NULL when there is none, or text is no object. */
struct slice json_member(struct slice text, const char *key);

/* Is it the JSON string of exactly these characters, none of which needs an escape? */
bool json_is_string(struct slice value, const char *text);

/* Between the quotes of a string, escapes untouched; a value that is no string comes back whole. */
struct slice json_unquoted(struct slice value);

#endif
