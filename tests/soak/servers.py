"""The fleet of a soak: a Redis that keeps what it answered for, a proxy for each node, nodes."""

import asyncio
import contextlib
import pathlib
import shutil
import signal
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))

import proxy
import values
import world


class DurableRedis(world.RedisServer):
    """Each answer is on disk before it is given, so a killed one comes back with everything."""

    def start(self):
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1",
                   "--save", "", "--appendonly", "yes", "--appendfsync", "always",
                   "--auto-aof-rewrite-percentage", "0", "--dir", str(self.dir),
                   "--lua-time-limit", "50"]
        with open(self.dir / "redis.log", "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log,
                                            stdin=subprocess.DEVNULL)
        world.eventually(self._answers, what="redis-server to answer", timeout=20)
        return self

    def _answers(self):
        try:
            return super()._answers()
        except world.RedisError:  # it is loading its data
            return False

    @contextlib.contextmanager
    def busy(self):
        """Runs a script of somebody's that does not end: everything else is refused meanwhile."""
        with contextlib.closing(world.RedisClient(self.port)) as caller:
            caller.begin("EVAL", "while true do end", 0)
            try:
                yield
            finally:
                with contextlib.closing(world.RedisClient(self.port)) as other:
                    world.eventually(lambda: _ends_script(other), timeout=20)

    def copy(self):
        """An older copy of itself, to be put back later. What is on disk is whole at any time, but
        for the end of the last command, which Redis cuts off when it loads."""
        shutil.rmtree(self.dir / "older", ignore_errors=True)
        shutil.copytree(self.dir / "appendonlydir", self.dir / "older")

    def put_back(self):
        """Ends it and puts the older copy in its place, to be started."""
        self.kill()
        shutil.rmtree(self.dir / "appendonlydir")
        (self.dir / "older").rename(self.dir / "appendonlydir")


def _ends_script(client):
    """False before it runs: commands of one connection may be read before another's."""
    try:
        return client("SCRIPT", "KILL") == "OK"
    except world.RedisError as error:
        if not str(error).startswith("NOTBUSY"):
            raise
        return False


def _settings(name, workers):
    settings = {
        "node.workers": workers, "node.heartbeat_ms": 2000, "node.ping_ms": 20000,
        "redis.linger_ms": 500,
        "limits.commands_per_s": 0, "limits.soft_bytes": 16384, "limits.hard_bytes": 400_000,
    }
    for namespace, options in values.NAMESPACES.items():
        for key, value in options.items():
            settings[f"namespace.{namespace}.{key}"] = value
    return settings


class Fleet:
    def __init__(self, directory):
        self.dir = directory
        self.redis = DurableRedis(pathlib.Path(directory) / "redis")
        self.proxies = []
        self.nodes = []
        self.killed_at = {}  # {node name: loop time of the last kill}

    async def start(self, count=3):
        await asyncio.to_thread(self.redis.start)
        for i in range(count):
            gate = await proxy.Proxy(self.redis.port).start()
            name = f"n{i + 1}"
            node = world.Node(self.dir, gate.url, name, settings=_settings(name, 1 + i % 2))
            self.proxies.append(gate)
            self.nodes.append(node)
            await asyncio.to_thread(node.start)
        await self.wait_ready()

    async def wait_ready(self):
        for node in self.nodes:
            await asyncio.to_thread(node.wait_ready, 20 * world.SLOWER)

    async def kill_node(self, node):
        self.killed_at[node.name] = asyncio.get_running_loop().time()
        await asyncio.to_thread(node.kill)
        self.killed_at[node.name] = asyncio.get_running_loop().time()

    async def restart_node(self, node):
        await asyncio.to_thread(node.start)

    async def stop(self):
        """Ends everything. Returns what was wrong with it."""
        faults = []
        for node in self.nodes:
            try:
                await asyncio.to_thread(node.stop)
            except AssertionError as fault:
                faults.append(str(fault))
        for gate in self.proxies:
            await gate.stop()
        await asyncio.to_thread(self.redis.kill)
        return faults

    def end(self):
        """Whatever happened, no process stays."""
        for node in self.nodes:
            if node.process is not None and node.process.poll() is None:
                node.process.send_signal(signal.SIGKILL)
                node.process.wait(10)
        self.redis.kill()
