"""W8: from Redis to the last client of a fleet."""
from figures import median_of, noted
from servers import bench, fleet, target
from workloads import workload

NODES, CLIENTS = 3, 999


@workload("w8.fleet")
def last_client(run):
    """three nodes, 333 clients each on one channel: time from publishing to the last client of all

    Publisher and reader are one process and have one clock. All nodes are on one core, so that a
    pass over all clients takes as long as it would take one node; on three cores it is a third.
    """
    with fleet(run.redis, NODES, node__pace_ms=0) as nodes:
        for rate in (10, 50, 100):
            runs = [run.figures.keep(f"w8.fleet {rate}", bench(
                *target(nodes), "--clients", run.size(CLIENTS), "--rate", rate, "--sample", 1,
                "--nap", 50, "--seconds", run.seconds)) for _ in range(run.runs)]
            spread = median_of(runs, "first_to_last_p50_us") / 1e3
            for q in ("p50", "p99"):
                run.figures.add(f"w8.fleet: {rate}/s, last client {q}",
                                [r[f"last_client_{q}_us"] / 1e3 for r in runs], "ms",
                                note=f"{noted(runs)}, first to last {spread:.2f} ms")
