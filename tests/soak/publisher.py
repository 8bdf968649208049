"""Publishes numbered values through Redis, plain and stamped, on one connection of its own, and
writes down what it sent and what was answered.

    truth.send() ──EVALSHA or PUBLISH, pipelined──> Redis ──reply──> truth.answer()
                                            connection lost ──> truth.lose() for all unanswered
"""

import asyncio
import collections
import contextlib

import values

TICK_S = 0.02
CLEAR = 0.005  # of stamped publications
BURST = 0.002  # of ticks
BURST_SIZE = 150


class RedisReply(Exception):
    """An error reply."""


def encode(*args):
    out = [b"*%d\r\n" % len(args)]
    for arg in args:
        arg = arg if isinstance(arg, bytes) else str(arg).encode()
        out.append(b"$%d\r\n%s\r\n" % (len(arg), arg))
    return b"".join(out)


async def read_reply(reader):
    line = await reader.readline()
    if not line.endswith(b"\r\n"):
        raise ConnectionError("Redis closed the connection")
    kind, rest = line[:1], line[1:-2]
    if kind == b"-":
        return RedisReply(rest.decode())
    if kind == b":":
        return int(rest)
    if kind == b"*":
        return [await read_reply(reader) for _ in range(int(rest))]
    if kind == b"$":
        return (await reader.readexactly(int(rest) + 2))[:-2] if int(rest) >= 0 else None
    return rest.decode()


class Publisher:
    def __init__(self, port, script, truths, rng, on_fault, per_second):
        self.port = port
        self.script = script  # text of scripts/publish.lua
        self.truths = truths
        self.rng = rng
        self.on_fault = on_fault  # called with a text
        self.per_second = per_second
        self.waiting = collections.deque()  # (truth, n) in the order of the commands
        self.sha = None
        self.writer = None
        self.reading = None
        self.published = 0
        self.is_busy = True  # publishing at random

    # --- the connection --------------------------------------------------------------------------

    async def _connect(self):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(encode("SCRIPT", "LOAD", self.script))
            sha = await read_reply(reader)
            if isinstance(sha, RedisReply):
                if not str(sha).startswith(("LOADING", "BUSY")):
                    self.on_fault(f"the script does not load: {sha}")
                raise ConnectionError(str(sha))
        except BaseException:
            writer.close()
            raise
        self.sha = sha
        self.writer = writer
        self.reading = asyncio.create_task(self._read(reader))

    async def _read(self, reader):
        try:
            while True:
                reply = await read_reply(reader)
                truth, n = self.waiting.popleft()
                self._on_reply(truth, n, reply)
        except (OSError, EOFError):
            pass
        finally:
            self._drop()

    def _on_reply(self, truth, n, reply):
        wrong = None
        if isinstance(reply, RedisReply) and str(reply).startswith("BUSY"):
            truth.lose(n)
        elif isinstance(reply, RedisReply):
            wrong = f"{truth.channel} n={n}: Redis said {reply}"
        elif truth.is_stamped:
            wrong = truth.answer(n, reply[1].decode(), int(reply[0]))
        else:
            truth.answer(n)
        if wrong:
            self.on_fault(f"publisher: {truth.channel} n={n}: {wrong}")

    def _drop(self):
        while self.waiting:
            truth, n = self.waiting.popleft()
            truth.lose(n)
        if self.writer is not None:
            self.writer.close()
        self.writer = self.reading = None

    async def ensure(self):
        """True when there is a connection."""
        if self.writer is None:
            with contextlib.suppress(OSError, EOFError):
                await self._connect()
        return self.writer is not None

    # --- publishing ------------------------------------------------------------------------------

    def publish(self, truth, clear=False):
        n = truth.send(clear and truth.is_stamped)
        channel, payload = truth.channel, truth.payload(n)
        if truth.is_stamped:
            history = values.NAMESPACES[values.namespace(channel)]["history"]
            command = encode("EVALSHA", self.sha, 1, f"{{tc:{channel}}}", payload, history, 0)
        else:
            command = encode("PUBLISH", f"tc:{channel}", payload)
        self.waiting.append((truth, n))
        self.writer.write(command)
        self.published += 1

    def _tick(self, credit):
        while credit >= 1:
            credit -= 1
            self.publish(self.rng.choice(self.truths), clear=self.rng.random() < CLEAR)
        if self.rng.random() < BURST:
            truth = self.rng.choice(self.truths)
            for _ in range(self.rng.randint(2, BURST_SIZE)):
                self.publish(truth)
        return credit

    async def run(self):
        credit, loop = 0.0, asyncio.get_running_loop()
        before = loop.time()
        while True:
            await asyncio.sleep(TICK_S)
            now = loop.time()
            credit = min(credit + (now - before) * self.per_second, self.per_second)
            before = now
            if self.is_busy and await self.ensure():
                credit = self._tick(credit)

    async def settle(self):
        """Stops publishing at random and waits for all answers."""
        self.is_busy = False
        while self.waiting:
            await asyncio.sleep(0.01)

    async def publish_all(self):
        """One more value on each channel; returns when Redis has taken them."""
        while not await self.ensure():
            await asyncio.sleep(0.05)
        for truth in self.truths:
            self.publish(truth)
        await self.settle()
