/*
 * errors.c - the rows of ERROR_TABLE as data. Index 0, ERR_NONE, is all zero.
 */
#include "protocol/errors.h"

const struct error_info error_table[ERR_COUNT] = {
#define ERROR_ROW(symbol, number, stable_name, message) \
    [ERR_##symbol] = {.code = number, .name = stable_name, .text = message},
    ERROR_TABLE(ERROR_ROW)
#undef ERROR_ROW
};
