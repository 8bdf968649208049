"""The servers of a test: a redis-server and tickcast nodes that belong to it alone.

Everything listens on 127.0.0.1, lives in the test's own folder, and is gone when the test is.
Nothing here sleeps to synchronise: `eventually` polls a condition up to a limit, and says what it
last saw when it gives up.
"""

import http.client
import json
import os
import pathlib
import re
import resource
import select
import shutil
import signal
import socket
import subprocess
import time

from prometheus_client.parser import text_string_to_metric_families

from ports import free_port

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("BUILD", ROOT / "build"))
TICKCAST = BUILD / "tickcast"
TICKCASTCTL = BUILD / "tickcastctl"
PUBLISH_LUA = ROOT / "scripts/publish.lua"


def _sanitizer():
    """Which sanitizer the program was built with: "address", "thread" or ""."""
    try:
        image = TICKCAST.read_bytes()
    except OSError:
        return ""
    for mark, name in ((b"__asan_init", "address"), (b"__tsan_init", "thread")):
        if mark in image:
            return name
    return ""


SANITIZER = _sanitizer()
# A sanitized program is several times slower; limits of time are stretched by this.
SLOWER = {"": 1, "address": 3, "thread": 6}[SANITIZER]
WAIT = 5 * SLOWER


def eventually(check, timeout=None, what="", interval=0.01):
    """Polls check() until it returns something true, and returns that."""
    deadline = time.monotonic() + (WAIT if timeout is None else timeout)
    while True:
        last = check()
        if last:
            return last
        if time.monotonic() > deadline:
            raise AssertionError(f"waited too long for {what or check}: last saw {last!r}")
        time.sleep(interval)


def _encode(args):
    out = [b"*%d\r\n" % len(args)]
    for arg in args:
        if not isinstance(arg, bytes):
            arg = str(arg).encode()
        out.append(b"$%d\r\n%s\r\n" % (len(arg), arg))
    return b"".join(out)


class RedisError(Exception):
    pass


class RedisClient:
    """The few lines of RESP that a test needs: exact bytes out, replies in."""

    def __init__(self, port, password=None, timeout=None):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=timeout or WAIT)
        self.file = self.sock.makefile("rb")
        if password:
            self("AUTH", password)

    def close(self):
        self.file.close()
        self.sock.close()

    def _reply(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("Redis closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            return RedisError(rest.decode())
        if kind == b"+":
            return rest.decode()
        if kind == b":":
            return int(rest)
        size = int(rest)
        if size < 0:
            return None
        if kind == b"*":
            return [self._reply() for _ in range(size)]
        return self.file.read(size + 2)[:-2]

    def begin(self, *args):
        """Sends a command whose reply is not waited for."""
        self.sock.sendall(_encode(args))

    def many(self, commands):
        """Sends all commands in one go, then reads all replies."""
        self.sock.sendall(b"".join(_encode(c) for c in commands))
        replies = [self._reply() for _ in commands]
        for reply in replies:
            if isinstance(reply, RedisError):
                raise reply
        return replies

    def __call__(self, *args):
        return self.many([args])[0]


class RedisServer:
    """A private redis-server with a TCP port and a unix socket; nothing on disk unless persistent."""

    def __init__(self, directory, password=None, prefix="tc:", persistent=False):
        self.dir = pathlib.Path(directory)
        self.dir.mkdir(parents=True, exist_ok=True)
        self.password = password
        self.prefix = prefix
        self.persistent = persistent  # every write is on disk before it is answered
        self.port = free_port()
        self.path = self.dir / "redis.sock"
        self.process = None
        self._client = None

    @property
    def url(self):
        user = f":{self.password}@" if self.password else ""
        return f"redis://{user}127.0.0.1:{self.port}/0"

    def start(self):
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1",
                   "--unixsocket", str(self.path), "--save", "",
                   "--appendonly", "yes" if self.persistent else "no", "--appendfsync", "always",
                   "--dir", str(self.dir), "--daemonize", "no"]
        if self.password:
            command += ["--requirepass", self.password]
        with open(self.dir / "redis.log", "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log,
                                            stdin=subprocess.DEVNULL)
        eventually(self._answers, what="redis-server to answer", timeout=10)
        return self

    def _answers(self):
        if self.process.poll() is not None:
            raise AssertionError("redis-server ended: " + (self.dir / "redis.log").read_text())
        try:
            return self.client()("PING") == "PONG"
        except RedisError:  # it loads what is on disk
            return False
        except (OSError, ConnectionError):
            self._client = None
            return False

    def client(self):
        if self._client is None:
            self._client = RedisClient(self.port, self.password)
        return self._client

    def __call__(self, *args):
        return self.client()(*args)

    def _end(self, how):
        if self._client is not None:
            self._client.close()
            self._client = None
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(how)
            if how != signal.SIGKILL:
                self.process.send_signal(signal.SIGCONT)
            self.process.wait(10)

    def stop(self):
        self._end(signal.SIGTERM)

    def kill(self):
        self._end(signal.SIGKILL)

    def restart(self):
        self.kill()
        return self.start()

    def pause(self):
        """The process hangs: sockets stay open, nothing is answered."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def cli(self, *args, **options):
        """The real redis-cli, as the README tells people to use it."""
        command = ["redis-cli", "-p", str(self.port)]
        if self.password:
            command += ["--no-auth-warning", "-a", self.password]
        done = subprocess.run(command + list(args), capture_output=True, text=True, timeout=10,
                              check=True, **options)
        return done.stdout.strip()

    def listeners(self, channel):
        return self("PUBSUB", "NUMSUB", self.prefix + channel)[1]

    def wait_listeners(self, channel, count=1, timeout=None):
        """Waits until that many nodes are subscribed to the channel."""
        eventually(lambda: self.listeners(channel) >= count, timeout,
                   f"{count} subscribers of {channel} in Redis")

    def publish(self, channel, payload, heard_by=1):
        """Publishes once at least heard_by nodes listen. Returns how many received it."""
        if heard_by:
            self.wait_listeners(channel, heard_by)
        return self("PUBLISH", self.prefix + channel, payload)

    def stamp(self, channel, payload, history=0, ttl_s=0, heard_by=0):
        """Publishes by the script that the project ships. Returns (seq, epoch)."""
        if heard_by:
            self.wait_listeners(channel, heard_by)
        seq, epoch = self("EVAL", PUBLISH_LUA.read_text(), 1, f"{{{self.prefix}{channel}}}", payload,
                          history, ttl_s)
        return seq, epoch if isinstance(epoch, str) else epoch.decode()

    def publish_many(self, pairs):
        self.client().many([("PUBLISH", self.prefix + c, p) for c, p in pairs])


class Reply:
    """An HTTP response, read whole."""

    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers  # lower-case names
        self.body = body

    def json(self):
        return json.loads(self.body)


def http_request(address, path, method="GET", body=None, headers=None):
    host, port = address.rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=WAIT)
    try:
        connection.request(method, path, body=body, headers=headers or {})
        response = connection.getresponse()
        names = {k.lower(): v for k, v in response.getheaders()}
        return Reply(response.status, names, response.read())
    finally:
        connection.close()


def write_config(path, settings):
    """Writes {"section.key": value} as an INI file; a namespace is "namespace.NAME.key"."""
    sections = {}
    for name, value in settings.items():
        section, key = name.rsplit(".", 1)
        sections.setdefault(section.replace(".", " ", 1), []).append(f"{key} = {value}")
    text = "".join(f"[{name}]\n" + "\n".join(lines) + "\n\n" for name, lines in sections.items())
    pathlib.Path(path).write_text(text)


READY = re.compile(r"ready listen=(\S+:\d+) ops=(\S+:\d+) node=(\S+)\n")


class Node:
    """One tickcast process. Settings are "section.key": value and go into a file of its own.

    Started again after its end it is the same node on the same ports.
    """

    def __init__(self, directory, redis_url, name="n1", settings=None, sets=(), env=None,
                 files=None, stderr=None):
        self.dir = pathlib.Path(directory)
        self.dir.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.settings = {
            "node.id": name,
            "node.workers": 1,
            "listen.address": f"127.0.0.1:{free_port()}",
            "ops.address": f"127.0.0.1:{free_port()}",
            "redis.url": redis_url,
            "redis.canary_ms": 300 if not SANITIZER else 1000,
            "listen.drain_grace_s": 0,
            "listen.drain_s": 0,
        }
        self.settings.update(settings or {})
        self.sets = list(sets)
        self.env = env or {}
        self.files = files  # limit of descriptors
        self.pass_fds = ()
        self.stderr = stderr  # a file descriptor instead of the log file
        self.log_path = self.dir / f"{name}.log"
        self.process = None
        self.expect_status = 0  # what stop() insists on

    def __repr__(self):
        return f"<node {self.name}>"

    # --- life ------------------------------------------------------------------------------

    def start(self):
        config = self.dir / f"{self.name}.conf"
        write_config(config, self.settings)
        command = self.command_prefix() + [str(TICKCAST), "-c", str(config)]
        for item in self.sets:
            command += ["--set", item]
        environment = {**os.environ, **self.env}
        environment.setdefault("ASAN_OPTIONS", "detect_leaks=1:abort_on_error=0")
        environment.setdefault("UBSAN_OPTIONS", "print_stacktrace=1")
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log if self.stderr is None else self.stderr,
                stdin=subprocess.DEVNULL, env=environment,
                pass_fds=self.pass_fds, preexec_fn=self._limit if self.files else None)
        line = self._read_line(10 * SLOWER)
        match = READY.fullmatch(line)
        assert match, f"no ready line but {line!r}; log: {self.log()[-2000:]}"
        self.listen, self.ops, self.id = match.groups()
        self.host, port = self.listen.rsplit(":", 1)
        self.port = int(port)
        return self

    def command_prefix(self):
        """What starts the program, where it is not started itself."""
        return []

    def _limit(self):
        resource.setrlimit(resource.RLIMIT_NOFILE, (self.files, self.files))

    def _read_line(self, timeout):
        line = b""
        deadline = time.monotonic() + timeout
        out = self.process.stdout
        poll = select.poll()  # select() knows no descriptor over 1023
        poll.register(out, select.POLLIN)
        while not line.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not poll.poll(left * 1000):
                break
            byte = os.read(out.fileno(), 1)
            if not byte:
                break
            line += byte
        return line.decode()

    @property
    def pid(self):
        return self.process.pid

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def wait(self, timeout=None):
        """Waits for the process to end by itself and checks what it leaves behind."""
        status = self.process.wait(timeout or 10 * SLOWER)
        with self.process.stdout as out:
            rest = out.read()
        assert rest == b"", f"more than the ready line on standard output: {rest!r}"
        self.check_log()
        return status

    def stop(self):
        if self.process is None:
            return
        if self.process.poll() is None:
            self.terminate()
        try:
            status = self.wait()
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
            raise AssertionError(f"{self} did not end on SIGTERM") from None
        finally:
            self.last, self.process = self.process, None
        assert status == self.expect_status, f"{self} ended with {status}: {self.log()[-3000:]}"

    def kill(self):
        self.process.kill()
        self.process.wait(10)
        self.process.stdout.close()
        self.process = None

    # --- what it shows ---------------------------------------------------------------------

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def check_log(self):
        text = self.log()
        for mark in ("Sanitizer", "runtime error:"):
            assert mark not in text, f"{self}: {text[text.index(mark) - 200:][:6000]}"

    def url(self, path="/ws", **query):
        text = "&".join(f"{k}={v}" for k, v in query.items())
        return f"ws://{self.listen}{path}" + (f"?{text}" if text else "")

    def get(self, path, headers=None):
        return http_request(self.listen, path, headers=headers)

    def ops_get(self, path):
        return http_request(self.ops, path)

    def metrics(self):
        """{(sample name, ((label, value), ...)): value}, by someone else's parser."""
        text = self.ops_get("/metrics").body.decode()
        return {(s.name, tuple(sorted(s.labels.items()))): s.value
                for family in text_string_to_metric_families(text) for s in family.samples}

    def metric(self, name, **labels):
        """The sum of the samples of that name which carry these labels."""
        want = set(labels.items())
        found = [v for (n, l), v in self.metrics().items() if n == name and want <= set(l)]
        assert found, f"no metric {name} {labels}"
        return sum(found)

    def wait_metric(self, name, value, timeout=None, **labels):
        eventually(lambda: self.metric(name, **labels) == value, timeout,
                   f"{name} {labels} to be {value}")

    def is_ready(self):
        return self.ops_get("/readyz").status == 200

    def wait_ready(self, timeout=None):
        eventually(self.is_ready, timeout or 10 * SLOWER, f"{self} to be ready")
        return self

    def wait_suspect(self, timeout=None):
        eventually(lambda: not self.is_ready(), timeout or 10 * SLOWER, f"{self} to be suspect")

    def _memory_kb(self, what):
        text = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(what + r":\s+(\d+)", text).group(1))

    def rss_kb(self):
        return self._memory_kb("VmRSS")

    def rss_peak_kb(self):
        return self._memory_kb("VmHWM")

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))


class World:
    """Makes the servers of one test or module, and ends them all."""

    def __init__(self, directory):
        self.dir = pathlib.Path(directory)
        self.nodes = []
        self.redises = []
        self.clients = []

    def redis(self, start=True, **options):
        server = RedisServer(self.dir / f"redis{len(self.redises)}", **options)
        self.redises.append(server)
        return server.start() if start else server

    def node(self, redis=None, name=None, ready=True, **options):
        """Starts a node. redis: a server, a URL, or None for the first server (made if need be)."""
        if redis is None:
            redis = self.redises[0] if self.redises else self.redis()
        url = redis.url if isinstance(redis, RedisServer) else redis
        node = Node(self.dir, url, name or f"n{len(self.nodes) + 1}", **options)
        self.nodes.append(node)
        node.start()
        return node.wait_ready() if ready else node

    def cluster(self, count, **options):
        nodes = [self.node(ready=False, **options) for _ in range(count)]
        for node in nodes:
            node.wait_ready()
        return nodes

    def close(self):
        for client in self.clients:
            client.close()
        faults = []
        for node in self.nodes:
            try:
                node.stop()
            except AssertionError as fault:
                faults.append(str(fault))
        for server in self.redises:
            server.kill()
        shutil.rmtree(self.dir / "redis0", ignore_errors=True)
        assert not faults, "\n".join(faults)
