"""Scale: more workers, more subscribers, more channels, and how evenly all are served."""
import statistics

from figures import full_core, median_of, noted
from machine import BOTH_CORES, NODE_CORE, sockets_per_loop
from servers import bare_loop, held_clients, node
from workloads import workload


@workload("scale.workers")
def workers(run):
    """CPU per delivery of two workers on both cores against one, 100,000 deliveries/s

    The second worker shares its core with reader, publisher and Redis. What the process used of
    both is counted, not what it had to wait for; what the others cost it in caches is in it.
    """
    pairs = []
    kinds = {"one": (1, NODE_CORE), "two": (2, BOTH_CORES)}
    for _ in range(run.runs):
        pair = {}
        for name, (count, cores) in kinds.items():
            with node(run.redis, cores=cores, node__pace_ms=0, node__workers=count) as n:
                pair[name] = n.bench("--clients", run.size(1000), "--raw", "--rate", 100,
                                     "--window", 1, "--seconds", run.seconds)
        pairs.append(run.figures.keep("scale.workers", pair))
    for name in kinds:
        runs = [p[name] for p in pairs]
        run.figures.add(f"scale.workers: {name}", [r["cpu_us_per_delivery"] for r in runs], "us",
                        note=full_core(runs))
    run.figures.add("scale.workers: two to one",
                    [p["two"]["cpu_us_per_delivery"] / p["one"]["cpu_us_per_delivery"]
                     for p in pairs], "x", at_most=1.1)


SUBSCRIBERS = (100, 1000, 10_000, 18_000)


@workload("scale.subscribers")
def subscribers(run):
    """CPU per delivery from 100 to 18,000 subscribers, and how the bare loop's grows with them"""
    rounds = []
    with node(run.redis, node__pace_ms=0) as n:
        for _ in range(run.few()):
            found = {}
            for count in SUBSCRIBERS:
                rate = 200_000 / count
                ours = n.bench("--clients", run.size(count), "--raw", "--rate", rate,
                               "--window", 1, "--seconds", run.seconds)
                found[count] = {"node": ours, "bare": bare_loop(run.size(count), rate, run.seconds)}
            rounds.append(run.figures.keep("scale.subscribers", found))
    for count in SUBSCRIBERS:
        ours = [r[count]["node"] for r in rounds]
        bare = [r[count]["bare"]["cpu_us_per_send"] for r in rounds]
        run.figures.add(f"scale.subscribers: {count}", [r["cpu_us_per_delivery"] for r in ours],
                        "us", note=f"bare loop {statistics.median(bare):.3f}; {full_core(ours)}")
    few, many = SUBSCRIBERS[0], SUBSCRIBERS[-1]
    growth = {kind: [r[many][kind][key] / r[few][kind][key] for r in rounds] for kind, key in
              (("node", "cpu_us_per_delivery"), ("bare", "cpu_us_per_send"))}
    for kind, values in growth.items():
        run.figures.add(f"scale.subscribers: {kind}, {many} to {few}", values, "x")
    run.figures.add("scale.subscribers: growth, node to bare loop",
                    [a / b for a, b in zip(growth["node"], growth["bare"])], "x", at_most=1.0)


CHANNELS = (100, 1000, 10_000, 100_000)
CHANNEL_CLIENTS, FANOUT = 1000, 5  # the names of one client's channels must fit into a URL


@workload("scale.channels")
def channels(run):
    """CPU and memory per subscription from 100 to 100,000 channels of five subscribers each

    1,000 clients (500 at 100 channels) share up to 500,000 subscriptions, and get 100,000
    deliveries/s.
    """
    found = {count: [] for count in CHANNELS}
    for _ in range(run.few()):
        for count in CHANNELS:
            of = run.size(count)
            clients = min(run.size(CHANNEL_CLIENTS), of * FANOUT)
            each = of * FANOUT // clients
            with node(run.redis, node__pace_ms=0) as n:
                result = n.bench("--clients", clients, "--channels", each, "--of", of, "--raw",
                                 "--rate", 100_000 / FANOUT, "--seconds", run.seconds)
            result["subscriptions"] = each * clients
            found[count].append(run.figures.keep(f"scale.channels {count}", result))
    for count, runs in found.items():
        run.figures.add(f"scale.channels: {count}", [r["cpu_us_per_delivery"] for r in runs], "us",
                        note=full_core(runs))
    fewest, most = (found[CHANNELS[i]] for i in (0, -1))
    run.figures.add("scale.channels: CPU, most to fewest",
                    [a["cpu_us_per_delivery"] / b["cpu_us_per_delivery"]
                     for a, b in zip(most, fewest)], "x")
    # With its share of a channel's own memory, between runs that have as many connections.
    for smaller, larger in zip(CHANNELS[1:], CHANNELS[2:]):
        run.figures.add(f"scale.channels: {smaller} to {larger}, each subscription",
                        [(a["rss_idle_bytes"] - b["rss_idle_bytes"]) /
                         max(a["subscriptions"] - b["subscriptions"], 1)
                         for a, b in zip(found[larger], found[smaller])], "B")


@workload("scale.spread")
def spread(run):
    """fairness: mean latency of each client, first client to last, sockets of each worker"""
    for clients in (1000, 10_000):
        rate = 100_000 / clients
        with node(run.redis, node__pace_ms=0) as n:
            runs = [run.figures.keep(f"scale.spread {clients}", n.bench(
                "--clients", run.size(clients), "--raw", "--rate", rate, "--sample", 1, "--nap", 50,
                "--seconds", run.seconds)) for _ in range(run.few())]
        bare = run.figures.keep("scale.spread bare",
                                bare_loop(run.size(clients), rate, run.seconds))
        middle = median_of(runs, "client_mean_p50_us") / 1e3
        run.figures.add(f"scale.spread: {clients}, clients' mean, p99 to p50",
                        [r["client_mean_p99_us"] / r["client_mean_p50_us"] for r in runs], "x",
                        note=f"p50 {middle:.2f} ms; {noted(runs)}")
        for q in ("p50", "p99"):
            run.figures.add(f"scale.spread: {clients}, first client to last, {q}",
                            [r[f"first_to_last_{q}_us"] / 1e3 for r in runs], "ms",
                            note=f"a pass of the bare loop {bare[f'pass_{q}_us'] / 1e3:.2f} ms")
    add_sockets(run)


def add_sockets(run):
    """How two workers share 10,000 connections; each loop watches a few descriptors of its own."""
    clients = run.size(10_000)
    with node(run.redis, cores=BOTH_CORES, node__workers=2) as n:
        counts = []
        for _ in range(run.few()):
            with held_clients(*n.target(), "--clients", clients, "--settle", 0):
                counts.append(sockets_per_loop(n.process.pid)[:2])
    run.figures.add("scale.spread: sockets, worker with most to fewest",
                    [most / max(fewest, 1) for most, fewest in counts], "x",
                    note=" ".join(f"{most}:{fewest}" for most, fewest in counts))
