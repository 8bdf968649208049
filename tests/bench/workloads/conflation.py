"""Conflation and batching: what of the recorded feed is left to be sent."""
import concurrent.futures

from servers import node
from workloads import workload
from workloads.compression import per_frame

# Each holds a channel's updates to one in so long.
SETTINGS = {"none": {}, **{f"batch_ms {ms}": {"namespace__quote__batch_ms": ms}
                           for ms in (100, 250, 1000)},
            **{f"max_rate {r}": {"namespace__quote__max_rate": r} for r in (10, 4, 1)}}
CLIENTS = 50
BATCHED_PACE_MS = 50


def replay(run, index, settings, pace_ms, options):
    """One replay into a node of its own, under a prefix of its own: several run at a time."""
    with node(run.redis, redis__prefix=f"c{index}:", node__pace_ms=pace_ms, **settings) as n:
        return n.bench("--clients", run.size(CLIENTS), "--tape", run.feed, "--speed", run.speed,
                       *options)


def compared(result, base):
    accounted = "all accounted for" if result["missed"] == result["lost"] else \
        f"LOST {result['lost']:,} BUT SAID {result['missed']:,}"
    return (f"bytes {result['bytes'] / base['bytes']:.3f}, "
            f"frames {result['frames'] / base['frames']:.3f} of {per_frame(result):.2f} items, "
            f"CPU {result['cpu_s'] / base['cpu_s']:.2f}, {accounted}")


@workload("conflation", needs_feed=True)
def conflation(run):
    """the recorded feed at its pace x --speed, conflated and batched, against neither of them"""
    formats = {"plain": (), "packed": ("--compress",)}
    base = None
    for pace_ms in (0, BATCHED_PACE_MS):
        for kind, options in formats.items():
            with concurrent.futures.ThreadPoolExecutor(len(SETTINGS)) as pool:
                results = dict(zip(SETTINGS, pool.map(
                    lambda of: replay(run, *of, pace_ms, options),
                    enumerate(SETTINGS.values()))))
            base = base or results["none"]
            for name, result in results.items():
                title = f"conflation: {name}, {kind}, pace {pace_ms}"
                run.figures.keep(title, result)
                run.figures.add(title, [result["deliveries"] / base["deliveries"]], "x",
                                note=compared(result, base))
