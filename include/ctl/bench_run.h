/*
 * bench_run.h - the parts of one benchmark run, and what they share.
 *
 * Two threads. The main thread owns the clients and everything it counts; the publisher thread owns
 * its Redis connection and its own counts, which others read after it was joined. Between the two
 * there are only the atomics of struct bench_shared.
 */
#ifndef TICKCAST_CTL_BENCH_RUN_H
#define TICKCAST_CTL_BENCH_RUN_H

#include "base/buf.h"
#include "ctl/options.h"
#include "ctl/target.h"
#include "protocol/redis_url.h"
#include "protocol/ws_deflate.h"

#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* A node takes 8 KiB of request target: so many names only fit if they are short. */
#define BENCH_CHANNELS_PER_CLIENT_MAX 1000

enum bench_mode {
    BENCH_LOAD,  /* connect, subscribe, publish, count */
    BENCH_IDLE,  /* connect, subscribe, settle, report memory */
    BENCH_STORM, /* connect and subscribe as fast as the node takes them */
};

#define BENCH_SERVERS_MAX 32

/* One of those that clients connect to in turn. */
struct bench_server {
    struct sockaddr_in at;
    char host[128]; /* for the Host header */
    char path[256];
};

/* The processes of the nodes, whose use is added up. */
struct node_pids {
    int64_t pid[BENCH_SERVERS_MAX];
    size_t count; /* 0: not measured */
};

struct bench_options {
    enum bench_mode mode;
    struct ctl_target target;
    struct redis_url redis;
    struct bench_server servers[BENCH_SERVERS_MAX];
    size_t server_count;
    struct node_pids pids;
    const char *space; /* namespace of the channels */
    const char *tape;  /* file to publish; NULL: payloads of our own */
    int64_t seed;      /* of the channels that are drawn, and of the fillers */
    int64_t clients;
    int64_t stalled;   /* of these, so many never read */
    int64_t channels;  /* per client */
    int64_t of;        /* channels in all */
    int64_t size;      /* payload bytes */
    int64_t window;    /* publications in flight to the slowest client; 0: no limit */
    int64_t in_flight; /* connections being opened at a time */
    int64_t inflate;   /* clients whose frames are looked into, of those that cost more to read */
    int64_t sample;    /* every how manieth number gives a latency */
    int64_t addresses; /* source addresses, from 127.0.0.2 */
    int64_t late_ms;   /* a delivery older than that is late */
    int64_t nap_us;    /* the reader's, when there is nothing to read; 0: it waits in the kernel */
    double rate;       /* publications per second; 0: the window alone says when */
    double speed;      /* of a tape's own pace; 0: rate, or at once */
    double seconds;
    double settle_s;
    bool raw;
    bool socketio; /* the server is one of Socket.IO */
    bool compress;
    bool publish;
    bool hold; /* once all is idle, stay until standard input ends */
    bool json; /* print JSON */
};

/* Latencies in ns: 64 buckets per octave, so a value is known to 1.6 %. */
#define HISTOGRAM_BUCKETS (64 * 64)
struct histogram {
    uint64_t counts[HISTOGRAM_BUCKETS];
    uint64_t total;
    uint64_t max_ns;
};

uint64_t histogram_quantile_ns(const struct histogram *h, double q);

/* What processes have used, as the kernel counts it. */
struct node_usage {
    double cpu_s;
    uint64_t resident_bytes;
};

/* One that is gone has used nothing. Walks the page tables: exact, and takes about a millisecond. */
struct node_usage node_usage_read(const struct node_pids *pids);
double node_cpu_read_s(const struct node_pids *pids); /* the processor time alone: cheap */

/* What the cores have done that this program may run on, whoever ran there: beside the reader that
 * is Redis, where they share one. A core that is never idle is the limit of what is measured. */
struct load_usage {
    uint64_t busy_ticks;
    uint64_t ticks;
};

struct load_usage load_usage_read(void);
double load_usage_share(const struct load_usage *before, const struct load_usage *after); /* 0..1 */

enum client_state { CLIENT_NEW, CLIENT_CONNECTING, CLIENT_HEAD, CLIENT_OPEN, CLIENT_CLOSED };

struct bench_client {
    int fd;
    uint8_t state; /* enum client_state */
    bool subscribed;
    bool inspected; /* every item is checked; else its frames are counted */
    bool stalled;
    uint16_t close_code;
    uint32_t tail_len; /* bytes of an unfinished frame, kept between two reads */
    uint32_t tail_cap;
    char *tail;
    uint64_t frames;
};

/* One channel of one client. */
struct bench_slot {
    uint32_t channel; /* index + 1; 0: empty */
    uint32_t number;  /* of the last item */
};

/* The only things both threads touch. Relaxed order suffices for all: each is a number of its own
 * and no other memory is published by it (the counts are read after pthread_join). */
struct bench_shared {
    atomic_uint_fast64_t slowest;  /* publications that the slowest client has, about */
    atomic_uint_fast64_t heard_ns; /* of the warm-up: when something came last */
    atomic_bool live;              /* warm-up is over, the first publication follows */
    atomic_bool finished;          /* the publisher has sent its last */
    atomic_bool stop;              /* the publisher should give up */
};

/* One publication of a tape. */
struct bench_tape_entry {
    uint64_t due_ns; /* since the first */
    size_t end;      /* of its command, among all commands */
    uint32_t channel;
};

struct bench_publisher {
    pthread_t thread;
    int fd;
    uint32_t *published; /* per channel */
    uint64_t total;
    uint64_t commands; /* sent to Redis, but for the questions before the start */
    uint64_t replies;  /* to them */
    uint64_t first_ns;
    uint64_t last_ns;
    uint64_t late_ns; /* that a publication left behind its time, at most */
    double cpu_s;     /* the node's, right before the first publication */
    struct buf out;
    char error[160]; /* "" when all went well */
};

struct bench {
    struct bench_options options;
    struct bench_shared shared;
    struct bench_publisher publisher;
    struct bench_tape *tape; /* what is published; NULL: payloads of our own */

    /* Everything below belongs to the main thread. */
    int epoll;
    struct bench_client *clients;
    uint64_t *passed; /* per client: items that came or were lost; together, for bench_slowest */
    struct bench_slot *slots; /* slot_count per client */
    uint32_t slot_count;      /* a power of two, at least twice the channels */
    unsigned started, opening, open, subscribed, closed, compressed;
    struct buf input; /* what one recv fills; shared by all clients */
    struct ws_inflater *inflater;
    struct buf inflated;
    uint32_t frame_head; /* first four bytes of a raw frame of the expected size */
    bool counting;

    uint64_t deliveries, frames, bytes, lost, out_of_order, foreign;
    uint64_t missed, payload_bytes; /* of a tape's items: what they say, and their data */
    uint64_t pings;                 /* that were answered */
    uint64_t read_ns;               /* when the bytes at hand were read; 0: not asked for yet */
    uint64_t last_ns;               /* of the last delivery */
    struct histogram latency;
    struct histogram client_mean; /* the mean latency of each client: how even they are */
    struct histogram pass;        /* from a publication's first client to its last */
    struct histogram last_client; /* from publishing to that */
    struct bench_spread *spreads; /* publications that are under way */
    struct bench_wait *waits;     /* per client */
    uint64_t late;                /* of those that were timed */

    uint64_t connect_ns;
    double connect_cpu_s;
    struct node_usage before, idle, end;
    double cpu_s;     /* the node's, from the first publication to the last delivery */
    double own_cpu_s; /* ours meanwhile: near the seconds, we are the limit */
    double load_busy; /* of our cores meanwhile, with everybody on them: near 1, the load is */
    double own_cpu_start_s;
    struct load_usage load_start;
    double seconds;
    uint64_t expected;
    bool estimated;
    char error[160];
};

/* Where the search for a channel starts among a client's slots. */
static inline uint32_t bench_slot_start(const struct bench *b, uint32_t channel)
{
    return (channel * 2654435769u >> 12) & (b->slot_count - 1);
}

/* A client's channel; NULL when it is none of its own. */
static inline struct bench_slot *bench_slot_of(const struct bench *b, size_t client,
                                               uint32_t channel)
{
    struct bench_slot *slots = b->slots + client * b->slot_count;
    for (uint32_t i = bench_slot_start(b, channel); slots[i].channel != 0;
         i = (i + 1) & (b->slot_count - 1)) {
        if (slots[i].channel == channel + 1)
            return &slots[i];
    }
    return NULL;
}

/* bench_options.c. CTL_CONTINUE; else the exit status, with the reason on standard error. */
int bench_options_parse(int argc, char **argv, struct bench_options *o);

/* bench_tape.c: a tape as the load. Loading sets the channels and the length of the run. */
bool bench_tape_load(struct bench *b);
void bench_tape_free(struct bench_tape *t);
const char *bench_tape_channel(const struct bench_tape *t, uint32_t channel);
/* The publication and its PUBLISH command, which borrows from the tape; NULL behind the last. */
const struct bench_tape_entry *bench_tape_at(const struct bench_tape *t, size_t index,
                                             struct slice *command);
/* The publisher says when it sends an entry, the reader what one client got. */
void bench_tape_sent(struct bench_tape *t, size_t index, uint64_t now_ns);
void bench_tape_count(struct bench *b, size_t client, struct slice message);

/* bench_client.c: connections. */
bool bench_clients_init(struct bench *b);
void bench_clients_fini(struct bench *b);
void bench_clients_open(struct bench *b);         /* starts as many connects as may be in flight */
void bench_turn(struct bench *b, int timeout_ms); /* looks once and takes what is there */
void bench_client_close(struct bench *b, struct bench_client *c);
/* The server has worked through its subscriptions. One that stalls is read no more from here. */
void bench_client_subscribed(struct bench *b, struct bench_client *c);

/* The channel's name without the prefix, as a string; at most BENCH_NAME_BYTES. */
#define BENCH_NAME_BYTES 256
void bench_channel_name(const struct bench *b, uint32_t channel, char *name);

/* Items that the slowest client is past; UINT64_MAX when nobody is looked at. */
uint64_t bench_slowest(const struct bench *b);

/* bench_reader.c: what a client receives. False when it breaks the WebSocket protocol. */
bool bench_reader_walk(struct bench *b, struct bench_client *c, const char *ptr, size_t len,
                       size_t *used);

/* bench_socketio.c: a text message to a client that speaks Socket.IO. */
enum bench_socketio {
    BENCH_SOCKETIO_EVENT, /* what the server was told to send: to be counted */
    BENCH_SOCKETIO_DONE,  /* the protocol's own, answered where it wants an answer */
    BENCH_SOCKETIO_WRONG, /* not of the protocol, or the connection takes no answer */
};
enum bench_socketio bench_socketio_take(struct bench *b, struct bench_client *c, struct slice text);

/* bench_latency.c: what was timed. place numbers publications in the order of the publisher. */
void bench_latency_init(struct bench *b);
void bench_latency_fini(struct bench *b);
void bench_latency_add(struct bench *b, size_t index, uint64_t place, uint64_t sent_ns);
void bench_latency_finish(struct bench *b); /* nothing more will come */

/* bench_publisher.c */
bool bench_publisher_start(struct bench *b);
void bench_publisher_join(struct bench *b);

/* bench_report.c */
void bench_report(const struct bench *b);

#endif
