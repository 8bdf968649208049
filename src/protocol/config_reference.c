/*
 * config_reference.c - writes the option table as a configuration file: conf/tickcast.conf.
 *
 * `# text` explains, `#key = value` is an option at its default, ready to lose its '#'. The
 * built-in namespaces stand there for real, because a file that names one replaces the set.
 */
#include "protocol/config.h"
#include "protocol/option_table.h"

#define COLUMNS 100

static const char head[] =
    "# tickcast.conf - every option of a node at its default.\n"
    "#\n"
    "# UTF-8 text of lines `[section]` and `key = value`. A comment is a line of its own that "
    "begins\n"
    "# with # or ;. The environment (TICKCAST_SECTION_KEY, TICKCAST_NAMESPACE_NAME_KEY) comes "
    "before\n"
    "# this file, and --set section.key=value or --set namespace.NAME.key=value before both.\n"
    "# `tickcast -t -c FILE` checks a file. `Reload: yes` says that a running node takes a new "
    "value "
    "on\n"
    "# SIGHUP; the others need a restart.\n";

/* Appends text as comment lines broken between words. */
static void print_comment(struct buf *out, struct slice text)
{
    size_t column = 0;
    while (text.len != 0) {
        const char *space = memchr(text.ptr, ' ', text.len);
        size_t word = space != NULL ? (size_t)(space - text.ptr) : text.len;
        if (column != 0 && column + 1 + word > COLUMNS) {
            buf_append_str(out, "\n");
            column = 0;
        }
        buf_append_str(out, column == 0 ? "# " : " ");
        buf_append(out, text.ptr, word);
        column += (column == 0 ? 2 : 1) + word;
        size_t used = space != NULL ? word + 1 : word;
        text = slice_of(text.ptr + used, text.len - used);
    }
    buf_append_str(out, "\n");
}

static void print_option(struct buf *out, const struct option *o, bool is_set, const char *value)
{
    struct buf text = {0};
    buf_append_str(&text, o->help);
    if (o->type != OPTION_TEXT) {
        buf_append_str(&text, " Allowed: ");
        option_append_allowed(&text, o);
        buf_append_str(&text, ".");
    }
    if ((o->flags & OPTION_UNBUILT) != 0)
        buf_append_str(&text, " Not built yet.");
    buf_append_str(out, "\n");
    print_comment(out, buf_slice(&text));
    buf_append_str(out, (o->flags & OPTION_RELOAD) != 0 ? "# Reload: yes.\n" : "# Reload: no.\n");
    buf_fini(&text);
    buf_printf(out, "%s%s =%s%s\n", is_set ? "" : "#", o->key, value[0] != '\0' ? " " : "", value);
}

/* The first built-in namespace shows all options; the others differ from it in the mode alone. */
static void print_namespaces(struct buf *out)
{
    buf_append_str(out, "[namespace quote]\n");
    for (size_t i = 0; i < option_count; i++) {
        const struct option *o = &option_table[i];
        if (!slice_is(slice_str(o->section), OPTION_NAMESPACE))
            continue;
        bool is_mode = slice_is(slice_str(o->key), "mode");
        print_option(out, o, is_mode, is_mode ? "latest" : o->fallback);
    }
    buf_append_str(out, "\n[namespace trade]\nmode = all\n"
                        "\n[namespace chat]\nmode = all\n"
                        "\n[namespace alert]\nmode = all\n");
}

static void print_section(struct buf *out, const char *section)
{
    buf_printf(out, "[%s]\n", section);
    for (size_t i = 0; i < option_count; i++) {
        const struct option *o = &option_table[i];
        if (slice_is(slice_str(o->section), section))
            print_option(out, o, false, o->fallback);
    }
}

void config_print_reference(struct buf *out)
{
    buf_append_str(out, head);
    for (const struct option_section *s = option_sections; s->name != NULL; s++) {
        buf_append_str(out, "\n");
        print_comment(out, slice_str(s->help));
        if (slice_is(slice_str(s->name), OPTION_NAMESPACE))
            print_namespaces(out);
        else
            print_section(out, s->name);
    }
}
