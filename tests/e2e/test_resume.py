"""Client sessions that survive their node: back in one message, on any node, missing nothing."""

import itertools
import json
import random
import re
import socket
import threading
import zlib

import pytest

from client import LOOP, Closed
from wire import CLOSE, TEXT
from world import PUBLISH_LUA, SLOWER, eventually

SETTINGS = {
    "namespace.quote.mode": "latest",
    "namespace.quote.modes": "latest all",
    "namespace.trade.mode": "all",
    "namespace.trade.history": 5000,
    "namespace.alert.mode": "all",
    "redis.linger_ms": 0,
}
ID = re.compile("[0-9a-f]{32}")
NOBODY = "0123456789abcdef" * 2


@pytest.fixture
def redis(world):
    return world.redis()


@pytest.fixture
def nodes(world, redis):
    return world.cluster(2, settings=SETTINGS)


def open_session(connect, node, **query):
    client = connect(node, session="new", **query)
    assert ID.fullmatch(client.hello["session"])
    return client, client.hello["session"]


def status_of(wire, node, path):
    one = wire(node)
    one.send(one.request(path))
    return one.read_head()


def key_of(session):
    return f"{{tc:session:{session}}}"


def stored(redis, session):
    text = redis("GET", key_of(session))
    return json.loads(text) if text else None


def wait_stored(redis, session):
    return eventually(lambda: stored(redis, session), what="the session in Redis")


def lose(client):
    """The socket is gone, as when a network is: no good-bye."""
    sock = client.ws.transport.get_extra_info("socket")
    sock.shutdown(socket.SHUT_RDWR)
    client.ws = None


def resume(client, session, **members):
    return client.ask("resume", session=session, **members)


def nothing_twice(client, session, redis, connect, to):
    """Moves it, and nothing more may come for it."""
    lose(client)
    wait_stored(redis, session)
    again = connect(to)
    assert resume(again, session)["recovered"] == ["trade:A"]
    again.nothing_more()
    return again


# --- ids -----------------------------------------------------------------------------------------


def test_who_asks_gets_an_id(nodes, connect):
    plain = connect(nodes[0])
    assert "session" not in plain.hello and "session_grace_ms" not in plain.hello
    ids = {open_session(connect, node)[1] for node in nodes for _ in range(5)}
    assert len(ids) == 10
    client, _ = open_session(connect, nodes[0], channels="trade:A")
    assert client.hello["session_grace_ms"] == 120000
    ack = client.expect("ack")
    assert ack["accepted"] == 1 and "session" not in ack


def test_malformed_ids(nodes, wire, connect):
    for text in ("", "x", NOBODY[:-1], NOBODY + "0", NOBODY.upper(), "new%20", "%00", "NEW"):
        assert status_of(wire, nodes[0], f"/ws?session={text}") == 400, text
    client = connect(nodes[0])
    for session in ("", "new", NOBODY[:-1], NOBODY.upper(), 7, None, [NOBODY], "é" * 16,
                    "\u0000" * 5):
        reply = client.ask("resume", session=session)
        assert reply["name"] == "bad_command" and "session" in reply["message"], session
    assert client.ask("resume")["name"] == "bad_command"
    assert client.ask("ping")["action"] == "pong"


def test_raw_clients_have_none(nodes, wire):
    for query in ("session=new&format=raw", f"session={NOBODY}&format=raw"):
        assert status_of(wire, nodes[0], f"/ws?{query}") == 400


def test_switched_off(world, redis, connect):
    node = world.node(redis, settings={**SETTINGS, "listen.session_grace_s": 0})
    client = connect(node, session="new", channels="trade:A")
    assert "session" not in client.hello
    client.expect("ack")
    ack = resume(client, NOBODY, channels=["quote:B"])
    assert ack["resumed"] is False and ack["accepted"] == 1 and "session" not in ack
    lose(client)
    eventually(lambda: node.metric("tickcast_connections") == 0)
    assert redis("KEYS", "*session*") == []


# --- moving --------------------------------------------------------------------------------------


class Publisher:
    """Publishes on all channels in turn, until it is stopped; knows what it said."""

    def __init__(self, redis, stamped, plain):
        self.redis = type(redis.client())(redis.port)
        self.script = redis.cli("SCRIPT", "LOAD", PUBLISH_LUA.read_text())
        self.stamped, self.plain = stamped, plain
        self.last = {}
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        for n in itertools.count(1):
            if self.stopping.wait(0.002):  # no faster than what a client may be sent at once
                return
            commands = [("EVALSHA", self.script, 1, f"{{tc:{c}}}", json.dumps({"n": n, "same": "x" * 60}),
                         5000 if c.startswith("trade") else 0, 0) for c in self.stamped]
            commands += [("PUBLISH", f"tc:{c}", json.dumps({"n": n})) for c in self.plain]
            replies = self.redis.many(commands)
            self.last = {c: r[0] for c, r in zip(self.stamped, replies)}

    def stop(self):
        self.stopping.set()
        self.thread.join()
        self.redis.close()
        return self.last


class History:
    """What one client has, by the client's whole rule."""

    def __init__(self):
        self.at = {}  # channel -> (epoch, seq)
        self.missed = {}
        self.repeated = 0
        self.counts = {}

    def take(self, item):
        channel = item["channel"]
        epoch, seq = self.at.get(channel, (None, 0))
        if "seq" not in item:
            return
        if item.get("epoch", epoch) != epoch or item.get("snap"):
            self.at[channel] = (item.get("epoch", epoch), item["seq"])
            self.missed[channel] = self.missed.get(channel, 0) + item.get("missed", 0)
            return
        if item["seq"] <= seq:
            self.repeated += 1
            return
        gap = item["seq"] - seq - 1
        assert gap == item.get("missed", 0), (channel, seq, item)
        self.missed[channel] = self.missed.get(channel, 0) + gap
        self.counts[channel] = self.counts.get(channel, 0) + 1
        self.at[channel] = (epoch, item["seq"])

    def drink(self, client, until):
        """Takes items until the condition holds, or the client is closed: then its code."""
        while True:
            for item in client.pending:
                self.take(item)
            client.pending = []
            if until():
                return None
            try:
                message = client.recv()
            except Closed as end:
                return end.code
            if message["action"] == "push":
                client.pending += message["items"]


@pytest.mark.limit(60)
@pytest.mark.parametrize("compression", [None, "deflate"])
def test_fifty_channels_move_under_load(world, redis, connect, operator, compression):
    nodes = world.cluster(2, settings={**SETTINGS, "limits.hard_bytes": 64 << 20})
    trades = [f"trade:T{i}" for i in range(15)]
    quotes = [f"quote:Q{i}" for i in range(25)]
    plain = [f"alert:P{i}" for i in range(10)]
    options = {"options": {"compression": compression}}
    client, session = open_session(connect, nodes[0], **options)
    client.subscribe(*trades, *plain)
    client.subscribe(*quotes[:10])
    client.subscribe(*quotes[10:20], max_rate=5)
    client.subscribe(*quotes[20:], delta=True)
    before = {c["channel"]: c for c in client.ask("list")["channels"]}
    publisher = Publisher(redis, trades + quotes, plain)
    history = History()
    try:
        for turn in range(4):
            here, there = nodes[turn % 2], nodes[(turn + 1) % 2]
            aim = {c: n + 20 for c, n in history.counts.items()} or {trades[0]: 20}
            history.drink(client, lambda: all(history.counts.get(c, 0) >= aim.get(c, 0)
                                              for c in trades))
            operator.ask(cmd="drain", node=here.id, seconds=0)
            assert history.drink(client, lambda: False) == 4200
            client = connect(there, **options)
            ack = resume(client, session)
            assert ack["resumed"] is True and ack["session"] == session
            assert ack["accepted"] == 50 and ack["rejected"] == []
            assert {c["channel"]: c for c in ack["channels"]} == before
            assert set(trades) <= set(ack["recovered"])
            assert client.pending == []
            assert stored(redis, session) is None
            operator.ask(cmd="undrain", node=here.id)
            here.wait_ready()
    finally:
        last = publisher.stop()
    history.drink(client, lambda: all(history.at.get(c, (0, 0))[1] == last[c]
                                      for c in trades + quotes))
    for channel in trades:
        assert history.missed.get(channel, 0) == 0, channel
    assert history.repeated == 0
    client.close()
    for node in nodes:
        assert node.metric("tickcast_sessions_not_stored_total") == 0
    assert sum(n.metric("tickcast_sessions_stored_total") for n in nodes) == 4
    assert sum(n.metric("tickcast_sessions_asked_total", result="resumed") for n in nodes) == 4


def test_sigterm(nodes, redis, connect):
    """Everybody leaves at once; what was published meanwhile comes with the one ack."""
    client, session = open_session(connect, nodes[0])
    client.subscribe("trade:A", "trade:NEW", "alert:P", "quote:Q")
    for n in range(3):
        redis.stamp("trade:A", str(n), 5000, heard_by=1)
    assert [i["seq"] for i in client.items(3)] == [1, 2, 3]
    nodes[0].terminate()
    assert client.closed() == 4200
    assert nodes[0].wait() == 0
    nodes[0].process = None
    state = wait_stored(redis, session)
    by_name = {c["channel"]: c for c in state["channels"]}
    assert by_name["trade:A"]["seq"] == 3
    assert by_name["trade:NEW"] == {"channel": "trade:NEW", "mode": "all", "epoch": "", "seq": 0}
    assert by_name["alert:P"] == {"channel": "alert:P", "mode": "all"}
    assert 0 < redis("PTTL", key_of(session)) <= 120000
    for channel in ("trade:A", "trade:NEW"):
        redis.stamp(channel, '"meanwhile"', 5000)
        redis.stamp(channel, '"meanwhile"', 5000)
    other = connect(nodes[1], session=session)
    assert "session" not in other.hello and other.hello["session_grace_ms"] == 120000
    ack = other.expect("ack")
    assert "id" not in ack and ack["resumed"] is True and ack["accepted"] == 4
    assert sorted(ack["recovered"]) == ["trade:A", "trade:NEW"]
    items = other.items(4)
    assert [i["seq"] for i in items if i["channel"] == "trade:A"] == [4, 5]
    assert [i["seq"] for i in items if i["channel"] == "trade:NEW"] == [1, 2]
    assert all("snap" not in i for i in items)
    redis.publish("alert:P", "1")
    assert other.item()["channel"] == "alert:P"


def test_sigkill(nodes, redis, connect):
    """Nothing was stored: the client's own positions serve, in the same message."""
    client, session = open_session(connect, nodes[0])
    client.subscribe("trade:A", "quote:Q")
    redis.stamp("trade:A", "1", 5000, heard_by=1)
    epoch = client.item()["epoch"]
    nodes[0].kill()
    redis.stamp("trade:A", "2", 5000)
    other = connect(nodes[1])
    ack = resume(other, session, channels=["trade:A", "quote:Q", "x:y"],
                 since={"trade:A": {"epoch": epoch, "seq": 1}})
    assert ack["resumed"] is False and ack["accepted"] == 2
    assert ack["rejected"][0]["channel"] == "x:y" and ack["recovered"] == ["trade:A"]
    assert ID.fullmatch(ack["session"]) and ack["session"] != session
    assert other.item()["seq"] == 2
    lose(other)
    assert len(wait_stored(redis, ack["session"])["channels"]) == 2


def test_without_anything_to_fall_back_on(nodes, connect):
    client = connect(nodes[0], session=NOBODY)
    ack = client.expect("ack")
    assert ack["resumed"] is False and ack["accepted"] == 0 and ack["channels"] == []
    assert ID.fullmatch(ack["session"]) and ack["session"] != NOBODY
    assert client.ask("ping")["action"] == "pong"


def test_channels_of_the_url(nodes, connect):
    client = connect(nodes[0], session=NOBODY, channels="trade:A,quote:B,bad")
    ack = client.expect("ack")
    assert ack["resumed"] is False and ack["accepted"] == 2
    assert [r["name"] for r in ack["rejected"]] == ["bad_channel"]


def test_a_value_that_has_ended(nodes, redis, connect):
    """A node that never saw the channel's values knows up to where they were numbered all the same."""
    client, session = open_session(connect, nodes[0])
    client.subscribe("trade:A")
    for payload in ("1", "2", ""):
        redis.stamp("trade:A", payload, 100)
    assert client.items(3)[2]["cleared"]
    for to in (1, 0, 1):
        client = nothing_twice(client, session, redis, connect, nodes[to])
    redis.stamp("trade:A", "4", 100)
    assert client.item()["seq"] == 4
    lose(client)
    wait_stored(redis, session)
    redis.stamp("trade:A", "5", 100)
    client = connect(nodes[0])
    assert resume(client, session)["recovered"] == ["trade:A"]
    assert client.item()["seq"] == 5
    client.nothing_more()


def test_what_the_client_has_counts(nodes, redis, connect):
    client, session = open_session(connect, nodes[0], channels="trade:A")
    client.expect("ack")
    for n in range(5):
        redis.stamp("trade:A", str(n), 5000, heard_by=1)
    epoch = client.items(5)[0]["epoch"]
    lose(client)
    assert wait_stored(redis, session)["channels"][0]["seq"] == 5
    other = connect(nodes[1])
    ack = resume(other, session, since={"trade:A": {"epoch": epoch, "seq": 2}})
    assert ack["resumed"] is True
    assert [i["seq"] for i in other.items(3)] == [3, 4, 5]
    other.nothing_more()


def test_it_can_be_had_once(nodes, redis, connect):
    client, session = open_session(connect, nodes[0], channels="trade:A")
    client.expect("ack")
    lose(client)
    wait_stored(redis, session)
    others = [connect(node) for node in nodes for _ in range(3)]
    for other in others:
        other.send(action="resume", id=1, session=session)
    acks = [other.wait_for("ack") for other in others]
    assert sorted(a["resumed"] for a in acks) == [False] * 5 + [True]
    assert len({a["session"] for a in acks}) == 6
    assert [a["session"] == session for a in acks] == [a["resumed"] for a in acks]


def test_operators_see_who_comes_back(nodes, redis, connect):
    client, session = open_session(connect, nodes[0])
    for times in range(3):
        clients = nodes[0].ops_get("/api/v1/clients").json()["clients"]
        assert [c["reconnects"] for c in clients] == [times]
        assert session not in json.dumps(clients)  # it is a secret
        lose(client)
        wait_stored(redis, session)
        client = connect(nodes[0])
        assert resume(client, session)["resumed"] is True


def test_one_at_a_time_on_a_connection(nodes, connect):
    client = connect(nodes[0])
    client.send(action="resume", id=1, session=NOBODY)
    client.send(action="resume", id=2, session=NOBODY)
    assert client.wait_for("error")["name"] == "rate_limited"
    assert client.wait_for("ack")["id"] == 1
    first = resume(client, NOBODY)["session"]
    assert resume(client, NOBODY)["session"] == first


def test_it_expires(world, redis, connect):
    node = world.node(redis, settings={**SETTINGS, "listen.session_grace_s": 1})
    client, session = open_session(connect, node, channels="trade:A")
    client.expect("ack")
    lose(client)
    wait_stored(redis, session)
    eventually(lambda: stored(redis, session) is None)
    ack = resume(connect(node), session)
    assert ack["resumed"] is False
    assert node.metric("tickcast_sessions_asked_total", result="unknown") == 1


# --- which ends keep it ----------------------------------------------------------------------------


def test_who_says_good_bye_has_left(nodes, redis, connect, operator):
    """1000, a kick: over. 1001: a page that is left may come back."""
    ended, kicked, away = [open_session(connect, nodes[0], channels="trade:A") for _ in range(3)]
    for client, _ in (ended, kicked, away):
        client.expect("ack")
    operator.ask(2, cmd="kick", conn=kicked[0].hello["conn"])
    kicked[0].closed()
    ended[0].close()
    LOOP.run(away[0].ws.close(1001), 5 * SLOWER)
    wait_stored(redis, away[1])
    eventually(lambda: nodes[0].metric("tickcast_connections") == 0)
    assert redis("KEYS", "*session*") == [key_of(away[1]).encode()]


def test_leaving_early_when_told_so(nodes, redis, connect, operator):
    client, session = open_session(connect, nodes[0], channels="trade:A")
    other = connect(nodes[0])
    client.expect("ack")
    operator.ask(cmd="drain", node="n1", seconds=600)
    client.wait_for("drain")
    if client.is_open():
        client.close()
    ack = resume(connect(nodes[1]), session)
    assert ack["resumed"] is True and ack["accepted"] == 1
    other.close()


def items_received(one):
    """All items of whole messages, up to the end of the stream."""
    items = []
    try:
        while True:
            got = one.recv_frame()
            if got.opcode == CLOSE:
                break
            text = got.payload
            if got.rsv:
                text = zlib.decompressobj(-15).decompress(text + b"\0\0\xff\xff")
            if got.opcode == TEXT:
                items += json.loads(text).get("items", [])
    except EOFError:
        pass
    return items


@pytest.mark.limit(60)
def test_what_was_not_written_was_not_sent(world, redis, wire, connect):
    """Clients that stop reading, and are given up: in step, behind with queues of their own,
    compressed. Each position is where the bytes ended, or little before, never behind it."""
    node = world.node(redis, settings={**SETTINGS, "node.ping_ms": 600, "limits.unsent_bytes": 0,
                                       "limits.hard_bytes": 64 << 20, "node.workers": 2})
    trades = ["trade:A", "trade:B", "trade:C"]
    kinds = {}
    for mixed in (False, True):
        for extension in (None, "permessage-deflate"):
            one = wire(node, receive_buffer=4096)
            channels = trades + (["quote:Q", "quote:R"] if mixed else [])
            one.upgrade(f"/ws?session=new&channels={','.join(channels)}",
                        Sec_WebSocket_Extensions=extension)
            hello = one.recv_frame()
            text = hello.payload
            if hello.rsv:
                text = zlib.decompressobj(-15).decompress(text + b"\0\0\xff\xff")
            kinds[json.loads(text)["session"]] = one
    eventually(lambda: node.metric("tickcast_subscriptions") == 16)
    for channel in (trades + ["quote:Q", "quote:R"]) * 2:
        for _ in range(50):
            redis.stamp(channel, json.dumps(random.randbytes(9000).hex()), 5000)
    eventually(lambda: node.metric("tickcast_sessions_stored_total") == 4, 20 * SLOWER)
    assert node.metric("tickcast_connections_ended_total", cause="ping_timeout") == 4
    for session, one in kinds.items():
        state = {c["channel"]: c for c in stored(redis, session)["channels"]}
        got = items_received(one)
        assert len(got) < 100 * len(state)
        client = connect(node)
        ack = resume(client, session)
        assert ack["resumed"] is True and set(trades) <= set(ack["recovered"])
        assert set(state) == {c["channel"] for c in ack["channels"]}
        again = client.items(sum(100 - state[c]["seq"] for c in trades) + len(state) - 3)
        for channel in trades:
            had = [i["seq"] for i in got if i["channel"] == channel]
            assert had == list(range(1, len(had) + 1))
            assert len(had) - 3 <= state[channel]["seq"] <= len(had), (channel, len(had), state)
            assert [i["seq"] for i in again if i["channel"] == channel] == \
                list(range(state[channel]["seq"] + 1, 101))
        for channel in set(state) - set(trades):
            had = [i["seq"] for i in got if i["channel"] == channel]
            # Without a position where no item was even begun.
            assert state[channel].get("seq", 0) <= max(had, default=0), (channel, had, state)
            assert [i["seq"] for i in again if i["channel"] == channel] == [100]
        client.close()


# --- hostile or absent Redis ---------------------------------------------------------------------


def test_stored_junk(nodes, redis, connect):
    junk = ["x", "null", "[]", "{}", '{"v":1}', '{"v":2,"channels":[]}', b"\xff",
            '{"v":1,"channels":[{"channel":"bad","mode":"all"}]}',
            '{"v":1,"channels":[{"channel":"trade:A","mode":"all","seq":1}]}',
            '{"v":1,"channels":[' + "[" * 600, "x" * ((1 << 20) + 1)]
    for text in junk:
        redis("SET", key_of(NOBODY), text)
        client = connect(nodes[0])
        ack = resume(client, NOBODY, channels=["trade:A"])
        assert ack["resumed"] is False and ack["accepted"] == 1 and ack["session"] != NOBODY
        client.close()
    nodes[0].wait_metric("tickcast_sessions_asked_total", len(junk), result="unusable")


def test_another_type(nodes, redis, connect):
    redis("HSET", key_of(NOBODY), "a", "b")
    ack = resume(connect(nodes[0]), NOBODY)
    assert ack["resumed"] is False
    assert redis("HGET", key_of(NOBODY), "a") == b"b"


def test_a_session_larger_than_a_publication(world, redis, connect):
    """limits.payload_bytes is for publications, and so for what else comes in one reply of Redis."""
    nodes = world.cluster(2, settings=SETTINGS | {"limits.payload_bytes": 1000})
    channels = [f"quote:{n:03}" for n in range(200)]
    client, session = open_session(connect, nodes[0])
    client.subscribe(*channels)
    lose(client)
    wait_stored(redis, session)
    ack = resume(connect(nodes[1]), session)
    assert ack["resumed"] is True and ack["accepted"] == len(channels)
    assert "redis_lost" not in nodes[1].log()


def test_stored_channels_that_are_not_allowed(nodes, redis, connect):
    channels = [{"channel": "x:y", "mode": "all"}, {"channel": "trade:A", "mode": "latest"},
                {"channel": "quote:B", "mode": "all", "max_rate": 9}, {"channel": "quote:B", "mode": "all"}]
    redis("SET", key_of(NOBODY), json.dumps({"v": 1, "channels": channels}))
    ack = resume(connect(nodes[0]), NOBODY)
    assert ack["resumed"] is True and ack["accepted"] == 2
    assert [r["name"] for r in ack["rejected"]] == ["unknown_namespace"]
    assert {c["channel"]: c["mode"] for c in ack["channels"]} == {"trade:A": "all", "quote:B": "all"}


def test_redis_is_down(world, redis, connect):
    node = world.node(redis, settings=SETTINGS)
    client, _ = open_session(connect, node, channels="trade:A")
    client.expect("ack")
    redis.kill()
    node.wait_suspect()
    lose(client)
    eventually(lambda: node.metric("tickcast_sessions_not_stored_total") == 1)
    other = connect(node)
    ack = resume(other, NOBODY, channels=["trade:A"])
    assert ack["resumed"] is False and ack["accepted"] == 1 and ack["feed"] == "suspect"
    assert node.metric("tickcast_sessions_asked_total", result="redis_away") == 1
    redis.start()
    other.wait_for("state", 10 * SLOWER, feed="ok")
    redis.publish("trade:A", "1")
    assert other.item()["data"] == 1


def test_redis_hangs(world, redis, connect):
    node = world.node(redis, settings={**SETTINGS, "redis.canary_ms": 20000})
    client = connect(node)
    redis.pause()
    try:
        ack = resume(client, NOBODY)
        assert ack["resumed"] is False
    finally:
        redis.resume()
    assert client.ask("ping")["action"] == "pong"
    node.wait_ready()


def test_a_slow_redis_costs_no_session(world, redis, connect):
    """Redis gives it when nobody waits any more: it is there for the next time."""
    nodes = world.cluster(2, settings={**SETTINGS, "redis.canary_ms": 20000})
    client, session = open_session(connect, nodes[0])
    client.subscribe("trade:A", "quote:B")
    lose(client)
    wait_stored(redis, session)
    client = connect(nodes[1])
    redis.pause()
    try:
        for _ in range(2):
            assert resume(client, session)["resumed"] is False
    finally:
        redis.resume()
    nodes[1].wait_ready()
    eventually(lambda: redis("TTL", key_of(session)) > 0, what="the session to be put back")
    ack = resume(client, session)
    assert ack["resumed"] is True and ack["accepted"] == 2 and ack["session"] == session


def test_a_node_ends_when_redis_has_every_session(world, redis, connect):
    """More of them than are on the link at once, and Redis does not answer just now."""
    node = world.node(redis, settings={**SETTINGS, "redis.canary_ms": 20000, "listen.drain_s": 0})
    clients = [connect(node, session="new") for _ in range(300)]
    redis.pause()
    try:
        node.terminate()
        eventually(lambda: "event=drain state=drained" in node.log())
        eventually(lambda: node.metric("tickcast_sockets") == 0)
        # Without anything to wait for it would have ended by the third look at its loops.
        looks = node.metric("tickcast_loop_lag_seconds_count")
        eventually(lambda: node.metric("tickcast_loop_lag_seconds_count") > looks + 6)
    finally:
        redis.resume()
    assert node.wait(20 * SLOWER) == 0
    node.process = None
    assert len(redis("KEYS", "{tc:session:*")) == len(clients)


def test_gone_before_the_answer(nodes, redis, connect):
    """Who asks and is gone before it is told has not used the session up."""
    client, session = open_session(connect, nodes[0], channels="trade:A")
    client.expect("ack")
    lose(client)
    wait_stored(redis, session)
    redis.pause()
    hasty = connect(nodes[1])
    hasty.send(action="resume", id=1, session=session)
    eventually(lambda: nodes[1].metric("tickcast_client_commands_total") == 1)
    lose(hasty)
    eventually(lambda: nodes[1].metric("tickcast_connections") == 0)
    redis.resume()
    nodes[1].wait_ready()
    ack = resume(connect(nodes[0]), session)
    assert ack["resumed"] is True and ack["accepted"] == 1
