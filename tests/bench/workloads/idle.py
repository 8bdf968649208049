"""W3: connections that do nothing. W6: everybody connects at once."""
import contextlib
import time

from machine import BOTH_CORES, await_few_closed_sockets, descriptor_limit, kernel_bytes
from servers import bare_storm, fleet, held_clients, node
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


NODES, FLEET_CLIENTS = 8, 150_000
FLEET_PING_MS = 10_000


def hold_fleet(run, nodes):
    """Connects everybody and waits until each client was pinged twice."""
    each = run.size(FLEET_CLIENTS // NODES)
    for n in nodes:
        n.bench("--clients", 50, "--idle")  # touches code and first pages
    await_few_closed_sockets()
    kernel_before = kernel_bytes()
    with contextlib.ExitStack() as held:
        readers = [held.enter_context(held_clients(*n.target(), "--clients", each, "--nap", 0,
                                                   "--settle", 0)) for n in nodes]
        # Two pings to each, and the time in which the second one may be answered.
        time.sleep(2.5 * FLEET_PING_MS / 1000)
        kernel = kernel_bytes() - kernel_before
        metrics = [n.metrics() for n in nodes]
    connected = sum(m["tickcast_connections"] for m in metrics)
    return {"connections": connected, "wanted": each * len(nodes),
            "kernel_bytes_per_socket": kernel / connected / 2,
            "bytes_per_connection": sum(r["rss_end_bytes"] - r["rss_before_bytes"]
                                        for r in readers) / connected,
            "pings_sent": sum(m["tickcast_pings_sent_total"] for m in metrics),
            "pings_unanswered": sum(m["tickcast_pings_unanswered_total"] for m in metrics),
            "pings_answered": sum(r["pings"] for r in readers),
            "closed": sum(r["closed"] for r in readers)}


@workload("w3.fleet")
def fleet_idle(run):
    """150,000 idle connections on eight nodes side by side: memory, the kernel's too, and pings"""
    with fleet(run.redis, NODES, cores=BOTH_CORES, node__ping_ms=FLEET_PING_MS) as nodes:
        result = run.figures.keep("w3.fleet", hold_fleet(run, nodes))
    run.figures.add(f"w3.fleet: connections on {NODES} nodes", [result["connections"]], "",
                    at_least=result["wanted"], note=f"{result['closed']} closed")
    run.figures.add("w3.fleet: process memory each", [result["bytes_per_connection"]], "B",
                    at_most=450)
    run.figures.add("w3.fleet: kernel memory per socket", [result["kernel_bytes_per_socket"]], "B",
                    note="both ends are on this machine; half of what all came to")
    run.figures.add("w3.fleet: pings answered of those sent",
                    [result["pings_answered"] / max(result["pings_sent"], 1)], "x", at_least=0.999,
                    note=f"{result['pings_sent']:,.0f} sent, {result['pings_unanswered']:.0f} not "
                         "answered before the next was due")


@workload("w6.storm")
def storm(run):
    """connects with one subscription as fast as the node takes them"""
    pairs = []
    clients = run.size(10000)
    with node(run.redis) as n:
        for _ in range(run.runs):
            pairs.append(run.figures.keep("w6.storm", {
                "node": n.bench("--clients", clients, "--storm"), "bare": bare_storm(clients)}))
    rates = {kind: [p[kind]["upgrades_per_cpu_s"] for p in pairs] for kind in ("node", "bare")}
    refused = sum(p["node"]["clients"] - p["node"]["connected"] for p in pairs)
    run.figures.add("w6.storm: upgrades per CPU second", rates["node"], "/s", at_least=70_000,
                    note=f"{refused} refused")
    run.figures.add("w6.storm: bare loop, without events", rates["bare"], "/s")
    run.figures.add("w6.storm: node to bare loop",
                    [a / b for a, b in zip(rates["node"], rates["bare"])], "x")
