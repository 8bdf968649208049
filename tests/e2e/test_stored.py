"""What is kept in Redis, read back under load and in every unlikely shape (docs/protocol.md, 3)."""

import json
import pathlib
import signal
import threading

import pytest

from world import ROOT, SLOWER, RedisClient, eventually

SETTINGS = {
    "namespace.quote.mode": "latest",
    "namespace.trade.mode": "all", "namespace.trade.history": 5000,
    "namespace.trade.snapshot": "yes",
    "limits.commands_per_s": 100000,
}
SCRIPT = pathlib.Path(ROOT, "scripts", "publish.lua").read_text()


@pytest.fixture
def node(world, redis):
    return world.node(redis, settings=SETTINGS)


class Publisher:
    """Publishes numbered trades, some ten thousand a second, until it is told to stop."""

    def __init__(self, redis, channel):
        self.client = RedisClient(redis.port)
        self.sha = self.client("SCRIPT", "LOAD", SCRIPT)
        self.key = "{tc:%s}" % channel
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._run)

    def _run(self):
        n = 0
        while not self.over.is_set():
            self.client.many([("EVALSHA", self.sha, 1, self.key, json.dumps({"n": n + i}), 5000)
                              for i in range(20)])
            n += 20
            self.over.wait(0.001)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()
        self.client.close()


# --- positions --------------------------------------------------------------------------------------

def test_every_position_is_recovered_under_full_load(world, redis, connect):
    """The log is read over another connection than the stream, and may be ahead of it."""
    node = world.node(redis, settings=SETTINGS)
    follower = connect(node, channels="trade:A")  # or each newcomer would begin with a fresh read
    with Publisher(redis, "trade:A"):
        first = follower.item()
        position = {"epoch": first["epoch"], "seq": first["seq"]}
        for _ in range(40):
            client = connect(node)
            ack = client.subscribe("trade:A", since={"trade:A": position})
            assert ack.get("recovered") == ["trade:A"]
            seqs = [item["seq"] for item in client.items(50) + client.pending]
            assert seqs == list(range(position["seq"] + 1, position["seq"] + 1 + len(seqs)))
            position["seq"] = seqs[-1]
            client.close()


def test_many_come_back_at_once(world, redis, connect):
    """One read of the log serves all who wait for it."""
    node = world.node(redis, settings=SETTINGS)
    follower = connect(node)
    follower.subscribe("trade:A")
    for n in range(600):
        redis.stamp("trade:A", str(n), 5000)
    epoch = follower.item()["epoch"]
    clients = [connect(node) for _ in range(50)]
    assert follower.items(599)[-1]["seq"] == 600
    before = node.metric("tickcast_stored_reads_total")
    node.process.send_signal(signal.SIGSTOP)  # all of them ask in one go
    for i, client in enumerate(clients):
        client.send(action="subscribe", id=1, channels=["trade:A"],
                    since={"trade:A": {"epoch": epoch, "seq": 600 - 11 * i}})
    node.process.send_signal(signal.SIGCONT)
    for i, client in enumerate(clients):
        assert client.expect("ack")["recovered"] == ["trade:A"]
        assert [x["seq"] for x in client.items(11 * i)] == list(range(601 - 11 * i, 601))
    assert node.metric("tickcast_stored_reads_total") - before < 25
