"""A Redis that is there, and refuses for now to say what it keeps: it loads, or fails over."""
import contextlib
import itertools
import threading
import time

import pytest

from fake_redis import array, text
from world import eventually

SETTINGS = {"redis.canary_ms": 5000}
DOWN = b"-CLUSTERDOWN Hash slot not served\r\n"


def refuse_slot(store, slot):
    store.on_script = lambda _, channel: DOWN if channel == slot else None


def refuse_all(store):
    store.on_script = lambda *_: DOWN


def refuse_nothing(store):
    store.on_script = lambda *_: None


@contextlib.contextmanager
def reads_of_others(client):
    """Channels of other slots are read all the time, so the store as a whole does answer."""
    is_over = threading.Event()

    def read():
        for n in itertools.count():
            if is_over.wait(0.05):
                return
            client.send(action="subscribe", channels=[f"quote:N{n}"])

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield
    finally:
        is_over.set()
        reader.join()


@pytest.mark.parametrize("error", [
    b"LOADING Redis is loading the dataset in memory", b"BUSY Redis is busy running a script.",
    b"MASTERDOWN Link with MASTER is down", b"CLUSTERDOWN The cluster is down",
    b"TRYAGAIN Multiple keys request during rehashing of slot"],
    ids=lambda error: error.split()[0].decode())
def test_a_read_that_is_refused_for_now_is_asked_again(world, store, connect, error):
    """A Redis that has just started takes subscribes while it still loads what it keeps."""
    refusals = [b"-" + error + b"\r\n"] * 3
    store.on_script = lambda *_: refusals.pop() if refusals else None
    store.values[b"quote:A"] = (b"e", 7, b"42")
    client = connect(world.node(store.url, settings=SETTINGS))
    client.subscribe("quote:A")
    item = client.item()
    assert item["snap"] is True and item["data"] == 42


def test_a_fill_that_is_refused_for_now_goes_on(world, store, connect):
    """A mirrored namespace is not filled before everything that is stored was found."""
    pages = [b"-BUSY Redis is busy running a script.\r\n",
             array(text(b"9"), array(text(b"{tc:quote:A}"))),
             b"-BUSY Redis is busy running a script.\r\n",
             array(text(b"0"), array(text(b"{tc:quote:B}")))]
    command = store.command
    store.command = lambda args: pages.pop(0) if b"'SCAN'" in args[1] else command(args)
    store.values = {b"quote:A": (b"e", 1, b"1"), b"quote:B": (b"e", 2, b"2")}
    node = world.node(store.url, settings=SETTINGS | {
        "namespace.quote.mode": "latest", "namespace.quote.mirror": "yes"})
    assert node.metric("tickcast_mirrored_channels") == 2
    asked = len(store.scripts)
    client = connect(node, channels="quote:A,quote:B")
    assert {i["seq"] for i in client.items(2)} == {1, 2}
    assert len(store.scripts) == asked


def test_what_is_kept_back_does_not_wait_for_a_slot_that_stays_refused(world, store, connect):
    node = world.node(store.url, settings=SETTINGS)
    client, other = connect(node), connect(node)
    client.subscribe("quote:A")
    asked = len(store.scripts)
    refuse_slot(store, b"quote:A")
    store.cut(store.subscribers + store.others)
    eventually(store.waiting(asked + 1))
    store.publish(b"tc:quote:A", b"1")
    with reads_of_others(other):
        assert client.item()["data"] == 1


def test_the_feed_is_ok_but_for_a_slot_that_stays_refused(world, store, connect):
    """After a loss of the links: the rest of the clients is not kept from what the others have."""
    node = world.node(store.url, settings=SETTINGS)
    client, other = connect(node), connect(node)
    client.subscribe("quote:A")
    refuse_slot(store, b"quote:A")
    store.cut(store.subscribers + store.others)
    client.wait_for("state", feed="suspect")
    with reads_of_others(other):
        assert client.wait_for("state", feed="ok")["suspect"] == ["quote:A"]


def test_a_quiet_node_is_ok_but_for_slots_that_stay_refused(world, store, connect):
    """Nothing else is read by the time it is known, or even before, that they do not answer."""
    node = world.node(store.url, settings=SETTINGS)
    client = connect(node)
    client.subscribe("quote:A", "quote:B", "quote:C")
    answered = []

    def on_script(_, channel):
        answered.append(channel)
        if channel == answered[0]:
            return None
        time.sleep(0.01)
        return DOWN

    store.on_script = on_script
    store.cut(store.subscribers + store.others)
    client.wait_for("state", feed="suspect")
    suspect = client.wait_for("state", feed="ok")["suspect"]
    assert {*suspect, answered[0].decode()} == {"quote:A", "quote:B", "quote:C"}


def test_a_subscribe_does_not_wait_for_a_slot_that_stays_refused(world, store, connect):
    store.values[b"quote:A"] = (b"e", 7, b"7")
    refuse_slot(store, b"quote:A")
    node = world.node(store.url, settings=SETTINGS)
    client, other = connect(node), connect(node)
    with reads_of_others(other):
        ack = client.subscribe("quote:A", "quote:B")
    assert ack["accepted"] == 2 and ack["suspect"] == ["quote:A"] and "feed" not in ack
    refuse_nothing(store)
    item = client.item()
    assert item["snap"] is True and (item["epoch"], item["seq"], item["data"]) == ("e", 7, 7)
    assert "suspect" not in connect(node).subscribe("quote:A")


def test_a_read_does_not_queue_behind_those_that_stay_refused(world, store, connect):
    store.on_script = lambda _, channel: DOWN if channel.startswith(b"quote:R") else None
    node = world.node(store.url, settings=SETTINGS)
    client, other = connect(node), connect(node)
    refused = [f"quote:R{n}" for n in range(500)]
    assert len(client.subscribe(*refused)["suspect"]) == 500
    asked = len(store.scripts)
    assert "suspect" not in other.subscribe("quote:A")
    assert store.scripts.index((b"read", b"quote:A")) - asked < 200
    store.values = {name.encode(): (b"e", 1, b"1") for name in refused}
    refuse_nothing(store)
    assert len(client.items(500)) == 500


def test_a_subscribe_does_not_wait_for_a_store_that_refuses(world, store, connect):
    """A Cluster fails over: what is published goes through, nothing can be read."""
    node = world.node(store.url, settings=SETTINGS | {"node.workers": 2})
    refuse_all(store)
    client = connect(node)
    ack = client.subscribe("quote:A", "quote:B")
    assert ack["accepted"] == 2 and ack["suspect"] == ["quote:A", "quote:B"] and "feed" not in ack
    store.stamp(b"quote:A", b"e", 8)
    item = client.item()
    assert (item["epoch"], item["seq"]) == ("e", 8)
    assert connect(node).subscribe("quote:A", "quote:B")["suspect"] == ["quote:B"]
    store.values = {b"quote:A": (b"e", 8, b"1"), b"quote:B": (b"f", 3, b"3")}
    refuse_nothing(store)
    item = client.item()
    assert (item["channel"], item["epoch"], item["seq"]) == ("quote:B", "f", 3)
    client.nothing_more()


def test_a_position_does_not_wait_for_a_log_that_stays_refused(world, store, connect):
    store.values[b"trade:A"] = (b"e", 10, b"10")
    node = world.node(store.url, settings=SETTINGS | {"namespace.trade.history": 100})
    connect(node, channels="trade:A").expect("ack")
    refuse_all(store)
    client = connect(node)
    ack = client.subscribe("trade:A", since={"trade:A": {"epoch": "e", "seq": 5}})
    assert "recovered" not in ack
    item = client.item()
    assert item["snap"] is True and item["seq"] == 10


def test_a_client_that_is_ahead_does_not_wait_for_a_store_that_refuses(world, store, connect):
    store.values[b"quote:A"] = (b"e", 7, b"7")
    node = world.node(store.url, settings=SETTINGS)
    connect(node, channels="quote:A").expect("ack")
    refuse_all(store)
    client = connect(node)
    ack = client.subscribe("quote:A", since={"quote:A": {"epoch": "e", "seq": 8}})
    assert "recovered" not in ack
    assert client.item()["seq"] == 7


def test_a_value_that_cannot_be_read_has_not_ended(world, store, connect):
    """Where values expire, none that is stored has expired; but nobody knows whether there is none."""
    store.values[b"quote:A"] = (b"e", 7, b"7")
    node = world.node(store.url, settings=SETTINGS | {
        "namespace.quote.mode": "latest", "namespace.quote.history_ttl_s": 60})
    refuse_all(store)
    client = connect(node)
    ack = client.subscribe("quote:A", since={"quote:A": {"epoch": "e", "seq": 6}})
    assert ack["suspect"] == ["quote:A"] and "recovered" not in ack
    refuse_nothing(store)
    item = client.item()
    assert (item["seq"], item["data"]) == (7, 7)


def test_a_value_that_came_while_none_was_read_has_not_ended(world, store, connect):
    """Nothing is kept back any more: what is published may overtake an answer from before."""
    node = world.node(store.url, settings=SETTINGS | {
        "namespace.quote.mode": "latest", "namespace.quote.history_ttl_s": 60})
    refuse_all(store)
    client = connect(node)
    assert client.subscribe("quote:A")["suspect"] == ["quote:A"]
    store.lets_through.clear()
    refuse_nothing(store)
    eventually(store.waiting(len(store.scripts) + 1))
    store.stamp(b"quote:A", b"e", 8)
    assert client.item()["seq"] == 8
    store.lets_through.set()
    client.nothing_more()
    assert connect(node, channels="quote:A").item()["seq"] == 8


def test_what_is_kept_back_does_not_wait_for_a_store_that_refuses_after_a_loss(world, store, connect):
    """The patience was over while the link was up and everything could be hoped for."""
    node = world.node(store.url, settings=SETTINGS)
    client = connect(node)
    client.subscribe("quote:A")
    asked = len(store.scripts)

    def on_script(*_):
        if len(store.scripts) == asked + 1:
            return store.cut(store.others)
        if len(store.scripts) == asked + 2:
            time.sleep(2)  # longer than the patience
        return b"-LOADING Redis is loading the dataset in memory\r\n"

    store.on_script = on_script
    store.cut(store.subscribers + store.others)
    eventually(store.waiting(asked + 2))
    store.stamp(b"quote:A", b"e", 1)
    assert client.item()["seq"] == 1
