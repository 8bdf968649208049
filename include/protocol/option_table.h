/*
 * option_table.h - the rows behind config.h: each option's name, type, range, default and help.
 *
 * Everything that is said about options - what the parser accepts, what its errors name,
 * conf/tickcast.conf - comes from these rows. Used by config.c and the parts it is made of; the
 * rest of the program reads a struct config.
 */
#ifndef TICKCAST_PROTOCOL_OPTION_TABLE_H
#define TICKCAST_PROTOCOL_OPTION_TABLE_H

#include "base/buf.h"
#include "base/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OPTION_NAMESPACE "namespace" /* the section whose rows live in struct config_namespace */
#define OPTION_AUTO_WORD "auto"      /* leaves it to the node; see OPTION_AUTO */

enum option_type {
    OPTION_TEXT,  /* char *, owned; min and max are its length in bytes */
    OPTION_INT,   /* int64_t from min to max */
    OPTION_BOOL,  /* bool: yes or no */
    OPTION_WORD,  /* an enum: one of words */
    OPTION_MODES, /* allow_latest and allow_all of a namespace: some of words */
};

enum option_flag {
    OPTION_UNBUILT = 1, /* accepted, has no effect yet: a warning when it is set */
    OPTION_RELOAD = 2,  /* a running node takes a new value; others need a restart */
    OPTION_SECRET = 4,  /* its value is never shown, in an error or anywhere else */
    OPTION_AUTO = 8,    /* `auto` is allowed: worked out by automatic, or from another option */
    OPTION_ZERO = 16,   /* 0 is allowed although it is less than min */
};

struct option_word {
    const char *name; /* NULL ends a list */
    int value;
};

struct option {
    const char *section;
    const char *key;
    enum option_type type;
    size_t offset;        /* into struct config, or struct config_namespace */
    const char *fallback; /* the default, as it would be written in the file */
    int64_t min;
    int64_t max;
    unsigned flags;                  /* enum option_flag */
    const struct option_word *words; /* of OPTION_WORD and OPTION_MODES */
    int64_t (*automatic)(void);      /* of OPTION_INT with OPTION_AUTO */
    /* Of OPTION_TEXT: static text saying what is wrong ("is not ..."), or NULL. */
    const char *(*check)(const char *value);
    const char *help; /* one sentence or a few, with the unit */
};

struct option_section {
    const char *name;
    const char *help;
};

extern const struct option option_table[];
extern const size_t option_count;
extern const struct option_section option_sections[]; /* a NULL name ends it */

/* The row, or NULL. Section and key are compared exactly. */
const struct option *option_find(struct slice section, struct slice key);
bool option_section_is_known(struct slice section);

/* Appends the keys of a section, separated by ", ". */
void option_append_keys(struct buf *out, struct slice section);

/* Appends what a value may be: "a whole number from 0 to 3600". Nothing for free text. */
void option_append_allowed(struct buf *out, const struct option *o);

/*
 * Parses value and stores it in base (a struct config, or config_namespace for its rows),
 * releasing the text that was there. False, with what is wrong and what is allowed appended to
 * why, when the value is no good; base is then unchanged. `auto` without an automatic stores
 * nothing: whoever builds the snapshot works it out.
 */
bool option_assign(const struct option *o, void *base, struct slice value, struct buf *why);

/* Is the option the same in two of its bases (both struct config, or both config_namespace)? */
bool option_is_equal(const struct option *o, const void *a, const void *b);

/* Makes the option in `to` what it is in `from`; texts are copied. */
void option_copy(const struct option *o, void *to, const void *from);

/* Appends the option's value as a file would have it, bounded and harmless as option_append_shown
 * makes it; "(secret)" for one that is never shown. */
void option_append_value(struct buf *out, const struct option *o, const void *base);

/* Releases the texts of all rows of struct config (or of struct config_namespace). */
void option_release(void *base, bool is_namespace);

/* Appends text for a one-line message: control bytes and what is not ASCII become '?' unless the
 * whole is UTF-8, and what is over 200 bytes is cut and ends in "...". */
void option_append_shown(struct buf *out, struct slice text);

#endif
