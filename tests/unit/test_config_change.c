/*
 * test_config_change.c - what differs between two configurations, and what succeeds the first.
 *
 * Both are made from --set alone, as a reload of the same node would see them.
 */
#include "unit.h"

#include "base/mem.h"
#include "protocol/config_change.h"
#include "protocol/option_table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SETS_MAX 300

/* A running configuration, one that was loaded, and what came of the two. */
struct scene {
    const char *running_sets[SETS_MAX + 1];
    const char *loaded_sets[SETS_MAX + 1];
    struct config *running;
    struct config *next;
    struct config_changes changes;
    struct buf error;
    bool is_good;
};

static struct config *load(const char *const *sets)
{
    struct buf error = {0}, warnings = {0};
    const struct config_source source = {.sets = sets};
    struct config *c = config_load(&source, &error, &warnings);
    CU_ASSERT_PTR_NOT_NULL_FATAL(c);
    buf_fini(&error);
    buf_fini(&warnings);
    return c;
}

static void play(struct scene *s)
{
    s->running = load(s->running_sets);
    s->next = load(s->loaded_sets);
    s->is_good = config_succeed(s->next, s->running, &s->changes, &s->error);
}

static void end(struct scene *s)
{
    config_unref(s->running);
    config_unref(s->next);
    config_changes_fini(&s->changes);
    buf_fini(&s->error);
}

/* All changes as "option old>new now, ...", in their order. */
static void check_changes(const struct scene *s, const char *expected)
{
    struct buf text = {0};
    for (size_t i = 0; i < s->changes.count; i++) {
        const struct config_change *c = &s->changes.list[i];
        buf_printf(&text, "%s%s %s>%s %s", i == 0 ? "" : ", ", c->option, c->before, c->after,
                   c->needs_restart ? "restart" : "now");
    }
    buf_append(&text, "", 1);
    if (strcmp(text.data, expected) != 0)
        fprintf(stderr, "\n  expected %s\n       got %s\n", expected, text.data);
    CU_ASSERT_STRING_EQUAL(text.data, expected);
    buf_fini(&text);
}

static void check_json(const struct scene *s, const char *expected)
{
    struct buf text = {0};
    config_changes_append_json(&s->changes, &text);
    buf_append(&text, "", 1);
    CU_ASSERT_STRING_EQUAL(text.data, expected);
    buf_fini(&text);
}

static void test_nothing_changed(void)
{
    struct scene s = {.running_sets = {"namespace.x.history=5"},
                      .loaded_sets = {"namespace.x.history=5"}};
    play(&s);
    CU_ASSERT_TRUE(s.is_good);
    check_changes(&s, "");
    check_json(&s, ",\"changed\":[],\"restart\":[]");
    end(&s);
}

static void test_every_type(void)
{
    struct scene s = {.loaded_sets = {"node.log_level=debug", "node.echo=yes",
                                      "listen.origins=https://a.example", "limits.commands_per_s=7",
                                      "namespace.quote.modes=all"}};
    play(&s);
    check_changes(&s, "node.log_level info>debug now, node.echo no>yes now, "
                      "listen.origins >https://a.example now, limits.commands_per_s 50>7 now, "
                      "namespace.quote.modes latest>latest all now");
    check_json(&s, ",\"changed\":[\"node.log_level\",\"node.echo\",\"listen.origins\","
                   "\"limits.commands_per_s\",\"namespace.quote.modes\"],\"restart\":[]");
    CU_ASSERT_EQUAL(s.next->node.log_level, LOG_DEBUG);
    CU_ASSERT_EQUAL(s.next->limits.commands_per_s, 7);
    CU_ASSERT_STRING_EQUAL(s.next->listen.origins, "https://a.example");
    end(&s);
}

static void test_restart_is_put_back(void)
{
    struct scene s = {.running_sets = {"node.workers=2", "node.id=a"},
                      .loaded_sets = {"node.workers=3", "node.id=b", "listen.address=127.0.0.1:1",
                                      "namespace.trade.mirror=yes", "limits.soft_bytes=1000"}};
    play(&s);
    check_changes(&s, "node.id a>b restart, node.workers 2>3 restart, "
                      "listen.address 127.0.0.1:8080>127.0.0.1:1 restart, "
                      "limits.soft_bytes 262144>1000 now, "
                      "namespace.trade.mirror no>yes restart");
    CU_ASSERT_EQUAL(s.next->node.workers, 2);
    CU_ASSERT_STRING_EQUAL(s.next->node.id, "a");
    CU_ASSERT_STRING_EQUAL(s.next->listen.address, "127.0.0.1:8080");
    CU_ASSERT_FALSE(config_namespace(s.next, slice_str("trade"))->mirror);
    CU_ASSERT_EQUAL(s.next->limits.soft_bytes, 1000);
    CU_ASSERT_EQUAL(config_changes_count(&s.changes, true), 4);
    CU_ASSERT_EQUAL(config_changes_count(&s.changes, false), 1);
    end(&s);
}

static void test_secrets_are_not_shown(void)
{
    struct scene s = {.loaded_sets = {"redis.url=redis://:hidden@127.0.0.1:6379/0"}};
    play(&s);
    check_changes(&s, "redis.url (secret)>(secret) restart");
    end(&s);
}

static void test_what_is_not_built_is_not_told(void)
{
    struct scene s = {.loaded_sets = {"auth.issuer=x", "namespace.quote.access=own"}};
    play(&s);
    check_changes(&s, "");
    end(&s);
}

/* A mode brings its own default of `snapshot`, which is told too. */
static void test_a_mode_that_changes(void)
{
    struct scene s = {.loaded_sets = {"namespace.quote.mode=all"}};
    play(&s);
    check_changes(&s, "namespace.quote.mode latest>all now, "
                      "namespace.quote.modes latest>all now, "
                      "namespace.quote.snapshot yes>no now");
    end(&s);
}

static void test_namespaces_come_and_stay(void)
{
    struct scene s = {.running_sets = {"namespace.old.history=9", "namespace.b.history=1"},
                      .loaded_sets = {"namespace.new.history=3", "namespace.new.mirror=yes",
                                      "namespace.b.history=2"}};
    play(&s);
    check_changes(&s, "namespace.old >removed restart, namespace.b.history 1>2 now, "
                      "namespace.new >added now, namespace.new.mirror no>yes restart");
    CU_ASSERT_EQUAL_FATAL(s.next->namespace_count, 7);
    for (size_t i = 0; i < s.running->namespace_count; i++) {
        const struct config_namespace *was = &s.running->namespaces[i];
        const struct config_namespace *is = config_successor(s.next, s.running, was);
        CU_ASSERT_STRING_EQUAL(is->name, was->name);
    }
    CU_ASSERT_EQUAL(config_namespace(s.next, slice_str("old"))->history, 9);
    CU_ASSERT_EQUAL(config_namespace(s.next, slice_str("b"))->history, 2);
    CU_ASSERT_EQUAL(config_namespace(s.next, slice_str("new"))->history, 3);
    CU_ASSERT_FALSE(config_namespace(s.next, slice_str("new"))->mirror);
    end(&s);
}

/* What still waits for a restart is told by every reload, and a namespace that comes back is not. */
static void test_a_chain_of_reloads(void)
{
    struct scene s = {.running_sets = {"namespace.a.history=9"},
                      .loaded_sets = {"node.workers=64", "namespace.b.history=1"}};
    play(&s);
    struct config *third = load((const char *[]){"node.workers=64", "namespace.b.history=1",
                                                 "namespace.a.history=9", NULL});
    struct config_changes changes = {0};
    CU_ASSERT_TRUE(config_succeed(third, s.next, &changes, &s.error));
    CU_ASSERT_EQUAL_FATAL(changes.count, 1);
    CU_ASSERT_STRING_EQUAL(changes.list[0].option, "node.workers");
    for (size_t i = 0; i < s.next->namespace_count; i++)
        CU_ASSERT_STRING_EQUAL(third->namespaces[i].name, s.next->namespaces[i].name);
    config_changes_fini(&changes);
    config_unref(third);
    end(&s);
}

static void test_too_many_namespaces(void)
{
    struct scene s = {0};
    for (size_t i = 0; i < 200; i++) {
        char set[64];
        snprintf(set, sizeof set, "namespace.a%zu.history=1", i);
        s.running_sets[i] = mem_strdup(set);
        set[10] = 'b';
        s.loaded_sets[i] = mem_strdup(set);
    }
    play(&s);
    CU_ASSERT_FALSE(s.is_good);
    CU_ASSERT_EQUAL(s.changes.count, 0);
    buf_append(&s.error, "", 1);
    CU_ASSERT_PTR_NOT_NULL(strstr(s.error.data, "there are 404, more than 256"));
    CU_ASSERT_EQUAL(s.next->namespace_count, 204);
    end(&s);
    for (size_t i = 0; i < 200; i++) {
        free((char *)(uintptr_t)s.running_sets[i]);
        free((char *)(uintptr_t)s.loaded_sets[i]);
    }
}

/* The rows say whether a running node takes them, and the reference file shows what the rows say. */
static void test_flags_are_shown(void)
{
    struct buf text = {0};
    size_t yes = 0, no = 0;
    config_print_reference(&text);
    buf_append(&text, "", 1);
    for (const char *at = text.data; (at = strstr(at, "\n# Reload: ")) != NULL; at++) {
        yes += strncmp(at, "\n# Reload: yes.\n", 16) == 0;
        no += strncmp(at, "\n# Reload: no.\n", 15) == 0;
    }
    size_t reloadable = 0;
    for (size_t i = 0; i < option_count; i++)
        reloadable += (option_table[i].flags & OPTION_RELOAD) != 0;
    CU_ASSERT_EQUAL(yes, reloadable);
    CU_ASSERT_EQUAL(no, option_count - reloadable);
    buf_fini(&text);
}

static const struct unit_test tests[] = {
    {"nothing_changed", test_nothing_changed},
    {"every_type", test_every_type},
    {"restart_is_put_back", test_restart_is_put_back},
    {"secrets_are_not_shown", test_secrets_are_not_shown},
    {"what_is_not_built_is_not_told", test_what_is_not_built_is_not_told},
    {"a_mode_that_changes", test_a_mode_that_changes},
    {"namespaces_come_and_stay", test_namespaces_come_and_stay},
    {"a_chain_of_reloads", test_a_chain_of_reloads},
    {"too_many_namespaces", test_too_many_namespaces},
    {"flags_are_shown", test_flags_are_shown},
    {0},
};

const struct unit_suite suite_config_change = {"config_change", tests};
