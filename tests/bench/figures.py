"""What was found: rows for the table, each beside its target, and every single run for the file."""
import json
import statistics


def median_of(results, name):
    return statistics.median(r[name] for r in results)


def shown(value):
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3f}"


def format_row(row):
    verdict = {True: "met", False: "MISSED", None: ""}[row["met"]]
    spread = f"{shown(row['min'])} .. {shown(row['max'])}"
    return (f"{row['name']:<52} {shown(row['median']):>11} {row['unit']:<4} "
            f"{row['target']:>9} {verdict:<6} {spread:<24} {row['note']}").rstrip()


class Figures:
    """Rows are printed as they come, so that a long run shows where it is."""

    def __init__(self, judge=True):
        self.rows = []
        self.runs = {}
        self.judge = judge

    def keep(self, workload, result):
        self.runs.setdefault(workload, []).append(result)
        return result

    def add(self, name, values, unit, at_most=None, at_least=None, note=""):
        """A row with the median of values; the target is left out of runs that prove nothing."""
        middle = statistics.median(values)
        if not self.judge:
            at_most = at_least = None
        met = (at_most is None or middle <= at_most) and (at_least is None or middle >= at_least)
        target = f"<= {at_most:g}" if at_most is not None else \
                 f">= {at_least:g}" if at_least is not None else ""
        row = {"name": name, "median": middle, "min": min(values), "max": max(values),
               "unit": unit, "target": target, "met": met if target else None, "note": note}
        self.rows.append(row)
        print(format_row(row), flush=True)

    def missed(self):
        return [row for row in self.rows if row["met"] is False]

    def write(self, path, **about):
        with open(path, "w", encoding="ascii") as f:
            json.dump({**about, "rows": self.rows, "runs": self.runs}, f, indent=1)


# --- histograms of a node ------------------------------------------------------------------------


def buckets_of(metrics, name):
    """[(upper bound, observations up to it), ...] of a Prometheus histogram."""
    start = f'{name}_bucket{{le="'
    return sorted((float(key[len(start):-2]), count)
                  for key, count in metrics.items() if key.startswith(start))


def quantile_between(before, after, name, q):
    """The quantile of what was observed between two scrapes, and its bucket: (value, low, high).

    Within the bucket, observations are taken to lie evenly, as Prometheus does.
    """
    counts = [(bound, now - then) for (bound, now), (_, then)
              in zip(buckets_of(after, name), buckets_of(before, name))]
    wanted = q * counts[-1][1]
    low, below = 0, 0
    for high, upto in counts:
        if upto >= wanted and upto > below:
            return low + (high - low) * (wanted - below) / (upto - below), low, high
        low, below = high, upto
    return 0, 0, 0


# --- notes: the last column ----------------------------------------------------------------------


def noted(results):
    """Losses, and what came late."""
    lost = sum(r["lost"] + r["out_of_order"] + r["closed"] for r in results)
    p99_ms = median_of(results, "latency_p99_us") / 1e3
    late = sum(r["late"] for r in results) / max(sum(r["timed"] for r in results), 1)
    return (f"{'no loss' if lost == 0 else f'LOST OR MISORDERED: {lost}'}, p99 {p99_ms:.1f} ms"
            f"{f', {late:.1%} LATE' if late > 0 else ''}")


def full_core(results):
    """What a core would do that the node had for itself, which on a busy machine it has not.

    A load core that is all used says that the load was the limit, not the node.
    """
    rate = statistics.median(r["deliveries"] / r["cpu_s"] for r in results) / 1e6
    share = statistics.median(r["cpu_s"] / r["seconds"] for r in results)
    load = median_of(results, "load_busy")
    reader = statistics.median(r["own_cpu_s"] / r["seconds"] for r in results)
    return (f"{noted(results)}, {rate:.1f} M per CPU s, {share:.0%} of the core, "
            f"load core {load:.0%} (reader {reader:.0%})")
