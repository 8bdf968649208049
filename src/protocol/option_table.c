/*
 * option_table.c - every option of a node, one row each.
 *
 * A new option is a row here, a field in config.h and its use; the parser, the errors, the
 * reference file and the documentation check follow by themselves. Help texts name the unit and
 * what 0 or an empty value means; range and default are added by whoever prints them.
 */
#include "protocol/option_table.h"

#include "base/log.h"
#include "protocol/config.h"
#include "protocol/redis_url.h"

#include <arpa/inet.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#define KIB             1024
#define MIB             (1024 * KIB)
#define GIB             (1024 * MIB)
#define HOUR_MS         3600000
#define DAY_S           86400
#define HUGE_COUNT      1000000 /* of things per second or per client: more is a slip */
#define WORKERS_MAX     64
#define CONNECTIONS_MAX 10000000
#define TEXT_MAX        4096 /* bytes: a path, or a list of origins */

/* Descriptors that are not for clients: listeners, Redis, logs, the ops listener's requests. */
#define DESCRIPTORS_KEPT 200

/* --- values that depend on the machine ------------------------------------------------------ */

/* Cores that this process may run on: a node pinned to one core wants one worker. */
static int64_t count_cores(void)
{
    cpu_set_t set;
    int64_t cores = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set)
                                                                : sysconf(_SC_NPROCESSORS_ONLN);
    if (cores < 1)
        return 1;
    return cores > WORKERS_MAX ? WORKERS_MAX : cores;
}

static int64_t count_connections(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur <= DESCRIPTORS_KEPT)
        return 1;
    rlim_t room = limit.rlim_cur - DESCRIPTORS_KEPT;
    return room > CONNECTIONS_MAX ? CONNECTIONS_MAX : (int64_t)room;
}

/* --- checks of text ------------------------------------------------------------------------- */

#define ID_ALPHABET "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz._-"

static const char *check_id(const char *value)
{
    if (value[strspn(value, ID_ALPHABET)] != '\0')
        return "may hold only 0-9 A-Z a-z '.' '_' and '-'";
    /* It becomes a word of operators' commands, and must not be taken for an option. */
    return value[0] != '.' && value[0] != '-' ? NULL : "may not begin with '.' or '-'";
}

static const char *check_address(const char *value)
{
    char host[256];
    uint16_t port;
    return config_split_address(value, host, sizeof host, &port)
               ? NULL
               : "is not host:port or [v6]:port with a port from 0 to 65535";
}

/* Nobody reaches port 0, which only a bind knows what to do with. */
static const char *check_advertise(const char *value)
{
    char host[256];
    uint16_t port;
    bool usable =
        value[0] == '\0' || (config_split_address(value, host, sizeof host, &port) && port != 0);
    return usable ? NULL : "is not host:port or [v6]:port with a port from 1 to 65535";
}

/* As a browser writes it in Origin: no path, not even a `/`, and no pattern. */
static bool is_origin(struct slice word)
{
    if (slice_is(word, "*") || slice_is(word, "null"))
        return true;
    const char *scheme_end = memmem(word.ptr, word.len, "://", 3);
    if (scheme_end == NULL || scheme_end == word.ptr)
        return false;
    const char *host = scheme_end + 3;
    size_t host_len = (size_t)(word.ptr + word.len - host);
    return host_len > 0 && strcspn(host, " \t/?#@*,;'\"") >= host_len;
}

/* One that no browser sends would keep everybody out without a word. */
static const char *check_origins(const char *value)
{
    for (const char *at = value; *at != '\0';) {
        size_t len = strcspn(at, " \t");
        if (len > 0 && !is_origin(slice_of(at, len)))
            return "is not a list, separated by spaces, of scheme://host and scheme://host:port "
                   "without a path, null or *";
        at += len + strspn(at + len, " \t");
    }
    return NULL;
}

/* Until API keys are built nobody could be told from anybody else, so only this machine may ask. */
static const char *check_ops_address(const char *value)
{
    char host[256];
    uint16_t port;
    struct in_addr v4;
    struct in6_addr v6;
    const char *wrong = check_address(value);
    if (wrong != NULL || !config_split_address(value, host, sizeof host, &port))
        return wrong;
    if (strcmp(host, "localhost") == 0)
        return NULL;
    if (inet_pton(AF_INET, host, &v4) == 1 && ntohl(v4.s_addr) >> 24 == IN_LOOPBACKNET)
        return NULL;
    if (inet_pton(AF_INET6, host, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6))
        return NULL;
    return "is not a loopback address, and without API keys, which are not built yet, only "
           "127.0.0.0/8, [::1] and localhost are allowed";
}

static const char *check_redis_url(const char *value)
{
    struct redis_url ignored;
    const char *why;
    return redis_url_parse(value, &ignored, &why) ? NULL : why;
}

static const char *check_prefix(const char *value)
{
    for (; *value != '\0'; value++) {
        if (*value <= ' ' || *value > '~')
            return "may hold only printable ASCII without space";
    }
    return NULL;
}

/* --- words ---------------------------------------------------------------------------------- */

static const struct option_word log_levels[] = {
    {"debug", LOG_DEBUG}, {"info", LOG_INFO}, {"warn", LOG_WARN}, {"error", LOG_ERROR}, {0}};
static const struct option_word log_formats[] = {{"text", LOG_TEXT}, {"json", LOG_JSON}, {0}};
static const struct option_word auth_modes[] = {
    {"off", AUTH_OFF}, {"optional", AUTH_OPTIONAL}, {"required", AUTH_REQUIRED}, {0}};
static const struct option_word modes[] = {{"latest", MODE_LATEST}, {"all", MODE_ALL}, {0}};
static const struct option_word publishers[] = {
    {"no", PUBLISH_NO}, {"user", PUBLISH_USER}, {"anyone", PUBLISH_ANYONE}, {0}};
static const struct option_word accesses[] = {
    {"anyone", ACCESS_ANYONE}, {"user", ACCESS_USER}, {"own", ACCESS_OWN}, {0}};

/* --- the table ------------------------------------------------------------------------------ */

const struct option_section option_sections[] = {
    {"node", "The node itself."},
    {"listen", "The listener for clients."},
    {"ops", "The operator's HTTP listener."},
    {"redis", "The Redis that joins the nodes."},
    {"limits", "What a client, and all of them together, may use. More is refused, with a reason."},
    {"auth", "Who a client is."},
    {"admin", "Admin commands through Redis."},
    {"quality", "When the node raises an alert about its clients' connections."},
    {OPTION_NAMESPACE,
     "One section for each namespace, [namespace NAME]: 1 to 64 bytes of 0-9 A-Z a-z '.' '_' "
     "'-', other than admin, canary, node, nodes and session. Only namespaces that are named "
     "exist; a file "
     "that names any replaces the built-in set, which is the one below."},
    {0}};

/* Columns: section, key, default; then range or words, flags and help. */
#define FIELD(section, key, type, text) \
#section, #key, type, offsetof(struct config, section.key), text
#define NS_FIELD(key, type, text) \
    OPTION_NAMESPACE, #key, type, offsetof(struct config_namespace, key), text
#define IN(low, high) .min = (low), .max = (high)
#define UP_TO(bytes)  .max = (bytes)
#define CHECKED(by)   .check = (by)
#define ONE_OF(list)  .words = (list)
#define AUTO(by)      .automatic = (by)
#define FLAGS(...)    .flags = (__VA_ARGS__)
#define HELP(...)     .help = __VA_ARGS__

/* clang-format off */
const struct option option_table[] = {
    {FIELD(node, id, OPTION_TEXT, ""), UP_TO(64), CHECKED(check_id),
     HELP("Name of this node in the fleet, different for every node: 0-9 A-Z a-z . _ -, with neither . nor - in "
          "front. Empty: the host's name, '-' and the port of the client listener.")},
    {FIELD(node, advertise, OPTION_TEXT, ""), UP_TO(TEXT_MAX), CHECKED(check_advertise), FLAGS(OPTION_RELOAD),
     HELP("host:port at which others reach the client listener, shown in the node registry. Empty: the "
          "address it is bound to.")},
    {FIELD(node, workers, OPTION_INT, "auto"), IN(1, WORKERS_MAX), AUTO(count_cores), FLAGS(OPTION_AUTO),
     HELP("Threads that serve clients. auto: the cores this process may use, at most 64.")},
    {FIELD(node, log_level, OPTION_WORD, "info"), ONE_OF(log_levels), FLAGS(OPTION_RELOAD),
     HELP("The least important lines that are logged.")},
    {FIELD(node, log_format, OPTION_WORD, "text"), ONE_OF(log_formats), FLAGS(OPTION_RELOAD),
     HELP("Log lines on standard error as key=value text, or one JSON object each.")},
    {FIELD(node, log_lines_per_s, OPTION_INT, "1000"), IN(0, HUGE_COUNT), FLAGS(OPTION_RELOAD),
     HELP("Lines per second, of each kind, that others can cause: about clients, calls of the ops API, traces, "
          "faults. More are counted instead of written. 0: no bound.")},
    {FIELD(node, access_log, OPTION_BOOL, "yes"), FLAGS(OPTION_RELOAD),
     HELP("Lines about single clients (`access`, `client_ended`) at level info; no: at debug.")},
    {FIELD(node, echo, OPTION_BOOL, "no"), FLAGS(OPTION_RELOAD),
     HELP("Adds /echo, a plain WebSocket echo for protocol conformance suites.")},
    {FIELD(node, ping_ms, OPTION_INT, "25000"), IN(100, HOUR_MS), FLAGS(OPTION_ZERO | OPTION_RELOAD),
     HELP("Milliseconds between WebSocket pings to a client, which is closed after two without an answer. "
          "0: never.")},
    {FIELD(node, heartbeat_ms, OPTION_INT, "15000"), IN(100, HOUR_MS), FLAGS(OPTION_ZERO | OPTION_RELOAD),
     HELP("Milliseconds without another message after which a client gets a heartbeat. 0: never.")},
    {FIELD(node, pace_ms, OPTION_INT, "2"), IN(0, 1000), FLAGS(OPTION_RELOAD),
     HELP("A busy client is written to at most once in so many milliseconds, with everything that came "
          "meanwhile; one that was idle for as long gets its message at once. 0: each message is written "
          "as it comes.")},

    {FIELD(listen, address, OPTION_TEXT, "127.0.0.1:8080"), UP_TO(TEXT_MAX), CHECKED(check_address),
     HELP("host:port or [v6]:port for clients. Port 0: a free one.")},
    {FIELD(listen, max_connections, OPTION_INT, "auto"), IN(1, CONNECTIONS_MAX), AUTO(count_connections),
     FLAGS(OPTION_AUTO | OPTION_RELOAD),
     HELP("Client connections at a time; more are answered 503. auto: the limit of file descriptors less "
          "200, and no more than that is wise: the rest is for Redis and the ops listener.")},
    {FIELD(listen, origins, OPTION_TEXT, ""), UP_TO(TEXT_MAX), CHECKED(check_origins), FLAGS(OPTION_RELOAD),
     HELP("Origins whose pages may connect, separated by spaces, without a path: https://example.com. Empty: the "
          "host that the request itself names. *: any.")},
    {FIELD(listen, handshake_ms, OPTION_INT, "10000"), IN(100, 600000), FLAGS(OPTION_RELOAD),
     HELP("Milliseconds in which a whole request head must arrive.")},
    {FIELD(listen, deflate_min_bytes, OPTION_INT, "200"), IN(0, GIB), FLAGS(OPTION_RELOAD),
     HELP("Messages from so many bytes on are compressed for clients that negotiated it.")},
    {FIELD(listen, tls_cert, OPTION_TEXT, ""), UP_TO(TEXT_MAX), FLAGS(OPTION_UNBUILT),
     HELP("PEM file with the certificate chain. Empty: no TLS.")},
    {FIELD(listen, tls_key, OPTION_TEXT, ""), UP_TO(TEXT_MAX), FLAGS(OPTION_UNBUILT),
     HELP("PEM file with the key of the certificate.")},
    {FIELD(listen, trusted_proxies, OPTION_TEXT, ""), UP_TO(TEXT_MAX), FLAGS(OPTION_UNBUILT),
     HELP("Addresses or networks, separated by spaces, of proxies whose word about a client's address "
          "is taken.")},
    {FIELD(listen, drain_s, OPTION_INT, "30"), IN(0, 3600), FLAGS(OPTION_RELOAD),
     HELP("Seconds over which a draining node spreads the farewells to its clients.")},
    {FIELD(listen, drain_grace_s, OPTION_INT, "2"), IN(0, 600), FLAGS(OPTION_RELOAD),
     HELP("Seconds for which a draining node says that it is not ready before it refuses or closes anybody.")},
    {FIELD(listen, session_grace_s, OPTION_INT, "120"), IN(0, DAY_S), FLAGS(OPTION_RELOAD),
     HELP("Seconds for which the session of a client that lost its node is kept in Redis for it to come back "
          "to. 0: no sessions.")},

    {FIELD(ops, address, OPTION_TEXT, "127.0.0.1:9180"), UP_TO(TEXT_MAX), CHECKED(check_ops_address),
     HELP("host:port or [v6]:port for /metrics, /healthz and /readyz. Only a loopback address, until API "
          "keys are built. Port 0: a free one.")},
    {FIELD(ops, keys, OPTION_TEXT, ""), UP_TO(TEXT_MAX), FLAGS(OPTION_UNBUILT | OPTION_SECRET),
     HELP("API keys of the ops listener, separated by spaces. Empty: none are asked for.")},

    {FIELD(redis, url, OPTION_TEXT, "redis://127.0.0.1:6379/0"), UP_TO(TEXT_MAX), CHECKED(check_redis_url),
     FLAGS(OPTION_SECRET),
     HELP("redis://[user:password@]host[:port][/db] or unix://[user:password@]/path[?db=N].")},
    {FIELD(redis, prefix, OPTION_TEXT, "tc:"), UP_TO(64), CHECKED(check_prefix),
     HELP("Stands before every channel and key in Redis, so that several fleets can share one.")},
    {FIELD(redis, linger_ms, OPTION_INT, "5000"), IN(0, HOUR_MS), FLAGS(OPTION_RELOAD),
     HELP("Milliseconds for which a channel stays subscribed in Redis after its last subscriber left.")},
    {FIELD(redis, canary_ms, OPTION_INT, "1000"), IN(100, 60000),
     HELP("Milliseconds between canaries, the node's own publications that must come back through Redis. "
          "After three periods without one the feed is suspect.")},
    {FIELD(redis, tls_ca, OPTION_TEXT, ""), UP_TO(TEXT_MAX), FLAGS(OPTION_UNBUILT),
     HELP("PEM file with the authorities that a Redis's certificate is checked against.")},

    {FIELD(limits, message_bytes, OPTION_INT, "65536"), IN(1, GIB), FLAGS(OPTION_RELOAD),
     HELP("Bytes of a message from a client, inflated.")},
    {FIELD(limits, payload_bytes, OPTION_INT, "1048576"), IN(1, 512 * MIB), FLAGS(OPTION_RELOAD),
     HELP("Bytes of a publication's payload; a larger one is dropped and counted.")},
    {FIELD(limits, commands_per_s, OPTION_INT, "50"), IN(0, HUGE_COUNT), FLAGS(OPTION_RELOAD),
     HELP("Commands from a client per second. 0: unlimited.")},
    {FIELD(limits, channels_per_client, OPTION_INT, "3000"), IN(1, HUGE_COUNT), FLAGS(OPTION_RELOAD),
     HELP("Channels that a client may be subscribed to.")},
    {FIELD(limits, soft_bytes, OPTION_INT, "262144"), IN(1, GIB), FLAGS(OPTION_RELOAD),
     HELP("Bytes waiting for a client, in the kernel too, from which on it gets only the newest values of "
          "its `latest` channels. At most limits.hard_bytes; left out, it follows a smaller one.")},
    {FIELD(limits, hard_bytes, OPTION_INT, "4194304"), IN(1, GIB), FLAGS(OPTION_RELOAD),
     HELP("Bytes of `all` channels waiting for a client, in the kernel too, at which it is closed as too "
          "slow.")},
    {FIELD(limits, soft_age_ms, OPTION_INT, "2000"), IN(1, HOUR_MS), FLAGS(OPTION_RELOAD),
     HELP("Milliseconds for which a client's socket may take nothing until it is treated as if it had "
          "passed limits.soft_bytes.")},
    {FIELD(limits, hard_age_ms, OPTION_INT, "60000"), IN(1, HOUR_MS), FLAGS(OPTION_RELOAD),
     HELP("The same for limits.hard_bytes.")},
    {FIELD(limits, unsent_bytes, OPTION_INT, "65536"), IN(0, GIB), FLAGS(OPTION_RELOAD),
     HELP("Bytes for a client that the kernel may hold without having sent them (TCP_NOTSENT_LOWAT): more "
          "would only grow old there. 0: no limit but the socket's buffer.")},
    {FIELD(limits, head_bytes, OPTION_INT, "16384"), IN(256, 16 * MIB), FLAGS(OPTION_RELOAD),
     HELP("Bytes of a request head; a larger one is answered 431.")},
    {FIELD(limits, mirrored_channels, OPTION_INT, "100000"), IN(0, HUGE_COUNT), FLAGS(OPTION_RELOAD),
     HELP("Channels of mirrored namespaces that are kept while nobody follows them; others are read from "
          "Redis when they are wanted.")},
    {FIELD(limits, connections_per_address, OPTION_INT, "0"), IN(0, CONNECTIONS_MAX),
     FLAGS(OPTION_UNBUILT | OPTION_RELOAD), HELP("Connections from one address. 0: unlimited.")},
    {FIELD(limits, connections_per_user, OPTION_INT, "0"), IN(0, CONNECTIONS_MAX),
     FLAGS(OPTION_UNBUILT | OPTION_RELOAD), HELP("Connections of one user. 0: unlimited.")},
    {FIELD(limits, accepts_per_s, OPTION_INT, "0"), IN(0, HUGE_COUNT),
     FLAGS(OPTION_RELOAD),
     HELP("Clients let in per second; more are answered 503 and told when to come again. 0: unlimited.")},

    {FIELD(auth, mode, OPTION_WORD, "off"), ONE_OF(auth_modes), FLAGS(OPTION_UNBUILT),
     HELP("Whether clients sign in with a token: nobody, who wants to, or everybody.")},
    {FIELD(auth, keys, OPTION_TEXT, ""), UP_TO(TEXT_MAX), FLAGS(OPTION_UNBUILT | OPTION_RELOAD),
     HELP("A JWKS file or PEM files, separated by spaces, with the keys that tokens are checked against.")},
    {FIELD(auth, issuer, OPTION_TEXT, ""), UP_TO(TEXT_MAX), FLAGS(OPTION_UNBUILT | OPTION_RELOAD),
     HELP("What a token's `iss` must be. Empty: anything.")},
    {FIELD(auth, audience, OPTION_TEXT, ""), UP_TO(TEXT_MAX), FLAGS(OPTION_UNBUILT | OPTION_RELOAD),
     HELP("What a token's `aud` must name. Empty: anything.")},
    {FIELD(auth, leeway_s, OPTION_INT, "30"), IN(0, 3600), FLAGS(OPTION_UNBUILT | OPTION_RELOAD),
     HELP("Seconds by which the clock of a token's issuer may differ from ours.")},
    {FIELD(auth, timeout_ms, OPTION_INT, "10000"), IN(100, 600000), FLAGS(OPTION_UNBUILT | OPTION_RELOAD),
     HELP("Milliseconds in which a client must sign in where everybody has to.")},

    {FIELD(admin, secret, OPTION_TEXT, ""), UP_TO(TEXT_MAX), FLAGS(OPTION_UNBUILT | OPTION_SECRET),
     HELP("Shared secret that admin commands must be signed with. Empty: unsigned ones are obeyed.")},

    {FIELD(quality, lost_percent, OPTION_INT, "30"), IN(0, 100), FLAGS(OPTION_RELOAD),
     HELP("Share of WebSocket pings, in per cent, that are not answered before the next one is due, from which "
          "on the alert lost_heartbeats is raised. 0: never.")},
    {FIELD(quality, rtt_deviation_ms, OPTION_INT, "200"), IN(0, 8000), FLAGS(OPTION_RELOAD),
     HELP("Milliseconds of deviation in the clients' ping round trips, on average, from which on the alert "
          "rtt_deviation is raised. 0: never.")},
    {FIELD(quality, short_lived_per_hour, OPTION_INT, "5"), IN(0, HUGE_COUNT), FLAGS(OPTION_RELOAD),
     HELP("Short-lived connections within quality.short_lived_window_ms, which is an hour unless changed, from "
          "which on the alert short_lived is raised. 0: never.")},
    {FIELD(quality, short_lived_ms, OPTION_INT, "10000"), IN(1, HOUR_MS), FLAGS(OPTION_RELOAD),
     HELP("Milliseconds after its upgrade within which a connection must end to be short-lived. One that the "
          "node ends by a drain or an operator's kick is none.")},
    {FIELD(quality, min_pings, OPTION_INT, "20"), IN(1, HUGE_COUNT), FLAGS(OPTION_RELOAD),
     HELP("Pings with a known outcome that lost_heartbeats wants in its window before it is raised, and "
          "measured deviations that rtt_deviation wants, so that one client's trouble raises neither.")},
    {FIELD(quality, window_ms, OPTION_INT, "300000"), IN(1000, DAY_S * 1000),
     HELP("Milliseconds over which lost heartbeats and deviation are judged. Several times node.ping_ms.")},
    {FIELD(quality, short_lived_window_ms, OPTION_INT, "3600000"), IN(1000, DAY_S * 1000),
     HELP("Milliseconds over which short-lived connections are counted.")},

    {NS_FIELD(mode, OPTION_WORD, "all"), ONE_OF(modes), FLAGS(OPTION_RELOAD),
     HELP("latest: state that is replaced, a slow client gets the newest value. all: events that are never "
          "skipped silently.")},
    {OPTION_NAMESPACE, "modes", OPTION_MODES, 0, "auto", ONE_OF(modes), FLAGS(OPTION_AUTO | OPTION_RELOAD),
     HELP("Modes that a client may choose, separated by spaces; the namespace's own is always one. auto: "
          "only that.")},
    {NS_FIELD(snapshot, OPTION_BOOL, "auto"), FLAGS(OPTION_AUTO | OPTION_RELOAD),
     HELP("Whether a new subscription begins with the last value. auto: yes in mode latest, no in all.")},
    {NS_FIELD(history, OPTION_INT, "0"), IN(0, 100000), FLAGS(OPTION_RELOAD),
     HELP("Publications of a channel that are kept in Redis, in entries. 0: the last value only, and that where "
          "snapshot is yes.")},
    {NS_FIELD(history_ttl_s, OPTION_INT, "0"), IN(0, 366 * DAY_S), FLAGS(OPTION_RELOAD),
     HELP("Life of value and history in Redis, in seconds. 0: for ever.")},
    {NS_FIELD(mirror, OPTION_BOOL, "no"),
     HELP("Whether the node receives the whole namespace all the time, so that a subscription never waits "
          "for Redis.")},
    {NS_FIELD(batch_ms, OPTION_INT, "0"), IN(0, 60000), FLAGS(OPTION_RELOAD),
     HELP("Publications are collected for so many milliseconds and sent together; in mode latest only the "
          "newest of each channel. 0: at once.")},
    {NS_FIELD(max_rate, OPTION_INT, "0"), IN(0, 1000), FLAGS(OPTION_RELOAD),
     HELP("Updates per second and channel that a client gets at most, in mode latest. 0: no limit.")},
    {NS_FIELD(publish, OPTION_WORD, "no"), ONE_OF(publishers), FLAGS(OPTION_RELOAD),
     HELP("Which clients may publish: nobody, users who are signed in, or anyone.")},
    {NS_FIELD(access, OPTION_WORD, "anyone"), ONE_OF(accesses), FLAGS(OPTION_UNBUILT | OPTION_RELOAD),
     HELP("Who may subscribe: anyone, users who are signed in, or each user to the channel of their own "
          "name.")},
    {NS_FIELD(delay_s, OPTION_INT, "0"), IN(0, DAY_S), FLAGS(OPTION_UNBUILT | OPTION_RELOAD),
     HELP("Seconds by which users whose token says `delayed` receive the namespace late. 0: at once.")},
};
/* clang-format on */

const size_t option_count = sizeof option_table / sizeof *option_table;

/* --- finding rows --------------------------------------------------------------------------- */

const struct option *option_find(struct slice section, struct slice key)
{
    for (size_t i = 0; i < option_count; i++) {
        const struct option *o = &option_table[i];
        if (slice_is(section, o->section) && slice_is(key, o->key))
            return o;
    }
    return NULL;
}

bool option_section_is_known(struct slice section)
{
    for (const struct option_section *s = option_sections; s->name != NULL; s++) {
        if (slice_is(section, s->name))
            return true;
    }
    return false;
}

void option_append_keys(struct buf *out, struct slice section)
{
    const char *between = "";
    for (size_t i = 0; i < option_count; i++) {
        if (!slice_is(section, option_table[i].section))
            continue;
        buf_printf(out, "%s%s", between, option_table[i].key);
        between = ", ";
    }
}
