"""The two links to Redis, each late or gone at the worst moment for the other."""
import time

import pytest

from fake_redis import FakeStore
from world import SLOWER, eventually

SETTINGS = {"redis.canary_ms": 5000}


@pytest.fixture
def store():
    redis = FakeStore()
    yield redis
    redis.lets_through.set()
    redis.close()


def renewals(store):
    return [channel for kind, channel in store.scripts if kind == b"renew"]


def test_a_command_link_that_answers_late_is_not_redone(world, store, connect):
    """Canaries queue behind what is read; redoing the link would only ask for all of it again."""
    store.on_script = lambda *_: time.sleep(0.03)
    node = world.node(store.url, settings={"redis.canary_ms": 100})
    channels = [f"quote:C{i}" for i in range(60)]
    client = connect(node)
    client.send(action="subscribe", channels=channels)
    eventually(lambda: {c for _, c in store.scripts} >= {c.encode() for c in channels}, 20 * SLOWER)
    eventually(node.is_ready, 10 * SLOWER)
    assert len(store.scripts) == len(channels)
    assert node.metric("tickcast_redis_connects_total", link="command") == 1


def test_more_comes_than_may_be_kept_back(world, store, connect):
    """64 MiB while one value is read: the rest goes out as it comes, and in order."""
    node = world.node(store.url, settings=SETTINGS)
    store.lets_through.clear()
    client = connect(node)
    client.send(action="subscribe", channels=["quote:BIG"])
    eventually(store.waiting(1))
    data = b'"' + b"x" * 1000000 + b'"'
    for seq in range(1, 81):
        store.stamp(b"quote:BIG", b"e", seq, data)
    other = connect(node, channels="trade:AFTER")  # nothing is kept of it
    other.expect("ack")
    store.publish(b"tc:trade:AFTER", b"1")
    other.item()
    store.values[b"quote:BIG"] = (b"e", 80, b'"stored"')
    store.lets_through.set()
    client.expect("ack")
    item = client.item()
    assert (item["epoch"], item["seq"]) == ("e", 80)
    store.stamp(b"quote:BIG", b"e", 81)
    item = client.item()
    assert item["seq"] == 81 and "epoch" not in item and "missed" not in item
    assert not renewals(store)
