/*
 * test_listener.c - sockets are accepted in one place and spread evenly over the workers.
 */
#include "base/mem.h"
#include "protocol/config.h"
#include "runtime/listener.h"
#include "surface/client_http.h"
#include "unit.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct admission admission; /* open */

enum { WORKERS = 3, SOCKETS = 31, MOST = 20 };

struct stop {
    struct message message;
    struct loop *loop;
};

static void on_stop(struct message *m)
{
    loop_stop(((struct stop *)m)->loop);
}

static void turn(struct loop *loop)
{
    struct stop stop = {.message = {.run = on_stop}, .loop = loop};
    loop_post(loop, &stop.message);
    loop_run(loop);
}

static int connect_to(const char *address)
{
    char host[64];
    uint16_t port = 0;
    CU_ASSERT_FATAL(config_split_address(address, host, sizeof host, &port));
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, host, &to.sin_addr);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    CU_ASSERT_EQUAL_FATAL(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

/* Connects, and begins a request with what is said, to a listener over WORKERS workers that never
 * run; their loads say who got what. */
static void accept_some(const char *said, unsigned connects, uint64_t max_sockets,
                        unsigned loads[WORKERS], struct metrics *metrics)
{
    struct buf error = {0}, warnings = {0};
    const struct config_source source = {0};
    struct config *config = config_load(&source, &error, &warnings);
    CU_ASSERT_PTR_NOT_NULL_FATAL(config);
    buf_fini(&warnings);
    struct loop *loop = loop_new();
    struct worker *workers[WORKERS];
    for (unsigned i = 0; i < WORKERS; i++)
        workers[i] = worker_new(i, NULL, config, &client_ops, &admission);
    int fd = listener_bind("127.0.0.1:0", &error);
    CU_ASSERT_FATAL(fd >= 0);
    struct listener *l = listener_new(loop, fd, workers, WORKERS, max_sockets, metrics);
    listener_start(l);
    int fds[SOCKETS];
    for (unsigned i = 0; i < connects; i++) {
        fds[i] = connect_to(listener_address(l));
        CU_ASSERT_EQUAL(send(fds[i], said, strlen(said), 0), (ssize_t)strlen(said));
    }
    for (int i = 0; i < 5; i++)
        turn(loop);
    for (unsigned i = 0; i < WORKERS; i++) {
        loads[i] = atomic_load(&workers[i]->load);
        worker_abort_all(workers[i]);
        CU_ASSERT_EQUAL(atomic_load(&workers[i]->load), 0);
        worker_free(workers[i]);
    }
    for (unsigned i = 0; i < connects; i++)
        close(fds[i]);
    listener_free(l);
    loop_free(loop);
    config_unref(config);
}

static void test_even_spread(void)
{
    unsigned loads[WORKERS];
    struct metrics *metrics = mem_zalloc(sizeof *metrics);
    accept_some("GET ", SOCKETS, 1000, loads, metrics);
    CU_ASSERT_EQUAL(loads[0] + loads[1] + loads[2], SOCKETS);
    for (unsigned i = 0; i < WORKERS; i++)
        CU_ASSERT(loads[i] >= SOCKETS / WORKERS && loads[i] <= SOCKETS / WORKERS + 1);
    CU_ASSERT_EQUAL(metrics_get(metrics, METRIC_ACCEPT_REFUSED), 0);
    free(metrics);
}

static void test_too_many_are_closed_at_once(void)
{
    unsigned loads[WORKERS];
    struct metrics *metrics = mem_zalloc(sizeof *metrics);
    accept_some("GET ", SOCKETS, MOST, loads, metrics);
    CU_ASSERT_EQUAL(loads[0] + loads[1] + loads[2], MOST);
    CU_ASSERT_EQUAL(metrics_get(metrics, METRIC_ACCEPT_REFUSED), SOCKETS - MOST);
    free(metrics);
}

/* They are in time, but not before who has something to say. */
static void test_the_silent_wait_in_the_kernel(void)
{
    unsigned loads[WORKERS];
    struct metrics *metrics = mem_zalloc(sizeof *metrics);
    accept_some("", SOCKETS, 1000, loads, metrics);
    CU_ASSERT_EQUAL(loads[0] + loads[1] + loads[2], 0);
    free(metrics);
}

static void test_addresses_that_cannot_be_bound(void)
{
    static const char *const addresses[] = {"192.0.2.1:80", "nonsense", "127.0.0.1:70000"};
    for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++) {
        struct buf error = {0};
        CU_ASSERT_EQUAL(listener_bind(addresses[i], &error), -1);
        CU_ASSERT(error.len > strlen("cannot listen on "));
        buf_fini(&error);
    }
}

static const struct unit_test tests[] = {
    {"an even spread", test_even_spread},
    {"far too many are closed at once", test_too_many_are_closed_at_once},
    {"the silent wait in the kernel", test_the_silent_wait_in_the_kernel},
    {"addresses that cannot be bound", test_addresses_that_cannot_be_bound},
    {NULL, NULL},
};
const struct unit_suite suite_listener = {"listener", tests};
