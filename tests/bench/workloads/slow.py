"""W5: clients that do not read."""
from figures import median_of, noted
from machine import peak_resident_bytes
from servers import node
from workloads import workload


@workload("w5.slow")
def slow(run):
    """slow readers, a tenth of 1,000 never reads, 1 KB at 2,000/s: memory, and the others"""
    clients = run.size(1000)
    common = ("--clients", clients, "--size", 1024, "--rate", 2000, "--seconds", run.slow_seconds)
    pairs = []
    for _ in range(run.few()):
        pair = {}
        for name, options in (("without", ()), ("with", ("--stalled", clients // 10))):
            # A node each: the growth is from nothing, and the peak is this run's.
            with node(run.redis) as n:
                pair[name] = n.bench(*common, *options)
                pair[name]["rss_peak_bytes"] = peak_resident_bytes(n.process.pid)
        pairs.append(run.figures.keep("w5.slow", pair))
    for name in ("without", "with"):
        runs = [p[name] for p in pairs]
        for what, key in (("growth at the end", "rss_end_bytes"), ("peak", "rss_peak_bytes")):
            run.figures.add(f"w5.slow: {name}, {what}",
                            [(r[key] - r["rss_idle_bytes"]) / 2**20 for r in runs], "MB",
                            at_most=16 if name == "with" else None, note=noted(runs))
    run.figures.add("w5.slow: healthy p99, with to without",
                    [median_of([p["with"] for p in pairs], "latency_p99_us") /
                     median_of([p["without"] for p in pairs], "latency_p99_us")], "x", at_most=1.3)
