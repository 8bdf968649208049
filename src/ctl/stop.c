/*
 * stop.c - ppoll with the signals let in.
 */
#include "ctl/stop.h"

#include "base/clock.h"

#include <poll.h>
#include <signal.h>
#include <stddef.h>

static volatile sig_atomic_t asked;
static sigset_t mask_while_waiting;

static void on_signal(int number)
{
    (void)number;
    asked = 1;
}

void stop_on_signals(void)
{
    static const int numbers[] = {SIGINT, SIGTERM};
    struct sigaction action = {.sa_handler = on_signal};
    sigset_t blocked;
    sigemptyset(&action.sa_mask);
    sigemptyset(&blocked);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        sigaction(numbers[i], &action, NULL);
        sigaddset(&blocked, numbers[i]);
    }
    sigprocmask(SIG_BLOCK, &blocked, &mask_while_waiting);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        sigdelset(&mask_while_waiting, numbers[i]);
}

bool stop_wait_until(uint64_t mono_ns)
{
    while (!asked) {
        uint64_t now = clock_mono_ns();
        uint64_t left = mono_ns > now ? mono_ns - now : 0;
        struct timespec wait = {.tv_sec = (time_t)(left / 1000000000u),
                                .tv_nsec = (long)(left % 1000000000u)};
        ppoll(NULL, 0, &wait, &mask_while_waiting);
        if (left == 0)
            break;
    }
    return asked;
}
