"""From the read from Redis to the write to the socket: what a client waits for others before it."""
import statistics

from figures import noted, quantile_between
from servers import bare_loop, node
from workloads import workload

CLIENTS = 1000
DELIVERIES_PER_S = 200_000
METRIC = "tickcast_delivery_seconds"


def measure(run, n, per_message, deliveries_per_s=DELIVERIES_PER_S):
    """Deliveries to 1,000 clients, so many of which hear each message."""
    before = n.metrics()
    result = n.bench("--clients", run.size(CLIENTS), "--of", CLIENTS // per_message, "--raw",
                     "--rate", deliveries_per_s / per_message, "--seconds", run.seconds)
    after = n.metrics()
    for name, q in (("p50", 0.5), ("p99", 0.99)):
        value, low, high = quantile_between(before, after, METRIC, q)
        result |= {f"write_{name}_ms": value * 1e3,
                   f"write_{name}_within_ms": [low * 1e3, high * 1e3]}
    return result


def add(run, name, runs, at_most=None):
    for q in ("p50", "p99"):
        bounds = [r[f"write_{q}_within_ms"] for r in runs]
        within = f"buckets from {min(b[0] for b in bounds):.3f} to {max(b[1] for b in bounds):.3f}"
        run.figures.add(f"{name}, {q}", [r[f"write_{q}_ms"] for r in runs], "ms",
                        at_most=at_most if q == "p99" else None, note=f"{within}; {noted(runs)}")


@workload("delay.hundred")
def hundred(run):
    """Redis read to socket write, 200,000 deliveries/s unpaced, 100 clients per message"""
    with node(run.redis, node__pace_ms=0) as n:
        runs = [run.figures.keep("delay.hundred", measure(run, n, 100)) for _ in range(run.runs)]
    add(run, "delay.hundred: read to write", runs, at_most=2)


@workload("delay.half")
def half(run):
    """the same with half the load, which is what 200,000/s are to a machine of twice the speed"""
    with node(run.redis, node__pace_ms=0) as n:
        runs = [run.figures.keep("delay.half", measure(run, n, 100, DELIVERIES_PER_S / 2))
                for _ in range(run.runs)]
    add(run, "delay.half: read to write", runs)


@workload("delay.thousand")
def thousand(run):
    """200,000 deliveries/s, 1,000 clients per message, against the bare loop's pass over them"""
    pairs = []
    with node(run.redis, node__pace_ms=0) as n:
        for _ in range(run.runs):
            ours = measure(run, n, CLIENTS)
            bare = bare_loop(run.size(CLIENTS), DELIVERIES_PER_S / CLIENTS, run.seconds)
            pairs.append(run.figures.keep("delay.thousand", {"node": ours, "bare": bare}))
    add(run, "delay.thousand: read to write", [p["node"] for p in pairs])
    for q in ("p50", "p99"):
        run.figures.add(f"delay.thousand: bare loop, one pass, {q}",
                        [p["bare"][f"pass_{q}_us"] / 1e3 for p in pairs], "ms")
    middle = statistics.median(p["bare"]["pass_p50_us"] for p in pairs) / 1e3
    run.figures.add("delay.thousand: p99 to one pass, p99 each",
                    [p["node"]["write_p99_ms"] * 1e3 / p["bare"]["pass_p99_us"] for p in pairs],
                    "x", at_most=1.3, note=f"{middle:.2f} ms a pass in the middle")
