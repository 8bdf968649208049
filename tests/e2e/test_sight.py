"""What operators see: access lines, lines about clients, traces, and bounds on all of them."""

import json
import re
import signal
import socket

import pytest

from world import PUBLISH_LUA, ROOT, RedisError, eventually, http_request, write_config


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
    identity = "quote:AL2@%(epoch)s:%(seq)d" % reply.json()
    line, = lines.wait("access", trace=identity)
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


def test_both_options_are_taken_over_by_a_reload(world, redis):
    node = world.node(redis, settings={**JSON, "node.access_log": "no"})
    lines = Lines(node)
    node.get("/before")
    node.settings.update({"node.access_log": "yes", "node.log_lines_per_s": 3})
    write_config(node.dir / "n1.conf", node.settings)
    node.process.send_signal(signal.SIGHUP)
    lines.wait("reloaded")
    eventually(lambda: node.get("/after") and lines("access", path="/after"))
    assert not lines("access", path="/before")
    eventually(lambda: node.get("/after") and lines("log_suppressed", kind="clients"), 15)


# --- traces ------------------------------------------------------------------------------------

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture(scope="module")
def fleet(module_world, node):
    """Three nodes on one Redis, two of them with two workers; debug, so that made traces show."""
    redis = module_world.redises[0]
    settings = {**JSON, "node.log_level": "debug"}
    return [module_world.node(redis, name=name, settings={**settings, "node.workers": workers})
            for name, workers in (("t1", 1), ("t2", 2), ("t3", 2))]


def publish(node, body, **headers):
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return http_request(node.ops, "/api/v1/publish", "POST", json.dumps(body), names)


@pytest.mark.parametrize("channel, clients", [("quote:TR", 3), ("trade:TR", 1)])
def test_a_given_trace_is_followed_to_each_node(fleet, connect, channel, clients):
    """API call, Redis, three nodes: one grep finds it all. Stamped and plain."""
    for node in fleet:
        for _ in range(clients):
            connect(node, channels=channel).expect("ack")
    trace = "order-7/" + channel
    reply = publish(fleet[1], {"channel": channel, "data": 5}, X_Trace_Id=trace)
    assert reply.status == 200 and reply.json()["trace"] == trace
    seen = []
    for node in fleet:
        line, = Lines(node).wait("delivered", trace=trace)
        assert line["level"] == "info" and line["node"] == node.name
        assert line["channel"] == channel and line["subscribers"] == clients
        assert line["duration_us"] >= 0
        seen.append((line["epoch"], line["seq"]))
        if channel.startswith("quote"):
            assert seen[-1] == (reply.json()["epoch"], reply.json()["seq"])
            assert -1000 < line["age_ms"] < 60_000
    line, = Lines(fleet[1]).wait("access", trace=trace)
    assert line["publications"] == 1 and line["path"] == "/api/v1/publish"


def test_a_made_trace_is_the_identity(fleet, connect):
    for node in fleet:
        connect(node, channels="quote:MADE").expect("ack")
    reply = publish(fleet[0], {"channel": "quote:MADE", "data": 1}).json()
    assert "trace" not in reply
    identity = "quote:MADE@%(epoch)s:%(seq)d" % reply
    for node in fleet:
        line, = Lines(node).wait("delivered", trace=identity)
        assert line["level"] == "debug" and line["subscribers"] == 1
    Lines(fleet[0]).wait("access", trace=identity)


def test_a_plain_publication_gets_a_random_one(fleet, connect):
    for node in fleet:
        connect(node, channels="trade:RND").expect("ack")
    assert publish(fleet[2], {"channel": "trade:RND", "data": 1}).json() == {
        "channel": "trade:RND", "plain": True}
    line = Lines(fleet[0]).wait("delivered", channel="trade:RND")[0]
    assert re.fullmatch("[0-9a-f]{32}", line["trace"]) and line["level"] == "debug"
    for node in fleet:
        Lines(node).wait("delivered", trace=line["trace"])
    Lines(fleet[2]).wait("access", trace=line["trace"])


def test_where_a_trace_comes_from(fleet, connect):
    """A publication's own, else X-Trace-Id, else the trace id of Traceparent."""
    node = fleet[0]
    connect(node, channels="quote:FROM").expect("ack")

    def trace(body, **headers):
        return publish(node, {"channel": "quote:FROM", "data": 1, **body}, **headers).json()["trace"]

    assert trace({"trace": "own"}, X_Trace_Id="header", Traceparent=PARENT) == "own"
    assert trace({}, X_Trace_Id="header", Traceparent=PARENT) == "header"
    assert trace({}, Traceparent=PARENT) == PARENT[3:35]
    for name in ("own", "header", PARENT[3:35]):
        Lines(node).wait("delivered", trace=name)
    # A broken Traceparent is as good as none (W3C Trace Context).
    reply = publish(node, {"channel": "quote:FROM", "data": 1}, Traceparent=PARENT[:-1]).json()
    assert "trace" not in reply
    results = publish(node, [{"channel": "quote:FROM", "data": 1, "trace": "b0"},
                             {"channel": "x:y", "data": 1, "trace": "b1"},
                             {"channel": "quote:FROM", "data": 1}], X_Trace_Id="b2").json()
    assert [r.get("trace") for r in results["results"]] == ["b0", None, "b2"]
    Lines(node).wait("delivered", trace="b0")
    Lines(node).wait("delivered", trace="b2")
    line, = Lines(node).wait("access", trace="b0")
    assert line["publications"] == 3


BAD_TRACES = ["", "x" * 65, "a b", "a\nevent=forged", "a\u0000b", "\u00e9", 7, None, ["a"], {}]


@pytest.mark.parametrize("trace", BAD_TRACES, ids=repr)
def test_what_is_no_trace_is_refused(fleet, trace):
    before = fleet[0].metric("tickcast_canary_seen_total")
    reply = publish(fleet[0], {"channel": "quote:BAD", "data": 1, "trace": trace})
    assert reply.status == 400 and reply.json()["name"] == "bad_command"
    assert "seq" not in reply.json() and before > 0


@pytest.mark.parametrize("trace", ["x" * 65, "a b", "\x7f"])
def test_what_is_no_trace_in_a_header_is_refused(fleet, trace):
    reply = publish(fleet[0], {"channel": "quote:BAD", "data": 1}, X_Trace_Id=trace)
    assert reply.status == 400 and reply.json()["name"] == "bad_command"


def test_forged_notes(module_world, fleet, connect):
    """Anybody may publish on tc:trace: what is no note is counted, and a note alone follows nothing."""
    node, redis = fleet[0], module_world.redises[0]
    client = connect(node, channels="quote:FORGED,quote:OTHER")
    client.expect("ack")
    bad = node.metric("tickcast_traces_total", result="malformed")
    for payload in (b"", b" ", b"x", b"a quote:FORGED evil", b"\xff\xfe quote:FORGED",
                    b"a\nb quote:FORGED", b"a " + b"q" * 3000, b"x" * 65 + b" quote:FORGED"):
        redis("PUBLISH", "tc:trace", payload)
    node.wait_metric("tickcast_traces_total", bad + 8, result="malformed")
    redis("PUBLISH", "tc:trace", "lonely quote:FORGED")
    redis("PUBLISH", "tc:quote:OTHER", "1")  # so the note is not for the next one either
    redis("PUBLISH", "tc:quote:FORGED", "2")
    assert [item["data"] for item in client.items(2)] == [1, 2]
    Lines(node).wait("delivered", channel="quote:FORGED")
    assert not Lines(node)("delivered", trace="lonely")


def test_the_bytes_on_the_channel_are_as_ever(module_world, fleet, connect):
    """A raw client sees the payload alone, and the stamp of a traced publication is unchanged."""
    redis, node = module_world.redises[0], fleet[0]
    raw = connect(node, raw=True, channels="quote:BYTES,trade:BYTES")
    for channel in ("quote:BYTES", "trade:BYTES"):
        redis.wait_listeners(channel)
        publish(node, {"channel": channel, "data": {"p": "1.10"}, "trace": "t"})
        assert raw.recv_text() == '{"p": "1.10"}'
    assert redis("HGET", "{tc:quote:BYTES}", "data") == b'{"p": "1.10"}'


def test_the_script_and_the_tool(module_world, fleet, connect, ctl):
    redis, node = module_world.redises[0], fleet[0]
    connect(node, channels="quote:CTL,trade:CTL").expect("ack")
    for channel in ("quote:CTL", "trade:CTL"):
        ctl("pub", "--redis", redis.url, "--trace", "ctl-" + channel, channel, "1")
        Lines(node).wait("delivered", trace="ctl-" + channel, level="info")
    ctl("pub", "--ops", f"http://{node.ops}", "--trace", "ctl-ops", "quote:CTL", "1")
    Lines(node).wait("delivered", trace="ctl-ops")
    done = ctl("pub", "--redis", redis.url, "--trace", "a b", "quote:CTL", "1", check=False)
    assert done.returncode == 2 and "printable ASCII" in done.stderr
    assert redis.cli("--eval", "scripts/publish.lua", "{tc:quote:CTL}", ",", "3", "0", "0", "cli-1",
                     cwd=ROOT)
    Lines(node).wait("delivered", trace="cli-1")
    for arguments in (("a b",), ("x" * 65,), ("t", "other:"), ("t", "tc:quote:CTL")):
        with pytest.raises(RedisError, match="publish: "):
            redis("EVAL", PUBLISH_LUA.read_text(), 1, "{tc:quote:CTL}", "1", 0, 0, *arguments)


def test_a_mirrored_namespace_and_another_prefix(world, redis, connect):
    node = world.node(redis, settings={**JSON, "redis.prefix": "fx/", "namespace.fx.mode": "latest",
                                       "namespace.fx.mirror": "yes"})
    connect(node, channels="fx:EURUSD").expect("ack")
    publish(node, {"channel": "fx:EURUSD", "data": 1, "trace": "m1"})
    line, = Lines(node).wait("delivered", trace="m1")
    assert line["subscribers"] == 1
    publish(node, {"channel": "fx:NOBODY", "data": 1, "trace": "m2"})
    line, = Lines(node).wait("delivered", trace="m2")
    assert line["subscribers"] == 0


def test_a_node_without_followers_says_nothing(fleet):
    """It hears the note and not the publication."""
    before = fleet[0].metric("tickcast_traces_total", result="elsewhere")
    publish(fleet[1], {"channel": "quote:NOBODY", "data": 1, "trace": "nobody"})
    eventually(lambda: fleet[0].metric("tickcast_traces_total", result="elsewhere") > before)
    assert not Lines(fleet[0])("delivered", trace="nobody")


def test_admin_commands_carry_a_trace(module_world, fleet):
    redis = module_world.redises[0]

    def ask(name, **members):
        redis.publish("admin", json.dumps({"id": name, "node": "t2", **members}))
        key = f"tc:admin:reply:{name}"
        eventually(lambda: redis("LLEN", key) == 1)
        return json.loads(redis("LRANGE", key, 0, -1)[0])

    assert ask("tr1", cmd="ping", trace="deploy-9")["trace"] == "deploy-9"
    assert ask("tr2", cmd="ping")["trace"] == "admin:tr2"
    for number, bad in enumerate(("", "a b", 7, None, "x" * 65, "a\nb")):
        reply = ask(f"tr3{number}", cmd="ping", trace=bad)
        assert reply["ok"] is False and "trace" in reply["error"]
    for trace in ("deploy-9", "admin:tr2"):
        line, = Lines(fleet[1]).wait("admin", trace=trace)
        assert (line["cmd"], line["node"], line["ok"]) == ("ping", "t2", 1)


def test_admin_commands_over_the_api_are_followed(fleet):
    """The call, and what every node made of it, under one id."""
    def post(body, **headers):
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return http_request(fleet[0].ops, "/api/v1/admin", "POST", json.dumps(body), names)

    for trace, body, headers in (("hd-1", {"cmd": "ping"}, {"X_Trace_Id": "hd-1"}),
                                 ("own-1", {"trace": "own-1", "cmd": "ping"}, {"X_Trace_Id": "no"}),
                                 ('q"1', {"id": "x1", "cmd": "ping"}, {"X_Trace_Id": 'q"1'}),
                                 ("admin:x2", {"id": "x2", "cmd": "ping"}, {})):
        reply = post(body, **headers)
        assert reply.status == 200
        assert {r["trace"] for r in reply.json()["replies"]} == {trace}
        for node in fleet:
            Lines(node).wait("admin", trace=trace)
        Lines(fleet[0]).wait("admin_posted", trace=trace)
        Lines(fleet[0]).wait("access", trace=trace, path="/api/v1/admin")
    assert post({"cmd": "ping"}, X_Trace_Id="a b").status == 400
    replies = post({"cmd": "ping", "trace": "a b"}).json()["replies"]
    assert len(replies) == 4 and not any(r["ok"] for r in replies)


# --- metrics -----------------------------------------------------------------------------------

WAITING = ("tickcast_clients_blocked", "tickcast_clients_lagging", "tickcast_queued_bytes",
           "tickcast_stream_bytes")


@pytest.mark.parametrize("ends", ["reads on", "goes away"])
def test_what_waits_for_a_slow_client_is_seen_and_gone_with_it(world, redis, wire, ends):
    """Gauges that go up must come down to nothing, whichever way it ends."""
    node = world.node(redis, settings={
        "namespace.quote.mode": "latest", "namespace.trade.mode": "all", "node.ping_ms": 0,
        "limits.soft_bytes": 65536, "limits.unsent_bytes": 16384})
    slow = wire(node, receive_buffer=4096).upgrade("/ws?channels=quote:W,trade:W")
    redis.wait_listeners("trade:W")
    node.wait_metric("tickcast_subscriptions", 2)
    for n in range(100):
        redis.publish_many([("quote:W", json.dumps({"n": n, "x": "x" * 1000})),
                            ("trade:W", json.dumps({"n": n, "x": "y" * 5000}))])
    eventually(lambda: node.metric("tickcast_clients_blocked") == 1)
    eventually(lambda: node.metric("tickcast_clients_lagging") == 1)
    assert node.metric("tickcast_queued_bytes") > 100_000
    if ends == "goes away":
        slow.close()
    else:
        while node.metric("tickcast_clients_blocked") > 0:
            slow.sock.recv(65536)
        slow.sock.setblocking(False)
    eventually(lambda: [node.metric(name) for name in WAITING] == [0, 0, 0, 0],
               what=f"{WAITING} to be 0")
    node.wait_metric("tickcast_connections", 0 if ends == "goes away" else 1)


def test_states_of_the_node(world, redis, connect):
    node = world.node(redis, settings={"node.workers": 2, "listen.max_connections": 77})
    for name, value in (("ready", 1), ("draining", 0), ("workers", 2), ("connections_limit", 77),
                        ("publishing", 0), ("publishing_bytes", 0), ("held_bytes", 0),
                        ("channels_unconfirmed", 0), ("stored_reads_waiting", 0)):
        assert node.metric("tickcast_" + name) == value, name
    for link in ("subscriber", "command"):
        for way in ("received", "sent"):
            assert node.metric(f"tickcast_redis_{way}_bytes_total", link=link) > 0
    before = node.metric("tickcast_api_responses_total", code="2xx")
    node.ops_get("/nope")
    assert node.metric("tickcast_api_responses_total", code="4xx") == 1
    assert node.metric("tickcast_api_responses_total", code="2xx") > before
    eventually(lambda: node.metric("tickcast_loop_lag_seconds_count") >= 6, what="samples of lag")
    redis.kill()
    node.wait_suspect()
    node.wait_metric("tickcast_ready", 0)
