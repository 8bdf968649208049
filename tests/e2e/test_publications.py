"""Publications on their way to clients: pushes, bytes, snapshots, stamps, raw, slow readers
(docs/protocol.md, 2.2 and 3)."""

import json
import re
import time

import pytest

from client import Client
from wire import CLOSE
from world import http_request

EPOCH = re.compile(r"[0-9A-Za-z_-]{1,32}")


@pytest.fixture(scope="module")
def shared(module_world):
    """A node of two workers for tests that only look at their own channels."""
    return module_world.node(module_world.redis(), settings={"node.workers": 2,
                                                             "limits.commands_per_s": 1000})


@pytest.fixture
def bus(module_world, shared):
    return module_world.redises[0]


# --- pushes -------------------------------------------------------------------------------------

def test_the_shape_of_a_push(shared, bus, connect):
    client = connect(shared)
    client.subscribe("quote:SHAPE")
    before = time.time() * 1000
    bus.publish("quote:SHAPE", "{\"price\":\"1.0\"}")
    push = client.expect("push")
    assert set(push) == {"action", "items"}
    (first,) = push["items"]
    assert set(first) == {"channel", "seq", "ts", "epoch", "data"}
    assert first["channel"] == "quote:SHAPE" and first["data"] == {"price": "1.0"}
    assert isinstance(first["seq"], int) and first["seq"] >= 1
    assert isinstance(first["ts"], int) and abs(first["ts"] - before) < 5000
    assert EPOCH.fullmatch(first["epoch"])
    bus.publish("quote:SHAPE", "2")
    second = client.item()
    assert set(second) == {"channel", "seq", "ts", "data"}  # the epoch on the first item only
    assert second["seq"] == first["seq"] + 1


@pytest.mark.parametrize("namespace", ["quote", "trade"])
@pytest.mark.parametrize("workers", [1, 2])
def test_everything_arrives_in_order(world, redis, connect, namespace, workers):
    """Pacing skips nothing, in `latest` neither; seq strictly increases per channel."""
    node = world.node(redis, settings={"node.workers": workers})
    channels = [f"{namespace}:C{i}" for i in range(5)]
    clients = [connect(node, channels=",".join(channels)) for _ in range(4)]
    for client in clients:
        client.expect("ack")
    for channel in channels:
        redis.wait_listeners(channel)
    for part in range(10):
        redis.publish_many([(c, f"{part * 50 + n}") for n in range(50) for c in channels])
    for client in clients:
        seen = {c: [] for c in channels}
        for item in client.items(500 * len(channels)):
            assert "missed" not in item
            seen[item["channel"]].append(item)
        for items in seen.values():
            assert [i["data"] for i in items] == list(range(500))
            seqs = [i["seq"] for i in items]
            assert seqs == list(range(seqs[0], seqs[0] + 500))
            assert ["epoch" in i for i in items] == [True] + [False] * 499
        client.nothing_more()


PAYLOADS = [
    b'{"price":"190.01","volume":100}',
    b'{"price":190.010000000000000000001,"v":1e400,"n":-0.0}',
    b'{ "spaced" : [ 1 , 2 ] }',
    b'{"a":1,"a":2}',
    b'{"u":"\\u00e9\\ud83d\\ude00","raw":"\xc3\xa9\xf0\x9f\x98\x80","s":"\\/"}',
    b'{"nl":"line\\nbreak","ws":\n\t{}\r\n}',
    b'123456789012345678901234567890', b'"text"', b'null', b'true', b'[]', b'{}', b'0',
    b'[' * 100 + b']' * 100,
    b'{"big":"' + b'x' * 70000 + b'"}',
    b'{"exact":"' + b'y' * (65536 - 12) + b'"}',
]


@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda p: repr(p[:40]))
@pytest.mark.parametrize("stamped", [False, True])
def test_data_is_the_publishers_json_byte_for_byte(shared, bus, connect, payload, stamped):
    """A price is never parsed and printed again."""
    channel = f"quote:BYTES{PAYLOADS.index(payload)}-{stamped}"
    client = connect(shared, channels=channel)
    client.expect("ack")
    raw = connect(shared, raw=True, channels=channel)
    bus.wait_listeners(channel)
    bus.publish(channel, b"@e1:1:1780000000000 " + payload if stamped else payload)
    text = client.recv_text().encode()
    assert b'"data":' + payload + b'}' in text or b'"data":' + payload + b',' in text
    json.loads(text)
    assert raw.recv_text().encode() == payload
    late = connect(shared)
    late.send(action="subscribe", channels=[channel])
    late.expect("ack")
    assert b'"data":' + payload in late.recv_text().encode()


NOT_JSON = ["hello", "hello \"world\"\n\\ \u20ac \u0000\u001f", "{broken", "{}{}", "NaN", "'a'", "01",
            "1.", "+1", "\ufeff{}", "{\"a\":\"\n\"}", "[1,]", "nul", "\"open", "]" * 5]


@pytest.mark.parametrize("text", NOT_JSON, ids=ascii)
def test_what_is_not_json_becomes_a_string(shared, bus, connect, text):
    channel = f"quote:TEXT{NOT_JSON.index(text)}"
    client = connect(shared, channels=channel)
    client.expect("ack")
    raw = connect(shared, raw=True, channels=channel)
    counted = shared.metric("tickcast_publications_not_json_total")
    bus.publish(channel, text.encode())
    assert client.item()["data"] == text
    assert raw.recv_text() == text
    assert shared.metric("tickcast_publications_not_json_total") == counted + 1


BAD_UTF8 = [b'{"a":"\xff"}', b"\xc0\x80", b"\xed\xa0\x80", b'"\xe2\x82"', b"\x80", b"@e:1:1 \xff"]


@pytest.mark.parametrize("payload", BAD_UTF8, ids=repr)
def test_invalid_utf8_is_dropped_and_counted(shared, bus, connect, payload):
    channel = f"quote:UTF8-{BAD_UTF8.index(payload)}"
    client = connect(shared, channels=channel)
    client.expect("ack")
    raw = connect(shared, raw=True, channels=channel)
    name = "tickcast_publications_dropped_total"
    counted = shared.metric(name, reason="bad_utf8")
    bus.publish(channel, payload)
    bus.publish(channel, "\"good\"")
    assert client.item()["data"] == "good"
    assert raw.recv_text() == "\"good\""
    assert shared.metric(name, reason="bad_utf8") == counted + 1
    client.nothing_more()


def test_a_publication_over_payload_bytes_is_dropped(world, redis, connect):
    node = world.node(redis, settings={"limits.payload_bytes": 1000})
    client = connect(node, channels="quote:LARGE")
    client.expect("ack")
    fits = json.dumps("x" * 998)
    redis.publish("quote:LARGE", json.dumps("y" * 999))
    redis.publish("quote:LARGE", json.dumps("y" * 3_000_000))
    redis.publish("quote:LARGE", fits)
    assert client.item()["data"] == "x" * 998
    node.wait_metric("tickcast_publications_dropped_total", 2, reason="too_large")
    assert node.is_ready()


def test_a_limit_below_what_the_node_itself_says(world, redis, connect, operator):
    """Canaries, epochs and admin commands are no publications: it gets ready, and publishes."""
    node = world.node(redis, settings={"limits.payload_bytes": 1})
    client = connect(node, channels="quote:ONE,trade:ONE")
    client.wait_for("ack")
    sent = [{"channel": "quote:ONE", "data": 1}, {"channel": "quote:ONE", "data": 22},
            {"channel": "trade:ONE", "data": 3}]
    reply = http_request(node.ops, "/api/v1/publish", "POST", json.dumps(sent)).json()
    assert [r.get("name") for r in reply["results"]] == [None, "too_large", None]
    assert sorted(item["data"] for item in client.items(2)) == [1, 3]
    assert operator.ask(cmd="ping")[0]["ok"] is True
    notice = json.dumps({"cmd": "notice", "data": "n" * 65000})
    reply = http_request(node.ops, "/api/v1/admin", "POST", notice).json()
    assert [r["affected"] for r in reply["replies"]] == [1] and "missing" not in reply
    assert client.expect("notice")["data"] == "n" * 65000
    assert node.metric("tickcast_redis_connects_total", link="command") == 1


def test_a_stamp_does_not_count_against_payload_bytes(world, redis, connect):
    """What the API takes is delivered, up to the last byte that it takes."""
    node = world.node(redis, settings={"limits.payload_bytes": 1000})
    client = connect(node, channels="quote:LARGE")
    client.expect("ack")
    fits = json.dumps("x" * 998)
    longest = f"@{'e' * 32}:{2**53 - 2}:{2**53 - 1} "
    redis.publish("quote:LARGE", longest + json.dumps("y" * 999))
    redis.publish("quote:LARGE", longest + fits)
    assert client.item()["data"] == "x" * 998
    redis.publish("quote:LARGE", "@" + fits + "y" * 9)  # large, and no stamp
    redis.stamp("quote:LARGE", fits)
    assert client.item()["data"] == "x" * 998
    node.wait_metric("tickcast_publications_dropped_total", 2, reason="too_large")


# --- snapshots ----------------------------------------------------------------------------------

class TestSnapshots:
    CHANNELS = iter(f"quote:SNAP{i}" for i in range(1000))

    @pytest.fixture
    def channel(self):
        return next(self.CHANNELS)

    @pytest.fixture
    def first(self, shared, bus, connect, channel):
        """A subscriber that has seen two values."""
        client = connect(shared, channels=channel)
        client.expect("ack")
        bus.publish(channel, "{\"v\":1}")
        bus.publish(channel, "{\"v\":2}")
        client.last = client.items(2)
        return client

    def test_a_snapshot_is_the_last_value(self, shared, bus, connect, channel, first):
        """`snap` says that it replaces."""
        late = connect(shared)
        late.send(action="subscribe", channels=[channel], id=1)
        assert late.recv()["action"] == "ack"  # before the first item of its channels
        snap = late.item()
        assert set(snap) == {"channel", "seq", "ts", "epoch", "snap", "data"}
        assert snap["snap"] is True
        assert snap["data"] == {"v": 2} and snap["channel"] == channel
        old, new = first.last
        assert (snap["seq"], snap["ts"], snap["epoch"]) == (new["seq"], new["ts"], old["epoch"])
        bus.publish(channel, "{\"v\":3}")
        following = late.item()
        assert set(following) == {"channel", "seq", "ts", "data"}
        assert following["seq"] == snap["seq"] + 1
        assert first.item() == following

    def test_no_snapshot_when_it_is_not_wanted(self, shared, bus, connect, channel, first):
        late = connect(shared)
        late.subscribe(channel, snapshot=False)
        late.nothing_more()
        bus.publish(channel, "{\"v\":3}")
        item = late.item()
        assert "snap" not in item and item["epoch"] == first.last[0]["epoch"]

    def test_no_snapshot_without_a_value(self, shared, connect, channel):
        late = connect(shared)
        late.subscribe(channel)
        late.nothing_more()

    def test_subscribing_again_sends_no_second_snapshot(self, shared, connect, channel, first):
        late = connect(shared)
        late.subscribe(channel)
        assert late.item()["snap"] is True
        late.subscribe(channel)
        late.nothing_more()
        late.subscribe(channel, snapshot=True)
        assert late.item()["data"] == {"v": 2}
        late.nothing_more()

    def test_the_snapshot_command(self, shared, connect, channel, first):
        first.send(action="snapshot", channels=[channel], id="s")
        ack = first.recv()
        assert (ack["action"], ack["id"]) == ("ack", "s")
        snap = first.item()
        assert snap["snap"] is True and snap["data"] == {"v": 2}
        assert snap["epoch"] == first.last[0]["epoch"] and snap["seq"] == first.last[1]["seq"]
        first.nothing_more()

    def test_after_unsubscribe_the_next_subscription_starts_anew(self, shared, connect, channel,
                                                                 first):
        first.ask("unsubscribe", channels=[channel])
        first.subscribe(channel)
        snap = first.item()
        assert snap["snap"] is True and "epoch" in snap

    def test_other_namespaces_have_none(self, shared, bus, connect):
        client = connect(shared, channels="trade:NOSNAP")
        client.expect("ack")
        bus.publish("trade:NOSNAP", "1")
        client.item()
        late = connect(shared)
        late.subscribe("trade:NOSNAP")
        late.nothing_more()


def test_every_subscriber_sees_each_value_once_whenever_it_comes(world, redis, connect):
    """Snapshot and stream have neither a hole nor a repeat between them."""
    node = world.node(redis, settings={"node.workers": 2})
    keeper = connect(node, channels="quote:JOIN")
    keeper.expect("ack")
    redis.publish("quote:JOIN", "0")
    late = []
    for n in range(1, 101):
        redis.publish("quote:JOIN", f"{n}")
        if n % 5 == 0:
            client = connect(node)
            client.send(action="subscribe", channels=["quote:JOIN"], id=0)
            late.append(client)
    for client in late:
        client.expect("ack")
        seen = []
        while not seen or seen[-1]["data"] != 100:
            seen.append(client.item())
        assert seen[0].get("snap") is True and "epoch" in seen[0]
        values = [i["data"] for i in seen]
        assert values == list(range(values[0], 101))
        assert [i["seq"] - seen[0]["seq"] for i in seen] == list(range(len(seen)))


# --- stamps -------------------------------------------------------------------------------------

def test_stamped_publications(shared, bus, connect):
    """3: seq, epoch and ts are the publisher's."""
    client = connect(shared, channels="quote:STAMP")
    client.expect("ack")
    bus.publish("quote:STAMP", "@c91e:815:1780000000340 {\"p\":\"1.10\"}")
    assert client.item() == {"channel": "quote:STAMP", "seq": 815, "ts": 1780000000340,
                             "epoch": "c91e", "data": {"p": "1.10"}}
    bus.publish("quote:STAMP", "@c91e:816:1780000000341 {\"p\":\"1.11\"}")
    assert client.item() == {"channel": "quote:STAMP", "seq": 816, "ts": 1780000000341,
                             "data": {"p": "1.11"}}
    # A gap is the publisher's; a new epoch is told with its first item.
    bus.publish("quote:STAMP", "@c91e:820:1780000000342 1")
    assert client.item()["seq"] == 820
    bus.publish("quote:STAMP", "@d000:1:1780000000343 2")
    item = client.item()
    assert (item["seq"], item["epoch"]) == (1, "d000")
    late = connect(shared)
    late.subscribe("quote:STAMP")
    assert late.item() == {"channel": "quote:STAMP", "seq": 1, "ts": 1780000000343,
                           "epoch": "d000", "snap": True, "data": 2}


def test_seq_never_stands_still_or_goes_back_within_an_epoch(shared, bus, connect):
    """What a strict client would ignore is not sent as if it were new."""
    client = connect(shared, channels="quote:BACK")
    client.expect("ack")
    for seq in (5, 5, 4, 6, 6, 1, 7):
        bus.publish("quote:BACK", f"@e1:{seq}:1780000000000 {seq}")
    epoch, last = None, 0
    while True:
        item = client.item()
        if "epoch" in item and item["epoch"] != epoch:
            epoch, last = item["epoch"], 0
        assert item["seq"] > last
        last = item["seq"]
        if item["data"] == 7:
            break


@pytest.mark.parametrize("seq", [1, 2**53 - 1])
def test_limits_of_stamps(shared, bus, connect, seq):
    channel = f"quote:EDGE{seq}"
    client = connect(shared, channels=channel)
    client.expect("ack")
    bus.publish(channel, f"@{'e' * 32}:{seq}:0 1")
    assert client.item() == {"channel": channel, "seq": seq, "ts": 0, "epoch": "e" * 32, "data": 1}


BAD_STAMPS = ["@", "@ {}", "@@", "@e", "@e:1", "@e:1:1", "@e:1:1{}", "@:1:1 {}", "@e::1 {}",
              "@e:1: {}", "@e:0:1 {}", "@e:-1:1 {}", "@e:+1:1 {}", "@e:1.5:1 {}", "@e: 1:1 {}",
              "@e:1:x {}", "@e:x:1 {}", "@e:1:-1 {}", "@e:9007199254740992:1 {}",
              "@e:1:9007199254740992 {}", "@e:99999999999999999999999:1 {}", "@e!:1:1 {}",
              "@e f:1:1 {}", "@" + "e" * 33 + ":1:1 {}", "@e:1:1\t{}", "@user hello",
              "@e\u20ac:1:1 {}", "@e:0x1:1 {}", "@e:1:1:1 {}"]


@pytest.mark.parametrize("payload", BAD_STAMPS, ids=ascii)
def test_a_bad_stamp_is_dropped_and_counted(shared, bus, connect, payload):
    """Counted, dropped, never fatal, never forwarded."""
    channel = f"quote:BADSTAMP{BAD_STAMPS.index(payload)}"
    client = connect(shared, channels=channel)
    client.expect("ack")
    name = "tickcast_publications_dropped_total"
    counted = shared.metric(name, reason="bad_stamp")
    bus.publish(channel, payload)
    bus.publish(channel, "\"good\"")
    item = client.item()
    assert item["data"] == "good" and "plain" not in item
    assert shared.metric(name, reason="bad_stamp") == counted + 1
    client.nothing_more()


def test_plain_on_a_stamped_channel(shared, bus, connect):
    """Shown, but no part of the sequence and never a snapshot."""
    client = connect(shared, channels="quote:PLAIN")
    client.expect("ack")
    bus.publish("quote:PLAIN", "@e1:7:1780000000000 {\"v\":1}")
    bus.publish("quote:PLAIN", "{\"v\":\"by hand\"}")
    bus.publish("quote:PLAIN", "@e1:8:1780000000001 {\"v\":2}")
    first, plain, second = client.items(3)
    assert first["seq"] == 7 and second["seq"] == 8
    assert set(plain) == {"channel", "ts", "plain", "data"}
    assert plain["plain"] is True and plain["data"] == {"v": "by hand"}
    assert "epoch" not in second
    bus.publish("quote:PLAIN", "{\"v\":\"again\"}")
    assert client.item()["plain"] is True
    late = connect(shared)
    late.subscribe("quote:PLAIN")
    snap = late.item()
    assert snap["data"] == {"v": 2} and snap["seq"] == 8
    late.nothing_more()


def test_cleared(shared, bus, connect):
    """An empty payload clears the value: `cleared` without `data`, and no snapshot after it."""
    client = connect(shared, channels="quote:CLEAR")
    client.expect("ack")
    bus.publish("quote:CLEAR", "@e1:1:1780000000000 1")
    bus.publish("quote:CLEAR", "@e1:2:1780000000001 ")
    client.item()
    assert client.item() == {"channel": "quote:CLEAR", "seq": 2, "ts": 1780000000001,
                             "cleared": True}
    late = connect(shared)
    late.subscribe("quote:CLEAR")
    late.nothing_more()
    bus.publish("quote:CLEAR", "@e1:3:1780000000002 3")
    assert late.item()["data"] == 3
    assert client.item()["data"] == 3


# --- raw ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("how", ["query", "subprotocol"])
def test_raw(shared, bus, connect, how):
    """Each message is one publication's payload and nothing else: no hello, no snapshot."""
    channel = f"quote:RAW-{how}"
    seen = connect(shared, channels=channel)
    seen.expect("ack")
    bus.publish(channel, "\"before\"")
    seen.item()
    if how == "query":
        raw = connect(shared, raw=True, channels=channel)
    else:
        raw = Client(shared.url(channels=channel), subprotocols=["tickcast.v1+raw"])
    try:
        raw.protocol_ping()
        for payload in ("{\"price\": \"1.0\"}", "not json", "2"):
            bus.publish(channel, payload)
            assert raw.recv_text() == payload
        bus.publish(channel, "@e:1:1 {\"stamped\":true}")
        assert raw.recv_text() == "{\"stamped\":true}"
    finally:
        raw.close()


def test_raw_messages_are_one_publication_each(shared, bus, connect):
    raw = connect(shared, raw=True, channels="trade:RAWMANY")
    bus.wait_listeners("trade:RAWMANY")
    bus.publish_many([("trade:RAWMANY", f"{i}") for i in range(300)])
    assert [raw.recv_text() for _ in range(300)] == [str(i) for i in range(300)]


def test_raw_takes_no_commands(shared, bus, connect):
    """What a raw client says is not answered, and does it no harm or ends it cleanly."""
    raw = connect(shared, raw=True, channels="quote:RAWMUTE")
    bus.wait_listeners("quote:RAWMUTE")
    raw.send_text("{\"action\":\"subscribe\",\"channels\":[\"quote:OTHER\"]}")
    bus.publish("quote:RAWMUTE", "1")
    assert raw.recv_text() == "1"
    assert bus.listeners("quote:OTHER") == 0


# --- slow clients -------------------------------------------------------------------------------

def test_a_stuck_client_of_mode_all_is_closed_and_costs_nobody_else(world, redis, wire, connect):
    """A bounded queue, then 4101 slow."""
    node = world.node(redis, settings={"limits.soft_bytes": 100_000, "limits.hard_bytes": 400_000})
    stuck = wire(node, receive_buffer=4096).upgrade("/ws?channels=trade:HOT")
    stuck.recv_frame()
    healthy = connect(node, channels="trade:HOT")
    healthy.expect("ack")
    payload = json.dumps("z" * 20_000)
    for n in range(1, 1001):  # 20 MB in all
        redis.publish("trade:HOT", payload)
        if n % 10 == 0:
            healthy.items(10)
    node.wait_metric("tickcast_connections_ended_total", 1, cause="slow")
    healthy.nothing_more()
    frames = []
    try:
        while not frames or frames[-1].opcode != CLOSE:
            frames.append(stuck.recv_frame())
        assert frames[-1].payload[:2] == (4101).to_bytes(2, "big")
    except EOFError:
        pass  # the socket was full: there was no room to say why
    assert len(frames) < 900
