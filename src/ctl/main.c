/*
 * main.c - tickcastctl: picks the command and leaves the rest to it.
 *
 * Exit status: 0 done, 1 failed, 2 wrong usage. Whom to talk to (--redis, --prefix, --ops) may
 * stand before the command as well: it is moved behind the command's name, where the commands
 * look for their options.
 */
#include "base/mem.h"
#include "ctl/bench.h"
#include "ctl/commands.h"
#include "ctl/options.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct command_row {
    const char *name;
    const char *operands;
    const char *about;
    int (*run)(int argc, char **argv);
};

static const struct command_row commands[] = {
    {"pub", "CHANNEL JSON", "publish through Redis; '-' reads lines", ctl_pub},
    {"sub", "URL CHANNEL...", "subscribe at a node and print what arrives", ctl_sub},
    {"nodes", "", "list the nodes that are alive", ctl_nodes},
    {"admin", "JSON", "send an admin command and print the nodes' replies", ctl_admin},
    {"drain", "NODE", "have a node hand its clients to the others, and wait", ctl_drain},
    {"sim", "", "publish a market of random-walk symbols", ctl_sim},
    {"replay", "FILE", "publish a recorded feed or a tape", ctl_replay},
    {"bench", "", "measure load, losses and latency of a node", ctl_bench},
};

#define COMMAND_COUNT (sizeof commands / sizeof commands[0])

static void print_usage(FILE *out)
{
    fputs("usage: tickcastctl COMMAND [option]... [argument]...\n\n", out);
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        fprintf(out, "  %-7s %-15s %s\n", commands[i].name, commands[i].operands,
                commands[i].about);
    fputs("\nOptions of every command: --redis URL (default redis://127.0.0.1:6379/0),\n"
          "--prefix TEXT (default tc:). pub, nodes, admin and drain also take --ops URL: a node's\n"
          "ops listener, such as http://127.0.0.1:9180, to ask instead of Redis.\n"
          "`tickcastctl COMMAND --help` lists the command's own.\n",
          out);
}

static const struct command_row *find_command(const char *name)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    }
    return NULL;
}

/* How many arguments in front of the command are options with their values. */
static int count_leading(int argc, char **argv)
{
    static const char *const names[] = {"--redis", "--prefix", "--ops"};
    int at = 1;
    while (at < argc) {
        size_t len = strcspn(argv[at], "=");
        size_t known = 0;
        while (known < 3 && (strlen(names[known]) != len || strncmp(argv[at], names[known], len)))
            known++;
        if (known == 3)
            break;
        at += argv[at][len] == '=' ? 1 : 2;
    }
    return at - 1;
}

static int run_command(const struct command_row *command, int leading, int argc, char **argv)
{
    char **moved = mem_alloc((size_t)(argc + 1) * sizeof *moved);
    moved[0] = argv[leading + 1];
    memcpy(moved + 1, argv + 1, (size_t)leading * sizeof *moved);
    memcpy(moved + 1 + leading, argv + leading + 2,
           (size_t)(argc - leading - 1) * sizeof *moved); /* with the NULL at the end */
    int status = command->run(argc - 1, moved);
    free(moved);
    return status;
}

/* What was printed is part of the result: a full disk or a closed pipe is a failure. */
static int finish_output(int status)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return status;
    return status != CTL_OK ? status : ctl_fail("cannot write to standard output");
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN); /* a peer that went away is an error reply, not the end of us */
    int leading = count_leading(argc, argv);
    if (leading + 1 >= argc) {
        print_usage(stderr);
        return CTL_USAGE;
    }
    const char *name = argv[leading + 1];
    if (strcmp(name, "--version") == 0) {
        puts("tickcastctl " TICKCAST_VERSION);
        return finish_output(CTL_OK);
    }
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
        print_usage(stdout);
        return finish_output(CTL_OK);
    }
    const struct command_row *command = find_command(name);
    if (command == NULL)
        return ctl_misuse("there is no command '%s'; see tickcastctl --help", name);
    return finish_output(run_command(command, leading, argc, argv));
}
