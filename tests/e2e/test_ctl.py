"""tickcastctl against a Redis of its own; nodes are played by the tests themselves."""

import contextlib
import json
import signal
import socket
import threading
import time

import pytest

from ports import free_port
from world import SLOWER, WAIT, RedisClient


class Listener:
    """Someone subscribed in Redis, who keeps what he hears."""

    def __init__(self, redis, *channels, pattern=False):
        self.client = RedisClient(redis.port)
        command = "PSUBSCRIBE" if pattern else "SUBSCRIBE"
        self.skip = 2 if pattern else 1
        for channel in channels:
            self.client(command, channel)

    def read(self, count):
        """[(channel, payload)], as bytes, with the prefix."""
        return [tuple(self.client._reply()[self.skip:]) for _ in range(count)]

    def close(self):
        self.client.close()


@pytest.fixture
def hear(redis):
    opened = []

    def make(*channels, **options):
        opened.append(Listener(redis, *channels, **options))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


def run(ctl, redis, *args, check=False, **options):
    return ctl("--redis", redis.url, *args, check=check, **options)


# --- pub ---------------------------------------------------------------------------------------


def test_pub_says_how_many_nodes_heard(redis, ctl, hear):
    listeners = [hear("tc:quote:A"), hear("tc:quote:A")]
    payload = '{"price":"190.010", "é": 1.50}'
    done = run(ctl, redis, "pub", "--plain", "quote:A", payload)
    assert (done.returncode, done.stdout, done.stderr) == (0, "receivers=2\n", "")
    for listener in listeners:
        assert listener.read(1) == [(b"tc:quote:A", payload.encode())]
    assert run(ctl, redis, "pub", "trade:B", "1").stdout == "receivers=0\n"


def test_pub_over_a_unix_socket_with_another_prefix(redis, ctl, hear):
    listener = hear("x:y:trade:A")
    done = ctl("pub", "--redis", f"unix://{redis.path}", "--prefix=x:y:", "trade:A", "-5")
    assert done.stdout == "receivers=1\n"
    assert listener.read(1) == [(b"x:y:trade:A", b"-5")]


def test_pub_signs_in(world, ctl):
    redis = world.redis(password="p w")
    url = f"redis://:p%20w@127.0.0.1:{redis.port}/3"
    assert ctl("pub", "--redis", url, "a:b", "1").stdout == "receivers=0\n"
    done = ctl("pub", "--redis", f"redis://127.0.0.1:{redis.port}", "a:b", "1", check=False)
    assert done.returncode == 1 and "NOAUTH" in done.stderr
    done = ctl("pub", "--redis", f"redis://:no@127.0.0.1:{redis.port}", "a:b", "1", check=False)
    assert done.returncode == 1 and "WRONGPASS" in done.stderr


def test_pub_publishes_lines_of_standard_input(redis, ctl, hear, tmp_path):
    listener = hear("tc:a:b")
    lines = tmp_path / "lines"
    lines.write_text('{"n":1}\n[2]\n"3"')
    process = ctl.start("--redis", redis.url, "pub", "a:b", "-", stdin=lines.open())
    out, err = process.communicate(timeout=WAIT)
    assert (process.returncode, out, err) == (0, b"receivers=1\n" * 3, b"")
    assert [p for _, p in listener.read(3)] == [b'{"n":1}', b"[2]", b'"3"']
    lines.write_text("1\n{bad\n2\n")
    process = ctl.start("--redis", redis.url, "pub", "a:b", "-", stdin=lines.open())
    out, err = process.communicate(timeout=WAIT)
    assert (process.returncode, out) == (1, b"receivers=1\n")
    assert b"line 2 is not one JSON value" in err


def test_pub_text(redis, ctl, hear):
    listener = hear("tc:chat:a")
    assert run(ctl, redis, "pub", "chat:a", "hello").returncode == 2
    assert run(ctl, redis, "pub", "--text", "chat:a", "hello").stdout == "receivers=1\n"
    assert listener.read(1) == [(b"tc:chat:a", b"hello")]


# --- command lines -----------------------------------------------------------------------------

MISUSE = [
    ([], "usage:"),
    (["nope"], "no command 'nope'"),
    (["--redis"], "usage:"),
    (["pub"], "too few arguments"),
    (["pub", "a:b", "1", "2"], "too many arguments"),
    (["pub", "ab", "1"], "is no channel"),
    (["pub", "a:", "1"], "is no channel"),
    (["pub", "a:b c", "1"], "is no channel"),
    (["pub", "a:" + "b" * 127, "1"], "is no channel"),
    (["pub", "a:b", "{"], "not one JSON value"),
    (["pub", "a:b", "1 2"], "not one JSON value"),
    (["pub", "a:b", ""], "not one JSON value"),
    (["pub", "--nope", "a:b", "1"], "no option '--nope'"),
    (["pub", "--text=1", "a:b", "1"], "takes no value"),
    (["pub", "a:b", "1", "--prefix"], "needs a value"),
    (["pub", "a:b", "1", "--prefix", "a b"], "--prefix"),
    (["pub", "a:b", "1", "--ops", "127.0.0.1:9180"], "http://host:port is expected"),
    (["pub", "a:b", "1", "--ops", "http://h:1", "--plain"], "leaves --plain"),
    (["pub", "a:b", "1", "--ops", "http://h:1", "--config", "f"], "leaves --plain"),
    (["pub", "a:b", "1", "--plain", "--stamped"], "exclude each other"),
    (["pub", "a:b"], "too few arguments"),
    (["pub", "quote:b", "1", "--clear"], "--clear takes no payload"),
    (["pub", "trade:b", "--clear"], "nothing is kept"),
    (["pub", "quote:b", "--text", ""], "not empty"),
    (["pub", "quote:b", "1", "--config", "/nope"], "/nope"),
    (["sim", "--ops", "http://127.0.0.1:9180"], "--ops is of no use"),
    (["nodes", "--ops", "127.0.0.1:9180"], "http://host:port is expected"),
    (["admin", "{}", "--ops", "ftp://h:1"], "http://host:port is expected"),
    (["pub", "a:b", "1", "--redis", "http://h"], "--redis"),
    (["pub", "a:b", "1", "--redis", "redis://h:0"], "--redis"),
    (["sub", "ws://h:1/ws"], "too few arguments"),
    (["sub", "http://h", "a:b"], "it is not ws://"),
    (["sub", "wss://h", "a:b"], "not built yet"),
    (["sub", "ws://h:70000", "a:b"], "it is not ws://"),
    (["sub", "--count", "0", "ws://h", "a:b"], "whole number from 1"),
    (["sub", "--mode", "best", "ws://h", "a:b"], "latest or all"),
    (["sub", "--raw", "--mode", "all", "ws://h", "a:b"], "--raw has no commands"),
    (["sub", "--raw", "ws://h", "a,b:c"], "is no channel"),
    (["admin"], "too few arguments"),
    (["admin", "[]"], "not a JSON object"),
    (["admin", "{"], "not a JSON object"),
    (["admin", '{"id":{}}'], "admin: id"),
    (["admin", '{"id":""}'], "admin: id"),
    (["admin", '{"id":"' + "x" * 65 + '"}'], "admin: id"),
    (["admin", '{"id":"a\\u0020b"}'], "admin: id"),
    (["admin", '{"id":1.5}'], "admin: id"),
    (["admin", '{"id":' + "1" * 65 + "}"], "admin: id"),
    (["admin", "--timeout", "61", "{}"], "from 0 to 60"),
    (["drain"], "too few arguments"),
    (["drain", ""], "a node's id"),
    (["drain", 'n"1'], "a node's id"),
    (["drain", "n1", "--timeout", "x"], "whole number"),
    (["drain", "--seconds", "-1", "n1"], "whole number from 0"),
    (["drain", "--seconds", "3601", "n1"], "from 0 to 3600"),
    (["nodes", "x"], "too many arguments"),
    (["sim", "x"], "too many arguments"),
    (["sim", "--rate", "fast"], "no number"),
    (["sim", "--rate", "1e3"], "no number"),
    (["sim", "--rate", "-1"], "no number"),
    (["sim", "--rate", "."], "no number"),
    (["sim", "--symbols", "0"], "whole number from 1 to 100000"),
    (["sim", "--symbols", "10x"], "whole number"),
    (["sim", "--seed", "99999999999999999999"], "whole number"),
    (["sim", "--trades", "101"], "from 0 to 100"),
    (["sim", "--namespace", "a b"], "cannot be a namespace"),
    (["sim", "--trade-namespace", ""], "cannot be a namespace"),
    (["replay"], "too few arguments"),
    (["replay", "--speed", "x", "f"], "no number"),
]


@pytest.mark.parametrize("args,message", MISUSE, ids=lambda v: " ".join(v)[:40] if v else "none")
def test_misuse_exits_2_and_says_why(ctl, args, message):
    done = ctl(*args, check=False)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("command", ["pub", "sub", "nodes", "admin", "drain", "sim", "replay"])
def test_help_and_version(ctl, command):
    assert ctl("--version").stdout.startswith("tickcastctl 0.")
    assert f"\n  {command} " in ctl("--help").stdout
    done = ctl(command, "--help")
    assert done.stdout.startswith(f"usage: tickcastctl {command}") and "--redis URL" in done.stdout


@pytest.mark.parametrize("args", [["pub", "a:b", "1"], ["nodes"], ["admin", "{}"], ["sim"],
                                  ["drain", "n1"], ["replay", "/dev/null"]])
def test_no_redis_is_a_failure(ctl, args):
    done = ctl("--redis", "redis://127.0.0.1:1", *args, check=False)
    assert done.returncode == 1 and "redis at 127.0.0.1:1: Connection refused" in done.stderr


def test_a_redis_that_says_nothing_is_told_by_its_silence(ctl):
    """Not by "Resource temporarily unavailable", which sends one looking for resources."""
    with socket.create_server(("127.0.0.1", free_port())) as silent:
        done = ctl("nodes", "--redis", f"redis://127.0.0.1:{silent.getsockname()[1]}", check=False)
    assert done.returncode == 1 and done.stderr.endswith("redis: no answer in time\n")


def test_a_closed_pipe_is_a_failure(redis, ctl):
    with open("/dev/full", "w", encoding="ascii") as full:
        process = ctl.start("--redis", redis.url, "pub", "a:b", "1", stdout=full)
        _, err = process.communicate(timeout=WAIT)
    assert process.returncode == 1 and b"standard output" in err


# --- admin -------------------------------------------------------------------------------------


class FakeNode(threading.Thread):
    """Answers one admin command as a node would."""

    def __init__(self, redis, name, answer):
        super().__init__(daemon=True)
        self.name, self.answer = name, answer
        self.listener = Listener(redis, "tc:admin")
        self.redis = RedisClient(redis.port)
        self.heard = None
        self.start()

    def run(self):
        with contextlib.suppress(OSError, ConnectionError):
            [(_, payload)] = self.listener.read(1)
            self.heard = payload.decode()
            command = json.loads(payload)
            answer = self.answer(self.name, command)
            if answer is not None:
                self.redis("RPUSH", f"tc:admin:reply:{command['id']}", json.dumps(answer))

    def close(self):
        self.join(WAIT)
        self.listener.close()
        self.redis.close()


@pytest.fixture
def fake_nodes(redis):
    made = []

    def make(count, answer):
        made.extend(FakeNode(redis, f"n{i + 1}", answer) for i in range(count))
        return made

    yield make
    for one in made:
        one.close()


def says(ok):
    return lambda node, command: {"node": node, "cmd": command["cmd"], "ok": ok}


def test_admin_collects_all_replies(redis, ctl, fake_nodes):
    nodes = fake_nodes(3, says(True))
    done = run(ctl, redis, "admin", '{ "cmd":"notice","data":{"n":1.10}}')
    assert (done.returncode, done.stderr) == (0, "")
    replies = [json.loads(line) for line in done.stdout.splitlines()]
    assert sorted(r["node"] for r in replies) == ["n1", "n2", "n3"]
    heard = nodes[0].heard
    assert heard.endswith('"cmd":"notice","data":{"n":1.10}}'), "the command's bytes are kept"
    assert len(json.loads(heard)["id"]) == 16


@pytest.mark.parametrize("own", ["7", '"op-7"', "1780000000123456789", '"a \u20ac"'])
def test_admin_keeps_an_id(redis, ctl, fake_nodes, own):
    nodes = fake_nodes(1, says(True))
    text = f'{{"cmd":"ping","id":{own}}}'
    assert run(ctl, redis, "admin", text).returncode == 0
    assert nodes[0].heard == text


def test_admin_does_not_take_former_replies_for_new_ones(redis, ctl, fake_nodes):
    """They stay for a minute, and who repeats a command repeats its id."""
    fake_nodes(1, says(False))
    redis("RPUSH", "tc:admin:reply:op-7", '{"node":"n1","ok":true}')
    done = run(ctl, redis, "admin", '{"cmd":"ping","id":"op-7"}')
    assert done.returncode == 1 and [json.loads(l)["ok"] for l in done.stdout.splitlines()] == [False]


def test_admin_fails_when_a_node_refuses(redis, ctl, fake_nodes):
    fake_nodes(2, lambda node, command: {"node": node, "ok": node == "n1"})
    done = run(ctl, redis, "admin", '{"cmd":"ping"}')
    assert done.returncode == 1 and len(done.stdout.splitlines()) == 2


def test_admin_fails_when_a_reply_is_missing(redis, ctl, fake_nodes):
    fake_nodes(2, lambda node, command: {"ok": True} if node == "n2" else None)
    started = time.monotonic()
    done = run(ctl, redis, "admin", "--timeout", "0.5", '{"cmd":"ping"}')
    assert done.returncode == 1 and "1 of 2 nodes replied" in done.stderr
    assert done.stdout == '{"ok": true}\n'
    assert 0.45 < time.monotonic() - started < 0.5 + 2 * SLOWER


def test_admin_to_one_node_wants_one_reply(redis, ctl, fake_nodes):
    fake_nodes(3, lambda node, c: {"node": node, "ok": True} if node == c["node"] else None)
    done = run(ctl, redis, "admin", '{"cmd":"ping","node":"n2"}')
    assert done.returncode == 0 and done.stdout == '{"node": "n2", "ok": true}\n'


def test_admin_without_nodes_fails_at_once(redis, ctl):
    done = run(ctl, redis, "admin", '{"cmd":"ping"}')
    assert done.returncode == 1 and "no node is listening" in done.stderr


def register(redis, name, **fields):
    redis("ZADD", "tc:nodes", int(time.time() * 1000) + 60000, name)
    redis("HSET", f"tc:node:{name}", *[x for pair in fields.items() for x in pair])


def test_nodes_are_ordered_by_id(redis, ctl):
    for name in ("n2", "n10", "a", "n1"):
        register(redis, name, state="ready")
    rows = run(ctl, redis, "nodes").stdout.splitlines()[1:]
    assert [row.split()[0] for row in rows] == ["a", "n1", "n10", "n2"]


def begins_to_drain(redis):
    def begin(node, command):
        register(redis, node, state="draining", clients=2)
        return {"node": node, "ok": True}
    return begin


def await_draining(process):
    line = b""
    while b"draining, 2 clients" not in line:
        line = process.stderr.readline()
        assert line, "it ended"


def test_drain_addresses_its_node(redis, ctl, fake_nodes):
    nodes = fake_nodes(1, says(True))
    register(redis, "n1", state="ready", clients=3)
    assert run(ctl, redis, "drain", "--no-wait", "--seconds", "9", "n1").returncode == 0
    heard = json.loads(nodes[0].heard)
    del heard["id"]
    assert heard == {"cmd": "drain", "node": "n1", "seconds": 9}


def test_drain_waits_until_the_node_is_empty(redis, ctl, fake_nodes):
    register(redis, "n1", state="ready", clients=2)
    fake_nodes(1, begins_to_drain(redis))
    process = ctl.start("--redis", redis.url, "drain", "n1")
    await_draining(process)
    assert process.poll() is None
    register(redis, "n1", state="draining", clients=0)
    assert process.wait(WAIT) == 0
    assert b"draining, 0 clients" in process.stderr.read()


@pytest.mark.parametrize("after,timeout,message", [
    ({"state": "ready", "clients": 2}, 30, "takes clients again"),
    ({"state": "draining", "clients": 2}, 1, "not empty after 1 s"),
])
def test_drain_that_does_not_end(redis, ctl, fake_nodes, after, timeout, message):
    register(redis, "n1", state="ready", clients=2)
    fake_nodes(1, begins_to_drain(redis))
    process = ctl.start("--redis", redis.url, "drain", "n1", "--timeout", timeout)
    await_draining(process)
    register(redis, "n1", **after)
    assert process.wait(WAIT) == 1
    assert message in process.stderr.read().decode()


def test_drain_of_nobody_sends_nothing(redis, ctl):
    done = run(ctl, redis, "drain", "n9")
    assert done.returncode == 1 and "no node 'n9' is registered" in done.stderr


def test_drain_that_is_refused_does_not_wait(redis, ctl, fake_nodes):
    fake_nodes(1, says(False))
    register(redis, "n1", state="ready", clients=3)
    assert run(ctl, redis, "drain", "n1").returncode == 1


# --- nodes -------------------------------------------------------------------------------------


def test_nodes_without_a_registry(redis, ctl):
    done = run(ctl, redis, "nodes")
    assert (done.returncode, done.stdout) == (1, "") and "no nodes registered" in done.stderr


def test_nodes_prints_the_living(redis, ctl):
    now = int(time.time() * 1000)
    redis("ZADD", "tc:nodes", now + 60000, "n1", now + 60000, "n2", now - 1, "dead")
    redis("HSET", "tc:node:n1", "id", "n1", "state", "ready", "address", "127.0.0.1:8080",
          "clients", 12, "canary_ms", 3, "version", "\x1b[31m")
    lines = run(ctl, redis, "nodes", check=True).stdout.splitlines()
    assert len(lines) == 3
    assert lines[0].split()[:3] == ["id", "state", "address"]
    assert lines[1].split()[:3] == ["n1", "ready", "127.0.0.1:8080"]
    assert "12" in lines[1].split() and "\x1b" not in lines[1]
    assert lines[2].split()[:2] == ["n2", "-"], "its hash is gone already"


def test_nodes_leaves_out_what_no_node_wrote(redis, ctl):
    far = int(time.time() * 1000) + 60000
    redis("ZADD", "tc:nodes", far, "n1", far, "a b", far, "x" * 70, far, b"\xff", far, "n2")
    redis("HSET", "tc:node:n1", "state", "x" * 100000, "clients", "-1", "channels", "7")
    redis("SET", "tc:node:n2", "a string")
    done = run(ctl, redis, "nodes", "--json", check=True)
    nodes = {n["id"]: n for n in json.loads(done.stdout)["nodes"]}
    assert nodes == {"n1": {"id": "n1", "channels": 7}, "n2": {"id": "n2"}}


# --- sim ---------------------------------------------------------------------------------------


def test_sim_repeats_itself(redis, ctl, hear):
    seen = []
    for seed in (5, 5, 6):
        listener = hear("tc:*", pattern=True)
        run(ctl, redis, "sim", "--seed", seed, "--count", 300, "--rate", 0, "--no-ts", check=True)
        seen.append(listener.read(300))
    assert seen[0] == seen[1] != seen[2]
    assert {c.split(b":")[1] for c, _ in seen[0]} == {b"quote", b"trade"}


def test_sim_names_and_times(redis, ctl, hear):
    listener = hear("tc:*", pattern=True)
    before = int(time.time() * 1000)
    run(ctl, redis, "sim", "--symbols", 3, "--count", 60, "--rate", 0, "--namespace", "q",
        "--trade-namespace", "t", "--trades", 50, check=True)
    heard = listener.read(60)
    assert {c.split(b":")[1] for c, _ in heard} == {b"q", b"t"}
    assert len({c.split(b":")[2] for c, _ in heard}) <= 3
    volume = {}
    for channel, payload in heard:
        data = json.loads(payload)
        assert before <= data["ts"] <= int(time.time() * 1000)
        assert channel.decode().endswith(":" + data["symbol"])
        if "volume" in data:
            assert data["volume"] > volume.get(channel, 0)
            volume[channel] = data["volume"]


def summary(text):
    line = [l for l in text.splitlines() if "published=" in l][-1]
    return {k: float(v) for k, v in (f.split("=") for f in line.split() if "=" in f)}


@pytest.mark.plain
def test_sim_keeps_its_rate(redis, ctl):
    done = run(ctl, redis, "sim", "--rate", 1500, "--count", 3000, check=True)
    figures = summary(done.stderr)
    assert figures["published"] == 3000 and figures["lost"] == 0
    assert 1.99 <= figures["seconds"] < 2.2, "the last of 3000 is due after 2999/1500 s"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("rate", ["0.01", "0", "500"])
def test_sim_stops_cleanly(redis, ctl, hear, how, rate):
    listener = hear("tc:*", pattern=True)
    process = ctl.start("--redis", redis.url, "sim", "--rate", rate)
    listener.read(1)
    process.send_signal(how)
    _, err = process.communicate(timeout=WAIT)
    assert process.returncode == 0
    assert summary(err.decode())["published"] >= 1


def test_sim_survives_a_redis_restart(redis, ctl, hear):
    listener = hear("tc:*", pattern=True)
    process = ctl.start("--redis", redis.url, "sim", "--rate", 500)
    listener.read(10)
    redis.restart()
    hear("tc:*", pattern=True).read(10)
    process.terminate()
    _, err = process.communicate(timeout=WAIT)
    assert process.returncode == 0
    assert b"redis lost: " in err and b"redis is back" in err


def test_sim_stops_while_redis_is_gone(redis, ctl, hear):
    listener = hear("tc:*", pattern=True)
    process = ctl.start("--redis", redis.url, "sim", "--rate", 500)
    listener.read(1)
    redis.kill()
    assert b"redis lost" in process.stderr.readline()
    process.terminate()
    _, err = process.communicate(timeout=WAIT)
    assert process.returncode == 0 and b"published=" in err


def test_sim_reports_refusals(world, ctl):
    redis = world.redis()
    redis("ACL", "SETUSER", "mute", "on", "nopass", "-@all", "+auth", "+select")
    url = f"redis://mute:x@127.0.0.1:{redis.port}"
    done = ctl("sim", "--redis", url, "--rate", 0, "--count", 5, check=False)
    assert done.returncode == 1
    assert "redis refuses: NOPERM" in done.stderr and "refused=5" in done.stderr


# --- replay ------------------------------------------------------------------------------------

RECORDED = [
    b"wss://feed.example <-> 1600000000.5",
    b'wss://feed.example <- 1600000000.6: {"type":"subscribe","product_id":"A-B"}',
    b'1600000001.000000: {"type":"subscriptions"}',
    b'1600000001.100000: {"product_id":"A-B", "price":"1.10"}',
    b'1600000001.200000: {"type":"x","price":2.50,"product_id":"C-D"}',
    b'1600000001.150000: {"product_id":"A-B","n":3}',
    b"",
    b'1600000001.600000: {"product_id":"A-B","n":"' + b"x" * 100000 + b'"}',
]
PUBLISHED = [(b"A-B", RECORDED[3]), (b"C-D", RECORDED[4]), (b"A-B", RECORDED[5]),
             (b"A-B", RECORDED[7])]


def frames(namespace):
    return [(b"tc:" + namespace + b":" + product, line.split(b": ", 1)[1])
            for product, line in PUBLISHED]


@pytest.fixture
def tape(tmp_path):
    def make(lines):
        path = tmp_path / "tape"
        path.write_bytes(b"\n".join(lines))
        return path

    return make


def test_replay_of_a_recording_byte_for_byte(redis, ctl, hear, tape):
    listener = hear("tc:*", pattern=True)
    done = run(ctl, redis, "replay", "--speed", 0, tape(RECORDED), check=True)
    assert listener.read(4) == frames(b"quote")
    figures = summary(done.stderr)
    assert (figures["published"], figures["skipped"], figures["receivers"]) == (4, 4, 4)
    run(ctl, redis, "replay", "--speed", 0, "--namespace", "book", tape(RECORDED), check=True)
    assert listener.read(4) == frames(b"book")


@pytest.mark.parametrize("speed,seconds", [("1", 0.5), ("2.5", 0.2)])
def test_replay_keeps_the_recorded_pace(redis, ctl, hear, tape, speed, seconds):
    listener = hear("tc:*", pattern=True)
    process = ctl.start("--redis", redis.url, "replay", "--speed", speed, tape(RECORDED))
    listener.read(1)
    first = time.monotonic()
    listener.read(3)
    took = time.monotonic() - first
    assert process.wait(WAIT) == 0
    assert seconds - 0.05 < took < seconds + SLOWER


def test_replay_of_a_tape(redis, ctl, hear, tape):
    listener = hear("tc:*", pattern=True)
    lines = [b'quote:A\t{"a":\t1.0}', b"no tab", b"bad channel\t1", b"trade:B\t[2]\r", b"# x"]
    lines += [b"chat:c\t%d" % n for n in range(1000)]
    done = run(ctl, redis, "replay", tape(lines), check=True)
    want = [(b"tc:quote:A", b'{"a":\t1.0}'), (b"tc:trade:B", b"[2]\r")]
    want += [(b"tc:chat:c", b"%d" % n) for n in range(1000)]
    assert listener.read(1002) == want
    assert summary(done.stderr)["skipped"] == 3


def test_replay_paces_a_tape(redis, ctl, tape):
    lines = [b"a:b\t1"] * 21
    figures = summary(run(ctl, redis, "replay", "--rate", 50, tape(lines), check=True).stderr)
    assert 0.4 <= figures["seconds"] < 0.4 + SLOWER


def test_replay_reads_standard_input(redis, ctl, hear, tape):
    listener = hear("tc:*", pattern=True)
    process = ctl.start("--redis", redis.url, "replay", "-", stdin=tape([b"a:b\t1"]).open())
    assert process.wait(WAIT) == 0
    assert listener.read(1) == [(b"tc:a:b", b"1")]


def test_replay_skips_a_line_past_the_bound(redis, ctl, hear, tape):
    listener = hear("tc:*", pattern=True)
    lines = [b"a:b\t1", b"a:b\t" + b"x" * (8 << 20), b"a:b\t3"]
    done = run(ctl, redis, "replay", tape(lines), check=True)
    assert [p for _, p in listener.read(2)] == [b"1", b"3"]
    assert "1 lines over" in done.stderr and summary(done.stderr)["skipped"] == 1


def test_replay_fails_clearly(redis, ctl, tape, tmp_path):
    done = run(ctl, redis, "replay", tmp_path / "absent")
    assert done.returncode == 1 and "No such file" in done.stderr
    done = run(ctl, redis, "replay", tmp_path)
    assert done.returncode == 1 and "Is a directory" in done.stderr
    done = run(ctl, redis, "replay", tape([b"nothing", b"here"]))
    assert done.returncode == 1 and "holds nothing to publish" in done.stderr


def test_replay_does_not_go_on_without_redis(redis, ctl, hear, tape):
    listener = hear("tc:*", pattern=True)
    path = tape([b"a:b\t%d" % n for n in range(1000)])
    process = ctl.start("--redis", redis.url, "replay", "--rate", 100, path)
    listener.read(3)
    redis.kill()
    _, err = process.communicate(timeout=WAIT)
    assert process.returncode == 1 and b"stopped before the end" in err
