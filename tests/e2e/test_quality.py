"""Connection quality: what is measured of pings, and alerts that are raised and cleared once."""

import heapq
import json
import re
import select
import threading
import time

import pytest

from wire import CLOSE, PING, PONG, TEXT, Wire
from world import SLOWER, eventually

OFF = {"quality.lost_percent": 0, "quality.rtt_deviation_ms": 0, "quality.short_lived_per_hour": 0}


def logged(node, alert):
    """The events that the node logged about an alert, in order."""
    return re.findall(rf"event=(alert_\w+) alert={alert} ", node.log())


def wait_logged(node, alert, *events):
    """Lines are written by a thread of their own, and may come a little later than the rest."""
    eventually(lambda: len(logged(node, alert)) >= len(events), what=f"{len(events)} log lines")
    assert logged(node, alert) == list(events)


def wait_raised(node, alert, timeout=15 * SLOWER):
    node.wait_metric("tickcast_alert_active", 1, timeout, alert=alert)


def wait_cleared(node, alert, timeout=15 * SLOWER):
    node.wait_metric("tickcast_alert_active", 0, timeout, alert=alert)


def visit(node):
    """Connects, and leaves as soon as it was greeted."""
    with Wire(node) as one:
        one.upgrade()
        one.recv_frame()


class Answerer:
    """Answers the pings of some connections after a delay of the test's choice, until it is stopped.
    delay(n): seconds for the n-th ping of a connection; None: no answer."""

    def __init__(self, wires, delay):
        self.wires = {w.sock.fileno(): (w, [0]) for w in wires}
        self.delay = delay
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def stop(self):
        self.stopped.set()
        self.thread.join()

    def _run(self):
        due = []  # (time, number, wire, payload)
        number = 0
        while not self.stopped.is_set():
            while due and due[0][0] <= time.monotonic():
                _, _, wire, payload = heapq.heappop(due)
                wire.try_send_pong(payload)
            for fd in select.select(list(self.wires), [], [], 0.01)[0]:
                wire, count = self.wires[fd]
                try:
                    got = wire.recv_frame()
                except EOFError:
                    got = None
                if got is None or got.opcode == CLOSE:
                    del self.wires[fd]
                elif got.opcode == PING:
                    wait = self.delay(count[0])
                    count[0] += 1
                    number += 1
                    if wait is not None:
                        heapq.heappush(due, (time.monotonic() + wait, number, wire, got.payload))


class Patient(Wire):
    def try_send_pong(self, payload):
        try:
            self.send_frame(PONG, payload)
        except OSError:
            pass


@pytest.fixture
def crowd():
    """crowd(node, count, delay) -> Answerer of that many connections."""
    made = []

    def make(node, count, delay):
        wires = [Patient(node).upgrade() for _ in range(count)]
        made.append((Answerer(wires, delay), wires))
        return made[-1][0]

    yield make
    for answerer, wires in made:
        answerer.stop()
        for wire in wires:
            wire.close()


@pytest.fixture
def listen(connect):
    """listen(node) -> a client that follows alert:node."""
    def make(node):
        client = connect(node, channels="alert:node")
        assert client.expect("ack")["accepted"] == 1
        return client
    return make


@pytest.fixture
def listener(world, redis, listen):
    """A client of another node."""
    return listen(world.node(redis, name="other", settings=OFF))


def hears(listener, node, alert, state, threshold):
    told = listener.item(timeout=15 * SLOWER)["data"]
    assert set(told) == {"node", "alert", "state", "value", "threshold", "ts"}
    assert (told["node"], told["alert"], told["state"]) == (node.id, alert, state)
    assert told["threshold"] == threshold
    assert abs(told["ts"] / 1000 - time.time()) < 60
    return told


# --- alerts --------------------------------------------------------------------------------------

def test_lost_heartbeats(world, redis, listener, crowd, connect):
    node = world.node(redis, settings={**OFF, "node.ping_ms": 300, "node.workers": 2,
                                       "quality.lost_percent": 40, "quality.min_pings": 10,
                                       "quality.window_ms": 2000})
    good = [connect(node) for _ in range(3)]
    crowd(node, 12, lambda n: None)  # each loses two pings, and is closed
    told = hears(listener, node, "lost_heartbeats", "raised", 40)
    assert 40 <= told["value"] <= 100
    told = hears(listener, node, "lost_heartbeats", "cleared", 40)
    assert told["value"] < 30
    wait_cleared(node, "lost_heartbeats")
    listener.nothing_more()
    wait_logged(node, "lost_heartbeats", "alert_raised", "alert_cleared")
    assert node.metric("tickcast_alerts_raised_total", alert="lost_heartbeats") == 1
    assert node.metric("tickcast_pings_unanswered_total") >= 24
    for client in good:
        client.nothing_more()


def test_answers_that_vary(world, redis, listen, crowd):
    node = world.node(redis, settings={**OFF, "node.ping_ms": 350, "quality.rtt_deviation_ms": 50,
                                       "quality.min_pings": 10, "quality.window_ms": 1500})
    listener = listen(node)
    shaky = crowd(node, 6, lambda n: 0.23 if n % 2 else 0)
    told = hears(listener, node, "rtt_deviation", "raised", 50)
    assert 50 <= told["value"] < 400
    assert node.metric("tickcast_alert_active", alert="rtt_deviation") == 1
    shaky.delay = lambda n: 0
    told = hears(listener, node, "rtt_deviation", "cleared", 50)
    assert told["value"] < 37.5
    listener.nothing_more()
    wait_logged(node, "rtt_deviation", "alert_raised", "alert_cleared")
    assert node.metric("tickcast_ping_seconds_count") >= 20
    assert node.metric("tickcast_ping_seconds_sum") > 0.23


def test_five_short_lives_within_the_hour_are_the_default(world, redis, listen):
    node = world.node(redis)
    listener = listen(node)
    for _ in range(4):
        visit(node)
    node.wait_metric("tickcast_short_lived_in_window", 4)
    listener.nothing_more()
    visit(node)
    assert hears(listener, node, "short_lived", "raised", 5)["value"] == 5
    visit(node)
    node.wait_metric("tickcast_short_lived_in_window", 6)
    listener.nothing_more()
    wait_logged(node, "short_lived", "alert_raised")


def test_short_lives_are_forgotten(world, redis, listen):
    node = world.node(redis, settings={"quality.short_lived_per_hour": 3,
                                       "quality.short_lived_window_ms": 1000 * SLOWER})
    listener = listen(node)
    for episode in range(2):
        for _ in range(3):
            visit(node)
        hears(listener, node, "short_lived", "raised", 3)
        assert hears(listener, node, "short_lived", "cleared", 3)["value"] <= 2
    listener.nothing_more()
    wait_logged(node, "short_lived", *["alert_raised", "alert_cleared"] * 2)
    assert node.metric("tickcast_connections_short_lived_total") == 6


def test_whom_the_operator_ends_is_not_short_lived(world, redis, connect):
    """Neither who is kicked, nor whom a drain closes, nor who leaves it early, as it is asked to."""
    node = world.node(redis, settings={"listen.drain_grace_s": 0})
    visit(node)  # the only one that counts
    node.wait_metric("tickcast_connections_short_lived_total", 1)
    kicked, leaves, stays = [connect(node) for _ in range(3)]
    redis("PUBLISH", "tc:admin", json.dumps({"cmd": "kick", "conn": kicked.hello["conn"]}))
    assert kicked.closed() == 4005
    redis("PUBLISH", "tc:admin", json.dumps({"cmd": "drain", "seconds": 1}))
    leaves.wait_for("drain")
    leaves.close()
    assert stays.closed() == 4200
    node.wait_metric("tickcast_connections", 0)
    assert node.metric("tickcast_connections_short_lived_total") == 1


# --- one connection ------------------------------------------------------------------------------

def test_a_connection_shows_its_round_trips(world, redis, connect, crowd, wire):
    node = world.node(redis, settings={**OFF, "node.ping_ms": 400, "node.workers": 2})
    crowd(node, 1, lambda n: 0.1 if n % 2 else 0.15)

    def shown():
        return node.ops_get("/api/v1/clients").json()["clients"]

    one, = eventually(lambda: [c for c in shown() if c["rtt_deviation_ms"] is not None],
                      10 * SLOWER)
    assert 100 <= one["rtt_ms"] < 8191 and 0 < one["rtt_deviation_ms"] < 8191
    assert one["reconnects"] is None  # nobody knows who it is
    silent = wire(node).upgrade()
    eventually(lambda: any(c["pings_unanswered"] == 2 for c in shown()), 10 * SLOWER)
    last = max(shown(), key=lambda c: c["pings_unanswered"])
    assert last["rtt_ms"] is None and last["rtt_deviation_ms"] is None
    silent.close()


# --- telling -------------------------------------------------------------------------------------

def test_an_alert_of_an_outage_is_told_once_when_redis_is_back(world, redis, listener):
    node = world.node(redis, settings={"quality.short_lived_per_hour": 2})
    redis.kill()
    node.wait_suspect()
    for _ in range(3):
        visit(node)
    wait_raised(node, "short_lived")
    redis.start()
    hears(listener, node, "short_lived", "raised", 2)
    node.wait_ready()
    listener.nothing_more()
    wait_logged(node, "short_lived", "alert_raised")


def test_an_alert_that_went_during_an_outage_is_not_told(world, redis, listener):
    node = world.node(redis, settings={"quality.short_lived_per_hour": 2,
                                       "quality.short_lived_window_ms": 1000})
    redis.kill()
    node.wait_suspect()
    eventually(lambda: visit(node) or node.metric("tickcast_alerts_raised_total",
                                                  alert="short_lived"), 10 * SLOWER)
    wait_cleared(node, "short_lived")
    redis.start()
    node.wait_ready()
    redis.publish("alert:node", '"mark"')
    assert listener.item(timeout=10 * SLOWER)["data"] == "mark"


def test_without_the_namespace_there_is_the_log(world, redis):
    node = world.node(redis, settings={"namespace.quote.mode": "latest",
                                       "quality.short_lived_per_hour": 2})
    visit(node)
    visit(node)
    wait_raised(node, "short_lived")
    wait_logged(node, "short_lived", "alert_raised")


def test_a_namespace_that_keeps_values_keeps_alerts(world, redis, connect):
    """Who subscribes later sees what the alert is now."""
    node = world.node(redis, settings={"namespace.alert.mode": "all",
                                       "namespace.alert.snapshot": "yes",
                                       "quality.short_lived_per_hour": 2})
    visit(node)
    visit(node)
    wait_raised(node, "short_lived")
    eventually(lambda: redis("EXISTS", "{tc:alert:node}"))
    item = connect(node, channels="alert:node").item()
    assert item["snap"] and item["data"]["state"] == "raised"


# --- hostile clients -----------------------------------------------------------------------------

def pings_of(one, count):
    """The payloads of the next pings."""
    while count > 0:
        got = one.recv_frame()
        assert got.opcode in (PING, TEXT), got
        if got.opcode == PING:
            count -= 1
            yield got.payload


def test_pongs_that_answer_nothing_measure_nothing(world, redis, wire):
    """They show that the client lives, and that is all."""
    node = world.node(redis, settings={**OFF, "node.ping_ms": 200})
    one = wire(node).upgrade()
    before = b"00000000"
    for payload in pings_of(one, 4):
        assert re.fullmatch(b"[0-9a-f]{8}", payload)
        forged = b"%08x" % ((int(payload, 16) - 1) % (1 << 32))
        for wrong in (b"", before, forged, payload[:7], payload + b"0", payload.upper() + b" ",
                      b"\0" * 8, b"f" * 125):
            one.send_frame(PONG, wrong)
        before = payload
    assert node.metric("tickcast_ping_seconds_count") == 0
    assert node.metric("tickcast_pings_unanswered_total") >= 3
    assert node.metric("tickcast_connections") == 1
