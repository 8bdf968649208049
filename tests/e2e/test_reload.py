"""Reload: SIGHUP and the admin command, under traffic, with clients connected."""

import json
import os
import re
import signal
import threading
import time

import pytest

from client import Closed
from world import SLOWER, eventually, http_request, write_config


def config_of(node):
    return node.dir / f"{node.name}.conf"


def change(node, settings, gone=()):
    """Another file for the node, which does not know of it yet."""
    node.settings.update(settings)
    for name in gone:
        del node.settings[name]
    write_config(config_of(node), node.settings)


def lines_of(node, event):
    return [line for line in node.log().splitlines() if f"event={event}" in line]


def reload(node, settings=(), gone=(), event="reloaded"):
    """Writes the file, sends SIGHUP, waits until the node says so; returns {option: log line}."""
    change(node, dict(settings), gone)
    before = len(lines_of(node, event))
    known = len(lines_of(node, "option_changed"))
    node.process.send_signal(signal.SIGHUP)
    eventually(lambda: len(lines_of(node, event)) > before, what=event)
    if event != "reloaded":
        return lines_of(node, event)[-1]
    # The workers take it a moment after the main thread: what is answered now, they had taken.
    node.ops_get("/api/v1/clients")
    return {re.search(r"option=(\S+)", line).group(1): line
            for line in lines_of(node, "option_changed")[known:]}


@pytest.fixture
def node(node_of):
    return node_of({"node.workers": 2, "namespace.quote.mode": "latest",
                    "namespace.trade.mode": "all"})


class Traffic:
    """Publishes numbers on a channel, in a thread of its own, until it is told to stop."""

    def __init__(self, redis, channel):
        self.channel, self.sent, self.going = channel, 0, True
        self.client = type(redis.client())(redis.port)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while self.going:
            self.sent += 1
            self.client("PUBLISH", f"tc:{self.channel}", self.sent)
            time.sleep(0.002)

    def stop(self):
        self.going = False
        self.thread.join()
        self.client.close()
        return self.sent


def test_limits_count_for_who_is_connected(node, connect):
    client = connect(node)
    client.subscribe("quote:A", "quote:B")
    said = reload(node, {"limits.channels_per_client": 3, "limits.message_bytes": 200})
    assert set(said) == {"limits.channels_per_client", "limits.message_bytes"}
    assert "old=3000 new=3 effect=now" in said["limits.channels_per_client"]
    ack = client.subscribe("quote:C", "quote:D")
    assert ack["accepted"] == 1
    assert ack["rejected"][0]["name"] == "too_many_channels"
    assert connect(node).hello["limits"] == {
        "channels": 3, "message_bytes": 200, "commands_per_s": 50}
    client.send(action="ping", echo="x" * 300)
    with pytest.raises(Closed) as end:
        client.recv()
    assert end.value.code == 1009


def test_commands_per_s(node, connect):
    client = connect(node)
    reload(node, {"limits.commands_per_s": 1})
    for _ in range(5):
        client.send(action="ping")
    assert "rate_limited" in [client.recv().get("name") for _ in range(5)]
    reload(node, {"limits.commands_per_s": 0})
    for _ in range(200):
        client.send(action="ping")
    for _ in range(200):
        client.expect("pong")


def test_everything_arrives_meanwhile(node, redis, connect):
    """Hundreds of reloads of everything that workers look at, while a stream goes to both of them."""
    clients = [connect(node) for _ in range(4)]
    for client in clients:
        client.subscribe("trade:T")
    traffic = Traffic(redis, "trade:T")
    for i in range(100):
        change(node, {"node.pace_ms": i % 5, "limits.soft_bytes": 100000 + i,
                      "namespace.trade.max_rate": i, "namespace.trade.batch_ms": 10 * (i % 2),
                      "listen.deflate_min_bytes": i, f"namespace.x{i % 9}.mode": "all"})
        node.process.send_signal(signal.SIGHUP)
        if i % 10 == 0:
            clients[i // 10 % 4].subscribe(f"trade:N{i}")
    eventually(lambda: traffic.sent > 300)
    sent = traffic.stop()
    for client in clients:
        items = client.items(sent)
        assert [item["data"] for item in items] == list(range(1, sent + 1))
        assert not any("missed" in item for item in items)
        client.nothing_more()
    assert not lines_of(node, "reload_failed")


def test_a_namespace_that_is_added_is_used_at_once(node, redis, connect):
    client = connect(node)
    assert client.subscribe("news:N")["rejected"][0]["name"] == "unknown_namespace"
    said = reload(node, {"namespace.news.mode": "all", "namespace.news.publish": "anyone",
                         "namespace.news.history": 10})
    assert list(said) == ["namespace.news"] and "new=added effect=now" in said["namespace.news"]
    assert client.subscribe("news:N", "quote:A")["accepted"] == 2
    redis.stamp("news:N", '"one"', history=10)
    assert client.item()["data"] == "one"
    ack = client.ask("publish", channel="news:N", data="two")
    assert (ack["action"], ack["seq"]) == ("ack", 2)
    assert client.item()["data"] == "two"
    other = connect(node)
    ack = other.subscribe("news:N", since={"news:N": {"epoch": ack["epoch"], "seq": 1}})
    assert ack["recovered"] == ["news:N"] and other.item()["data"] == "two"


def test_a_namespace_that_is_removed_stays(node, redis, connect):
    client = connect(node)
    client.subscribe("trade:T")
    said = reload(node, gone=["namespace.trade.mode"])
    assert "new=removed effect=restart" in said["namespace.trade"]
    redis.publish("trade:T", "1")
    assert client.item()["data"] == 1
    assert connect(node).subscribe("trade:T")["accepted"] == 1
    assert "namespace.trade" in reload(node), "said again, until the restart"


def test_a_namespace_that_changes(node, redis, connect):
    old = connect(node)
    assert old.subscribe("quote:A")["granted"] == {"mode": "latest", "max_rate": 0}
    reload(node, {"namespace.quote.max_rate": 5, "namespace.quote.modes": "latest all",
                  "namespace.trade.batch_ms": 400 * SLOWER, "namespace.quote.snapshot": "no"})
    assert connect(node).subscribe("quote:A")["granted"] == {"mode": "latest", "max_rate": 5}
    assert connect(node).subscribe("quote:A", mode="all")["granted"]["mode"] == "all"
    listed = old.ask("list")["channels"][0]
    assert listed["max_rate"] == 0, "what was granted stays"
    redis.stamp("quote:A", "1", heard_by=1)
    assert old.item()["data"] == 1
    new = connect(node)
    new.subscribe("quote:A")
    new.nothing_more()  # no snapshot any more


def test_a_namespace_that_begins_to_keep_values(node, redis, connect):
    redis.stamp("trade:T", "1")
    first = connect(node)
    first.subscribe("trade:T", "trade:P")
    redis.publish("trade:P", "7")
    assert first.item()["data"] == 7
    redis.stamp("trade:P", "8", heard_by=1)
    assert first.item()["data"] == 8
    reload(node, {"namespace.trade.snapshot": "yes"})
    item = first.item()
    assert (item["channel"], item["data"], item["snap"]) == ("trade:T", 1, True)
    second = connect(node)
    second.subscribe("trade:T", "trade:P")
    assert {(i["channel"], i["data"], i["snap"]) for i in second.items(2)} == {
        ("trade:T", 1, True), ("trade:P", 8, True)}
    first.nothing_more()


def test_batches_are_for_who_comes_later(node_of, redis, connect):
    """The same set, before and after: they may not share a stream, for one of them is batched."""
    node = node_of({"namespace.trade.mode": "all"})
    early = connect(node)
    early.subscribe("trade:T")
    reload(node, {"namespace.trade.batch_ms": 1000})
    late = connect(node)
    late.subscribe("trade:T")
    began = time.monotonic()
    redis.publish("trade:T", "1")
    assert early.item()["data"] == 1
    assert late.item()["data"] == 1
    assert time.monotonic() - began >= 0.9
    reload(node, {"namespace.trade.batch_ms": 0})
    last = connect(node)
    last.subscribe("trade:T")
    began = time.monotonic()
    redis.publish("trade:T", "2")
    assert [client.item()["data"] for client in (early, last, late)] == [2, 2, 2]
    assert time.monotonic() - began >= 0.9


def test_publishing_and_payloads(node, redis, connect):
    client = connect(node)
    client.subscribe("trade:T")
    assert client.ask("publish", channel="trade:T", data=1)["name"] == "forbidden"
    reload(node, {"namespace.trade.publish": "anyone", "limits.payload_bytes": 1000})
    assert client.ask("publish", channel="trade:T", data=1)["action"] == "ack"
    assert client.item()["data"] == 1
    redis.stamp("trade:T", json.dumps("x" * 2000))
    node.wait_metric("tickcast_publications_dropped_total", 1, reason="too_large")
    reload(node, {"limits.payload_bytes": 10000})
    redis.stamp("trade:T", json.dumps("y" * 2000))
    assert client.item()["data"] == "y" * 2000
    assert node.is_ready()


def test_what_operators_see(node, redis, connect):
    """Registry, ops API and alerts go by the present configuration."""
    for _ in range(3):
        connect(node).close()
    node.wait_metric("tickcast_connections", 0)
    reload(node, {"node.advertise": "192.0.2.1:80", "quality.short_lived_per_hour": 2,
                  "limits.payload_bytes": 1000, "namespace.fresh.mode": "all"})
    eventually(lambda: "alert=short_lived" in "".join(lines_of(node, "alert_raised")))
    eventually(lambda: node.ops_get("/api/v1/nodes").json()["nodes"][0]["address"]
               == "192.0.2.1:80")
    body = json.dumps([{"channel": "fresh:A", "data": 1}, {"channel": "fresh:A", "data": "x" * 2000}])
    good, bad = http_request(node.ops, "/api/v1/publish", "POST", body).json()["results"]
    assert "error" not in good and "limits.payload_bytes" in json.dumps(bad), (good, bad)


def test_pings_and_heartbeats_begin(node_of, connect, wire):
    node = node_of({"node.ping_ms": 0, "node.heartbeat_ms": 0})
    client = connect(node)
    before = node.metric("tickcast_ping_seconds_count")
    reload(node, {"node.ping_ms": 100, "node.heartbeat_ms": 100})
    client.wait_for("heartbeat")
    eventually(lambda: node.metric("tickcast_ping_seconds_count") > before + 2)
    reload(node, {"node.ping_ms": 3600000, "node.heartbeat_ms": 0})
    client.ask("ping")
    client.others.clear()
    reload(node, {"node.ping_ms": 100})
    count = node.metric("tickcast_ping_seconds_count")
    eventually(lambda: node.metric("tickcast_ping_seconds_count") > count, what="not in an hour")


def test_who_is_let_in(node, connect, wire):
    def status(**headers):
        one = wire(node)
        one.send(one.request("/ws", **headers))
        return one.read_head()

    page = {"Origin": "https://example.com"}
    client = connect(node)
    assert status(**page) == 403
    reload(node, {"listen.origins": "https://example.com", "node.echo": "yes"})
    assert status(**page) == 101
    connect(node, path="/echo")
    reload(node, {"listen.max_connections": 2})
    assert [status() for _ in range(4)][-1] == 503
    client.ask("ping")
    reload(node, {"listen.max_connections": 1000, "limits.accepts_per_s": 1})
    waiting = [wire(node) for _ in range(20)]
    for one in waiting:
        one.send(one.request("/ws"))
    assert 503 in [one.read_head() for one in waiting]


def test_the_log(node):
    change(node, {"node.log_level": "debug", "node.log_format": "json"})
    node.process.send_signal(signal.SIGHUP)
    eventually(lambda: '"event":"reloaded"' in node.log())
    entry = next(json.loads(line) for line in node.log().splitlines()
                 if '"option":"node.log_level"' in line)
    assert (entry["old"], entry["new"], entry["effect"]) == ("info", "debug", "now")
    change(node, {"node.log_level": "error", "node.log_format": "text"})
    node.process.send_signal(signal.SIGHUP)
    eventually(lambda: "event=reloaded changed=2 restart=0" in node.log())


def test_a_file_that_is_wrong_changes_nothing(node, connect):
    client = connect(node)
    path = config_of(node)
    text = path.read_text()
    start = "[limits]\nchannels_per_client = 1\n"
    for broken, why in [
            (start + "nonsense\n", f"{path}:3: "),
            (start + "soft_bytes = 99\nhard_bytes = 9\n", "is more than limits.hard_bytes"),
            (start + "[namespace admin]\n", f"{path}:3: [namespace admin]: the name is reserved"),
            (start + "[node]\nworkers = 999\n", f"{path}:4: node.workers: "),
            (start + "\0", str(path)), ("x" * 2000000, "is larger than")]:
        path.write_text(broken)
        assert why in reload_broken(node)
    path.unlink()
    assert f"{path}: cannot be opened: No such file or directory" in reload_broken(node)
    path.mkdir()
    assert f"{path}: is not a regular file" in reload_broken(node)
    path.rmdir()
    path.write_text(text)
    assert client.subscribe("quote:A", "quote:B")["accepted"] == 2
    assert reload(node) == {}
    assert not lines_of(node, "option_changed")


def reload_broken(node):
    before = len(lines_of(node, "reload_failed"))
    node.process.send_signal(signal.SIGHUP)
    eventually(lambda: len(lines_of(node, "reload_failed")) > before)
    line = lines_of(node, "reload_failed")[-1]
    return json.loads(re.search(r'error=(".*")$', line).group(1))


def test_a_fifo_is_not_waited_for(node, connect):
    path = config_of(node)
    path.unlink()
    os.mkfifo(path)
    assert "is not a regular file" in reload_broken(node)
    connect(node).ask("ping")


def test_what_needs_a_restart_is_said(node, connect, redis):
    client = connect(node)
    said = reload(node, {
        "node.workers": 3, "listen.address": "127.0.0.1:1", "node.id": "other",
        "redis.prefix": "xx:", "redis.url": "redis://user:hidden@127.0.0.1:1", "redis.canary_ms": 999,
        "namespace.quote.mirror": "yes", "namespace.new.mirror": "yes", "limits.soft_bytes": 1000})
    restart = {name for name, line in said.items() if "effect=restart" in line}
    assert restart == {"node.workers", "listen.address", "node.id", "redis.prefix", "redis.url",
                       "redis.canary_ms", "namespace.quote.mirror", "namespace.new.mirror"}
    assert set(said) - restart == {"limits.soft_bytes", "namespace.new"}
    assert "hidden" not in node.log()
    client.subscribe("quote:A", "new:A")
    redis.publish("quote:A", "1")
    redis.publish("new:A", "2")
    assert [item["data"] for item in client.items(2)] == [1, 2]
    assert connect(node).hello["node"] == "n1"
    change(node, {"node.workers": 2})


def test_by_admin_command(world, redis, operator, connect):
    nodes = world.cluster(3, settings={"node.workers": 2})
    for node in nodes:
        change(node, {"limits.channels_per_client": 1, "node.workers": 4})
    clients = [connect(node) for node in nodes]
    replies = operator.ask(3, cmd="reload")
    assert [r["node"] for r in replies] == ["n1", "n2", "n3"]
    for reply in replies:
        assert reply["ok"] is True and reply["affected"] == 0
        assert reply["changed"] == ["limits.channels_per_client"]
        assert reply["restart"] == ["node.workers"]
    for client in clients:  # the reply comes when the workers have it
        assert client.subscribe("quote:A", "quote:B")["accepted"] == 1
    config_of(nodes[1]).write_text("[node]\nping_ms = soon\n")
    replies = operator.ask(3, cmd="reload")
    assert [r["ok"] for r in replies] == [True, False, True]
    assert replies[1]["error"] == (
        f'{config_of(nodes[1])}:2: node.ping_ms: "soon" is not 0 or a whole number from 100 to '
        '3600000')
    assert replies[0]["changed"] == [] and replies[0]["restart"] == ["node.workers"]
    for client in clients:
        client.ask("ping")


def test_environment_and_set_come_before_the_file(world, redis, connect):
    node = world.node(redis, sets=["limits.channels_per_client=7"],
                      env={"TICKCAST_LIMITS_COMMANDS_PER_S": "8"})
    said = reload(node, {"limits.channels_per_client": 1, "limits.commands_per_s": 2,
                         "limits.message_bytes": 3000})
    assert list(said) == ["limits.message_bytes"]
    assert connect(node).hello["limits"] == {
        "channels": 7, "message_bytes": 3000, "commands_per_s": 8}


def test_an_id_that_the_node_made_up_stays(world, redis, connect):
    node = world.node(redis, settings={"node.id": ""})
    made_up = connect(node).hello["node"]
    assert reload(node, {"limits.message_bytes": 3000}).keys() == {"limits.message_bytes"}
    assert connect(node).hello["node"] == made_up == node.id
