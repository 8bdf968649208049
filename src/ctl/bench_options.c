/*
 * bench_options.c - the command line of `tickcastctl bench`.
 */
#include "ctl/bench_payload.h"
#include "ctl/bench_run.h"

#include <netdb.h>

/* Values that are worked on before they land in the options. */
struct texts {
    const char *url;
    const char *publisher;
    const char *pids;
    bool idle;
    bool storm;
};

static const char url_shape[] =
    "--url: ws://host[:port][/path], separated by commas, none too long";

static int resolve(struct bench_server *server)
{
    char name[sizeof server->host];
    memcpy(name, server->host, sizeof name);
    char *colon = strrchr(name, ':');
    if (colon != NULL)
        *colon++ = '\0';
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found;
    int error = getaddrinfo(name, colon != NULL ? colon : "80", &hints, &found);
    if (error != 0)
        return ctl_misuse("--url: %s: %s", server->host, gai_strerror(error));
    memcpy(&server->at, found->ai_addr, sizeof server->at);
    freeaddrinfo(found);
    return CTL_CONTINUE;
}

/* ws://host[:port][/path] */
static int add_server(struct bench_options *o, struct slice url)
{
    static const char scheme[] = "ws://";
    const size_t scheme_len = sizeof scheme - 1;
    if (o->server_count == BENCH_SERVERS_MAX || url.len < scheme_len ||
        memcmp(url.ptr, scheme, scheme_len) != 0)
        return ctl_misuse("%s", url_shape);
    struct bench_server *server = &o->servers[o->server_count++];
    const char *host = url.ptr + scheme_len;
    size_t len = url.len - scheme_len;
    size_t host_len = 0;
    while (host_len < len && host[host_len] != '/' && host[host_len] != '?')
        host_len++;
    if (host_len == 0 || host_len >= sizeof server->host || len - host_len >= sizeof server->path)
        return ctl_misuse("%s", url_shape);
    snprintf(server->host, sizeof server->host, "%.*s", (int)host_len, host);
    if (host_len < len && host[host_len] == '/')
        snprintf(server->path, sizeof server->path, "%.*s", (int)(len - host_len), host + host_len);
    else
        snprintf(server->path, sizeof server->path, "/ws");
    return resolve(server);
}

/* Each piece of a text between commas. */
static int set_servers(struct bench_options *o, const char *urls)
{
    int status = CTL_CONTINUE;
    do {
        size_t len = strcspn(urls, ",");
        status = add_server(o, slice_of(urls, len));
        urls += len;
    } while (status == CTL_CONTINUE && *urls++ == ',');
    return status;
}

static int set_pids(struct bench_options *o, const char *pids)
{
    do {
        size_t len = strcspn(pids, ",");
        unsigned pid;
        if (o->pids.count == BENCH_SERVERS_MAX ||
            !slice_to_unsigned(slice_of(pids, len), INT32_MAX, &pid) || pid == 0)
            return ctl_misuse("--pid: numbers of processes, separated by commas");
        o->pids.pid[o->pids.count++] = pid;
        pids += len;
    } while (*pids++ == ',');
    return CTL_CONTINUE;
}

/* A tape says itself what is published where; its channels are counted when it is loaded. */
static int check_tape(const struct bench_options *o)
{
    if (!o->publish || o->mode != BENCH_LOAD)
        return ctl_misuse("--tape needs the publisher thread, and goes without --idle and --storm");
    if (o->window > 0)
        return ctl_misuse("--window does not go with --tape");
    if (o->channels > 1 || o->of > 1)
        return ctl_misuse("--channels and --of do not go with --tape, which has its own");
    return CTL_CONTINUE;
}

static int check(struct bench_options *o, const struct texts *texts)
{
    if (strcmp(texts->publisher, "thread") != 0 && strcmp(texts->publisher, "none") != 0)
        return ctl_misuse("--publisher: thread or none");
    if (o->channels > o->of)
        return ctl_misuse("--channels: more than --of");
    if (o->stalled >= o->clients)
        return ctl_misuse("--stalled: leaves nobody who reads");
    if (o->compress && o->stalled > 0)
        return ctl_misuse("--stalled does not go with --compress");
    /* Where clients have different channels, how far one is, is only known to a round of them all.
     */
    int64_t round = o->channels < o->of ? o->of : 0;
    if (o->tape == NULL && o->rate == 0 && o->window == 0)
        o->window = round > 64 ? 4 * round : 256;
    if (o->window > 0 && o->window <= round)
        return ctl_misuse("--window: more than --of, or nothing would move");
    if (o->compress && o->inflate == 0 && o->window > 0)
        return ctl_misuse("--inflate 0 does not go with a window: nobody is looked at");
    if (texts->idle && texts->storm)
        return ctl_misuse("--idle and --storm are two runs");
    o->publish = strcmp(texts->publisher, "thread") == 0;
    o->mode = texts->idle ? BENCH_IDLE : texts->storm ? BENCH_STORM : BENCH_LOAD;
    if (o->socketio && (o->raw || o->compress || o->tape != NULL))
        return ctl_misuse("--socketio goes without --raw, --compress and --tape");
    if (o->hold && o->mode != BENCH_IDLE)
        return ctl_misuse("--hold goes with --idle");
    int status = o->tape != NULL ? check_tape(o) : CTL_CONTINUE;
    if (status == CTL_CONTINUE && texts->pids != NULL)
        status = set_pids(o, texts->pids);
    return status == CTL_CONTINUE ? set_servers(o, texts->url) : status;
}

static int parse_table(int argc, char **argv, struct bench_options *o, struct texts *t)
{
    /* clang-format off */
    const struct ctl_option table[] = {
        {"--url", CTL_TEXT, &t->url, "URL[,URL...]",
         "the node, or nodes that take clients in turn (ws://127.0.0.1:8080/ws)", 0, 0},
        CTL_TARGET_ROWS(&o->target),
        {"--clients", CTL_INT, &o->clients, "N", "connections (1000)", 1, 1000000},
        {"--channels", CTL_INT, &o->channels, "M", "channels of each client, drawn at random (1)",
         1, BENCH_CHANNELS_PER_CLIENT_MAX},
        {"--seed", CTL_INT, &o->seed, "N", "of what is drawn at random (1)", 0, INT64_MAX},
        {"--of", CTL_INT, &o->of, "K", "channels in all (1)", 1, PAYLOAD_CHANNELS},
        {"--size", CTL_INT, &o->size, "BYTES", "of a publication (256)", PAYLOAD_MIN_BYTES,
         PAYLOAD_MAX_BYTES},
        {"--rate", CTL_REAL, &o->rate, "R",
         "publications/s over all channels; 0: as fast as the slowest client keeps up (200)", 0,
         10000000},
        {"--window", CTL_INT, &o->window, "W",
         "publications in flight to the slowest client at most; 1: each travels alone"
         " (no limit; with --rate 0: 256 or 4 K)",
         1, 1000000},
        {"--seconds", CTL_REAL, &o->seconds, "S", "how long to publish (5)", 0, 86400},
        {"--tape", CTL_TEXT, &o->tape, "FILE",
         "publish a recorded feed or a tape, on its channels, each to every client", 0, 0},
        {"--speed", CTL_REAL, &o->speed, "X",
         "a recorded feed's own pace, times X; 0: --rate instead (1)", 0, 1000000},
        {"--settle", CTL_REAL, &o->settle_s, "S", "quiet time after connecting (1)", 0, 86400},
        {"--raw", CTL_FLAG, &o->raw, NULL, "format=raw", 0, 0},
        {"--socketio", CTL_FLAG, &o->socketio, NULL,
         "the server speaks Socket.IO and knows an event `subscribe`", 0, 0},
        {"--compress", CTL_FLAG, &o->compress, NULL, "offer permessage-deflate", 0, 0},
        {"--inflate", CTL_INT, &o->inflate, "N",
         "clients whose items are checked, with --compress or --tape; of the others frames are"
         " counted (16)",
         0, 1000000},
        {"--sample", CTL_INT, &o->sample, "N", "every N-th number of a channel is timed (16)", 1,
         1000000},
        {"--late", CTL_INT, &o->late_ms, "MS", "a delivery that took longer counts as late (1000)",
         1, 1000000},
        {"--nap", CTL_INT, &o->nap_us, "US",
         "microseconds that the reader sleeps when there is nothing; 0: the node wakes it (500)", 0,
         100000},
        {"--stalled", CTL_INT, &o->stalled, "N", "clients that never read (0)", 0, 1000000},
        {"--in-flight", CTL_INT, &o->in_flight, "N", "connects at a time (256)", 1, 10000},
        {"--addresses", CTL_INT, &o->addresses, "N", "source addresses, 127.0.0.2 and on (16)", 1,
         200},
        {"--namespace", CTL_TEXT, &o->space, "NAME", "of the channels (quote)", 0, 0},
        {"--pid", CTL_TEXT, &t->pids, "PID[,PID...]",
         "the processes of the nodes, for their CPU and memory", 0, 0},
        {"--publisher", CTL_TEXT, &t->publisher, "WHO",
         "thread, or none: somebody else sends, until all connections are closed", 0, 0},
        {"--idle", CTL_FLAG, &t->idle, NULL, "connect, settle, report memory, end", 0, 0},
        {"--hold", CTL_FLAG, &o->hold, NULL,
         "with --idle: say ready, and stay connected until standard input ends", 0, 0},
        {"--storm", CTL_FLAG, &t->storm, NULL, "connect, report upgrades per CPU second, end", 0, 0},
        {"--json", CTL_FLAG, &o->json, NULL, "print one JSON object", 0, 0},
        {NULL, CTL_FLAG, NULL, NULL, NULL, 0, 0},
    };
    /* clang-format on */
    const struct ctl_usage usage = {
        .synopsis = "",
        .about =
            "Opens N connections, publishes through Redis, and counts what arrives: deliveries,"
            "\nlosses, order, latency, and the node's CPU and memory.",
        .options = table};
    struct ctl_operands none;
    return ctl_parse(&usage, argc, argv, &none);
}

int bench_options_parse(int argc, char **argv, struct bench_options *o)
{
    *o = (struct bench_options){.target = CTL_TARGET_DEFAULT,
                                .space = "quote",
                                .clients = 1000,
                                .channels = 1,
                                .of = 1,
                                .size = 256,
                                .in_flight = 256,
                                .inflate = 16,
                                .sample = 16,
                                .late_ms = 1000,
                                .nap_us = 500,
                                .addresses = 16,
                                .seed = 1,
                                .rate = 200,
                                .speed = 1,
                                .seconds = 5,
                                .settle_s = 1};
    struct texts texts = {.url = "ws://127.0.0.1:8080/ws", .publisher = "thread"};
    int status = parse_table(argc, argv, o, &texts);
    if (status == CTL_CONTINUE)
        status = check(o, &texts);
    return status == CTL_CONTINUE ? ctl_target_check(&o->target, &o->redis) : status;
}
