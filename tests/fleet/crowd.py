"""Clients of a fleet that is being restarted: each follows a few channels in mode `all`, goes where
a balancer would send it, comes back with its positions, and counts everything it gets.

    balancer ──which nodes are ready──> client ──/ws──> node ──drain, 4200──> client, elsewhere
"""

import asyncio
import json
import time

import wslink

POLL_S = 0.25  # of the balancer: how often it asks /readyz
AGAIN_S = 0.3  # after a connection that did not come about
ANSWER_S = 30


class Balancer:
    """Knows what a load balancer knows: who said 200 when last asked."""

    def __init__(self, nodes, rng):
        self.nodes = nodes
        self.rng = rng
        self.ready = set(nodes)

    async def _ask(self, node):
        try:
            reader, writer = await asyncio.wait_for(
                asyncio.open_connection(node.host, node.port), 2)
            writer.write(b"GET /readyz HTTP/1.1\r\nHost: b\r\n\r\n")
            line = await asyncio.wait_for(reader.readline(), 2)
            writer.close()
            return line.startswith(b"HTTP/1.1 200")
        except (OSError, asyncio.TimeoutError):
            return False

    async def run(self):
        while True:
            for node in self.nodes:
                (self.ready.add if await self._ask(node) else self.ready.discard)(node)
            await asyncio.sleep(POLL_S)

    async def pick(self):
        while not self.ready:
            await asyncio.sleep(POLL_S)
        return self.rng.choice(sorted(self.ready, key=lambda node: node.name))


class Counts:
    """What all clients together have seen."""

    def __init__(self):
        self.items = 0
        self.reconnects = 0
        self.refused_connects = 0  # nobody listened, or a reset before the 101
        self.told_to_wait = 0  # 503 with Retry-After
        self.drained = 0
        self.lost = 0  # without a close frame
        self.unrecovered = 0
        self.gaps_s = []  # from the end of one connection to the ack on the next
        self.faults = []

    def fault(self, text):
        if len(self.faults) < 50:
            self.faults.append(text)


class Client:
    def __init__(self, name, channels, balancer, counts):
        self.name = name
        self.balancer = balancer
        self.counts = counts
        self.positions = dict.fromkeys(channels)  # channel -> [epoch, seq]
        self.link = None
        self.node = None
        self.acked = None
        self.left_at = None
        self.told_ms = None
        self.is_first = True
        self.ended = asyncio.Event()

    # --- what comes ------------------------------------------------------------------------------

    def _fault(self, text):
        self.counts.fault(f"{self.name} on {self.node.name}: {text}")

    def _on_item(self, item):
        channel, seq = item["channel"], item["seq"]
        self.counts.items += 1
        position = self.positions[channel]
        if position is None:
            self.positions[channel] = [item["epoch"], seq]
            return
        if item.get("missed"):
            self._fault(f"{channel}: {item['missed']} missed before {seq}, behind {position}")
        elif item.get("epoch", position[0]) != position[0]:
            self._fault(f"{channel}: another epoch, {item['epoch']}, behind {position}")
        elif item.get("snap") and seq == position[1]:
            return  # the same again, and said to be
        elif seq != position[1] + 1:
            self._fault(f"{channel}: {seq} behind {position}")
        self.positions[channel] = [item.get("epoch", position[0]), seq]

    def _on_text(self, text):
        message = json.loads(text)
        action = message["action"]
        if action == "push":
            for item in message["items"]:
                self._on_item(item)
        elif action == "drain":
            self.told_ms = message["reconnect_in_ms"]
            self.told_at = time.monotonic()
        elif action == "ack":
            self._on_ack(message)
        elif action == "error":
            self._fault(text)

    def _on_ack(self, ack):
        if ack["rejected"]:
            self._fault(f"rejected: {ack['rejected']}")
        if not self.is_first and ack.get("feed") != "suspect":
            known = {c for c, at in self.positions.items() if at is not None}
            self.counts.unrecovered += len(known - set(ack.get("recovered", ())))
        self.is_first = False
        if self.left_at is not None:
            self.counts.gaps_s.append(time.monotonic() - self.left_at)
        self.acked.set()

    def _on_end(self, code):
        if code == 4200:
            self.counts.drained += 1
            if self.told_ms is None:
                self._fault("closed with 4200, and was not told")
        elif code == wslink.LOST:
            self.counts.lost += 1
        else:
            self._fault(f"closed with {code}")
        self.ended.set()

    def _on_broken(self, text):
        self._fault(text)
        self.ended.set()

    # --- connections -----------------------------------------------------------------------------

    async def _connect(self):
        """One try. False: to be tried again, after having waited."""
        self.node = await self.balancer.pick()
        self.told_ms = None
        self.acked = asyncio.Event()
        self.ended.clear()
        link = wslink.Link(self._on_text, self._on_end, self._on_broken)
        try:
            await link.open(self.node.host, self.node.port, "/ws", timeout=ANSWER_S)
        except wslink.Refused as refused:
            if refused.status != 503 or not refused.retry_after_s:
                self._fault(f"refused with {refused.status}")
            self.counts.told_to_wait += 1
            await asyncio.sleep((refused.retry_after_s or 1) + self.balancer.rng.random())
            return False
        except (OSError, asyncio.TimeoutError):
            self.counts.refused_connects += 1
            await asyncio.sleep(AGAIN_S)
            return False
        self.link = link
        since = {c: {"epoch": at[0], "seq": at[1]} for c, at in self.positions.items() if at}
        link.send(json.dumps({"action": "subscribe", "id": 1, "channels": list(self.positions),
                              "since": since}))
        return True

    async def run(self):
        while True:
            while not await self._connect():
                pass
            await self.ended.wait()
            self.left_at = time.monotonic()
            self.counts.reconnects += 1

    def has_all(self, newest):
        """newest: {channel: [epoch, seq]} as Redis has it."""
        return all(at is None or at == newest[c] for c, at in self.positions.items())
