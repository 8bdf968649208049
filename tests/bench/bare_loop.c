/*
 * bare_loop.c - the kernel's own limit, to hold the node against.
 *
 * Accepts N connections, answers their upgrade with the fewest words, and then sends one prepared
 * frame to every socket, one blocking send each, R rounds a second. The frame is the node's raw
 * frame, byte for byte of the same length; its number and time are put in once per round, so that
 * `tickcastctl bench --publisher none --raw` reads it as it reads the node. No Redis, no events, no
 * bookkeeping: what is left is what the kernel costs. With --storm it only accepts and answers, to
 * say what that costs alone.
 *
 * Prints `ready port=N` when it listens, and one JSON line at the end: its processor time, and how
 * long a pass over all sockets took.
 */
#include "base/clock.h"
#include "ctl/bench_payload.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define HEADER_BYTES   4
#define WARM_UP_ROUNDS 50
#define WARM_UP_GAP_NS 2000000u
#define WAIT_S         30    /* for a client to connect and to ask */
#define PASSES_KEPT    65536 /* of the last so many it is known how long they took */

struct options {
    unsigned port, clients, size, batch;
    double rate, seconds;
    bool is_storm; /* the upgrades alone */
};

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void sleep_until_ns(uint64_t due_ns)
{
    struct timespec ts = {.tv_sec = (time_t)(due_ns / 1000000000u),
                          .tv_nsec = (long)(due_ns % 1000000000u)};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
}

static double cpu_s(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static int listen_on(unsigned port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t len = sizeof at;
    struct timeval limit = {.tv_sec = WAIT_S};
    int on = 1; /* inherited, like the limit, by what is accepted */
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) != 0 || listen(fd, 4096) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) != 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0 ||
        getsockname(fd, (struct sockaddr *)&at, &len) != 0)
        die("listen");
    printf("ready port=%u\n", ntohs(at.sin_port));
    fflush(stdout);
    return fd;
}

static int accept_client(int listener)
{
    static const char answer[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                                 "Connection: Upgrade\r\n\r\n";
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0)
        die("accept");
    char request[32768];
    size_t len = 0;
    while (memmem(request, len, "\r\n\r\n", 4) == NULL) {
        ssize_t got = recv(fd, request + len, sizeof request - len, 0);
        if (got <= 0)
            die("request");
        len += (size_t)got;
    }
    if (send(fd, answer, sizeof answer - 1, MSG_NOSIGNAL) < 0)
        die("answer");
    return fd;
}

static char *make_frames(const struct options *o)
{
    struct rng random;
    rng_init_seed(&random, 1);
    size_t stride = HEADER_BYTES + o->size;
    char *frames = malloc(stride * o->batch);
    if (frames == NULL)
        die("memory");
    for (unsigned i = 0; i < o->batch; i++) {
        char *at = frames + i * stride;
        at[0] = (char)0x81;
        at[1] = 126;
        at[2] = (char)(o->size >> 8);
        at[3] = (char)o->size;
        payload_init(at + HEADER_BYTES, o->size, &random);
    }
    return frames;
}

/* Sends the same bytes to all. A blocking send waits for room, so nothing is lost. */
static void send_round(const struct options *o, const int *fds, char *frames, uint64_t number)
{
    size_t stride = HEADER_BYTES + o->size;
    uint64_t now_ns = clock_mono_ns();
    for (unsigned i = 0; i < o->batch; i++)
        payload_stamp(frames + i * stride + HEADER_BYTES, number == 0 ? 0 : number + i, 0, now_ns);
    for (unsigned i = 0; i < o->clients; i++) {
        if (send(fds[i], frames, stride * o->batch, MSG_NOSIGNAL) != (ssize_t)(stride * o->batch))
            die("send");
    }
}

static void warm_up(const struct options *o, const int *fds, char *frames)
{
    for (unsigned i = 0; i < WARM_UP_ROUNDS; i++) {
        send_round(o, fds, frames, 0);
        sleep_until_ns(clock_mono_ns() + WARM_UP_GAP_NS);
    }
    sleep_until_ns(clock_mono_ns() + 300000000u);
}

static int compare_ns(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Sorts what is kept of rounds passes. */
static void print_passes(uint64_t *passes_ns, uint64_t rounds)
{
    size_t count = rounds < PASSES_KEPT ? (size_t)rounds : PASSES_KEPT;
    qsort(passes_ns, count, sizeof *passes_ns, compare_ns);
    printf("\"pass_p50_us\":%.1f,\"pass_p99_us\":%.1f,", (double)passes_ns[count / 2] / 1e3,
           (double)passes_ns[count * 99 / 100] / 1e3);
}

static void run(const struct options *o, const int *fds, char *frames)
{
    static uint64_t passes_ns[PASSES_KEPT];
    warm_up(o, fds, frames);
    double cpu_before_s = cpu_s();
    uint64_t first_ns = clock_mono_ns();
    uint64_t rounds = 0;
    for (;; rounds++) {
        uint64_t due_ns = first_ns + (o->rate > 0 ? (uint64_t)((double)rounds / o->rate * 1e9) : 0);
        double passed_s = (double)(clock_mono_ns() - first_ns) / 1e9;
        if (o->rate > 0 ? (double)rounds >= o->rate * o->seconds : passed_s >= o->seconds)
            break;
        if (o->rate > 0)
            sleep_until_ns(due_ns);
        uint64_t begun_ns = clock_mono_ns();
        send_round(o, fds, frames, rounds * o->batch + 1);
        passes_ns[rounds % PASSES_KEPT] = clock_mono_ns() - begun_ns;
    }
    double cpu = cpu_s() - cpu_before_s;
    double seconds = (double)(clock_mono_ns() - first_ns) / 1e9;
    double sends = (double)rounds * o->clients;
    putchar('{');
    print_passes(passes_ns, rounds);
    printf("\"clients\":%u,\"batch\":%u,\"rounds\":%llu,\"sends\":%.0f,\"seconds\":%.3f,"
           "\"cpu_s\":%.4f,\"cpu_us_per_send\":%.4f,\"cpu_us_per_delivery\":%.4f,"
           "\"deliveries_per_s\":%.0f}\n",
           o->clients, o->batch, (unsigned long long)rounds, sends, seconds, cpu, cpu / sends * 1e6,
           cpu / sends / o->batch * 1e6, sends * o->batch / seconds);
}

static struct options parse(int argc, char **argv)
{
    static const struct option names[] = {{"port", 1, NULL, 'p'},  {"clients", 1, NULL, 'c'},
                                          {"size", 1, NULL, 's'},  {"batch", 1, NULL, 'b'},
                                          {"rate", 1, NULL, 'r'},  {"seconds", 1, NULL, 't'},
                                          {"storm", 0, NULL, 'u'}, {0}};
    struct options o = {.clients = 1000, .size = 256, .batch = 1, .rate = 200, .seconds = 5};
    int got;
    while ((got = getopt_long(argc, argv, "", names, NULL)) != -1) {
        switch (got) {
        case 'p': o.port = (unsigned)atoi(optarg); break;
        case 'c': o.clients = (unsigned)atoi(optarg); break;
        case 's': o.size = (unsigned)atoi(optarg); break;
        case 'b': o.batch = (unsigned)atoi(optarg); break;
        case 'r': o.rate = atof(optarg); break;
        case 't': o.seconds = atof(optarg); break;
        case 'u': o.is_storm = true; break;
        default: exit(2);
        }
    }
    if (o.clients == 0 || o.batch == 0 || o.size <= 125 || o.size > 65535) {
        fputs("bare_loop: --clients and --batch from 1, --size from 126 to 65535\n", stderr);
        exit(2);
    }
    return o;
}

int main(int argc, char **argv)
{
    struct options o = parse(argc, argv);
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    int listener = listen_on(o.port);
    int *fds = calloc(o.clients, sizeof *fds);
    if (fds == NULL)
        die("memory");
    double cpu_before_s = cpu_s();
    for (unsigned i = 0; i < o.clients; i++)
        fds[i] = accept_client(listener);
    double upgrades_s = cpu_s() - cpu_before_s;
    if (o.is_storm) {
        printf("{\"clients\":%u,\"cpu_s\":%.4f,\"upgrades_per_cpu_s\":%.0f}\n", o.clients,
               upgrades_s, o.clients / upgrades_s);
    } else {
        char *frames = make_frames(&o);
        run(&o, fds, frames);
        free(frames);
    }
    free(fds);
    return 0;
}
