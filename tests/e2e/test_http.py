"""HTTP on the client listener: refusals before the 101, health, the page, slow heads."""

import json
import socket
import time

import pytest

from wire import PING, PONG, Wire, frame


@pytest.fixture(scope="module")
def node(module_world):
    return module_world.node(module_world.redis(), settings={"node.echo": "yes"})


def refused(wire, data):
    """Sends a request and reads the refusal to its end: (status, headers, JSON body)."""
    wire.try_send(data)
    status = wire.read_head()
    body = wire.read_to_end()
    assert wire.headers.get("connection", "").lower() == "close", wire.headers
    assert wire.headers["content-type"].startswith("application/json")
    assert int(wire.headers["content-length"]) == len(body)
    answer = json.loads(body)
    assert isinstance(answer, dict) and answer
    return status, wire.headers, answer


def plain(text):
    return text.replace("\n", "\r\n").encode("latin-1")


HOST = "Host: localhost\n"
MALFORMED = {
    "garbage": "garbage\n\n",
    "no version": "GET /ws\n\n",
    "two spaces": "GET  /ws HTTP/1.1\n" + HOST + "\n",
    "no host": "GET /healthz HTTP/1.1\n\n",
    "two hosts": "GET /healthz HTTP/1.1\n" + HOST + HOST + "\n",
    "space before the colon": "GET /healthz HTTP/1.1\nHost : localhost\n\n",
    "folded line": "GET /healthz HTTP/1.1\n" + HOST + "X-A: b\n c\n\n",
    "no colon": "GET /healthz HTTP/1.1\n" + HOST + "nonsense\n\n",
    "empty name": "GET /healthz HTTP/1.1\n" + HOST + ": x\n\n",
    "NUL in a value": "GET /healthz HTTP/1.1\n" + HOST + "X-A: a\0b\n\n",
    "control byte in the target": "GET /heal\x01thz HTTP/1.1\n" + HOST + "\n",
    "absolute target": "GET http://localhost/healthz HTTP/1.1\n" + HOST + "\n",
    "fragment": "GET /healthz#top HTTP/1.1\n" + HOST + "\n",
    "body": "GET /healthz HTTP/1.1\n" + HOST + "Content-Length: 5\n\nhello",
    "chunked body": "GET /healthz HTTP/1.1\n" + HOST + "Transfer-Encoding: chunked\n\n0\n\n",
    "TLS": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}


@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED.keys())
def test_400_for_what_is_malformed(node, wire, text):
    status, _, _ = refused(wire(node), plain(text))
    assert status == 400


def test_400_for_bare_line_feeds(node, wire):
    status, _, _ = refused(wire(node), b"GET /healthz HTTP/1.1\nHost: localhost\n\n")
    assert status == 400


def upgrade_variants():
    """(what is wrong, keyword arguments of Wire.request, allowed statuses)"""
    yield "no upgrade", dict(omit=("Upgrade",)), (400, 426)
    yield "upgrade to something else", dict(Upgrade="h2c"), (400, 426)
    yield "no connection", dict(omit=("Connection",)), (400, 426)
    yield "connection without upgrade", dict(Connection="keep-alive"), (400, 426)
    yield "no key", dict(omit=("Sec-WebSocket-Key",)), (400,)
    yield "short key", dict(key="c2hvcnQ="), (400,)
    yield "long key", dict(key="dGhlIHNhbXBsZSBub25jZSBpcyBsb25n"), (400,)
    yield "key is not base64", dict(key="!!!!IHNhbXBsZSBub25jZQ=="), (400,)
    yield "no version", dict(omit=("Sec-WebSocket-Version",)), (400, 426)
    yield "version 8", dict(Sec_WebSocket_Version="8"), (426,)
    yield "version 0", dict(Sec_WebSocket_Version="0"), (426,)
    yield "version 14", dict(Sec_WebSocket_Version="14"), (426,)
    yield "version 1300", dict(Sec_WebSocket_Version="1300"), (426,)
    yield "path", dict(path="/nope"), (404,)
    yield "path with a prefix of ours", dict(path="/wss"), (404,)
    yield "path in another case", dict(path="/WS"), (404,)
    yield "POST", dict(method="POST"), (405,)
    yield "HEAD", dict(method="HEAD"), (405,)
    yield "PUT", dict(method="PUT"), (405,)
    yield "get", dict(method="get"), (405,)
    yield "HTTP/1.0", dict(version="HTTP/1.0"), (400, 505)
    yield "long target", dict(path="/ws?x=" + "a" * 9000), (414,)
    yield "broken percent encoding", dict(path="/ws?channels=%zz"), (400,)
    yield "unknown format", dict(path="/ws?format=xml"), (400,)
    yield "other origin", dict(Origin="http://evil.example"), (403,)
    yield "null origin", dict(Origin="null"), (403,)
    yield "origin that only begins like ours", \
        dict(Host="good.example", Origin="http://good.example.evil.example"), (403,)
    yield "malformed extension", dict(Sec_WebSocket_Extensions="permessage-deflate; ="), (400,)


VARIANTS = list(upgrade_variants())


@pytest.mark.parametrize("options, statuses", [v[1:] for v in VARIANTS], ids=[v[0] for v in VARIANTS])
def test_upgrades_that_are_refused(node, wire, options, statuses):
    """Refused in HTTP, before the 101, so that a client's back-off is not reset."""
    one = wire(node)
    if options.get("method") == "HEAD":
        one.send(one.request(**options))
        status = one.read_head()
        one.read_to_end()
    else:
        status, headers, _ = refused(one, one.request(**options))
        if status == 426:
            assert headers["sec-websocket-version"] == "13"
    assert status in statuses


@pytest.mark.parametrize("origin, host", [
    (None, None),
    ("http://{listen}", None),
    ("https://quotes.example", "quotes.example"),
    ("http://QUOTES.example:8080", "quotes.example:8080"),
])
def test_the_pages_own_origin_is_accepted(node, wire, origin, host):
    headers = {}
    if origin:
        headers["Origin"] = origin.format(listen=node.listen)
    if host:
        headers["Host"] = host
    wire(node).upgrade(**headers)


def test_configured_origins(world, redis, wire):
    node = world.node(redis, settings={"listen.origins": "https://a.example http://b.example:81"})
    for origin in ("https://a.example", "http://b.example:81"):
        wire(node).upgrade(Origin=origin)
    for origin in ("https://c.example", "http://a.example", "http://b.example"):
        one = wire(node)
        assert refused(one, one.request(Origin=origin))[0] == 403


@pytest.mark.parametrize("headers", [
    {"Upgrade": "WebSocket", "Connection": "keep-alive, UPGRADE"},
    {"Upgrade": "foo, websocket", "Connection": "Upgrade"},
    {"Connection": "Upgrade", "X-Filler": "x" * 4000},
    {"Connection": "Upgrade", "Cookie": "a=b; c=d", "User-Agent": "old"},
])
def test_upgrades_that_are_unusual_but_legal(node, wire, headers):
    wire(node).upgrade("/ws", **headers)


@pytest.mark.parametrize("offer, answer", [
    (None, None),
    ("tickcast.v1+json", "tickcast.v1+json"),
    ("tickcast.v1+raw", "tickcast.v1+raw"),
    ("chat, tickcast.v1+raw, tickcast.v1+json", "tickcast.v1+raw"),
    ("unknown", None),
    ("tickcast.v1+json, bearer.abc.def.ghi", "tickcast.v1+json"),
    ("bearer.abc.def.ghi, tickcast.v1+json", "tickcast.v1+json"),
    ("bearer.abc.def.ghi", None),
])
def test_subprotocols(node, wire, offer, answer):
    """2.1: the token of a bearer subprotocol is never echoed."""
    one = wire(node).upgrade(Sec_WebSocket_Protocol=offer)
    assert one.headers.get("sec-websocket-protocol") == answer
    assert "bearer" not in str(one.headers)


@pytest.mark.parametrize("count, size", [(1, 20000), (10, 2000), (300, 100)])
def test_431_for_a_head_that_is_too_large(node, wire, count, size):
    one = wire(node)
    head = one.request()[:-2] + b"".join(b"X-%d: %s\r\n" % (i, b"v" * size) for i in range(count))
    assert refused(one, head + b"\r\n")[0] == 431


def test_431_does_not_wait_for_the_end_of_the_head(node, wire):
    one = wire(node)
    assert refused(one, one.request()[:-2] + b"X: " + b"v" * 40000)[0] == 431


def test_414_does_not_wait_for_the_end_of_the_line(node, wire):
    assert refused(wire(node), b"GET /" + b"a" * 40000)[0] in (414, 431)


def test_echo_is_off_unless_asked_for(world, redis, wire):
    node = world.node(redis)
    one = wire(node)
    assert refused(one, one.request("/echo"))[0] == 404


# --- limits -----------------------------------------------------------------------------------

@pytest.mark.parametrize("workers", [1, 2])
def test_503_at_max_connections(world, redis, wire, connect, workers):
    """With Retry-After, before the 101; a place that was freed is given again."""
    node = world.node(redis, settings={"listen.max_connections": 3, "node.workers": workers})
    clients = [connect(node) for _ in range(3)]
    one = wire(node)
    status, headers, _ = refused(one, one.request())
    assert status == 503
    assert int(headers["retry-after"]) >= 1
    assert node.metric("tickcast_connections") == 3 and node.metric("tickcast_ready") == 0
    for get in (node.get, node.ops_get):
        assert get("/readyz").json() == {"status": "not_ready", "reason": "full"}
    for client in clients:
        client.nothing_more()
    clients[0].close()
    node.wait_metric("tickcast_connections", 2)
    assert node.is_ready()
    connect(node)
    assert node.ops_get("/healthz").status == 200


def test_no_503_while_there_is_room(world, redis, wire, connect):
    """Not on the busier of two workers either, to which a silent socket on the other one leads."""
    node = world.node(redis, settings={"listen.max_connections": 2, "node.workers": 2})
    first = connect(node)
    wire(node)
    node.wait_metric("tickcast_sockets", 2)
    second = connect(node)
    assert node.metric("tickcast_connections") == 2
    first.nothing_more()
    second.nothing_more()


@pytest.mark.parametrize("workers", [1, 2])
class TestSlowHeads:
    """A client that sends nothing, or one byte a second, is timed out."""

    LIMIT_S = 0.4

    @pytest.fixture
    def impatient(self, world, redis, workers):
        return world.node(redis, settings={"listen.handshake_ms": int(self.LIMIT_S * 1000),
                                           "node.workers": workers})

    def assert_ended(self, one, begun):
        one.read_to_end()
        assert time.monotonic() - begun >= self.LIMIT_S * 0.9, "closed too early"

    def test_silence(self, impatient, wire):
        begun = time.monotonic()
        ones = [wire(impatient) for _ in range(20)]
        for one in ones:
            self.assert_ended(one, begun)
        impatient.wait_metric("tickcast_handshake_timeouts_total", 20)
        impatient.wait_metric("tickcast_sockets", 0)

    def test_one_byte_at_a_time(self, impatient, wire):
        one = wire(impatient)
        begun = time.monotonic()
        one.sock.settimeout(0.05)
        for byte in one.request() * 10:
            try:
                one.sock.sendall(bytes([byte]))
                if one.sock.recv(1000) == b"":
                    break
            except socket.timeout:
                pass
            except OSError:
                break
        took = time.monotonic() - begun
        assert self.LIMIT_S * 0.9 <= took < 5, took
        impatient.wait_metric("tickcast_handshake_timeouts_total", 1)

    def test_a_client_in_good_time_is_not_cut_later(self, impatient, connect, wire):
        client = connect(impatient)
        begun = time.monotonic()
        self.assert_ended(wire(impatient), begun)
        self.assert_ended(wire(impatient), begun)
        client.nothing_more()


# --- requests without an upgrade ----------------------------------------------------------------

@pytest.mark.parametrize("which", ["listen", "ops"])
@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_on_both_listeners(node, which, path):
    reply = node.get(path) if which == "listen" else node.ops_get(path)
    assert reply.status == 200


@pytest.mark.parametrize("path", ["/", "/?x=1"])
def test_the_page(node, path):
    reply = node.get(path)
    assert reply.status == 200
    assert reply.headers["content-type"].startswith("text/html")
    assert b"WebSocket" in reply.body and b"<html" in reply.body.lower()
    # It comes from the node itself, whole: nothing is fetched from elsewhere.
    assert b"https://" not in reply.body and b"src=\"http" not in reply.body


@pytest.mark.parametrize("path, status", [("/healthz", 200), ("/", 200), ("/nope", 404),
                                          ("/ws", 405), ("/echo", 405)])
def test_head_has_no_body(node, wire, path, status):
    one = wire(node)
    one.send(plain(f"HEAD {path} HTTP/1.1\n" + HOST + "\n"))
    assert one.read_head() == status
    assert int(one.headers["content-length"]) > 0
    assert one.read_to_end() == b""


@pytest.mark.parametrize("method, path, allow", [
    ("POST", "/healthz", "GET, HEAD"), ("DELETE", "/", "GET, HEAD"), ("POST", "/ws", "GET"),
    ("HEAD", "/ws", "GET"), ("PUT", "/echo", "GET")])
def test_a_refused_method_is_told_what_is_allowed(node, wire, method, path, allow):
    one = wire(node)
    one.send(plain(f"{method} {path} HTTP/1.1\n" + HOST + "\n"))
    assert one.read_head() == 405
    assert one.headers["allow"] == allow


@pytest.mark.parametrize("head, status", [
    ("HEAD /healthz HTTP/1.1\n\n", 400), ("HEAD /healthz HTTP/2.0\n" + HOST + "\n", 505),
    ("HEAD /" + "x" * 10000 + " HTTP/1.1\n" + HOST + "\n", 414),
    ("HEAD / HTTP/1.1\n" + HOST + "X: " + "x" * 20000 + "\n\n", 431)],
    ids=["no host", "version", "target", "too large"])
def test_a_refused_head_has_no_body_either(node, wire, head, status):
    one = wire(node)
    one.send(plain(head))
    assert one.read_head() == status
    assert int(one.headers["content-length"]) > 0
    assert one.read_to_end() == b""


def test_a_ping_behind_the_request_is_answered_behind_the_response(node, wire):
    """Control frames overtake what is queued, but not the 101."""
    one = wire(node)
    one.upgrade("/ws?format=raw", then=frame(PING, b"early"))
    one.expect(PONG, b"early")


def test_what_is_pipelined_behind_a_request_is_not_answered(node, wire):
    one = wire(node)
    one.send(plain("GET /healthz HTTP/1.1\n" + HOST + "\n") + b"\x00junk\xff" * 100)
    assert one.read_head() == 200
    body = one.read_to_end()
    assert len(body) == int(one.headers["content-length"])


def test_the_client_listener_does_not_show_operators_things(node):
    for path in ("/metrics", "/api/v1/nodes", "/api/v1/clients"):
        assert node.get(path).status == 404


def test_a_head_in_any_pieces(node, wire):
    for chunk in (1, 2, 7, 64):
        one = wire(node)
        one.send(one.request("/ws?channels=quote:A"), chunk)
        assert one.read_head() == 101


def test_refusals_are_counted(world, redis, wire):
    node = world.node(redis)
    for path in ("/nope", "/neither"):
        assert node.get(path).status == 404
    node.wait_metric("tickcast_http_responses_total", 2, code="4xx")


def test_readyz_says_why_not(world):
    """503 with the reason, on both listeners; the process lives all the same."""
    redis = world.redis(start=False)
    node = world.node(redis, ready=False)
    for get in (node.get, node.ops_get):
        reply = get("/readyz")
        assert reply.status == 503
        assert reply.body.strip()
        assert get("/healthz").status == 200


def test_a_crowd_of_silent_sockets_stops_nobody(node, connect):
    crowd = [Wire(node) for _ in range(200)]
    try:
        connect(node).nothing_more()
    finally:
        for one in crowd:
            one.close()
