"""The client protocol, version 1 (docs/protocol.md, 2.2 to 2.4): what a client says, and
what keeps or ends its connection. What it is sent is in test_publications.py."""

import json
import time

import pytest

from world import SLOWER, eventually
from wire import CLOSE, PING, PONG, TEXT, close_frame, frame

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

@pytest.mark.parametrize("number", [0, 1, -1, 2**53 - 1, 2**63 - 1, "", "a", "x" * 64, "\u20ac" * 21,
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
    """A quiet symbol does not look like a frozen feed."""
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


def test_heartbeat_in_spite_of_pings(world, redis, wire):
    """A page does not see control frames: to it they are silence."""
    node = world.node(redis, settings={"node.heartbeat_ms": 400, "node.ping_ms": 200})
    one = wire(node).upgrade()
    assert json.loads(one.recv_frame().payload)["action"] == "hello"
    for _ in range(10):  # two seconds of pings
        got = one.recv_frame()
        if got.opcode == TEXT:
            break
        one.send_frame(PONG, got.payload)
    assert got.opcode == TEXT and json.loads(got.payload)["action"] == "heartbeat"


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
        """Closed after two unanswered pings, well under a minute."""
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
    node = world.node(redis, settings={"limits.commands_per_s": 5})
    one = wire(node).upgrade()
    one.recv_frame()
    one.send(b"".join(frame(PING, b"%d" % i) + frame(PONG) for i in range(500)))
    for i in range(500):
        one.expect(PONG, b"%d" % i)
    one.send_frame(TEXT, "{\"action\":\"list\"}")
    assert json.loads(one.recv_frame().payload)["action"] == "ack"


def test_pong_overtakes_queued_data(world, redis, wire):
    """A pong must not stand behind megabytes that the client has yet to read."""
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


@pytest.mark.parametrize("path", ["/ws", "/ws?format=raw"])
def test_a_client_that_never_stops_is_closed(world, redis, wire, path):
    """Whatever it says: a raw client has no commands, but what it sends costs the node as much."""
    node = world.node(redis, settings={"limits.commands_per_s": 5})
    one = wire(node).upgrade(path)
    one.try_send(frame(TEXT, '{"action":"list"}') * 1000)
    before = []
    one.expect_close(4103, before=before)
    last = json.loads(before[-1].payload) if "raw" not in path else None
    assert last is None or (last["name"], last["fatal"]) == ("rate_limited", True)
    node.wait_metric("tickcast_connections_ended_total", 1, cause="limit")


def test_nothing_more_is_heard_of_a_client_that_never_stops(world, redis, wire):
    """Its close frame is not waited for: to look for that, all that stands before is decoded."""
    node = world.node(redis, settings={"limits.commands_per_s": 5})
    one = wire(node).upgrade()
    one.try_send(frame(TEXT, '{"action":"list"}') * 1000)
    while one.recv_frame().opcode != CLOSE:
        pass
    assert one.read_to_end(timeout=2) == b""  # a close frame is waited for 3 s


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
    names = ["quote:HAVE-NOT", "bad", "quote:b d", "x:y"]
    assert errors(client.ask(action, channels=names)) == [
        "not_subscribed", "bad_channel", "bad_channel", "unknown_namespace"]
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


# --- leaving ---------------------------------------------------------------------------------------

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
