#!/usr/bin/python3
"""tickcast beside its peers and the kernel's limit: one client, one machine, one run.

The peers are nchan (nginx, with Redis), ws with a Redis subscriber, and Socket.IO with its Redis
adapter; they are fetched from Debian and npm into the build folder, each at one version. The bare
loop sends prepared frames and does nothing else. uWebSockets is in neither registry (on npm its
name is not a valid one, and it is installed from GitHub), so it is not here: hold its published
figures against the bare loop, which they come near.

    scripts/bench-peers                          everything; an hour
    scripts/bench-peers --only hot,idle --servers tickcast,ws --runs 1
    scripts/bench-peers --quick                  the node and the bare loop, in seconds

Runs of the servers alternate; cells are medians. Prints a table in Markdown, and writes every run
to peers.json in the build folder.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
from typing import Callable, NamedTuple

import peer_install
from contestants import BARE, CONTESTANTS
from machine import BUILD, Failure, describe, descriptor_limit
from servers import bare_loop

PACED = "tickcast paced"


class Load(NamedTuple):
    """One load, and the figures that are taken of it."""
    name: str
    title: str
    options: tuple
    figures: tuple           # of FIGURES
    channels: int = 1
    bare: Callable = None    # (args) -> a run of the bare loop, where there is one like it
    without: tuple = (PACED,)  # contestants who do not take part, or would show nothing new
    warm_up: bool = False    # a few clients before, so that first pages are not counted
    full_speed: bool = False


FIGURES = {
    "cpu": ("CPU per delivery, µs", lambda r: r["cpu_us_per_delivery"]),
    "rate": ("deliveries/s", lambda r: r["deliveries_per_s"]),
    "p99": ("p99, ms", lambda r: r["latency_p99_us"] / 1e3),
    "bytes": ("bytes per message", lambda r: r["bytes"] / max(r["deliveries"], 1)),
    "memory": ("memory per connection, bytes", lambda r: r["bytes_per_connection"]),
    "upgrades": ("upgrades per CPU second", lambda r: r["upgrades_per_cpu_s"]),
    "growth": ("growth of memory, MB",
               lambda r: (r["rss_end_bytes"] - r["rss_idle_bytes"]) / 2**20),
}


def loads(args):
    """All loads, as large as this run has them."""
    some = 50 if args.quick else 1000
    many = 50 if args.quick else 5000
    idle = 50 if args.quick else min(18000, descriptor_limit() - 1000)
    storm = 50 if args.quick else 10000
    seconds = ("--seconds", args.seconds)
    slow_s = args.seconds if args.quick else 2 * args.seconds

    def hot(rate):
        return ("--clients", some, "--rate", rate, *seconds)

    def hot_bare(rate):
        return lambda: bare_loop(some, rate, args.seconds)

    def many_channels(rate):
        options = ("--clients", many, "--channels", 20, "--of", 1000, *seconds)
        return (*options, "--rate", rate)

    return (
        Load("hot", f"hot channel, {some} clients, 50/s", hot(50), ("cpu", "p99"),
             bare=hot_bare(50)),
        Load("hot", f"hot channel, {some} clients, 200/s", hot(200), ("cpu", "rate", "p99"),
             bare=hot_bare(200)),
        Load("hot", f"hot channel, {some} clients, as fast as they keep up",
             (*hot(0), "--window", 64), ("rate", "cpu"), bare=hot_bare(0), full_speed=True),
        Load("many", f"{many} clients on 20 of 1,000 channels, 50,000 deliveries/s",
             many_channels(500), ("cpu", "p99"), 1000, without=()),
        Load("many", f"{many} clients on 20 of 1,000 channels, 200,000 deliveries/s",
             many_channels(2000), ("cpu", "rate", "p99"), 1000, without=()),
        Load("idle", f"{idle} idle clients", ("--clients", idle, "--idle", "--settle", 2),
             ("memory",), warm_up=True),
        Load("upgrades", f"{storm} upgrades in a storm", ("--clients", storm, "--storm"),
             ("upgrades",)),
        Load("compression", f"compressed, {some} clients, 20/s", (*hot(20), "--compress"),
             ("cpu", "rate", "bytes"), without=(PACED, "Socket.IO")),
        Load("compression", f"compressed, {some} clients, 200/s", (*hot(200), "--compress"),
             ("cpu", "rate", "bytes"), without=(PACED, "Socket.IO")),
        Load("slow", f"{some} clients, a tenth never reads, 1 KB, 2,000/s",
             ("--clients", some, "--stalled", some // 10, "--size", 1024, "--rate", 2000,
              "--seconds", slow_s), ("growth", "rate", "p99")),
    )


def parse():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="LOADS",
                        help="of hot, many, idle, upgrades, compression, slow; else all")
    parser.add_argument("--servers", metavar="NAMES",
                        help=f"of {', '.join([*CONTESTANTS, BARE])}; else all")
    parser.add_argument("--runs", type=int, default=3, help="of each (3)")
    parser.add_argument("--seconds", type=float, default=4, help="length of each (4)")
    parser.add_argument("--json", metavar="FILE", default=os.path.join(BUILD, "peers.json"),
                        help="where every run is written (peers.json in the build folder)")
    parser.add_argument("--quick", action="store_true",
                        help="the node and the bare loop, once and small: that it works")
    args = parser.parse_args()
    if args.quick:
        args.runs, args.seconds = 1, min(args.seconds, 0.5)
    default = ["tickcast", BARE] if args.quick else [*CONTESTANTS, BARE]
    args.servers = args.servers.split(",") if args.servers else default
    for name in args.servers:
        if name not in CONTESTANTS and name != BARE:
            parser.error(f"there is no server {name!r}")
    args.loads = loads(args)
    wanted = args.only.split(",") if args.only else [load.name for load in args.loads]
    for name in wanted:
        if name not in {load.name for load in args.loads}:
            parser.error(f"there is no load {name!r}")
    args.loads = [load for load in args.loads if load.name in wanted]
    return args


# --- measuring -----------------------------------------------------------------------------------


def run_once(load, server):
    if server == BARE:
        return load.bare()
    with CONTESTANTS[server].start(load.channels) as running:
        if load.warm_up:
            running.bench("--clients", 50, "--idle")
        return running.bench(*load.options)


def takes_part(load, server):
    return load.bare is not None if server == BARE else server not in load.without


def measure(load, servers, runs):
    """Results of each server: what it could not do is told as {"failure": why}."""
    results = {server: [] for server in servers}
    for _ in range(runs):
        for server in servers:
            if takes_part(load, server):
                try:
                    result = run_once(load, server)
                except (Failure, subprocess.TimeoutExpired) as why:
                    result = {"failure": str(why)}
                results[server].append(result)
                print(f"  {load.title}: {server} {result.get('failure', 'done')}",
                      file=sys.stderr, flush=True)
    return results


# --- the table -----------------------------------------------------------------------------------


def shown(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def cell(load, results, figure):
    """The median of those that were measured, and what did not arrive."""
    done = [r for r in results if "failure" not in r]
    values = []
    for result in done:
        try:
            values.append(FIGURES[figure][1](result))
        except KeyError:
            return ""  # the bare loop has not everything
    if not values:
        return "failed" if results else ""
    expected = sum(r.get("expected", 0) for r in done)
    lost = sum(r.get("lost", 0) for r in done) / expected if expected else 0
    is_bound = load.full_speed and statistics.median(r.get("load_busy", 0) for r in done) > 0.97
    return shown(statistics.median(values)) + (f" ({lost:.1%} missing)" if lost else "") + \
        (" †" if is_bound and figure == "rate" else "")


def print_head(machine, args):
    found = ", ".join(f"{name} {version}" for name, version in peer_install.versions().items())
    print(f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}; medians of "
          f"{args.runs} runs of {args.seconds:g} s, 256-byte quotes unless said.\n{found}.\n"
          "missing: lost, or not there half a minute after the last was published.\n"
          "† the core of client, publisher and Redis was full: the server may do more.\n")
    print("| load | figure | " + " | ".join(args.servers) + " |")
    print("|" + "---|" * (len(args.servers) + 2), flush=True)


def print_rows(load, results):
    for figure in load.figures:
        cells = " | ".join(cell(load, results[server], figure) for server in results)
        print(f"| {load.title} | {FIGURES[figure][0]} | {cells} |", flush=True)


def main():
    args = parse()
    if os.cpu_count() < 2:
        sys.exit("the comparison needs two cores")
    try:
        for install in {c.install for name, c in CONTESTANTS.items()
                        if name in args.servers and c.install}:
            install()
    except Failure as why:
        sys.exit(f"bench-peers: {why}")
    machine = describe()
    print_head(machine, args)
    found = {}
    for load in args.loads:
        found[load.title] = measure(load, args.servers, args.runs)
        print_rows(load, found[load.title])
    with open(args.json, "w", encoding="ascii") as f:
        json.dump({"machine": machine, "versions": peer_install.versions(), "loads": found}, f,
                  indent=1)
    failed = [r for results in found.values() for runs in results.values() for r in runs
              if "failure" in r]
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
