/*
 * bench.h - `tickcastctl bench`: load, losses and latency of a running node.
 *
 * Has its own event loop and WebSocket reader, made for tens of thousands of connections; the
 * other commands use ws_client.h.
 */
#ifndef TICKCAST_CTL_BENCH_H
#define TICKCAST_CTL_BENCH_H

/* argv[0] is "bench". Returns the exit status: 0 done, 1 failed, 2 wrong usage. */
int ctl_bench(int argc, char **argv);

#endif
