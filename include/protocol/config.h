/*
 * config.h - every option of a node: one table, one immutable snapshot.
 *
 * Sources in rising order: built-in defaults, the INI file, the environment (TICKCAST_SECTION_KEY),
 * --set section.key=value. The option table (option_table.h) is the only place that knows an
 * option's name, type, range, default and description; conf/tickcast.conf and docs are checked
 * against it. A snapshot never changes once it is built, and is shared by all threads by reference
 * count.
 */
#ifndef TICKCAST_PROTOCOL_CONFIG_H
#define TICKCAST_PROTOCOL_CONFIG_H

#include "base/buf.h"
#include "base/log.h"
#include "base/slice.h"
#include "protocol/command.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define CONFIG_NAMESPACES_MAX 256

enum auth_mode { AUTH_OFF, AUTH_OPTIONAL, AUTH_REQUIRED };
enum namespace_publish { PUBLISH_NO, PUBLISH_USER, PUBLISH_ANYONE };
enum namespace_access { ACCESS_ANYONE, ACCESS_USER, ACCESS_OWN };

/* One `[namespace NAME]`. */
struct config_namespace {
    char *name;
    enum delivery_mode mode;
    bool allow_latest; /* `modes`: what a client may choose; default: the namespace's own mode */
    bool allow_all;
    bool snapshot;   /* default: yes in latest, no in all */
    int64_t history; /* entries */
    int64_t history_ttl_s;
    bool mirror;
    int64_t batch_ms;
    int64_t max_rate; /* updates per second per channel; 0 = no limit */
    enum namespace_publish publish;
    enum namespace_access access;
    int64_t delay_s;
};

struct config {
    atomic_uint refs;
    struct {
        char *id; /* "" until the listener is bound: then <host name>-<port> */
        char *advertise;
        int64_t workers; /* default: the cores this process may use */
        enum log_level log_level;
        enum log_format log_format;
        int64_t log_lines_per_s; /* of each kind that peers cause (base/log_bound.h); 0: no bound */
        bool access_log;         /* lines about single clients at info, else at debug */
        bool echo;
        int64_t ping_ms;
        int64_t heartbeat_ms;
        int64_t pace_ms;
    } node;
    struct {
        char *address;
        int64_t max_connections; /* default: descriptor limit less 200 */
        char *origins;           /* space-separated; "": the page's own host; "*": any */
        int64_t handshake_ms;    /* for a whole request head to arrive; default 10000 */
        int64_t deflate_min_bytes;
        char *tls_cert;
        char *tls_key;
        char *trusted_proxies;
        int64_t drain_s;
        int64_t drain_grace_s;
        int64_t session_grace_s; /* 0: no sessions */
    } listen;
    struct {
        char *address;
        char *keys;
    } ops;
    struct {
        char *url;
        char *prefix;
        int64_t linger_ms;
        int64_t canary_ms;
        char *tls_ca;
    } redis;
    struct {
        int64_t message_bytes;
        int64_t payload_bytes;
        int64_t commands_per_s;
        int64_t channels_per_client;
        int64_t soft_bytes;
        int64_t hard_bytes;
        int64_t soft_age_ms;
        int64_t hard_age_ms;
        int64_t unsent_bytes; /* in the kernel, per client; 0: as many as it likes */
        int64_t head_bytes;
        int64_t mirrored_channels;
        int64_t connections_per_address;
        int64_t connections_per_user;
        int64_t accepts_per_s;
    } limits;
    struct {
        enum auth_mode mode;
        char *keys;
        char *issuer;
        char *audience;
        int64_t leeway_s;
        int64_t timeout_ms;
    } auth;
    struct {
        char *secret;
    } admin;
    struct {
        int64_t lost_percent;
        int64_t rtt_deviation_ms;
        int64_t short_lived_per_hour;
        int64_t short_lived_ms; /* a connection that ends sooner is short-lived */
        int64_t min_pings;
        int64_t window_ms;
        int64_t short_lived_window_ms;
    } quality;
    struct config_namespace *namespaces;
    size_t namespace_count;
};

/* The three sources above the defaults. */
struct config_source {
    const char *file;        /* path, or NULL */
    char **environment;      /* as environ, or NULL */
    const char *const *sets; /* "section.key=value", NULL-terminated, or NULL */
};

/*
 * Builds a snapshot. Returns owned with one reference, or NULL with one line for people in error
 * that names the source (file:line, variable or --set), the key and what is allowed. Options that
 * are accepted but not built yet, when set, and TICKCAST_ variables of no known section, are
 * reported in warnings, one per line.
 */
struct config *config_load(const struct config_source *source, struct buf *error,
                           struct buf *warnings);

struct config *config_ref(const struct config *c);
void config_unref(struct config *c);

/* The namespace of that name, or NULL. Borrows from c. */
const struct config_namespace *config_namespace(const struct config *c, struct slice name);

/* Are publications in the namespace stamped: does it keep a value or a history? */
bool config_namespace_is_stamped(const struct config_namespace *ns);

/* Writes the reference configuration file: every option, commented, at its default. */
void config_print_reference(struct buf *out);

/* Splits `host:port`, `[v6]:port`. host is cut to size. False when malformed. */
bool config_split_address(const char *address, char *host, size_t host_size, uint16_t *port);

#endif
