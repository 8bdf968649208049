#!/usr/bin/python3
"""The benchmark: named workloads against one node, side by side with the kernel's own limit.

The node (one worker) has core 0 for itself; Redis, the publisher and the reader share core 1. The
bare loop takes the node's place on core 0 and has the same reader. Figures of one machine on one
day differ by more than what they should show, so everything that is compared is alternated within
one run, and ratios and medians are what counts.

    BUILD=build tests/bench/run.py [--only alone,paced] [--runs 5] [--seconds 4] [--strict]

Prints a table and writes $BUILD/bench.json with every single run. The workloads conflation and
batches replay a recorded feed, which is no part of the project: --feed FILE or TICKCAST_FEED.
"""
import argparse
import concurrent.futures
import contextlib
import json
import os
import platform
import re
import resource
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

BUILD = os.environ.get("BUILD", "build")
NODE_CORE, LOAD_CORE = "0", "1"
START_LIMIT_S = 20
RUN_LIMIT_S = 180


class Failure(Exception):
    """A run that could not be done; the message is for people."""


# --- processes -----------------------------------------------------------------------------------


def pinned(core, *command):
    return ["taskset", "-c", core, *map(str, command)]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def ready_line(process):
    """The first line of a program's standard output, within the limit."""
    readable, _, _ = select.select([process.stdout], [], [], START_LIMIT_S)
    line = process.stdout.readline() if readable else ""
    if not line.startswith("ready "):
        raise Failure(f"{process.args[3]} did not become ready")
    return dict(word.split("=", 1) for word in line.split()[1:])


def end(process):
    process.terminate()
    try:
        process.wait(START_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextlib.contextmanager
def redis_server():
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            pinned(LOAD_CORE, "redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "",
                   "--appendonly", "no", "--dir", folder,
                   "--client-output-buffer-limit", "pubsub 0 0 0"),
            stdout=subprocess.DEVNULL)
        # It needs little of the core that it shares with the reader, but needs it at once.
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, process.pid, -10)
        try:
            limit = time.monotonic() + START_LIMIT_S
            while subprocess.run(["redis-cli", "-p", str(port), "ping"],
                                 capture_output=True, check=False).returncode != 0:
                if time.monotonic() > limit:
                    raise Failure("redis-server did not start")
                time.sleep(0.05)
            yield f"redis://127.0.0.1:{port}"
        finally:
            end(process)


class Node:
    """A running node, and the load generator aimed at it."""

    def __init__(self, redis, process, ready, prefix):
        self.redis = redis
        self.prefix = prefix
        self.process = process
        self.ready = ready

    def await_ready(self):
        limit = time.monotonic() + START_LIMIT_S
        while time.monotonic() < limit:
            try:
                with urllib.request.urlopen(f"http://{self.ready['ops']}/readyz", timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        raise Failure("the node did not become ready")

    def bench(self, *options):
        return bench("--url", f"ws://{self.ready['listen']}/ws", "--redis", self.redis,
                     "--prefix", self.prefix, "--pid", self.process.pid, *options)


@contextlib.contextmanager
def node(redis, **settings):
    # The canary is slow, so that a machine busy with other things does not look like a lost Redis.
    options = {"listen.address": "127.0.0.1:0", "ops.address": "127.0.0.1:0", "redis.url": redis,
               "node.workers": 1, "node.log_level": "warn", "node.ping_ms": 0,
               "listen.drain_grace_s": 0, "listen.drain_s": 0,
               "redis.canary_ms": 5000, "redis.prefix": "tc:",
               **{name.replace("__", "."): value for name, value in settings.items()}}
    sets = [word for name, value in options.items() for word in ("--set", f"{name}={value}")]
    process = subprocess.Popen(pinned(NODE_CORE, f"{BUILD}/tickcast", *sets),
                               stdout=subprocess.PIPE, text=True)
    try:
        running = Node(redis, process, ready_line(process), options["redis.prefix"])
        running.await_ready()
        yield running
    finally:
        end(process)


def bench(*options):
    """One run of the load generator. Losses are figures here, not failures."""
    command = pinned(LOAD_CORE, f"{BUILD}/tickcastctl", "bench", "--json", *options)
    done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_LIMIT_S, check=False)
    if not done.stdout:
        raise Failure(done.stderr.strip() or "the load generator printed nothing")
    return json.loads(done.stdout)


def bare_loop(clients, rate, seconds, batch=1):
    """One run of the kernel's limit, with the reader that the node has."""
    process = subprocess.Popen(
        pinned(NODE_CORE, f"{BUILD}/bare_loop", "--clients", clients, "--rate", rate,
               "--seconds", seconds, "--batch", batch),
        stdout=subprocess.PIPE, text=True)
    try:
        port = ready_line(process)["port"]
        read = bench("--url", f"ws://127.0.0.1:{port}/ws", "--clients", clients, "--raw",
                     "--publisher", "none", "--seconds", seconds)
        line, _ = process.communicate(timeout=RUN_LIMIT_S)
    finally:
        end(process)
    result = json.loads(line)
    if read["lost"] or read["out_of_order"]:
        raise Failure("the bare loop's frames did not arrive as sent")
    return {**result, "latency_p99_us": read["latency_p99_us"]}


# --- results -------------------------------------------------------------------------------------


class Figures:
    """What the workloads found: rows for the table, and every run for the file."""

    def __init__(self):
        self.rows = []
        self.runs = {}

    def keep(self, workload, result):
        self.runs.setdefault(workload, []).append(result)
        return result

    def add(self, name, values, unit, at_most=None, at_least=None, note=""):
        middle = statistics.median(values)
        met = (at_most is None or middle <= at_most) and (at_least is None or middle >= at_least)
        target = f"<= {at_most:g}" if at_most is not None else \
                 f">= {at_least:g}" if at_least is not None else ""
        row = {"name": name, "median": middle, "min": min(values), "max": max(values),
               "unit": unit, "target": target, "met": met if target else None, "note": note}
        self.rows.append(row)
        print(format_row(row), flush=True)


def shown(value):
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3f}"


def format_row(row):
    verdict = {True: "met", False: "MISSED", None: ""}[row["met"]]
    spread = f"{shown(row['min'])} .. {shown(row['max'])}"
    return (f"{row['name']:<43} {shown(row['median']):>11} {row['unit']:<4} "
            f"{row['target']:>9} {verdict:<6} {spread:<24} {row['note']}").rstrip()


def median_of(results, name):
    return statistics.median(r[name] for r in results)


def noted(results):
    """Losses and the usual latency, for the last column."""
    lost = sum(r["lost"] + r["out_of_order"] + r["closed"] for r in results)
    p99_ms = median_of(results, "latency_p99_us") / 1e3
    return f"{'no loss' if lost == 0 else f'LOST OR MISORDERED: {lost}'}, p99 {p99_ms:.1f} ms"


# --- workloads -----------------------------------------------------------------------------------


def alone(redis, args, figures):
    """Each message written by itself: what the node adds to the kernel's send.

    A window of one makes sure of that: a node that falls behind would merge, and look better.
    """
    pairs = []
    with node(redis, node__pace_ms=0) as n:
        for _ in range(max(args.runs, 5)):
            ours = n.bench("--clients", 1000, "--raw", "--rate", 200, "--window", 1,
                           "--seconds", args.seconds)
            bare = bare_loop(1000, 200, args.seconds)
            pairs.append(figures.keep("alone", {"node": ours, "bare": bare}))
    figures.add("alone: node, 1000 x 200/s", [p["node"]["cpu_us_per_delivery"] for p in pairs],
                "us", note=noted([p["node"] for p in pairs]))
    figures.add("alone: bare loop", [p["bare"]["cpu_us_per_send"] for p in pairs], "us")
    figures.add("alone: node to bare loop",
                [p["node"]["cpu_us_per_delivery"] / p["bare"]["cpu_us_per_send"] for p in pairs],
                "x", at_most=1.15)


def full_core(results):
    """What a core would do that the node had for itself, which on a busy machine it has not."""
    rate = statistics.median(r["deliveries"] / r["cpu_s"] for r in results) / 1e6
    share = statistics.median(r["cpu_s"] / r["seconds"] for r in results)
    load = statistics.median(r["own_cpu_s"] / r["seconds"] for r in results)
    return (f"{noted(results)}, {rate:.1f} M per CPU s, {share:.0%} of the core, "
            f"reader {load:.0%} of its own")


def capacity(redis, args, figures):
    """Deliveries per second on one core: offered at the target, and as fast as clients keep up."""
    for clients, target, window in ((1000, 5e6, 512), (10000, 3e6, 512)):
        with node(redis, node__pace_ms=0) as n:
            offered, closed = [], []
            for _ in range(args.runs):
                common = ("--clients", clients, "--raw", "--seconds", args.seconds)
                offered.append(figures.keep(f"capacity {clients} offered",
                                            n.bench(*common, "--rate", target / clients)))
                closed.append(figures.keep(f"capacity {clients} closed loop", n.bench(
                    *common, "--rate", 0, "--window", window)))
        figures.add(f"capacity: {clients}, offered {target / 1e6:g} M/s",
                    [r["deliveries_per_s"] / 1e6 for r in offered], "M/s",
                    at_least=target / 1e6 * 0.98, note=full_core(offered))
        figures.add(f"capacity: {clients}, closed loop",
                    [r["deliveries_per_s"] / 1e6 for r in closed], "M/s", at_least=target / 1e6,
                    note=full_core(closed))


def paced(redis, args, figures):
    """A million deliveries a second with writes 10 ms apart, ten messages in each."""
    pairs = []
    with node(redis, node__pace_ms=10) as n:
        for _ in range(args.runs):
            ours = n.bench("--clients", 1000, "--raw", "--rate", 1000, "--seconds", args.seconds)
            bare = bare_loop(1000, 100, args.seconds, batch=10)
            pairs.append(figures.keep("paced", {"node": ours, "bare": bare}))
    figures.add("paced 10 ms: 1000 x 1000/s", [p["node"]["cpu_us_per_delivery"] for p in pairs],
                "us", at_most=0.30, note=noted([p["node"] for p in pairs]))
    figures.add("paced: bare loop, 10 per send",
                [p["bare"]["cpu_us_per_delivery"] for p in pairs], "us")


def deflate(redis, args, figures):
    """One message per frame: what compression adds, when a frame is compressed once for all."""
    common = ("--clients", 1000, "--rate", 200, "--window", 1, "--seconds", args.seconds)
    pairs = []
    with node(redis, node__pace_ms=0) as n:
        for _ in range(args.runs):
            plain = n.bench(*common)
            packed = n.bench(*common, "--compress")
            pairs.append(figures.keep("deflate", {"plain": plain, "packed": packed}))
    for kind in ("plain", "packed"):
        runs = [p[kind] for p in pairs]
        size = median_of(runs, "bytes") / median_of(runs, "deliveries")
        figures.add(f"deflate: {kind}", [r["cpu_us_per_delivery"] for r in runs], "us",
                    note=f"{noted(runs)}, {size:.0f} bytes each")
    figures.add("deflate: packed to plain", [p["packed"]["cpu_us_per_delivery"] /
                                             p["plain"]["cpu_us_per_delivery"] for p in pairs],
                "x", at_most=1.2)


def idle(redis, args, figures):
    """The process's memory for a connection with one subscription that does nothing."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    clients = min(18000, limit - 1000)
    for name, options in (("plain", ()), ("compression", ("--compress",))):
        runs = []
        for _ in range(args.runs):
            with node(redis) as n:
                n.bench("--clients", 50, "--idle", *options)  # touches code and first pages
                runs.append(figures.keep(f"idle {name}", n.bench(
                    "--clients", clients, "--idle", "--settle", 2, *options)))
        figures.add(f"idle: {clients}, {name}", [r["bytes_per_connection"] for r in runs], "B",
                    at_most=640)


def storm(redis, args, figures):
    """Connects with one subscription as fast as the node takes them."""
    with node(redis) as n:
        runs = [figures.keep("storm", n.bench("--clients", 10000, "--storm"))
                for _ in range(args.runs)]
    figures.add("storm: upgrades per CPU second", [r["upgrades_per_cpu_s"] for r in runs], "/s")


MANY = ("--clients", 5000, "--channels", 20, "--of", 1000)
MANY_PER_PUBLICATION = 5000 * 20 / 1000


def many(redis, args, figures):
    """Many channels: 5,000 clients on 20 random ones of 1,000, so that no two hear the same."""
    def run(n, name, *options):
        result = n.bench(*MANY, "--seconds", args.seconds, *options)
        return figures.keep(f"many {name}", result)

    def cpu(name, runs, at_most=None):
        figures.add(f"many: {name}", [r["cpu_us_per_delivery"] for r in runs], "us",
                    at_most=at_most, note=full_core(runs))

    formats = {"raw": ("--raw",), "json": (), "packed": ("--compress",)}
    offered = {200_000: (0, 3.5), 800_000: (50, 1.0)}
    for rate, (pace_ms, at_most) in offered.items():
        with node(redis, node__pace_ms=pace_ms) as n:
            for name, options in formats.items():
                title = f"{name}, {rate:,}/s, pace {pace_ms}"
                runs = [run(n, title, "--rate", rate / MANY_PER_PUBLICATION, *options)
                        for _ in range(args.runs)]
                cpu(title, runs, at_most if name == "raw" else None)
    with node(redis, node__pace_ms=0) as n:
        for name, options in formats.items():
            # As fast as the slowest keeps up: what is lost here is the workload's own failure.
            runs = [run(n, f"{name}, closed loop", "--rate", 0, *options)
                    for _ in range(args.runs)]
            figures.add(f"many: {name}, closed loop", [r["deliveries_per_s"] / 1e6 for r in runs],
                        "M/s", note=full_core(runs))
            cpu(f"{name}, closed loop", runs)


def peak_resident_bytes(process):
    with open(f"/proc/{process.pid}/status", encoding="ascii") as f:
        return int(re.search(r"VmHWM:\s*(\d+) kB", f.read()).group(1)) * 1024


def slow(redis, args, figures):
    """Slow readers: a tenth of 1,000 clients never reads, 1 KB at 2,000/s; memory and the others."""
    common = ("--clients", 1000, "--size", 1024, "--rate", 2000, "--seconds", args.slow_seconds)
    pairs = []
    for _ in range(args.runs):
        pair = {}
        for name, options in (("without", ()), ("with", ("--stalled", 100))):
            # A node each: the growth is from nothing, and the peak is this run's.
            with node(redis) as n:
                pair[name] = n.bench(*common, *options)
                pair[name]["rss_peak_bytes"] = peak_resident_bytes(n.process)
        pairs.append(figures.keep("slow", pair))
    for name in ("without", "with"):
        runs = [p[name] for p in pairs]
        for what, key in (("growth at the end", "rss_end_bytes"), ("peak", "rss_peak_bytes")):
            figures.add(f"slow: {name}, {what}",
                        [(r[key] - r["rss_idle_bytes"]) / 2**20 for r in runs], "MB",
                        at_most=16 if name == "with" else None, note=noted(runs))
    figures.add("slow: healthy p99, with to without",
                [median_of([p["with"] for p in pairs], "latency_p99_us") /
                 median_of([p["without"] for p in pairs], "latency_p99_us")], "x", at_most=1.3)


# Each holds a channel's updates to one in so long.
CONFLATIONS = {"none": {}, **{f"batch_ms {ms}": {"namespace__quote__batch_ms": ms}
                              for ms in (100, 250, 1000)},
               **{f"max_rate {r}": {"namespace__quote__max_rate": r} for r in (10, 4, 1)}}
CONFLATION_CLIENTS = 50
BATCHED_PACE_MS = 50


def per_frame(result):
    """Items in each frame. The few frames that are no push are not told apart."""
    return result["deliveries"] / max(result["frames"], 1)


def replay_conflated(redis, args, index, settings, pace_ms, options):
    """One replay into a node of its own, under a prefix of its own: several run at a time."""
    with node(redis, redis__prefix=f"c{index}:", node__pace_ms=pace_ms, **settings) as n:
        return n.bench("--clients", CONFLATION_CLIENTS, "--tape", args.feed, "--speed", args.speed,
                       *options)


def conflated_note(result, base):
    accounted = "all accounted for" if result["missed"] == result["lost"] else \
        f"LOST {result['lost']:,} BUT SAID {result['missed']:,}"
    return (f"bytes {result['bytes'] / base['bytes']:.3f}, "
            f"frames {result['frames'] / base['frames']:.3f} of {per_frame(result):.2f} items, "
            f"CPU {result['cpu_s'] / base['cpu_s']:.2f}, {accounted}")


def conflation(redis, args, figures):
    """The recorded feed at its pace x --speed, conflated and batched: what is left to be sent.

    Everything is held against what goes out unconflated, unbatched and uncompressed.
    """
    formats = {"plain": (), "packed": ("--compress",)}
    base = None
    for pace_ms in (0, BATCHED_PACE_MS):
        for kind, options in formats.items():
            with concurrent.futures.ThreadPoolExecutor(len(CONFLATIONS)) as pool:
                results = dict(zip(CONFLATIONS, pool.map(
                    lambda of: replay_conflated(redis, args, *of, pace_ms, options),
                    enumerate(CONFLATIONS.values()))))
            base = base or results["none"]
            for name, result in results.items():
                title = f"conflation: {name}, {kind}, pace {pace_ms}"
                figures.keep(title, result)
                figures.add(title, [result["deliveries"] / base["deliveries"]], "x",
                            note=conflated_note(result, base))


BATCH_RATE, BATCH_PACE_MS = 1000, 10  # ten in each frame


def write_quotes(feed, path):
    """The feed without its snapshots: one of them is longer than a hundred quotes."""
    with open(feed, "rb") as source, open(path, "wb") as out:
        out.writelines(line for line in source if b'"type":"snapshot"' not in line)


def batches(redis, args, figures):
    """Ten quotes of the recorded feed in each frame: bytes on the wire, and CPU, compressed."""
    pairs = []
    with tempfile.TemporaryDirectory() as folder, node(redis, node__pace_ms=BATCH_PACE_MS) as n:
        tape = os.path.join(folder, "quotes")
        write_quotes(args.feed, tape)
        common = ("--clients", 200, "--tape", tape, "--speed", 0, "--rate", BATCH_RATE)
        for _ in range(args.runs):
            pairs.append(figures.keep("batches", {"plain": n.bench(*common),
                                                  "packed": n.bench(*common, "--compress")}))
    for kind in ("plain", "packed"):
        runs = [p[kind] for p in pairs]
        lost = sum(r["lost"] for r in runs)
        note = f"{statistics.median(map(per_frame, runs)):.1f} items in a frame, " \
               f"{'no loss' if lost == 0 else f'LOST {lost}'}"
        figures.add(f"batches: {kind}, wire to payload bytes",
                    [r["bytes"] / r["payload_bytes"] for r in runs], "x",
                    at_most=0.35 if kind == "packed" else None, note=note)
        figures.add(f"batches: {kind}", [r["cpu_us_per_delivery"] for r in runs], "us")
    figures.add("batches: packed to plain", [p["packed"]["cpu_us_per_delivery"] /
                                             p["plain"]["cpu_us_per_delivery"] for p in pairs],
                "x", at_most=1.3)


def bare(_redis, args, figures):
    """The kernel's limit by sockets and messages per send; not run unless asked for."""
    for clients in (1000, 5000, 10000):
        for batch in (1, 4, 16, 64):
            rate = 200_000 / clients if batch < 64 else 50_000 / clients
            runs = [figures.keep(f"bare {clients} {batch}",
                                 bare_loop(clients, rate, args.seconds, batch))
                    for _ in range(args.runs)]
            figures.add(f"bare: {clients} sockets, {batch} per send",
                        [r["cpu_us_per_send"] for r in runs], "us",
                        note=f"{median_of(runs, 'cpu_us_per_delivery'):.3f} each")


WORKLOADS = {w.__name__: w for w in (alone, capacity, paced, deflate, many, slow, conflation,
                                     batches, idle, storm, bare)}
NEED_FEED = ("conflation", "batches")


def default_names(feed):
    return [name for name in WORKLOADS if name != "bare" and (feed or name not in NEED_FEED)]


# --- main ----------------------------------------------------------------------------------------


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n", 1)[0],
        epilog=" ".join(f"{n}: {w.__doc__.splitlines()[0]}" for n, w in WORKLOADS.items()))
    parser.add_argument("--only", help="names, separated by commas; all but bare unless given")
    parser.add_argument("--runs", type=int, default=5, help="of each; medians are shown")
    parser.add_argument("--seconds", type=float, default=4, help="length of each")
    parser.add_argument("--slow-seconds", type=float, default=14, help="length of the slow ones")
    # Taken out, because a node would wonder which section of its configuration FEED is.
    parser.add_argument("--feed", default=os.environ.pop("TICKCAST_FEED", None),
                        help="a recorded feed, as tickcastctl replay takes it")
    parser.add_argument("--speed", type=float, default=1, help="of the feed, for conflation")
    parser.add_argument("--strict", action="store_true", help="a missed target is a failure")
    args = parser.parse_args()
    args.names = args.only.split(",") if args.only else default_names(args.feed)
    for name in args.names:
        if name not in WORKLOADS:
            parser.error(f"there is no workload {name!r}; there are {', '.join(WORKLOADS)}")
        if name in NEED_FEED and not args.feed:
            parser.error(f"{name} needs --feed or TICKCAST_FEED")
    return args


def machine():
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as f:
        model = re.search(r"model name\s*: (.*)", f.read())
    return {"cpu": model.group(1) if model else platform.machine(), "cores": os.cpu_count(),
            "kernel": platform.release(), "load": os.getloadavg()[0]}


def main():
    args = parse()
    if os.cpu_count() < 2:
        sys.exit("the benchmark needs two cores")
    figures = Figures()
    before = machine()
    print(f"{before['cpu']}, {before['cores']} cores, Linux {before['kernel']}, "
          f"load {before['load']:.2f}; medians of {args.runs} runs of {args.seconds:g} s")
    failed = False
    with redis_server() as redis:
        for name in args.names:
            try:
                WORKLOADS[name](redis, args, figures)
            except (Failure, subprocess.TimeoutExpired) as why:
                failed = True
                print(f"{name}: {why}", flush=True)
    with open(os.path.join(BUILD, "bench.json"), "w", encoding="ascii") as f:
        json.dump({"machine": before, "rows": figures.rows, "runs": figures.runs}, f, indent=1)
    missed = [row for row in figures.rows if row["met"] is False]
    sys.exit(1 if failed or (args.strict and missed) else 0)


if __name__ == "__main__":
    main()
