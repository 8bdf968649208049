"""Memory and descriptors: what comes must go, and what a peer announces is not believed."""

import asyncio
import fcntl
import json
import os
import re
import socket
import struct
import time

import pytest
import websockets

from client import LOOP
from wire import PING, TEXT, Wire, frame, header
from world import eventually

MIB = 1 << 20


def visit(node, count, offer=False, abort=False):
    """count connections, some hundred at a time; each subscribes and leaves."""
    request = (f"GET /ws?channels=quote:V HTTP/1.1\r\nHost: {node.listen}\r\nUpgrade: websocket\r\n"
               "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
               "Sec-WebSocket-Version: 13\r\n" +
               ("Sec-WebSocket-Extensions: permessage-deflate\r\n" if offer else "") +
               "\r\n").encode()
    while count > 0:
        batch = min(count, 200)
        socks = []
        for _ in range(batch):
            sock = socket.create_connection((node.host, node.port))
            if abort:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.sendall(request)
            socks.append(sock)
        for sock in socks:
            sock.settimeout(10)
            assert sock.recv(4096).startswith(b"HTTP/1.1 101")
        for n, sock in enumerate(socks):
            if n % 3 == 0 and not abort:
                sock.sendall(header(8, 0) + b"mask")
            sock.close()
        count -= batch


@pytest.mark.limit(90)
@pytest.mark.plain
@pytest.mark.parametrize("workers", [1, 2])
def test_ten_thousand_visits_leave_nothing(world, redis, workers):
    """Memory and descriptors are where they were, after a round to warm up."""
    node = world.node(redis, settings={"node.workers": workers})
    idle = node.descriptors()
    visit(node, 2000)
    visit(node, 500, offer=True)
    node.wait_metric("tickcast_sockets", 0, timeout=20)
    warm = node.rss_kb()
    visit(node, 6000)
    visit(node, 2000, offer=True)
    visit(node, 2000, abort=True)
    node.wait_metric("tickcast_sockets", 0, timeout=20)
    node.wait_metric("tickcast_connections", 0)
    node.wait_metric("tickcast_subscriptions", 0)
    eventually(lambda: node.descriptors() <= idle, what="descriptors to be closed")
    assert node.rss_kb() - warm < 1024, f"{node.rss_kb() - warm} KB more than after the warm-up"
    assert node.metric("tickcast_connections_opened_total") == 12500


@pytest.mark.parametrize("path", ["/ws", "/echo"])
def test_a_huge_frame_within_the_limit_takes_memory_as_it_comes(world, redis, wire, path):
    """Announced lengths are checked before memory is taken."""
    node = world.node(redis, settings={"node.echo": "yes", "limits.message_bytes": 1 << 30})
    ones = [wire(node).upgrade(path) for _ in range(20)]
    before = node.rss_kb()
    for one in ones:
        one.send(header(TEXT, 100 * MIB) + b"\0\0\0\0" + b"x" * 1000)
    for one in ones:  # the node has read that: the socket's queue is empty again
        eventually(lambda: struct.unpack("i", fcntl.ioctl(one.sock.fileno(), 0x5411, b"\0" * 4))[0]
                   == 0)
    assert node.get("/healthz").status == 200
    assert node.rss_kb() - before < 4096


def test_a_frame_of_100_mb_is_refused_at_the_default_limit(world, redis, wire):
    node = world.node(redis)
    one = wire(node).upgrade()
    one.recv_frame()
    before = node.rss_kb()
    one.send(header(TEXT, 100 * MIB) + b"\0\0\0\0")
    one.expect_close(1009, before=[])
    assert node.rss_kb() - before < 2048


@pytest.mark.plain
@pytest.mark.parametrize("what", [frame(PING, key=b"mask"), frame(TEXT, "ping", key=b"mask")],
                         ids=["control", "text"])
def test_the_shortest_answers_that_nobody_reads(world, redis, wire, what):
    """A frame of two bytes takes much more than two: limits.hard_bytes, 4 MiB here, is about
    what they take."""
    node = world.node(redis)
    one = wire(node, receive_buffer=4096).upgrade()
    before = node.rss_kb()
    many = what * 10000
    for _ in range(250):
        one.try_send(many)
    assert node.rss_peak_kb() - before < 10 * 1024
    assert node.get("/healthz").status == 200


@pytest.mark.limit(60)
@pytest.mark.plain
@pytest.mark.parametrize("offer", [False, True], ids=["plain", "deflate"])
def test_idle_connections_cost_little(world, redis, offer):
    """With compression negotiated they cost the same, for there is no zlib state
    per connection."""
    node = world.node(redis)
    options = dict(Sec_WebSocket_Extensions="permessage-deflate") if offer else {}
    ones = []
    try:
        for _ in range(200):
            ones.append(Wire(node).upgrade(**options))
        before = node.rss_kb()
        for _ in range(2000):
            ones.append(Wire(node).upgrade(**options))
        node.wait_metric("tickcast_connections", 2200)
        each = (node.rss_kb() - before) * 1024 / 2000
        assert each < 900, f"{each:.0f} bytes for each idle connection"
    finally:
        for one in ones:
            one.close()


def test_mass_disconnect_with_compression(world, redis):
    """Hundreds that leave at once while data is on its way."""
    node = world.node(redis, settings={"node.workers": 2})
    visit(node, 400, offer=True)
    node.wait_metric("tickcast_sockets", 0, timeout=20)

    async def crowd():
        many = await asyncio.gather(*[websockets.connect(
            node.url(channels="trade:MASS"), compression="deflate", max_queue=None)
            for _ in range(200)])
        for _ in range(50):
            redis("PUBLISH", "tc:trade:MASS", json.dumps("m" * 5000))
        for one in many:
            one.transport.abort()

    LOOP.run(crowd(), 30)
    node.wait_metric("tickcast_sockets", 0, timeout=20)
    node.wait_metric("tickcast_subscriptions", 0)


def cpu_seconds(pid):
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("workers", [1, 2])
def test_descriptors_run_out_and_come_back(world, redis, connect, workers):
    """A pause, not a spin; those connected are served, and accepting goes on by itself."""
    node = world.node(redis, files=64, settings={"node.workers": workers,
                                                 "listen.max_connections": 1000})
    early = connect(node)
    crowd = []
    try:
        for _ in range(120):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex((node.host, node.port))
            crowd.append(sock)
        # The ops listener may have no descriptor left for us either: watch the process instead.
        eventually(lambda: node.descriptors() >= 60, what="descriptors to run out")
        begun, used = time.monotonic(), cpu_seconds(node.pid)
        while time.monotonic() - begun < 1:
            early.nothing_more()
            time.sleep(0.1)  # leaves the node to itself, to see whether it spins
        assert cpu_seconds(node.pid) - used < 0.5, "spinning while out of descriptors"
    finally:
        for sock in crowd:
            sock.close()
    eventually(lambda: node.descriptors() < 40, what="descriptors to come back")
    connect(node).nothing_more()
    early.nothing_more()
    assert node.metric("tickcast_accept_pauses_total") >= 1


def test_the_ops_listener_pauses_when_descriptors_run_out(world, redis, connect):
    """The main thread would spin, and libevent write a warning of its own at each turn."""
    node = world.node(redis, files=64)
    client = connect(node)
    host, port = node.ops.rsplit(":", 1)
    crowd = [socket.create_connection((host, int(port))) for _ in range(100)]
    try:
        eventually(lambda: "event=accept_paused" in node.log())
        begun, used = time.monotonic(), cpu_seconds(node.pid)
        while time.monotonic() - begun < 1:
            client.nothing_more()
            time.sleep(0.1)  # leaves the node to itself, to see whether it spins
        assert cpu_seconds(node.pid) - used < 0.5, "spinning while out of descriptors"
        assert "[warn]" not in node.log()
    finally:
        for sock in crowd:
            sock.close()
    eventually(lambda: node.descriptors() < 40, what="descriptors to come back")
    assert node.metric("tickcast_accept_pauses_total") >= 1


def test_a_flood_of_log_lines_that_nobody_reads(world, redis, connect):
    """Standard error is a pipe that is full: lines are dropped and counted, clients are served."""
    read_end, write_end = os.pipe()
    fcntl.fcntl(write_end, 1031, 4096)  # F_SETPIPE_SZ: soon full
    try:
        node = world.node(redis, stderr=write_end, settings={"node.log_level": "debug"})
        os.close(write_end)
        client = connect(node)
        client.subscribe("quote:LOG")

        def dropped():
            for _ in range(50):
                with Wire(node) as one:
                    one.send(b"nonsense\r\n\r\n")
                    one.read_to_end()
            return node.metric("tickcast_log_dropped_total") > 0

        eventually(dropped, 30, "log lines to be dropped")
        for n in range(20):
            redis.publish("quote:LOG", f"{n}")
            assert client.item(2)["data"] == n
        os.set_blocking(read_end, False)
        text = b""

        def told():
            nonlocal text
            try:
                text += os.read(read_end, 1 << 20)
            except BlockingIOError:
                pass
            return re.search(rb"event=log_dropped .*count=[1-9]", text)

        eventually(told, 10, "the node to say how many it dropped")
    finally:
        os.close(read_end)


@pytest.mark.plain
def test_one_hot_symbol_and_a_stuck_consumer(world, redis, wire, connect):
    """What is replaced or dropped for a stuck client is not leaked."""
    node = world.node(redis, settings={"limits.soft_bytes": 200_000, "limits.hard_bytes": 2 << 20})
    healthy = connect(node, channels="quote:HOT")
    healthy.expect("ack")
    stuck = wire(node, receive_buffer=4096).upgrade("/ws?channels=quote:HOT")
    stuck.recv_frame()
    payload = json.dumps("h" * 1000)

    def burst(count):
        for _ in range(count // 100):
            redis.publish_many([("quote:HOT", payload)] * 100)
            healthy.items(100)

    burst(10_000)
    before = node.rss_kb()
    burst(20_000)
    assert node.rss_kb() - before < 4096
    healthy.nothing_more()
