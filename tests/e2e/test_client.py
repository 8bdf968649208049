"""The client protocol, version 1 (docs/protocol.md, 2.2 to 2.4)."""

import json
import re
import time

import pytest

from world import SLOWER, eventually
from wire import CLOSE, PING, PONG, TEXT, close_frame, frame

EPOCH = re.compile(r"[0-9A-Za-z_-]{1,32}")


def errors(reply):
    """The names of all errors in a reply, be it an `error` or an `ack` with `rejected`."""
    if reply["action"] == "error":
        return [reply["name"]]
    assert reply["action"] == "ack", reply
    return [r["name"] for r in reply.get("rejected", [])]


@pytest.fixture(scope="module")
def shared(module_world):
    """A node of two workers for tests that only look at their own channels."""
    return module_world.node(module_world.redis(), settings={"node.workers": 2,
                                                             "limits.commands_per_s": 1000})


@pytest.fixture
def bus(module_world, shared):
    return module_world.redises[0]


# --- hello ------------------------------------------------------------------------------------

def test_hello(shared, connect):
    before = time.time() * 1000
    hello = connect(shared).hello
    assert set(hello) - {"user"} == {"action", "version", "node", "conn", "time", "heartbeat_ms",
                                     "ping_ms", "feed", "limits"}
    assert hello["version"] == "1" and hello["node"] == "n1" and hello["feed"] == "ok"
    assert isinstance(hello["conn"], str) and hello["conn"]
    assert isinstance(hello["time"], int) and before - 1000 < hello["time"] < before + 10000
    assert (hello["heartbeat_ms"], hello["ping_ms"]) == (15000, 25000)
    assert hello["limits"] == {"channels": 3000, "message_bytes": 65536, "commands_per_s": 1000}


def test_conn_is_unique(world, redis, connect):
    nodes = [world.node(redis, settings={"node.workers": 2}), world.node(redis)]
    names = [connect(node).hello["conn"] for node in nodes for _ in range(10)]
    assert len(set(names)) == 20


# --- ids and errors ---------------------------------------------------------------------------

@pytest.mark.parametrize("number", [0, 1, -1, 2**53 - 1, "", "a", "x" * 64, "\u20ac" * 21,
                                    "quote\"back\\slash", "\u0001\u001f", "7"], ids=ascii)
@pytest.mark.parametrize("command", [{"action": "ping"}, {"action": "list"},
                                     {"action": "subscribe", "channels": ["quote:ID"]},
                                     {"action": "nonsense"}, {"action": "subscribe"}],
                         ids=lambda c: c["action"] + str(len(c)))
def test_the_reply_carries_the_id(shared, connect, command, number):
    client = connect(shared)
    client.send(**command, id=number)
    reply = client.recv()
    assert reply["id"] == number and type(reply["id"]) is type(number)
    client.nothing_more()


def test_without_an_id_there_is_none_in_the_reply(shared, connect):
    client = connect(shared)
    client.send(action="subscribe", channels=["quote:ID"])
    assert "id" not in client.expect("ack")
    client.send(action="nonsense")
    assert "id" not in client.expect("error")


COMMAND_ERRORS = [
    # message, code, name
    ("nonsense", 400, "bad_json"),
    ("", 400, "bad_json"),
    ("{", 400, "bad_json"),
    ("{\"action\":\"ping\"", 400, "bad_json"),
    ("{\"action\":\"ping\"}}", 400, "bad_json"),
    ("{\"action\":\"ping\"} {}", 400, "bad_json"),
    ("{'action':'ping'}", 400, "bad_json"),
    ("{\"action\":\"ping\",}", 400, "bad_json"),
    ("[" * 5000, 400, "bad_json"),
    ("Ping", 400, "bad_json"),
    ("[]", 400, "bad_command"),
    ("1", 400, "bad_command"),
    ("null", 400, "bad_command"),
    ("\"ping\"", 400, "bad_command"),
    ("[{\"action\":\"ping\"}]", 400, "bad_command"),
    ("{}", 400, "bad_command"),
    ("{\"action\":1}", 400, "bad_command"),
    ("{\"action\":null}", 400, "bad_command"),
    ("{\"Action\":\"ping\"}", 400, "bad_command"),
    ("{\"action\":\"ping\",\"id\":1.5}", 400, "bad_command"),
    ("{\"action\":\"ping\",\"id\":{}}", 400, "bad_command"),
    ("{\"action\":\"ping\",\"id\":true}", 400, "bad_command"),
    ("{\"action\":\"ping\",\"id\":null}", 400, "bad_command"),
    ("{\"action\":\"ping\",\"id\":\"" + "x" * 65 + "\"}", 400, "bad_command"),
    ("{\"action\":\"subscribe\"}", 400, "bad_command"),
    ("{\"action\":\"subscribe\",\"channels\":\"quote:A\"}", 400, "bad_command"),
    ("{\"action\":\"subscribe\",\"channels\":{}}", 400, "bad_command"),
    ("{\"action\":\"subscribe\",\"channels\":[1]}", 400, "bad_command"),
    ("{\"action\":\"subscribe\",\"channels\":[\"quote:A\",null]}", 400, "bad_command"),
    ("{\"action\":\"subscribe\",\"channels\":[\"quote:A\"],\"mode\":\"some\"}", 400, "bad_command"),
    ("{\"action\":\"subscribe\",\"channels\":[\"quote:A\"],\"mode\":1}", 400, "bad_command"),
    ("{\"action\":\"subscribe\",\"channels\":[\"quote:A\"],\"snapshot\":\"no\"}", 400,
     "bad_command"),
    ("{\"action\":\"subscribe\",\"channels\":[\"quote:A\"],\"max_rate\":\"5\"}", 400,
     "bad_command"),
    ("{\"action\":\"subscribe\",\"channels\":[\"quote:A\"],\"max_rate\":-1}", 400, "bad_command"),
    ("{\"action\":\"unsubscribe\"}", 400, "bad_command"),
    ("{\"action\":\"snapshot\",\"channels\":5}", 400, "bad_command"),
    ("{\"action\":\"\"}", 404, "unknown_action"),
    ("{\"action\":\"nonsense\"}", 404, "unknown_action"),
    ("{\"action\":\"SUBSCRIBE\"}", 404, "unknown_action"),
    ("{\"action\":\"ping\\u0000\"}", 404, "unknown_action"),
]


@pytest.mark.parametrize("text, code, name", COMMAND_ERRORS, ids=[c[0][:60] for c in COMMAND_ERRORS])
def test_errors_of_commands(shared, connect, text, code, name):
    """An error is told and costs nothing else: the connection goes on."""
    client = connect(shared)
    client.send_text(text)
    error = client.expect("error")
    assert set(error) - {"id"} == {"action", "code", "name", "message", "fatal"}
    assert (error["code"], error["name"], error["fatal"]) == (code, name, False)
    assert isinstance(error["message"], str) and error["message"]
    client.nothing_more()
    assert client.subscribe("quote:AFTER")["accepted"] == 1


def test_members_that_are_not_known_are_ignored(shared, connect):
    client = connect(shared)
    reply = client.ask("ping", colour="red", deep={"a": [1, {"b": None}]})
    assert reply["action"] == "pong"


def test_a_binary_message_is_refused(shared, wire):
    """1003: the protocol is text."""
    one = wire(shared).upgrade()
    one.recv_frame()
    one.send_frame(2, b"{\"action\":\"ping\"}")
    one.expect_close(1003)


@pytest.mark.parametrize("data, code", [
    (frame(TEXT, b"\xff"), 1007),
    (frame(TEXT, b"x" * 70000), 1009),
    (frame(3, b""), 1002),
    (frame(TEXT, b"x", masked=False), 1002),
    (close_frame(1000), 1000),
    (close_frame(1001), 1001),
])
def test_close_codes_for_broken_rules(shared, wire, connect, data, code):
    """A client that breaks the protocol gets the right close code and costs nobody else
    anything."""
    bystander = connect(shared)
    one = wire(shared).upgrade()
    one.recv_frame()
    one.send(data)
    before = []
    assert one.expect_close(code, before=before) == code
    for got in before:  # a last word is allowed, saying that it is fatal
        assert json.loads(got.payload)["fatal"] is True
    bystander.nothing_more()


# --- ping, heartbeat ----------------------------------------------------------------------------

@pytest.mark.parametrize("echo", [1, "text", None, True, [1, 2, {"a": "b"}], {"deep": [[]]}, 1.25,
                                  "\u20ac\u0000\""], ids=ascii)
def test_ping_echoes_anything(shared, connect, echo):
    client = connect(shared)
    reply = client.ask("ping", echo=echo)
    assert set(reply) == {"action", "id", "time", "echo"}
    assert reply["action"] == "pong" and reply["echo"] == echo
    assert abs(reply["time"] - time.time() * 1000) < 10000


def test_ping_without_echo(shared, connect):
    assert set(connect(shared).ask("ping")) == {"action", "id", "time"}


def test_the_bare_text_ping(shared, connect):
    client = connect(shared)
    client.send_text("ping")
    assert client.recv_text() == "pong"


def test_heartbeat_when_nothing_else_is_sent(world, redis, connect):
    """failures.md 22: a quiet symbol does not look like a frozen feed."""
    node = world.node(redis, settings={"node.heartbeat_ms": 300})
    client = connect(node)
    assert client.hello["heartbeat_ms"] == 300
    ups = []
    for _ in range(3):
        begun = time.monotonic()
        beat = client.expect("heartbeat")
        assert set(beat) == {"action", "time", "up_ms", "feed"}
        assert beat["feed"] == "ok"
        ups.append(beat["up_ms"])
        assert time.monotonic() - begun < 3 * SLOWER
    assert 0 <= ups[0] < ups[1] < ups[2]
    assert ups[2] - ups[1] >= 250


def test_no_heartbeat_while_something_is_sent(world, redis, connect):
    node = world.node(redis, settings={"node.heartbeat_ms": 1000})
    client = connect(node)
    client.subscribe("quote:BUSY")
    redis.wait_listeners("quote:BUSY")
    end = time.monotonic() + 2.5
    while time.monotonic() < end:
        redis.publish("quote:BUSY", "1", heard_by=0)
        assert client.recv()["action"] == "push"
        time.sleep(0.05)  # paces the traffic; nothing waits for it


class TestLiveness:
    """2.3: pings, and reaping of those who do not answer."""

    @pytest.fixture(params=[1, 2])
    def lively(self, world, redis, request):
        return world.node(redis, settings={"node.ping_ms": 200, "node.workers": request.param})

    def test_a_client_that_answers_lives(self, lively, connect):
        client = connect(lively)
        assert client.hello["ping_ms"] == 200
        for _ in range(10):
            time.sleep(0.2)  # several ping periods, on purpose
            client.nothing_more()

    def test_a_client_that_does_not_answer_is_reaped(self, lively, wire, connect):
        """failures.md 28: closed after two unanswered pings, well under a minute."""
        dead, begun = wire(lively).upgrade(), time.monotonic()
        pings = 0
        try:
            while True:
                got = dead.recv_frame()
                pings += got.opcode == PING
                if got.opcode == CLOSE:
                    break
        except EOFError:
            pass
        assert pings == 2
        assert 0.3 < time.monotonic() - begun < 3 * SLOWER
        lively.wait_metric("tickcast_connections_ended_total", 1, cause="ping_timeout")
        lively.wait_metric("tickcast_connections", 0)

    def test_any_pong_counts(self, lively, wire):
        one = wire(lively).upgrade()
        seen = 0
        while seen < 8:
            got = one.recv_frame()
            assert got.opcode != CLOSE
            if got.opcode == PING:
                seen += 1
                one.send_frame(PONG, got.payload)

    def test_pings_are_never_sent_when_off(self, world, redis, wire):
        node = world.node(redis, settings={"node.ping_ms": 0, "node.heartbeat_ms": 500})
        one = wire(node).upgrade()
        assert json.loads(one.recv_frame().payload)["ping_ms"] == 0
        for _ in range(3):
            assert one.recv_frame().opcode == TEXT


def test_pongs_and_pings_do_not_count_against_the_rate(world, redis, connect, wire):
    """failures.md 29"""
    node = world.node(redis, settings={"limits.commands_per_s": 5})
    one = wire(node).upgrade()
    one.recv_frame()
    one.send(b"".join(frame(PING, b"%d" % i) + frame(PONG) for i in range(500)))
    for i in range(500):
        one.expect(PONG, b"%d" % i)
    one.send_frame(TEXT, "{\"action\":\"list\"}")
    assert json.loads(one.recv_frame().payload)["action"] == "ack"


def test_pong_overtakes_queued_data(world, redis, wire):
    """failures.md 15: a pong must not stand behind megabytes that the client has yet to read."""
    node = world.node(redis, settings={"limits.hard_bytes": 64 << 20, "limits.soft_bytes": 32 << 20})
    one = wire(node, receive_buffer=4096).upgrade("/ws?channels=trade:BIG")
    assert json.loads(one.recv_frame().payload)["action"] == "hello"
    assert json.loads(one.recv_frame().payload)["action"] == "ack"
    payload = json.dumps("x" * 100_000)
    for _ in range(200):  # 20 MB: more than the kernel will hold
        redis.publish("trade:BIG", payload)
    node.wait_metric("tickcast_publications_total", 200)
    one.send_frame(PING, b"overtake")
    items = 0
    while True:
        got = one.recv_frame()
        if got.opcode == PONG:
            break
        items += len(json.loads(got.payload)["items"])
    assert items < 150, f"the pong came behind {items} of 200"
    while items < 200:
        items += len(json.loads(one.recv_frame().payload)["items"])


# --- subscribing --------------------------------------------------------------------------------

def test_ack_of_a_subscribe(shared, connect):
    ack = connect(shared).subscribe("quote:ACK")
    assert ack["accepted"] == 1
    assert ack.get("rejected", []) == []
    assert ack["granted"]["mode"] == "latest"
    assert ack.get("feed", "ok") == "ok"


BAD_CHANNELS = ["", "quote", "quote:", ":A", "quote:a b", "quote:a,b", "quote:a\"b", "quote:a\\b",
                "quote:{a}", "quote:*", "quote:a?", "quote:[a]", "quote:\u20ac", "quote:a\n",
                "quote:\u0001", "quote:\x7f", "quote:" + "x" * 123, "x" * 1000 + ":a"]


@pytest.mark.parametrize("channel", BAD_CHANNELS, ids=ascii)
def test_malformed_channels(shared, connect, channel):
    ack = connect(shared).subscribe(channel)
    assert ack["accepted"] == 0
    assert ack["rejected"] == [{"channel": channel, "code": 400, "name": "bad_channel"}]


@pytest.mark.parametrize("command", [
    {"action": "subscribe", "channels": ["quote:NUL\0x"]},
    {"action": "list", "id": "\0"},
    {"action": "list\0"},
], ids=str)
def test_a_nul_inside_a_string_is_refused(shared, bus, connect, command):
    """It must not end the string early: `quote:NUL\\0x` is not `quote:NUL`."""
    client = connect(shared)
    client.send(**command)
    reply = client.recv()
    assert reply["action"] == "error" or reply["accepted"] == 0
    client.nothing_more()
    assert client.ask("list")["channels"] == []
    assert bus.listeners("quote:NUL") == 0


@pytest.mark.parametrize("channel", ["quote:" + "x" * 122, "quote:a:b:c", "quote:!#$%&'()+-./;<=>@^_`|~",
                                     "quote:UPPER", "quote:0"])
def test_unusual_channels_that_are_legal(shared, bus, connect, channel):
    """1: bytes are kept exactly."""
    client = connect(shared)
    assert client.subscribe(channel)["accepted"] == 1
    bus.publish(channel, "1")
    assert client.item()["channel"] == channel


@pytest.mark.parametrize("channel", ["x:y", "Quote:A", "quotes:A", "admin:x", "canary:x", "node:n1"])
def test_namespaces_that_are_not_configured(shared, bus, connect, channel):
    """Neither these nor malformed names ever reach Redis."""
    ack = connect(shared).subscribe(channel)
    assert ack["rejected"] == [{"channel": channel, "code": 404, "name": "unknown_namespace"}]
    assert bus.listeners(channel) == 0


def test_partial_failure_never_costs_the_connection(shared, connect):
    client = connect(shared)
    ack = client.subscribe("quote:P1", "x:y", "quote:P2", "bad", "trade:P3")
    assert ack["accepted"] == 3
    assert [(r["channel"], r["code"], r["name"]) for r in ack["rejected"]] == [
        ("x:y", 404, "unknown_namespace"), ("bad", 400, "bad_channel")]
    listed = client.ask("list")["channels"]
    assert {c["channel"] for c in listed} == {"quote:P1", "quote:P2", "trade:P3"}


def test_names_differ_by_case(shared, bus, connect):
    client = connect(shared)
    client.subscribe("quote:case")
    bus.wait_listeners("quote:case")
    bus.publish("quote:CASE", "1", heard_by=0)
    bus.publish("quote:case", "2")
    assert client.item()["data"] == 2


def test_channels_in_the_url(shared, bus, connect):
    """One ack without id after hello, as for any subscribe."""
    client = connect(shared, channels="quote:U1,x:y,trade:U2")
    ack = client.expect("ack")
    assert "id" not in ack and ack["accepted"] == 2
    assert ack["rejected"] == [{"channel": "x:y", "code": 404, "name": "unknown_namespace"}]
    for channel in ("quote:U1", "trade:U2"):
        bus.publish(channel, "1")
        assert client.item()["channel"] == channel


def test_channels_in_the_url_are_percent_decoded(shared, bus, connect):
    client = connect(shared, channels="quote%3Aa%2Bb%2Cquote:c+d")
    assert client.expect("ack")["accepted"] == 2
    bus.publish("quote:a+b", "1")
    assert client.item()["channel"] == "quote:a+b"
    bus.publish("quote:c+d", "2")
    assert client.item()["channel"] == "quote:c+d"


def test_the_limit_of_channels(world, redis, connect):
    node = world.node(redis, settings={"limits.channels_per_client": 3})
    client = connect(node)
    assert client.hello["limits"]["channels"] == 3
    ack = client.subscribe(*[f"quote:{i}" for i in range(5)])
    assert ack["accepted"] == 3
    assert ack["rejected"] == [{"channel": f"quote:{i}", "code": 429, "name": "too_many_channels"}
                               for i in (3, 4)]
    assert client.subscribe("quote:0")["accepted"] == 1  # one that it has
    client.ask("unsubscribe", channels=["quote:1"])
    assert client.subscribe("quote:4")["accepted"] == 1
    assert errors(client.subscribe("quote:5")) == ["too_many_channels"]


@pytest.mark.parametrize("workers", [1, 2])
def test_three_thousand_channels(world, redis, connect, workers):
    node = world.node(redis, settings={"node.workers": workers})
    client = connect(node)
    names = [f"quote:S{i}" for i in range(3000)]
    assert client.subscribe(*names)["accepted"] == 3000
    redis.wait_listeners(names[-1])
    redis.wait_listeners(names[0])
    redis.publish_many([(name, f"{i}") for i, name in enumerate(names)])
    got = client.items(3000)
    assert {i["channel"]: i["data"] for i in got} == {n: i for i, n in enumerate(names)}
    assert errors(client.subscribe("quote:ONE-MORE")) == ["too_many_channels"]
    client.close()
    node.wait_metric("tickcast_subscriptions", 0)


def test_too_many_commands(world, redis, connect):
    node = world.node(redis, settings={"limits.commands_per_s": 5})
    client = connect(node)
    assert client.hello["limits"]["commands_per_s"] == 5
    for i in range(12):
        client.send(action="list", id=i)
    replies = [client.recv() for _ in range(12)]
    assert {r["id"] for r in replies} == set(range(12))
    limited = [r for r in replies if r["action"] == "error"]
    assert {(r["code"], r["name"]) for r in limited} == {(429, "rate_limited")}
    assert 5 <= len(limited) <= 7

    def recovered():
        return client.ask("list")["action"] == "ack"

    eventually(recovered, 10, "the rate limit to relax", interval=0.3)


def test_list(shared, connect):
    client = connect(shared)
    assert client.ask("list")["channels"] == []
    client.subscribe("quote:L1")
    client.subscribe("trade:L2")
    reply = client.ask("list")
    assert reply["action"] == "ack"
    listed = {c["channel"]: c for c in reply["channels"]}
    assert set(listed) == {"quote:L1", "trade:L2"}
    assert listed["quote:L1"]["mode"] == "latest" and listed["trade:L2"]["mode"] == "all"


def test_unsubscribe(shared, bus, connect):
    client = connect(shared)
    client.subscribe("quote:OFF", "quote:ON")
    bus.wait_listeners("quote:ON")
    reply = client.ask("unsubscribe", channels=["quote:OFF"])
    assert reply["action"] == "ack" and reply.get("rejected", []) == []
    bus.publish("quote:OFF", "1")
    bus.publish("quote:ON", "2")
    assert client.item()["data"] == 2
    client.nothing_more()
    assert [c["channel"] for c in client.ask("list")["channels"]] == ["quote:ON"]


@pytest.mark.parametrize("action", ["unsubscribe", "snapshot"])
def test_not_subscribed(shared, connect, action):
    client = connect(shared)
    client.subscribe("quote:HAVE")
    assert errors(client.ask(action, channels=["quote:HAVE-NOT"])) == ["not_subscribed"]
    client.nothing_more()


def test_a_channel_twice_in_one_request_is_one_subscription(shared, bus, connect):
    client = connect(shared)
    client.subscribe("quote:TWICE", "quote:TWICE")
    client.subscribe("quote:TWICE")
    assert [c["channel"] for c in client.ask("list")["channels"]] == ["quote:TWICE"]
    bus.publish("quote:TWICE", "1")
    client.item()
    client.nothing_more()


def test_a_mode_that_the_namespace_does_not_allow(shared, connect):
    client = connect(shared)
    reply = client.ask("subscribe", channels=["quote:MODE"], mode="all")
    assert reply["action"] in ("ack", "error")
    if reply["action"] == "ack" and reply["accepted"]:
        assert reply["granted"]["mode"] == "latest"
    client.nothing_more()


def test_a_mode_that_the_namespace_allows(world, redis, connect):
    node = world.node(redis, settings={"namespace.quote.mode": "latest",
                                       "namespace.quote.modes": "latest all"})
    client = connect(node)
    assert client.subscribe("quote:A", mode="all")["granted"]["mode"] == "all"
    assert client.subscribe("quote:B")["granted"]["mode"] == "latest"
    # Subscribing again: members that are given change, absent ones keep their value.
    assert client.subscribe("quote:A")["granted"]["mode"] == "all"
    assert client.subscribe("quote:A", mode="latest")["granted"]["mode"] == "latest"


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
    """failures.md 20: a price is never parsed and printed again."""
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
        """failures.md 17: `snap` says that it replaces."""
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
    """failures.md 18: what a strict client would ignore is not sent as if it were new."""
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
    """failures.md 9: counted, dropped, never fatal, never forwarded."""
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
        from client import Client
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
    """failures.md 12: a bounded queue, then 4101 slow."""
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


def test_a_client_that_ends_is_forgotten(world, redis, connect, wire):
    node = world.node(redis, settings={"redis.linger_ms": 200})
    clients = [connect(node, channels="quote:GONE,trade:GONE") for _ in range(5)]
    for client in clients:
        client.expect("ack")
    redis.wait_listeners("quote:GONE")
    one = wire(node).upgrade("/ws?channels=quote:GONE")
    node.wait_metric("tickcast_subscriptions", 11)
    one.sock.close()
    for client in clients:
        client.close()
    node.wait_metric("tickcast_subscriptions", 0)
    node.wait_metric("tickcast_connections", 0)
    eventually(lambda: redis.listeners("quote:GONE") == 0, what="the node to unsubscribe in Redis")


def test_interest_that_returns_within_linger_keeps_the_subscription(world, redis, connect):
    node = world.node(redis, settings={"redis.linger_ms": 60000})
    client = connect(node, channels="quote:LINGER")
    client.expect("ack")
    redis.publish("quote:LINGER", "1")
    client.item()
    client.close()
    node.wait_metric("tickcast_subscriptions", 0)
    assert redis.listeners("quote:LINGER") == 1
    again = connect(node, channels="quote:LINGER")
    again.expect("ack")
    redis.publish("quote:LINGER", "2")
    item = again.item()
    if item.get("snap"):
        assert item["data"] == 1
        item = again.item()
    assert item["data"] == 2
