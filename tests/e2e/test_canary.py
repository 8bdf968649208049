"""A Redis that is up but wrong, played by a small server of our own: what the canary must notice."""
import socket
import threading
import time

import pytest

from fake_redis import FakeRedis
from world import SLOWER, eventually


@pytest.fixture
def fake():
    made = []

    def make(**options):
        made.append(FakeRedis(**options))
        return made[-1]

    yield make
    for redis in made:
        redis.close()


def test_a_link_that_is_open_but_dead_is_redone(world, fake):
    """Sockets stay open, nothing arrives. Never ready, and dialled again."""
    redis = fake()
    node = world.node(redis.url, settings={"redis.canary_ms": 100}, ready=False)
    eventually(lambda: redis.accepted >= 6, 10 * SLOWER, "three dials of each link")
    assert node.get("/readyz").status == 503
    assert node.metric("tickcast_feed_ok") == 0


def test_a_link_that_still_carries_data_is_not_dropped(world, fake, connect):
    """A canary that is late because data is queued before it makes the feed suspect; dropping the
    link would lose that data."""
    redis = fake()
    node = world.node(redis.url, settings={"redis.canary_ms": 300}, ready=False)
    client = connect(node, channels="quote:LATE")
    assert client.expect("ack")["feed"] == "suspect"
    eventually(lambda: redis.subscribers, what="the subscriber link")
    end = threading.Event()

    def talk():
        number = 0
        while not end.wait(0.05):
            number += 1
            redis.publish(b"tc:quote:LATE", b"%d" % number)

    talker = threading.Thread(target=talk, daemon=True)
    talker.start()
    try:
        first = client.item()["data"]
        accepted = redis.accepted
        for number in range(first + 1, first + 40):  # two seconds: twice the canary's patience
            assert client.item()["data"] == number
        assert redis.accepted == accepted
        assert node.get("/readyz").status == 503
    finally:
        end.set()
        talker.join()


def test_a_refused_subscribe_does_not_leave_clients_waiting(world, fake, connect):
    """An error reply to SUBSCRIBE: the feed is suspect, and the ack says so."""
    redis = fake(refuse=b"tc:quote:DENIED")
    node = world.node(redis.url, settings={"redis.canary_ms": 100}, ready=False)
    client = connect(node)
    ack = client.subscribe("quote:DENIED")
    assert ack["accepted"] == 1 and ack["feed"] == "suspect"
    assert client.ask("ping")["action"] == "pong"


class TwoLinks:
    """A proxy in front of Redis that can tell a node's two links apart."""

    def __init__(self, port):
        self.to_port = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.sockets = []
        self.frozen = set()  # pairs over which nothing passes any more
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self):
        return f"redis://127.0.0.1:{self.port}/0"

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            pair = {"client": client, "server": socket.create_connection(("127.0.0.1", self.to_port)),
                    "subscribes": False}
            self.sockets.append(pair)
            for source, sink in (("client", "server"), ("server", "client")):
                threading.Thread(target=self._pump, args=(pair, source, sink), daemon=True).start()

    def _pump(self, pair, source, sink):
        try:
            while data := pair[source].recv(65536):
                if source == "client" and b"SUBSCRIBE" in data:
                    pair["subscribes"] = True
                if id(pair) not in self.frozen:
                    pair[sink].sendall(data)
        except OSError:
            pass
        for end in ("client", "server"):
            try:
                pair[end].shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def freeze_commands(self):
        self.frozen |= {id(pair) for pair in self.sockets if not pair["subscribes"]}

    def close(self):
        self.listener.close()
        for pair in self.sockets:
            pair["client"].close()
            pair["server"].close()


def test_a_dead_command_link_is_redone(world, redis, connect):
    """The subscriber link goes on delivering, so its silence shows nothing."""
    proxy = TwoLinks(redis.port)
    try:
        node = world.node(proxy.url, settings={"redis.canary_ms": 300 * SLOWER})
        client = connect(node)
        client.subscribe("trade:A")
        proxy.freeze_commands()
        stop = threading.Event()
        publisher = redis.client().__class__(redis.port)

        def publish():
            while not stop.is_set():
                publisher("PUBLISH", "tc:trade:A", "1")
                time.sleep(0.01)

        thread = threading.Thread(target=publish)
        thread.start()
        try:
            client.wait_for("state", feed="suspect", timeout=15 * SLOWER)
            client.wait_for("state", feed="ok", timeout=15 * SLOWER)
        finally:
            stop.set()
            thread.join()
        assert node.metric("tickcast_redis_connects_total", link="command") == 2
        assert node.metric("tickcast_redis_connects_total", link="subscriber") == 1
    finally:
        proxy.close()
