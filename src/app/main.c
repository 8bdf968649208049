/*
 * main.c - the command line of a node.
 *
 * Standard output carries one line, when the listeners are bound; everything else goes to
 * standard error. Exit status: 0 after an orderly end, 1 when the node could not start or what was
 * asked for could not be printed, 2 for a command line, configuration or inherited socket that is
 * wrong.
 */
#include "app/reload.h"
#include "app/server.h"
#include "base/log.h"
#include "base/mem.h"
#include "protocol/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXIT_USAGE 2

struct arguments {
    const char *file;
    const char **sets; /* NULL-terminated */
    size_t set_count;
    bool check_only;
};

static const char usage[] =
    "usage: tickcast [-c FILE] [-t] [--set section.key=value]... [--version] [--print-config]\n"
    "  -c FILE   configuration file; without it the built-in defaults serve\n"
    "  -t        check the configuration and exit\n"
    "  --set     override one option; may be repeated\n"
    "  --print-config   print the reference configuration, every option at its default\n";

static int fail_usage(const char *what, const char *argument)
{
    fprintf(stderr, "tickcast: %s%s%s\n%s", what, argument != NULL ? " " : "",
            argument != NULL ? argument : "", usage);
    return EXIT_USAGE;
}

/* A configuration that a full disk cut off would be taken for a whole one. */
static int finish_output(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return EXIT_SUCCESS;
    fputs("tickcast: cannot write to standard output\n", stderr);
    return EXIT_FAILURE;
}

static int print_reference(void)
{
    struct buf text = {0};
    config_print_reference(&text);
    fwrite(text.data, 1, text.len, stdout);
    buf_fini(&text);
    return finish_output();
}

/* Reads the command line. Returns -1 to go on, else the exit status. */
static int read_arguments(int argc, char **argv, struct arguments *out)
{
    for (int i = 1; i < argc; i++) {
        const char *arg = argv[i];
        bool takes_value = strcmp(arg, "-c") == 0 || strcmp(arg, "--set") == 0;
        if (takes_value && i + 1 == argc)
            return fail_usage("a value is missing after", arg);
        if (strcmp(arg, "-c") == 0) {
            out->file = argv[++i];
        } else if (strcmp(arg, "--set") == 0) {
            out->sets[out->set_count++] = argv[++i];
        } else if (strcmp(arg, "-t") == 0) {
            out->check_only = true;
        } else if (strcmp(arg, "--version") == 0) {
            puts("tickcast " TICKCAST_VERSION);
            return finish_output();
        } else if (strcmp(arg, "--print-config") == 0) {
            return print_reference();
        } else if (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0) {
            fputs(usage, stdout);
            return finish_output();
        } else {
            return fail_usage("unknown argument", arg);
        }
    }
    return -1;
}

static void log_inherited(const struct activation *sockets)
{
    if (sockets->client_fd >= 0)
        log_info("socket_inherited", LOG_STR("name", "client"),
                 LOG_STR("unused", "listen.address"));
    if (sockets->ops_fd >= 0)
        log_info("socket_inherited", LOG_STR("name", "ops"), LOG_STR("unused", "ops.address"));
}

static int serve(struct config *config, const struct config_source *source,
                 const struct activation *sockets, const struct buf *warnings)
{
    struct buf error = {0}, ready = {0};
    struct server *server = server_new(config, source, sockets, &error);
    if (server == NULL) {
        fprintf(stderr, "tickcast: %.*s\n", (int)error.len, error.data);
        buf_fini(&error);
        return EXIT_FAILURE;
    }
    log_bound_set((uint32_t)config->node.log_lines_per_s);
    log_init(config->node.log_level, config->node.log_format, config->node.id);
    reload_log_warnings(warnings);
    log_inherited(sockets);
    server_ready_line(server, &ready);
    log_info("started", LOG_STR("version", TICKCAST_VERSION), LOG_INT("pid", getpid()),
             LOG_INT("workers", config->node.workers),
             LOG_INT("max_connections", config->listen.max_connections));
    fwrite(ready.data, 1, ready.len, stdout);
    fflush(stdout);
    buf_fini(&ready);
    server_run(server);
    server_free(server);
    log_fini();
    return EXIT_SUCCESS;
}

static int load_and_serve(const struct arguments *arguments)
{
    const struct config_source source = {
        .file = arguments->file, .environment = environ, .sets = arguments->sets};
    struct buf error = {0}, warnings = {0};
    struct activation sockets;
    server_hold_signals();
    struct config *config = config_load(&source, &error, &warnings);
    int status = EXIT_USAGE;
    if (config == NULL) {
        fprintf(stderr, "tickcast: %.*s\n", (int)error.len, error.data);
    } else if (arguments->check_only) {
        fprintf(stderr, "%.*s", (int)warnings.len, warnings.len > 0 ? warnings.data : "");
        fputs("configuration ok\n", stderr);
        config_unref(config);
        status = EXIT_SUCCESS;
    } else if (!activation_take(&sockets, &warnings, &error)) {
        fprintf(stderr, "tickcast: %.*s\n", (int)error.len, error.data);
        config_unref(config);
    } else {
        status = serve(config, &source, &sockets, &warnings);
    }
    buf_fini(&error);
    buf_fini(&warnings);
    return status;
}

int main(int argc, char **argv)
{
    struct arguments arguments = {.sets = mem_zalloc((size_t)(argc + 1) * sizeof(char *))};
    int status = read_arguments(argc, argv, &arguments);
    if (status < 0)
        status = load_and_serve(&arguments);
    free(arguments.sets);
    return status;
}
