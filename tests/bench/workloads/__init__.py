"""The workloads, by name: `w1.alone` is one, `w1` all of W1.

A module per kind of load; each workload is a function that gets a Run, measures, and adds its rows
to the figures. Its first line of documentation is what --list shows.
"""
import dataclasses
import importlib
import pathlib
from typing import Callable, NamedTuple

from figures import Figures


@dataclasses.dataclass
class Run:
    """What a workload is given."""
    redis: str        # URL of a Redis that is there for all of them
    figures: Figures
    runs: int         # of each thing; medians are shown
    seconds: float    # length of each
    slow_seconds: float
    feed: str = None  # a recorded feed
    speed: float = 1  # of the feed, where a workload has none of its own
    shrink: int = 1   # how much smaller than its name says everything is

    def few(self):
        """How often, for what takes long or varies little."""
        return min(self.runs, 3)

    def size(self, count):
        """Of that many clients or channels, so many in this run."""
        return max(count // self.shrink, 1)


class Workload(NamedTuple):
    name: str
    measure: Callable[[Run], None]
    needs_feed: bool
    by_name_only: bool

    @property
    def line(self):
        return self.measure.__doc__.splitlines()[0]


WORKLOADS = {}


def workload(name, needs_feed=False, by_name_only=False):
    """Registers a function. by_name_only: it is not among those that run when none is named."""
    def register(measure):
        WORKLOADS[name] = Workload(name, measure, needs_feed, by_name_only)
        return measure
    return register


def load():
    """All workloads, in the order of their names."""
    for path in sorted(pathlib.Path(__file__).parent.glob("[a-z]*.py")):
        importlib.import_module(f"workloads.{path.stem}")
    return dict(sorted(WORKLOADS.items()))


def select(known, wanted):
    """Those of a name, or of a family: `w1` is `w1.alone` and all others that start with `w1.`."""
    found = [w for w in known.values() if w.name == wanted or w.name.startswith(f"{wanted}.")]
    if not found:
        raise KeyError(wanted)
    return found
