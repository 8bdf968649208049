/*
 * json_patch.h - what changed between two values of a channel (docs/protocol.md, `patch`).
 *
 * Pure and without allocation but for the output. The cost is that of walking both texts once; the
 * order of the members may differ freely.
 */
#ifndef TICKCAST_PROTOCOL_JSON_PATCH_H
#define TICKCAST_PROTOCOL_JSON_PATCH_H

#include "base/buf.h"

#include <stdbool.h>

/* A larger object is sent whole: it is a list, not a record, and the bound lets the work be done
 * on the stack. */
#define JSON_PATCH_MEMBERS_MAX 256

/*
 * Appends to out one JSON object: the top-level members of `after` whose value differs, byte by
 * byte, from the one in `before` or that `before` does not have, as they were written and in
 * their order; then, as null, the members of `before` that are gone. Who has `before`, puts these
 * members over its own and removes those that are null has the members of `after`.
 *
 * False, and out is as it was, when `after` must be sent whole: either is not an object, has more
 * than JSON_PATCH_MEMBERS_MAX members, one key twice, or a key with an escape (which could be
 * written in another way); a member of `after` is null, which would read as its removal; or the
 * patch would not be shorter than `after`.
 *
 * Both must be valid JSON or empty; neither may lie in out.
 */
bool json_patch_make(struct buf *out, struct slice before, struct slice after);

#endif
