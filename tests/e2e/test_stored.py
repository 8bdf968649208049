"""What is kept in Redis, read back under load and in every unlikely shape (docs/protocol.md, 3)."""

import json
import pathlib
import signal
import threading

import pytest

from current import deaf
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
            self.client.many([("EVALSHA", self.sha, 1, self.key, json.dumps({"n": n + i}), 50000)
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
    node = world.node(redis, settings={**SETTINGS, "namespace.trade.history": 50000})
    follower = connect(node, channels="trade:A")  # or each newcomer would begin with a fresh read
    with Publisher(redis, "trade:A"):
        first = follower.item()
        position = {"epoch": first["epoch"], "seq": first["seq"]}
        for _ in range(max(10, 40 // SLOWER)):
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


# --- what others may have written ---------------------------------------------------------------------

def test_a_log_full_of_what_cannot_travel(node, redis, connect):
    client = connect(node)
    redis.stamp("trade:A", "1", 5000)
    client.subscribe("trade:A")
    client.item()

    def publish():
        for _ in range(600):
            redis.stamp("trade:A", b"\xff", 5000)
        redis.stamp("trade:A", '"at last"', 5000)

    deaf(redis, node, publish)
    client.wait_for("state", feed="suspect")
    client.wait_for("state", feed="ok")
    (item,) = client.items(1)
    assert (item["seq"], item["data"], item["missed"]) == (602, "at last", 600)
    client.nothing_more()


def test_a_value_that_cannot_travel_is_no_other_history(node, redis, connect):
    """Nor is one that was cleared: coming back to it must not change the epoch."""
    redis.stamp("trade:BAD", b"\xff", 5000)
    redis.stamp("trade:GONE", "1", 5000)
    redis.stamp("trade:GONE", "", 5000)
    client = connect(node)
    client.subscribe("trade:BAD", "trade:GONE")
    deaf(redis, node, lambda: None)
    client.wait_for("state", feed="ok")
    assert node.metric("tickcast_epochs_renewed_total") == 0


def test_stored_values_over_the_limit(world, redis, connect):
    """They cannot be sent, and must not cost the link that reads them."""
    node = world.node(redis, settings={**SETTINGS, "limits.payload_bytes": 100_000})
    big = '"' + "x" * 200_000 + '"'
    redis.stamp("quote:BIG", big)
    for n in range(3):
        redis.stamp("trade:BIG", str(n), 5000)
    epoch = redis("HGET", "{tc:trade:BIG}", "epoch").decode()
    redis.stamp("trade:BIG", big, 5000)
    redis.stamp("trade:BIG", '"small"', 5000)
    client = connect(node)
    client.subscribe("quote:BIG", "quote:OTHER")
    redis.stamp("quote:BIG", '"small"', heard_by=1)
    item = client.item()
    assert (item["channel"], item["seq"], item["data"]) == ("quote:BIG", 2, "small")
    ack = client.subscribe("trade:BIG", since={"trade:BIG": {"epoch": epoch, "seq": 1}})
    assert "recovered" not in ack
    item = client.item()
    assert (item["snap"], item["seq"], item["data"]) == (True, 5, "small")
    assert node.metric("tickcast_redis_connects_total", link="command") == 1


def test_a_log_larger_than_a_reply_may_be(world, redis, connect):
    """Pages of a log are bounded in bytes, too."""
    node = world.node(redis, settings={**SETTINGS, "redis.canary_ms": 5000})
    client = connect(node)
    redis.stamp("trade:A", "1", 5000)
    client.subscribe("trade:A")
    client.item()
    value = '"' + "x" * 1_000_000 + '"'

    def publish():
        for _ in range(100):
            redis.stamp("trade:A", value, 5000)

    deaf(redis, node, publish)
    eventually(lambda: node.metric("tickcast_healed_publications_total") == 100,
               20 * SLOWER, "everything to be healed")
    assert node.metric("tickcast_redis_connects_total", link="command") == 1
