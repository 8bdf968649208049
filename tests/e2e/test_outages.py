"""What clients hold after an outage, and when numbers cannot be trusted any more: nothing is silently
wrong (docs/protocol.md, 3)."""

import json
import shutil
import threading
import time

import pytest

from current import SETTINGS, deaf, numbers, stamp_many
from world import PUBLISH_LUA, RedisClient, RedisError, SLOWER, eventually


@pytest.fixture
def node(world, redis):
    return world.node(redis, settings=SETTINGS)


def test_healed_before_ok(node, redis, connect):
    """What was published while the link was cut arrives in order, and only then `ok`."""
    client = connect(node)
    stamp_many(redis, "trade:A", 3, 5000)
    client.subscribe("trade:A", "quote:P", "quote:S")
    client.item()
    redis.stamp("quote:S", '"old"', heard_by=1)
    redis.publish("quote:P", "1")
    client.items(2)

    def publish():
        stamp_many(redis, "trade:A", 600, 5000, start=3)
        redis.stamp("quote:S", '"older"')
        redis.stamp("quote:S", '"new"')
        redis("PUBLISH", "tc:quote:P", "lost")

    deaf(redis, node, publish)
    client.wait_for("state", feed="suspect")
    state = client.wait_for("state", feed="ok")
    items, client.pending = client.pending, []
    trades = [i for i in items if i["channel"] == "trade:A"]
    assert numbers(trades) == list(range(4, 604)) and not any("missed" in i for i in trades)
    (quote,) = [i for i in items if i["channel"] == "quote:S"]
    assert quote["data"] == "new" and quote["missed"] == 1
    assert state["suspect"] == ["quote:P"]  # nobody can vouch for a plain channel
    client.nothing_more()
    assert node.metric("tickcast_healed_publications_total") == 601


def test_a_hole_that_the_log_does_not_cover(world, redis, connect):
    node = world.node(redis, settings={**SETTINGS, "namespace.trade.history": 10})
    client = connect(node)
    redis.stamp("trade:A", "1", 10)
    client.subscribe("trade:A")
    client.item()
    deaf(redis, node, lambda: stamp_many(redis, "trade:A", 30, 10))
    client.wait_for("state", feed="ok")
    items, client.pending = client.pending, []
    assert numbers(items) == list(range(22, 32)) and items[0]["missed"] == 20


def test_redis_lost_its_data(world, redis, connect):
    """New epoch, and whoever follows goes on with it."""
    node = world.node(redis, settings=SETTINGS)
    client = connect(node)
    stamp_many(redis, "trade:A", 5, 5000)
    client.subscribe("trade:A")
    assert client.item()["seq"] == 5
    redis.restart()  # nothing was on disk
    client.wait_for("state", feed="ok")
    seq, epoch = redis.stamp("trade:A", '"after"', 5000)
    item = client.item()
    assert (item["seq"], item["epoch"], item["data"]) == (1, epoch, "after")


@pytest.mark.limit(90)
def test_an_older_copy_of_redis(world, connect):
    """Numbers go back in the same epoch: it is changed, once for the fleet, and everyone goes on."""
    redis = world.redis()
    nodes = world.cluster(3, settings=SETTINGS)
    clients = [connect(n) for n in nodes]
    stamp_many(redis, "trade:A", 5, 5000)
    copy = {key: redis("DUMP", key) for key in ("{tc:trade:A}", "{tc:trade:A}:log")}
    for client in clients:
        client.subscribe("trade:A")
        client.item()
    epoch = redis.stamp("trade:A", '"lost"', 5000)[1]
    stamp_many(redis, "trade:A", 4, 5000)
    for client in clients:
        assert numbers(client.items(5)) == [6, 7, 8, 9, 10]
    redis.kill()
    redis.start()
    redis.client().many([("RESTORE", key, 0, blob, "REPLACE") for key, blob in copy.items()])
    for client in clients:
        client.wait_for("state", feed="ok")
    time.sleep(0)
    seq, renewed = redis.stamp("trade:A", '"after"', 5000)
    held = set()
    for client in clients:
        items = client.items(1)
        while items[-1]["data"] != "after":
            items += client.items(1)
        assert items[0]["epoch"] == renewed != epoch
        held.add(json.dumps([(i["seq"], i["data"]) for i in items[-1:]]))
    assert len(held) == 1
    assert sum(n.metric("tickcast_epochs_renewed_total") for n in nodes) >= 1


class Publisher(threading.Thread):
    """Stamps numbers one after the other, whatever happens to Redis."""

    def __init__(self, redis, *channels):
        super().__init__()
        self.redis, self.channels = redis, channels
        self.n = 0
        self.stop = threading.Event()

    def run(self):
        client, script = None, PUBLISH_LUA.read_text()
        while not self.stop.is_set():
            try:
                client = client or RedisClient(self.redis.port)
                client.many([("EVAL", script, 1, f"{{tc:{c}}}", self.n + 1, 5000) for c in self.channels])
                self.n += 1
            except (OSError, RedisError):  # ConnectionError is an OSError
                client = None
            time.sleep(0.001)

    def wait_for(self, more):
        goal = self.n + more
        eventually(lambda: self.n >= goal, 20 * SLOWER, f"{more} publications")

    def end(self):
        self.stop.set()
        self.join()


def check_order_in_epochs(items, mode):
    """Returns the epochs. The data of an item is its number as the publisher counts."""
    epochs, last = [], None
    for item in items:
        if "epoch" in item and item["epoch"] != (epochs[-1:] or [None])[0]:
            epochs.append(item["epoch"])
        elif item.get("snap"):
            assert item["seq"] >= last, (last, item)
        else:
            assert item["seq"] == last + 1 + item.get("missed", 0), (last, item)
            assert mode == "latest" or "missed" not in item, item
        last = item["seq"]
    return epochs


@pytest.mark.limit(90)
def test_an_older_copy_of_redis_under_traffic(world, connect):
    """Everyone goes on, with one new epoch, and holds the newest value in the end."""
    redis = world.redis(persistent=True)
    channels = {"trade:A": "all", "quote:A": "latest"}
    clients = [connect(n) for n in world.cluster(3, settings=SETTINGS)]
    publisher = Publisher(redis, *channels)
    publisher.start()
    try:
        for client in clients:
            client.subscribe(*channels)
        publisher.wait_for(200)
        files, copy = redis.dir / "appendonlydir", redis.dir / "copy"
        redis.pause()
        shutil.copytree(files, copy)
        redis.resume()
        publisher.wait_for(200)
        redis.kill()
        shutil.rmtree(files)
        copy.rename(files)
        redis.start()
        publisher.wait_for(200)
    finally:
        publisher.end()
    seen = set()
    for client in clients:
        got = {channel: [] for channel in channels}
        while any(not items or items[-1]["data"] != publisher.n for items in got.values()):
            item = client.item()
            got[item["channel"]].append(item)
        for channel, mode in channels.items():
            seen.add((channel, *check_order_in_epochs(got[channel], mode)))
        client.nothing_more()
    assert len(seen) == len(channels) and all(len(epochs) == 3 for epochs in seen)


@pytest.mark.parametrize("more", [4, 6], ids=["as long", "longer"])
def test_another_history_under_the_same_numbers(node, redis, connect, more):
    """The older copy has caught up with the numbers while the node could not hear."""
    client = connect(node)
    stamp_many(redis, "trade:A", 3, 5000)
    copy = {key: redis("DUMP", key) for key in ("{tc:trade:A}", "{tc:trade:A}:log")}
    client.subscribe("trade:A")
    stamp_many(redis, "trade:A", 4, 5000)
    items = client.items(5)
    epoch = items[0]["epoch"]

    def publish():
        # Two publications of one number in the same millisecond could not be told apart.
        eventually(lambda: time.time() * 1000 > items[-1]["ts"] + 1)
        redis.client().many([("RESTORE", key, 0, blob, "REPLACE") for key, blob in copy.items()])
        stamp_many(redis, "trade:A", more, 5000, start=100)

    deaf(redis, node, publish)
    client.wait_for("state", feed="ok")
    (item,) = client.pending
    assert (item["seq"], item["data"]["n"], item["snap"]) == (3 + more, 99 + more, True)
    assert item["epoch"] != epoch


def test_an_older_copy_that_is_restored_late(world, redis, connect):
    """Redis comes back empty, the nodes have read that, and then its keys are put back."""
    client = connect(world.node(redis, settings=SETTINGS))
    stamp_many(redis, "trade:A", 3, 5000)
    copy = {key: redis("DUMP", key) for key in ("{tc:trade:A}", "{tc:trade:A}:log")}
    client.subscribe("trade:A")
    stamp_many(redis, "trade:A", 4, 5000)
    epoch = client.items(5)[0]["epoch"]
    redis.restart()
    client.wait_for("state", feed="ok")
    redis.client().many([("RESTORE", key, 0, blob, "REPLACE") for key, blob in copy.items()])
    for text in ('"four"', '"five"'):
        redis.stamp("trade:A", text, 5000)
    items = client.items(2)
    assert [i["data"] for i in items] == ["four", "five"] and items[0]["epoch"] != epoch


def test_numbers_that_go_back_on_a_live_link(node, redis, connect):
    """As when a proxy in front of Redis fails over without the node noticing."""
    client = connect(node)
    stamp_many(redis, "trade:A", 3, 5000)
    copy = {key: redis("DUMP", key) for key in ("{tc:trade:A}", "{tc:trade:A}:log")}
    client.subscribe("trade:A")
    client.item()
    stamp_many(redis, "trade:A", 4, 5000)
    epoch = redis("HGET", "{tc:trade:A}", "epoch").decode()
    assert numbers(client.items(4)) == [4, 5, 6, 7]
    redis.client().many([("RESTORE", key, 0, blob, "REPLACE") for key, blob in copy.items()])
    for text in ('"four"', '"five"', '"six"'):
        redis.stamp("trade:A", text, 5000)
    items = client.items(3)
    assert [i["data"] for i in items] == ["four", "five", "six"]
    assert numbers(items) == [4, 5, 6]
    renewed = redis("HGET", "{tc:trade:A}", "epoch").decode()
    assert items[0]["epoch"] == renewed != epoch


def test_nodes_that_notice_it_together_agree(world, redis, connect):
    """The epoch is changed once for the fleet, and nothing of the old one is left in the log."""
    clients = [connect(n) for n in world.cluster(3, settings=SETTINGS)]
    stamp_many(redis, "trade:A", 3, 5000)
    copy = {key: redis("DUMP", key) for key in ("{tc:trade:A}", "{tc:trade:A}:log")}
    for client in clients:
        client.subscribe("trade:A")
    stamp_many(redis, "trade:A", 4, 5000)
    for client in clients:
        assert numbers(client.items(5)) == [3, 4, 5, 6, 7]
    redis.client().many([("RESTORE", key, 0, blob, "REPLACE") for key, blob in copy.items()])
    stamp_many(redis, "trade:A", 3, 5000)
    told = [client.items(3) for client in clients]
    epoch = redis("HGET", "{tc:trade:A}", "epoch").decode()
    assert {items[0]["epoch"] for items in told} == {epoch}
    assert not any("epoch" in item for items in told for item in items[1:])
    redis.stamp("trade:A", '"after"', 5000)
    for client in clients:
        item = client.item()
        assert item["data"] == "after" and "epoch" not in item
        client.nothing_more()
    entries = [entry[0] for entry in redis("XRANGE", "{tc:trade:A}:log", "-", "+")]
    assert b"3-0" not in entries and entries[-1] == b"7-0"


def test_a_forged_stamp_does_no_harm(node, redis, connect):
    client = connect(node)
    stamp_many(redis, "trade:A", 3, 5000)
    client.subscribe("trade:A")
    client.item()
    epoch = redis("HGET", "{tc:trade:A}", "epoch").decode()
    stamp_many(redis, "trade:A", 1, 5000)
    assert client.item()["seq"] == 4
    redis.publish("trade:A", f"@{epoch}:2:5 \"forged\"")
    redis.publish("trade:A", f"@{epoch}:x:5 \"forged\"")
    stamp_many(redis, "trade:A", 1, 5000)
    item = client.item()
    assert item["seq"] == 5 and "epoch" not in item
    assert redis("HGET", "{tc:trade:A}", "epoch").decode() == epoch
    # One from the future is believed, its gap is told, and the real numbers then get a new epoch.
    redis.publish("trade:A", f"@{epoch}:1000:5 \"forged\"")
    assert client.item()["missed"] == 994
    redis.stamp("trade:A", '"real"', 5000)
    redis.stamp("trade:A", '"real too"', 5000)
    assert [i["data"] for i in client.items(2)] == ["real", "real too"]
