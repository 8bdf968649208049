"""What operators see: access lines, lines about clients, traces, and bounds on all of them."""

import json
import re
import socket

import pytest

from world import eventually, http_request


class Lines:
    """The log of a node with log_format = json, as dicts."""

    def __init__(self, node):
        self.node = node

    def __call__(self, event=None, **fields):
        lines = [json.loads(line) for line in self.node.log().splitlines() if line[:1] == "{"]
        return [line for line in lines if event in (None, line["event"])
                and fields.items() <= line.items()]

    def wait(self, event, count=1, **fields):
        return eventually(lambda: len(found := self(event, **fields)) >= count and found,
                          what=f"{count} lines {event} {fields}")


JSON = {"node.log_format": "json"}


@pytest.fixture(scope="module")
def node(module_world):
    return module_world.node(module_world.redis(), settings={**JSON, "node.echo": "yes"})


@pytest.fixture(scope="module")
def lines(node):
    return Lines(node)


# --- access lines ------------------------------------------------------------------------------

def test_an_upgrade_and_its_end(node, lines, connect):
    client = connect(node, channels="quote:AL1")
    name = client.hello["conn"]
    line, = lines.wait("access", conn=name)
    assert (line["method"], line["path"], line["status"]) == ("GET", "/ws", 101)
    assert line["level"] == "info" and line["node"] == "n1" and line["user"] == ""
    assert 0 < line["duration_us"] < 30_000_000
    assert re.fullmatch(r"127\.0\.0\.1:\d+", line["peer"])
    client.close()
    end, = lines.wait("client_ended", conn=name)
    assert end["level"] == "info" and end["peer"] == line["peer"] and end["user"] == ""
    assert (end["cause"], end["code"]) == ("client", 1000)
    assert 0 <= end["age_ms"] < 60_000
    assert end["sent_bytes"] > 200 and end["received_bytes"] > 100 and end["rtt_us"] >= 0


def test_a_kick_is_seen_in_the_end(module_world, node, lines, connect):
    client = connect(node)
    name = client.hello["conn"]
    module_world.redises[0].publish("admin", json.dumps({"cmd": "kick", "conn": name}))
    assert client.closed() == 4005
    end, = lines.wait("client_ended", conn=name)
    assert (end["cause"], end["code"]) == ("kicked", 4005)


def test_an_echo_has_no_conn(node, lines, connect):
    connect(node, path="/echo")
    line, = lines.wait("access", path="/echo")
    assert line["status"] == 101 and line["conn"] == ""


UPGRADE = (b"Host: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
           b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n")
REQUESTS = {
    "400 no key": (400, "/ws", b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
                               b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n"),
    "400 unreadable": (400, "", b"\x01\x02\x1b[2J\r\n\r\n"),
    "400 query": (400, "/ws", b"GET /ws?format=x HTTP/1.1\r\n" + UPGRADE + b"\r\n"),
    "403": (403, "/ws", b"GET /ws HTTP/1.1\r\nOrigin: http://evil\r\n" + UPGRADE + b"\r\n"),
    "404": (404, "/there%0a/is/none", b"GET /there%0a/is/none?secret HTTP/1.1\r\nHost: x\r\n\r\n"),
    "405": (405, "/ws", b"POST /ws HTTP/1.1\r\nHost: x\r\n\r\n"),
    "426": (426, "/ws", b"GET /ws HTTP/1.1\r\n" + UPGRADE.replace(b": 13", b": 8") + b"\r\n"),
    "431": (431, "", b"GET /ws HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 20000 + b"\r\n\r\n"),
    "414": (414, "", b"GET /" + b"a" * 12000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"),
    "200": (200, "/", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    "long path": (404, "/" + "b" * 124 + "...",
                  b"GET /" + b"b" * 500 + b" HTTP/1.1\r\nHost: x\r\n\r\n"),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_every_answer_has_a_line(node, lines, name):
    status, path, request = REQUESTS[name]
    with socket.create_connection((node.host, node.port)) as sock:
        peer = "%s:%d" % sock.getsockname()
        sock.sendall(request)
        assert sock.recv(100).startswith(b"HTTP/1.1 %d " % status)
        line, = lines.wait("access", peer=peer)
    assert (line["status"], line["path"], line["conn"]) == (status, path, "")


def test_health_checks_are_seen_at_debug_only(world, redis):
    node = world.node(redis, settings={**JSON, "node.log_level": "debug"})
    lines = Lines(node)
    node.get("/healthz")
    node.ops_get("/metrics")
    for path in ("/healthz", "/readyz", "/metrics"):
        assert {line["level"] for line in lines.wait("access", path=path)} == {"debug"}


def test_no_access_log(world, redis, connect):
    node = world.node(redis, settings={**JSON, "node.access_log": "no"})
    connect(node).close()
    node.ops_get("/nope")
    lines = Lines(node)
    lines.wait("access", path="/nope")  # the operator's own calls are still there
    node.stop()
    assert not lines("client_ended") and not lines("access", status=101)


def test_calls_of_the_api(node, lines):
    reply = http_request(node.ops, "/api/v1/publish", "POST",
                         json.dumps({"channel": "quote:AL2", "data": 1}))
    line, = lines.wait("access", path="/api/v1/publish", status=reply.status)
    assert (line["method"], line["path"], line["status"]) == ("POST", "/api/v1/publish", 200)
    assert line["level"] == "info" and line["duration_us"] > 0
    assert line["peer"].startswith("127.0.0.1:")
    node.ops_get("/nope?key=secret")
    line, = lines.wait("access", path="/nope")
    assert (line["method"], line["status"]) == ("GET", 404)
    http_request(node.ops, "/api/v1/publish", "PUT", "{}")
    lines.wait("access", method="PUT", status=405)
    http_request(node.ops, "/api/v1/publish", "POST", "{")
    lines.wait("access", method="POST", status=400)
    http_request(node.ops, "/api/v1/publish", "POST", '{"channel":"x:y","data":1}')
    lines.wait("access", method="POST", status=404)
    assert "secret" not in node.log()


# --- bounds ------------------------------------------------------------------------------------

def test_a_storm_is_counted_and_not_written(world, redis):
    """Each second has its lines; the rest is said in one line a second, and all adds up."""
    node = world.node(redis, settings={**JSON, "node.log_lines_per_s": 5})
    lines = Lines(node)
    for _ in range(60):
        node.get("/nope")
    eventually(lambda: len(lines("access")) +
               sum(line["count"] for line in lines("log_suppressed", kind="clients")) == 60,
               what="60 requests in lines and counts", timeout=15)
    assert len(lines("access")) < 60
    assert node.metric("tickcast_log_suppressed_total") == 60 - len(lines("access"))
    assert {line["level"] for line in lines("log_suppressed")} == {"warn"}
    node.get("/later")
    eventually(lambda: node.get("/later") and lines("access", path="/later"), timeout=15)
