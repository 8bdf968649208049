"""Always current, never silently wrong: what a client holds after subscribing and after coming back,
and how often it is told (docs/protocol.md, 2.2 and 3)."""

import json
import re
import threading
import time

import pytest

from current import SETTINGS, numbers, stamp_many
from world import eventually


@pytest.fixture
def node(world, redis):
    return world.node(redis, settings=SETTINGS)


# --- subscribing without a hole ------------------------------------------------------------------

def test_a_stored_value_is_the_first_thing_seen(node, redis, connect):
    seq, epoch = redis.stamp("quote:A", '{"price": "190.010"}')
    client = connect(node)
    client.subscribe("quote:A")
    item = client.item()
    assert item == {"channel": "quote:A", "epoch": epoch, "seq": seq, "ts": item["ts"],
                    "snap": True, "data": {"price": "190.010"}}
    redis.stamp("quote:A", "2", heard_by=1)
    assert client.item() == {"channel": "quote:A", "seq": seq + 1, "ts": pytest.approx(item["ts"], abs=1e5),
                             "data": 2}


def test_no_snapshot_of_a_cleared_value(node, redis, connect):
    redis.stamp("quote:A", "1")
    redis.stamp("quote:A", "")
    client = connect(node)
    client.subscribe("quote:A")
    client.nothing_more()
    seq, epoch = redis.stamp("quote:A", "3")
    item = client.item()
    assert (item["seq"], item["epoch"], item["data"]) == (seq, epoch, 3)


def test_a_value_that_is_cleared_ends(node, redis, connect):
    redis.stamp("quote:A", "1")
    client = connect(node)
    client.subscribe("quote:A")
    client.item()
    redis.stamp("quote:A", "")
    item = client.item()
    assert item["cleared"] is True and item["seq"] == 2 and "data" not in item


@pytest.mark.limit(60)
def test_an_expired_value_ends(node, redis, connect):
    redis.stamp("brief:A", "1", ttl_s=1)
    client = connect(node)
    client.subscribe("brief:A")
    assert client.item()["snap"] is True
    item = client.item(timeout=10)
    assert item["cleared"] is True and "data" not in item and "seq" not in item
    second = connect(node)
    second.subscribe("brief:A")
    second.nothing_more()
    seq, epoch = redis.stamp("brief:A", "2", ttl_s=1)
    item = client.item()
    assert (item["seq"], item["epoch"]) == (1, epoch) and seq == 1


def test_a_life_that_only_the_publisher_knows(node, redis, connect):
    """The namespace's values live for ever; what the publisher says counts all the same."""
    client, late = connect(node), connect(node)
    client.subscribe("quote:A", "quote:B")
    redis.stamp("quote:A", "1", ttl_s=1, heard_by=1)
    seq, epoch = redis.stamp("quote:B", "1", heard_by=1)
    assert len(client.items(2)) == 2
    item = client.item()
    assert item == {"channel": "quote:A", "ts": item["ts"], "cleared": True}
    redis.stamp("quote:B", "2", ttl_s=1)
    assert client.item()["seq"] == seq + 1
    assert client.item() == {"channel": "quote:B", "ts": pytest.approx(item["ts"], abs=1e5),
                             "cleared": True}
    late.subscribe("quote:A", "quote:B")
    late.nothing_more()


def test_one_value_ends_after_the_other(node, redis, connect):
    """The looks at the first one do not put off those at the next."""
    client = connect(node)
    client.subscribe("quote:A")
    for _ in range(3):
        redis.stamp("quote:A", "1", ttl_s=1)
        assert client.item()["seq"] == 1
        assert client.item()["cleared"] is True


def looks(redis):
    stats = redis("INFO", "commandstats").decode()
    return int(re.search(r"cmdstat_pttl:calls=(\d+)", stats + "cmdstat_pttl:calls=0").group(1))


def test_a_value_that_nobody_stored_does_not_expire(node, redis, connect):
    """A publisher may stamp without the script; and with the store gone nothing is known."""
    client = connect(node)
    client.subscribe("quote:A")
    redis.publish("quote:A", "@e:1:5 1")
    assert client.item()["epoch"] == "e"
    eventually(lambda: looks(redis) >= 1)
    redis.publish("quote:A", "@e:2:5 2")
    assert client.item()["seq"] == 2
    eventually(lambda: looks(redis) >= 2)
    late = connect(node)
    late.subscribe("quote:A")
    assert late.item()["data"] == 2
    client.nothing_more()


def test_plain_on_a_stamped_channel(node, redis, connect):
    redis.stamp("quote:A", "1")
    client = connect(node)
    client.subscribe("quote:A")
    client.item()
    redis.publish("quote:A", '"hello"')
    item = client.item()
    assert item["plain"] is True and "seq" not in item and item["data"] == "hello"
    late = connect(node)
    late.subscribe("quote:A")
    assert late.item()["data"] == 1  # never a snapshot


@pytest.mark.parametrize("mode", ["latest", "all"])
@pytest.mark.limit(60)
def test_snapshot_and_stream_meet_under_load(world, redis, connect, mode):
    """On a node that follows the channel already and on one that does not: no gap, no repeat."""
    nodes = world.cluster(2, settings={**SETTINGS, "namespace.quote.mode": mode,
                                       "namespace.quote.snapshot": "yes"})
    stop = threading.Event()

    def publish():
        publisher = redis.client().__class__(redis.port)
        script = open("scripts/publish.lua").read()
        while not stop.is_set():
            publisher.many([("EVAL", script, 1, "{tc:quote:HOT}", b'{"n":1}', 0, 0)] * 20)
        publisher.close()

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        clients = []
        for _ in range(10):
            for node in nodes:
                client = connect(node)
                client.subscribe("quote:HOT")
                clients.append(client)
        for client in clients:
            items = client.items(300)
            assert items[0]["snap"] is True and "missed" not in items[0]
            for before, item in zip(items, items[1:]):
                assert item["seq"] == before["seq"] + item.get("missed", 0) + 1
                assert "snap" not in item and "epoch" not in item
    finally:
        stop.set()
        thread.join()


def test_forged_and_broken_stored_values(node, redis, connect):
    redis("SET", "{tc:quote:STRING}", "x")
    redis("HSET", "{tc:quote:EPOCH}", "epoch", "a b", "seq", 1, "ts", 1, "data", "1")
    redis("HSET", "{tc:quote:SEQ}", "epoch", "e", "seq", "-1", "ts", 1, "data", "1")
    redis("HSET", "{tc:quote:HUGE}", "epoch", "e", "seq", "99999999999999999999", "ts", 1, "data", "1")
    redis("HSET", "{tc:quote:UTF8}", "epoch", "e", "seq", "5", "ts", 1, "data", b"\xff")
    redis("HSET", "{tc:quote:HALF}", "epoch", "e")
    redis("HSET", "{tc:trade:LOG}", "epoch", "e", "seq", "5", "ts", 1, "data", "1")
    redis("SET", "{tc:trade:LOG}:log", "x")
    channels = ["STRING", "EPOCH", "SEQ", "HUGE", "UTF8", "HALF"]
    client = connect(node)
    ack = client.subscribe(*[f"quote:{c}" for c in channels])
    assert ack["accepted"] == len(channels)
    client.nothing_more()
    assert node.metric("tickcast_stored_unusable_total") >= 5
    client.subscribe("trade:LOG", since={"trade:LOG": {"epoch": "e", "seq": 2}})
    assert client.item()["snap"] is True  # no usable log: the state instead
    redis.publish("quote:STRING", "7")
    assert client.item()["data"] == 7


# --- coming back -----------------------------------------------------------------------------------

def test_recovered_on_another_node(world, redis, connect):
    nodes = world.cluster(2, settings=SETTINGS)
    stamps = stamp_many(redis, "trade:A", 3, 5000)
    epoch = stamps[0][1]
    first = connect(nodes[0])
    first.subscribe("trade:A")
    assert first.item()["seq"] == 3
    first.close()
    stamp_many(redis, "trade:A", 700, 5000, start=3)
    second = connect(nodes[1])
    ack = second.subscribe("trade:A", since={"trade:A": {"epoch": epoch, "seq": 3}})
    assert ack["recovered"] == ["trade:A"]
    items = second.items(700)
    assert numbers(items) == list(range(4, 704))
    assert [i["data"]["n"] for i in items] == list(range(3, 703))
    assert items[0]["epoch"] == epoch and not any("epoch" in i for i in items[1:])
    assert not any("snap" in i or "missed" in i for i in items)
    stamp_many(redis, "trade:A", 1, 5000)
    assert second.item()["seq"] == 704


def test_nothing_was_missed(node, redis, connect):
    seq, epoch = redis.stamp("trade:A", "1", 5000)
    client = connect(node)
    ack = client.subscribe("trade:A", since={"trade:A": {"epoch": epoch, "seq": seq}})
    assert ack["recovered"] == ["trade:A"]
    client.nothing_more()
    redis.stamp("trade:A", "2", 5000)
    item = client.item()
    assert (item["seq"], item["epoch"]) == (2, epoch)  # the first item of a subscription says so


@pytest.mark.parametrize("position", [
    {"epoch": "other", "seq": 1}, {"seq": 99}, {"seq": 0}, {"seq": 9007199254740991},
], ids=["foreign epoch", "future", "before the log", "far future"])
def test_what_cannot_be_recovered_is_replaced(node, redis, connect, position):
    for n in range(5):
        seq, epoch = redis.stamp("trade:A", str(n), 3)
    client = connect(node)
    ack = client.subscribe("trade:A", since={"trade:A": {"epoch": epoch, **position}})
    assert "recovered" not in ack and ack["accepted"] == 1
    item = client.item()
    assert item["snap"] is True and item["seq"] == seq and item["epoch"] == epoch
    same = position.get("epoch", epoch) == epoch and position["seq"] < seq
    assert item.get("missed", 0) == (seq - position["seq"] - 1 if same else 0)


@pytest.mark.parametrize("is_followed", [False, True], ids=["first here", "followed"])
@pytest.mark.parametrize("channel", ["trade:A", "quote:A"])
def test_a_value_that_was_cleared_while_the_client_was_away(node, redis, connect, channel,
                                                            is_followed):
    """There is no snapshot of it, so that it ended is what a client is told."""
    history = 2 if channel == "trade:A" else 0
    follower = connect(node)
    if is_followed:
        follower.subscribe(channel)
    for n in range(5):
        redis.stamp(channel, str(n), history)
    seq, epoch = redis.stamp(channel, "", history)
    if is_followed:
        assert follower.items(6)[-1]["cleared"] is True
    ends = {"channel": channel, "cleared": True}
    for position, expected in [
            ({"epoch": epoch, "seq": 1}, {"epoch": epoch, "seq": seq, "missed": seq - 2}),
            ({"epoch": "foreign", "seq": 99}, {"epoch": epoch, "seq": seq}),
            ({"epoch": epoch, "seq": 99}, {})]:  # a number that it would ignore
        client = connect(node)
        ack = client.subscribe(channel, since={channel: position})
        item = client.item()
        assert item.pop("ts") > 1e12
        assert item == {**ends, **expected} and "recovered" not in ack
        client.nothing_more()
    fresh = connect(node)
    fresh.subscribe(channel)
    fresh.nothing_more()  # it has nothing that could have ended
    seq, _ = redis.stamp(channel, '"next"', history)
    item = client.item()
    assert (item["epoch"], item["seq"], item["data"]) == (epoch, seq, "next")


def test_a_value_that_expired_while_the_client_was_away(node, redis, connect):
    _, epoch = redis.stamp("brief:A", "1", ttl_s=1)
    eventually(lambda: redis("EXISTS", "{tc:brief:A}") == 0)
    client = connect(node)
    ack = client.subscribe("brief:A", since={"brief:A": {"epoch": epoch, "seq": 1}})
    item = client.item()
    assert item == {"channel": "brief:A", "ts": item["ts"], "cleared": True}
    assert "recovered" not in ack
    client.nothing_more()
    redis.publish("brief:A", '"plain"')
    assert client.item()["data"] == "plain"


@pytest.mark.parametrize("since", [
    7, [], {"trade:A": 1}, {"trade:A": {"epoch": "e"}}, {"trade:A": {"seq": 1}},
    {"trade:A": {"epoch": "a b", "seq": 1}}, {"trade:A": {"epoch": "e", "seq": -1}},
    {"trade:A": {"epoch": "e", "seq": "1"}},
])
def test_nonsense_positions(node, connect, since):
    client = connect(node)
    error = client.ask("subscribe", channels=["trade:A"], since=since)
    assert (error["action"], error["name"]) == ("error", "bad_command")
    assert client.subscribe("trade:A")["accepted"] == 1


def test_ten_thousand_positions(world, redis, connect):
    node = world.node(redis, settings={**SETTINGS, "limits.message_bytes": 4000000,
                                       "limits.channels_per_client": 20000})
    count = 10000
    pipeline = [("HSET", f"{{tc:trade:C{i}}}", "epoch", "e", "seq", 2, "ts", 1, "data", "2")
                for i in range(count)]
    pipeline += [("XADD", f"{{tc:trade:C{i}}}:log", "2-0", "ts", 1, "data", "2") for i in range(count)]
    redis.client().many(pipeline)
    client = connect(node)
    channels = [f"trade:C{i}" for i in range(count)]
    ack = client.subscribe(*channels, since={c: {"epoch": "e", "seq": 1} for c in channels})
    assert ack["accepted"] == count and len(ack["recovered"]) == count
    items = client.items(count)
    assert {i["channel"] for i in items} == set(channels)
    assert all(i["seq"] == 2 and i["epoch"] == "e" and "snap" not in i for i in items)


def test_more_history_than_may_be_sent_at_once(world, redis, connect):
    node = world.node(redis, settings={**SETTINGS, "limits.hard_bytes": 100000,
                                       "limits.soft_bytes": 100000})
    epoch = redis.stamp("trade:A", "0", 5000)[1]
    for _ in range(200):
        seq, _ = redis.stamp("trade:A", json.dumps("x" * 1000), 5000)
    client = connect(node)
    ack = client.subscribe("trade:A", since={"trade:A": {"epoch": epoch, "seq": 1}})
    assert "recovered" not in ack
    item = client.item()
    assert item["snap"] is True and item["seq"] == seq and item["missed"] == seq - 2
    for back, is_little in ((60, False), (40, True)):  # half of the mark is for what comes meanwhile
        client = connect(node)
        ack = client.subscribe("trade:A", since={"trade:A": {"epoch": epoch, "seq": seq - back}})
        assert ("recovered" in ack) is is_little
        assert len(client.items(back if is_little else 1)) > 0
        client.nothing_more()


@pytest.mark.limit(90)
def test_moving_between_nodes_under_load(world, redis, connect):
    """A client in mode `all` that changes nodes all the time ends with exactly what was published."""
    nodes = world.cluster(3, settings=SETTINGS)
    stop = threading.Event()
    published = []

    def publish():
        publisher = redis.client().__class__(redis.port)
        script = open("scripts/publish.lua").read()
        n = 0
        while not stop.is_set():
            batch = [("EVAL", script, 1, "{tc:trade:MOVE}", json.dumps({"n": n + i}), 5000, 0)
                     for i in range(5)]
            n += 5
            published.extend(seq for seq, _ in publisher.many(batch))
            time.sleep(0.005)
        publisher.close()

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        got, position = [], None
        for turn in range(12):
            client = connect(nodes[turn % 3])
            since = {"trade:MOVE": position} if position else None
            ack = client.subscribe("trade:MOVE", **({"since": since} if since else {}))
            assert not since or ack["recovered"] == ["trade:MOVE"]
            for item in client.items(120):
                got.append(item["seq"])
                epoch = item.get("epoch", position["epoch"] if position else None)
                position = {"epoch": epoch, "seq": item["seq"]}
            client.close()
    finally:
        stop.set()
        thread.join()
    assert got == list(range(got[0], got[0] + len(got)))


# --- rates ----------------------------------------------------------------------------------------------

@pytest.mark.limit(60)
def test_max_rate(node, redis, connect):
    """First at once, then at most so many per second, always the last one; missed adds up."""
    client = connect(node)
    ack = client.subscribe("quote:A", max_rate=5)
    assert ack["granted"] == {"mode": "latest", "max_rate": 5}
    redis.wait_listeners("quote:A")
    begin = time.monotonic()
    while time.monotonic() - begin < 2:
        redis.publish("quote:A", json.dumps({"n": 1}))
    redis.publish("quote:A", '"last"')
    took = time.monotonic() - begin
    items = [client.item()]
    while items[-1]["data"] != "last":
        items.append(client.item())
    assert len(items) <= 5 * took + 3
    assert len(items) >= 3
    for before, item in zip(items, items[1:]):
        assert item["seq"] == before["seq"] + item.get("missed", 0) + 1
    client.nothing_more()
    assert client.ask("list")["channels"][0]["max_rate"] == 5


def test_max_rate_is_changed_live(node, redis, connect):
    client = connect(node)
    client.subscribe("quote:A", max_rate=1)
    redis.publish("quote:A", "1")
    client.item()
    for n in range(2, 6):
        redis.publish("quote:A", str(n))
    eventually(lambda: node.metric("tickcast_publications_total") == 5)
    ack = client.subscribe("quote:A", max_rate=0)
    assert ack["granted"]["max_rate"] == 0
    held = client.item()  # what was held back is not lost, and does not wait
    assert held["data"] == 5 and held["missed"] == 3
    redis.publish("quote:A", "6")
    redis.publish("quote:A", "7")
    assert [i["data"] for i in client.items(2)] == [6, 7]


def test_max_rate_holds_while_the_set_changes(node, redis, connect):
    """Other channels come and go, and are no reason for another update of this one."""
    client = connect(node)
    client.subscribe("quote:A", max_rate=1)
    redis.publish("quote:A", "1")
    begin = time.monotonic()
    assert client.item()["data"] == 1
    for n in range(2, 32):
        redis.publish("quote:A", str(n))
        client.subscribe(f"quote:B{n}")
        if n % 5 == 0:
            client.ask("unsubscribe", channels=[f"quote:B{n}"])
    redis.publish("quote:A", '"last"')
    client.subscribe("quote:A", max_rate=1)
    items, client.pending = client.pending, []
    while not items or items[-1]["data"] != "last":
        items.append(client.item())
    assert len(items) <= time.monotonic() - begin + 1
    assert sum(1 + i.get("missed", 0) for i in items) == 31
    client.nothing_more()


def test_a_newcomer_under_max_rate_gets_no_repeat(node, redis, connect):
    first = connect(node)
    first.subscribe("quote:A", max_rate=1)
    redis.publish("quote:A", "1")
    first.item()
    redis.publish("quote:A", "2")
    redis.publish("quote:A", "3")
    eventually(lambda: node.metric("tickcast_publications_total") >= 3)
    second = connect(node)
    second.subscribe("quote:A", max_rate=1)
    assert second.item()["data"] == 3
    item = first.item()
    assert item["data"] == 3 and item["missed"] == 1
    second.nothing_more()


def test_the_namespace_limits_the_rate(world, redis, connect):
    node = world.node(redis, settings={**SETTINGS, "namespace.quote.max_rate": 4})
    client = connect(node)
    assert client.subscribe("quote:A")["granted"]["max_rate"] == 4
    assert client.subscribe("quote:B", max_rate=9)["granted"]["max_rate"] == 4
    assert client.subscribe("quote:C", max_rate=2)["granted"]["max_rate"] == 2
    assert client.subscribe("trade:D", max_rate=2)["granted"]["max_rate"] == 0


def test_batches_of_a_namespace(world, redis, connect):
    node = world.node(redis, settings={**SETTINGS, "namespace.quote.batch_ms": 300,
                                       "namespace.trade.batch_ms": 300, "node.pace_ms": 0})
    client = connect(node)
    client.subscribe("quote:A", "quote:B", "trade:C")
    for n in range(4):
        for channel in ("quote:A", "quote:B", "trade:C"):
            redis.publish(channel, str(n))
    seen = {}
    while len(seen) < 3 or len(seen["trade:C"]) < 4:
        for item in client.expect("push")["items"]:
            seen.setdefault(item["channel"], []).append(item)
    assert [i["data"] for i in seen["trade:C"]] == [0, 1, 2, 3]
    for channel in ("quote:A", "quote:B"):
        (item,) = seen[channel]
        assert item["data"] == 3 and item["missed"] == 3


def test_what_is_pending_is_one_message(world, redis, connect):
    node = world.node(redis, settings={**SETTINGS, "node.pace_ms": 500})
    client, packed = connect(node), connect(node, options={"compression": "deflate"})
    raw = connect(node, raw=True, channels="quote:A,trade:B")
    for c in (client, packed):
        c.subscribe("quote:A", "trade:B")
    redis.wait_listeners("trade:B")
    redis.publish("quote:A", "0")  # leaves at once; what follows is collected
    for c in (client, packed):
        c.item()
    for n in range(1, 11):
        redis.publish("quote:A", json.dumps({"n": n, "text": "x" * 50}))
        redis.publish("trade:B", json.dumps({"n": n, "text": "y" * 50}))
    for c in (client, packed):
        items = c.expect("push")["items"]
        assert len(items) == 20
        assert [i["data"]["n"] for i in items if i["channel"] == "trade:B"] == list(range(1, 11))
    texts = [raw.recv_text() for _ in range(21)]
    assert texts[0] == "0" and json.loads(texts[1])["n"] == 1  # nothing is merged in raw


# --- deltas ---------------------------------------------------------------------------------------------

def test_patches_for_who_asks(node, redis, connect):
    client, other = connect(node), connect(node)
    client.subscribe("quote:A", delta=True)
    other.subscribe("quote:A")
    values = ['{"bid":"1.0","ask":"2.00","size":10,"venue":"X","depth":[1,2,3]}',
              '{"bid":"1.0","ask":"2.10","size":10,"venue":"X","depth":[1,2,3]}',
              '{"bid":"1.0","ask":"2.10","venue":"X","depth":[1,2,3]}',
              '{"bid":"1.0","ask":"2.1","venue":"X","depth":[1,2,4]}']
    for value in values:
        redis.publish("quote:A", value)
    items = client.items(4)
    assert "patch" not in items[0] and items[0]["data"] == json.loads(values[0])
    assert [i.get("patch") for i in items[1:]] == [True] * 3
    assert items[1]["data"] == {"ask": "2.10"}
    assert items[2]["data"] == {"size": None}
    assert items[3]["data"] == {"ask": "2.1", "depth": [1, 2, 4]}
    assert [i["data"] for i in other.items(4)] == [json.loads(v) for v in values]
    redis.publish("quote:A", "[1]")  # not an object: whole
    assert client.item() == {"channel": "quote:A", "seq": 5, "ts": pytest.approx(1e12, rel=1),
                             "data": [1]}
    late = connect(node)
    late.subscribe("quote:A", delta=True)
    assert late.item()["snap"] is True
    redis.publish("quote:A", values[0])
    assert "patch" not in late.item()


def test_who_missed_one_gets_the_full_state(node, redis, connect):
    client = connect(node)
    client.subscribe("quote:A", delta=True, max_rate=2)
    redis.wait_listeners("quote:A")
    for n in range(5):
        redis.publish("quote:A", json.dumps({"fixed": "x" * 100, "n": n}))
    first, last = client.items(2)
    assert first["data"]["n"] == 0
    assert last["data"] == {"fixed": "x" * 100, "n": 4} and "patch" not in last
    assert last["missed"] == 3


# --- clients that publish ---------------------------------------------------------------------------------

def test_clients_publish_where_the_namespace_allows(world, redis, connect):
    nodes = world.cluster(2, settings=SETTINGS)
    writer, reader = connect(nodes[0]), connect(nodes[1])
    reader.subscribe("chat:lobby")
    ack = writer.ask("publish", channel="chat:lobby", data={"text": "hello", "price": 1.10})
    assert ack["action"] == "ack" and ack["seq"] == 1 and ack["epoch"]
    item = reader.item()
    assert item["data"] == {"text": "hello", "price": 1.10}
    assert (item["seq"], item["epoch"]) == (ack["seq"], ack["epoch"])
    assert writer.ask("publish", channel="chat:lobby", data=2)["seq"] == 2
    assert writer.ask("publish", channel="quote:A", data=1)["name"] == "forbidden"
    assert writer.ask("publish", channel="nowhere:A", data=1)["name"] == "unknown_namespace"
    assert writer.ask("publish", channel="bad", data=1)["name"] == "bad_channel"
    assert writer.ask("publish", channel="chat:lobby")["name"] == "bad_command"
    redis.stop()
    nodes[0].wait_suspect()
    assert writer.ask("publish", channel="chat:lobby", data=3)["name"] == "feed_unavailable"
