/*
 * mem.c - allocation that does not return NULL.
 */
#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *checked(void *ptr, size_t bytes)
{
    if (ptr == NULL && bytes != 0) {
        fprintf(stderr, "tickcast: out of memory asking for %zu bytes\n", bytes);
        abort();
    }
    return ptr;
}

void *mem_alloc(size_t bytes)
{
    return checked(malloc(bytes), bytes);
}

void *mem_zalloc(size_t bytes)
{
    return checked(calloc(1, bytes), bytes);
}

void *mem_realloc(void *ptr, size_t bytes)
{
    return checked(realloc(ptr, bytes), bytes);
}

void *mem_dup(const void *ptr, size_t bytes)
{
    void *copy = mem_alloc(bytes);
    if (bytes != 0)
        memcpy(copy, ptr, bytes);
    return copy;
}

char *mem_strndup(const char *ptr, size_t len)
{
    char *copy = mem_alloc(len + 1);
    if (len != 0)
        memcpy(copy, ptr, len);
    copy[len] = '\0';
    return copy;
}

char *mem_strdup(const char *text)
{
    return mem_strndup(text, strlen(text));
}
