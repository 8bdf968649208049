"""A node takes leave of its clients: SIGTERM, `drain`, `undrain`; and lets them in at a rate."""

import contextlib
import json
import os
import signal
import subprocess
import time

import pytest

from client import Closed
from world import READY, SLOWER, TICKCAST, eventually, write_config

WINDOW = {"listen.drain_s": 2 * SLOWER}


def status_of(wire, node, path="/ws"):
    """What an upgrade is answered with: status, headers, body."""
    one = wire(node)
    one.send(one.request(path))
    status = one.read_head()
    return status, one.headers, one.read_to_end() if status != 101 else b""


def readiness(node):
    response = node.get("/readyz")
    return response.status, json.loads(response.body)


def leave(client):
    """Reads to the end; the close code, and when it came."""
    while True:
        try:
            client.recv(20 * SLOWER)
        except Closed as end:
            return end.code, time.monotonic()


def test_sigterm_in_order(node_of, connect, wire):
    """Not ready, but serving; then no more upgrades, and everybody leaves at the time he was told."""
    node = node_of(WINDOW | {"listen.drain_grace_s": SLOWER})
    early = [connect(node, channels="quote:A") for _ in range(5)]
    raw = connect(node, raw=True, channels="quote:A")
    for client in early:
        client.wait_for("ack")
    node.terminate()
    eventually(lambda: readiness(node) == (503, {"status": "not_ready", "reason": "draining"}))
    late = connect(node)  # a balancer that has not noticed
    told = {}
    for client in early + [late]:
        told[client] = time.monotonic(), client.wait_for("drain")["reconnect_in_ms"] / 1000
    status, headers, body = status_of(wire, node)
    assert status == 503 and int(headers["retry-after"]) >= 1
    assert json.loads(body)["message"] == "the node is draining"
    assert status_of(wire, node, "/healthz")[0] == 200
    delays = sorted(delay for _, delay in told.values())
    assert delays[0] >= 0 and delays[-1] <= 2 * SLOWER
    assert delays[-1] - delays[0] >= SLOWER and len(set(delays)) >= 5, "not spread"
    for client, (at, delay) in sorted(told.items(), key=lambda entry: entry[1][1]):
        code, closed_at = leave(client)
        assert code == 4200
        assert closed_at - at >= delay - 0.3, "earlier than it was told"
    with pytest.raises(Closed) as end:
        raw.recv_text()
    assert end.value.code == 4200
    assert node.wait(20 * SLOWER) == 0
    node.process = None


def test_it_is_over_when_nobody_is_left(node_of, connect):
    node = node_of({"listen.drain_s": 600})
    clients = [connect(node) for _ in range(4)]
    node.terminate()
    for client in clients:
        client.wait_for("drain")
        client.close()
    assert node.wait(10 * SLOWER) == 0
    node.process = None


def test_a_second_signal_leaves_at_once(node_of, connect):
    node = node_of({"listen.drain_s": 600, "listen.drain_grace_s": 600})
    connect(node)
    node.terminate()
    eventually(lambda: readiness(node)[0] == 503)
    node.process.send_signal(signal.SIGTERM)
    assert node.wait(10 * SLOWER) == 0
    node.process = None


def is_held(process, number):
    """Does the process let this signal wait, as the kernel has it?"""
    with open(f"/proc/{process.pid}/status", encoding="ascii") as status:
        held = next(line for line in status if line.startswith("SigBlk")).split()[1]
    return int(held, 16) >> (number - 1) & 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])
def test_a_signal_during_the_start(tmp_path, number):
    """It waits until the node can end in order, Redis or no Redis."""
    config = tmp_path / "config"
    os.mkfifo(config)  # whoever reads it waits for us
    with subprocess.Popen([TICKCAST, "-c", config], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as process:
        eventually(lambda: is_held(process, number), what="the signal to be held")
        process.send_signal(number)
        write_config(config, {"listen.address": "127.0.0.1:0", "ops.address": "127.0.0.1:0",
                              "redis.url": "redis://127.0.0.1:1/0", "listen.drain_grace_s": 0})
        out, log = process.communicate(timeout=20 * SLOWER)
    assert process.returncode == 0
    assert READY.fullmatch(out) and "event=stopped" in log and "Sanitizer" not in log


def test_signals_without_end(node_of, connect):
    """One after the other, to the very end: it is the status that counts."""
    for _ in range(5):
        node = node_of({})
        connect(node, channels="quote:A").wait_for("ack")
        with contextlib.suppress(ProcessLookupError):
            while node.alive():
                for number in (signal.SIGTERM, signal.SIGINT):
                    os.kill(node.pid, number)
        assert node.wait() == 0
        node.process = None


def test_drained_by_command_and_back(node_of, connect, operator, wire):
    node = node_of({})
    clients = [connect(node) for _ in range(3)]
    [reply] = operator.ask(cmd="drain", seconds=0.5)
    assert reply["ok"] is True and reply["affected"] == 3 and reply["state"] == "grace"
    for client in clients:
        assert client.wait_for("drain")["reconnect_in_ms"] <= 500
        assert leave(client)[0] == 4200
    eventually(lambda: "state=drained" in node.log())
    assert readiness(node)[0] == 503 and status_of(wire, node)[0] == 503
    [reply] = operator.ask(cmd="drain", seconds=0.5)
    assert reply["ok"] is True and reply["affected"] == 0 and reply["state"] == "drained"
    [reply] = operator.ask(cmd="undrain")
    assert reply["ok"] is True and reply["state"] == "serving"
    node.wait_ready()
    client = connect(node, channels="quote:A")
    client.wait_for("ack")
    [reply] = operator.ask(cmd="undrain")
    assert reply["ok"] is True
    assert client.ask("ping")["action"] == "pong"


def test_undrain_in_the_middle(node_of, connect, operator):
    """Who has not left stays, and is served."""
    node = node_of({})
    clients = [connect(node, channels="quote:A") for _ in range(4)]
    for client in clients:
        client.wait_for("ack")
    operator.ask(cmd="drain", seconds=600)
    for client in clients:
        client.wait_for("drain")
    operator.ask(cmd="undrain")
    node.wait_ready()
    stayed = [c for c in clients if c.is_open()]
    assert len(stayed) >= 3  # the first one leaves at once
    operator.redis.publish("quote:A", "1", 1)
    for client in stayed[1:]:
        assert client.item()["data"] == 1
    clients[1].close()  # one that had a time to leave
    eventually(lambda: node.metric("tickcast_connections") <= 3)


def test_sigterm_after_a_drain(node_of, connect, operator):
    node = node_of({"listen.drain_grace_s": 1, "listen.drain_s": 600})
    operator.ask(cmd="drain", seconds=0)
    eventually(lambda: "state=drained" in node.log(), 10 * SLOWER)
    node.terminate()
    assert node.wait(10 * SLOWER) == 0
    node.process = None


def test_too_late(node_of, connect, operator):
    """A node that stops cannot be kept."""
    node = node_of({"listen.drain_s": 600})
    client = connect(node)
    other = connect(node)
    node.terminate()
    for one in (client, other):
        one.wait_for("drain")
    [reply] = operator.ask(cmd="undrain")
    assert reply["ok"] is False and "stopping" in reply["error"]
    client.close()
    other.close()
    assert node.wait(10 * SLOWER) == 0
    node.process = None


@pytest.mark.parametrize("seconds", [-1, "ten", 3601, True, [], 1e300])
def test_a_drain_that_is_malformed(node_of, operator, seconds):
    node = node_of({})
    [reply] = operator.ask(cmd="drain", seconds=seconds)
    assert reply["ok"] is False and "seconds" in reply["error"]
    assert node.is_ready()


def test_one_of_two_nodes(world, redis, operator, connect):
    nodes = world.cluster(2)
    client = connect(nodes[1])
    [reply] = operator.ask(1, cmd="drain", seconds=0, node="n2")
    assert reply["node"] == "n2"
    assert leave(client)[0] == 4200
    assert nodes[0].is_ready()
    assert operator.ask(2, cmd="ping")


def test_nothing_of_all_is_lost_by_leaving(node_of, redis, wire):
    """Its socket is full when its time has come: it is waited for."""
    node = node_of({"listen.drain_s": 0, "limits.hard_bytes": 64 << 20, "limits.unsent_bytes": 0})
    slow = wire(node, receive_buffer=4096)
    slow.upgrade("/ws?format=raw&channels=trade:A")
    eventually(lambda: node.metric("tickcast_subscriptions") == 1)
    texts = [f"{n:05d}" + "x" * 10000 for n in range(800)]
    redis.publish_many([("trade:A", text) for text in texts])
    node.wait_metric("tickcast_publications_total", len(texts))
    eventually(lambda: node.metric("tickcast_writes_blocked_total") > 0)
    node.terminate()
    eventually(lambda: readiness(node)[0] == 503)
    for text in texts:
        slow.expect(1, text.encode())
    slow.expect_close(4200)
    assert node.wait(20 * SLOWER) == 0
    node.process = None


def test_a_batch_that_is_being_collected_is_not_lost_by_leaving(node_of, operator, connect):
    node = node_of({"namespace.trade.mode": "all", "namespace.trade.batch_ms": 60000})
    client = connect(node, channels="trade:A")
    client.wait_for("ack")
    for number in range(3):
        operator.redis.publish("trade:A", number)
    node.wait_metric("tickcast_publications_total", 3)
    operator.ask(cmd="drain", seconds=0)
    client.wait_for("drain")
    assert [item["data"] for item in client.items(3)] == [0, 1, 2]
    assert leave(client)[0] == 4200


def test_a_value_that_waits_for_its_time_is_not_lost_by_leaving(node_of, operator, connect):
    node = node_of({"namespace.quote.mode": "latest", "namespace.quote.batch_ms": 60000})
    client = connect(node, channels="quote:A,quote:B")
    client.wait_for("ack")
    for number in range(3):
        operator.redis.publish("quote:A", number)
    node.wait_metric("tickcast_publications_total", 3)
    operator.ask(cmd="drain", seconds=0)
    client.wait_for("drain")
    [item] = client.items(1)
    assert (item["channel"], item["data"]) == ("quote:A", 2)
    assert item["epoch"] and item["seq"] == 3
    assert leave(client)[0] == 4200


def test_an_echo_leaves_with_the_others(node_of, operator, wire):
    node = node_of({"node.echo": "yes"})
    echo = wire(node)
    echo.upgrade("/echo")
    operator.ask(cmd="drain", seconds=60)
    echo.expect_close(4200)
    eventually(lambda: "state=drained" in node.log())


def test_what_the_kernel_holds_is_not_lost_by_leaving(node_of, operator, wire):
    """It took all bytes, and could not send them: who speaks later would get a reset for them."""
    node = node_of({})
    slow, quick = wire(node, receive_buffer=4096), wire(node)
    for one in (slow, quick):
        one.upgrade("/ws?format=raw&channels=trade:A")
    eventually(lambda: node.metric("tickcast_subscriptions") == 2)
    texts = [f"{n:05d}" + "x" * 995 for n in range(50)]
    operator.redis.publish_many([("trade:A", text) for text in texts])
    for text in texts:
        quick.expect(1, text.encode())
    assert node.metric("tickcast_writes_blocked_total") == 0
    operator.ask(cmd="drain", seconds=0)
    quick.expect_close(4200)
    node.wait_metric("tickcast_connections", 1)
    for text in texts:
        slow.expect(1, text.encode())
    slow.expect_close(4200)
    eventually(lambda: "state=drained" in node.log())
    assert "drain_cut" not in node.log()


def test_who_takes_nothing_does_not_hold_up_the_end(node_of, redis, wire):
    node = node_of({"listen.drain_s": 0, "limits.hard_bytes": 64 << 20, "limits.unsent_bytes": 0})
    stuck = wire(node, receive_buffer=4096)
    stuck.upgrade("/ws?format=raw&channels=trade:A")
    eventually(lambda: node.metric("tickcast_subscriptions") == 1)
    redis.publish_many([("trade:A", "x" * 100000)] * 100)
    eventually(lambda: node.metric("tickcast_writes_blocked_total") > 0)
    node.terminate()
    assert node.wait(30 * SLOWER) == 0
    assert "event=drain_cut" in node.log()
    node.process = None


def test_a_socket_that_asks_for_nothing_does_not_hold_up_the_end(node_of, wire):
    """Browsers keep spare ones."""
    node = node_of({"listen.drain_s": 0})
    spare = wire(node)
    eventually(lambda: node.metric("tickcast_sockets") == 1)
    node.terminate()
    assert spare.read_to_end(20 * SLOWER) == b""
    assert node.wait(20 * SLOWER) == 0
    assert "event=stopped sockets_left=0" in node.log()
    node.process = None


# --- admission ------------------------------------------------------------------------------


def test_clients_are_let_in_at_a_rate(node_of, wire):
    node = node_of({"limits.accepts_per_s": 20, "node.workers": 2})
    begin = time.monotonic()
    answers = [status_of(wire, node) for _ in range(60)]
    passed = time.monotonic() - begin
    admitted = [a for a in answers if a[0] == 101]
    refused = [a for a in answers if a[0] != 101]
    assert 2 <= len(admitted) <= 20 * (1 + passed)
    for status, headers, body in refused:
        assert status == 503 and 1 <= int(headers["retry-after"]) <= 60
        assert json.loads(body)["message"] == "too many clients come at once"
    assert node.metric("tickcast_upgrades_refused_total", reason="rate") == len(refused)
    # They are told to come one after the other, not all in the same second.
    if len(refused) > 40:
        assert len({headers["retry-after"] for _, headers, _ in refused}) > 1
    assert status_of(wire, node, "/healthz")[0] == 200
    eventually(lambda: status_of(wire, node)[0] == 101, what="the next second")


# --- unsubscribe ----------------------------------------------------------------------------


def test_an_operator_ends_a_subscription(node_of, connect, operator):
    node = node_of({})
    client, other = connect(node), connect(node)
    for one in (client, other):
        one.subscribe("quote:A", "quote:B")
    conn = client.hello["conn"]
    [reply] = operator.ask(cmd="unsubscribe", conn=conn, channel="quote:A")
    assert reply["ok"] is True and reply["affected"] == 1
    assert client.expect("unsubscribed") == {"action": "unsubscribed", "channel": "quote:A"}
    [reply] = operator.ask(cmd="unsubscribe", conn=conn, channel="quote:A")
    assert reply["ok"] is True and reply["affected"] == 0
    [reply] = operator.ask(cmd="unsubscribe", user="nobody", channel="quote:A")
    assert reply["ok"] is True and reply["affected"] == 0
    operator.redis.publish("quote:A", "1", 1)
    operator.redis.publish("quote:B", "2", 1)
    assert client.item()["channel"] == "quote:B"
    assert [i["channel"] for i in other.items(2)] == ["quote:A", "quote:B"]


@pytest.mark.parametrize("members", [
    {}, {"user": "42"}, {"channel": "quote:A"}, {"user": 42, "channel": "quote:A"},
    {"user": "42", "channel": "nonsense"}, {"conn": ["n1"], "channel": "quote:A"},
], ids=json.dumps)
def test_an_unsubscribe_that_is_malformed(node_of, operator, members):
    node_of({})
    [reply] = operator.ask(cmd="unsubscribe", **members)
    assert reply["ok"] is False and reply["error"]
