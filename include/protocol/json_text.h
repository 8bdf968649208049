/*
 * json_text.h - JSON as text, without a tree: a strict validator and the string writer.
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

/* Appends text as a JSON string with quotes. text must be valid UTF-8. */
void json_append_string(struct buf *out, struct slice text);

#endif
