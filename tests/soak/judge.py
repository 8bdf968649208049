"""The judge: holds what one client is told against the contract and against what was published.

A ledger belongs to one client and lives over all its connections. It is fed what the client sees,
in order, and raises Fault at what the contract does not allow. It does no I/O and reads no clock
but the one it is given, so hand-made histories can be put to it (test_judge.py).

What must hold, for each numbered item of a subscription:

    first item, no position            carries the epoch; nothing to compare with
    first item, back with a position   recovered: goes on exactly; else a snapshot, `missed` exact
    same epoch                         seq == previous + 1 + missed; a snapshot may repeat it
    another epoch                      only when Redis was put back to an older copy
    always                             the data is, byte for byte, what has this number

Plain messages are numbered by each node for itself. There the number in the value tells: on one
connection it rises, and in `all` none is left out but when the client was told that the feed is
suspect.
"""

import collections
import json
import re
import time

import values
from truth import CLEARED

WITHOUT = {  # what a program may be forgiven, by name
    "stored": "values, logs and positions are not read from Redis",
    "ahead": "a node that lags gives a client who is ahead of it an older snapshot",
    "held": "after an outage, what comes before the command link is up goes out before what the "
            "log has of the time between, which is then said to be lost",
}
KEPT = 30  # messages shown with a fault
SHOWN = 4000  # characters of each
PADDING = re.compile("x{8,}")
EXCUSE_S = 1.0  # state messages overtake items, so a suspect state excuses a little before it


class Fault(Exception):
    def __init__(self, what, channel=None, epoch=None, seq=None, n=None):
        super().__init__(what)
        self.what = what
        self.channel = channel
        self.place = (epoch, seq, n)


class Rules:
    """What may happen in this run."""

    def __init__(self, calm=False, rewinds=False, refuses=False, without=(), stretch=1):
        self.calm = calm  # no adversary: nothing may be lost in `all`
        self.rewinds = rewinds  # Redis may go back, so epochs change
        self.refuses = refuses  # logs may be refused, which nobody waits for
        self.without = frozenset(without)  # what is forgiven, see WITHOUT
        self.stretch = stretch  # of all limits of time, for sanitizers


class Subscription:
    """One channel of one client; the position in it outlives the connection."""

    def __init__(self, channel):
        self.channel = channel
        self.is_on = False
        self.mode = None
        self.delta = False
        self.max_rate = 0
        self.snapshot = True
        self.rated_from = 0  # when the rate was granted
        self.rated = 0  # items since
        self.forget()

    def forget(self):
        """The client wants to know nothing of what it had."""
        self.epoch = None
        self.seq = None
        self.n = None
        self.state = None  # members of the last value, where patches may need them
        self.is_first = True  # the next item is the first of its subscription
        self.is_back = False  # it came back with a position
        self.is_recovered = False
        self.was_suspect = False  # when it subscribed
        self.skips = False  # the next item may tell of conflation, in `all` too
        self.is_doubtful = False  # the ack said that something may be lost before the next item
        self.at = None  # when the last item came

    def position(self):
        return {"epoch": self.epoch, "seq": self.seq} if self.epoch is not None else None


class Ledger:
    def __init__(self, truths, rules, stats=None, clock=time.time):
        self.truths = truths  # {channel: Truth}
        self.rules = rules
        self.stats = stats if stats is not None else collections.Counter()
        self.clock = clock
        self.subs = {}
        self.recent = collections.deque(maxlen=KEPT)
        self.connect(raw=False)

    # --- what happens to the client --------------------------------------------------------------

    def connect(self, raw):
        """A new connection; nothing is subscribed on it."""
        self.raw = raw
        self.highest = {}  # {channel: n} plain and raw, on this connection
        self.is_suspect = False
        self.suspect_at = -1e9
        self.disconnect()

    def disconnect(self):
        for sub in self.subs.values():
            sub.is_on = False

    def note(self, text):
        self.recent.append(text)

    def subscription(self, channel):
        if channel not in self.subs:
            self.subs[channel] = Subscription(channel)
        return self.subs[channel]

    def feed(self, state):
        """hello, heartbeat, state or ack said "ok" or "suspect"."""
        if self.is_suspect or state != "ok":
            self.suspect_at = self.clock()  # it was until now
        self.is_suspect = state != "ok"

    def subscribed(self, channel, mode, recovered=False, back=False, delta=None, max_rate=None,
                   snapshot=True, feed="ok", doubtful=False):
        """An ack; None: was not in the command. back: the command held our position."""
        sub = self.subscription(channel)
        if delta is not None:
            sub.delta = delta
        # What `latest` had skipped by then is told to who now wants all.
        sub.skips = sub.skips or (sub.mode == "latest" and mode == "all")
        sub.mode = mode
        if max_rate is not None or mode != "latest":
            sub.max_rate = max_rate if mode == "latest" else 0
            sub.rated_from, sub.rated = self.clock(), 0
        if sub.is_on:
            return
        if not back:
            if recovered:
                raise Fault("recovered without a position", channel)
            sub.forget()
        sub.is_on = True
        sub.is_first = True
        sub.is_back = back
        sub.is_recovered = recovered
        sub.snapshot = snapshot
        sub.was_suspect = feed != "ok"
        sub.is_doubtful = doubtful
        if back and sub.position():
            self._count_recovery(sub, recovered)

    def _count_recovery(self, sub, recovered):
        self.stats["recovered" if recovered else "not recovered"] += 1
        is_kept = values.NAMESPACES[values.namespace(sub.channel)]["history"] > 0
        if (self.rules.calm and is_kept and not recovered and not sub.was_suspect
                and "stored" not in self.rules.without):
            raise Fault("not recovered though the log reaches back", sub.channel, sub.epoch,
                        sub.seq)

    def unsubscribed(self, channel):
        self.subscription(channel).is_on = False

    # --- what it is told -------------------------------------------------------------------------

    def push(self, text):
        """A push in the words of the protocol."""
        items = json.loads(text)["items"]
        if not items:
            raise Fault("an empty push")
        fault = None
        for item in items:
            try:
                self.item(item, text)
            except Fault as found:
                fault = fault or found
        if fault:
            raise fault

    def raw_subscribed(self, channels):
        for channel in channels:
            sub = self.subscription(channel)
            sub.forget()
            sub.is_on = True

    def raw_value(self, text):
        value = json.loads(text)
        channel, n = value["c"], value["n"]
        self.stats["items"] += 1
        truth = self.truths[channel]
        if text != values.text(channel, n):
            raise Fault("a raw payload that was never published", channel, n=n)
        if not 1 <= n <= truth.sent or n in truth.cleared:
            raise Fault(f"n={n} was never published", channel, n=n)
        last = self.highest.get(channel)
        self.highest[channel] = n
        sub = self.subscription(channel)
        sub.n = n
        if last is None or truth.is_rewound:
            return
        if n <= last:
            raise Fault(f"n={n} after n={last} on one connection", channel, n=n)
        lost = n - last - 1
        is_all = values.NAMESPACES[values.namespace(channel)]["mode"] == "all"
        if self.rules.calm and is_all and lost > truth.count_silent(last, n):
            raise Fault(f"raw: {lost} lost before n={n}", channel, n=n)

    def item(self, item, text):
        """One item; text is the message that held it."""
        channel = item["channel"]
        sub = self.subs.get(channel)
        if sub is None or not sub.is_on:
            raise Fault("an item of a channel that is not subscribed", channel)
        self.stats["items"] += 1
        truth = self.truths[channel]
        seq = item.get("seq")
        if seq is None:
            self._check_unnumbered(sub, item)
            return
        epoch = item.get("epoch")
        if epoch is None:
            if sub.is_first or sub.epoch is None:
                raise Fault("the first item does not say its epoch", channel, None, seq)
            epoch = sub.epoch
        n = self._check_data(sub, truth, item, text, epoch, seq)
        try:
            self._check_order(sub, truth, item, epoch, seq, n)
            self._check_rate(sub, item)
        finally:
            sub.is_first = sub.skips = False
            sub.epoch, sub.seq, sub.n = epoch, seq, n
            # What a rate holds back comes late; what was lost meanwhile was lost behind it.
            sub.at = min(self.clock(), item.get("ts", 1e15) / 1000)

    def _check_unnumbered(self, sub, item):
        if not item.get("cleared") and not item.get("plain"):
            raise Fault("an item without a number", sub.channel)
        if not self.rules.rewinds:
            raise Fault("an item without a number, though all have one", sub.channel)
        sub.state = None
        sub.n = CLEARED

    # --- data ------------------------------------------------------------------------------------

    def _check_data(self, sub, truth, item, text, epoch, seq):
        """Returns n of the value, or CLEARED."""
        channel = sub.channel
        if item.get("cleared"):
            if "data" in item:
                raise Fault("a cleared item with data", channel, epoch, seq)
            sub.state = None
            n = CLEARED
        elif item.get("patch"):
            n = self._check_patch(sub, item, epoch, seq)
        else:
            n = item["data"].get("n") if isinstance(item.get("data"), dict) else None
            if not isinstance(n, int) or '"data":' + values.text(channel, n) not in text:
                raise Fault("data that was never published", channel, epoch, seq)
            sub.state = item["data"]
        wrong = truth.saw(epoch, seq, n)
        if wrong:
            raise Fault(wrong, channel, epoch, seq, n)
        return n

    def _check_patch(self, sub, item, epoch, seq):
        if not sub.delta:
            raise Fault("a patch that was not asked for", sub.channel, epoch, seq)
        if sub.is_first or sub.state is None or epoch != sub.epoch or seq != sub.seq + 1:
            raise Fault("a patch without what it applies to", sub.channel, epoch, seq)
        if item.get("snap") or item.get("missed"):
            raise Fault("a patch that is a snapshot or misses something", sub.channel, epoch, seq)
        sub.state = values.patched(sub.state, item["data"])
        self.stats["patches"] += 1
        n = sub.state.get("n")
        if not isinstance(n, int) or sub.state != values.members(sub.channel, n):
            raise Fault("a patch that does not make the value", sub.channel, epoch, seq, n)
        return n

    # --- order and loss --------------------------------------------------------------------------

    def _check_order(self, sub, truth, item, epoch, seq, n):
        missed = item.get("missed", 0)
        self.stats["missed"] += missed
        if not truth.is_stamped:
            self._check_plain(sub, truth, item, epoch, seq, n, missed)
            return
        where = (sub.channel, epoch, seq, n)
        if sub.epoch is None:
            if missed:
                raise Fault("something missed before the first item", *where)
        elif epoch != sub.epoch:
            self.stats["new epochs"] += 1
            if not self.rules.rewinds:
                raise Fault(f"the epoch changed from {sub.epoch}", *where)
        elif self._is_new_start(sub, truth, item):
            self.stats["started anew"] += 1
        elif item.get("snap"):
            self._check_snapshot(sub, seq, missed, where)
        else:
            self._check_next(sub, seq, missed, where)

    def _is_new_start(self, sub, truth, item):
        """Who comes back while the feed is suspect, and is not recovered, was told so in the ack:
        the position counts for nothing, whatever the node knows is a beginning. So it is where the
        node never saw what Redis has taken back."""
        if not sub.is_first or sub.is_recovered or item.get("missed"):
            return False
        may_be_ahead = truth.is_rewound or "ahead" in self.rules.without
        return sub.was_suspect or (may_be_ahead and item["seq"] <= sub.seq)

    def _check_snapshot(self, sub, seq, missed, where):
        self.stats["snapshots"] += 1
        gap = seq - sub.seq - 1
        if seq < sub.seq:
            raise Fault(f"a snapshot behind seq {sub.seq}", *where)
        if missed and missed != gap:
            raise Fault(f"missed {missed} before a snapshot, but it was {gap}", *where)
        is_restart = sub.is_first and not sub.is_recovered
        if gap > 0 and not is_restart and not missed and (sub.is_recovered or self.rules.calm):
            raise Fault(f"a snapshot skips {gap} without a word", *where)
        if gap > 0 and sub.mode == "all" and not is_restart:
            self._lost(sub, gap, where)

    def _check_next(self, sub, seq, missed, where):
        gap = seq - sub.seq - 1
        if gap < 0:
            raise Fault(f"{'repeated' if gap == -1 else 'backwards'}: after seq {sub.seq}", *where)
        if missed != gap:
            is_forgiven = "stored" in self.rules.without and not missed
            if not (is_forgiven and sub.is_first and not sub.is_recovered):
                raise Fault(f"missed says {missed} but it was {gap}, after seq {sub.seq}", *where)
        if gap > 0 and sub.mode == "all" and not (sub.is_first and not sub.is_recovered):
            self._lost(sub, gap, where)

    def _lost(self, sub, gap, where):
        """Lost and said so, in mode `all`."""
        if sub.skips:
            return
        self.stats["lost in all, and said"] += gap
        history = values.NAMESPACES[values.namespace(sub.channel)]["history"]
        is_forgiven = self.rules.rewinds or self.rules.refuses or "held" in self.rules.without
        if gap < history and not is_forgiven:
            raise Fault(f"{gap} lost in mode all though the log has them", *where)
        if self.rules.calm:
            raise Fault(f"{gap} lost in mode all though nothing fails", *where)

    def _check_plain(self, sub, truth, item, epoch, seq, n, missed):
        where = (sub.channel, epoch, seq, n)
        last = self.highest.get(sub.channel)
        self.highest[sub.channel] = max(n, last or 0)
        if last is not None and n <= last and not (item.get("snap") and n == last):
            raise Fault(f"n={n} after n={last} on one connection", *where)
        is_same = epoch == sub.epoch
        if is_same and sub.seq is not None and not item.get("snap"):
            if seq <= sub.seq:
                raise Fault(f"seq {seq} after {sub.seq}", *where)
            if not sub.is_first and missed != seq - sub.seq - 1:
                raise Fault(f"missed says {missed}, after seq {sub.seq}", *where)
        is_doubtful = sub.is_doubtful
        sub.is_doubtful = is_doubtful and item.get("snap", False)
        if sub.n is None or (sub.is_first and not sub.is_recovered):
            return
        if is_doubtful:
            self.stats["doubted, and said"] += 1
            return
        lost = n - sub.n - 1 - missed
        if lost < 0 and not item.get("snap"):
            raise Fault(f"missed says {missed}, after n={sub.n}", *where)
        if not is_same and not self._is_excused(sub):
            raise Fault(f"the epoch changed from {sub.epoch}", *where)
        if lost > truth.count_uncertain(sub.n, n):
            if not self._is_excused(sub):
                raise Fault(f"{lost} lost before n={n} with no word of a suspect feed", *where)
            self.stats["plain lost while suspect"] += lost
        if missed > 0 and sub.mode == "all":
            self._lost(sub, missed, where)

    def _is_excused(self, sub):
        since = (sub.at or 0) - EXCUSE_S * self.rules.stretch
        return self.is_suspect or sub.was_suspect or self.suspect_at >= since

    # --- rates -----------------------------------------------------------------------------------

    def _check_rate(self, sub, item):
        """Late arrival only ever makes the count lower than what was sent, so this needs no slack
        for the network; some for what a slow client catches up with."""
        if not sub.max_rate or sub.mode != "latest" or item.get("snap") or sub.is_back:
            return
        now = self.clock()
        sub.rated += 1
        if sub.rated > 1.5 * sub.max_rate * (now - sub.rated_from) + 5:
            raise Fault(f"{sub.rated} items in {now - sub.rated_from:.2f} s at max_rate "
                        f"{sub.max_rate}", sub.channel, sub.epoch, sub.seq)

    # --- the end ---------------------------------------------------------------------------------

    def holds_newest(self, channel):
        """Does the client have what was published last?"""
        sub, truth = self.subs[channel], self.truths[channel]
        if truth.newest is None:
            return True
        epoch, seq, n = truth.newest
        if self.raw:
            # Nor is it told of a value that was taken back.
            is_taken_back = truth.is_rewound and sub.n is not None and sub.n > n
            return sub.n == n or n == CLEARED or n in truth.cleared or is_taken_back
        if truth.is_stamped and not truth.is_rewound:
            return (sub.epoch, sub.seq) == (epoch, seq)
        return sub.n == (CLEARED if n in truth.cleared else n)

    def stale(self, only_stamped=False, only_started=False):
        """Channels of which it holds an old value. only_started: where it has had an item."""
        found = []
        for channel, sub in self.subs.items():
            if not sub.is_on or (only_stamped and not self.truths[channel].is_stamped):
                continue
            if only_started and sub.n is None:
                continue
            if not self.holds_newest(channel):
                found.append(channel)
        return found

    def explain(self, fault, name):
        """The fault with what is needed to understand it, as lines."""
        lines = [f"FAULT {name}: {fault.what}"]
        if fault.channel:
            sub = self.subs.get(fault.channel)
            epoch, seq, n = fault.place
            lines.append(f"  {fault.channel}@{epoch}:{seq} n={n}")
            if sub is not None:
                lines.append("  " + ", ".join(f"{k}={v!r}" for k, v in vars(sub).items()
                                              if k != "state"))
            lines += ["  " + line for line in self.truths[fault.channel].around(epoch, seq, n)]
        lines.append(f"  its last {len(self.recent)} messages:")
        return lines + ["    " + PADDING.sub("x", text)[:SHOWN] for text in self.recent]
