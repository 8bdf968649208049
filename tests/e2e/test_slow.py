"""Clients that do not keep up: conflation, marks in bytes and age, fairness, memory
(docs/protocol.md, 1 and 2.2; docs/design.md)."""

import json
import time

import pytest

from wire import CLOSE, TEXT
from world import eventually

SETTINGS = {
    "namespace.quote.mode": "latest", "namespace.quote.modes": "latest all",
    "namespace.trade.mode": "all", "namespace.trade.history": 100000,
    "namespace.trade.modes": "latest all",
    "limits.soft_bytes": 65536, "limits.unsent_bytes": 16384, "node.ping_ms": 0,
    "limits.commands_per_s": 100000,
}


class Slow:
    """A client with a small receive buffer, which reads when it is told to."""

    def __init__(self, wire, node, **subscribe):
        self.wire = wire(node, receive_buffer=4096).upgrade("/ws")
        assert self.message()["action"] == "hello"
        self.wire.send_frame(TEXT, json.dumps({"action": "subscribe", "id": 1, **subscribe}))
        self.held = []  # items that were read
        self.others = []
        while True:
            message = self.message()
            if message.get("id") == 1:
                break

    def message(self):
        return json.loads(self.wire.recv_frame().payload)

    def read_until(self, is_enough):
        """Reads messages until is_enough(self.held) says so."""
        while not is_enough(self.held):
            frame = self.wire.recv_frame()
            if frame.opcode == CLOSE:
                self.others.append({"action": "close", "code": int.from_bytes(frame.payload[:2], "big")})
                return
            message = json.loads(frame.payload)
            if message["action"] == "push":
                self.held += message["items"]
            else:
                self.others.append(message)


def newest(items, channel):
    own = [i for i in items if i["channel"] == channel]
    return own[-1] if own else None


def holds(data, *channels):
    """For read_until: the newest of each channel is this."""
    return lambda items: all((newest(items, c) or {}).get("data") == data for c in channels)


def check_accounts(items):
    """Every item says exactly how many were left out before it."""
    last = {}
    for item in items:
        before = last.get(item["channel"])
        if before is not None:
            assert item["seq"] == before + 1 + item.get("missed", 0), item
        last[item["channel"]] = item["seq"]


@pytest.mark.parametrize("count", [1, 40])
def test_the_newest_at_once_and_what_was_missed(node_of, redis, wire, count):
    """A stuck client costs nothing, and holds the newest of every channel when it reads again."""
    node = node_of(SETTINGS)
    channels = [f"quote:C{i}" for i in range(count)]
    client = Slow(wire, node, channels=channels)
    rounds = 8000 // count
    payload = "x" * 500
    for n in range(rounds):
        redis.publish_many([(c, json.dumps({"n": n, "x": payload})) for c in channels])
    redis.publish_many([(c, '"last"') for c in channels])
    eventually(lambda: node.metric("tickcast_publications_total") == count * (rounds + 1), 20)
    assert node.metric("tickcast_slow_episodes_total") == 1
    client.read_until(holds("last", *channels))
    check_accounts(client.held)
    assert len(client.held) < count * rounds / 4  # the backlog was not kept
    for channel in channels:
        own = [i for i in client.held if i["channel"] == channel]
        assert sum(1 + i.get("missed", 0) for i in own) == rounds + 1
    slow = [m for m in client.others if m["action"] == "slow"]
    assert len(slow) == 1 and slow[0]["conflated"] > 0 and slow[0]["pending"] > 65536
    conflated = node.metric("tickcast_conflated_total")
    assert conflated == sum(i.get("missed", 0) for i in client.held)
    redis.publish_many([(c, '"after"') for c in channels])  # and in step again
    client.read_until(holds("after", *channels))
    check_accounts(client.held)


def test_nothing_is_skipped_before_the_soft_mark(node_of, redis, wire):
    node = node_of({**SETTINGS, "limits.soft_bytes": 4194304, "limits.soft_age_ms": 3600000})
    client = Slow(wire, node, channels=["quote:A"])
    for n in range(4000):
        redis.publish("quote:A", json.dumps({"n": n, "x": "x" * 200}), heard_by=0)
    client.read_until(lambda items: len(items) == 4000)
    assert [i["data"]["n"] for i in client.held] == list(range(4000))
    assert node.metric("tickcast_slow_episodes_total") == 0


def test_age_is_a_mark_too(node_of, redis, wire):
    """A little that waits for long is as late as much that waits for a moment."""
    node = node_of({**SETTINGS, "limits.soft_bytes": 4194304, "limits.soft_age_ms": 200})
    client = Slow(wire, node, channels=["quote:A"])
    deadline = time.monotonic() + 20
    while node.metric("tickcast_slow_episodes_total") == 0 and time.monotonic() < deadline:
        redis.publish("quote:A", json.dumps("x" * 2000), heard_by=0)
        time.sleep(0.005)
    assert node.metric("tickcast_slow_episodes_total") == 1
    redis.publish("quote:A", '"last"')
    client.read_until(holds("last", "quote:A"))
    check_accounts(client.held)


def test_what_the_kernel_holds_is_late_too(node_of, redis, wire):
    """What it has not got rid of counts against the soft mark, not only what waits here."""
    node = node_of({**SETTINGS, "limits.soft_bytes": 20000, "limits.soft_age_ms": 3600000})
    client = Slow(wire, node, channels=["quote:A"])
    payload = json.dumps("x" * 500)
    for _ in range(20000):
        redis.publish("quote:A", payload, heard_by=0)
        if node.metric("tickcast_clients_blocked"):
            break
    more = 0
    while node.metric("tickcast_slow_episodes_total") == 0:
        redis.publish("quote:A", payload, heard_by=0)
        more += len(payload)
        assert more < 10000
    redis.publish("quote:A", '"last"')
    client.read_until(holds("last", "quote:A"))
    check_accounts(client.held)


def test_age_ends_a_client_of_mode_all(node_of, redis, wire):
    node = node_of({**SETTINGS, "limits.hard_age_ms": 300})
    client = Slow(wire, node, channels=["trade:A"])
    deadline = time.monotonic() + 20
    while not node.metric("tickcast_connections_ended_total", cause="slow"):
        assert time.monotonic() < deadline
        redis.publish("trade:A", json.dumps("x" * 2000), heard_by=0)
        time.sleep(0.005)
    client.read_until(lambda items: False)
    assert [m["action"] for m in client.others] == ["slow", "close"]
    assert client.others[0]["pending"] < 4194304 and client.others[1]["code"] == 4101
    check_accounts(client.held)


def test_all_is_bounded_told_and_closed(node_of, redis, wire, connect):
    """Past the hard mark: `slow`, 4101, and with its position nothing is lost."""
    node = node_of({**SETTINGS, "limits.hard_bytes": 300000})
    client = Slow(wire, node, channels=["trade:A"])
    for n in range(800):
        redis.stamp("trade:A", json.dumps({"n": n, "x": "x" * 1000}), 100000)
    node.wait_metric("tickcast_connections_ended_total", 1, cause="slow")
    client.read_until(lambda items: False)
    assert [m["action"] for m in client.others] == ["slow", "close"]
    assert client.others[0]["pending"] > 300000 and client.others[1]["code"] == 4101
    check_accounts(client.held)
    last = client.held[-1]["seq"]
    epoch = next(i["epoch"] for i in client.held if "epoch" in i)
    back = connect(node)
    ack = back.subscribe("trade:A", since={"trade:A": {"epoch": epoch, "seq": last}})
    missing = 800 - last
    if missing * 1000 < 300000:
        assert ack["recovered"] == ["trade:A"]
        assert [i["seq"] for i in back.items(missing)] == list(range(last + 1, 801))
    else:
        item = back.item()
        assert item["snap"] is True and item["seq"] == 800 and item["missed"] == missing - 1


def test_both_modes_on_one_connection(node_of, redis, wire):
    """Quotes are conflated while every trade arrives."""
    node = node_of({**SETTINGS, "limits.hard_bytes": 16777216})
    client = Slow(wire, node, channels=["quote:A", "trade:B"])
    for n in range(3000):
        redis.publish_many([("quote:A", json.dumps({"n": n, "x": "x" * 900})),
                            ("trade:B", json.dumps({"n": n}))])
    redis.publish_many([("quote:A", '"last"'), ("trade:B", '"last"')])
    eventually(lambda: node.metric("tickcast_publications_total") == 6002, 20)
    client.read_until(holds("last", "quote:A", "trade:B"))
    check_accounts(client.held)
    trades = [i for i in client.held if i["channel"] == "trade:B"]
    assert len(trades) == 3001 and not any("missed" in i for i in trades)
    assert len(client.held) - len(trades) < 1500


def test_trades_past_the_hard_mark_end_a_client_that_has_quotes_too(node_of, redis, wire):
    """Its quotes are conflated by then, and what must not be skipped is bounded all the same."""
    node = node_of({**SETTINGS, "limits.hard_bytes": 300000})
    client = Slow(wire, node, channels=["quote:A", "trade:B"])
    sent = 0
    while not node.metric("tickcast_connections_ended_total", cause="slow"):
        redis.publish_many([("quote:A", json.dumps("x" * 900)), ("trade:B", json.dumps("x" * 900))])
        sent += 1
        assert sent < 6000
    client.read_until(lambda items: False)
    assert [m["action"] for m in client.others] == ["slow", "close"]
    assert client.others[0]["pending"] > 300000 and client.others[1]["code"] == 4101
    check_accounts(client.held)


def test_a_client_that_crawls_is_served_in_turn(node_of, redis, wire):
    """Reads that are always behind, by more than one message at a time: every channel gets its share,
    none starves, and it is one episode."""
    node = node_of(SETTINGS)
    channels = [f"quote:C{i}" for i in range(30)]
    client = Slow(wire, node, channels=channels)
    for n in range(150):
        redis.publish_many([(c, json.dumps({"n": n, "x": "x" * 8000})) for c in channels])
        if n % 10 == 9:
            have = len(client.held)
            client.read_until(lambda items, have=have: len(items) > have)
    seen = {}
    redis.publish_many([(c, '"last"') for c in channels])
    client.read_until(holds("last", *channels))
    check_accounts(client.held)
    for item in client.held:
        seen[item["channel"]] = seen.get(item["channel"], 0) + 1
    assert max(seen.values()) <= 3 * min(seen.values())
    assert [m["action"] for m in client.others] == ["slow"]


@pytest.mark.plain
@pytest.mark.limit(120)
def test_one_hot_symbol_and_a_stuck_consumer(node_of, redis, wire):
    """What is replaced leaves nothing behind."""
    node = node_of(SETTINGS)
    client = Slow(wire, node, channels=["quote:HOT"])
    batch = [("quote:HOT", json.dumps({"n": n, "x": "x" * 200})) for n in range(2000)]
    for _ in range(5):
        redis.publish_many(batch)
    eventually(lambda: node.metric("tickcast_slow_episodes_total") == 1)
    before = node.rss_kb()
    for _ in range(150):
        redis.publish_many(batch)
    eventually(lambda: node.metric("tickcast_publications_total") == 310000, 20)
    assert node.rss_kb() - before < 6000  # 80 MB were published
    redis.publish("quote:HOT", '"last"')
    client.read_until(holds("last", "quote:HOT"))
    check_accounts(client.held)
    assert sum(1 + i.get("missed", 0) for i in client.held) == 310001


@pytest.mark.plain
@pytest.mark.limit(90)
def test_many_stuck_consumers(node_of, redis, wire, connect):
    node = node_of({**SETTINGS, "limits.soft_bytes": 262144})
    clients = [Slow(wire, node, channels=["quote:HOT"]) for _ in range(60)]
    healthy = connect(node)
    healthy.subscribe("quote:HOT")
    before = node.rss_kb()
    for n in range(60):
        redis.publish_many([("quote:HOT", json.dumps({"n": n, "x": "x" * 1000}))] * 250)
    redis.publish("quote:HOT", '"last"')
    eventually(lambda: node.metric("tickcast_publications_total") == 15001, 20)
    assert node.rss_kb() - before < 8000
    assert node.metric("tickcast_connections") == 61
    items = [healthy.item()]
    while items[-1]["data"] != "last":
        items.append(healthy.item())
    check_accounts(items)
    for client in clients[:5]:
        client.read_until(holds("last", "quote:HOT"))
        check_accounts(client.held)
