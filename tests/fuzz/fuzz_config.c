/*
 * fuzz_config.c - any text as a configuration file, an environment variable and a --set.
 *
 * The input's first byte says which; the rest is the text. Whatever it is, there is either a
 * snapshot or exactly one line of error without control characters.
 */
#include "base/mem.h"
#include "protocol/config.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Puts text into the one file of this process, made at the first call; returns its name. */
static const char *write_file(const void *text, size_t len)
{
    static char path[64];
    static int fd = -1;
    if (fd < 0) {
        fd = memfd_create("config", 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    if (fd < 0 || ftruncate(fd, 0) != 0 || pwrite(fd, text, len, 0) != (ssize_t)len)
        abort();
    return path;
}

static void check(const struct config *c, const struct buf *error)
{
    if ((c == NULL) != (error->len != 0))
        abort();
    for (size_t i = 0; i < error->len; i++) {
        if ((unsigned char)error->data[i] < 0x20)
            abort();
    }
    if (c == NULL)
        return;
    if (c->limits.soft_bytes > c->limits.hard_bytes || c->namespace_count > CONFIG_NAMESPACES_MAX)
        abort();
    for (size_t i = 0; i < c->namespace_count; i++) {
        const struct config_namespace *ns = &c->namespaces[i];
        if (config_namespace(c, slice_str(ns->name)) != ns || ns->mode == MODE_UNSET)
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    char *text = mem_strndup((const char *)data + 1, size - 1);
    struct buf variable = {0};
    buf_printf(&variable, "TICKCAST_%s", text);
    buf_append(&variable, "", 1);
    char *environment[] = {variable.data, NULL};
    const char *sets[] = {text, NULL};
    struct config_source source = {0};
    switch (data[0] % 3) {
    case 0: source.file = write_file(data + 1, size - 1); break;
    case 1: source.environment = environment; break;
    default: source.sets = sets; break;
    }
    struct buf error = {0};
    struct buf warnings = {0};
    struct config *c = config_load(&source, &error, &warnings);
    check(c, &error);
    config_unref(c);
    buf_fini(&error);
    buf_fini(&warnings);
    buf_fini(&variable);
    free(text);
    return 0;
}
