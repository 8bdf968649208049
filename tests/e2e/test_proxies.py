"""The example configurations of nginx and HAProxy, with addresses and ports of the test's own.

Both are started with two nodes behind them. scripts/deps installs them.
"""

import http.server
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import threading

import pytest

from client import Client
from ports import free_port
from world import ROOT, SLOWER, WAIT, eventually

FULL = {"listen.max_connections": 1, "listen.drain_grace_s": 0}


class Proxy:
    """One running proxy. `program` and its example file, changed by `edits` {text: text}."""

    program = ""
    example = ""

    def __init__(self, directory, nodes):
        self.dir = directory
        self.port = free_port()
        self.certificate = directory / "proxy.pem"
        make_certificate(self.certificate)
        text = (ROOT / "conf" / self.example).read_text()
        edits = {"10.0.0.1:8080": nodes[0].listen, "10.0.0.2:8080": nodes[1].listen,
                 **self.edits()}
        for old, new in edits.items():
            assert old in text, f"{self.example} has no {old!r}"
            text = text.replace(old, new)
        self.config = directory / self.example
        self.config.write_text(text)
        self.log_path = directory / "proxy.log"
        self.process = None

    def edits(self):
        return {}

    def command(self):
        return []

    def start(self):
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log,
                                            stdin=subprocess.DEVNULL)
        eventually(self.accepts, 10, "the proxy to accept connections")
        return self

    def log(self):
        return self.log_path.read_text(errors="replace")

    def accepts(self):
        assert self.process.poll() is None, self.log()
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        except OSError:
            return False

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)

    def context(self):
        return ssl.create_default_context(cafile=self.certificate)

    def connect(self, **options):
        client = Client(f"wss://localhost:{self.port}/ws", ssl=self.context(), **options)
        client.hello = client.expect("hello")
        return client

    def request(self, path, headers=""):
        """(status, lower-case header names and values, body) of a plain GET."""
        raw = socket.create_connection(("127.0.0.1", self.port), WAIT)
        with self.context().wrap_socket(raw, server_hostname="localhost") as sock:
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost:{self.port}\r\n{headers}"
                         "Connection: close\r\n\r\n".encode())
            data = b""
            while chunk := sock.recv(65536):
                data += chunk
        head, _, body = data.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        fields = dict(line.lower().split(": ", 1) for line in lines[1:])
        return int(lines[0].split()[1]), fields, body

    def upgrade_status(self):
        """What an upgrade is answered with, and its Retry-After."""
        headers = ("Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                   "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n")
        raw = socket.create_connection(("127.0.0.1", self.port), WAIT)
        with self.context().wrap_socket(raw, server_hostname="localhost") as sock:
            sock.sendall(f"GET /ws HTTP/1.1\r\nHost: localhost:{self.port}\r\n{headers}\r\n".encode())
            head = b""
            while b"\r\n\r\n" not in head:
                chunk = sock.recv(4096)
                assert chunk, head
                head += chunk
        status = int(head.split()[1])
        found = re.search(rb"(?i)\r\nretry-after: (\d+)\r\n", head)
        return status, int(found.group(1)) if found else None


class Nginx(Proxy):
    program = "nginx"
    example = "nginx.conf.example"

    def edits(self):
        temp = "".join(f"    {kind}_temp_path {self.dir}/{kind};\n" for kind in
                       ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        return {"listen 443 ssl": f"listen 127.0.0.1:{self.port} ssl",
                "/etc/ssl/quotes.example.com.pem": str(self.certificate),
                "/etc/ssl/quotes.example.com.key": str(self.certificate),
                "http {\n": "http {\n" + temp,
                "user www-data;": "", "worker_processes auto": "worker_processes 1",
                "worker_connections 131072": "worker_connections 512",
                "worker_rlimit_nofile 262144;": ""}

    def command(self):
        return ["nginx", "-p", str(self.dir), "-c", str(self.config), "-e", "stderr",
                "-g", f"daemon off; pid {self.dir}/proxy.pid;"]


class Haproxy(Proxy):
    program = "haproxy"
    example = "haproxy.cfg.example"

    def edits(self):
        return {"bind :443": f"bind 127.0.0.1:{self.port}",
                "/etc/haproxy/quotes.example.com.pem": str(self.certificate),
                "    user haproxy\n": "", "    group haproxy\n": "", "maxconn 100000": "maxconn 200",
                "inter 1s": "inter 200ms"}

    def command(self):
        return ["haproxy", "-db", "-f", str(self.config)]


def make_certificate(path):
    """Certificate and key in one file, for localhost."""
    key = path.with_suffix(".key")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
                    "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
                    "-keyout", str(key), "-out", str(path)],
                   check=True, capture_output=True, timeout=20)
    path.write_text(path.read_text() + key.read_text())


# Debian keeps both out of an ordinary user's PATH.
os.environ["PATH"] += ":/usr/sbin:/sbin"


@pytest.fixture(params=[Nginx, Haproxy], ids=["nginx", "haproxy"])
def behind(request, world):
    """behind(nodes) -> a proxy that stands before them."""
    if shutil.which(request.param.program) is None:
        pytest.skip(f"{request.param.program} is not installed")
    running = []

    def make(nodes):
        directory = world.dir / f"proxy{len(running)}"
        directory.mkdir()
        running.append(request.param(directory, nodes).start())
        return running[-1]

    yield make
    for proxy in running:
        proxy.stop()


@pytest.fixture
def clients():
    opened = []
    yield opened
    for client in opened:
        client.close()


def connect_to(proxy, clients, name):
    """Connects until a client has come to that node. Returns it."""
    def tried():
        client = proxy.connect()
        clients.append(client)
        return client if client.hello["node"] == name else None

    return eventually(tried, what=f"a client to come to {name}")


def test_clients_come_through(world, redis, behind, clients):
    """Commands, pushes, compression and the close code; evenly over the nodes."""
    proxy = behind(world.cluster(2))
    for _ in range(4):
        clients.append(proxy.connect(compression="deflate"))
    assert sorted(c.hello["node"] for c in clients) == ["n1", "n1", "n2", "n2"]
    for client in clients:
        client.subscribe("quote:P")
    redis.publish("quote:P", '{"price":"1.10"}', heard_by=2)
    for client in clients:
        assert client.expect("push")["items"][0]["data"] == {"price": "1.10"}
    redis.publish("admin", '{"cmd":"kick","conn":"%s"}' % clients[0].hello["conn"], 2)
    assert clients[0].closed() == 4005
    assert proxy.request("/")[0] == 200
    assert proxy.request("/readyz")[0] == 404
    assert proxy.request("/nothing")[0] == 404


def test_the_node_is_told_the_real_address(behind):
    """And not what a client claims."""
    seen = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path != "/readyz":
                seen.append(self.headers.get_all("X-Forwarded-For"))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    class Backend:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        listen = "127.0.0.1:%d" % server.server_address[1]

    threading.Thread(target=Backend.server.serve_forever, args=(0.02,), daemon=True).start()
    proxy = behind([Backend, Backend])
    assert proxy.request("/", "X-Forwarded-For: 1.2.3.4\r\n")[0] == 200
    assert seen == [["127.0.0.1"]]
    Backend.server.shutdown()
    Backend.server.server_close()


def test_a_page_of_the_same_host_may_connect(world, redis, behind, clients):
    """The nodes compare Origin with the Host that the browser named, port included."""
    proxy = behind(world.cluster(2))
    clients.append(proxy.connect(origin=f"https://localhost:{proxy.port}"))
    with pytest.raises(Exception, match="403"):
        proxy.connect(origin="https://elsewhere.example")


def test_a_node_that_drains_gets_no_more_clients(world, redis, behind, clients, operator):
    """Not an error is seen: neither while the balancer does not know yet, nor after."""
    nodes = world.cluster(2, settings={"listen.drain_grace_s": 0})
    proxy = behind(nodes)
    early = [connect_to(proxy, clients, "n1") for _ in range(3)]
    operator.ask(1, cmd="drain", node="n1", seconds=600)
    eventually(lambda: nodes[0].get("/readyz").status == 503)
    for _ in range(6):
        clients.append(proxy.connect())
        assert clients[-1].hello["node"] == "n2"
    last = max(early, key=lambda client: client.wait_for("drain")["reconnect_in_ms"])
    assert last.ask("ping")["action"] == "pong"
    operator.ask(1, cmd="undrain", node="n1")
    connect_to(proxy, clients, "n1")


def test_a_node_that_is_not_there(world, redis, behind, clients):
    nodes = world.cluster(2)
    proxy = behind(nodes)
    nodes[0].kill()
    world.nodes.remove(nodes[0])
    for _ in range(4):
        clients.append(proxy.connect())
        assert clients[-1].hello["node"] == "n2"


def test_when_no_node_has_room_the_client_is_told_when_to_come_again(world, redis, behind,
                                                                      clients):
    proxy = behind(world.cluster(2, settings=FULL))
    clients += [proxy.connect(), proxy.connect()]
    assert sorted(c.hello["node"] for c in clients) == ["n1", "n2"]
    status, retry_after = proxy.upgrade_status()
    assert status == 503 and retry_after >= 1


def test_a_quiet_client_is_not_cut_off():
    """Every timeout that an open connection meets is above node.ping_ms, jitter included."""
    for name, patterns in (("nginx.conf.example", [r"proxy_read_timeout (\d+)s",
                                                   r"proxy_send_timeout (\d+)s"]),
                           ("haproxy.cfg.example", [r"timeout client (\d+)s",
                                                    r"timeout server (\d+)s",
                                                    r"timeout tunnel (\d+)s"])):
        text = (ROOT / "conf" / name).read_text()
        for pattern in patterns:
            assert int(re.search(pattern, text).group(1)) >= 2 * 25


@pytest.mark.parametrize("kind", [Nginx, Haproxy], ids=["nginx", "haproxy"])
def test_the_programs_own_check_accepts_it(kind, tmp_path):
    """Without a warning, as it is shipped but for addresses and files."""
    if shutil.which(kind.program) is None:
        pytest.skip(f"{kind.program} is not installed")

    class Nobody:
        listen = "127.0.0.1:1"

    proxy = kind(tmp_path, [Nobody, Nobody])
    command = [*proxy.command(), "-t"] if kind is Nginx else ["haproxy", "-c", "-f", proxy.config]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20 * SLOWER, check=False)
    assert done.returncode == 0, done.stderr
    assert "[warn]" not in done.stderr and "[WARNING]" not in done.stderr, done.stderr
