"""tickcastctl bench: it counts right against a node, and it sees what a bad server does."""

import json
import os
import socket
import struct
import subprocess
import threading

import pytest

from world import BUILD, ROOT

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
def test_everything_arrives(bench, node_of, options):
    # Quotes are conflated for clients that fall behind, as all do at full speed on a busy machine.
    node = node_of({"limits.soft_bytes": 4194304, "limits.soft_age_ms": 3600000})
    status, result = bench(node.url(), "--clients", "30", "--pid", str(node.pid), *options)
    assert status == 0, result
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


def test_idle_holds_its_clients_until_its_input_ends(ctl, node, redis):
    process = ctl.start("bench", "--url", node.url(), "--redis", redis.url, "--clients", "40",
                        "--idle", "--hold", "--json", "--settle", "0", "--pid", node.pid,
                        stdin=subprocess.PIPE)
    assert process.stdout.readline() == b"ready connected=40\n"
    assert node.metric("tickcast_connections") == 40
    rest, _ = process.communicate(timeout=20)
    result = json.loads(rest)
    assert process.returncode == 0
    assert result["connected"] == 40 and result["rss_end_bytes"] > 0


def test_clients_take_turns_among_nodes(bench, node_of):
    nodes = [node_of({}), node_of({})]
    for node in nodes:
        node.wait_ready()
    status, result = bench(",".join(node.url() for node in nodes), "--clients", "30",
                           "--sample", "1", "--pid", ",".join(str(node.pid) for node in nodes))
    assert status == 0 and result["deliveries"] == result["expected"] > 0
    assert [node.metric("tickcast_connections_opened_total") for node in nodes] == [15, 15]
    assert result["timed"] == result["deliveries"]
    assert 0 < result["client_mean_p50_us"] <= result["client_mean_max_us"]
    assert result["first_to_last_max_us"] <= result["last_client_max_us"] <= result["latency_max_us"]
    assert result["latency_p50_us"] <= result["last_client_p50_us"]


@pytest.mark.parametrize("options", [
    (), ("--raw",), ("--compress",), ("--inflate", "3"), ("--speed", "0", "--rate", "500"),
], ids=" ".join)
def test_a_tape_arrives_whole(bench, node, tmp_path, options):
    """Items and payloads are counted, whatever is in them; every client has all channels."""
    payloads = [b'{"n":%d,"items":[{"channel":"x","data":"]}"}],"q":"%s"}' % (n, b"y" * (n % 300))
                for n in range(200)]
    tape = tmp_path / "tape"
    tape.write_bytes(b"".join(b"quote:%%%d\t%s\n" % (n % 7, text)
                              for n, text in enumerate(payloads)))
    node.wait_ready()
    status, result = bench(node.url(), "--clients", "20", "--tape", str(tape), *options)
    assert status == 0
    assert result["publications"] == 200 and result["channels"] == 7
    assert result["deliveries"] == result["expected"] == 4000
    assert result["payload_bytes"] == 20 * sum(map(len, payloads))
    assert result["lost"] == result["missed"] == result["out_of_order"] == 0
    clients = 0 if "--raw" in options else 3 if "--inflate" in options else 16
    assert result["timed"] == 200 * clients  # raw messages do not say their channel


def test_a_recorded_feed_keeps_its_pace(bench, node, tmp_path):
    tape = tmp_path / "feed"
    tape.write_text("".join(f'{1618677817 + n / 10:.6f}: {{"product_id":"P{n % 3}","n":{n}}}\n'
                            for n in range(21)))
    node.wait_ready()
    status, result = bench(node.url(), "--clients", "3", "--tape", str(tape), "--speed", "2")
    assert status == 0
    assert result["deliveries"] == 63
    assert 15 < result["publications_per_s"] < 22


@pytest.mark.parametrize("options, why", [
    (("--window", "5"), "--window"), (("--of", "5"), "--channels"), (("--idle",), "--idle"),
    (("--publisher", "none"), "publisher"),
])
def test_what_does_not_go_with_a_tape(ctl, options, why):
    done = ctl("bench", "--tape", "/dev/null", *options, check=False)
    assert done.returncode == 2 and why in done.stderr


def test_a_tape_of_nothing_is_refused(ctl):
    done = ctl("bench", "--tape", "/dev/null", check=False)
    assert done.returncode == 1 and "holds nothing to publish" in done.stderr


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


def read_text(stream):
    """One masked text message of a client."""
    head = stream.read(2)
    size = head[1] & 0x7f
    if size == 126:
        size = struct.unpack(">H", stream.read(2))[0]
    mask = stream.read(4)
    return bytes(byte ^ mask[i % 4] for i, byte in enumerate(stream.read(size))).decode()


def text_frame(text):
    return b"\x81" + bytes([len(text)]) + text


def test_a_client_of_socket_io(ctl):
    """It opens the namespace, subscribes, answers pings, and counts the events."""
    listener = socket.create_server(("127.0.0.1", 0))
    heard = []

    def serve():
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as stream:
            heard.append(stream.readline().decode())
            while stream.readline() != b"\r\n":
                pass
            connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\n\r\n" +
                               text_frame(b'0{"sid":"a"}'))
            heard.append(read_text(stream))
            connection.sendall(text_frame(b'40{"sid":"b"}'))
            heard.append(read_text(stream))
            connection.sendall(text_frame(b"430[]") + text_frame(b"2"))
            heard.append(read_text(stream))
            connection.sendall(b"".join(frame(b'42["quote",' + payload(n) + b"]") for n in (1, 2)))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with listener:
        url = f"ws://127.0.0.1:{listener.getsockname()[1]}/socket.io/?EIO=4"
        done = ctl("bench", "--url", url, "--clients", "1", "--socketio", "--publisher", "none",
                   "--size", len(payload(1)), "--json", check=False)
        thread.join(20)
    result = json.loads(done.stdout)
    assert heard == ["GET /socket.io/?EIO=4 HTTP/1.1\r\n", "40",
                     '420["subscribe",["quote:B000000"]]', "3"]
    assert result["deliveries"] == 2 and result["lost"] == 0 and done.returncode == 0


@pytest.mark.plain
def test_the_comparison_runs_without_peers(tmp_path):
    """scripts/bench-peers --quick: the node and the bare loop; nothing is fetched for it."""
    found = tmp_path / "peers.json"
    done = subprocess.run([ROOT / "scripts/bench-peers", "--quick", "--only", "hot", "--json", found],
                          capture_output=True, text=True, timeout=60, check=False,
                          env={**os.environ, "BUILD": str(BUILD)})
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("| hot channel")]
    assert len(rows) == 7 and not any("failed" in row or "missing" in row for row in rows)
    loads = json.loads(found.read_text())["loads"]
    for servers in loads.values():
        assert servers["tickcast"][0]["deliveries"] == servers["tickcast"][0]["expected"] > 0
        assert servers["bare loop"][0]["deliveries_per_s"] > 0


def run_workloads(*options):
    return subprocess.run(["/usr/bin/python3", ROOT / "tests/bench/run.py", *options],
                          capture_output=True, text=True, timeout=60, check=False,
                          env={**os.environ, "BUILD": str(BUILD)})


@pytest.mark.plain
def test_a_workload_runs_small(tmp_path):
    found = tmp_path / "bench.json"
    done = run_workloads("--only", "w6", "--shrink", "100", "--runs", "1", "--json", found)
    assert done.returncode == 0, done.stderr
    assert "w6.storm: upgrades per CPU second" in done.stdout and "0 refused" in done.stdout
    rows = json.loads(found.read_text())["rows"]
    assert [row["unit"] for row in rows] == ["/s", "/s", "x"]
    assert all(row["median"] > 0 and row["target"] == "" for row in rows)


def test_workloads_by_name():
    listed = run_workloads("--list").stdout
    for family in ("w1.alone", "w2.", "w3.", "w4.", "w5.", "w6.", "w7.", "w8.", "scale.", "delay."):
        assert f"\n{family}" in listed
    assert run_workloads("--only", "w9").returncode == 2


@pytest.mark.parametrize("options, part", [
    (("--clients", "0"), "--clients"),
    (("--channels", "4"), "--of"),
    (("--url", "http://127.0.0.1/"), "ws://"),
    (("--stalled", "1000"), "--stalled"),
    (("--idle", "--storm"), "--storm"),
    (("--of", "40", "--window", "40"), "--window"),
    (("--publisher", "me"), "--publisher"),
    (("--hold",), "--idle"),
    (("--socketio", "--raw"), "--socketio"),
    (("--pid", "1,x"), "--pid"),
    (("--url", "ws://127.0.0.1,"), "--url"),
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
