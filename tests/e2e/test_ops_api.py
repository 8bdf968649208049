"""GET /api/v1/nodes, channels and clients, POST /api/v1/admin (docs/protocol.md, 5)."""

import json
import os
import signal
import socket
import threading
import time

import pytest

from fake_redis import FakeRedis
from world import SLOWER, WAIT, eventually, http_request

FAR = int(time.time() * 1000) + 3_600_000


def post(node, body, **headers):
    text = body if isinstance(body, (str, bytes)) else json.dumps(body)
    return http_request(node.ops, "/api/v1/admin", "POST", text, headers)


def ids(node):
    reply = node.ops_get("/api/v1/nodes")
    assert reply.status == 200, reply.body
    return [n["id"] for n in reply.json()["nodes"]]


@pytest.fixture(scope="module")
def fleet_redis(module_world):
    return module_world.redis()


@pytest.fixture(scope="module")
def fleet(module_world, fleet_redis):
    nodes = [module_world.node(fleet_redis, name=name, ready=False, settings={"node.workers": 2})
             for name in ("n1", "n2", "n3")]
    for node in nodes:
        node.wait_ready()  # before, there is no Redis to be asked
    eventually(lambda: ids(nodes[0]) == ["n1", "n2", "n3"], 10 * SLOWER, "three nodes")
    return nodes


@pytest.fixture
def ghost(fleet_redis):
    """A node that is registered, and is not there."""
    fleet_redis("ZADD", "tc:nodes", FAR, "ghost")
    fleet_redis("HSET", "tc:node:ghost", "state", "ready")
    yield
    fleet_redis("ZREM", "tc:nodes", "ghost")
    fleet_redis("DEL", "tc:node:ghost")


# --- nodes -------------------------------------------------------------------------------------


def test_nodes_are_ordered_and_their_numbers_are_numbers(fleet):
    nodes = fleet[1].ops_get("/api/v1/nodes").json()["nodes"]
    assert [n["id"] for n in nodes] == ["n1", "n2", "n3"]
    for node, real in zip(nodes, fleet):
        assert node["address"] == real.listen and node["ops"] == real.ops
        for name, value in node.items():
            is_text = name in ("id", "address", "ops", "version", "state", "feed", "instance")
            assert isinstance(value, str if is_text else int), name


def test_entries_that_something_else_wrote(world, redis):
    node = world.node(redis)
    eventually(lambda: ids(node) == ["n1"])
    redis("ZADD", "tc:nodes", FAR, "string", FAR, "empty", "inf", "odd", FAR, "huge",
          FAR, b"\xff\xfe", FAR, "a b", FAR, '"', FAR, "", FAR, "x" * 3_000_000,
          FAR, "../../etc", "-inf", "past", int(time.time() * 1000) - 1, "expired")
    redis("SET", "tc:node:string", "1")
    redis("HSET", "tc:node:odd", "state", b"\xff", "clients", "12 apes", "channels", "-1",
          "in_per_s", "1e400", "started", "9" * 40, "address", '"}],"x":[', "out_per_s", "5",
          "id", "n1", "unheard", "of")
    redis("HSET", "tc:node:huge", "state", "x" * 5_000_000, "pid", "7")
    redis("HSET", "tc:node:expired", "state", "ready")
    redis("HSET", "tc:node:past", "state", "ready")
    nodes = {n["id"]: n for n in node.ops_get("/api/v1/nodes").json()["nodes"]}
    assert set(nodes) == {"n1", "odd", "huge"}
    assert nodes["odd"] == {"id": "odd", "address": '"}],"x":[', "out_per_s": 5}
    assert nodes["huge"] == {"id": "huge", "pid": 7}
    assert node.metric("tickcast_redis_connects_total", link="command") == 1


def test_a_crowd_of_entries_is_cut(world, redis):
    node = world.node(redis)
    eventually(lambda: ids(node) == ["n1"])
    redis("ZADD", "tc:nodes", *[x for i in range(3000) for x in (FAR, f"g{i}")])
    redis.client().many([("HSET", f"tc:node:g{i}", "state", "ready") for i in range(3000)])
    found = ids(node)
    assert len(found) == 1000 and "n1" in found and found == sorted(found)
    assert node.metric("tickcast_redis_connects_total", link="command") == 1


def test_without_redis_there_is_no_list_and_no_command(world, redis):
    node = world.node(redis)
    redis.kill()
    eventually(lambda: node.ops_get("/api/v1/nodes").status == 503, what="503")
    assert node.ops_get("/api/v1/nodes").json()["name"] == "feed_unavailable"
    assert post(node, {"cmd": "ping"}).status == 503
    assert node.ops_get("/api/v1/channels").status == 200
    assert node.ops_get("/api/v1/clients").status == 200


@pytest.mark.limit(60)
def test_a_redis_that_hangs(world, redis):
    """503 in three seconds, and as many questions as you like do not pile up."""
    node = world.node(redis, settings={"redis.canary_ms": 60000})  # so that the link stays
    eventually(lambda: ids(node) == ["n1"])
    redis.pause()
    try:
        replies = []
        ask = [lambda: replies.append(node.ops_get("/api/v1/nodes").status)] * 40 + [
            lambda: replies.append(post(node, {"cmd": "ping"}).status)] * 5
        began = time.monotonic()
        threads = [threading.Thread(target=one) for one in ask]
        for thread in threads:
            thread.start()
        assert node.ops_get("/healthz").status == 200, "others are served meanwhile"
        for thread in threads:
            thread.join()
        assert replies == [503] * 45
        assert time.monotonic() - began < 4.5 * SLOWER
    finally:
        redis.resume()
    eventually(lambda: node.ops_get("/api/v1/nodes").status == 200, 10 * SLOWER)
    eventually(lambda: ids(node) == ["n1"], 10 * SLOWER)


def test_a_redis_that_answers_nonsense(world):
    redis = FakeRedis()
    try:
        node = world.node(redis.url, ready=False)
        eventually(lambda: redis.others and redis.subscribers)
        assert node.ops_get("/api/v1/nodes").status == 503
        assert post(node, {"cmd": "ping"}).status == 503
    finally:
        redis.close()


# --- admin -------------------------------------------------------------------------------------


def test_all_nodes_reply(fleet):
    reply = post(fleet[0], {"cmd": "ping"})
    body = reply.json()
    assert reply.status == 200 and "missing" not in body
    assert sorted(r["node"] for r in body["replies"]) == ["n1", "n2", "n3"]
    assert all(r["ok"] and r["cmd"] == "ping" for r in body["replies"])
    assert len(body["id"]) == 32 and body["id"] != post(fleet[0], {"cmd": "ping"}).json()["id"]


def test_a_command_through_one_node_acts_on_another(fleet, connect):
    victim, other = connect(fleet[2]), connect(fleet[1])
    body = post(fleet[0], ' { "cmd" : "kick", "conn":"%s" } ' % victim.hello["conn"]).json()
    assert sorted((r["node"], r["affected"]) for r in body["replies"]) == [
        ("n1", 0), ("n2", 0), ("n3", 1)]
    assert victim.closed() == 4005
    other.nothing_more()
    data = '{"price":1.10,"n":1e2}'
    post(fleet[0], '{"cmd":"notice","node":"n2","data":%s}' % data)
    assert data in other.recv_text()


def test_a_command_for_one_node(fleet):
    for node in fleet:
        body = post(fleet[0], {"cmd": "ping", "node": node.id}).json()
        assert [r["node"] for r in body["replies"]] == [node.id] and "missing" not in body


def test_a_command_for_nobody_is_not_sent(fleet):
    for nobody in ("n9", ""):
        reply = post(fleet[0], {"cmd": "ping", "node": nobody, "id": "lost"})
        body = reply.json()
        assert reply.status == 404 and body["name"] == "unknown_node"
        assert body["replies"] == [] and body["missing"] == [nobody]


def test_an_id_of_ones_own(fleet, fleet_redis):
    for own in ("op-7", 7, -7, 1780000000123456789, "18:00, \u20ac"):
        body = post(fleet[0], {"cmd": "ping", "id": own}).json()
        assert body["id"] == str(own) and len(body["replies"]) == 3
        assert fleet_redis("LLEN", f"tc:admin:reply:{own}") == 3
    # Again: the former replies are not taken for the new ones.
    body = post(fleet[0], {"cmd": "explode", "id": "op-7"}).json()
    assert len(body["replies"]) == 3 and not any(r["ok"] for r in body["replies"])


def test_a_node_that_does_not_reply_is_named(fleet, fleet_redis, ghost):
    fleet_redis("SET", "tc:admin:reply:s", "a string")  # where no reply can go
    silent = []
    thread = threading.Thread(target=lambda: silent.append(post(fleet[1], {"cmd": "ping", "id": "s"})))
    began = time.monotonic()
    thread.start()
    body = post(fleet[0], {"cmd": "ping"}).json()
    assert 2.9 < time.monotonic() - began < 3 + WAIT
    assert len(body["replies"]) == 3 and body["missing"] == ["ghost"]
    thread.join()
    body = silent[0].json()
    assert body["replies"] == [] and body["missing"] == ["ghost", "n1", "n2", "n3"]


def test_more_commands_than_may_wait(fleet, ghost):
    """Each waits for the ghost."""
    replies = []
    threads = [threading.Thread(target=lambda: replies.append(post(fleet[0], {"cmd": "ping"})))
               for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    refused = [r.json() for r in replies if r.status == 429]
    assert {r.status for r in replies} == {200, 429} and refused[0]["name"] == "rate_limited"
    assert all(r.json()["missing"] == ["ghost"] for r in replies if r.status == 200)
    assert "missing" not in post(fleet[0], {"cmd": "ping", "node": "n2"}).json()


def test_replies_that_something_else_wrote(fleet, fleet_redis, ghost):
    """They are looked at in Redis: none of them costs the link, none breaks the answer."""
    result = []
    thread = threading.Thread(
        target=lambda: result.append(post(fleet[0], {"cmd": "ping", "id": "mine"})))
    thread.start()
    eventually(lambda: fleet_redis("LLEN", "tc:admin:reply:mine") == 3)
    fleet_redis("RPUSH", "tc:admin:reply:mine", "x" * 3_000_000, "{", "[]", "5", b"\xff", '{"node":5}',
          '{"node":""}', '{"ok":true}', "", '"}]}', '{"node":"other","ok":true}',
          '{"node":"ghost","ok":true}')
    thread.join()
    assert result[0].status == 200
    body = result[0].json()
    assert "missing" not in body
    assert sorted(r["node"] for r in body["replies"]) == ["ghost", "n1", "n2", "n3", "other"]
    assert fleet[0].metric("tickcast_redis_connects_total", link="command") == 1


def test_more_replies_than_fit(fleet, fleet_redis, ghost):
    """What is collected is bounded, and what the nodes said is in it."""
    result = []
    thread = threading.Thread(
        target=lambda: result.append(post(fleet[0], {"cmd": "ping", "id": "flood"})))
    thread.start()
    eventually(lambda: fleet_redis("LLEN", "tc:admin:reply:flood") == 3)
    padding = '{"node":"other","pad":"%s"}' % ("x" * 60_000)
    for _ in range(10):
        fleet_redis("RPUSH", "tc:admin:reply:flood", *[padding] * 20)
    thread.join()
    assert result[0].status == 200
    assert len(result[0].body) < 5_000_000
    replies = result[0].json()["replies"]
    assert {"n1", "n2", "n3"} < {r["node"] for r in replies}
    assert fleet[0].metric("tickcast_redis_connects_total", link="command") == 1


BAD = [
    (b"", 400, "bad_json"),
    (b"{", 400, "bad_json"),
    (b"nonsense", 400, "bad_json"),
    (b'{"cmd":"ping"} x', 400, "bad_json"),
    (b'{"cmd":"\xff"}', 400, "bad_json"),
    (b"[" * 100_000, 400, "bad_json"),
    (b"[]", 400, "bad_command"),
    (b"5", 400, "bad_command"),
    (b"null", 400, "bad_command"),
    (b'"ping"', 400, "bad_command"),
    (b'{"cmd":"ping","id":""}', 400, "bad_command"),
    (b'{"cmd":"ping","id":{}}', 400, "bad_command"),
    (b'{"cmd":"ping","id":1.5}', 400, "bad_command"),
    (b'{"cmd":"ping","id":1e3}', 400, "bad_command"),
    (b'{"cmd":"ping","id":' + b"1" * 65 + b"}", 400, "bad_command"),
    (b'{"cmd":"ping","id":"' + b"x" * 65 + b'"}', 400, "bad_command"),
    (b'{"cmd":"notice","data":"' + b"x" * 131072 + b'"}', 413, "too_large"),
    (b"x" * (8 << 20), 413, "too_large"),
]


@pytest.fixture(scope="module")
def alone(module_world):
    return module_world.node(module_world.redis())


@pytest.mark.parametrize("body,status,name", BAD, ids=lambda v: repr(v)[:40])
def test_a_bad_body(alone, connect, body, status, name):
    client = connect(alone)
    reply = post(alone, body)
    assert reply.status == status, reply.body
    error = reply.json()
    assert (error["code"], error["name"]) == (status, name) and error["message"]
    client.nothing_more()


@pytest.mark.parametrize("command", [{}, {"cmd": "explode"}, {"cmd": 5}, {"cmd": "ping", "node": 5},
                                     {"cmd": "kick"}, {"CMD": "ping", "ID": 7}],
                         ids=lambda c: json.dumps(c))
def test_a_bad_command_is_the_nodes_business(alone, command):
    """They answer what they do not understand."""
    reply = post(alone, command)
    assert reply.status == 200
    (answer,) = reply.json()["replies"]
    assert answer["ok"] is False and answer["error"]


def test_pages_may_not_command(alone):
    reply = post(alone, {"cmd": "ping"}, Origin="http://evil.example")
    assert reply.status == 403 and reply.json()["name"] == "forbidden"


def test_the_content_type_does_not_matter(alone):
    assert post(alone, {"cmd": "ping"}, **{"Content-Type": "text/plain"}).status == 200


@pytest.mark.parametrize("path,method,allow", [
    ("/api/v1/admin", "GET", "POST"), ("/api/v1/nodes", "POST", "GET, HEAD"),
    ("/api/v1/channels", "DELETE", "GET, HEAD"), ("/api/v1/clients", "PUT", "GET, HEAD"),
    ("/metrics", "PATCH", "GET, HEAD"), ("/readyz", "OPTIONS", "GET, HEAD"),
    ("/healthz", "TRACE", "GET, HEAD"), ("/api/v1/publish", "BREW", "POST")])
def test_methods(alone, path, method, allow):
    reply = http_request(alone.ops, path, method)
    assert reply.status == 405 and reply.headers["allow"] == allow
    assert reply.json().keys() == {"code", "name", "message"}


def test_nobody_is_connected_through(alone):
    """CONNECT has a target without a path. What was refused leaves the connection usable."""
    import http.client
    connection = http.client.HTTPConnection(alone.ops, timeout=10)
    for method, target, status in (("CONNECT", "x:1", 404), ("GET", "/healthz", 200)):
        connection.request(method, target)
        reply = connection.getresponse()
        assert reply.status == status and reply.read().startswith(b"{")
    connection.close()


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/api/v1/nodes",
                                  "/api/v1/channels", "/api/v1/clients", "/nothing"])
def test_head_is_answered_without_a_body(alone, path):
    """A body would be taken for the answer to the next request of the connection."""
    import http.client
    connection = http.client.HTTPConnection(alone.ops, timeout=10)
    for method in ("HEAD", "GET"):
        connection.request(method, path)
        reply = connection.getresponse()
        body = reply.read()
        assert reply.status == (404 if path == "/nothing" else 200)
        assert int(reply.headers["content-length"]) > 0
        assert (body == b"") == (method == "HEAD")
    connection.close()


def test_a_client_that_does_not_wait(alone):
    import socket
    host, port = alone.ops.rsplit(":", 1)
    for _ in range(20):
        with socket.create_connection((host, int(port))) as s:
            s.sendall(b"POST /api/v1/admin HTTP/1.1\r\nHost: x\r\nContent-Length: 14\r\n\r\n"
                      b'{"cmd":"ping"}')
        with socket.create_connection((host, int(port))) as s:
            s.sendall(b"GET /api/v1/clients HTTP/1.1\r\nHost: x\r\n\r\n")
    assert post(alone, {"cmd": "ping"}).status == 200


# --- channels and clients ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def market(module_world):
    """A node of two workers with 3 + 1 clients."""
    from client import Client
    redis = module_world.redis()
    node = module_world.node(redis, settings={"node.workers": 2})
    clients = []
    for i in range(3):
        client = Client(node.url(channels=f"quote:A,quote:B{i},trade:T"))
        client.hello = client.expect("hello")
        clients.append(client)
    raw = Client(node.url(format="raw", channels="quote:A"))
    module_world.clients += [*clients, raw]
    redis.stamp("quote:A", '{"price":"1"}', heard_by=1)
    node.wait_metric("tickcast_subscriptions", 10)
    eventually(lambda: find(node, "quote:A").get("seq") == 1)
    return node, clients


def channels(node, query=""):
    reply = node.ops_get(f"/api/v1/channels{query}")
    assert reply.status == 200, reply.body
    return reply.json()


def find(node, name):
    return {c["channel"]: c for c in channels(node)["channels"]}.get(name, {})


def clients_of(node, query=""):
    reply = node.ops_get(f"/api/v1/clients{query}")
    assert reply.status == 200, reply.body
    return reply.json()


def test_channels(market):
    node, _ = market
    body = channels(node)
    assert [c["channel"] for c in body["channels"]] == [
        "quote:A", "quote:B0", "quote:B1", "quote:B2", "trade:T"]
    assert body["total"] == 5
    assert [c["subscribers"] for c in body["channels"]] == [4, 1, 1, 1, 3]
    quote, trade = find(node, "quote:A"), find(node, "trade:T")
    assert quote["mode"] == "latest" and quote["seq"] == 1 and quote["epoch"] and quote["stamped"]
    assert quote["value_bytes"] == len('{"price":"1"}') and quote["live"] is True
    assert trade["mode"] == "all" and "seq" not in trade and trade["stamped"] is False


@pytest.mark.parametrize("query,names,total", [
    ("?prefix=quote:", ["quote:A", "quote:B0", "quote:B1", "quote:B2"], 4),
    ("?prefix=quote%3AB&limit=2", ["quote:B0", "quote:B1"], 3),
    ("?limit=2&after=quote:B1", ["quote:B2", "trade:T"], 5),
    ("?prefix=nothing", [], 0),
    ("?after=zzz", [], 5),
    ("?limit=10000&unknown=1", None, 5),
])
def test_pages_of_channels(market, query, names, total):
    body = channels(market[0], query)
    assert body["total"] == total
    if names is not None:
        assert [c["channel"] for c in body["channels"]] == names


def test_clients(market):
    node, clients = market
    body = clients_of(node)
    assert body["total"] == 4 and len(body["clients"]) == 4
    shown = {c["conn"]: c for c in body["clients"]}
    for client in clients:
        one = shown.pop(client.hello["conn"])
        host, port = client.ws.local_address[:2]
        assert one["address"] == f"{host}:{port}" and one["user"] is None
        assert one["channels"] == 3 and one["format"] == "json" and one["compressed"] is False
        assert one["state"] == "in_step" and one["pending_bytes"] == 0 and one["age_ms"] >= 0
    (raw,) = shown.values()
    assert raw["format"] == "raw" and raw["channels"] == 1


@pytest.mark.parametrize("query,count,total", [
    ("?limit=2", 2, 4), ("?channel=trade:T", 3, 3), ("?channel=quote:B1", 1, 1),
    ("?channel=quote:NOPE", 0, 0), ("?channel=%00", None, None), ("?user=42", 0, 0),
    ("?conn=nobody", 0, 0), ("?channel=quote:A&limit=1", 1, 4), ("?user=", 4, 4)])
def test_filters_of_clients(market, query, count, total):
    if count is None:
        assert market[0].ops_get(f"/api/v1/clients{query}").status == 400
        return
    body = clients_of(market[0], query)
    assert (len(body["clients"]), body["total"]) == (count, total)


def test_one_connection(market):
    node, clients = market
    (one,) = clients_of(node, f"?conn={clients[1].hello['conn']}")["clients"]
    assert one["conn"] == clients[1].hello["conn"]


@pytest.mark.parametrize("path", ["channels", "clients"])
@pytest.mark.parametrize("query", ["limit=0", "limit=10001", "limit=x", "limit=-1", "limit=1e3",
                                   "limit=%zz", "limit=99999999999999999999"])
def test_limits_that_are_none(market, path, query):
    reply = market[0].ops_get(f"/api/v1/{path}?{query}")
    assert reply.status == 400 and reply.json()["name"] == "bad_command"


def test_filters_that_are_too_long(market):
    for path in ("channels?prefix=", "channels?after=", "clients?conn=", "clients?channel="):
        assert market[0].ops_get(f"/api/v1/{path}{'x' * 300}").status == 400


def test_a_client_that_does_not_read(world, redis, wire):
    node = world.node(redis, settings={"node.workers": 2, "limits.unsent_bytes": 16384})
    wire(node, receive_buffer=4096).upgrade("/ws?channels=quote:SLOW")
    redis.wait_listeners("quote:SLOW")
    payload = json.dumps("x" * 100_000)

    def is_behind():
        redis.publish("quote:SLOW", payload)
        (one,) = clients_of(node)["clients"]
        return one["state"] in ("held", "lagging") and one["pending_bytes"] > 0 and one
    one = eventually(is_behind, what="a client that is behind")
    assert one["channels"] == 1
    eventually(lambda: clients_of(node)["clients"][0]["blocked_ms"] > 0)


@pytest.mark.plain
def test_ten_thousand_channels(world, redis, connect):
    """A page of them, whatever there is; and the node goes on meanwhile."""
    node = world.node(redis, settings={"node.workers": 2, "limits.channels_per_client": 20000,
                                       "limits.message_bytes": 1 << 20})
    client = connect(node)
    for part in range(4):
        ack = client.subscribe(*[f"trade:{part}-{i:05}" for i in range(3000)])
        assert ack["accepted"] == 3000
    body = channels(node)
    assert body["total"] == 12_000 and len(body["channels"]) == 1000
    body = channels(node, "?limit=10000&prefix=trade:")
    assert len(body["channels"]) == 10_000
    assert all(c["subscribers"] == 1 for c in body["channels"])
    seen, after = 0, ""
    while page := channels(node, f"?limit=5000&after={after}")["channels"]:
        seen, after = seen + len(page), page[-1]["channel"]
    assert seen == 12_000


def test_asked_while_the_node_ends(world):
    """Answers of workers that come when the workers are gone: for a build with the address sanitizer."""
    for _ in range(3):
        node = world.node(settings={"node.workers": 3, "listen.drain_grace_s": 60})
        host, port = node.ops.rsplit(":", 1)
        sockets = [socket.create_connection((host, int(port)), WAIT) for _ in range(6)]
        for sock in sockets:
            sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert sock.recv(1000)
        node.terminate()
        eventually(lambda: "event=stopping" in node.log(), what="the first signal")
        os.kill(node.pid, signal.SIGSTOP)
        for sock, what in zip(sockets, ("clients", "channels", "nodes") * 2):
            sock.sendall(f"GET /api/v1/{what} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        node.terminate()
        os.kill(node.pid, signal.SIGCONT)
        node.stop()
        for sock in sockets:
            sock.close()
