"""Admin commands through Redis (docs/protocol.md, 4)."""

import json

import pytest

from client import Closed
from world import eventually


@pytest.fixture
def nodes(world, redis):
    return world.cluster(2, settings={"node.workers": 2})


def test_every_node_answers_ping(operator, nodes, redis):
    """The operator knows which nodes acted."""
    replies = operator.ask(2, cmd="ping")
    assert [r["node"] for r in replies] == ["n1", "n2"]
    for reply in replies:
        assert reply["cmd"] == "ping" and reply["ok"] is True
    life = redis("TTL", "tc:admin:reply:op1")
    assert 0 < life <= 60


def test_a_notice_reaches_everyone(operator, nodes, connect):
    clients = [connect(node) for node in nodes for _ in range(5)]
    data = '{"text": "maintenance at 18:00", "price": 1.10}'
    operator.redis.wait_listeners("admin", 2)
    operator.redis.cli("PUBLISH", "tc:admin", '{"cmd":"notice","id":"7","data":' + data + '}')
    for client in clients:
        text = client.recv_text()
        assert json.loads(text) == {"action": "notice", "data": json.loads(data)}
        assert data in text
    replies = operator.replies("7", 2)
    assert [(r["node"], r["cmd"], r["ok"], r["affected"]) for r in replies] == [
        ("n1", "notice", True, 5), ("n2", "notice", True, 5)]


def test_a_notice_may_hold_a_nul_and_members_of_tomorrow(operator, nodes, connect):
    client = connect(nodes[0])
    replies = operator.ask(2, cmd="notice", data="a\0b", User=5, reason=5)
    assert [r["ok"] for r in replies] == [True, True]
    assert client.expect("notice")["data"] == "a\0b"


def test_a_notice_to_a_channels_subscribers(operator, nodes, connect):
    inside = [connect(node) for node in nodes]
    for client in inside:
        client.subscribe("quote:IN")
    outside = connect(nodes[0])
    replies = operator.ask(2, cmd="notice", data="hi", channel="quote:IN")
    assert [r["affected"] for r in replies] == [1, 1]
    for client in inside:
        assert client.expect("notice")["data"] == "hi"
    outside.nothing_more()


def test_a_notice_to_a_user_touches_nobody_else(operator, nodes, connect):
    client = connect(nodes[0])
    replies = operator.ask(2, cmd="notice", data="hi", user="42")
    assert [(r["ok"], r["affected"]) for r in replies] == [(True, 0), (True, 0)]
    client.nothing_more()


def test_raw_clients_get_no_notice(operator, nodes, connect):
    raw = connect(nodes[0], raw=True, channels="quote:R")
    operator.ask(2, cmd="notice", data="hi")
    operator.redis.publish("quote:R", "1")
    assert raw.recv_text() == "1"


@pytest.mark.parametrize("extra, code, reason", [
    ({}, 4005, None),
    ({"code": 4009, "reason": "newer login"}, 4009, "newer login"),
    ({"code": 4001}, 4001, None),
])
def test_kick_by_connection(operator, nodes, connect, extra, code, reason):
    victim, bystander = connect(nodes[0]), connect(nodes[0])
    replies = operator.ask(2, cmd="kick", conn=victim.hello["conn"], **extra)
    assert [(r["ok"], r["affected"]) for r in replies] == [(True, 1), (True, 0)]
    with pytest.raises(Closed) as end:
        victim.recv_text()
    assert end.value.code == code
    if reason:
        assert end.value.reason == reason
    bystander.nothing_more()
    nodes[0].wait_metric("tickcast_connections_ended_total", 1, cause="kicked")


def test_kick_of_nobody(operator, nodes, connect):
    client = connect(nodes[0])
    replies = operator.ask(2, cmd="kick", conn="n1-ffffffff")
    assert [(r["ok"], r["affected"]) for r in replies] == [(True, 0), (True, 0)]
    client.nothing_more()


def test_loglevel(operator, nodes):
    def lines_of_a_refusal(node):
        before = node.log()
        assert node.get("/nope").status == 404
        operator.ask(2, cmd="ping")
        return node.log()[len(before):]

    assert "level=debug" not in lines_of_a_refusal(nodes[0])
    replies = operator.ask(2, cmd="loglevel", level="debug")
    assert all(r["ok"] for r in replies)
    for node in nodes:
        eventually(lambda: "level=debug" in lines_of_a_refusal(node), what="a line of level debug")
    operator.ask(1, cmd="loglevel", level="error", node="n1")
    eventually(lambda: lines_of_a_refusal(nodes[0]) == "", what="silence")
    assert "level=debug" in lines_of_a_refusal(nodes[1])


def test_stats(operator, nodes, connect):
    clients = [connect(nodes[0], channels="quote:ST") for _ in range(3)]
    for client in clients:
        client.expect("ack")
    first, second = operator.ask(2, cmd="stats")
    assert first["ok"] is True and second["ok"] is True
    assert first["node"] == "n1"

    def numbers(value):
        if isinstance(value, dict):
            return set().union(*map(numbers, value.values()))
        return {value} if isinstance(value, (int, float)) else set()

    assert 3 in numbers(first)


@pytest.mark.parametrize("command", [
    {"cmd": "notice", "data": 1},
    {"cmd": "ping"},
    {"cmd": "kick", "conn": "x"},
])
def test_a_command_for_one_node(operator, nodes, connect, command):
    """The others stay silent."""
    client = connect(nodes[0])
    (reply,) = operator.ask(1, node="n2", **command)
    assert (reply["node"], reply["ok"]) == ("n2", True)
    operator.ask(2, cmd="ping")  # n1 has had its turn by now
    assert operator.redis("LLEN", "tc:admin:reply:op1") == 1
    client.nothing_more()


def test_a_command_for_a_node_that_is_not_there(operator, nodes):
    operator.send(2, cmd="ping", id="lost", node="n9")
    operator.ask(2, cmd="ping")
    assert operator.redis("EXISTS", "tc:admin:reply:lost") == 0


def test_without_an_id_nobody_answers_but_all_act(operator, nodes, redis, connect):
    client = connect(nodes[0])
    operator.send(2, cmd="notice", data="quiet")
    assert client.expect("notice")["data"] == "quiet"
    operator.ask(2, cmd="ping")
    assert redis("KEYS", "tc:admin:reply:*") == [b"tc:admin:reply:op1"]


BAD = [
    {"cmd": "explode"},
    {"cmd": ""},
    {"cmd": 7},
    {},
    {"cmd": "PING"},
    {"cmd": "notice"},
    {"cmd": "notice", "data": 1, "channel": 5},
    {"cmd": "notice", "data": 1, "channel": "not a channel"},
    {"cmd": "notice", "data": 1, "user": 5},
    {"cmd": "kick"},
    {"cmd": "kick", "conn": 5},
    {"cmd": "kick", "conn": "x", "code": 999},
    {"cmd": "kick", "conn": "x", "code": 1005},
    {"cmd": "kick", "conn": "x", "code": "4005"},
    {"cmd": "kick", "conn": "x", "reason": "r" * 200},
    {"cmd": "loglevel"},
    {"cmd": "loglevel", "level": "loud"},
    {"cmd": "loglevel", "level": 3},
    {"cmd": "ping", "node": 5},
    {"cmd": "ping", "Node": "n2"},
    {"cmd": "ping", "node": "n1\0x"},
    {"cmd": "ping\0x"},
    {"cmd\0x": "ping"},
    {"cmd": "kick", "conn": "x", "user": 5},
    {"cmd": "kick", "conn": 5, "user": "x"},
    {"cmd": "unsubscribe", "conn": "x", "user": 5, "channel": "quote:A"},
]


@pytest.mark.parametrize("command", BAD, ids=lambda c: json.dumps(c)[:60])
def test_a_bad_command_is_answered_counted_and_changes_nothing(world, redis, connect, operator,
                                                               command):
    node = world.node(redis)
    client = connect(node)
    (reply,) = operator.ask(1, **command)
    assert reply["node"] == "n1" and reply["ok"] is False
    assert isinstance(reply["error"], str) and reply["error"]
    node.wait_metric("tickcast_admin_commands_total", 1, result="error")
    client.nothing_more()


@pytest.mark.parametrize("payload", [b"", b"nonsense", b"[]", b"5", b"null", b"{", b"\xff\xfe",
                                     b'{"cmd":"ping","id":5}', b'{"cmd":"ping","id":{}}',
                                     b'{"cmd":"ping","id":"' + b"x" * 5000 + b'"}',
                                     b"[" * 100000, b"@e:1:1 {\"cmd\":\"ping\"}"],
                         ids=lambda p: repr(p[:30]))
def test_what_is_no_command_at_all(world, redis, connect, operator, payload):
    """Counted, never fatal."""
    node = world.node(redis)
    client = connect(node)
    redis.publish("admin", payload)
    eventually(lambda: node.metric("tickcast_admin_commands_total") >= 1)
    (reply,) = operator.ask(1, cmd="ping")
    assert reply["ok"] is True
    client.nothing_more()


def test_an_id_cannot_reach_another_key(world, redis, operator):
    """The id becomes part of a key's name: it can neither break out of it nor of the protocol."""
    world.node(redis)
    redis("SET", "victim", "untouched")
    for name in ("a\r\nDEL victim\r\n", "..", "{x}", "\u20ac", "a b"):
        redis.publish("admin", json.dumps({"cmd": "ping", "id": name}))
    operator.ask(1, cmd="ping")
    assert redis("GET", "victim") == b"untouched"
    for key in redis("KEYS", "*"):
        assert key == b"victim" or key.startswith(b"tc:"), key


@pytest.mark.parametrize("own", ["1780000000123456789", "-7", '"18:00, \u20ac"', '"a\\nb"'])
def test_an_id_is_a_clients_id(world, redis, operator, own):
    """Any integer, as it was written, and any short text."""
    world.node(redis)
    redis.publish("admin", f'{{"cmd":"ping","id":{own}}}', 1)
    (reply,) = operator.replies(json.loads(own))
    assert reply["ok"] is True and reply["trace"] == f"admin:{json.loads(own)}"


def test_ctl_admin_prints_the_replies(nodes, redis, ctl):
    done = ctl("admin", "--redis", redis.url, '{"cmd":"ping"}')
    answers = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert sorted(a["node"] for a in answers) == ["n1", "n2"]


@pytest.mark.limit(60)
def test_admin_works_again_after_an_outage(world, redis, operator):
    node = world.node(redis, settings={"redis.canary_ms": 200})
    redis.restart()
    node.wait_ready()
    (reply,) = operator.ask(1, cmd="ping")
    assert reply["ok"] is True
