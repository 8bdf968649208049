#!/usr/bin/python3
"""The benchmark: named workloads against one node, side by side with the kernel's own limit.

The node (one worker) has core 0 for itself; Redis, the publisher and the reader share core 1. The
bare loop takes the node's place on core 0 and has the same reader. Figures of one machine on one
day differ by more than what they should show, so everything that is compared is alternated within
one run, and ratios and medians are what counts.

    make bench W=w1                               all of W1
    make bench W=w1.alone,w6 BENCH_ARGS="--runs 3"
    BUILD=build tests/bench/run.py --list

Prints a table, each figure beside its target where it has one, and writes every single run to
$BUILD/bench.json. Some workloads replay a recorded feed, which is no part of the project: --feed
FILE or TICKCAST_FEED.
"""
import argparse
import os
import subprocess
import sys

import workloads
from figures import Figures
from machine import BUILD, Failure, describe
from servers import redis_server


def parse(known):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="the workloads, a line each, and end")
    parser.add_argument("--only", metavar="NAMES",
                        help="workloads or families (w1), separated by commas; else all")
    parser.add_argument("--runs", type=int, default=7, help="of each; medians are shown (7)")
    parser.add_argument("--seconds", type=float, default=4, help="length of each (4)")
    parser.add_argument("--slow-seconds", type=float, default=14,
                        help="length of each with slow readers (14)")
    # Taken out, because a node would wonder which section of its configuration FEED is.
    parser.add_argument("--feed", default=os.environ.pop("TICKCAST_FEED", None),
                        help="a recorded feed, as tickcastctl replay takes it")
    parser.add_argument("--speed", type=float, default=1, help="of the feed, for conflation (1)")
    parser.add_argument("--shrink", type=int, default=1, metavar="N",
                        help="so many times fewer clients: to see that it runs, not for figures")
    parser.add_argument("--json", metavar="FILE", default=os.path.join(BUILD, "bench.json"),
                        help="where every run is written (bench.json in the build folder)")
    parser.add_argument("--strict", action="store_true", help="a missed target is a failure")
    args = parser.parse_args()
    args.workloads = [w for w in known.values()
                      if not w.by_name_only and (args.feed or not w.needs_feed)]
    try:
        if args.only:
            args.workloads = [w for name in args.only.split(",")
                              for w in workloads.select(known, name)]
    except KeyError as unknown:
        parser.error(f"there is no workload {unknown}; --list shows them")
    for w in args.workloads:
        if w.needs_feed and not args.feed and not args.list:
            parser.error(f"{w.name} needs --feed or TICKCAST_FEED")
    return args


def print_list(known):
    for w in known.values():
        marks = " (needs --feed)" if w.needs_feed else \
                " (only when named)" if w.by_name_only else ""
        print(f"{w.name:<18} {w.line}{marks}")


def measure_all(args, figures):
    """True when every workload came to its end."""
    is_whole = True
    with redis_server() as redis:
        run = workloads.Run(redis, figures, args.runs, args.seconds, args.slow_seconds, args.feed,
                            args.speed, args.shrink)
        for w in args.workloads:
            try:
                w.measure(run)
            except (Failure, subprocess.TimeoutExpired) as why:
                is_whole = False
                print(f"{w.name}: {why}", flush=True)
    return is_whole


def main():
    known = workloads.load()
    args = parse(known)
    if args.list:
        print_list(known)
        return
    if os.cpu_count() < 2:
        sys.exit("the benchmark needs two cores")
    figures = Figures(judge=args.shrink == 1)
    machine = describe()
    print(f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, "
          f"load {machine['load']:.2f}; medians of {args.runs} runs of {args.seconds:g} s")
    is_whole = measure_all(args, figures)
    figures.write(args.json, machine=machine, arguments=sys.argv[1:])
    sys.exit(1 if not is_whole or (args.strict and figures.missed()) else 0)


if __name__ == "__main__":
    main()
