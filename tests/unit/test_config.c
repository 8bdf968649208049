/*
 * test_config.c - sources and their order, every kind of error word for word, namespaces, and the
 * reference file against the table.
 *
 * Files are made in memory (memfd_create) and named /proc/self/fd/N, so nothing is left behind;
 * expected texts write FILE for that name.
 */
#include "unit.h"

#include "base/mem.h"
#include "protocol/config.h"
#include "protocol/config_file.h"
#include "protocol/option_table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define LIST_MAX 8

/* What one loading is given, and what came of it. */
struct loading {
    const char *file; /* its text, or NULL for none */
    size_t file_len;  /* 0: strlen */
    char *environment[LIST_MAX];
    const char *sets[LIST_MAX];
    struct config *config;
    char error[2048];
    char warnings[8192];
};

static int make_file(const char *text, size_t len, char *path, size_t path_size)
{
    int fd = memfd_create("config", 0);
    CU_ASSERT_FATAL(fd >= 0);
    CU_ASSERT_EQUAL_FATAL(write(fd, text, len), (ssize_t)len);
    snprintf(path, path_size, "/proc/self/fd/%d", fd);
    return fd;
}

/* Copies text with every occurrence of path replaced by FILE. */
static void copy_text(const struct buf *text, const char *path, char *out, size_t out_size)
{
    size_t used = 0;
    size_t path_len = strlen(path);
    for (size_t i = 0; i < text->len;) {
        bool is_path = path_len != 0 && text->len - i >= path_len &&
                       memcmp(text->data + i, path, path_len) == 0;
        const char *part = is_path ? "FILE" : text->data + i;
        size_t part_len = is_path ? 4 : 1;
        CU_ASSERT_FATAL(used + part_len < out_size);
        memcpy(out + used, part, part_len);
        used += part_len;
        i += is_path ? path_len : 1;
    }
    out[used] = '\0';
}

static void load(struct loading *l)
{
    char path[64] = "";
    int fd = -1;
    struct buf error = {0};
    struct buf warnings = {0};
    if (l->file != NULL)
        fd =
            make_file(l->file, l->file_len != 0 ? l->file_len : strlen(l->file), path, sizeof path);
    const struct config_source source = {
        .file = fd >= 0 ? path : NULL, .environment = l->environment, .sets = l->sets};
    l->config = config_load(&source, &error, &warnings);
    copy_text(&error, path, l->error, sizeof l->error);
    copy_text(&warnings, path, l->warnings, sizeof l->warnings);
    CU_ASSERT_EQUAL(l->config == NULL, error.len != 0);
    buf_fini(&error);
    buf_fini(&warnings);
    if (fd >= 0)
        close(fd);
}

static void load_good(struct loading *l)
{
    load(l);
    CU_ASSERT_STRING_EQUAL(l->error, "");
    CU_ASSERT_PTR_NOT_NULL_FATAL(l->config);
}

static void check_error(struct loading *l, const char *expected)
{
    load(l);
    if (strcmp(l->error, expected) != 0)
        fprintf(stderr, "\n  expected %s\n       got %s\n", expected, l->error);
    CU_ASSERT_STRING_EQUAL(l->error, expected);
    config_unref(l->config);
}

static void check_file_error(const char *file, const char *expected)
{
    struct loading l = {.file = file};
    check_error(&l, expected);
}

static void check_set_error(const char *set, const char *expected)
{
    struct loading l = {.sets = {set}};
    check_error(&l, expected);
}

static void check_variable_error(const char *variable, const char *expected)
{
    char *copy = mem_strdup(variable);
    struct loading l = {.environment = {copy}};
    check_error(&l, expected);
    free(copy);
}

static const struct config_namespace *find_namespace(const struct config *c, const char *name)
{
    const struct config_namespace *found = config_namespace(c, slice_str(name));
    CU_ASSERT_PTR_NOT_NULL_FATAL(found);
    return found;
}

/* --- defaults ------------------------------------------------------------------------------- */

static void test_defaults(void)
{
    struct loading l = {0};
    load_good(&l);
    const struct config *c = l.config;
    CU_ASSERT_STRING_EQUAL(l.warnings, "");
    CU_ASSERT_STRING_EQUAL(c->node.id, "");
    CU_ASSERT_TRUE(c->node.workers >= 1 && c->node.workers <= 64);
    CU_ASSERT_EQUAL(c->node.log_level, LOG_INFO);
    CU_ASSERT_EQUAL(c->node.log_format, LOG_TEXT);
    CU_ASSERT_FALSE(c->node.echo);
    CU_ASSERT_EQUAL(c->node.ping_ms, 25000);
    CU_ASSERT_EQUAL(c->node.heartbeat_ms, 15000);
    CU_ASSERT_EQUAL(c->node.pace_ms, 2);
    CU_ASSERT_STRING_EQUAL(c->listen.address, "127.0.0.1:8080");
    CU_ASSERT_STRING_EQUAL(c->listen.origins, "");
    CU_ASSERT_EQUAL(c->listen.handshake_ms, 10000);
    CU_ASSERT_EQUAL(c->listen.deflate_min_bytes, 200);
    CU_ASSERT_EQUAL(c->listen.drain_s, 30);
    CU_ASSERT_EQUAL(c->listen.drain_grace_s, 2);
    CU_ASSERT_STRING_EQUAL(c->ops.address, "127.0.0.1:9180");
    CU_ASSERT_STRING_EQUAL(c->redis.url, "redis://127.0.0.1:6379/0");
    CU_ASSERT_STRING_EQUAL(c->redis.prefix, "tc:");
    CU_ASSERT_EQUAL(c->redis.linger_ms, 5000);
    CU_ASSERT_EQUAL(c->redis.canary_ms, 1000);
    CU_ASSERT_EQUAL(c->limits.message_bytes, 65536);
    CU_ASSERT_EQUAL(c->limits.payload_bytes, 1048576);
    CU_ASSERT_EQUAL(c->limits.commands_per_s, 50);
    CU_ASSERT_EQUAL(c->limits.channels_per_client, 3000);
    CU_ASSERT_EQUAL(c->limits.soft_bytes, 262144);
    CU_ASSERT_EQUAL(c->limits.hard_bytes, 4194304);
    CU_ASSERT_EQUAL(c->limits.head_bytes, 16384);
    CU_ASSERT_EQUAL(c->limits.connections_per_address, 0);
    CU_ASSERT_EQUAL(c->auth.mode, AUTH_OFF);
    CU_ASSERT_STRING_EQUAL(c->admin.secret, "");
    CU_ASSERT_EQUAL(c->namespace_count, 4);
    config_unref(l.config);
}

static void test_default_namespaces(void)
{
    static const char *const of_mode_all[] = {"trade", "chat", "alert"};
    struct loading l = {0};
    load_good(&l);
    const struct config_namespace *quote = find_namespace(l.config, "quote");
    CU_ASSERT_EQUAL(quote->mode, MODE_LATEST);
    CU_ASSERT_TRUE(quote->snapshot && quote->allow_latest && !quote->allow_all);
    CU_ASSERT_EQUAL(quote->publish, PUBLISH_NO);
    CU_ASSERT_EQUAL(quote->access, ACCESS_ANYONE);
    for (size_t i = 0; i < 3; i++) {
        const struct config_namespace *ns = find_namespace(l.config, of_mode_all[i]);
        CU_ASSERT_EQUAL(ns->mode, MODE_ALL);
        CU_ASSERT_TRUE(!ns->snapshot && !ns->allow_latest && ns->allow_all);
    }
    CU_ASSERT_PTR_NULL(config_namespace(l.config, slice_str("quot")));
    CU_ASSERT_PTR_NULL(config_namespace(l.config, slice_str("")));
    config_unref(l.config);
}

static void test_descriptor_limit(void)
{
    struct rlimit old;
    struct loading l = {0};
    CU_ASSERT_EQUAL_FATAL(getrlimit(RLIMIT_NOFILE, &old), 0);
    struct rlimit small = {.rlim_cur = 250, .rlim_max = old.rlim_max};
    setrlimit(RLIMIT_NOFILE, &small);
    load_good(&l);
    CU_ASSERT_EQUAL(l.config->listen.max_connections, 50);
    config_unref(l.config);
    struct loading more = {.sets = {"listen.max_connections=51"}};
    load_good(&more);
    CU_ASSERT_STRING_EQUAL(more.warnings,
                           "--set listen.max_connections=51: listen.max_connections: 51 is more "
                           "than auto, 50; raise the limit of file descriptors\n");
    config_unref(more.config);
    more.sets[0] = "listen.max_connections=50";
    load_good(&more);
    CU_ASSERT_STRING_EQUAL(more.warnings, "");
    config_unref(more.config);
    small.rlim_cur = 100;
    setrlimit(RLIMIT_NOFILE, &small);
    load_good(&l);
    CU_ASSERT_EQUAL(l.config->listen.max_connections, 1);
    config_unref(l.config);
    setrlimit(RLIMIT_NOFILE, &old);
}

/* --- sources -------------------------------------------------------------------------------- */

static void test_precedence(void)
{
    char pace[] = "TICKCAST_NODE_PACE_MS=20";
    char ping[] = "TICKCAST_NODE_PING_MS=222";
    struct loading l = {
        .file = "[node]\npace_ms = 10\nping_ms = 111\nheartbeat_ms = 1111\n",
        .environment = {pace, ping},
        .sets = {"node.pace_ms=29", "node.pace_ms = 30 "},
    };
    load_good(&l);
    CU_ASSERT_EQUAL(l.config->node.heartbeat_ms, 1111);
    CU_ASSERT_EQUAL(l.config->node.ping_ms, 222);
    CU_ASSERT_EQUAL(l.config->node.pace_ms, 30);
    config_unref(l.config);
}

/* A fault in the file is a fault even where another source has the last word. */
static void test_overridden_value_is_checked(void)
{
    struct loading l = {.file = "[node]\npace_ms = x\n", .sets = {"node.pace_ms=1"}};
    check_error(&l, "FILE:2: node.pace_ms: \"x\" is not a whole number from 0 to 1000");
}

static void test_every_type(void)
{
    struct loading l = {
        .file = "\xef\xbb\xbf; comment\n"
                "  # comment = too\r\n"
                "[ node ]\n"
                "\tid\t=\tn-1.a_B \r\n"
                "echo=yes\n"
                "log_level=debug\n"
                "log_format = json\n"
                "ping_ms = 0\n"
                "workers = auto\n"
                "\n"
                "[redis]\n"
                "url = redis://:a#b;c=d@h:1\n"
                "prefix =\n"
                "[listen]\n"
                "origins = https://a.example https://b.example\n"
                "max_connections=7\n"
                "[ops]\n"
                "address = [::1]:0\n"
                "[node]\n"
                "pace_ms = 1000",
    };
    load_good(&l);
    const struct config *c = l.config;
    CU_ASSERT_STRING_EQUAL(l.warnings, "");
    CU_ASSERT_STRING_EQUAL(c->node.id, "n-1.a_B");
    CU_ASSERT_TRUE(c->node.echo);
    CU_ASSERT_EQUAL(c->node.log_level, LOG_DEBUG);
    CU_ASSERT_EQUAL(c->node.log_format, LOG_JSON);
    CU_ASSERT_EQUAL(c->node.ping_ms, 0);
    CU_ASSERT_EQUAL(c->node.pace_ms, 1000);
    CU_ASSERT_STRING_EQUAL(c->redis.url, "redis://:a#b;c=d@h:1");
    CU_ASSERT_STRING_EQUAL(c->redis.prefix, "");
    CU_ASSERT_STRING_EQUAL(c->listen.origins, "https://a.example https://b.example");
    CU_ASSERT_EQUAL(c->listen.max_connections, 7);
    CU_ASSERT_STRING_EQUAL(c->ops.address, "[::1]:0");
    config_unref(l.config);
}

/* --- namespaces ----------------------------------------------------------------------------- */

static void test_file_replaces_namespaces(void)
{
    struct loading l = {.file = "[namespace a]\n[namespace b.c-D_1]\nmode=latest\n"};
    load_good(&l);
    CU_ASSERT_EQUAL(l.config->namespace_count, 2);
    CU_ASSERT_EQUAL(find_namespace(l.config, "a")->mode, MODE_ALL);
    CU_ASSERT_EQUAL(find_namespace(l.config, "b.c-D_1")->mode, MODE_LATEST);
    CU_ASSERT_PTR_NULL(config_namespace(l.config, slice_str("quote")));
    config_unref(l.config);

    struct loading none = {.file = "[node]\nid=x\n"};
    load_good(&none);
    CU_ASSERT_EQUAL(none.config->namespace_count, 4);
    config_unref(none.config);
}

static void test_others_add_namespaces(void)
{
    char user[] = "TICKCAST_NAMESPACE_USER_ACCESS=own";
    char ttl[] = "TICKCAST_NAMESPACE_MY_TRADE_HISTORY_TTL_S=60";
    struct loading l = {
        .environment = {user, ttl},
        .sets = {"namespace.trade.history=5000", "namespace.a.b.mode=latest"},
    };
    load_good(&l);
    CU_ASSERT_EQUAL(l.config->namespace_count, 7);
    CU_ASSERT_EQUAL(find_namespace(l.config, "user")->access, ACCESS_OWN);
    CU_ASSERT_EQUAL(find_namespace(l.config, "my_trade")->history_ttl_s, 60);
    CU_ASSERT_EQUAL(find_namespace(l.config, "trade")->history, 5000);
    CU_ASSERT_EQUAL(find_namespace(l.config, "a.b")->mode, MODE_LATEST);
    CU_ASSERT_EQUAL(find_namespace(l.config, "quote")->mode, MODE_LATEST);
    config_unref(l.config);
}

static void test_modes_and_snapshot(void)
{
    struct loading l = {
        .file = "[namespace both]\nmode=latest\nmodes = all\n"
                "[namespace list]\nmodes = latest, all\n"
                "[namespace own]\nmodes = auto\nmode = latest\nsnapshot = no\n"
                "[namespace shown]\nmode = all\nsnapshot = yes\n",
        .sets = {"namespace.shown.snapshot=auto", "namespace.list.mode=latest"},
    };
    load_good(&l);
    const struct config_namespace *both = find_namespace(l.config, "both");
    const struct config_namespace *list = find_namespace(l.config, "list");
    const struct config_namespace *own = find_namespace(l.config, "own");
    CU_ASSERT_TRUE(both->allow_latest && both->allow_all && both->snapshot);
    CU_ASSERT_TRUE(list->allow_latest && list->allow_all && list->snapshot);
    CU_ASSERT_TRUE(own->allow_latest && !own->allow_all && !own->snapshot);
    CU_ASSERT_FALSE(find_namespace(l.config, "shown")->snapshot);
    config_unref(l.config);
}

static void test_namespace_names(void)
{
    static const char rule[] = "a name is 1 to 64 bytes of 0-9 A-Z a-z '.' '_' and '-'";
    static const char reserved[] =
        "the name is reserved, as are admin, canary, node, nodes and session";
    static const char *const names[] = {"admin", "canary", "node", "nodes"};
    char file[200];
    char expected[300];
    for (size_t i = 0; i < 4; i++) {
        snprintf(file, sizeof file, "\n[namespace %s]\n", names[i]);
        snprintf(expected, sizeof expected, "FILE:2: [namespace %s]: %s", names[i], reserved);
        check_file_error(file, expected);
    }
    snprintf(expected, sizeof expected, "FILE:1: [namespace a:b]: %s", rule);
    check_file_error("[namespace a:b]\n", expected);
    snprintf(expected, sizeof expected, "FILE:1: [namespace a b]: %s", rule);
    check_file_error("[namespace a b]\n", expected);
    snprintf(expected, sizeof expected, "FILE:1: [namespace ]: %s", rule);
    check_file_error("[namespace]\n", expected);
    snprintf(expected, sizeof expected, "--set namespace..mode=all: [namespace ]: %s", rule);
    check_set_error("namespace..mode=all", expected);

    char name[66];
    memset(name, 'n', 65);
    name[65] = '\0';
    snprintf(file, sizeof file, "[namespace %s]", name);
    snprintf(expected, sizeof expected, "FILE:1: [namespace %s]: %s", name, rule);
    check_file_error(file, expected);
    snprintf(file, sizeof file, "[namespace %s]", name + 1);
    struct loading l = {.file = file};
    load_good(&l);
    config_unref(l.config);
}

static void test_too_many_namespaces(void)
{
    struct buf text = {0};
    for (int i = 0; i < CONFIG_NAMESPACES_MAX; i++)
        buf_printf(&text, "[namespace n%d]\n", i);
    struct loading l = {.file = text.data, .file_len = text.len};
    load_good(&l);
    CU_ASSERT_EQUAL(l.config->namespace_count, CONFIG_NAMESPACES_MAX);
    config_unref(l.config);
    l.sets[0] = "namespace.more.mode=all";
    check_error(&l, "--set namespace.more.mode=all: [namespace more]: more than 256 namespaces");
    buf_fini(&text);
}

/* --- errors --------------------------------------------------------------------------------- */

#define NODE_KEYS                                                                                 \
    "id, advertise, workers, log_level, log_format, log_lines_per_s, access_log, echo, ping_ms, " \
    "heartbeat_ms, pace_ms"
#define NAMESPACE_KEYS                                                                     \
    "mode, modes, snapshot, history, history_ttl_s, mirror, batch_ms, max_rate, publish, " \
    "access, delay_s"
#define SECTIONS "node, listen, ops, redis, limits, auth, admin, quality, namespace NAME"

static void test_file_errors(void)
{
    check_file_error("[listen]\n\n# x\ndrain_s = abc\n",
                     "FILE:4: listen.drain_s: \"abc\" is not a whole number from 0 to 3600");
    check_file_error("[node]\nworker = 2\n",
                     "FILE:2: node.worker: unknown option; [node] has " NODE_KEYS);
    check_file_error(
        "[namespace t]\nhistry = 2\n",
        "FILE:2: namespace.t.histry: unknown option; [namespace NAME] has " NAMESPACE_KEYS);
    check_file_error("[nodes]\n", "FILE:1: [nodes]: unknown section; there are " SECTIONS);
    check_file_error("[node n1]\n", "FILE:1: [node]: takes no name");
    check_file_error("id = x\n", "FILE:1: id: stands before the first [section]");
    check_file_error("[node]\nid\n", "FILE:2: \"id\" is not key = value, [section] or a comment");
    check_file_error("[redis]\nurl redis://:secret@h\n",
                     "FILE:2: \"url\" is not key = value, [section] or a comment");
    check_file_error("[node]\n= x\n", "FILE:2: \"=\" is not key = value, [section] or a comment");
    check_file_error("[node\n", "FILE:1: \"[node\" is not [section] or [namespace NAME]");
    check_file_error("[]\n", "FILE:1: \"[]\" is not [section] or [namespace NAME]");
    check_file_error("[node]\nid=a\nid=b\n", "FILE:3: node.id: is set twice, first at FILE:2");
    check_file_error("[node]\nid=a\n[ops]\n[node]\nid=a\n",
                     "FILE:5: node.id: is set twice, first at FILE:2");
    check_file_error("[namespace a]\nmirror=no\n[namespace a]\nmirror=no\n",
                     "FILE:4: namespace.a.mirror: is set twice, first at FILE:2");
    check_file_error("[node]\nid=\xff\n", "FILE:2: \"id=\" is not UTF-8");
}

static void test_value_errors(void)
{
    static const struct {
        const char *set;
        const char *error; /* what follows "--set <set>: " */
    } cases[] = {
        {"node.echo=true", "node.echo: \"true\" is not yes or no"},
        {"node.log_level=INFO", "node.log_level: \"INFO\" is not debug, info, warn or error"},
        {"node.log_format=", "node.log_format: \"\" is not text or json"},
        {"node.workers=0", "node.workers: \"0\" is not a whole number from 1 to 64, or auto"},
        {"node.workers=65", "node.workers: \"65\" is not a whole number from 1 to 64, or auto"},
        {"node.ping_ms=99", "node.ping_ms: \"99\" is not 0 or a whole number from 100 to 3600000"},
        {"node.pace_ms=auto", "node.pace_ms: \"auto\" is not a whole number from 0 to 1000"},
        {"node.pace_ms=-1", "node.pace_ms: \"-1\" is not a whole number from 0 to 1000"},
        {"node.pace_ms=+1", "node.pace_ms: \"+1\" is not a whole number from 0 to 1000"},
        {"node.pace_ms=1.5", "node.pace_ms: \"1.5\" is not a whole number from 0 to 1000"},
        {"node.pace_ms=", "node.pace_ms: \"\" is not a whole number from 0 to 1000"},
        {"node.pace_ms=18446744073709551617",
         "node.pace_ms: \"18446744073709551617\" is not a whole number from 0 to 1000"},
        {"node.id=a b", "node.id: \"a b\" may hold only 0-9 A-Z a-z '.' '_' and '-'"},
        {"node.id=-a", "node.id: \"-a\" may not begin with '.' or '-'"},
        {"node.id=a\nready", "node.id: \"a?ready\" holds a control character"},
        {"node.advertise=h",
         "node.advertise: \"h\" is not host:port or [v6]:port with a port from 1 to 65535"},
        {"listen.address=:80",
         "listen.address: \":80\" is not host:port or [v6]:port with a port from 0 to 65535"},
        {"redis.prefix=a b", "redis.prefix: \"a b\" may hold only printable ASCII without space"},
        {"redis.canary_ms=99", "redis.canary_ms: \"99\" is not a whole number from 100 to 60000"},
        {"limits.head_bytes=255",
         "limits.head_bytes: \"255\" is not a whole number from 256 to 16777216"},
        {"limits.hard_bytes=0",
         "limits.hard_bytes: \"0\" is not a whole number from 1 to 1073741824"},
        {"limits.message_bytes=1073741825",
         "limits.message_bytes: \"1073741825\" is not a whole number from 1 to 1073741824"},
        {"namespace.a.modes=none",
         "namespace.a.modes: \"none\" is not one or more of latest and all, or auto"},
        {"namespace.a.modes=,",
         "namespace.a.modes: \",\" is not one or more of latest and all, or auto"},
        {"namespace.a.snapshot=1", "namespace.a.snapshot: \"1\" is not yes or no, or auto"},
        {"namespace.a.b.nodes=1",
         "namespace.a.b.nodes: unknown option; [namespace NAME] has " NAMESPACE_KEYS},
        {"node.worker=2", "node.worker: unknown option; [node] has " NODE_KEYS},
        {"nod.worker=2", "[nod]: unknown section; there are " SECTIONS},
        {"node.workers", "is not section.key=value or namespace.NAME.key=value"},
        {"workers=2", "is not section.key=value or namespace.NAME.key=value"},
        {"namespace.mode=all", "is not section.key=value or namespace.NAME.key=value"},
        {"", "is not section.key=value or namespace.NAME.key=value"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char expected[512];
        snprintf(expected, sizeof expected, "--set %s: %s", cases[i].set, cases[i].error);
        char *newline = strchr(expected, '\n');
        if (newline != NULL)
            *newline = '?';
        check_set_error(cases[i].set, expected);
    }
}

static void test_variable_errors(void)
{
    check_variable_error("TICKCAST_NODE_WORKERS=x",
                         "environment TICKCAST_NODE_WORKERS: node.workers: \"x\" is not a whole "
                         "number from 1 to 64, or auto");
    check_variable_error("TICKCAST_NODE_WORKER=1",
                         "environment TICKCAST_NODE_WORKER: node.worker: unknown option; [node] "
                         "has " NODE_KEYS);
    check_variable_error("TICKCAST_NAMESPACE_TRADE_HISTRY=1",
                         "environment TICKCAST_NAMESPACE_TRADE_HISTRY: unknown option; "
                         "[namespace NAME] has " NAMESPACE_KEYS);
    check_variable_error("TICKCAST_NAMESPACE_NODES_MODE=all",
                         "environment TICKCAST_NAMESPACE_NODES_MODE: [namespace nodes]: the name "
                         "is reserved, as are admin, canary, node, nodes and session");
}

static void test_lengths(void)
{
    char set[100] = "redis.prefix=";
    size_t start = strlen(set);
    memset(set + start, 'p', 65);
    char expected[300];
    snprintf(expected, sizeof expected, "--set %s: redis.prefix: \"%s\" is longer than 64 bytes",
             set, set + start);
    check_set_error(set, expected);
    set[start + 64] = '\0';
    struct loading l = {.sets = {set}};
    load_good(&l);
    CU_ASSERT_EQUAL(strlen(l.config->redis.prefix), 64);
    config_unref(l.config);

    /* What is shown of a value is bounded, and cut between characters. */
    char file[1000] = "[listen]\ndrain_s = a";
    char shown[300] = "FILE:2: listen.drain_s: \"a";
    for (int i = 0; i < 300; i++)
        strcat(file, "\xc3\xa9");
    for (int i = 0; i < 99; i++)
        strcat(shown, "\xc3\xa9");
    strcat(shown, "...\" is not a whole number from 0 to 3600");
    check_file_error(file, shown);
}

static void test_unreadable_files(void)
{
    static const struct {
        const char *path;
        const char *error;
    } cases[] = {
        {"/nonexistent/x.conf", "/nonexistent/x.conf: cannot be opened: No such file or directory"},
        {"/", "/: cannot be read: Is a directory"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct config_source source = {.file = cases[i].path};
        struct buf error = {0};
        struct buf warnings = {0};
        CU_ASSERT_PTR_NULL(config_load(&source, &error, &warnings));
        CU_ASSERT_TRUE(slice_is(buf_slice(&error), cases[i].error));
        buf_fini(&error);
        buf_fini(&warnings);
    }
}

static void test_file_bounds(void)
{
    size_t most = CONFIG_FILE_BYTES_MAX;
    char *text = mem_alloc(most + 1);
    memset(text, '\n', most + 1);
    struct loading l = {.file = text, .file_len = most};
    load_good(&l);
    config_unref(l.config);
    l.file_len = most + 1;
    check_error(&l, "FILE: is larger than 1048576 bytes");
    free(text);

    static const char nul[] = "[node]\nid = a\0b\n";
    struct loading holed = {.file = nul, .file_len = sizeof nul - 1};
    check_error(&holed, "FILE:2: \"id\" holds a NUL byte");
}

static void test_cross_checks(void)
{
    struct loading l = {.file = "[limits]\nhard_bytes=100000\nsoft_bytes=100001\n"};
    check_error(&l, "FILE:3: limits.soft_bytes: 100001 is more than limits.hard_bytes, 100000");
    struct loading follows = {.sets = {"limits.hard_bytes=65536"}};
    load_good(&follows);
    CU_ASSERT_EQUAL(follows.config->limits.soft_bytes, 65536);
    CU_ASSERT_STRING_EQUAL(follows.warnings, "");
    config_unref(follows.config);
}

static void test_ops_is_loopback(void)
{
    static const char *const good[] = {"127.0.0.1:0", "127.8.9.1:9180", "[::1]:1", "localhost:1"};
    static const char *const bad[] = {"0.0.0.0:1", "[::]:1", "10.0.0.1:1", "example.com:1",
                                      "127.evil.example:1"};
    char text[100];
    char expected[500];
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        snprintf(text, sizeof text, "ops.address=%s", good[i]);
        struct loading l = {.sets = {text}};
        load_good(&l);
        CU_ASSERT_STRING_EQUAL(l.config->ops.address, good[i]);
        config_unref(l.config);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(text, sizeof text, "ops.address=%s", bad[i]);
        snprintf(expected, sizeof expected,
                 "--set %s: ops.address: \"%s\" is not a loopback address, and without API keys, "
                 "which are not built yet, only 127.0.0.0/8, [::1] and localhost are allowed",
                 text, bad[i]);
        struct loading l = {.sets = {text, "ops.keys=k"}};
        check_error(&l, expected);
    }
}

/* Passwords reach neither errors nor warnings. */
static void test_secrets_are_not_shown(void)
{
    check_file_error("[redis]\nurl = redis://hunter2@h\n",
                     "FILE:2: redis.url: before @ stands user:password, or :password alone");
    check_file_error("[redis]\nurl=redis://:hunter2\xff@h\n", "FILE:2: \"url=\" is not UTF-8");
    check_file_error("[redis]\nurl:redis://:hunter2@h\n",
                     "FILE:2: \"url:\" is not key = value, [section] or a comment");
    check_set_error("redis.url=redis://u:hunter2@h:x",
                    "--set redis.url: redis.url: the port is not a number from 1 to 65535");
    check_set_error("redis.url=rediss://u:hunter2@h",
                    "--set redis.url: redis.url: rediss:// (TLS to Redis) is not built yet");
    check_set_error("admin.secret=hun\1ter2",
                    "--set admin.secret: admin.secret: holds a control character");
    struct loading l = {.sets = {"admin.secret=hunter2"}};
    load_good(&l);
    CU_ASSERT_STRING_EQUAL(
        l.warnings, "--set admin.secret: admin.secret: is not built yet and has no effect\n");
    config_unref(l.config);
}

/* --- warnings ------------------------------------------------------------------------------- */

static void test_warnings(void)
{
    char host[] = "TICKCAST_SERVICE_HOST=10.0.0.1";
    char port[] = "TICKCAST_PORT=tcp://10.0.0.1:8080";
    char redis[] = "TICKCAST_REDIS_SERVICE_HOST=10.0.0.2";
    char tcp[] = "TICKCAST_REDIS_PORT_6379_TCP=tcp://10.0.0.2:6379";
    char other[] = "TICKCASTLE_NODE_ID=x";
    struct loading l = {
        .file = "[auth]\nmode = required\n[namespace n]\ndelay_s = 1\n",
        .environment = {host, port, redis, tcp, other},
        .sets = {"listen.tls_cert=x"},
    };
    load_good(&l);
    CU_ASSERT_STRING_EQUAL(
        l.warnings,
        "environment TICKCAST_SERVICE_HOST: ignored, it names no section; there are " SECTIONS "\n"
        "environment TICKCAST_PORT: ignored, it names no section; there are " SECTIONS "\n"
        "environment TICKCAST_REDIS_SERVICE_HOST: ignored, it describes a service, not an option\n"
        "environment TICKCAST_REDIS_PORT_6379_TCP: ignored, it describes a service, not an option\n"
        "--set listen.tls_cert=x: listen.tls_cert: is not built yet and has no effect\n"
        "FILE:2: auth.mode: is not built yet and has no effect\n"
        "FILE:4: namespace.n.delay_s: is not built yet and has no effect\n");
    CU_ASSERT_EQUAL(l.config->auth.mode, AUTH_REQUIRED);
    config_unref(l.config);
}

/* Names that look like a Kubernetes service, but are a namespace's: its options are taken, and a
 * slip in one is still an error. */
static void test_variables_of_namespaces_named_like_services(void)
{
    char portfolio[] = "TICKCAST_NAMESPACE_PORTFOLIO_MODE=latest";
    char port[] = "TICKCAST_NAMESPACE_PORT_MODE=latest";
    char desk[] = "TICKCAST_NAMESPACE_SERVICE_DESK_MODE=latest";
    char host[] = "TICKCAST_NAMESPACE_SERVICE_HOST=10.0.0.1";
    struct loading l = {.environment = {portfolio, port, desk, host}};
    static const char *const names[] = {"portfolio", "port", "service_desk"};
    load_good(&l);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const struct config_namespace *ns = config_namespace(l.config, slice_str(names[i]));
        CU_ASSERT_PTR_NOT_NULL_FATAL(ns);
        CU_ASSERT_EQUAL(ns->mode, MODE_LATEST);
    }
    CU_ASSERT_STRING_EQUAL(l.warnings, "environment TICKCAST_NAMESPACE_SERVICE_HOST: ignored, it "
                                       "describes a service, not an option\n");
    config_unref(l.config);
    check_variable_error("TICKCAST_NAMESPACE_PORTFOLIO_MODUS=all",
                         "environment TICKCAST_NAMESPACE_PORTFOLIO_MODUS: unknown option; "
                         "[namespace NAME] has " NAMESPACE_KEYS);
}

/* --- the reference -------------------------------------------------------------------------- */

static void check_same_as_defaults(const struct config *c)
{
    struct loading l = {0};
    load_good(&l);
    const struct config *d = l.config;
    for (size_t i = 0; i < option_count; i++) {
        const struct option *o = &option_table[i];
        const char *ours = (const char *)c + o->offset;
        const char *theirs = (const char *)d + o->offset;
        if (strcmp(o->section, OPTION_NAMESPACE) == 0)
            continue;
        if (o->type == OPTION_TEXT)
            CU_ASSERT_STRING_EQUAL(*(char *const *)ours, *(char *const *)theirs);
        if (o->type == OPTION_INT)
            CU_ASSERT_EQUAL(*(const int64_t *)ours, *(const int64_t *)theirs);
        if (o->type == OPTION_WORD)
            CU_ASSERT_EQUAL(*(const int *)ours, *(const int *)theirs);
        if (o->type == OPTION_BOOL)
            CU_ASSERT_EQUAL(*(const bool *)ours, *(const bool *)theirs);
    }
    CU_ASSERT_EQUAL_FATAL(c->namespace_count, d->namespace_count);
    for (size_t i = 0; i < c->namespace_count; i++) {
        struct config_namespace ours = c->namespaces[i];
        struct config_namespace theirs = d->namespaces[i];
        CU_ASSERT_STRING_EQUAL(ours.name, theirs.name);
        CU_ASSERT_EQUAL(ours.mode, theirs.mode);
        CU_ASSERT_EQUAL(ours.snapshot, theirs.snapshot);
        CU_ASSERT_EQUAL(ours.allow_latest, theirs.allow_latest);
        CU_ASSERT_EQUAL(ours.allow_all, theirs.allow_all);
        CU_ASSERT_EQUAL(ours.access, theirs.access);
        CU_ASSERT_EQUAL(ours.delay_s, theirs.delay_s);
    }
    config_unref(l.config);
}

static void test_reference_is_the_defaults(void)
{
    struct buf text = {0};
    config_print_reference(&text);
    struct loading l = {.file = text.data, .file_len = text.len};
    load_good(&l);
    CU_ASSERT_STRING_EQUAL(l.warnings, "");
    check_same_as_defaults(l.config);
    config_unref(l.config);
    buf_fini(&text);
}

/* Each `#key = value` loses its '#': still the defaults, and every option is there. */
static void test_reference_uncommented(void)
{
    struct buf text = {0};
    struct buf bare = {0};
    size_t found = 0;
    config_print_reference(&text);
    for (size_t i = 0; i < text.len; i++) {
        bool at_start = i == 0 || text.data[i - 1] == '\n';
        bool is_option =
            at_start && text.data[i] == '#' && text.data[i + 1] != ' ' && text.data[i + 1] != '\n';
        found += is_option;
        if (!is_option)
            buf_append(&bare, &text.data[i], 1);
    }
    CU_ASSERT_EQUAL(found, option_count - 1); /* [namespace quote] mode is not commented */
    struct loading l = {.file = bare.data, .file_len = bare.len};
    load_good(&l);
    check_same_as_defaults(l.config);
    config_unref(l.config);
    buf_fini(&text);
    buf_fini(&bare);
}

static void test_table_is_sound(void)
{
    for (size_t i = 0; i < option_count; i++) {
        const struct option *o = &option_table[i];
        CU_ASSERT_PTR_EQUAL(option_find(slice_str(o->section), slice_str(o->key)), o);
        CU_ASSERT_TRUE(option_section_is_known(slice_str(o->section)));
        CU_ASSERT_TRUE(o->type != OPTION_INT || o->max > o->min);
        CU_ASSERT_TRUE(o->type != OPTION_TEXT || o->max > 0);
        CU_ASSERT_EQUAL(o->words != NULL, o->type == OPTION_WORD || o->type == OPTION_MODES);
        CU_ASSERT_PTR_NOT_NULL(o->help);
    }
}

static void test_references_are_counted(void)
{
    struct loading l = {0};
    load_good(&l);
    struct config *second = config_ref(l.config);
    CU_ASSERT_PTR_EQUAL(second, l.config);
    config_unref(l.config);
    CU_ASSERT_STRING_EQUAL(second->redis.prefix, "tc:");
    config_unref(second);
    config_unref(NULL);
}

static const struct unit_test tests[] = {
    {"defaults", test_defaults},
    {"default_namespaces", test_default_namespaces},
    {"descriptor_limit", test_descriptor_limit},
    {"precedence", test_precedence},
    {"overridden_value_is_checked", test_overridden_value_is_checked},
    {"every_type", test_every_type},
    {"file_replaces_namespaces", test_file_replaces_namespaces},
    {"others_add_namespaces", test_others_add_namespaces},
    {"modes_and_snapshot", test_modes_and_snapshot},
    {"namespace_names", test_namespace_names},
    {"too_many_namespaces", test_too_many_namespaces},
    {"file_errors", test_file_errors},
    {"value_errors", test_value_errors},
    {"variable_errors", test_variable_errors},
    {"lengths", test_lengths},
    {"unreadable_files", test_unreadable_files},
    {"file_bounds", test_file_bounds},
    {"cross_checks", test_cross_checks},
    {"ops_is_loopback", test_ops_is_loopback},
    {"secrets_are_not_shown", test_secrets_are_not_shown},
    {"warnings", test_warnings},
    {"variables of namespaces named like services",
     test_variables_of_namespaces_named_like_services},
    {"reference_is_the_defaults", test_reference_is_the_defaults},
    {"reference_uncommented", test_reference_uncommented},
    {"table_is_sound", test_table_is_sound},
    {"references_are_counted", test_references_are_counted},
    {0},
};

const struct unit_suite suite_config = {"config", tests};
