"""W7: the recorded feed, at its own bursts and at 100 times its rate."""
import os
import re
import statistics
import tempfile

from figures import median_of
from servers import node
from workloads import workload
from workloads.compression import per_frame

CLIENTS = 100
TIMED_CLIENTS = 4  # those that look into what they get: the reader has to keep up
FRAME = re.compile(rb"(\d{10}\.\d+): ")


def write_repeated(feed, path, times, seconds):
    """The first seconds of a feed, times over: at 100 times its pace it is soon at its end."""
    with open(feed, "rb") as source:
        frames = [(float(found.group(1)), line[found.end():]) for line in source
                  if (found := FRAME.match(line))]
    frames = [(at, frame) for at, frame in frames if at - frames[0][0] <= seconds]
    length = frames[-1][0] - frames[0][0] + 0.01
    with open(path, "wb") as out:
        for turn in range(times):
            out.writelines(b"%.6f: %s" % (at + turn * length, frame) for at, frame in frames)


def add(run, title, runs):
    untold = sum(r["lost"] - r["missed"] for r in runs)
    conflated = sum(r["missed"] for r in runs) / sum(r["expected"] for r in runs)
    p50, p99 = (median_of(runs, f"latency_{q}_us") / 1e3 for q in ("p50", "p99"))
    share = statistics.median(r["cpu_s"] / r["seconds"] for r in runs)
    size = statistics.median(r["bytes"] / r["deliveries"] for r in runs)
    run.figures.add(title, [r["cpu_us_per_delivery"] for r in runs], "us", note=(
        f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, {size:.0f} bytes each, "
        f"{statistics.median(map(per_frame, runs)):.1f} in a frame, "
        f"{'no loss' if untold == 0 else f'LOST {untold}'}, {conflated:.1%} conflated, "
        f"{share:.0%} of the core, load core {median_of(runs, 'load_busy'):.0%}"))


def replay(run, name, speed, times, count):
    seconds = 3600 if run.shrink == 1 else 1
    with tempfile.TemporaryDirectory() as folder:
        tape = os.path.join(folder, "feed")
        write_repeated(run.feed, tape, times, seconds)
        for pace_ms in (0, 50):
            with node(run.redis, node__pace_ms=pace_ms) as n:
                for kind, options in (("plain", ()), ("packed", ("--compress",))):
                    title = f"w7.{name}: {kind}, pace {pace_ms}"
                    runs = [run.figures.keep(title, n.bench(
                        "--clients", run.size(CLIENTS), "--tape", tape, "--speed", speed,
                        "--inflate", TIMED_CLIENTS, *options)) for _ in range(count)]
                    add(run, title, runs)


@workload("w7.real", needs_feed=True)
def real(run):
    """recorded feed at its real bursts, 100 clients on all of it: CPU per delivery, latency"""
    replay(run, "real", 1, 1, 1)  # half a minute each


@workload("w7.fast", needs_feed=True)
def fast(run):
    """recorded feed at 100 times its rate, ten times over, 100 clients on all of it"""
    replay(run, "fast", 100, 10, run.runs)
