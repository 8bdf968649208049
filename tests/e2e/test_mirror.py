"""Namespaces that a node receives whole: mirror = yes (docs/protocol.md, 2.2; docs/design.md)."""

import json
import signal

import pytest

from world import SLOWER, eventually

SETTINGS = {
    "namespace.quote.mode": "latest", "namespace.quote.mirror": "yes",
    "namespace.trade.mode": "all", "namespace.trade.history": 100,
    "namespace.trade.snapshot": "yes", "namespace.trade.mirror": "yes",
    "namespace.chat.mode": "all", "namespace.chat.mirror": "yes",
    "namespace.brief.mode": "latest", "namespace.brief.history_ttl_s": 1,
    "namespace.brief.mirror": "yes", "redis.linger_ms": 100,
}


@pytest.fixture
def node(world, redis):
    return world.node(redis, settings=SETTINGS)


def reads(node):
    return node.metric("tickcast_stored_reads_total")


def cut(redis, node, publish):
    """Runs publish() while the node cannot hear."""
    node.process.send_signal(signal.SIGSTOP)
    redis("CLIENT", "KILL", "TYPE", "pubsub")
    publish()
    node.process.send_signal(signal.SIGCONT)


def test_values_are_there_before_anyone_asks(world, redis, connect):
    for n in range(1500):
        redis("HSET", "{tc:quote:S%d}" % n, "epoch", "e", "seq", 7, "ts", 5, "data", n)
    redis("SET", "{tc:quote:not a channel}", "x")
    redis.stamp("trade:A", "1", 100)  # has a log, too
    node = world.node(redis, settings=SETTINGS)
    assert node.metric("tickcast_mirrored_channels") == 1501
    before = reads(node)
    redis.pause()  # a subscribe needs no Redis
    try:
        client = connect(node)
        ack = client.subscribe("quote:S3", "quote:S1499", "trade:A", "quote:NONE")
        assert ack["accepted"] == 4
        items = {item["channel"]: item for item in client.items(3)}
        assert items["quote:S3"] == {"channel": "quote:S3", "epoch": "e", "seq": 7, "ts": 5,
                                     "snap": True, "data": 3}
        assert items["quote:S1499"]["data"] == 1499 and items["trade:A"]["seq"] == 1
        client.nothing_more()
    finally:
        redis.resume()
    assert reads(node) == before
    assert redis.listeners("quote:S3") == 0
    assert node.metric("tickcast_redis_channels") == 0


def test_messages_make_channels(node, redis, connect):
    redis("PUBLISH", "tc:quote:P", '{"price":1}')
    seq, epoch = redis.stamp("quote:S", '"stamped"')
    node.wait_metric("tickcast_mirrored_channels", 2)
    client = connect(node)
    client.subscribe("quote:P", "quote:S")
    items = {item["channel"]: item for item in client.items(2)}
    assert items["quote:P"]["data"] == {"price": 1} and items["quote:P"]["snap"]
    assert (items["quote:S"]["epoch"], items["quote:S"]["seq"]) == (epoch, seq)
    redis("PUBLISH", "tc:quote:P", "2")
    redis.stamp("quote:S", "3")
    assert [item["data"] for item in client.items(2)] == [2, 3]
    client.nothing_more()  # each of them once
    assert node.metric("tickcast_publications_total") == 4


def test_names_that_clients_make_up_are_not_kept(node, connect):
    client = connect(node)
    client.subscribe(*[f"quote:N{i}" for i in range(200)])
    client.close()
    node.wait_metric("tickcast_channels", 0)
    assert node.metric("tickcast_mirrored_channels") == 0


def test_followed_again_from_memory(node, redis, connect):
    """The value outlives its followers and their linger_ms."""
    client = connect(node)
    client.subscribe("quote:A")
    seq, epoch = redis.stamp("quote:A", '"one"')
    client.item()
    client.close()
    node.wait_metric("tickcast_channels", 0)
    redis.stamp("quote:A", '"two"')
    node.wait_metric("tickcast_publications_total", 2)
    before = reads(node)
    other = connect(node)
    other.subscribe("quote:A")
    item = other.item()
    assert (item["epoch"], item["seq"], item["data"], item["snap"]) == (epoch, 2, "two", True)
    assert reads(node) == before


def test_filled_again_after_a_hole(node, redis, connect):
    client = connect(node)
    for n in range(3):
        redis.stamp("trade:A", str(n), 100)
    redis.stamp("quote:B", '"old"')
    client.subscribe("trade:A")
    client.item()

    def publish():
        for n in range(3, 40):
            redis.stamp("trade:A", str(n), 100)
        redis.stamp("quote:B", '"new"')
        redis.stamp("quote:C", '"first"')
        redis("PUBLISH", "tc:chat:lobby", "lost")

    cut(redis, node, publish)
    client.wait_for("state", feed="suspect")
    client.wait_for("state", feed="ok")
    items, client.pending = client.pending, []
    assert [item["seq"] for item in items] == list(range(4, 41))
    client.subscribe("quote:B", "quote:C")
    assert {item["data"] for item in client.items(2)} == {"new", "first"}


def test_a_value_that_expires_is_forgotten(node, redis, connect):
    redis.stamp("brief:A", "1", 0, 1)
    node.wait_metric("tickcast_mirrored_channels", 1)
    client = connect(node)
    client.subscribe("brief:A")
    assert client.item()["data"] == 1
    assert client.item(timeout=5 * SLOWER)["cleared"] is True
    client.close()
    node.wait_metric("tickcast_mirrored_channels", 0)
    for channel in ("brief:B", "quote:B"):  # nobody follows these; of quote only the publisher knows
        redis.stamp(channel, "1", 0, 1)
        node.wait_metric("tickcast_mirrored_channels", 1)
        node.wait_metric("tickcast_mirrored_channels", 0)


def test_more_channels_than_are_kept(world, redis, connect):
    for n in range(10):
        redis.stamp(f"quote:S{n}", str(n))
    node = world.node(redis, settings={**SETTINGS, "limits.mirrored_channels": 4})
    assert node.metric("tickcast_mirrored_channels") == 4
    client = connect(node)
    client.subscribe(*[f"quote:S{n}" for n in range(10)])
    assert sorted(item["data"] for item in client.items(10)) == list(range(10))
    for n in range(10):
        redis.stamp(f"quote:S{n}", str(100 + n))
    assert [item["data"] for item in client.items(10)] == [100 + n for n in range(10)]
    redis.stamp("quote:OTHER", "1")
    eventually(lambda: node.metric("tickcast_publications_dropped_total",
                                   reason="unknown_channel") == 1)
    client.close()
    node.wait_metric("tickcast_channels", 0)
    other = connect(node)
    other.subscribe("quote:OTHER")
    assert other.item()["data"] == 1


def test_a_name_that_is_too_long_for_a_reply(world, redis, connect):
    """It is no channel, and must not cost the link that looks for channels."""
    redis("SET", "{tc:quote:" + "x" * 1_500_000 + "}", "x")
    longest = "quote:" + "x" * 122
    redis.stamp(longest, "1")
    node = world.node(redis, settings=SETTINGS)
    assert node.metric("tickcast_mirrored_channels") == 1
    client = connect(node, channels=longest)
    assert client.item()["data"] == 1
    assert node.metric("tickcast_redis_connects_total", link="command") == 1


def test_a_message_on_a_name_that_is_too_long(world, redis, connect):
    """It is counted, and costs nobody the link."""
    node = world.node(redis, settings=SETTINGS)
    redis("PUBLISH", "tc:quote:" + "x" * 100_000, "1")
    redis.stamp("quote:A", "1")
    node.wait_metric("tickcast_mirrored_channels", 1)
    assert node.metric("tickcast_publications_dropped_total", reason="too_large") == 1
    assert node.metric("tickcast_redis_connects_total", link="subscriber") == 1


def test_a_prefix_of_glob_characters(world, connect):
    redis = world.redis(prefix="[a]*:")
    redis.stamp("quote:A", "1")
    node = world.node(redis, settings={**SETTINGS, "redis.prefix": "[a]*:"})
    redis("PUBLISH", "a:quote:X", "no")
    client = connect(node)
    client.subscribe("quote:A")
    assert client.item()["data"] == 1
    redis.stamp("quote:A", "2")
    assert client.item()["data"] == 2
    assert node.metric("tickcast_mirrored_channels") == 1


def test_the_link_for_commands_is_lost_while_it_fills(world, redis, connect):
    for n in range(3000):
        redis("HSET", "{tc:quote:S%d}" % n, "epoch", "e", "seq", 7, "ts", 5, "data", n)
    node = world.node(redis, settings=SETTINGS, ready=False)
    for _ in range(5):
        redis("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    node.wait_ready()
    assert node.metric("tickcast_mirrored_channels") == 3000
    client = connect(node)
    client.subscribe("quote:S2999")
    assert json.dumps(client.item()["data"]) == "2999"
