"""The two links to Redis, each late or gone at the worst moment for the other."""
import itertools
import threading
import time

import pytest

from fake_redis import FakeStore, array, text
from world import SLOWER, eventually

SETTINGS = {"redis.canary_ms": 5000}


def follow(world, store, connect, epoch, seq):
    """A node, and a client that has the stored value of quote:A."""
    store.values[b"quote:A"] = (epoch, seq, b"%d" % seq)
    node = world.node(store.url, settings=SETTINGS)
    client = connect(node, channels="quote:A")
    assert client.item()["seq"] == seq
    return node, client


def cut_and_hold_reads(store):
    """Both links are redone, and what is read anew is not answered yet."""
    store.lets_through.clear()
    asked = len(store.scripts)
    store.cut(store.subscribers + store.others)
    eventually(store.waiting(asked + 1))


def lose_command_link(store, node):
    """It stays away, and nothing is kept back for it any more."""
    time.sleep(2)  # longer than a node waits for its second link
    store.is_closed = True
    store.cut(store.others)
    eventually(lambda: node.metric("tickcast_redis_up", link="command") == 0)


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


def test_a_stray_number_costs_no_message_behind_it(world, store, connect):
    """The stray one was dropped while the command link was down; what is kept back when it is up
    again is something else."""
    node, client = follow(world, store, connect, b"e", 10)
    store.stamp(b"quote:A", b"e", 11)
    assert client.item()["seq"] == 11
    lose_command_link(store, node)
    store.stamp(b"quote:A", b"e", 3)
    store.values[b"quote:A"] = (b"e", 12, b"12")
    store.lets_through.clear()
    store.is_closed = False
    eventually(store.waiting(1, b"renew"))
    store.stamp(b"quote:A", b"e", 12)
    store.stamp(b"quote:A", b"e", 13)
    time.sleep(0.1)
    store.lets_through.set()
    items = client.items(2)
    assert [i["seq"] for i in items] == [12, 13]
    assert not any("missed" in i or "epoch" in i for i in items)


def test_stray_numbers_take_the_place_of_no_read(world, store, connect):
    """They come while nothing can be read nor kept back, and what was missed is still to be read."""
    node = world.node(store.url, settings=SETTINGS | {"namespace.trade.history": 100})
    client = connect(node)
    client.subscribe("trade:A")
    store.stamp(b"trade:A", b"e", 10)
    assert client.item()["seq"] == 10
    cut_and_hold_reads(store)
    store.is_closed = True
    store.cut(store.others)
    store.stamp(b"trade:A", b"e", 4)
    store.stamp(b"trade:A", b"e", 3)
    node.wait_metric("tickcast_publications_dropped_total", 2, reason="stale_seq")
    store.values[b"trade:A"] = (b"e", 12, b"12")
    store.logs[b"trade:A"] = [(n, b"%d" % n) for n in range(1, 13)]
    store.lets_through.set()
    store.is_closed = False
    assert [(i["seq"], i.get("epoch")) for i in client.items(2)] == [(11, None), (12, None)]


def test_what_a_failover_without_a_command_link_costs_is_said(world, store, connect):
    node, client = follow(world, store, connect, b"e", 11)
    store.stamp(b"quote:A", b"e", 12)
    assert client.item()["seq"] == 12
    lose_command_link(store, node)
    for seq in (5, 6, 7):
        store.stamp(b"quote:A", b"e", seq)
    store.values[b"quote:A"] = (b"new", 7, b"7")
    node.wait_metric("tickcast_publications_dropped_total", 3, reason="stale_seq")
    store.is_closed = False
    item = client.item()
    assert (item["epoch"], item["seq"], item["missed"], item["data"]) == ("new", 7, 2, 7)
    store.stamp(b"quote:A", b"e", 8)  # before the epoch was changed
    store.stamp(b"quote:A", b"new", 9)
    assert [i["seq"] for i in client.items(2)] == [8, 9]


def test_no_epoch_comes_back_that_was_left(world, store, connect):
    """Another node had the epoch changed first: what was stamped before is covered by the value."""
    node, client = follow(world, store, connect, b"old", 100)
    cut_and_hold_reads(store)
    store.stamp(b"quote:A", b"old", 51)  # from a copy of Redis that is behind
    store.stamp(b"quote:A", b"old", 52)
    store.values[b"quote:A"] = (b"new", 53, b"53")  # and then the other node came
    store.lets_through.set()
    item = client.item()
    assert (item["epoch"], item["seq"], item.get("snap")) == ("new", 53, True)
    store.stamp(b"quote:A", b"old", 53, b"53")  # late, on the subscriber link
    store.stamp(b"quote:A", b"new", 54)
    item = client.item()
    assert item["seq"] == 54 and "epoch" not in item and "missed" not in item


def test_no_epoch_comes_back_when_the_copy_had_caught_up(world, store, connect):
    """The same, when the copy that was behind has gone past the number that was seen before."""
    _, client = follow(world, store, connect, b"old", 100)
    cut_and_hold_reads(store)
    for seq in (100, 101, 102):
        store.stamp(b"quote:A", b"old", seq)
    store.values[b"quote:A"] = (b"new", 102, b"102")
    store.lets_through.set()
    item = client.item()
    assert (item["epoch"], item["seq"], item.get("snap")) == ("new", 102, True)
    store.stamp(b"quote:A", b"new", 103)
    item = client.item()
    assert item["seq"] == 103 and "epoch" not in item and "missed" not in item


def test_a_numbering_that_began_anew_after_messages_of_the_old_one(world, store, connect):
    """What still came of the old one goes out first."""
    _, client = follow(world, store, connect, b"old", 100)
    cut_and_hold_reads(store)
    store.stamp(b"quote:A", b"old", 101)
    store.stamp(b"quote:A", b"new", 1)
    store.values[b"quote:A"] = (b"new", 1, b"1")
    store.lets_through.set()
    assert client.item()["seq"] == 101
    item = client.item()
    assert (item["epoch"], item["seq"], item["snap"]) == ("new", 1, True)
    store.stamp(b"quote:A", b"new", 2)
    item = client.item()
    assert item["seq"] == 2 and "epoch" not in item and "missed" not in item


def test_what_is_kept_back_does_not_wait_for_a_link_that_went_away(world, store, connect):
    """Also where the read was still queued when it went."""
    node = world.node(store.url, settings={"redis.canary_ms": 300})
    time.sleep(1.6)
    store.lets_through.clear()
    client = connect(node)
    client.send(action="subscribe", channels=[f"quote:C{i}" for i in range(70)])
    eventually(store.waiting(1))
    eventually(lambda: b"tc:quote:C69" in store.confirmed)
    store.stamp(b"quote:C69", b"e", 5, b'"held"')
    eventually(lambda: node.metric("tickcast_held_bytes") > 0)
    store.is_closed = True
    store.cut(store.others)
    assert client.wait_for("ack", timeout=10 * SLOWER)["feed"] == "suspect"
    assert client.item()["data"] == "held"


def test_what_is_kept_back_does_not_wait_for_a_link_that_is_lost_over_and_over(world, store, connect):
    """It comes up again each time, and is gone before it has answered."""
    node = world.node(store.url, settings=SETTINGS)
    client = connect(node)
    client.subscribe("quote:A")
    asked = len(store.scripts)
    store.on_script = lambda *_: store.cut(store.others)
    store.cut(store.subscribers + store.others)
    eventually(store.waiting(asked + 1))
    store.stamp(b"quote:A", b"e", 1)
    assert client.item()["seq"] == 1


def test_what_is_kept_back_waits_for_a_log_when_both_links_went_away(world, store, connect):
    """Redis is restarted while the node is still reading what it missed before."""
    node = world.node(store.url, settings=SETTINGS | {"namespace.trade.history": 100})
    client = connect(node)
    client.subscribe("trade:A")
    store.stamp(b"trade:A", b"e", 1)
    assert client.item()["seq"] == 1
    cut_and_hold_reads(store)
    store.values[b"trade:A"] = (b"e", 5, b"5")
    store.logs[b"trade:A"] = [(n, b"%d" % n) for n in range(1, 6)]
    store.stamp(b"trade:A", b"e", 5, b"5")
    time.sleep(0.1)
    store.is_closed = True
    store.cut(store.subscribers + store.others)
    store.lets_through.set()
    time.sleep(2)  # longer than it waits for a command link alone
    store.is_closed = False
    assert [(i["seq"], i.get("missed")) for i in client.items(4)] == [(n, None) for n in range(2, 6)]


def test_another_redis_between_two_pages_of_a_log(world, store, connect):
    """The command link is lost, and a copy that was behind and has caught up gives the second page."""
    node = world.node(store.url, settings=SETTINGS | {"namespace.trade.history": 100})
    client = connect(node)
    client.subscribe("trade:A")
    store.stamp(b"trade:A", b"e", 1)
    assert client.item()["seq"] == 1
    store.page = 3
    store.values[b"trade:A"] = (b"e", 6, b"6")
    store.logs[b"trade:A"] = [(n, b"%d" % n) for n in range(1, 7)]
    asked = len(store.scripts)

    def on_script(kind, channel):
        if kind == b"renew":
            store.values[channel] = (b"new", 6, b"6")
        elif len(store.scripts) == asked + 2:
            store.clock = 2000
            store.cut(store.others)

    store.on_script = on_script
    store.cut(store.subscribers + store.others)
    items = client.items(3)
    assert [(i["seq"], i.get("epoch")) for i in items] == [(2, None), (3, None), (6, "new")]


def test_a_value_that_ends_while_it_is_kept_back(world, store, connect):
    """It is behind the end that was read, and yet no newer than that."""
    store.values[b"quote:A"] = (b"e", 10, b"10")
    store.life_ms = 60000
    node = world.node(store.url, settings=SETTINGS)
    client = connect(node, channels="quote:A")
    assert client.item()["seq"] == 10
    cut_and_hold_reads(store)
    store.stamp(b"quote:A", b"e", 11)
    time.sleep(0.1)
    del store.values[b"quote:A"]
    store.life_ms = -2
    store.lets_through.set()
    items = client.items(3)
    assert [i.get("cleared", i.get("seq")) for i in items] == [True, 11, True]


def test_what_was_kept_back_says_nothing_about_a_later_hole(world, store, connect):
    """The subscriber link is lost again behind it, and nothing is stored of a plain channel."""
    node = world.node(store.url, settings=SETTINGS)
    client = connect(node)
    client.subscribe("quote:P")
    store.publish(b"tc:quote:P", b"1")
    assert client.item()["data"] == 1
    store.lets_through.clear()
    for payload in (b"2", None):
        asked = len(store.scripts)
        store.cut(store.subscribers + store.others)
        eventually(store.waiting(asked + 1))
        if payload is not None:
            store.publish(b"tc:quote:P", payload)
            time.sleep(0.1)
    store.lets_through.set()
    assert client.wait_for("state", feed="ok")["suspect"] == ["quote:P"]
    assert client.item()["data"] == 2


def test_a_client_that_is_ahead_and_comes_while_the_log_is_read(world, store, connect):
    """The node catches up with it first, though others are waiting for an answer from the log."""
    store.values[b"trade:A"] = (b"e", 10, b"10")
    node = world.node(store.url, settings=SETTINGS | {"namespace.trade.history": 100})
    connect(node, channels="trade:A").expect("ack")
    store.lets_through.clear()
    asked = len(store.scripts)
    behind, ahead = connect(node), connect(node)
    behind.send(action="subscribe", channels=["trade:A"], since={"trade:A": {"epoch": "e", "seq": 5}})
    eventually(store.waiting(asked + 1))
    ahead.send(action="subscribe", channels=["trade:A"], since={"trade:A": {"epoch": "e", "seq": 12}})
    ahead.send(action="ping", id=1)
    ahead.expect("pong")
    store.values[b"trade:A"] = (b"e", 12, b"12")
    store.lets_through.set()
    assert ahead.expect("ack")["recovered"] == ["trade:A"]
    store.stamp(b"trade:A", b"e", 13)
    assert ahead.item()["seq"] == 13


@pytest.mark.parametrize("mode", ["all", "latest"])
def test_a_client_that_is_ahead_where_nothing_could_catch_up(world, store, connect, mode):
    """Without a log the node waits for the stream, so that its other clients miss nothing, and the
    one that is ahead gets nothing twice."""
    store.values[b"trade:A"] = (b"e", 10, b"10")
    node = world.node(store.url, settings=SETTINGS | {
        "namespace.trade.snapshot": "yes", "namespace.trade.mode": mode,
        "namespace.trade.modes": "latest all"})
    watcher, ahead, liar = (connect(node) for _ in range(3))
    watcher.subscribe("trade:A", mode="all")
    assert watcher.item()["seq"] == 10
    store.values[b"trade:A"] = (b"e", 12, b"12")
    ack = ahead.subscribe("trade:A", since={"trade:A": {"epoch": "e", "seq": 12}})
    assert ack["recovered"] == ["trade:A"]
    assert "recovered" not in liar.subscribe("trade:A", since={"trade:A": {"epoch": "e", "seq": 13}})
    assert liar.item()["snap"] is True
    for seq in (11, 12, 13):
        store.stamp(b"trade:A", b"e", seq)
    items = watcher.items(3)
    assert [i["seq"] for i in items] == [11, 12, 13] and not any("missed" in i for i in items)
    item = ahead.item()
    assert (item["seq"], item["epoch"]) == (13, "e") and "missed" not in item


def test_the_last_word_counts_for_subscribes_that_wait(world, store, connect):
    """Options that were not given again stay, and no older ones come back with an older subscribe."""
    node = world.node(store.url, settings=SETTINGS)
    client = connect(node)
    store.lets_through.clear()
    asked = len(store.scripts)
    client.send(action="subscribe", id=1, channels=["quote:A", "quote:B"], max_rate=5, delta=True)
    client.send(action="subscribe", id=2, channels=["quote:A"], max_rate=3)
    eventually(store.waiting(asked + 1))
    store.lets_through.set()
    assert {client.wait_for("ack")["id"] for _ in range(2)} == {1, 2}
    listed = {c["channel"]: (c["max_rate"], c["delta"]) for c in client.ask("list")["channels"]}
    assert listed == {"quote:A": (3, True), "quote:B": (5, True)}


def test_a_plain_message_says_nothing_about_the_sequence(world, store, connect):
    """On a stamped channel whose stored state is lost: who comes back may have missed something."""
    node, client = follow(world, store, connect, b"e", 7)
    store.values.clear()
    store.cut(store.subscribers + store.others)
    assert client.wait_for("state", feed="ok")["suspect"] == ["quote:A"]
    store.publish(b"tc:quote:A", b"1")
    assert client.item()["plain"] is True
    ack = connect(node).subscribe("quote:A", since={"quote:A": {"epoch": "e", "seq": 7}})
    assert ack["suspect"] == ["quote:A"] and "recovered" not in ack


# --- subscriptions that follow each other -------------------------------------------------------------

class LazyStore(FakeStore):
    """Gets to each SUBSCRIBE of quote:A only when it may, and sends what is published there only to
    who has subscribed."""

    def __init__(self):
        self.may_subscribe = threading.Semaphore(0)
        self.verbs = []  # about quote:A, as they come
        self.is_followed = False
        super().__init__()

    def _answer(self, sock, args):
        if b"tc:quote:A" not in args[1:]:
            return super()._answer(sock, args)
        self.verbs.append(args[0])
        if args[0] == b"SUBSCRIBE":
            self.may_subscribe.acquire()
        self.is_followed = args[0] == b"SUBSCRIBE"
        if self.is_followed:
            super()._answer(sock, args)

    def publish(self, channel, payload):
        if channel != b"tc:quote:A" or self.is_followed:
            super().publish(channel, payload)


@pytest.fixture
def lazy():
    redis = LazyStore()
    yield redis
    redis.may_subscribe.release(10)
    redis.close()


def test_a_confirmation_is_that_of_the_subscribe_it_answers(world, lazy, connect):
    """Not that of the next one, when a channel is let go before it and wanted again."""
    node = world.node(lazy.url, settings=SETTINGS | {"redis.linger_ms": 0})
    first = connect(node, channels="quote:A")
    eventually(lambda: lazy.verbs)
    first.close()
    node.wait_metric("tickcast_connections", 0)
    time.sleep(0.3)  # longer than the channel lingers
    client = connect(node, channels="quote:A")
    client.send(action="ping")
    client.wait_for("pong")
    lazy.may_subscribe.release()
    client.wait_for("ack")
    lazy.stamp(b"quote:A", b"e", 1)
    assert client.item()["seq"] == 1


def test_a_message_of_the_subscription_before_is_no_value(world, lazy, connect):
    """Others may have followed it, between an UNSUBSCRIBE and the next SUBSCRIBE."""
    lazy.may_subscribe.release()
    node = world.node(lazy.url, settings=SETTINGS | {"redis.linger_ms": 0})
    first = connect(node, channels="quote:A")
    first.wait_for("ack")
    first.close()
    eventually(lambda: b"UNSUBSCRIBE" in lazy.verbs)
    client = connect(node, channels="quote:A")
    eventually(lambda: lazy.verbs.count(b"SUBSCRIBE") == 2)
    lazy.is_followed = True
    lazy.publish(b"tc:quote:A", b"1")
    node.wait_metric("tickcast_publications_dropped_total", 1, reason="unknown_channel")
    lazy.may_subscribe.release()
    client.wait_for("ack")
    client.nothing_more()


def test_a_copy_that_went_past_what_was_seen_while_nothing_could_be_read(world, store, connect):
    """What came of it went out as it came; what lies below in its log is said when it can be read."""
    node = world.node(store.url, settings=SETTINGS | {"namespace.trade.history": 100})
    client = connect(node)
    client.subscribe("trade:A")
    for seq in (1, 2, 3):
        store.stamp(b"trade:A", b"e", seq)
    assert client.items(3)[-1]["seq"] == 3
    cut_and_hold_reads(store)
    store.is_closed = True
    store.cut(store.others)
    store.clock = 2000  # from now on
    for seq in (2, 3, 4):
        store.stamp(b"trade:A", b"e", seq)
    assert client.item()["seq"] == 4
    store.values[b"trade:A"] = (b"e", 4, b"4")
    store.logs[b"trade:A"] = [(n, b"%d" % n) for n in range(1, 5)]
    store.renew_to(b"new", 4)
    store.lets_through.set()
    store.is_closed = False
    item = client.item()
    assert (item["epoch"], item["seq"], item["snap"]) == ("new", 4, True)


def test_what_is_kept_back_does_not_wait_for_links_that_come_and_go(world, store, connect):
    """The subscriber link is up anew before the patience with the command link is over, each time."""
    node = world.node(store.url, settings=SETTINGS)
    client = connect(node)
    client.subscribe("quote:A")
    store.on_script = lambda *_: store.cut(store.others)
    is_over = threading.Event()

    def flap():
        for seq in itertools.count(1):
            store.cut(store.subscribers + store.others)
            if is_over.wait(0.7):
                return
            store.stamp(b"quote:A", b"e", seq)
            if is_over.wait(0.2):
                return

    flapping = threading.Thread(target=flap)
    flapping.start()
    try:
        client.item(10 * SLOWER)
    finally:
        is_over.set()
        flapping.join()


def test_what_was_kept_back_twice_says_nothing_about_a_later_hole(world, store, connect):
    """A number below what was seen makes the node ask, and what is behind it wait once more."""
    node = world.node(store.url, settings=SETTINGS)
    client = connect(node)
    client.subscribe("quote:A")
    store.stamp(b"quote:A", b"e", 10)
    assert client.item()["seq"] == 10
    store.lets_through.clear()
    for seqs in ((5, 11), ()):
        asked = len(store.scripts)
        store.cut(store.subscribers + store.others)
        eventually(store.waiting(asked + 1))
        for seq in seqs:
            store.stamp(b"quote:A", b"e", seq)
        time.sleep(0.1)
    store.lets_through.set()
    assert client.wait_for("state", feed="ok")["suspect"] == ["quote:A"]
    assert client.item()["seq"] == 11


def test_an_answer_from_before_a_hole_says_nothing_about_it(world, lazy, connect):
    """It comes when the link is up again, before the channel is confirmed; what came in between is
    lost with all that was stored."""
    lazy.may_subscribe.release(2)
    lazy.values[b"quote:A"] = (b"e", 7, b"7")
    node = world.node(lazy.url, settings=SETTINGS)
    client = connect(node, channels="quote:A")
    assert client.item()["seq"] == 7
    lazy.lets_through.clear()
    asked = len(lazy.scripts)
    lazy.cut(lazy.subscribers)
    eventually(lazy.waiting(asked + 1))
    lazy.cut(lazy.subscribers)
    eventually(lambda: lazy.verbs.count(b"SUBSCRIBE") == 3)
    reads = node.metric("tickcast_stored_reads_total")
    lazy.lets_through.set()
    node.wait_metric("tickcast_stored_reads_total", reads + 1)
    lazy.values.clear()
    lazy.may_subscribe.release()
    assert client.wait_for("state", feed="ok")["suspect"] == ["quote:A"]


def test_another_redis_between_two_pages_that_clients_wait_for(world, store, connect):
    """The command link is lost, and a copy with another history gives the second page."""
    store.values[b"trade:A"] = (b"e", 3, b"3")
    store.page = 3
    node = world.node(store.url, settings=SETTINGS | {"namespace.trade.history": 100})
    watcher = connect(node)
    watcher.subscribe("trade:A")
    store.logs[b"trade:A"] = [(n, b"%d" % n) for n in range(1, 7)]
    asked = len(store.scripts)

    def on_script(*_):
        if len(store.scripts) == asked + 1:
            for seq in (4, 5, 6):
                store.stamp(b"trade:A", b"e", seq)
            watcher.items(3)
        elif len(store.scripts) == asked + 2:
            store.clock = 2000
            store.cut(store.others)

    store.on_script = on_script
    ack = connect(node).subscribe("trade:A", since={"trade:A": {"epoch": "e", "seq": 1}})
    assert "recovered" not in ack


def test_a_position_does_not_wait_behind_a_look_that_waits(world, store, connect):
    """Looks at what may have expired come last of all reads; positions in their turn."""
    store.values[b"trade:A"] = (b"e", 1, b"1")
    store.logs[b"trade:A"] = [(1, b"1"), (2, b"2")]
    node = world.node(store.url, settings=SETTINGS | {"namespace.trade.history": 100})
    watcher, one, back, other = (connect(node) for _ in range(4))
    watcher.subscribe("trade:A")
    store.lets_through.clear()
    one.send(action="subscribe", channels=[f"trade:C{i}" for i in range(70)])
    node.wait_metric("tickcast_redis_channels", 71)
    store.values[b"trade:A"] = (b"e", 2, b"2")
    store.stamp(b"trade:A", b"e", 2)
    watcher.item()
    time.sleep(0.5)  # the look is due
    back.send(action="subscribe", channels=["trade:A"], since={"trade:A": {"epoch": "e", "seq": 1}})
    back.send(action="ping")
    back.expect("pong")
    other.send(action="subscribe", channels=[f"trade:D{i}" for i in range(70)])
    node.wait_metric("tickcast_redis_channels", 141)
    time.sleep(0.1)
    store.lets_through.set()
    assert back.expect("ack")["recovered"] == ["trade:A"]
    other.wait_for("ack")
    channels = [channel for _, channel in store.scripts]
    assert channels.index(b"trade:D0") > len(channels) - 1 - channels[::-1].index(b"trade:A")


def test_a_copy_that_caught_up_while_nothing_could_be_read_nor_kept_back(world, store, connect):
    """Its numbers below what was seen were dropped; at the time of asking the store is not behind."""
    node, client = follow(world, store, connect, b"e", 6)
    store.stamp(b"quote:A", b"e", 7)
    assert client.item()["seq"] == 7
    lose_command_link(store, node)
    store.clock = 2000
    for seq in (5, 6, 7):
        store.stamp(b"quote:A", b"e", seq)
    store.values[b"quote:A"] = (b"e", 7, b"7")
    node.wait_metric("tickcast_publications_dropped_total", 3, reason="stale_seq")

    def on_script(kind, channel):
        if len(renewals(store)) == 2:  # the second time it is certain
            store.values[channel] = (b"new", 7, b"7")

    store.on_script = on_script
    store.is_closed = False
    item = client.item()
    assert (item["epoch"], item["seq"], item["missed"]) == ("new", 7, 2)


def test_a_copy_that_catches_up_while_it_is_read(world, store, connect):
    """There is no log, and the store is ahead: only what the new link brings shows another history."""
    node, client = follow(world, store, connect, b"e", 10)
    cut_and_hold_reads(store)
    store.clock = 2000
    for seq in (9, 10, 11, 12):
        store.stamp(b"quote:A", b"e", seq)
    store.publish(b"tc:quote:A", b"@ no stamp" + b"." * 100000)
    eventually(lambda: node.metric("tickcast_redis_received_bytes_total", link="subscriber") > 100000)
    store.values[b"quote:A"] = (b"e", 12, b"12")
    store.renew_to(b"new", 12)
    store.lets_through.set()
    item = client.item()
    assert (item["epoch"], item["seq"], item["snap"]) == ("new", 12, True)
    client.wait_for("state", feed="ok")
    client.nothing_more()


def test_a_copy_whose_messages_come_behind_its_value(world, store, connect):
    node, client = follow(world, store, connect, b"e", 10)
    store.clock = 2000
    store.values[b"quote:A"] = (b"e", 11, b"11")
    store.cut(store.subscribers + store.others)
    assert client.wait_for("state", feed="ok") and client.item()["seq"] == 11

    def on_script(kind, channel):
        time.sleep(0.1)  # one message below the numbers that stays alone is a stray one
        if kind == b"renew" and store.renewed_anyhow[-1]:
            store.values[channel] = (b"new", 11, b"11")

    store.on_script = on_script
    for seq in (9, 10, 11):
        store.stamp(b"quote:A", b"e", seq)
    items = client.items(3)
    assert [i["seq"] for i in items] == [9, 10, 11] and items[0]["epoch"] == "new"


def test_a_store_that_is_behind_is_another_one_whatever_it_is_by_the_time_of_asking(world, store, connect):
    node, client = follow(world, store, connect, b"e", 10)
    cut_and_hold_reads(store)
    store.values[b"quote:A"] = (b"e", 9, b"9")
    store.renew_to(b"new", 11, if_anyhow=True)
    store.lets_through.set()
    item = client.item()
    assert (item["epoch"], item["seq"], item["snap"]) == ("new", 11, True)


def test_what_was_kept_back_before_a_copy_is_of_the_old_numbers(world, store, connect):
    """It goes out before the older value, not behind it as if it were newer."""
    node, client = follow(world, store, connect, b"e", 10)
    cut_and_hold_reads(store)

    def has_read(count):
        store.publish(b"tc:quote:A", b"@ no stamp" + b"." * 100000)
        received = {"name": "tickcast_redis_received_bytes_total", "link": "subscriber"}
        eventually(lambda: node.metric(**received) > count * 100000)

    for seq in (11, 12):
        store.stamp(b"quote:A", b"e", seq)
    has_read(1)
    store.confirmed.clear()
    store.cut(store.subscribers)
    eventually(lambda: b"tc:quote:A" in store.confirmed)
    has_read(2)
    store.values[b"quote:A"] = (b"e", 8, b"8")
    store.renew_to(b"new", 8)
    store.lets_through.set()
    items = client.items(3)
    assert [(i.get("epoch"), i["seq"]) for i in items] == [(None, 11), (None, 12), ("new", 8)]
    client.wait_for("state", feed="ok")
    client.nothing_more()
