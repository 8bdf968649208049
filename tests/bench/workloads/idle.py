"""W3: connections that do nothing. W6: everybody connects at once."""
from machine import descriptor_limit
from servers import node
from workloads import workload

KINDS = {"plain": (), "compression": ("--compress",)}


@workload("w3.process")
def idle(run):
    """idle connections with one subscription, up to one process's limit: its memory for each"""
    clients = run.size(min(18000, descriptor_limit() - 1000))
    for kind, options in KINDS.items():
        runs = []
        for _ in range(run.few()):
            with node(run.redis) as n:
                n.bench("--clients", 50, "--idle", *options)  # touches code and first pages
                runs.append(run.figures.keep(f"w3.process {kind}", n.bench(
                    "--clients", clients, "--idle", "--settle", 2, *options)))
        run.figures.add(f"w3.process: {clients}, {kind}",
                        [r["bytes_per_connection"] for r in runs], "B", at_most=450)


@workload("w6.storm")
def storm(run):
    """connects with one subscription as fast as the node takes them"""
    with node(run.redis) as n:
        runs = [run.figures.keep("w6.storm", n.bench("--clients", run.size(10000), "--storm"))
                for _ in range(run.runs)]
    refused = sum(r["clients"] - r["connected"] for r in runs)
    run.figures.add("w6.storm: upgrades per CPU second", [r["upgrades_per_cpu_s"] for r in runs],
                    "/s", at_least=70_000, note=f"{refused} refused")
