"""Several nodes, one Redis, and everything that can happen to either."""

import json
import random
import re
import signal
import threading
import time

import pytest

from world import SLOWER, eventually

FAST = {"redis.canary_ms": 200}


def subscribers(nodes, connect, *channels):
    """One client per node, subscribed to the channels."""
    clients = [connect(node) for node in nodes]
    for client in clients:
        assert client.subscribe(*channels)["accepted"] == len(channels)
    return clients


class Traffic:
    """Publishes numbers on a channel until it is stopped, through failures of Redis."""

    def __init__(self, redis, channel, interval=0.01):
        self.redis, self.channel, self.interval = redis, channel, interval
        self.sent = []  # (number, monotonic time) of those that Redis took
        self.number = 0
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        from world import RedisClient
        client = None
        while not self.ending.wait(self.interval):
            try:
                client = client or RedisClient(self.redis.port, self.redis.password, timeout=1)
                self.number += 1
                client("PUBLISH", self.redis.prefix + self.channel, str(self.number))
                self.sent.append((self.number, time.monotonic()))
            except Exception:
                client = None

    def stop(self):
        self.ending.set()
        self.thread.join(10)


@pytest.mark.parametrize("workers", [1, 2])
def test_redis_cli_publish_reaches_every_client_on_every_node(world, redis, connect, workers):
    """The main job. The same bytes on all nodes, with a plain redis-cli."""
    nodes = world.cluster(3, settings={"node.workers": workers})
    clients = [c for _ in range(4) for c in subscribers(nodes, connect, "quote:TEST")]
    redis.wait_listeners("quote:TEST", 3)
    assert redis.cli("PUBLISH", "tc:quote:TEST", '{"price":"1.23"}') == "3"
    for client in clients:
        assert client.item()["data"] == {"price": "1.23"}
        client.nothing_more()


def test_a_node_hears_only_what_its_clients_want(world, redis, connect):
    """What nobody on a node wants never reaches it."""
    nodes = world.cluster(2)
    (client,) = subscribers(nodes[:1], connect, "quote:ONE")
    redis.wait_listeners("quote:ONE")
    before = nodes[1].metric("tickcast_publications_total")
    for n in range(50):
        assert redis.publish("quote:ONE", str(n)) == 1
    client.items(50)
    assert nodes[1].metric("tickcast_publications_total") == before


def test_connections_to_redis_do_not_grow_with_clients(world, redis, connect):
    node = world.node(redis, settings={"node.workers": 2})
    before = len(redis("CLIENT", "LIST").splitlines())
    clients = [connect(node, channels=f"quote:{i}") for i in range(100)]
    for client in clients:
        client.expect("ack")
    assert len(redis("CLIENT", "LIST").splitlines()) == before


@pytest.mark.parametrize("how", ["unix", "password", "user", "database", "name"])
def test_redis_urls(world, connect, how):
    password = "p@ss:w/rd" if how in ("password", "user") else None
    redis = world.redis(password=password)
    quoted = "p%40ss%3Aw%2Frd"
    url = {
        "unix": f"unix://{redis.path}",
        "password": f"redis://:{quoted}@127.0.0.1:{redis.port}",
        "user": f"redis://default:{quoted}@127.0.0.1:{redis.port}/0",
        "database": f"redis://127.0.0.1:{redis.port}/3",
        "name": f"redis://localhost:{redis.port}",
    }[how]
    node = world.node(url)
    (client,) = subscribers([node], connect, "quote:URL")
    redis.publish("quote:URL", "1")
    assert client.item()["data"] == 1


def test_a_wrong_password_is_told_and_not_fatal(world):
    redis = world.redis(password="right")
    node = world.node(f"redis://:wrong@127.0.0.1:{redis.port}", ready=False)
    eventually(lambda: node.metric("tickcast_redis_errors_total") >= 2)
    assert node.get("/healthz").status == 200 and not node.is_ready()
    assert "WRONGPASS" in node.log()
    assert "wrong@" not in node.log() and ":wrong" not in node.log()


def test_a_prefix_of_its_own(world, redis, connect):
    node = world.node(redis, settings={"redis.prefix": "market/"})
    (client,) = subscribers([node], connect, "quote:PRE")
    assert redis("PUBLISH", "tc:quote:PRE", "0") == 0
    assert redis("PUBLISH", "market/quote:PRE", "1") == 1
    assert client.item()["data"] == 1


# --- Redis fails ----------------------------------------------------------------------------------

@pytest.mark.limit(60)
@pytest.mark.parametrize("workers", [1, 2])
def test_redis_killed_under_traffic_and_back(world, redis, connect, workers):
    """Nobody is disconnected; suspect, then ok; what is published after its return
    arrives within two seconds; the nodes heal without any client doing anything."""
    nodes = world.cluster(3, settings={**FAST, "node.workers": workers})
    clients = subscribers(nodes, connect, "quote:K", "trade:K")
    traffic = Traffic(redis, "trade:K")
    try:
        for client in clients:
            client.items(10)
        redis.kill()
        for node, client in zip(nodes, clients):
            state = client.wait_for("state", 10 * SLOWER, feed="suspect")
            assert isinstance(state["reason"], str) and state["reason"]
            reply = node.ops_get("/readyz")
            assert reply.status == 503 and reply.body.strip()
            assert node.get("/readyz").status == 503
            assert node.get("/healthz").status == 200
        for client in clients:  # still served
            assert client.ask("ping")["action"] == "pong"
        redis.start()
        back = time.monotonic()
        eventually(lambda: redis.listeners("trade:K") == 3, 2 * SLOWER, "all nodes to resubscribe")
        took = time.monotonic() - back
        assert took < 2 * SLOWER
        mark = traffic.number + 1
        for node, client in zip(nodes, clients):
            client.wait_for("state", 10 * SLOWER, feed="ok")
            node.wait_ready()
            while client.item()["data"] < mark:
                pass
            assert client.is_open()
    finally:
        traffic.stop()
    redis.publish("trade:K", "\"last\"", heard_by=3)
    for client in clients:
        while client.item()["data"] != "last":
            pass
        assert [m for m in client.others if m["action"] not in ("heartbeat", "state")] == []
    for node in nodes:
        assert node.metric("tickcast_connections_ended_total") == 0
        assert node.metric("tickcast_feed_suspects_total") >= 1


def test_items_after_an_outage_are_new_to_the_client(world, redis, connect):
    """seq goes on within the epoch, or the epoch is a new one; a value is never repeated."""
    node = world.node(redis, settings=FAST)
    (client,) = subscribers([node], connect, "quote:S")
    redis.publish("quote:S", "1")
    first = client.item()
    redis.restart()
    client.wait_for("state", 10 * SLOWER, feed="ok")
    redis.publish("quote:S", "2")
    second = client.item()
    assert second["data"] == 2
    assert second.get("epoch", first["epoch"]) != first["epoch"] or second["seq"] > first["seq"]


def test_subscribing_during_an_outage(world, redis, connect):
    """Accepted at once, with the feed's state in the ack, and healed later."""
    node = world.node(redis, settings=FAST)
    (client,) = subscribers([node], connect, "quote:OLD")
    redis.kill()
    client.wait_for("state", 10 * SLOWER, feed="suspect")
    ack = client.subscribe("quote:NEW", "x:y")
    assert ack["accepted"] == 1 and ack["feed"] == "suspect"
    assert [r["name"] for r in ack["rejected"]] == ["unknown_namespace"]
    other = connect(node, channels="quote:NEW2")
    assert other.hello["feed"] == "suspect"
    assert other.expect("ack")["feed"] == "suspect"
    redis.start()
    client.wait_for("state", 10 * SLOWER, feed="ok")
    other.wait_for("state", feed="ok")
    for channel, who in (("quote:OLD", client), ("quote:NEW", client), ("quote:NEW2", other)):
        redis.publish(channel, f"\"{channel}\"")
        assert who.item()["data"] == channel
    assert "feed" not in client.subscribe("quote:LATER") or \
        client.subscribe("quote:LATER")["feed"] == "ok"
    assert connect(node).hello["feed"] == "ok"


def test_unsubscribing_during_an_outage(world, redis, connect):
    node = world.node(redis, settings={**FAST, "redis.linger_ms": 100})
    (client,) = subscribers([node], connect, "quote:A", "quote:B")
    redis.kill()
    client.wait_for("state", 10 * SLOWER, feed="suspect")
    client.ask("unsubscribe", channels=["quote:A"])
    redis.start()
    client.wait_for("state", 10 * SLOWER, feed="ok")
    redis.wait_listeners("quote:B")
    eventually(lambda: redis.listeners("quote:A") == 0)


def test_redis_absent_at_the_start(world, connect):
    """The node starts, is alive, not ready, and becomes ready by itself."""
    redis = world.redis(start=False)
    node = world.node(redis, ready=False, settings=FAST)
    assert node.get("/healthz").status == 200
    assert node.get("/readyz").status == 503
    client = connect(node)
    assert client.hello["feed"] == "suspect"
    assert client.subscribe("quote:EARLY")["feed"] == "suspect"
    redis.start()
    client.wait_for("state", 10 * SLOWER, feed="ok")
    node.wait_ready()
    redis.publish("quote:EARLY", "1")
    assert client.item()["data"] == 1


def test_redis_that_hangs(world, redis, connect):
    """Sockets stay open, nothing moves: silence is not health. The canary tells."""
    node = world.node(redis, settings=FAST)
    (client,) = subscribers([node], connect, "quote:HANG")
    redis.pause()
    begun = time.monotonic()
    client.wait_for("state", 10 * SLOWER, feed="suspect")
    assert time.monotonic() - begun < 3 * SLOWER
    reply = node.ops_get("/readyz")
    assert reply.status == 503
    # An open but dead link is dropped and redone: new connections wait at Redis's door.
    eventually(lambda: node.metric("tickcast_redis_errors_total") >= 1, 10 * SLOWER)
    assert client.ask("ping")["action"] == "pong"
    redis.resume()
    client.wait_for("state", 10 * SLOWER, feed="ok")
    redis.publish("quote:HANG", "1")
    assert client.item()["data"] == 1
    node.wait_ready()


def test_redis_drops_only_the_subscriber_link(world, redis, connect):
    """Redis throws a subscriber out that does not keep up; what was in its buffer
    is gone. Detected, told, and redone."""
    node = world.node(redis, settings=FAST)
    (client,) = subscribers([node], connect, "quote:DROP")
    assert redis("CLIENT", "KILL", "TYPE", "pubsub") >= 1
    client.wait_for("state", 10 * SLOWER, feed="suspect")
    client.wait_for("state", 10 * SLOWER, feed="ok")
    redis.publish("quote:DROP", "1")
    assert client.item()["data"] == 1


def test_redis_that_loads_or_refuses_is_not_fatal(world, redis, connect):
    """Redis at its client limit answers with an error and closes."""
    redis("CONFIG", "SET", "maxclients", "1")
    node = world.node(redis, ready=False, settings=FAST)
    eventually(lambda: node.metric("tickcast_redis_errors_total") >= 2, 10 * SLOWER)
    assert not node.is_ready()
    redis("CONFIG", "SET", "maxclients", "100")
    node.wait_ready()


def test_at_least_one_try_a_second(world):
    """A node is back within about a second of Redis, however long the outage was."""
    redis = world.redis(start=False)
    node = world.node(redis, ready=False, settings=FAST)
    eventually(lambda: node.metric("tickcast_redis_errors_total") >= 8, 20 * SLOWER,
               "several failed tries")
    redis.start()
    begun = time.monotonic()
    node.wait_ready()
    assert time.monotonic() - begun < 2 * SLOWER


# --- payloads that hurt ---------------------------------------------------------------------------

@pytest.mark.parametrize("workers", [1, 2])
def test_a_storm_of_malformed_payloads(world, redis, connect, workers):
    """One bad payload on a bus channel must not kill every node at once."""
    nodes = world.cluster(2, settings={"node.workers": workers})
    clients = subscribers(nodes, connect, "quote:STORM")
    redis.wait_listeners("quote:STORM", 2)
    randomness = random.Random(9)
    storm = []
    for n in range(2000):
        noise = randomness.randbytes(randomness.randrange(0, 60))
        payload = [noise, b"@" + noise, b"{" + noise, b"@e:1:", b"\xff" * 50, b"",
                   b"[" * 3000, b'{"action":"push","items":[]}', b"@e:%d:1" % n][n % 9]
        storm.append(("quote:STORM", payload))
    redis.publish_many(storm)
    for channel in ("tc:admin", "tc:canary", "tc:quote:", "tc:", "tc:quote:STORM "):
        for _, payload in storm[:100]:
            redis("PUBLISH", channel, payload)
    redis.publish("quote:STORM", "\"calm\"")
    for node, client in zip(nodes, clients):
        while True:
            item = client.item()
            assert item["channel"] == "quote:STORM"
            if item.get("data") == "calm":
                break
        assert node.alive() and node.get("/healthz").status == 200
        assert node.metric("tickcast_publications_dropped_total") > 100
        node.wait_ready()


def test_a_foreign_canary_does_not_count_as_ours(world, redis):
    """Two nodes share the canary's way; each judges by its own."""
    nodes = world.cluster(2, settings=FAST)
    for node in nodes:
        eventually(lambda: node.metric("tickcast_canary_seen_total") >= 3)
        assert node.metric("tickcast_canary_seen_total") <= node.metric("tickcast_canary_sent_total")


# --- a node fails -----------------------------------------------------------------------------------

def test_sigterm_closes_clients_with_4200_and_exits_0(world, redis, connect):
    node = world.node(redis, settings={"listen.drain_s": 1, "listen.drain_grace_s": 1,
                                       "node.workers": 2})
    clients = subscribers([node] * 6, connect, "quote:END")
    node.terminate()
    for client in clients:
        assert client.closed(10 * SLOWER) == 4200
    assert node.wait() == 0
    node.process = None


def test_a_spare_socket_does_not_hold_up_the_end(world, redis, wire):
    """Browsers open sockets that they may never use; one of them must not cost the full wait."""
    node = world.node(redis)
    spare = wire(node)
    node.wait_metric("tickcast_sockets", 1)
    started = time.monotonic()
    node.terminate()
    assert node.wait() == 0
    assert time.monotonic() - started < 3 * SLOWER
    node.process = None
    spare.close()


def test_a_draining_node_takes_nobody_new(world, redis, connect, wire):
    """Refused before the 101, with Retry-After, or not accepted at all."""
    node = world.node(redis, settings={"listen.drain_s": 2, "listen.drain_grace_s": 1})
    client = connect(node)
    node.terminate()
    assert client.closed(10 * SLOWER) == 4200
    try:
        one = wire(node)
        one.send(one.request())
        assert one.read_head() == 503
        assert int(one.headers["retry-after"]) >= 1
    except (OSError, EOFError):
        pass
    assert node.wait() == 0
    node.process = None


def test_a_node_killed_and_restarted(world, redis, connect):
    nodes = world.cluster(3)
    clients = subscribers(nodes, connect, "quote:KR")
    redis.publish("quote:KR", "1", heard_by=3)
    for client in clients:
        client.item()
    nodes[1].kill()
    assert clients[1].closed() == 1006
    eventually(lambda: redis.listeners("quote:KR") == 2)
    redis.publish("quote:KR", "2", heard_by=2)
    assert clients[0].item()["data"] == 2 and clients[2].item()["data"] == 2
    nodes[1].start().wait_ready()
    (again,) = subscribers(nodes[1:2], connect, "quote:KR")
    redis.publish("quote:KR", "3", heard_by=3)
    for client in (clients[0], again, clients[2]):
        assert client.item()["data"] == 3
    for client in (clients[0], clients[2]):
        client.nothing_more()


def test_a_client_that_vanishes_in_the_middle_of_everything(world, redis, connect, wire):
    """Sockets reset while frames are on their way to them."""
    import socket
    import struct
    node = world.node(redis, settings={"node.workers": 2})
    (witness,) = subscribers([node], connect, "trade:RST")
    for turn in range(20):
        ones = [wire(node).upgrade("/ws?channels=trade:RST") for _ in range(10)]
        redis.publish_many([("trade:RST", json.dumps("v" * 2000))] * 20)
        for one in ones:
            one.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            one.close()
        witness.items(20)
    node.wait_metric("tickcast_connections", 1)
    node.wait_metric("tickcast_subscriptions", 1)
    witness.nothing_more()


# --- a recorded feed --------------------------------------------------------------------------------

def make_tape(path, channels=10, count=4000, seed=20210417):
    """A tape of the shape of a real exchange's feed: bursts of small book updates, some tickers,
    now and then a snapshot of tens of KB. Returns {channel: [payload bytes, ...]}."""
    randomness = random.Random(seed)
    names = [f"quote:{a}-{b}" for a in ("SKL", "YFI", "NU", "CRV", "BAND")
             for b in ("USD", "BTC")][:channels]
    expected = {name: [] for name in names}
    with open(path, "wb") as tape:
        for n in range(count):
            name = randomness.choice(names)
            product = name.split(":")[1]
            kind = randomness.random()
            if kind < 0.97:
                body = {"type": "l2update", "product_id": product, "time": n, "changes":
                        [["buy", f"{randomness.uniform(1, 60000):.8f}",
                          f"{randomness.uniform(0, 9):.8f}"]]}
            elif kind < 0.995:
                body = {"type": "ticker", "sequence": n, "product_id": product,
                        "text": "\u20ac" * randomness.randrange(100)}
            else:
                body = {"type": "snapshot", "product_id": product, "asks": [
                    [f"{i}.{i:08d}", "1.0"] for i in range(randomness.randrange(1200))]}
            payload = json.dumps(body, ensure_ascii=False,
                                 separators=randomness.choice([(",", ":"), (", ", ": ")])).encode()
            expected[name].append(payload)
            tape.write(name.encode() + b"\t" + payload + b"\n")
    return expected


def collect_raw(client, count):
    return [client.recv_text().encode() for _ in range(count)]


DATA = re.compile(rb'"data":')


@pytest.mark.limit(90)
@pytest.mark.parametrize("workers, compression", [(1, None), (2, "deflate")])
def test_a_replayed_feed_arrives_complete_and_in_order_on_all_nodes(world, redis, connect, ctl,
                                                                    tmp_path, workers,
                                                                    compression):
    """Every payload byte-identical, no loss, no repeat, per channel in order, on every node."""
    nodes = world.cluster(3, settings={"node.workers": workers})
    expected = make_tape(tmp_path / "tape")
    options = {"compression": compression}
    clients = [connect(node, options=options) for node in nodes for _ in range(2)]
    for client in clients:
        client.subscribe(*expected)
    raws = [connect(nodes[n % 3], raw=True, channels=name, options=options)
            for n, name in enumerate(expected)]
    for name in expected:
        redis.wait_listeners(name, 3)
    total = sum(map(len, expected.values()))
    done = ctl("replay", "--redis", redis.url, "--rate", 4000, tmp_path / "tape", timeout=60)
    assert done.returncode == 0, done.stderr
    for raw, (name, payloads) in zip(raws, expected.items()):
        assert collect_raw(raw, len(payloads)) == payloads
    for client in clients:
        got = {name: [] for name in expected}
        seqs = {}
        left = total
        while left:
            text = client.recv_text().encode()
            message = json.loads(text)
            assert message["action"] == "push", message
            for item in message["items"]:
                assert item["seq"] > seqs.get(item["channel"], 0) and "missed" not in item
                seqs[item["channel"]] = item["seq"]
                payload = expected[item["channel"]][len(got[item["channel"]])]
                assert b'"data":' + payload in text
                assert item["data"] == json.loads(payload)
                got[item["channel"]].append(payload)
                left -= 1
        assert got == expected
        client.nothing_more()


RECORDED = """\
wss://feed.example.com <-> 1618677816.8434298
wss://feed.example.com <- 1618677817.020616: {"type":"subscribe","product_ids":["A-USD"]}
1618677817.100000: {"type":"subscriptions","channels":[]}
1618677817.200000: {"type":"l2update","product_id":"A-USD","changes":[["buy","1.10","2"]]}
1618677817.210000: {"type":"ticker","product_id":"B-USD","price":"7.00"}
1618677817.300000: {"type":"l2update","product_id":"A-USD","changes":[["buy","1.20","0"]]}
"""


def test_a_recorded_feed_is_replayed_by_product(world, redis, connect, ctl, tmp_path):
    """The recorded format: channel = namespace and product_id, payload = the frame."""
    (tmp_path / "feed.frames").write_text(RECORDED)
    node = world.node(redis)
    (client,) = subscribers([node], connect, "quote:A-USD", "quote:B-USD")
    done = ctl("replay", "--redis", redis.url, "--speed", 10, tmp_path / "feed.frames")
    assert done.returncode == 0
    lines = [line.split(": ", 1)[1] for line in RECORDED.splitlines()[3:]]
    got = client.items(3)
    assert [i["channel"] for i in got] == ["quote:A-USD", "quote:B-USD", "quote:A-USD"]
    assert [i["data"] for i in got] == [json.loads(line) for line in lines]


def test_an_ended_node_leaves_redis_clean(world, redis, connect):
    node = world.node(redis)
    subscribers([node], connect, "quote:CLEAN")
    node.process.send_signal(signal.SIGTERM)
    assert node.wait(40) == 0
    node.process = None
    eventually(lambda: redis.listeners("quote:CLEAN") == 0)
