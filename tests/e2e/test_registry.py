"""The registry of nodes in Redis (docs/protocol.md, 6)."""

import json
import subprocess
import time

import pytest

from world import SLOWER, WAIT, Node, eventually

LIFE_S = 6  # of an entry that nobody renews
FIELDS = {"id", "address", "ops", "version", "started", "state", "feed", "clients", "capacity",
          "channels", "in_per_s", "out_per_s", "accepts_per_s", "canary_ms", "pid", "instance"}
NUMBERS = {"started", "clients", "capacity", "channels", "in_per_s", "out_per_s", "accepts_per_s",
           "canary_ms", "pid"}


def entry(redis, name):
    flat = redis("HGETALL", f"tc:node:{name}")
    return {k.decode(): v.decode() for k, v in zip(flat[::2], flat[1::2])}


def wait_entry(redis, name, **fields):
    """Waits until the entry says so; returns it."""
    def found():
        now = entry(redis, name)
        return now if all(now.get(k) == str(v) for k, v in fields.items()) else None
    return eventually(found, 10 * SLOWER, f"{name} to say {fields}")


def names(node):
    reply = node.ops_get("/api/v1/nodes")
    return [n["id"] for n in reply.json()["nodes"]] if reply.status == 200 else []


def test_an_entry_says_what_the_contract_says(world, redis):
    node = world.node(redis)
    wait_entry(redis, "n1", state="ready", feed="ok")
    now = entry(redis, "n1")
    assert set(now) == FIELDS
    assert all(now[name].isdigit() for name in NUMBERS)
    assert now["id"] == "n1" and now["address"] == node.listen and now["ops"] == node.ops
    assert int(now["pid"]) == node.pid
    assert 0 < time.time() * 1000 - int(now["started"]) < 60_000 * SLOWER
    assert 0 < redis("PTTL", "tc:node:n1") <= LIFE_S * 1000
    score = float(redis("ZSCORE", "tc:nodes", "n1"))
    seconds, micros = map(int, redis("TIME"))
    assert 0 < score - (seconds * 1000 + micros / 1000) <= LIFE_S * 1000
    # And it is renewed.
    eventually(lambda: float(redis("ZSCORE", "tc:nodes", "n1")) > score)


class NodeOnHost(Node):
    """On a host of this name."""

    host = ""

    def command_prefix(self):
        script = 'printf "%s" "$0" >/proc/sys/kernel/hostname && exec "$@"'
        return ["unshare", "--map-root-user", "--uts", "sh", "-c", script, self.host]


@pytest.mark.parametrize("host, made", [("quotes-1.example.com", "quotes-1"), ("a b", "node"),
                                        ("-x", "node")])
def test_an_id_that_is_made_of_any_host_name(world, redis, host, made):
    possible = subprocess.run(["unshare", "--map-root-user", "--uts", "sh", "-c",
                               "printf x >/proc/sys/kernel/hostname"], check=False,
                              capture_output=True)
    if possible.returncode != 0:
        pytest.skip("no host name of our own to be had here")
    node = NodeOnHost(world.dir, redis.url, "n1", settings={"node.id": ""})
    node.host = host
    world.nodes.append(node)
    node.start().wait_ready()
    assert node.id == f"{made}-{node.port}"
    eventually(lambda: names(node) == [node.id])


def test_an_advertised_address(world, redis):
    world.node(redis, settings={"node.advertise": "quotes.example.com:443"})
    wait_entry(redis, "n1", address="quotes.example.com:443")


def test_the_log_says_what_the_descriptors_allow(world, redis):
    """With few of them the node starts all the same, and would take next to nobody in silence."""
    assert "max_connections=77" in world.node(redis, settings={"listen.max_connections": 77}).log()


def test_what_the_node_does_is_shown(world, redis, connect):
    node = world.node(redis, settings={"node.workers": 2, "listen.max_connections": 77})
    clients = [connect(node, channels="trade:A,trade:B") for _ in range(3)]
    for client in clients:
        client.expect("ack")

    def all_shown():
        redis.publish("trade:A", "1")
        now = entry(redis, "n1")
        return (now["clients"], now["channels"], now["capacity"]) == ("3", "2", "77") and \
            0 < int(now["in_per_s"]) < int(now["out_per_s"]) and int(now["accepts_per_s"]) > 0
    eventually(all_shown, 10 * SLOWER, "all that the node does", interval=0.05)


@pytest.mark.limit(60)
def test_three_nodes_see_each_other_and_a_dead_one_goes(world, redis):
    nodes = world.cluster(3)
    for node in nodes:
        eventually(lambda n=node: names(n) == ["n1", "n2", "n3"], what="three nodes")
    nodes[1].kill()
    began = time.monotonic()
    eventually(lambda: names(nodes[0]) == ["n1", "n3"], (LIFE_S + 4) * SLOWER, "n2 to be gone")
    assert time.monotonic() - began > 1, "a node that died cannot say good-bye"
    eventually(lambda: redis("EXISTS", "tc:node:n2") == 0)  # by Redis's clock, not by the node's
    nodes[2].stop()  # in order, so it is gone at once
    assert redis("EXISTS", "tc:node:n3") == 0
    assert redis("ZSCORE", "tc:nodes", "n3") is None
    assert names(nodes[0]) == ["n1"]
    # The name of the dead one is free: coming back is no conflict.
    nodes[1].start().wait_ready()
    eventually(lambda: names(nodes[0]) == ["n1", "n2"], what="n2 to be back")


def test_a_node_that_stops_says_draining(world, redis, wire):
    node = world.node(redis)
    wire(node).upgrade()  # and it will not answer a close frame
    node.terminate()
    wait_entry(redis, "n1", state="draining")
    node.stop()  # a second signal: at once, but not without a word
    assert redis("EXISTS", "tc:node:n1") == 0


def test_a_drain_is_registered_at_once(world, redis, operator):
    """Not with the next of the writes that come every two seconds."""
    world.node(redis)
    wait_entry(redis, "n1", state="ready")
    for _ in range(5):
        operator.ask(1, cmd="drain")
        eventually(lambda: entry(redis, "n1")["state"] == "draining", 0.8 * SLOWER)
        operator.ask(1, cmd="undrain")
        wait_entry(redis, "n1", state="ready")


def test_a_suspect_feed_is_visible(world, redis):
    """ready, because it was once; but whoever looks for a good node must know."""
    node = world.node(redis)
    wait_entry(redis, "n1", state="ready", feed="ok")
    redis("ACL", "SETUSER", "default", "resetchannels")  # which also cuts who has subscribed
    node.wait_suspect()
    now = wait_entry(redis, "n1", state="ready", feed="suspect")
    assert now["reason"] in ("redis_lost", "canary_lost")
    redis("ACL", "SETUSER", "default", "allchannels")
    node.wait_ready()
    now = wait_entry(redis, "n1", state="ready", feed="ok")
    assert "reason" not in now


def test_starting_until_the_feed_was_ok_once(world, redis):
    redis("ACL", "SETUSER", "default", "resetchannels")
    node = world.node(redis, ready=False)
    now = wait_entry(redis, "n1", state="starting", feed="suspect")
    assert "canary_ms" not in now
    redis("ACL", "SETUSER", "default", "allchannels")
    node.wait_ready()
    began = time.monotonic()
    wait_entry(redis, "n1", state="ready", feed="ok")
    assert time.monotonic() - began < 1.5 * SLOWER, "written when it changed, not two seconds later"


def test_two_nodes_with_one_id_are_noticed(world, redis):
    first = world.node(redis)
    assert first.metric("tickcast_registry_conflicts_total") == 0
    second = world.node(redis, name="n1b", settings={"node.id": "n1"})
    for node in (first, second):
        node.wait_metric("tickcast_registry_conflicts_total", 1, timeout=10 * SLOWER)
        eventually(lambda: node.log().count("node_id_taken") == 1)


def test_what_is_left_of_a_former_life_is_no_conflict(world, redis):
    node = world.node(redis)
    wait_entry(redis, "n1", state="ready")
    node.kill()
    node.start().wait_ready()
    wait_entry(redis, "n1", pid=node.pid)
    assert node.metric("tickcast_registry_conflicts_total") == 0
    assert "node_id_taken" not in node.log()


def test_something_else_in_its_place(world, redis):
    redis("SET", "tc:node:n1", "a string")
    redis("LPUSH", "tc:nodes", "a list")
    node = world.node(redis)
    eventually(lambda: redis("TYPE", "tc:node:n1") == "hash", 10 * SLOWER)
    wait_entry(redis, "n1", state="ready")
    eventually(lambda: node.metric("tickcast_registry_errors_total") >= 2, 10 * SLOWER)
    assert node.log().count("registry_not_written") == 1
    assert redis("LRANGE", "tc:nodes", 0, -1) == [b"a list"], "what is not ours stays"
    assert names(node) == []
    redis("DEL", "tc:nodes")
    eventually(lambda: names(node) == ["n1"], 10 * SLOWER)


def test_what_others_left_does_not_stay(world, redis):
    now = int(time.time() * 1000)
    redis("ZADD", "tc:nodes", now - 120_000, "long-gone", now - 1000, "just-gone", 0, "zero",
          now + 60_000, "alive")
    redis("HSET", "tc:node:n1", "state", "broken", "foreign", "x" * 1000)
    world.node(redis)
    wait_entry(redis, "n1", state="ready")
    assert set(entry(redis, "n1")) == FIELDS
    assert redis("PTTL", "tc:node:n1") > 0
    assert redis("ZRANGE", "tc:nodes", 0, -1) == [b"n1", b"alive"]


@pytest.mark.limit(60)
def test_a_redis_that_lost_everything_gets_it_again(world, redis):
    node = world.node(redis)
    wait_entry(redis, "n1", state="ready")
    redis.restart()
    node.wait_ready()
    wait_entry(redis, "n1", state="ready", feed="ok")
    eventually(lambda: names(node) == ["n1"], what="n1 to be listed")


def test_another_prefix(world):
    redis = world.redis(prefix="q:")
    node = world.node(redis, settings={"redis.prefix": "q:"})
    eventually(lambda: names(node) == ["n1"], WAIT)
    assert redis("EXISTS", "q:node:n1", "q:nodes") == 2


def test_ctl_nodes_and_admin(world, redis, ctl):
    nodes = world.cluster(2)
    eventually(lambda: names(nodes[0]) == ["n1", "n2"])
    for where in (["--redis", redis.url], ["--ops", f"http://{nodes[1].ops}"]):
        lines = ctl("nodes", *where).stdout.splitlines()
        assert sorted(line.split()[0] for line in lines) == ["id", "n1", "n2"]
        assert nodes[0].listen in "".join(lines)
        shown = json.loads(ctl("nodes", "--json", *where).stdout)["nodes"]
        assert sorted(n["id"] for n in shown) == ["n1", "n2"]
        assert all(n["state"] == "ready" and n["clients"] == 0 for n in shown)
        done = ctl("admin", '{"cmd":"ping"}', *where)
        assert sorted(json.loads(line)["node"] for line in done.stdout.splitlines()) == ["n1", "n2"]
        done = ctl("admin", '{"cmd":"explode","node":"n2"}', *where, check=False)
        assert done.returncode == 1 and json.loads(done.stdout)["node"] == "n2"
    done = ctl("admin", '{"cmd":"ping","node":"n9"}', *where, check=False)
    assert done.returncode == 1 and "no such node" in done.stderr
    done = ctl("nodes", "--ops", "http://127.0.0.1:1", check=False)
    assert done.returncode == 1 and "does not answer" in done.stderr


def test_ctl_drain_returns_when_the_node_is_empty(world, redis, ctl, connect):
    nodes = world.cluster(2, settings={"listen.drain_grace_s": 0})
    eventually(lambda: names(nodes[0]) == ["n1", "n2"])
    clients = [connect(nodes[1]) for _ in range(5)]
    done = ctl("drain", "--seconds", "1", "--ops", f"http://{nodes[0].ops}", "n2")
    assert "n2: draining, 0 clients" in done.stderr
    assert [client.closed() for client in clients] == [4200] * 5
    assert entry(redis, "n2")["state"] == "draining" and entry(redis, "n1")["state"] == "ready"
