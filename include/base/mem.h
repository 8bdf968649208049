/*
 * mem.h - memory for our own small objects.
 *
 * These never return NULL: running out of memory for a small object of our own aborts with one
 * line on standard error. A size that a peer chooses is checked against its limit before any of
 * these is called. Everything is released with free().
 */
#ifndef TICKCAST_BASE_MEM_H
#define TICKCAST_BASE_MEM_H

#include <stddef.h>

void *mem_alloc(size_t bytes);  /* uninitialised */
void *mem_zalloc(size_t bytes); /* zeroed */
void *mem_realloc(void *ptr, size_t bytes);
void *mem_dup(const void *ptr, size_t bytes);
char *mem_strdup(const char *text);
char *mem_strndup(const char *ptr, size_t len); /* copies exactly len bytes, adds a NUL */

#endif
