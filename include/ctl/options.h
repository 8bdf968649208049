/*
 * options.h - command lines of tickcastctl: one table per command, and how a command complains.
 *
 * Options are long (`--count 5` or `--count=5`), stand anywhere among the operands, and end at
 * `--`. A lone `-` and a negative number are operands. Values are checked whole: a number with
 * something behind it, or outside its range, is refused, never cut.
 */
#ifndef TICKCAST_CTL_OPTIONS_H
#define TICKCAST_CTL_OPTIONS_H

#include "base/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum ctl_status {
    CTL_CONTINUE = -1, /* parsed: go on */
    CTL_OK = 0,
    CTL_FAILED = 1,
    CTL_USAGE = 2,
};

enum ctl_option_kind {
    CTL_FLAG, /* bool *, set to true */
    CTL_TEXT, /* const char **, borrows from argv */
    CTL_INT,  /* int64_t *, min .. max */
    CTL_REAL, /* double *, min .. max */
};

struct ctl_option {
    const char *name; /* with its dashes; NULL ends a table */
    enum ctl_option_kind kind;
    void *target;      /* holds the default beforehand */
    const char *value; /* what help calls the value; NULL for a flag */
    const char *help;
    int64_t min;
    int64_t max;
};

/* What a command accepts. */
struct ctl_usage {
    const char *synopsis; /* operands, for the usage line */
    const char *about;    /* sentences for --help */
    const struct ctl_option *options;
    int operands_min;
    int operands_max; /* -1: any number */
};

/* What was left of argv. Borrows from it. */
struct ctl_operands {
    char **items;
    int count;
};

/*
 * Parses argv[1..], moving operands together in place. Returns CTL_CONTINUE; or CTL_OK after
 * --help was printed; or CTL_USAGE with the reason on standard error.
 */
int ctl_parse(const struct ctl_usage *usage, int argc, char **argv, struct ctl_operands *operands);

/* Strict numbers: the whole text, decimal. False when malformed or out of int64's range. */
bool ctl_parse_int(const char *text, int64_t *out);
bool ctl_parse_real(const char *text, double *out); /* digits with at most one '.', finite */

/* One line on standard error, headed by the program's name. They return CTL_FAILED, CTL_USAGE. */
int ctl_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
int ctl_misuse(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A line on standard error about something that is no failure. */
void ctl_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
