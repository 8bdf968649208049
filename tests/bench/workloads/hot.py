"""W1: one hot channel, everybody on it."""
from figures import full_core, noted
from servers import bare_loop, node
from workloads import workload


@workload("w1.alone")
def alone(run):
    """hot channel, each message written by itself: what the node adds to the kernel's send

    A window of one makes sure of that: a node that falls behind would merge, and look better.
    """
    clients = run.size(1000)
    pairs = []
    with node(run.redis, node__pace_ms=0) as n:
        for _ in range(run.runs):
            ours = n.bench("--clients", clients, "--raw", "--rate", 200, "--window", 1,
                           "--seconds", run.seconds)
            bare = bare_loop(clients, 200, run.seconds)
            pairs.append(run.figures.keep("w1.alone", {"node": ours, "bare": bare}))
    run.figures.add("w1.alone: node, 1000 x 200/s",
                    [p["node"]["cpu_us_per_delivery"] for p in pairs], "us",
                    note=noted([p["node"] for p in pairs]))
    run.figures.add("w1.alone: bare loop", [p["bare"]["cpu_us_per_send"] for p in pairs], "us")
    run.figures.add("w1.alone: node to bare loop",
                    [p["node"]["cpu_us_per_delivery"] / p["bare"]["cpu_us_per_send"]
                     for p in pairs], "x", at_most=1.10)


@workload("w1.capacity")
def capacity(run):
    """hot channel, deliveries per second of one core: offered, and as fast as clients keep up"""
    for clients, target in ((1000, 6.2e6), (10000, 6e6)):
        offered, closed = [], []
        with node(run.redis, node__pace_ms=0) as n:
            for _ in range(run.runs):
                common = ("--clients", run.size(clients), "--raw", "--seconds", run.seconds)
                offered.append(run.figures.keep(f"w1.capacity {clients} offered", n.bench(
                    *common, "--rate", target / clients)))
                closed.append(run.figures.keep(f"w1.capacity {clients} closed loop", n.bench(
                    *common, "--rate", 0, "--window", 512)))
        run.figures.add(f"w1.capacity: {clients}, offered {target / 1e6:g} M/s",
                        [r["deliveries_per_s"] / 1e6 for r in offered], "M/s",
                        at_least=target / 1e6 * 0.98, note=full_core(offered))
        run.figures.add(f"w1.capacity: {clients}, closed loop",
                        [r["deliveries_per_s"] / 1e6 for r in closed], "M/s",
                        at_least=target / 1e6, note=full_core(closed))


PACE_MS = 10


def per_send(runs):
    return f"{' '.join(str(r['batch']) for r in runs)} per send"


@workload("w1.paced")
def paced(run):
    """hot channel, writes 10 ms apart, and the bare loop with as many messages in each send

    As many as the node had: a pass over 10,000 clients takes longer than 10 ms.
    """
    for clients, rate, at_most in ((1000, 1e6, 0.25), (10000, 2e6, 0.45)):
        per_client = rate / clients
        pairs = []
        with node(run.redis, node__pace_ms=PACE_MS) as n:
            for _ in range(run.runs):
                ours = n.bench_writes("--clients", run.size(clients), "--raw", "--rate",
                                      per_client, "--seconds", run.seconds)
                batch = max(round(ours["per_write"]), 1)
                bare = bare_loop(run.size(clients), per_client / batch, run.seconds, batch)
                pairs.append(run.figures.keep(f"w1.paced {clients}", {"node": ours, "bare": bare}))
        title = f"w1.paced: {clients} x {per_client:g}/s"
        run.figures.add(title, [p["node"]["cpu_us_per_delivery"] for p in pairs], "us",
                        at_most=at_most, note=full_core([p["node"] for p in pairs]))
        run.figures.add(f"{title}, bare loop", [p["bare"]["cpu_us_per_delivery"] for p in pairs],
                        "us", note=per_send([p["bare"] for p in pairs]))
        run.figures.add(f"{title}, node to bare loop",
                        [p["node"]["cpu_us_per_delivery"] / p["bare"]["cpu_us_per_delivery"]
                         for p in pairs], "x")


@workload("bare", by_name_only=True)
def bare_limits(run):
    """the kernel's limit alone, by sockets and messages per send"""
    for clients in (1000, 5000, 10000):
        for batch in (1, 4, 16, 64):
            rate = (200_000 if batch < 64 else 50_000) / clients
            runs = [run.figures.keep(f"bare {clients} {batch}",
                                     bare_loop(run.size(clients), rate, run.seconds, batch))
                    for _ in range(run.runs)]
            each = min(r["cpu_us_per_delivery"] for r in runs)
            run.figures.add(f"bare: {clients} sockets, {batch} per send",
                            [r["cpu_us_per_send"] for r in runs], "us", note=f"{each:.3f} each")
