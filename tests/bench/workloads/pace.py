"""What waiting buys: CPU per delivery by node.pace_ms, for the graph in docs/performance.md."""
from figures import full_core
from servers import bare_loop, node
from workloads import workload
from workloads.hot import per_send

CLIENTS = 1000
RATES = (200, 1000)  # messages per second to each
PACES_MS = (0, 2, 5, 10, 20, 50)


@workload("pace", by_name_only=True)
def pace(run):
    """CPU per delivery on a hot channel by node.pace_ms, and a bare loop that batches as much"""
    clients = run.size(CLIENTS)
    for pace_ms in PACES_MS:
        with node(run.redis, node__pace_ms=pace_ms) as n:
            for rate in RATES:
                pairs = []
                title = f"pace {rate} {pace_ms}"
                for _ in range(run.runs):
                    ours = n.bench_writes("--clients", clients, "--raw", "--rate", rate,
                                          "--seconds", run.seconds)
                    batch = max(round(ours["per_write"]), 1)
                    bare = bare_loop(clients, rate / batch, run.seconds, batch)
                    pairs.append(run.figures.keep(title, {"node": ours, "bare": bare}))
                for kind, note in (("node", full_core), ("bare", per_send)):
                    runs = [p[kind] for p in pairs]
                    run.figures.add(f"{title}: {kind}", [r["cpu_us_per_delivery"] for r in runs],
                                    "us", note=note(runs))
