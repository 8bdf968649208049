/*
 * unit.h - the table behind the unit tests.
 *
 * Each tests/unit/test_x.c defines one `const struct unit_suite suite_x`, a list of named
 * functions that assert with CUnit's macros. The Makefile collects the suites from the file names,
 * so a new file cannot be forgotten; main.c runs them all, or those named on its command line.
 */
#ifndef TICKCAST_TESTS_UNIT_H
#define TICKCAST_TESTS_UNIT_H

#include <CUnit/CUnit.h>
#include <stddef.h>

struct unit_test {
    const char *name; /* NULL ends the table */
    void (*run)(void);
};

struct unit_suite {
    const char *name;
    const struct unit_test *tests;
};

/* Asserts that `len` bytes at `p` are exactly the string literal `text`. */
#define UNIT_ASSERT_BYTES(p, len, text)                         \
    do {                                                        \
        CU_ASSERT_EQUAL_FATAL((size_t)(len), sizeof(text) - 1); \
        CU_ASSERT(memcmp((p), (text), sizeof(text) - 1) == 0);  \
    } while (0)

#endif
