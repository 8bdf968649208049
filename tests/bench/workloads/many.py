"""W2: many channels, 5,000 clients on 20 random ones of 1,000, so that no two hear the same."""
from figures import full_core
from servers import bare_loop, node
from workloads import workload
from workloads.hot import per_send

CLIENTS, CHANNELS, OF = 5000, 20, 1000
PACE_MS = 50
WINDOW = 8192  # publications in flight at most, eight of each channel: what a write can merge
FORMATS = {"raw": ("--raw",), "json": (), "packed": ("--compress",)}


def measure(run, n, name, *options):
    result = n.bench_writes("--clients", run.size(CLIENTS), "--channels", CHANNELS, "--of", OF,
                     "--seconds", run.seconds, *options)
    return run.figures.keep(f"w2 {name}", result)


def publications_per_s(deliveries_per_s):
    return deliveries_per_s / (CLIENTS * CHANNELS / OF)


@workload("w2.capacity")
def capacity(run):
    """many channels, as fast as the slowest client keeps up, and offered 2.7 M/s; nothing lost"""
    with node(run.redis, node__pace_ms=PACE_MS) as n:
        for name, options in FORMATS.items():
            # As fast as the slowest keeps up: what is lost here is the workload's own failure.
            runs = [measure(run, n, f"{name}, closed loop", "--rate", 0, "--window", WINDOW,
                            *options)
                    for _ in range(run.runs)]
            run.figures.add(f"w2.capacity: {name}, closed loop",
                            [r["deliveries_per_s"] / 1e6 for r in runs], "M/s",
                            at_least=2.7 if name == "raw" else None, note=full_core(runs))
            run.figures.add(f"w2.capacity: {name}, CPU per delivery",
                            [r["cpu_us_per_delivery"] for r in runs], "us")
        runs = [measure(run, n, "raw, offered", "--raw", "--rate", publications_per_s(2.7e6))
                for _ in range(run.runs)]
        run.figures.add("w2.capacity: raw, offered 2.7 M/s",
                        [r["deliveries_per_s"] / 1e6 for r in runs], "M/s", at_least=2.7 * 0.98,
                        note=full_core(runs))


def offered(run, name, rate, pace_ms, at_most):
    """A fixed rate in each format, and the bare loop with as many messages in each send."""
    runs = {kind: [] for kind in FORMATS}
    bare = []
    with node(run.redis, node__pace_ms=pace_ms) as n:
        for _ in range(run.runs):
            for kind, options in FORMATS.items():
                runs[kind].append(measure(run, n, f"{name} {kind}", "--rate",
                                          publications_per_s(rate), *options))
            batch = max(round(runs["raw"][-1]["per_write"]), 1)
            bare.append(run.figures.keep(f"w2.{name} bare", bare_loop(
                run.size(CLIENTS), rate / CLIENTS / batch, run.seconds, batch)))
    for kind in FORMATS:
        run.figures.add(f"w2.{name}: {kind}, {rate:,}/s, pace {pace_ms}",
                        [r["cpu_us_per_delivery"] for r in runs[kind]], "us",
                        at_most=at_most if kind == "raw" else None, note=full_core(runs[kind]))
    run.figures.add(f"w2.{name}: bare loop", [r["cpu_us_per_delivery"] for r in bare], "us",
                    note=per_send(bare))
    run.figures.add(f"w2.{name}: raw to bare loop",
                    [a["cpu_us_per_delivery"] / b["cpu_us_per_delivery"]
                     for a, b in zip(runs["raw"], bare)], "x")


@workload("w2.unpaced")
def unpaced(run):
    """many channels, 200,000 deliveries/s, each written at once"""
    offered(run, "unpaced", 200_000, 0, 3.5)


@workload("w2.paced")
def paced(run):
    """many channels, 800,000 deliveries/s, writes to a client 50 ms apart"""
    offered(run, "paced", 800_000, PACE_MS, 0.6)
