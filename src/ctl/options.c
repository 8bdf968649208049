/*
 * options.c - command lines of tickcastctl.
 *
 * One thread. The tables are walked for parsing and for --help alike, so that help cannot lie.
 */
#include "ctl/options.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

__attribute__((format(printf, 1, 0))) static void print_line(const char *format, va_list args)
{
    fputs("tickcastctl: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
}

int ctl_fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    print_line(format, args);
    va_end(args);
    return CTL_FAILED;
}

int ctl_misuse(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    print_line(format, args);
    va_end(args);
    return CTL_USAGE;
}

void ctl_say(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    print_line(format, args);
    va_end(args);
}

bool ctl_parse_int(const char *text, int64_t *out)
{
    const char *digits = text + (*text == '-');
    if (*digits == '\0' || strspn(digits, "0123456789") != strlen(digits))
        return false;
    errno = 0;
    long long value = strtoll(text, NULL, 10);
    if (errno != 0)
        return false;
    *out = value;
    return true;
}

bool ctl_parse_real(const char *text, double *out)
{
    size_t whole = strspn(text, "0123456789");
    size_t point = text[whole] == '.' ? 1 : 0;
    size_t fraction = point != 0 ? strspn(text + whole + 1, "0123456789") : 0;
    if (whole + fraction == 0 || text[whole + point + fraction] != '\0')
        return false;
    double value = strtod(text, NULL);
    if (!isfinite(value))
        return false;
    *out = value;
    return true;
}

static bool set_int(const struct ctl_option *option, const char *text)
{
    int64_t value;
    if (ctl_parse_int(text, &value) && value >= option->min && value <= option->max) {
        *(int64_t *)option->target = value;
        return true;
    }
    ctl_misuse("%s: '%s' is no whole number from %" PRId64 " to %" PRId64, option->name, text,
               option->min, option->max);
    return false;
}

static bool set_real(const struct ctl_option *option, const char *text)
{
    double value;
    if (ctl_parse_real(text, &value) && value >= (double)option->min &&
        value <= (double)option->max) {
        *(double *)option->target = value;
        return true;
    }
    ctl_misuse("%s: '%s' is no number from %" PRId64 " to %" PRId64, option->name, text,
               option->min, option->max);
    return false;
}

static bool set_value(const struct ctl_option *option, const char *text)
{
    switch (option->kind) {
    case CTL_TEXT: *(const char **)option->target = text; return true;
    case CTL_INT: return set_int(option, text);
    case CTL_REAL: return set_real(option, text);
    case CTL_FLAG: break;
    }
    return false;
}

/* The row for an argument up to its '=', if it has one. */
static const struct ctl_option *find_option(const struct ctl_option *table, const char *argument)
{
    size_t len = strcspn(argument, "=");
    for (const struct ctl_option *o = table; o->name != NULL; o++) {
        if (strlen(o->name) == len && memcmp(o->name, argument, len) == 0)
            return o;
    }
    return NULL;
}

/* Handles argv[at]. Returns how many arguments were used, 0 after an error. */
static int take_option(const struct ctl_option *table, const char *command, int left, char **args)
{
    const struct ctl_option *option = find_option(table, args[0]);
    if (option == NULL) {
        ctl_misuse("%s: there is no option '%s'; see tickcastctl %s --help", command, args[0],
                   command);
        return 0;
    }
    const char *equals = strchr(args[0], '=');
    if (option->kind == CTL_FLAG) {
        if (equals != NULL) {
            ctl_misuse("%s takes no value", option->name);
            return 0;
        }
        *(bool *)option->target = true;
        return 1;
    }
    if (equals == NULL && left < 2) {
        ctl_misuse("%s needs a value", option->name);
        return 0;
    }
    if (!set_value(option, equals != NULL ? equals + 1 : args[1]))
        return 0;
    return equals != NULL ? 1 : 2;
}

static void print_help(const struct ctl_usage *usage, const char *command)
{
    printf("usage: tickcastctl %s [option]... %s\n\n%s\n\n", command, usage->synopsis,
           usage->about);
    for (const struct ctl_option *o = usage->options; o->name != NULL; o++) {
        char left[40];
        snprintf(left, sizeof left, "%s %s", o->name, o->value != NULL ? o->value : "");
        printf("  %-24s %s\n", left, o->help);
    }
}

static bool is_operand(const char *argument)
{
    return argument[0] != '-' || argument[1] == '\0' ||
           (argument[1] >= '0' && argument[1] <= '9') || argument[1] == '.';
}

static int check_operands(const struct ctl_usage *usage, const char *command, int count)
{
    if (count >= usage->operands_min && (usage->operands_max < 0 || count <= usage->operands_max))
        return CTL_CONTINUE;
    return ctl_misuse("%s: too %s arguments; usage: tickcastctl %s [option]... %s", command,
                      count < usage->operands_min ? "few" : "many", command, usage->synopsis);
}

int ctl_parse(const struct ctl_usage *usage, int argc, char **argv, struct ctl_operands *operands)
{
    bool options_ended = false;
    operands->items = argv + 1;
    operands->count = 0;
    for (int at = 1; at < argc;) {
        char *argument = argv[at];
        if (options_ended || is_operand(argument)) {
            operands->items[operands->count++] = argument;
            at++;
        } else if (strcmp(argument, "--help") == 0 || strcmp(argument, "-h") == 0) {
            print_help(usage, argv[0]);
            return CTL_OK;
        } else if (strcmp(argument, "--") == 0) {
            options_ended = true;
            at++;
        } else {
            int used = take_option(usage->options, argv[0], argc - at, argv + at);
            if (used == 0)
                return CTL_USAGE;
            at += used;
        }
    }
    return check_operands(usage, argv[0], operands->count);
}
