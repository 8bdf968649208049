"""Stamped publishing: the script as redis-cli runs it, the ops API, and tickcastctl pub."""

import json
import re
import socket
import threading

import pytest

from world import ROOT, RedisClient, eventually, http_request, write_config

SCRIPT = ROOT / "scripts" / "publish.lua"
KEY, LOG = "{tc:quote:A}", "{tc:quote:A}:log"
SEQ_MAX = 2**53 - 1
API = "/api/v1/publish"


class Publisher:
    """The script, sent by a client of its own: exact bytes in and out."""

    def __init__(self, redis):
        self.redis = redis
        self.client = RedisClient(redis.port)

    def raw(self, *args, keys=(KEY,)):
        return self.client("EVAL", SCRIPT.read_text(), len(keys), *keys, *args)

    def __call__(self, *args, key=KEY):
        seq, epoch = self.raw(*args, keys=(key,))
        return seq, epoch.decode()

    def value(self, key=KEY):
        flat = self.client("HGETALL", key)
        return dict(zip((f.decode() for f in flat[::2]), flat[1::2]))

    def log(self, key=LOG):
        return [(i.decode(), dict(zip((f.decode() for f in e[::2]), e[1::2])))
                for i, e in self.client("XRANGE", key, "-", "+")]

    def everything(self):
        return {k: self.client("DUMP", k) for k in self.client("KEYS", "*")}


@pytest.fixture
def script(redis):
    return Publisher(redis)


@pytest.fixture
def hear(redis):
    """hear(count) reads that many messages of tc:quote:A, from now on."""
    listener = RedisClient(redis.port)
    listener("SUBSCRIBE", "tc:quote:A")
    yield lambda count=1: [listener._reply()[2] for _ in range(count)]
    listener.close()


def stamp(message):
    epoch, seq, ts, payload = re.fullmatch(rb"@([0-9a-f]+):(\d+):(\d+) (.*)", message,
                                           re.DOTALL).groups()
    return epoch.decode(), int(seq), int(ts), payload


# --- the script, with redis-cli ------------------------------------------------------------------


def test_redis_cli_prints_seq_and_epoch(redis, script, hear):
    first = redis.cli("--eval", str(SCRIPT), KEY, ",", '{"price":"190.01"}').split()
    second = redis.cli("--eval", str(SCRIPT), KEY, ",", '{"price":"190.02"}', "10", "60").split()
    assert [first[0], second[0]] == ["1", "2"]
    assert first[1] == second[1] and re.fullmatch("[0-9a-f]{12,13}", first[1])
    heard = [stamp(m) for m in hear(2)]
    assert [h[:2] + h[3:] for h in heard] == [(first[1], 1, b'{"price":"190.01"}'),
                                              (first[1], 2, b'{"price":"190.02"}')]
    value = script.value()
    assert value == {"epoch": first[1].encode(), "seq": b"2", "ts": str(heard[1][2]).encode(),
                     "data": b'{"price":"190.02"}'}
    assert script.log() == [("2-0", {"ts": value["ts"], "data": value["data"]})]


def test_payload_is_kept_byte_for_byte(script, hear):
    payload = bytes(range(256)) + b"\r\n@1:2:3 x"
    script(payload, 1)
    assert stamp(hear()[0])[3] == payload
    assert script.value()["data"] == payload and script.log()[0][1]["data"] == payload


def test_history_is_exact_and_without_holes(script):
    for n in range(250):
        script(n, 100)
    assert [i for i, _ in script.log()] == [f"{n}-0" for n in range(151, 251)]
    script("less", 3)
    assert [i for i, _ in script.log()] == ["249-0", "250-0", "251-0"]
    script("none")  # one that is not in the log would be a hole in it
    assert script.log() == [] and script.client("EXISTS", LOG) == 0
    script("again", 3)
    assert [i for i, _ in script.log()] == ["253-0"]


def test_life_is_set_and_removed_on_both(script):
    script("1", 5, 100)
    assert all(99_000 < script.client("PTTL", k) <= 100_000 for k in (KEY, LOG))
    script("2", 5)
    assert [script.client("PTTL", k) for k in (KEY, LOG)] == [-1, -1]
    script("3", 0, 31622400)
    assert script.client("PTTL", KEY) > 31622300_000 and script.client("EXISTS", LOG) == 0


def test_value_that_expired_begins_a_new_epoch(redis, script):
    _, epoch = script("1", 5, 1)
    eventually(lambda: script.client("EXISTS", KEY, LOG) == 0, what="both keys to expire")
    seq, later = script("2", 5)
    assert seq == 1 and int(later, 16) > int(epoch, 16)


def test_empty_payload_clears(script, hear):
    script('{"a":1}', 5)
    seq, epoch = script("", 5)
    assert stamp(hear(2)[1])[1::2] == (2, b"")
    assert "data" not in script.value() and script.value()["seq"] == b"2"
    assert [e["data"] for _, e in script.log()] == [b'{"a":1}', b""]
    assert script("2", 5) == (3, epoch)
    assert script.value()["data"] == b"2"


@pytest.mark.parametrize("fields", [
    ("seq", "5"), ("epoch", "c91e"), ("epoch", "", "seq", "5"), ("epoch", "a b", "seq", "5"),
    ("epoch", "x" * 33, "seq", "5"), ("epoch", "é", "seq", "5"), ("epoch", "c91e", "seq", "x"),
    ("epoch", "c91e", "seq", "-1"), ("epoch", "c91e", "seq", "1.5"), ("epoch", "c91e", "seq", "05"),
    ("epoch", "c91e", "seq", "0x5"), ("epoch", "c91e", "seq", "inf"), ("epoch", "c91e", "seq", "nan"),
    ("epoch", "c91e", "seq", SEQ_MAX), ("epoch", "c91e", "seq", 2**53), ("data", "old"),
])
def test_numbering_that_makes_no_sense_begins_anew(script, fields):
    script.client("HSET", KEY, *fields)
    script.client("XADD", LOG, "4-0", "ts", "1", "data", "old")
    seq, epoch = script("1", 5)
    assert seq == 1 and epoch != "c91e" and re.fullmatch("[0-9a-f]{12,13}", epoch)
    assert [i for i, _ in script.log()] == ["1-0"]
    assert script.value()["data"] == b"1"


def test_numbers_are_exact_up_to_the_last(script, hear):
    script.client("HSET", KEY, "epoch", "c91e", "seq", SEQ_MAX - 2)
    assert script("a", 5) == (SEQ_MAX - 1, "c91e")
    assert script("b", 5) == (SEQ_MAX, "c91e")
    assert [stamp(m)[1] for m in hear(2)] == [SEQ_MAX - 1, SEQ_MAX]
    assert [i for i, _ in script.log()] == [f"{SEQ_MAX - 1}-0", f"{SEQ_MAX}-0"]
    seq, epoch = script("c", 5)
    assert seq == 1 and epoch != "c91e"
    assert [i for i, _ in script.log()] == ["1-0"]


def test_epoch_never_comes_back(script):
    """Even when the clock went back, or two epochs begin within a microsecond."""
    for former in ("7ffffffffffff", "ffffffffffff0"):
        script.client("HSET", KEY, "epoch", former, "seq", "x")
        assert int(script("1")[1], 16) == int(former, 16) + 1


@pytest.mark.parametrize("last", ["5-0", "6-0", "5-1", "99-0"])
def test_log_of_somebody_else_gives_way(script, last):
    script.client("HSET", KEY, "epoch", "c91e", "seq", 4)
    script.client("XADD", LOG, last, "ts", "1", "data", "strange")
    assert script("mine", 5) == (5, "c91e")
    assert [i for i, _ in script.log()] == ["5-0"]


@pytest.mark.parametrize("args, keys, text", [
    ((), (KEY,), "usage"), (("1", "2", "3", "4", "5", "6"), (KEY,), "usage"), (("1",), (), "usage"),
    (("1",), (KEY, LOG), "usage"), (("1",), ("tc:quote:A",), "braces"), (("1",), ("{}",), "braces"),
    (("1",), ("{a}b",), "braces"), (("1",), ("{a}}",), "braces"), (("1",), ("x{a}",), "braces"),
    (("1", "-1"), (KEY,), "history"), (("1", "1.5"), (KEY,), "history"),
    (("1", "x"), (KEY,), "history"), (("1", ""), (KEY,), "history"),
    (("1", "1e3"), (KEY,), "history"), (("1", "100001"), (KEY,), "history"),
    (("1", "9" * 400), (KEY,), "history"), (("1", "0", "31622401"), (KEY,), "ttl_s"),
    (("1", "0", "-1"), (KEY,), "ttl_s"), (("1", "0", " 1"), (KEY,), "ttl_s"),
    (("1", "0", "0", "a b"), (KEY,), "trace"), (("1", "0", "0", "x" * 65), (KEY,), "trace"),
    (("1", "0", "0", "a\nb"), (KEY,), "trace"), (("1", "0", "0", "t", "fx/"), (KEY,), "prefix"),
    (("1", "0", "0", "t", KEY[1:-1]), (KEY,), "prefix"),
])
def test_bad_arguments_change_nothing(script, args, keys, text):
    script("before", 5)
    before = script.everything()
    with pytest.raises(Exception, match=f"ERR publish: .*{text}"):
        script.raw(*args, keys=keys)
    assert script.everything() == before


@pytest.mark.parametrize("key", [KEY, LOG])
def test_keys_of_another_type_are_left_alone(script, key):
    script.client("SET", key, "mine")
    before = script.everything()
    with pytest.raises(Exception, match="is a string and not a"):
        script("1", 5)
    assert script.everything() == before


def test_full_redis_changes_nothing(script, hear):
    script("before", 5)
    script.client("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(Exception, match="OOM"):
        script("x" * 1000, 5)
    script.client("CONFIG", "SET", "maxmemory", "0")
    assert script.value()["data"] == b"before" and script("after", 5)[0] == 2
    assert [stamp(m)[3] for m in hear(2)] == [b"before", b"after"]


def test_user_who_may_not_publish_takes_no_number(redis, script):
    redis("ACL", "SETUSER", "feed", "on", ">pw", "~*", "+@all", "resetchannels")
    script("before")
    script.client("AUTH", "feed", "pw")
    with pytest.raises(Exception, match="NOPERM"):
        script("1")
    script.client.close()
    script.client = RedisClient(redis.port)
    assert script.value()["seq"] == b"1"


def test_publishers_at_once_share_one_numbering(redis, script, hear):
    """No number twice, and what is stored is what was numbered last."""
    taken, each, threads = [], 100, 4

    def run(who):
        own = Publisher(redis)
        for n in range(each):
            taken.append((own(f"{who}:{n}", 50)[0], f"{who}:{n}".encode()))
        own.client.close()

    workers = [threading.Thread(target=run, args=(who,)) for who in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(seq for seq, _ in taken) == list(range(1, each * threads + 1))
    last = dict(taken)[each * threads]
    assert script.value()["data"] == last == script.log()[-1][1]["data"]
    assert [stamp(m)[1] for m in hear(each * threads)] == list(range(1, each * threads + 1))


# --- the ops API ---------------------------------------------------------------------------------

SETTINGS = {
    "namespace.quote.mode": "latest", "namespace.quote.history": 3,
    "namespace.quote.history_ttl_s": 100, "namespace.trade.mode": "all",
    "limits.payload_bytes": 1000,
}


@pytest.fixture
def api(world, redis):
    node = world.node(redis, settings=SETTINGS)

    def post(body, **options):
        if not isinstance(body, (str, bytes)):
            body = json.dumps(body)
        return http_request(node.ops, API, "POST", body, **options)

    post.node = node
    return post


def test_api_publishes_as_the_namespace_says(api, script, connect):
    client = connect(api.node, channels="quote:A,trade:A")
    client.expect("ack")
    reply = api('{"channel":"quote:A","data": {"p" : 1.50} }')
    assert reply.status == 200 and reply.headers["content-type"] == "application/json"
    epoch = script.value()["epoch"].decode()
    assert reply.json() == {"channel": "quote:A", "seq": 1, "epoch": epoch}
    assert script.value()["data"] == b'{"p" : 1.50}'
    for n in range(4):
        api({"channel": "quote:A", "data": n})
    assert [i for i, _ in script.log()] == ["3-0", "4-0", "5-0"]
    assert script.client("TTL", KEY) > 90
    assert api({"channel": "trade:A", "data": None}).json() == {"channel": "trade:A", "plain": True}
    items = client.items(6)
    assert [(i["channel"], i["seq"], i["data"]) for i in items] == [
        ("quote:A", 1, {"p": 1.50}), *[("quote:A", n + 2, n) for n in range(4)],
        ("trade:A", 1, None)]
    assert items[0]["epoch"] == epoch


def test_api_clears(api, script):
    api({"channel": "quote:A", "data": 1})
    assert api({"channel": "quote:A", "clear": True}).json()["seq"] == 2
    assert "data" not in script.value()


def test_api_takes_many_and_answers_for_each(api):
    reply = api([{"channel": "quote:A", "data": 1}, {"channel": "x:y", "data": 1},
                 {"channel": "quote:A", "data": 2}, {"channel": "trade:A", "data": 3},
                 {"channel": "a b", "data": 1}, {"channel": "quote:A", "data": "x" * 1000}, 7])
    assert reply.status == 200
    results = reply.json()["results"]
    short = [r.get("seq") or r.get("name") or r.get("plain") for r in results]
    assert short == [1, "unknown_namespace", 2, True, "bad_channel", "too_large", "bad_command"]
    assert [r.get("code") for r in results] == [None, 404, None, None, 400, 413, 400]
    assert [r.get("channel") for r in results] == ["quote:A", "x:y", "quote:A", "trade:A", "a b",
                                                   "quote:A", None]
    assert api([]).json() == {"results": []}


def test_api_takes_ten_thousand_and_keeps_their_order(redis, api):
    redis("SCRIPT", "FLUSH")  # so that the script has to be sent anew in the middle of it
    items = [{"channel": f"quote:S{n % 10}", "data": n} for n in range(10000)]
    results = api(items).json()["results"]
    assert [r["seq"] for r in results] == [n // 10 + 1 for n in range(10000)]
    assert redis("HGET", "{tc:quote:S3}", "data") == b"9993"
    assert api(items + items[:1]).status == 413


def test_api_reads_escaped_names(api, script):
    assert api(r'{"channel":"\u0071uote:A","data":1}').json()["seq"] == 1
    assert api(r'{"channel":"trade:A\/B","data":1}').status == 200
    assert script.value()["data"] == b"1"


REFUSED = [
    ("", 400, "bad_json"), ("{", 400, "bad_json"), ('{"channel":"quote:A","data":01}', 400, "bad_json"),
    (b'{"channel":"quote:A","data":"\xff"}', 400, "bad_json"), ("null", 400, "bad_command"),
    ('{"data":1}', 400, "bad_command"), ('{"channel":7,"data":1}', 400, "bad_command"),
    ('{"channel":"quote:A"}', 400, "bad_command"),
    ('{"channel":"quote:A","clear":false}', 400, "bad_command"),
    ('{"channel":"quote:A","clear":1}', 400, "bad_command"),
    ('{"channel":"quote:A","clear":true,"data":1}', 400, "bad_command"),
    ('{"channel":"trade:A","clear":true}', 400, "bad_command"),
    ('{"channel":"","data":1}', 400, "bad_channel"),
    (r'{"channel":"quote:A\u0000","data":1}', 400, "bad_channel"),
    ('{"channel":"%s","data":1}' % ("quote:" + "x" * 123), 400, "bad_channel"),
    ('{"channel":"%s","data":1}' % ("quote:" + "x" * 5000), 400, "bad_channel"),
    ('{"channel":"x:y","data":1}', 404, "unknown_namespace"),
    ('{"channel":"quote:A","data":"%s"}' % ("x" * 999), 413, "too_large"),
    (" " * (8 * 1024 * 1024 + 1), 413, "too_large"),
]


@pytest.mark.parametrize("body, status, name", REFUSED, ids=[str(r[0])[:40] for r in REFUSED])
def test_api_refuses(redis, api, body, status, name):
    reply = api(body)
    assert (reply.status, reply.json()["code"], reply.json()["name"]) == (status, status, name)
    assert reply.json()["message"]
    assert redis("KEYS", "{tc:*") == []


def test_api_is_post_only_and_not_for_pages(api):
    assert api.node.ops_get(API).status == 405
    assert api.node.ops_get(API).headers["allow"] == "POST"
    body = {"channel": "quote:A", "data": 1}
    assert api(body, headers={"Origin": "http://evil.example"}).status == 403
    assert api(body, headers={"Content-Type": "text/plain"}).status == 200


def test_api_says_when_redis_refuses_or_is_away(redis, api):
    redis("SET", KEY, "not a hash")
    reply = api({"channel": "quote:A", "data": 1})
    assert reply.status == 503 and "is a string" in reply.json()["message"]
    redis.kill()
    body = {"channel": "trade:A", "data": 1}
    eventually(lambda: api(body).status == 503, what="503")
    assert api(body).json()["name"] == "feed_unavailable"
    assert [r["code"] for r in api([body, body]).json()["results"]] == [503, 503]
    redis.start()
    eventually(lambda: api({"channel": "quote:A", "data": 1}).status == 200, what="200")


@pytest.mark.parametrize("end", ["answer", "redis", "node"])
def test_client_may_leave_before_redis_answers(redis, api, end):
    """With Redis stopped a request waits; its client leaves, and then the answer comes, or the link
    breaks, or the node ends."""
    redis.pause()
    host, port = api.node.ops.rsplit(":", 1)
    body = json.dumps([{"channel": "quote:A", "data": n} for n in range(100)]).encode()
    head = f"POST {API} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    kept = socket.create_connection((host, int(port)))
    kept.sendall(head + body)
    with socket.create_connection((host, int(port))) as gone:
        gone.sendall(head + body)
    assert api.node.ops_get("/healthz").status == 200  # both were read
    if end == "redis":
        redis.kill()
        kept.settimeout(20)
        assert b'"code":503' in kept.recv(65536)
    elif end == "answer":
        redis.resume()
        kept.settimeout(20)
        assert b"HTTP/1.1 200" in kept.recv(65536)
    else:
        api.node.stop()
        redis.resume()
    kept.close()
    assert end == "node" or api.node.alive()


# --- tickcastctl pub -----------------------------------------------------------------------------


def test_pub_stamps_where_the_namespace_keeps_something(redis, ctl, script, tmp_path):
    config = tmp_path / "x.conf"
    write_config(config, {"namespace.trade.mode": "all", "namespace.trade.history": 2,
                          "namespace.chat.mode": "all"})
    at = ["--redis", redis.url]
    done = ctl("pub", *at, "quote:A", '{"p":1.50}')
    assert done.stdout == f"1 {script.value()['epoch'].decode()}\n"
    assert script.value()["data"] == b'{"p":1.50}'
    assert ctl("pub", *at, "trade:A", "1").stdout == "receivers=0\n"
    for n in range(3):
        done = ctl("pub", *at, "--config", config, "trade:A", n)
    assert done.stdout.startswith("3 ")
    assert [i for i, _ in script.log("{tc:trade:A}:log")] == ["2-0", "3-0"]
    assert ctl("pub", *at, "--config", config, "chat:A", "1").stdout == "receivers=0\n"
    done = ctl("pub", *at, "--config", config, "quote:A", "1", check=False)
    assert done.returncode == 2 and "has no namespace quote" in done.stderr


def test_pub_can_be_told_how(redis, ctl, script):
    at = ["--redis", redis.url]
    assert ctl("pub", *at, "--plain", "quote:A", "1").stdout == "receivers=0\n"
    assert script.value() == {}
    assert ctl("pub", *at, "--stamped", "chat:A", "1").stdout.startswith("1 ")
    assert ctl("pub", *at, "quote:A", "1").stdout.startswith("1 ")
    assert ctl("pub", *at, "quote:A", "--clear").stdout.startswith("2 ")
    assert "data" not in script.value()


def test_pub_tells_what_redis_refuses(redis, ctl):
    redis("SET", KEY, "mine")
    done = ctl("pub", "--redis", redis.url, "quote:A", "1", check=False)
    assert done.returncode == 1 and "is a string and not a hash" in done.stderr


def test_pub_through_a_node(api, ctl, script):
    at = ["--ops", f"http://{api.node.ops}"]
    assert ctl("pub", *at, "quote:A", "1.50").stdout == f"1 {script.value()['epoch'].decode()}\n"
    assert script.value()["data"] == b"1.50"
    assert ctl("pub", *at, "trade:A", "1").stdout == "plain\n"
    assert ctl("pub", *at, "quote:A", "--clear").stdout.startswith("2 ")
    done = ctl("pub", *at, "x:y", "1", check=False)
    assert done.returncode == 1 and "404 unknown_namespace" in done.stderr
    done = ctl("pub", "--ops", "http://127.0.0.1:1", "quote:A", "1", check=False)
    assert done.returncode == 1 and "does not answer" in done.stderr
