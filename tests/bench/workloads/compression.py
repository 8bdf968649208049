"""W4: what compression adds."""
import os
import statistics
import tempfile

from figures import median_of, noted
from servers import node
from workloads import workload


@workload("w4.single")
def single(run):
    """compression, one message per frame, each compressed once for all"""
    common = ("--clients", run.size(1000), "--rate", 200, "--window", 1, "--seconds", run.seconds)
    pairs = []
    with node(run.redis, node__pace_ms=0) as n:
        for _ in range(run.runs):
            plain = n.bench(*common)
            packed = n.bench(*common, "--compress")
            pairs.append(run.figures.keep("w4.single", {"plain": plain, "packed": packed}))
    for kind in ("plain", "packed"):
        runs = [p[kind] for p in pairs]
        size = median_of(runs, "bytes") / median_of(runs, "deliveries")
        run.figures.add(f"w4.single: {kind}", [r["cpu_us_per_delivery"] for r in runs], "us",
                        note=f"{noted(runs)}, {size:.0f} bytes each")
    run.figures.add("w4.single: packed to plain",
                    [p["packed"]["cpu_us_per_delivery"] / p["plain"]["cpu_us_per_delivery"]
                     for p in pairs], "x", at_most=1.15)


BATCH_RATE, BATCH_PACE_MS = 1000, 10  # ten in each frame


def write_quotes(feed, path):
    """The feed without its snapshots: one of them is longer than a hundred quotes."""
    with open(feed, "rb") as source, open(path, "wb") as out:
        out.writelines(line for line in source if b'"type":"snapshot"' not in line)


def per_frame(result):
    """Items in each frame. The few frames that are no push are not told apart."""
    return result["deliveries"] / max(result["frames"], 1)


@workload("w4.batched", needs_feed=True)
def batched(run):
    """compression of ten quotes of the recorded feed in each frame: bytes on the wire, and CPU"""
    pairs = []
    with tempfile.TemporaryDirectory() as folder, \
            node(run.redis, node__pace_ms=BATCH_PACE_MS) as n:
        tape = os.path.join(folder, "quotes")
        write_quotes(run.feed, tape)
        common = ("--clients", run.size(200), "--tape", tape, "--speed", 0, "--rate", BATCH_RATE)
        for _ in range(run.runs):
            pairs.append(run.figures.keep("w4.batched", {
                "plain": n.bench(*common), "packed": n.bench(*common, "--compress")}))
    for kind in ("plain", "packed"):
        runs = [p[kind] for p in pairs]
        lost = sum(r["lost"] for r in runs)
        note = f"{statistics.median(map(per_frame, runs)):.1f} items in a frame, " \
               f"{'no loss' if lost == 0 else f'LOST {lost}'}"
        run.figures.add(f"w4.batched: {kind}, wire to payload bytes",
                        [r["bytes"] / r["payload_bytes"] for r in runs], "x",
                        at_most=0.35 if kind == "packed" else None, note=note)
        run.figures.add(f"w4.batched: {kind}", [r["cpu_us_per_delivery"] for r in runs], "us")
    run.figures.add("w4.batched: packed to plain",
                    [p["packed"]["cpu_us_per_delivery"] / p["plain"]["cpu_us_per_delivery"]
                     for p in pairs], "x", at_most=1.3)
