/*
 * channel.h - the grammar of channel names (docs/protocol.md, 1).
 */
#ifndef TICKCAST_PROTOCOL_CHANNEL_H
#define TICKCAST_PROTOCOL_CHANNEL_H

#include "base/slice.h"

#include <stdbool.h>

#define CHANNEL_BYTES_MAX 128

/* Is name `<namespace>:<name>`, 1..128 bytes of the allowed alphabet, both parts not empty? */
bool channel_is_valid(struct slice name);

/* The part before the first ':'. name must be valid. Borrows. */
struct slice channel_namespace(struct slice name);

#endif
