"""Who is compared: the node, its peers, and the kernel's limit. Each has the same core to itself.

A contestant is started afresh for every run, with a Redis of its own, and has the same client: the
load generator, on the other core. What is between Redis and a peer that wants its messages in
another form (bridge.mjs, a second nginx) runs there as well, so that nobody's figure has it.
"""
import contextlib
import os
import pathlib
import subprocess
import tempfile
import time
from typing import Callable, NamedTuple

import peer_install
from machine import LOAD_CORE, NODE_CORE, START_LIMIT_S, Failure, descriptor_limit, end, \
    pinned, ready_line
from ports import free_port
from servers import bench, node, redis_server

PREFIX = "tc:"


class Running(NamedTuple):
    """A contestant that runs, and how the load generator talks to it."""
    url: str
    redis: str
    pid: int
    options: tuple = ()

    def bench(self, *options):
        return bench("--url", self.url, "--redis", self.redis, "--prefix", PREFIX,
                     "--pid", self.pid, *self.options, *options)


@contextlib.contextmanager
def program(core, *command):
    """A program that says when it is ready; gives what it said, and its process."""
    process = subprocess.Popen(pinned(core, *command), stdout=subprocess.PIPE, text=True)
    try:
        yield ready_line(process), process
    finally:
        end(process)


@contextlib.contextmanager
def tickcast(pace_ms, _channels):
    with redis_server() as redis, node(redis, node__pace_ms=pace_ms) as n:
        yield Running(n.url, redis, n.process.pid, ("--raw",))


@contextlib.contextmanager
def ws(_channels):
    with redis_server() as redis, \
            program(NODE_CORE, "node", peer_install.FOLDER / "ws.mjs", redis, PREFIX) as (said, p):
        yield Running(f"ws://127.0.0.1:{said['port']}/ws", redis, p.pid, ("--raw",))


@contextlib.contextmanager
def socketio(channels):
    folder = peer_install.FOLDER
    with redis_server() as redis, \
            program(NODE_CORE, "node", folder / "socketio.mjs", redis) as (said, p), \
            program(LOAD_CORE, "node", folder / "bridge.mjs", "socketio", redis, PREFIX, channels):
        yield Running(f"ws://127.0.0.1:{said['port']}/socket.io/?EIO=4&transport=websocket",
                      redis, p.pid, ("--socketio",))


def worker_of(master):
    """The process that serves; the master of nginx only watches it."""
    limit = time.monotonic() + START_LIMIT_S
    children = pathlib.Path(f"/proc/{master.pid}/task/{master.pid}/children")
    while time.monotonic() < limit and master.poll() is None:
        found = children.read_text(encoding="ascii").split()
        if found:
            return int(found[0])
        time.sleep(0.05)
    raise Failure("nginx did not start")


@contextlib.contextmanager
def nginx(core, redis, port):
    with tempfile.TemporaryDirectory() as folder:
        limit = descriptor_limit()
        values = {"MODULE": peer_install.NCHAN_MODULE, "REDIS": redis, "PORT": port,
                  "FOLDER": folder, "DESCRIPTORS": limit, "CONNECTIONS": limit - 100,
                  "DEFLATE": "on", "USER": "user root;" if os.geteuid() == 0 else ""}
        text = (peer_install.SOURCES / "nchan.conf").read_text(encoding="ascii")
        for name, value in values.items():
            text = text.replace(f"@{name}@", str(value))
        configuration = pathlib.Path(folder) / "nginx.conf"
        configuration.write_text(text, encoding="ascii")
        process = subprocess.Popen(pinned(core, "nginx", "-p", folder, "-c", configuration))
        try:
            yield worker_of(process)
        finally:
            end(process)


@contextlib.contextmanager
def nchan(channels):
    port, publishing_port = free_port(), free_port()
    with redis_server() as redis, nginx(NODE_CORE, redis, port) as pid, \
            nginx(LOAD_CORE, redis, publishing_port), \
            program(LOAD_CORE, "node", peer_install.FOLDER / "bridge.mjs", "nchan", redis, PREFIX,
                    channels, publishing_port):
        yield Running(f"ws://127.0.0.1:{port}/ws", redis, pid, ("--raw",))


class Contestant(NamedTuple):
    name: str
    start: Callable  # with the number of channels; a context manager of a Running
    install: Callable = None


CONTESTANTS = {c.name: c for c in (
    Contestant("tickcast", lambda channels: tickcast(0, channels)),
    Contestant("tickcast paced", lambda channels: tickcast(50, channels)),
    Contestant("nchan", nchan, peer_install.install_nchan),
    Contestant("ws", ws, peer_install.install_npm),
    Contestant("Socket.IO", socketio, peer_install.install_npm),
)}
BARE = "bare loop"
