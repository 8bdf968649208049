"""What a node says to its service manager, and the sockets that it gets from it.

The manager here is the test: a unix datagram socket for what the node says, and listening sockets
that are handed to it as descriptors 3 and 4. tests/systemd does it with the real one.
"""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import time

import pytest

from halted import halted, thread_of
from world import BUILD, READY, ROOT, SLOWER, TICKCAST, Node, eventually, http_request, write_config

PATIENCE = 10 * SLOWER


class Manager:
    """Takes notifications, and remembers them in order as {NAME: value}."""

    def __init__(self, address):
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.settimeout(0.01)
        self.heard = []

    def listen(self):
        with contextlib.suppress(TimeoutError):
            while True:
                text = self.socket.recv(4096).decode()
                self.heard.append(dict(line.split("=", 1) for line in text.split("\n")))
        return self.heard

    def wait(self, name, value=None, start=0, timeout=PATIENCE):
        """Waits for an assignment whose value matches; returns its place among all messages."""
        def find():
            for i, message in enumerate(self.listen()[start:], start):
                if name in message and (value is None or re.search(value, message[name])):
                    return i + 1
            return None
        return eventually(find, timeout, f"{name} {value} among {self.heard[start:]}") - 1

    def count(self, name):
        return sum(name in message for message in self.listen())

    def fill(self):
        """Until not one more message fits into the queue that it does not read."""
        for _ in range(32):  # the kernel bounds what one sender may have there, too
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as one:
                sent = 0
                with contextlib.suppress(BlockingIOError):
                    while True:
                        one.sendto(b"FILL=1", self.address)
                        sent += 1
                if sent == 0:
                    return
        raise AssertionError("the queue has no end")

    def close(self):
        self.socket.close()


@pytest.fixture
def manager(tmp_path):
    one = Manager(str(tmp_path / "notify"))
    yield one
    one.close()


@pytest.fixture
def node_under(world, redis):
    """node_under(manager, ...) -> a node that is told where to report, ready line read."""
    def start(manager, settings=None, watchdog_us=None, url=None, **environment):
        env = {"NOTIFY_SOCKET": manager.address, **environment}
        if watchdog_us:
            env["WATCHDOG_USEC"] = str(watchdog_us)
        return world.node(url or redis, ready=False, settings=settings or {}, env=env)
    return start


# --- notifications -------------------------------------------------------------------------------


def test_a_life_in_order(manager, node_under, connect):
    node = node_under(manager, {"listen.drain_s": 1}, watchdog_us=400000 * SLOWER)
    ready = manager.wait("READY", "^1$")
    assert ready == 0, manager.heard
    manager.wait("STATUS", "feed ok, clients: 0")
    client = connect(node)
    manager.wait("STATUS", "feed ok, clients: 1")
    manager.wait("WATCHDOG", "^1$")
    before_ms = time.monotonic_ns() // 1000
    place = len(manager.listen())
    node.process.send_signal(signal.SIGHUP)
    reloading = manager.wait("RELOADING", "^1$", place)
    assert before_ms <= int(manager.heard[reloading]["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
    manager.wait("READY", "^1$", reloading)
    place = len(manager.listen())
    node.terminate()
    stopping = manager.wait("STOPPING", "^1$", place)
    manager.wait("EXTEND_TIMEOUT_USEC", "^[1-9][0-9]*$", stopping)
    manager.wait("STATUS", "^stopping: .*, clients left: 1$", stopping)
    client.wait_for("drain")
    assert node.wait(20 * SLOWER) == 0
    node.process = None
    assert not any("READY" in m for m in manager.listen()[stopping:])


def test_more_time_for_a_drain_by_command(manager, node_under, connect, operator):
    """Who was told that he has an hour has it also when the node is to stop meanwhile."""
    node = node_under(manager, {"listen.drain_s": 0, "listen.drain_grace_s": 0})
    node.wait_ready()
    clients = [connect(node) for _ in range(2)]
    operator.ask(cmd="drain", seconds=3600)
    for client in clients:
        client.wait_for("drain")
    node.terminate()
    place = manager.wait("STOPPING", "^1$")
    begin = time.monotonic()
    while time.monotonic() < begin + 6:  # listen.drain_s and what close frames are given is 5 s
        place = manager.wait("EXTEND_TIMEOUT_USEC", "^[1-9][0-9]*$", place + 1)
    for client in clients:
        client.close()
    assert node.wait() == 0
    node.process = None


def test_ready_without_redis(manager, node_under):
    """Ready means that clients can connect; that the feed is not there yet is the status."""
    node = node_under(manager, url="redis://127.0.0.1:1/0")
    assert manager.wait("READY") == 0
    manager.wait("STATUS", r"feed suspect \(\w+\), clients: 0")
    assert http_request(node.listen, "/healthz").status == 200


def test_an_abstract_address(node_under):
    manager = Manager(f"@tickcast-test-{os.getpid()}")
    node_under(manager)
    manager.wait("READY")
    manager.close()


def test_the_status_changes_at_most_once_a_second(manager, node_under, connect):
    node = node_under(manager)
    manager.wait("STATUS", "feed ok, clients: 0")
    started = time.monotonic()
    before = manager.count("STATUS")
    for _ in range(20):
        connect(node).close()
    client = connect(node)
    manager.wait("STATUS", "clients: 1$")
    assert manager.count("STATUS") - before <= time.monotonic() - started + 2
    client.close()
    manager.wait("STATUS", "clients: 0$", len(manager.heard))


@pytest.mark.parametrize("address", ["", "relative", "@", "/" + "x" * 200, "/nowhere/to/be/found",
                                     "vsock:2:1234", "/dev/null", "/tmp/line\nbreak"])
def test_an_address_that_cannot_be_right_is_a_warning(world, redis, address):
    node = world.node(redis, ready=False, env={"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "100000"})
    eventually(lambda: re.search("level=warn .*event=notify_(ignored|failed)", node.log()))
    node.stop()


@pytest.mark.parametrize("variable, value", [
    ("WATCHDOG_USEC", "0"), ("WATCHDOG_USEC", "-1"), ("WATCHDOG_USEC", "1s"), ("WATCHDOG_USEC", ""),
    ("WATCHDOG_USEC", "9" * 40), ("WATCHDOG_PID", "me")])
def test_a_watchdog_that_cannot_be_right_is_a_warning(manager, node_under, variable, value):
    node = node_under(manager, **{"WATCHDOG_USEC": "1000", variable: value})
    manager.wait("STATUS")
    eventually(lambda: f"event=notify_ignored variable={variable}" in node.log())
    assert manager.count("WATCHDOG") == 0


def test_a_watchdog_of_another_process_is_not_fed(manager, node_under):
    node = node_under(manager, watchdog_us=1000, WATCHDOG_PID="1")
    manager.wait("STATUS")
    assert manager.count("WATCHDOG") == 0 and "notify_ignored" not in node.log()


def test_a_manager_that_goes_away_is_a_warning(manager, node_under):
    node = node_under(manager, watchdog_us=100000)
    manager.wait("WATCHDOG")
    manager.close()
    eventually(lambda: "event=notify_failed" in node.log())
    assert node.alive() and http_request(node.listen, "/healthz").status == 200


def test_a_full_queue_delays_and_loses_nothing_of_weight(manager, node_under):
    """The manager does not read until its queue is full; then READY still arrives, after RELOADING."""
    node = node_under(manager)
    manager.wait("READY")
    manager.fill()
    place = len(manager.heard)
    node.process.send_signal(signal.SIGHUP)
    eventually(lambda: "event=notify_failed" in node.log(), PATIENCE, "the queue to be full")
    eventually(lambda: "event=reload" in node.log(), PATIENCE, "the reload")
    reloading = manager.wait("RELOADING", start=place)
    manager.wait("READY", start=reloading)


# --- the watchdog ----------------------------------------------------------------------------------

@pytest.mark.parametrize("thread", ["worker 0", "worker 2", "tickcast"])
def test_one_loop_that_hangs_is_not_fed_for(manager, node_under, thread):
    """All other threads run, the main one included, and nothing is sent until the hung one is back."""
    period_us = 400000 * SLOWER
    node = node_under(manager, {"node.workers": 3}, watchdog_us=period_us)
    manager.wait("WATCHDOG")
    with halted(thread_of(node.pid, thread)):
        if thread != "tickcast":  # a round that the thread does not answer is under way
            eventually(lambda: f"event=loop_late worker={thread[-1]} " in node.log(), PATIENCE)
        before = manager.count("WATCHDOG")
        time.sleep(2 * period_us / 1e6)  # nothing is to happen: only time can show it
        assert manager.count("WATCHDOG") == before
        assert node.log().count("event=loop_late") == (thread != "tickcast"), node.log()
    eventually(lambda: manager.count("WATCHDOG") > before, PATIENCE)


def test_idle_loops_are_fed_for_in_time(manager, node_under):
    """Nothing happens on the node, and yet no gap comes near the period."""
    period_s = 4 * SLOWER
    node_under(manager, {"node.workers": 4}, watchdog_us=period_s * 1000000)
    place = manager.wait("WATCHDOG")
    last = time.monotonic()
    for _ in range(2):
        place = manager.wait("WATCHDOG", start=place + 1)
        assert time.monotonic() - last < period_s
        last = time.monotonic()


# --- sockets that are handed over ------------------------------------------------------------------


class InheritingNode(Node):
    """A node that finds sockets at descriptors 3, 4, ... as systemd leaves them."""

    def __init__(self, directory, redis_url, sockets, names=None, fds=None, pid="$$", **options):
        super().__init__(directory, redis_url, **options)
        self.sockets = sockets
        self.names = names
        self.variables = {"LISTEN_FDS": str(len(sockets)) if fds is None else fds,
                          "LISTEN_PID": pid}
        if names is not None:
            self.variables["LISTEN_FDNAMES"] = names

    def command(self):
        """A shell that says its own process id and becomes the node."""
        words = "".join(f"{name}='{value}' " if value != "$$" else f"{name}=$$ "
                        for name, value in self.variables.items())
        redirections = " ".join(f"{3 + i}<&{s.fileno() + 100}" for i, s in enumerate(self.sockets))
        return ["bash", "-c", f'{words}exec "$@" {redirections}', "bash", str(TICKCAST), "-c",
                str(self.config())]

    def config(self):
        path = self.dir / f"{self.name}.conf"
        write_config(path, self.settings)
        return path

    def spawn(self, stderr):
        lifted = [s.fileno() + 100 for s in self.sockets]
        for s, fd in zip(self.sockets, lifted):
            os.dup2(s.fileno(), fd)
        try:
            self.process = subprocess.Popen(self.command(), stdout=subprocess.PIPE, stderr=stderr,
                                            stdin=subprocess.DEVNULL, pass_fds=lifted,
                                            env={**os.environ, **self.env})
        finally:
            for fd in lifted:
                os.close(fd)
        return self.process

    def start(self):
        with open(self.log_path, "ab") as log:
            self.spawn(log)
        line = self._read_line(10 * SLOWER)
        match = READY.fullmatch(line)
        assert match, f"no ready line but {line!r}; log: {self.log()[-2000:]}"
        self.listen, self.ops, self.id = match.groups()
        return self


def listening(family=socket.AF_INET, host="127.0.0.1", kind=socket.SOCK_STREAM, listen=True):
    s = socket.socket(family, kind)
    s.bind((host, 0))
    if listen:
        s.listen(64)
    return s


def address_of(s):
    host, port = s.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@pytest.fixture
def inherit(world, redis):
    def start(*sockets, **options):
        node = InheritingNode(world.dir, redis.url, sockets, name=f"n{len(world.nodes) + 1}",
                              **options)
        world.nodes.append(node)
        return node.start()
    return start


def test_connects_in_the_gap_wait_for_the_next_node(inherit, connect):
    """Killed or ended in order: nobody is refused, and who came meanwhile is served."""
    with listening() as shared:
        node = inherit(shared, names="client", settings={"listen.address": "127.0.0.1:1"})
        assert node.listen == address_of(shared)
        text = "event=socket_inherited name=client unused=listen.address"
        eventually(lambda: text in node.log())
        for how in (signal.SIGKILL, signal.SIGTERM):
            node.wait_ready()
            connect(node).close()
            node.process.send_signal(how)
            node.process.wait(PATIENCE)
            node.process = None
            waiting = socket.create_connection(shared.getsockname(), timeout=PATIENCE)
            waiting.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            node = inherit(shared, names="client")
            assert waiting.recv(4096).startswith(b"HTTP/1.1 200 ")
            waiting.close()


def test_both_sockets_by_name(inherit):
    with listening() as ops, listening(socket.AF_INET6, "::1") as client:
        node = inherit(ops, client, names="ops:client").wait_ready()
        assert (node.listen, node.ops) == (address_of(client), address_of(ops))
        environment = pathlib.Path(f"/proc/{node.pid}/environ").read_bytes()
        assert b"LISTEN_FDS" in environment  # as it was started; a child would not inherit it
        node.stop()


@pytest.mark.parametrize("names", [None, "tickcast@a.socket:other"])
def test_the_first_is_the_clients_without_names(inherit, names):
    with listening() as first, listening() as second:
        node = inherit(first, second, names=names)
        assert node.listen == address_of(first) and node.ops != address_of(second)
        eventually(lambda: "inherited descriptor 4 is neither client nor ops" in node.log())


@pytest.mark.parametrize("variables", [{"pid": "1"}, {"pid": "1", "fds": "x"}, {"fds": "0"}])
def test_sockets_of_another_process_are_left_alone(inherit, variables):
    with listening() as other:
        node = inherit(other, **variables)
        assert node.listen != address_of(other)


BAD = {
    "no number": (dict(fds="two"), "LISTEN_FDS=two is not a number"),
    "negative": (dict(fds="-1"), "LISTEN_FDS=-1 is not a number"),
    "empty": (dict(fds=""), "LISTEN_FDS= is not a number"),
    "far too many": (dict(fds="99999999999999999999"), "LISTEN_FDS=9999"),
    "a line break": (dict(fds="1\nevil"), "LISTEN_FDS=1?evil is not"),
    "no process id": (dict(pid="x1"), "LISTEN_PID=x1 is not a process id"),
    "more than there are": (dict(fds="3"), "inherited descriptor 4 is not open"),
    "too few names": (dict(fds="2", names="client"), "LISTEN_FDNAMES=client has not one name"),
    "too many names": (dict(names="client:ops"), "LISTEN_FDNAMES=client:ops has not one name"),
}


def refused(node):
    process = node.spawn(subprocess.PIPE)
    out, err = process.communicate(timeout=PATIENCE)
    assert out == b""
    return process.returncode, err.decode()


@pytest.mark.parametrize("case", BAD)
def test_variables_that_cannot_be_right(tmp_path, case):
    options, text = BAD[case]
    with listening() as s:
        status, error = refused(InheritingNode(tmp_path, "redis://127.0.0.1:1/0", [s], **options))
    assert status == 2 and text in error and error.count("\n") == 1, error


def unsuitable(kind):
    if kind == "a datagram socket":
        return listening(kind=socket.SOCK_DGRAM, listen=False)
    if kind == "a socket that does not listen":
        return listening(listen=False)
    if kind == "a pipe":
        return os.fdopen(os.pipe()[0], "rb")
    s = socket.socket(socket.AF_UNIX)
    s.bind(f"\0tickcast-test-unsuitable-{os.getpid()}")
    s.listen()
    return s


@pytest.mark.parametrize("kind, text", [
    ("a datagram socket", "is not a stream socket"),
    ("a socket that does not listen", "does not listen"),
    ("a pipe", "is not a socket"),
    ("a unix socket", "is not a socket of IPv4 or IPv6")])
def test_descriptors_that_do_not_suit(tmp_path, kind, text):
    with unsuitable(kind) as s:
        status, error = refused(InheritingNode(tmp_path, "redis://127.0.0.1:1/0", [s]))
    assert status == 2 and f"inherited descriptor 3 {text}" in error and error.count("\n") == 1


def test_two_of_a_name_and_an_ops_socket_for_all(tmp_path):
    with listening() as a, listening() as b:
        node = InheritingNode(tmp_path, "redis://127.0.0.1:1/0", [a, b], names="client:client")
        status, error = refused(node)
        assert status == 2 and "3 and 4 are both named client" in error
    with listening(host="0.0.0.0") as a:
        node = InheritingNode(tmp_path, "redis://127.0.0.1:1/0", [a], names="ops")
        status, error = refused(node)
        assert status == 2 and "is not bound to a loopback address" in error


# --- the units -------------------------------------------------------------------------------------


@pytest.fixture
def installed(tmp_path):
    """What `make install` leaves, below a folder."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
    subprocess.run(["make", "-s", "-C", str(ROOT), "install", f"BUILD={BUILD}",
                    f"DESTDIR={tmp_path}/root", "PREFIX=/opt/tc"], check=True, env=environment,
                   timeout=60, capture_output=True)
    return tmp_path / "root"


def test_the_units_are_clean(installed, tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    units = installed / "opt/tc/lib/systemd/system"
    service = units / "tickcast@.service"
    text = service.read_text()
    assert "ExecStart=/opt/tc/bin/tickcast -c" in text
    service.write_text(text.replace("=/opt/tc/", f"={installed}/opt/tc/"))
    names = ["tickcast@a.service", "tickcast@a.socket", "tickcast.target"]
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *(units / n for n in names)],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "tickcast" not in done.stderr, done.stderr
    assert (installed / "etc/tickcast/tickcast.conf").read_text() == \
        (ROOT / "conf/tickcast.conf").read_text()


def test_the_service_suits_the_program():
    """A drain as long as the defaults make it is not cut off, nor do descriptors run out first."""
    unit = dict(line.split("=", 1) for line in (ROOT / "systemd/tickcast@.service").read_text()
                .splitlines() if "=" in line and not line.startswith("#"))
    defaults = (ROOT / "conf/tickcast.conf").read_text()
    planned_s = sum(int(re.search(rf"^#{key} = (\d+)$", defaults, re.M)[1])
                    for key in ("drain_grace_s", "drain_s"))
    assert int(unit["TimeoutStopSec"]) >= planned_s + 10 + 5  # close frames, and a slow machine
    assert int(unit["LimitNOFILE"]) >= 1_000_000
    assert unit["Type"] == "notify" and int(unit["WatchdogSec"]) > 0
    assert unit["RestartPreventExitStatus"] == "2"


def test_the_service_is_in_a_sandbox(tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    done = subprocess.run(["systemd-analyze", "security", "--offline=true", "--threshold=12",
                           "--no-pager", ROOT / "systemd/tickcast@.service"], capture_output=True,
                          text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 0, done.stdout


@pytest.mark.plain
@pytest.mark.limit(120)
def test_the_real_systemd(tmp_path):
    """Start, sandbox, reload, restart without a refused connect, crash, watchdog, drain, target."""
    done = subprocess.run([ROOT / "tests/systemd/boot", tmp_path / "run"], capture_output=True,
                          text=True, timeout=115)
    if done.returncode == 77:
        pytest.skip(f"no systemd to be had here: {done.stdout.strip()}")
    logs = "".join(f"--- {path.name}\n{path.read_text(errors='replace')[-4000:]}"
                   for path in sorted((tmp_path / "run").glob("*.log")))
    assert done.returncode == 0, done.stdout + done.stderr + logs
