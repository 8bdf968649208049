"""What was published on one channel, as far as it is known.

Publishers write down every number that they sent and what Redis answered. When a connection to
Redis breaks, nobody knows which of the unanswered publications happened; then the first client
that sees one tells, and all others have to agree.
"""

import json

import values

CLEARED = -1  # stands for the number of a cleared value as long as only clients have seen it


class Truth:
    def __init__(self, channel):
        self.channel = channel
        self.is_stamped = values.is_stamped(channel)
        self.sent = 0  # the last number handed to Redis; the first one is 1
        self.cleared = set()  # numbers that were published as empty payloads
        self.uncertain = set()  # numbers that Redis never answered for
        self.numbered = {}  # {epoch: {seq: n}}
        self.newest = None  # (epoch, seq, n) of the newest one that is known to be published
        self.is_rewound = False  # Redis went back to an older copy of itself

    # --- the publisher's side --------------------------------------------------------------------

    def send(self, clear=False):
        """The next number, about to be published."""
        self.sent += 1
        if clear:
            self.cleared.add(self.sent)
        return self.sent

    def payload(self, n):
        return "" if n in self.cleared else values.text(self.channel, n)

    def lose(self, n):
        """No answer came: it may have been published or not."""
        self.uncertain.add(n)

    def answer(self, n, epoch=None, seq=None):
        """Redis has published n, stamped or plain. Returns what is wrong with that, or None."""
        if not self.is_stamped:
            self.newest = (None, None, n)
            return None
        if not self._is_behind_newest(epoch, seq):
            self.newest = (epoch, seq, n)
        return self._number(epoch, seq, n)

    def rewind(self):
        """Redis has become an older copy of itself, in which what was newest may be missing."""
        self.is_rewound = True
        self.newest = None

    def found(self, epoch, seq, data):
        """What Redis holds, where nothing was published since it went back."""
        if epoch is not None and self.newest is None:
            self.newest = (epoch, seq, json.loads(data)["n"] if data else CLEARED)

    # --- the clients' side -----------------------------------------------------------------------

    def saw(self, epoch, seq, n):
        """A client was given n (or CLEARED) under this number. Returns what is wrong, or None."""
        if n != CLEARED and not 1 <= n <= self.sent:
            return f"n={n} was never published, the last is {self.sent}"
        if n in self.cleared:
            return f"n={n} was published as empty"
        self.uncertain.discard(n)
        if not self.is_stamped:
            return None
        if self._is_behind_newest(epoch, seq) is False:  # killed before it answered
            self.newest = (epoch, seq, n)
        return self._number(epoch, seq, n)

    def _is_behind_newest(self, epoch, seq):
        """None: they cannot be compared."""
        if self.newest is None or self.newest[0] != epoch or self.is_rewound:
            return None
        return seq <= self.newest[1]

    def _number(self, epoch, seq, n):
        numbers = self.numbered.setdefault(epoch, {})
        known = numbers.setdefault(seq, n)
        if known == n:
            return None
        if CLEARED in (known, n) and max(known, n) in self.cleared:
            numbers[seq] = max(known, n)
            return None
        if self.is_rewound:
            numbers[seq] = n
            return None
        return f"{epoch}:{seq} is n={n} here and n={known} elsewhere"

    def count_uncertain(self, after, before):
        """How many of the numbers between these two may never have been published."""
        return sum(after < n < before for n in self.uncertain)

    def count_silent(self, after, before):
        """The same, and those that a raw client is not shown."""
        return sum(after < n < before for n in self.uncertain | self.cleared)

    # --- for people and for the end --------------------------------------------------------------

    def audit(self):
        """What can only be said when all is over: numbers rise with what was published."""
        if self.is_rewound:
            return []
        wrong = []
        for epoch, numbers in self.numbered.items():
            last = 0
            for seq in sorted(numbers):
                n = numbers[seq]
                if n == CLEARED:
                    continue
                if n <= last:
                    wrong.append(f"{self.channel}: {epoch}:{seq} is n={n}, behind n={last}")
                last = n
        return wrong

    def around(self, epoch, seq, n, width=5):
        """The record near a place, as lines."""
        lines = [f"{self.channel}: sent up to n={self.sent}, newest {self.newest}, "
                 f"epochs {list(self.numbered)}{', rewound' if self.is_rewound else ''}"]
        numbers = self.numbered.get(epoch, {})
        for at in range((seq or 0) - width, (seq or 0) + width + 1):
            if at in numbers:
                lines.append(f"  {epoch}:{at} n={numbers[at]}")
        if n is not None:
            near = [m for m in sorted(self.uncertain) if abs(m - n) <= 50]
            lines.append(f"  uncertain near n={n}: {near}")
        return lines
