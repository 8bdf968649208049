"""The ops listener's /metrics, read by someone else's parser."""

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from world import eventually


@pytest.fixture(scope="module")
def node(module_world):
    return module_world.node(module_world.redis(), settings={"node.workers": 2})


@pytest.fixture
def bus(module_world, node):
    return module_world.redises[0]


def families(node):
    reply = node.ops_get("/metrics")
    assert reply.status == 200
    assert reply.headers["content-type"].startswith("text/plain")
    return list(text_string_to_metric_families(reply.body.decode()))


def test_conventions(node):
    """Names, units, help and types as Prometheus wants them."""
    seen = set()
    for family in families(node):
        assert re.fullmatch(r"(tickcast|process)_[a-z][a-z0-9_]*", family.name), family.name
        # The parser takes `_total` off a counter's name; OpenMetrics does not let a gauge have it.
        assert family.name not in seen, f"{family.name} stands in two places"
        seen.add(family.name)
        assert family.documentation.strip(), family.name
        assert family.type in ("counter", "gauge", "histogram"), family
        assert not re.search(r"_(ms|us|kb|mb)$", family.name), f"{family.name}: not a base unit"
        assert family.samples
        for sample in family.samples:
            if family.type == "counter":
                assert sample.name.endswith("_total")
                assert sample.value >= 0
            elif family.type == "gauge":
                assert not sample.name.endswith("_total"), sample.name


WANTED = """
tickcast_connections tickcast_connections_opened_total tickcast_connections_ended_total
tickcast_channels tickcast_subscriptions tickcast_publications_total tickcast_deliveries_total
tickcast_delivered_bytes_total tickcast_delivered_uncompressed_bytes_total tickcast_redis_up
tickcast_redis_connects_total tickcast_canary_sent_total tickcast_canary_seen_total
tickcast_client_errors_total tickcast_publications_dropped_total tickcast_delivery_seconds_bucket
tickcast_delivery_seconds_count tickcast_delivery_seconds_sum tickcast_feed_ok
tickcast_http_responses_total tickcast_log_dropped_total process_resident_memory_bytes
process_open_fds process_cpu_seconds_total process_start_time_seconds
""".split()


@pytest.mark.parametrize("name", WANTED)
def test_what_must_be_there(node, name):
    assert any(n == name for n, _ in node.metrics()), name


def test_traffic_moves_the_counters(node, bus, connect):
    before = node.metrics()
    clients = [connect(node, channels="quote:M1,quote:M2") for _ in range(4)]
    for client in clients:
        client.expect("ack")
    for n in range(25):
        bus.publish("quote:M1", f"{n}")
        bus.publish("quote:M2", f"{n}")
    for client in clients:
        client.items(50)
    clients[0].ask("nonsense")
    clients[0].ask("subscribe", channels=["x:y"])
    eventually(lambda: node.metric("tickcast_deliveries_total") >=
               before[("tickcast_deliveries_total", ())] + 200)
    after = node.metrics()

    def moved(name, **labels):
        key = (name, tuple(sorted(labels.items())))
        return after[key] - before[key]

    assert moved("tickcast_connections") == 4
    assert moved("tickcast_connections_opened_total") == 4
    assert moved("tickcast_subscriptions") == 8
    assert moved("tickcast_publications_total") == 50
    assert moved("tickcast_publication_bytes_total") == 2 * (10 + 15 * 2)
    assert moved("tickcast_deliveries_total") == 200
    assert moved("tickcast_delivery_seconds_count") == 200
    assert 0 < moved("tickcast_delivery_seconds_sum") < 200
    assert moved("tickcast_delivered_bytes_total") > 200 * 40
    assert moved("tickcast_client_errors_total", cause="command") == 1
    assert moved("tickcast_client_errors_total", cause="channel") == 1
    for client in clients:
        client.close()
    node.wait_metric("tickcast_connections", 0)
    assert node.metric("tickcast_connections_ended_total", cause="client") >= 4


def test_snapshots_do_not_count_as_latency(node, bus, connect):
    """An old value sent as a snapshot says nothing about delivery."""
    first = connect(node, channels="quote:OLD")
    first.expect("ack")
    bus.publish("quote:OLD", "1")
    first.item()
    first.ask("ping")  # the turn in which the item was sent is over, and it is counted
    before = node.metric("tickcast_delivery_seconds_count")
    for _ in range(5):
        late = connect(node)
        late.subscribe("quote:OLD")
        assert late.item()["snap"] is True
    assert node.metric("tickcast_delivery_seconds_count") == before


def test_the_histogram_is_cumulative_and_complete(node):
    buckets = [(dict(l)["le"], v) for (n, l), v in node.metrics().items()
               if n == "tickcast_delivery_seconds_bucket"]
    buckets.sort(key=lambda b: float(b[0]))
    values = [v for _, v in buckets]
    assert values == sorted(values)
    assert buckets[-1][0] == "+Inf"
    assert values[-1] == node.metric("tickcast_delivery_seconds_count")


def test_feed_and_redis_gauges(world):
    redis = world.redis()
    node = world.node(redis, settings={"redis.canary_ms": 200})
    for link in ("subscriber", "command"):
        assert node.metric("tickcast_redis_up", link=link) == 1
        assert node.metric("tickcast_redis_connects_total", link=link) == 1
    assert node.metric("tickcast_feed_ok") == 1
    redis.kill()
    node.wait_suspect()
    assert node.metric("tickcast_feed_ok") == 0
    node.wait_metric("tickcast_redis_up", 0)
    redis.start()
    node.wait_ready()
    for link in ("subscriber", "command"):
        assert node.metric("tickcast_redis_up", link=link) == 1
        assert node.metric("tickcast_redis_connects_total", link=link) == 2
    assert node.metric("tickcast_redis_errors_total") >= 1


@pytest.mark.parametrize("path, status", [("/nope", 404), ("/", 404), ("/metrics/x", 404)])
def test_other_paths_of_the_ops_listener(node, path, status):
    assert node.ops_get(path).status == status
