/*
 * reconnects.h - how often the same user or session came back within the last hour.
 *
 * A table by name ("session:…", "user:…": the caller's choice), least recently seen first out. It
 * holds a bounded number of names, and none that was not seen for an hour. Counts are in steps of
 * ten minutes: a return is forgotten 50 to 60 minutes after it.
 *
 * Pure: time is given. Owner: the main thread.
 */
#ifndef TICKCAST_DOMAIN_RECONNECTS_H
#define TICKCAST_DOMAIN_RECONNECTS_H

#include "base/list.h"
#include "base/map.h"
#include "base/slice.h"

#include <stddef.h>
#include <stdint.h>

#define RECONNECTS_MAX       100000  /* names; some 20 MB when it is full */
#define RECONNECTS_NAME_MAX  128     /* bytes; what is longer is not counted */
#define RECONNECTS_WINDOW_MS 3600000 /* an hour */

struct reconnects {
    struct map names;   /* name -> entry */
    struct list by_age; /* least recently seen first */
    size_t max_names;
};

void reconnects_init(struct reconnects *r, size_t max_names);
void reconnects_fini(struct reconnects *r);

/* The name has connected. Returns how often it had come back in the last hour, this time included:
 * 0 for one that was not known. */
uint32_t reconnects_note(struct reconnects *r, struct slice name, uint64_t now_ms);

/* The same figure without noting anything; 0 for a name that is not known. */
uint32_t reconnects_count(const struct reconnects *r, struct slice name, uint64_t now_ms);

#endif
