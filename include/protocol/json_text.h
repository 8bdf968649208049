/*
 * json_text.h - JSON as text, without a tree: a strict validator, walks over the members of an
 * object and the elements of an array, and the string writer.
 *
 * A publisher's payload is forwarded byte for byte inside our own JSON, so it must be known to be
 * one JSON value by the letter of RFC 8259: lenient parsers would let one bad publication break
 * the envelope of every client. No allocation, no recursion.
 */
#ifndef TICKCAST_PROTOCOL_JSON_TEXT_H
#define TICKCAST_PROTOCOL_JSON_TEXT_H

#include "base/buf.h"

#include <stdbool.h>

/* Deeper payloads are not treated as JSON (they are delivered as a string). */
#define JSON_DEPTH_MAX 512

/* Is text exactly one JSON value with optional white space around it? text must be valid UTF-8. */
bool json_text_is_valid(struct slice text);

/*
 * Walks the members of one object, cutting keys and values from the text as they were written: a
 * number keeps its digits. text must be valid and outlive the walk. A key is without its quotes
 * and still escaped; a value is without the white space around it.
 *
 *      struct json_members m;
 *      if (json_members_init(&m, text))
 *          while (json_members_next(&m, &key, &value))
 *              ...
 */
struct json_members {
    struct slice rest; /* what is still to be walked */
};

bool json_members_init(struct json_members *m, struct slice text); /* false: not an object */
bool json_members_next(struct json_members *m, struct slice *key, struct slice *value);

/* Walks the elements of one array in the same manner. */
struct json_elements {
    struct slice rest;
};

bool json_elements_init(struct json_elements *e, struct slice text); /* false: not an array */
bool json_elements_next(struct json_elements *e, struct slice *value);

/* Is json, one valid value, a number without fraction and exponent, of any size? */
bool json_is_integer(struct slice json);

/* Does json, which is valid, hold an escaped NUL? cJSON ends a string there, and what follows would be
 * overlooked. */
bool json_has_escaped_nul(struct slice json);

/* Appends text as a JSON string with quotes. text must be valid UTF-8. */
void json_append_string(struct buf *out, struct slice text);

#endif
