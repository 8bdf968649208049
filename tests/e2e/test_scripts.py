"""scripts/status, publish-quote and canary, as an operator runs them. Those that need no node are
marked `plain`: a sanitizer would learn nothing from them."""

import json
import re
import signal
import subprocess
import time

import pytest

from fake_fleet import FakeFleet
from world import ROOT, TICKCASTCTL, eventually


def run(name, redis, *args, **options):
    command = [str(ROOT / "scripts" / name)]
    if redis is not None:
        command += ["--redis", redis.url]
    return subprocess.run(command + [str(a) for a in args], capture_output=True, text=True,
                          timeout=30, check=False, **options)


@pytest.fixture
def fleet(redis):
    made = FakeFleet(redis)
    eventually(lambda: redis("ZCARD", "tc:nodes") == 3)
    yield made
    made.close()


@pytest.mark.plain
@pytest.mark.parametrize("script, status", [("status", 2), ("publish-quote", 2), ("canary", 3)])
@pytest.mark.parametrize("args", [["--colour"], ["--redis"], ["--redis", "x"], ["a", "b", "c"]])
def test_wrong_use_is_told_in_one_line(script, status, args):
    done = run(script, None, *args)
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.startswith(f"{script}: ") and len(done.stderr.splitlines()) == 1


@pytest.mark.plain
@pytest.mark.parametrize("script", ["status", "publish-quote", "canary"])
def test_help(script):
    done = run(script, None, "--help")
    text = (ROOT / "scripts" / script).read_text()
    assert done.returncode == 0 and "Exit status" in done.stdout
    for option in re.findall(r"^        (--[a-z-]+)\)", text, re.M):
        assert option in done.stdout


# --- status ---------------------------------------------------------------------------------------

def rows(text):
    return {line.split()[0]: line.split()[1:] for line in text.splitlines() if line}


@pytest.mark.plain
def test_status_of_a_fleet(fleet, redis):
    done = run("status", redis)
    assert done.returncode == 0, done.stdout + done.stderr
    for name, node in fleet.nodes.items():
        row = rows(done.stdout)[name]
        assert row[:8] == ["ready", "ok", "5", "1000", "7", "10", "100", "1"], row
        assert row[-1] == node.listener.address
    assert "3 nodes, 15 clients" in done.stdout and "off:" not in done.stdout


@pytest.mark.plain
def test_status_says_what_is_off(fleet, redis):
    fleet["n1"].state = "draining"
    fleet["n2"].state = "canary_lost"  # what its /readyz says
    fleet["n2"].extra = {"state": "ready"}
    redis("ZADD", "tc:nodes", int(time.time() * 1000) + 60000, "\x1b[2J")
    redis("SET", "tc:rolling-restart:lock", "ann@host pid 7 since then 1234")
    eventually(lambda: redis("HGET", "tc:node:n1", "state") == b"draining")
    fleet["n2"].extra = {"state": "ready", "channels": 8}
    eventually(lambda: redis("HGET", "tc:node:n2", "channels") == b"8")
    done = run("status", redis)
    assert done.returncode == 1
    assert "off: n1 is draining" in done.stdout and "off: n2: canary_lost" in done.stdout
    assert "off: not a node's entry" in done.stdout and "\x1b" not in done.stdout
    assert "a rolling restart is under way: ann@host pid 7 since then\n" in done.stdout
    assert "canary_lost" not in run("status", redis, "--no-probe").stdout


@pytest.mark.plain
def test_status_of_nothing(redis):
    done = run("status", redis)
    assert done.returncode == 1 and "no nodes" in done.stdout
    redis.kill()
    done = run("status", redis)
    assert done.returncode == 2 and done.stderr


@pytest.mark.plain
def test_status_watches(fleet, redis):
    command = [str(ROOT / "scripts/status"), "--redis", redis.url, "--watch=1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        heads = 0
        while heads < 2:
            heads += process.stdout.readline().startswith("NODE ")
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) in (0, 1)


# --- publish-quote --------------------------------------------------------------------------------

def test_publish_quote(node, redis, connect):
    client = connect(node)
    client.subscribe("quote:AAPL", "trade:AAPL")
    redis.wait_listeners("quote:AAPL")
    data = '{"price":"190.01","note":"\u20ac $(id) `id` \\"x\\""}'
    done = run("publish-quote", redis, "trade:AAPL", data)
    assert (done.returncode, done.stdout) == (0, "heard by 1 nodes\n"), done.stderr
    assert data in client.recv_text()
    done = run("publish-quote", redis, "--stamped", "quote:AAPL", "-", input=data + "\n")
    seq, epoch = re.fullmatch(r"(\d+) (\w+), followed by 1 nodes\n", done.stdout).groups()
    item = client.expect("push")["items"][0]
    assert (item["seq"], item["epoch"], item["data"]) == (int(seq), epoch, json.loads(data))
    run("publish-quote", redis, "--clear", "quote:AAPL")
    assert client.expect("push")["items"][0]["cleared"] is True
    done = run("publish-quote", redis, "quote:NOBODY", "[]")
    assert (done.returncode, done.stdout) == (0, "heard by 0 nodes\n")


@pytest.mark.plain
def test_publish_quote_of_a_megabyte(redis):
    data = '["' + "x" * 1000000 + '"]'
    done = run("publish-quote", redis, "--stamped", "--history", 3, "--ttl", 60, "quote:A", "-",
               input=data)
    assert done.returncode == 0, done.stderr
    assert redis("HGET", "{tc:quote:A}", "data") == data.encode()
    assert redis("XLEN", "{tc:quote:A}:log") == 1 and redis("TTL", "{tc:quote:A}") > 50


NOT_JSON = ["", "{", "}", "[1,]", "[,1]", '{"a"}', '{"a":}', '{"a":1,}', "{1:2}", "01", "1.", ".5",
            "+1", "1 2", "tru", "nul l", "NaN", "Infinity", "'a'", '"a', '"\\x"', '"\\u12"', "[}",
            '"a\nb"', "[1 2]", '{"a":1 "b":2}', "]", "[[]", ",", ":", "@1", "--1", "1e", '"a"b',
            '{"a":1}}', "truefalse", "\x01"]
JSON = ["0", "-1.5e+10", '""', "[]", "{}", "null", " true ", '"\\u00e9\\n\\\\"', "[[],{}]",
        '{"a":{"b":[1,2,{"c":null}]},"d":false}', "[\n1 ,\t2 ]", '"\u20ac"', "1E5", "-0"]


@pytest.mark.plain
def test_json_is_told_from_what_is_none(redis):
    """By the rules of json, someone else's parser; all in one go, for a process costs time."""
    for text in JSON:
        json.loads(text)
        assert run("publish-quote", redis, "quote:A", "-", input=text).returncode == 0, text
    for text in NOT_JSON:
        done = run("publish-quote", redis, "quote:A", "-", input=text)
        assert done.returncode == 2, text
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.plain
@pytest.mark.parametrize("args", [
    ["AAPL", "1"], [":A", "1"], ["quote:", "1"], ["quote:a b", "1"], ["quote:*", "1"],
    ["quote:a,b", "1"], ["quote:[", "1"], ["quote:]", "1"], ["quote:\u20ac", "1"], ['quote:"', "1"],
    ["quote:\\", "1"], ["quote:" + "x" * 123, "1"], ["quote:A"], ["--clear", "quote:A", "1"],
    ["--history", "2", "quote:A", "1"], ["--text", "quote:A", "@1 2"],
])
def test_what_publish_quote_refuses(args):
    assert run("publish-quote", None, *args).returncode == 2


@pytest.mark.plain
def test_publish_quote_without_redis(world):
    redis = world.redis(password="secret")
    done = subprocess.run([str(ROOT / "scripts/publish-quote"), "--redis",
                           f"redis://127.0.0.1:{redis.port}", "quote:A", "1"], timeout=20,
                          capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "NOAUTH" in done.stderr
    redis.kill()
    done = run("publish-quote", redis, "quote:A", "1")
    assert done.returncode == 1 and "refused" in done.stderr


@pytest.mark.plain
def test_a_publisher_that_may_do_no_more(redis):
    """As docs/operations.md sets up its ACL: it is published, and the exit status says so."""
    redis("ACL", "SETUSER", "feed", "on", ">pw", "resetchannels", "&tc:quote:*", "+publish",
          "~{tc:quote:*}*", "+eval", "+evalsha", "+@read", "+@write", "+time")
    url = redis.url.replace("redis://", "redis://feed:pw@")
    def run_as_feed(name, *args):
        return subprocess.run([str(ROOT / "scripts" / name), "--redis", url, *args], timeout=20,
                              capture_output=True, text=True, check=False)
    done = run_as_feed("publish-quote", "--stamped", "quote:A", "1")
    assert done.returncode == 0 and re.fullmatch(r"1 \w+\n", done.stdout), done.stderr
    assert "not known who follows: NOPERM" in done.stderr
    done = run_as_feed("status")
    assert done.returncode == 2 and "Redis: NOPERM" in done.stderr


# --- canary ---------------------------------------------------------------------------------------

def canary(redis, *args):
    return run("canary", redis, "--tickcastctl", TICKCASTCTL, *args)


@pytest.fixture
def nodes(world, redis):
    made = world.cluster(2)
    eventually(lambda: redis("ZCARD", "tc:nodes") == 2)
    return made


def test_canary_of_a_healthy_fleet(nodes, redis):
    for args, names in ((), ["n1", "n2"]), (("--node", "n2"), ["n2"]), \
            (("--ops", f"http://{nodes[0].ops}"), ["n1", "n2"]), \
            (("--url", nodes[0].url()), ["url"]):
        done = canary(redis, "--warn-ms", 5000, *args)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.startswith(f"TICKCAST OK - {len(names)} of {len(names)} nodes, slowest ")
        assert re.findall(r" (\w+)=\d+\.\dms;5000;5000;0", done.stdout) == names
        assert done.stderr == "" and len(done.stdout.splitlines()) == 1
    done = canary(redis, "--warn-ms", 0)
    assert done.returncode == 1 and done.stdout.startswith("TICKCAST WARNING - ")


def test_canary_finds_what_is_broken(nodes, redis):
    done = canary(redis, "--channel", "nonsense:x")
    assert done.returncode == 2 and "unknown_namespace" in done.stdout
    redis("HSET", "tc:node:dead", "id", "dead", "address", "127.0.0.1:1", "state", "ready",
          "clients", 0, "started", 1780000000000)
    redis("ZADD", "tc:nodes", int(time.time() * 1000) + 60000, "dead")
    done = canary(redis)
    assert done.returncode == 2 and "1 of 3 nodes: dead (ws://127.0.0.1:1/ws): " in done.stdout
    assert " n1=" in done.stdout and " n2=" in done.stdout
    done = canary(redis, "--node", "n3")
    assert done.returncode == 2 and "no such node" in done.stdout
    redis.pause()
    done = canary(redis, "--timeout-ms", 1000)
    redis.resume()
    assert done.returncode == 2 and "Redis: no answer within 1 s" in done.stdout


def test_status_of_real_nodes(nodes, redis):
    done = run("status", redis)
    assert done.returncode == 0, done.stdout + done.stderr
    for node in nodes:
        row = rows(done.stdout)[node.name]
        assert row[:3] == ["ready", "ok", "0"] and row[-1] == node.listen
        assert re.fullmatch(r"0m\d+s", row[8]) and row[10] == "0.1.0", row


def test_canary_of_a_node_that_hears_nothing(world, redis):
    """Its Redis is another one."""
    node = world.node(world.redis())
    done = canary(redis, "--url", node.url(), "--timeout-ms", 700)
    assert done.returncode == 2 and "nothing arrived in 700 ms" in done.stdout
