"""The programs of a run: Redis, nodes, the bare loop, and the load generator aimed at them."""
import contextlib
import json
import os
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

from machine import BOTH_CORES, BUILD, LOAD_CORE, NODE_CORE, START_LIMIT_S, Failure, end, \
    pinned, ready_line
from ports import free_port

RUN_LIMIT_S = 180


@contextlib.contextmanager
def redis_server():
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            pinned(LOAD_CORE, "redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "",
                   "--appendonly", "no", "--dir", folder,
                   "--client-output-buffer-limit", "pubsub 0 0 0"),
            stdout=subprocess.DEVNULL)
        # It needs little of the core that it shares with the reader, but needs it at once.
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, process.pid, -10)
        try:
            limit = time.monotonic() + START_LIMIT_S
            while subprocess.run(["redis-cli", "-p", str(port), "ping"],
                                 capture_output=True, check=False).returncode != 0:
                if time.monotonic() > limit:
                    raise Failure("redis-server did not start")
                time.sleep(0.05)
            yield f"redis://127.0.0.1:{port}"
        finally:
            end(process)


# --- the load generator --------------------------------------------------------------------------


def bench(*options):
    """One run of the load generator. Losses are figures here, not failures."""
    command = pinned(LOAD_CORE, f"{BUILD}/tickcastctl", "bench", "--json", *options)
    done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_LIMIT_S, check=False)
    if not done.stdout:
        raise Failure(done.stderr.strip() or "the load generator printed nothing")
    return json.loads(done.stdout)


@contextlib.contextmanager
def held_clients(*options):
    """Idle clients on either core as long as the block lasts; then what they report is added."""
    process = subprocess.Popen(
        pinned(BOTH_CORES, f"{BUILD}/tickcastctl", "bench", "--json", "--idle", "--hold", *options),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    result = {}
    try:
        ready_line(process)
        yield result
        output, _ = process.communicate(timeout=RUN_LIMIT_S)
        result.update(json.loads(output))
    finally:
        end(process)


# --- nodes ---------------------------------------------------------------------------------------


class Node:
    """A running node, and the load generator aimed at it."""

    def __init__(self, redis, process, ready, prefix):
        self.redis = redis
        self.prefix = prefix
        self.process = process
        self.ready = ready

    def await_ready(self):
        limit = time.monotonic() + START_LIMIT_S
        while time.monotonic() < limit:
            try:
                with urllib.request.urlopen(f"http://{self.ready['ops']}/readyz", timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        raise Failure("the node did not become ready")

    def metrics(self):
        """Name with labels -> value."""
        with urllib.request.urlopen(f"http://{self.ready['ops']}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        return {name: float(value) for name, value in
                (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}

    @property
    def url(self):
        return f"ws://{self.ready['listen']}/ws"

    def target(self):
        """The options that aim the load generator at it."""
        return target([self])

    def bench(self, *options):
        return bench(*self.target(), *options)

    def bench_writes(self, *options):
        """A run, and how many messages the node had in each write."""
        before = self.metrics()
        result = self.bench(*options)
        after = self.metrics()
        deliveries, writes = (after[name] - before[name] for name in
                              ("tickcast_deliveries_total", "tickcast_writes_total"))
        return {**result, "per_write": deliveries / max(writes, 1)}


def target(nodes):
    """The options that aim the load generator at several nodes of one fleet."""
    return ("--url", ",".join(n.url for n in nodes), "--redis", nodes[0].redis,
            "--prefix", nodes[0].prefix, "--pid", ",".join(str(n.process.pid) for n in nodes))


@contextlib.contextmanager
def node(redis, cores=NODE_CORE, under=(), **settings):
    """One node; under is the command that runs it, such as valgrind with its options."""
    # The canary is slow, so that a machine busy with other things does not look like a lost Redis.
    # Connections that end at once are no news here.
    options = {"listen.address": "127.0.0.1:0", "ops.address": "127.0.0.1:0", "redis.url": redis,
               "node.workers": 1, "node.log_level": "warn", "node.ping_ms": 0,
               "listen.drain_grace_s": 0, "listen.drain_s": 0,
               "redis.canary_ms": 5000, "redis.prefix": "tc:", "quality.short_lived_per_hour": 0,
               **{name.replace("__", "."): value for name, value in settings.items()}}
    sets = [word for name, value in options.items() for word in ("--set", f"{name}={value}")]
    process = subprocess.Popen(pinned(cores, *under, f"{BUILD}/tickcast", *sets),
                               stdout=subprocess.PIPE, text=True)
    try:
        running = Node(redis, process, ready_line(process), options["redis.prefix"])
        running.await_ready()
        yield running
    finally:
        end(process)


@contextlib.contextmanager
def fleet(redis, count, **settings):
    with contextlib.ExitStack() as running:
        yield [running.enter_context(node(redis, **settings)) for _ in range(count)]


# --- the kernel's limit --------------------------------------------------------------------------


def run_bare(options, load):
    """The bare loop with those options, under that load: what it printed, and what the load did."""
    process = subprocess.Popen(pinned(NODE_CORE, f"{BUILD}/bare_loop", *options),
                               stdout=subprocess.PIPE, text=True)
    try:
        port = ready_line(process)["port"]
        read = bench("--url", f"ws://127.0.0.1:{port}/ws", "--raw", *load)
        line, _ = process.communicate(timeout=RUN_LIMIT_S)
    finally:
        end(process)
    return json.loads(line), read


def bare_storm(clients):
    """One run of the kernel's limit for upgrades."""
    result, _ = run_bare(("--clients", clients, "--storm"), ("--clients", clients, "--storm"))
    return result


def bare_loop(clients, rate, seconds, batch=1):
    """One run of the kernel's limit, with the reader that the node has."""
    result, read = run_bare(
        ("--clients", clients, "--rate", rate, "--seconds", seconds, "--batch", batch),
        ("--clients", clients, "--publisher", "none", "--seconds", seconds))
    if read["lost"] or read["out_of_order"]:
        raise Failure("the bare loop's frames did not arrive as sent")
    return {**result, "latency_p99_us": read["latency_p99_us"]}
