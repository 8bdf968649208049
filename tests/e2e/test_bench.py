"""tickcastctl bench: it counts right against a node, and it sees what a bad server does."""

import json
import socket
import struct
import threading

import pytest

SECONDS = ("--seconds", "0.5", "--settle", "0.1", "--json")


@pytest.fixture
def bench(ctl, redis):
    """bench(url, *options) -> (exit status, result)"""
    def run(url, *options):
        done = ctl("bench", "--url", url, "--redis", redis.url, *SECONDS, *options, check=False)
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)
    return run


@pytest.mark.parametrize("options", [
    ("--raw",),
    (),
    ("--compress",),
    ("--raw", "--compress"),
    ("--channels", "5", "--of", "40", "--rate", "2000"),
    ("--channels", "5", "--of", "40", "--rate", "2000", "--compress"),
    ("--size", "70000", "--rate", "50", "--raw"),
    ("--size", "66"),
    ("--raw", "--nap", "0"),
    ("--raw", "--rate", "0", "--window", "32"),
    ("--raw", "--rate", "2000", "--window", "1"),
    ("--channels", "5", "--of", "400", "--rate", "0"),
], ids=" ".join)
def test_everything_arrives(bench, node, options):
    node.wait_ready()
    status, result = bench(node.url(), "--clients", "30", "--pid", str(node.pid), *options)
    assert status == 0
    assert result["publications"] > 0
    assert result["deliveries"] == result["expected"] > 0
    assert result["lost"] == result["out_of_order"] == result["foreign"] == 0
    assert result["cpu_s"] > 0 and result["rss_end_bytes"] > 0
    assert 0 < result["latency_p50_us"] <= result["latency_p99_us"] <= result["latency_max_us"]


def test_idle_and_storm_end_by_themselves(bench, node):
    for mode in ("--idle", "--storm"):
        status, result = bench(node.url(), "--clients", "200", "--pid", str(node.pid), mode)
        assert status == 0
        assert result["connected"] == 200
    assert result["upgrades_per_cpu_s"] > 0


def payload(number, channel=0):
    return b'{"n":"%012d","c":"%06d","t":"%019d","q":"%s"}' % (number, channel, 1, b"x" * 190)


def frame(body):
    return b"\x81\x7e" + struct.pack(">H", len(body)) + body


@pytest.fixture
def server():
    """server(bytes) -> URL of a server that upgrades one client, sends it all that, and closes."""
    listeners = []

    def make(sent):
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def serve():
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
                # After the answer was read, or it would count as sent before the run began.
                threading.Event().wait(0.5)
                connection.sendall(sent)
        threading.Thread(target=serve, daemon=True).start()
        return f"ws://127.0.0.1:{listener.getsockname()[1]}/ws"

    yield make
    for listener in listeners:
        listener.close()


@pytest.mark.parametrize("bodies, expected", [
    ([payload(n) for n in range(1, 101)], {"deliveries": 100, "lost": 0, "out_of_order": 0}),
    ([payload(n) for n in range(1, 101) if n not in (7, 8, 50)], {"deliveries": 97, "lost": 3}),
    ([payload(n) for n in (1, 2, 2, 3, 1)], {"deliveries": 5, "out_of_order": 2}),
    ([payload(1), payload(1, channel=1), payload(2)], {"deliveries": 2, "foreign": 1}),
    ([payload(0), payload(1)], {"deliveries": 1, "lost": 0}),
    ([b'{"action":"push","items":[' +
      b",".join(b'{"channel":"a","data":' + payload(n) + b"}" for n in (1, 2, 4)) + b"]}",
      payload(5)], {"deliveries": 4, "lost": 1, "frames": 2}),
], ids=["all", "gaps", "repeats", "foreign", "warm-up", "batch"])
def test_what_a_server_does_wrong_is_seen(bench, server, bodies, expected):
    size = ("--size", str(len(payload(1))))
    url = server(b"".join(map(frame, bodies)))
    status, result = bench(url, "--clients", "1", "--raw", "--publisher", "none", *size)
    assert {name: result[name] for name in expected} == expected
    is_good = result["lost"] == result["out_of_order"] == 0
    assert status == (0 if is_good else 1)


@pytest.mark.parametrize("options, part", [
    (("--clients", "0"), "--clients"),
    (("--channels", "4"), "--of"),
    (("--url", "http://127.0.0.1/"), "ws://"),
    (("--stalled", "1000"), "--stalled"),
    (("--idle", "--storm"), "--storm"),
    (("--of", "40", "--window", "40"), "--window"),
    (("--publisher", "me"), "--publisher"),
])
def test_bad_usage(ctl, options, part):
    done = ctl("bench", *options, check=False)
    assert done.returncode == 2
    assert part in done.stderr
    assert not done.stdout


def test_a_refusal_is_told(ctl, node, redis):
    done = ctl("bench", "--url", node.url("/nowhere"), "--redis", redis.url, "--clients", "3",
               check=False)
    assert done.returncode == 1
    assert "404" in done.stderr
