/*
 * main.c - runs the unit tests: all suites, or those named as arguments.
 *
 * Exit status 0 only when at least one test ran and none failed.
 */
#include "unit.h"

#include "unit_suites.h"

#include <CUnit/Basic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static bool is_wanted(const char *name, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], name) == 0)
            return true;
    }
    return argc < 2;
}

static bool register_suite(const struct unit_suite *suite)
{
    CU_pSuite added = CU_add_suite(suite->name, NULL, NULL);
    if (added == NULL)
        return false;
    for (const struct unit_test *test = suite->tests; test->name != NULL; test++) {
        if (CU_add_test(added, test->name, test->run) == NULL)
            return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    if (CU_initialize_registry() != CUE_SUCCESS)
        return 2;
    for (size_t i = 0; unit_suites[i] != NULL; i++) {
        if (is_wanted(unit_suites[i]->name, argc, argv) && !register_suite(unit_suites[i])) {
            fprintf(stderr, "unit: %s\n", CU_get_error_msg());
            return 2;
        }
    }
    CU_basic_set_mode(CU_BRM_NORMAL);
    CU_basic_run_tests();
    bool passed = CU_get_number_of_failures() == 0 && CU_get_number_of_tests_run() > 0;
    CU_cleanup_registry();
    return passed ? 0 : 1;
}
