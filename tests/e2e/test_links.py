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
