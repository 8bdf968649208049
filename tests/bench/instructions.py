#!/usr/bin/python3
"""Instructions of the node's own for a delivery and for an upgrade, counted by callgrind.

What a busy machine cannot time it can count: two runs of one build differ by a dozen instructions
or a few percent, so what two builds differ by beyond that is the change between them. The kernel's
share is not in it; --calls says how often the node asks it for something, counted by strace.

    BUILD=build tests/bench/instructions.py [--only w1.alone,w2] [--calls] [--keep FOLDER]

Each workload runs a short and a long time, and what the long one has more is divided: starting,
connecting and leaving are in both and drop out. A node under callgrind is some thirty times slower,
so there are fewer clients here than in `make bench`, but the shape is the same: so many messages in
a write, and in w2 a hundred clients to a publication. --keep leaves callgrind's files in a folder;
callgrind.3 is the long run's, for `callgrind_annotate --threshold=100`, which shows main and what
else had not returned as 100 % and then the functions.
"""
import argparse
import collections
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

from machine import START_LIMIT_S, Failure
from servers import node, redis_server

SHORT_S, LONG_S = 2, 8
HOT = ("--clients", 200)
MANY = ("--clients", 500, "--channels", 20, "--of", 100)
FEW = ("--clients", 25, "--channels", 20, "--of", 100)  # each is compressed for by itself: slow
EACH, MERGED = {"node__pace_ms": 0}, {"node__pace_ms": 50}


def load(settings, *options):
    """Deliveries, over a short and a long time."""
    return settings, "deliveries", [(*options, "--seconds", s) for s in (SHORT_S, LONG_S)]


def storm(few, many):
    """Upgrades with one subscription."""
    return {}, "connected", [("--storm", "--clients", clients) for clients in (few, many)]


# Name -> the node's settings, what is counted, and the options of the short and the long run.
WORKLOADS = {
    "w1.alone.raw": load(EACH, *HOT, "--raw", "--rate", 50, "--window", 1),
    "w1.alone.json": load(EACH, *HOT, "--rate", 50, "--window", 1),
    "w1.paced.raw": load(MERGED, *HOT, "--raw", "--rate", 200),
    "w1.paced.json": load(MERGED, *HOT, "--rate", 200),
    "w2.unpaced.raw": load(EACH, *MANY, "--raw", "--rate", 100),
    "w2.unpaced.json": load(EACH, *MANY, "--rate", 100),
    "w2.paced.raw": load(MERGED, *MANY, "--raw", "--rate", 800),
    "w2.paced.json": load(MERGED, *MANY, "--rate", 800),
    "w2.paced.packed": load(MERGED, *FEW, "--compress", "--rate", 800),
    "w6.storm": storm(200, 2000),
}


def await_text(path, pattern):
    """What a file says once it is there."""
    limit = time.monotonic() + START_LIMIT_S
    while time.monotonic() < limit:
        if os.path.exists(path):
            with open(path, encoding="ascii", errors="replace") as f:
                found = re.search(pattern, f.read(), re.MULTILINE)
            if found:
                return found
        time.sleep(0.05)
    raise Failure(f"{path} was not written")


# --- instructions --------------------------------------------------------------------------------


def count_instructions(redis, settings, unit, runs, folder):
    """(instructions, units) of each run, all of them against one node."""
    parts = os.path.join(folder, "callgrind")
    under = ("valgrind", "--tool=callgrind", "--quiet", f"--callgrind-out-file={parts}")
    counts = []
    with node(redis, under=under, **settings) as n:
        n.bench(*runs[0])  # meets code and memory for the first time
        for part in range(1, len(runs) + 2):
            # What was counted is written and set to zero.
            subprocess.run(["callgrind_control", "--dump", str(n.process.pid)], check=True,
                           capture_output=True)
            total = int(await_text(f"{parts}.{part}", r"^totals: (\d+)$").group(1))
            if part > 1:
                counts.append((total, result[unit]))
            if part <= len(runs):
                result = n.bench(*runs[part - 1])
    return counts


def instructions_each(redis, workload, folder):
    (few, units_few), (many, units_many) = count_instructions(redis, *workload, folder)
    return (many - few) / (units_many - units_few), units_many - units_few


# --- system calls --------------------------------------------------------------------------------


def count_calls(redis, settings, unit, options, folder):
    """How often one run made the node call, by the call's name."""
    path = os.path.join(folder, "calls")
    # -D: the node is our child, and strace is somebody else's.
    under = ("strace", "-D", "-f", "-c", "-U", "calls,name", "-o", path)
    with node(redis, under=under, **settings) as n:
        units = n.bench(*options)[unit]
    await_text(path, r" total$")
    with open(path, encoding="ascii") as f:
        rows = [line.split() for line in f]
    os.unlink(path)
    return collections.Counter({row[1]: int(row[0]) for row in rows
                                if len(row) == 2 and row[0].isdigit() and row[1] != "total"}), units


def calls_each(redis, workload, folder):
    settings, unit, runs = workload
    (few, units_few), (many, units_many) = (
        count_calls(redis, settings, unit, options, folder) for options in runs)
    many.subtract(few)
    each = {name: calls / (units_many - units_few) for name, calls in many.most_common()}
    return {name: calls for name, calls in each.items() if calls >= 0.0005}


# --- main ----------------------------------------------------------------------------------------


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="NAMES", default="w",
                        help="workloads or what their names start with, separated by commas; of "
                             + ", ".join(WORKLOADS))
    parser.add_argument("--calls", action="store_true", help="system calls instead")
    parser.add_argument("--keep", metavar="FOLDER", help="where callgrind's files are left")
    args = parser.parse_args()
    args.names = [name for name in WORKLOADS if name.startswith(tuple(args.only.split(",")))]
    if not args.names:
        parser.error(f"no workload starts with {args.only}")
    return args


def show(redis, name, args):
    with tempfile.TemporaryDirectory() as folder:
        if args.keep:
            folder = os.path.join(args.keep, name)
            if os.path.exists(folder):  # parts of another run would be taken for this one's
                raise Failure(f"{folder} is there already")
            os.makedirs(folder)
        if args.calls:
            each = calls_each(redis, WORKLOADS[name], folder)
            calls = ", ".join(f"{call} {n:.3f}" for call, n in each.items())
            print(f"{name:<17} {sum(each.values()):7.3f} calls each: {calls}", flush=True)
        else:
            each, units = instructions_each(redis, WORKLOADS[name], folder)
            print(f"{name:<17} {each:9,.0f} instructions each, of {units:,}", flush=True)


def main():
    args = parse()
    tool = "strace" if args.calls else "valgrind"
    if shutil.which(tool) is None:
        sys.exit(f"{tool} is not installed: apt-get install {tool}")
    failed = False
    with redis_server() as redis:
        for name in args.names:
            try:
                show(redis, name, args)
            except (Failure, subprocess.SubprocessError) as why:
                failed = True
                print(f"{name}: {why}", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
