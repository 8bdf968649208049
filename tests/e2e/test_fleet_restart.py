"""scripts/rolling-restart over a fleet of real nodes, with clients that must not lose anything.

A supervisor in the test stands for systemd: GET /restart/<id> ends a node with SIGTERM and starts it
again. Clients do what docs/protocol.md tells them to: they come back when they are told to leave,
with the position of what they have.
"""

import asyncio
import json
import subprocess
import threading

import pytest
import websockets
from websockets.exceptions import ConnectionClosed, InvalidStatusCode

from client import LOOP
from fake_fleet import Listener
from world import PUBLISH_LUA, ROOT, SLOWER, RedisClient, eventually

CLIENTS = 45
HISTORY = 20000
CHANNEL = "trade:ROLL"
SETTINGS = {"namespace.quote.mode": "latest", "namespace.trade.mode": "all",
            "namespace.trade.history": HISTORY, "listen.drain_grace_s": 0, "listen.drain_s": 1}


class Follower:
    """One client. Every number it gets must be the one after the last."""

    def __init__(self, nodes, at):
        self.nodes = nodes
        self.at = at  # which node it tries next
        self.epoch = None
        self.seq = 0
        self.faults = []
        self.sessions = 0
        self.ends = False
        self.ws = None

    async def run(self):
        while not self.ends:
            node = self.nodes[self.at % len(self.nodes)]
            self.at += 1
            try:
                await self._session(node)
            except (InvalidStatusCode, OSError, asyncio.TimeoutError):
                await asyncio.sleep(0.05)  # draining, or not there: the next one
            except ConnectionClosed as end:
                if end.rcvd is None or end.rcvd.code != 4200:
                    self.faults.append(f"closed: {end}")

    async def _session(self, node):
        async with websockets.connect(f"ws://{node.listen}/ws", ping_interval=None,
                                      open_timeout=5 * SLOWER) as ws:
            self.ws = ws
            self.sessions += 1
            command = {"action": "subscribe", "id": 1, "channels": [CHANNEL], "snapshot": False}
            if self.epoch:
                command["since"] = {CHANNEL: {"epoch": self.epoch, "seq": self.seq}}
            await ws.send(json.dumps(command))
            async for text in ws:
                self._take(json.loads(text))

    def _take(self, message):
        if message["action"] == "ack" and self.epoch and message.get("recovered") != [CHANNEL]:
            self.faults.append(f"not recovered: {message}")
        for item in message.get("items", []):
            if "missed" in item:
                self.faults.append(f"missed: {item}")
            if self.epoch and item["seq"] != self.seq + 1:
                self.faults.append(f"{item['seq']} after {self.seq}")
            self.epoch = item.get("epoch", self.epoch)
            self.seq = item["seq"]

    async def stop(self):
        self.ends = True
        if self.ws is not None:
            await self.ws.close()


class Market:
    """Publishes numbered trades at a steady rate, in a thread."""

    def __init__(self, redis):
        self.redis = redis
        self.seq = 0
        self.ends = threading.Event()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        client = RedisClient(self.redis.port)
        while not self.ends.wait(0.01):
            self.seq = client("EVAL", PUBLISH_LUA.read_text(), 1, "{tc:%s}" % CHANNEL,
                              json.dumps({"n": self.seq}), HISTORY)[0]
        client.close()

    def stop(self):
        self.ends.set()
        self.thread.join()


@pytest.fixture
def fleet(world, redis):
    nodes = world.cluster(3, settings=SETTINGS)
    eventually(lambda: redis("ZCARD", "tc:nodes") == 3, 10)
    return nodes


@pytest.fixture
def supervisor(fleet):
    def restart(path):
        node = next(n for n in fleet if path == f"/restart/{n.name}")
        node.stop()
        node.restart()
        return 200, ""

    made = Listener(restart)
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def followers(fleet):
    made = [Follower(fleet, number) for number in range(CLIENTS)]

    async def begin():
        return [asyncio.create_task(follower.run()) for follower in made]

    async def end(tasks):
        await asyncio.gather(*(follower.stop() for follower in made))
        await asyncio.wait(tasks, timeout=10)

    tasks = LOOP.run(begin(), 10)
    yield made
    LOOP.run(end(tasks), 30)


@pytest.fixture
def market(redis):
    made = Market(redis)
    yield made
    made.stop()


@pytest.mark.limit(120)
def test_the_whole_fleet_and_nobody_loses_anything(redis, fleet, supervisor, followers, market):
    eventually(lambda: all(f.seq > 0 for f in followers), 20 * SLOWER, "everybody to be served")
    before = {node.name: node.pid for node in fleet}
    command = [str(ROOT / "scripts/rolling-restart"), "--redis", redis.url, "--drain-seconds", "1",
               "--restart", f"curl -fsS http://{supervisor.address}/restart/{{id}}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110 * SLOWER, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(node.pid != before[node.name] for node in fleet)
    market.stop()
    eventually(lambda: all(f.seq == market.seq for f in followers), 20 * SLOWER,
               "everybody to have everything")
    assert [f.faults for f in followers if f.faults] == []
    assert all(f.sessions >= 2 for f in followers)
    assert f"; {CLIENTS} clients are connected" in done.stdout, done.stdout
