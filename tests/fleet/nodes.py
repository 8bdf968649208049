"""A fleet under a supervisor: a Redis that keeps what it answered for, nodes on sockets that outlive
them, and a restart command for scripts/rolling-restart.

The restart command touches DIR/<id>.restart and waits until the supervisor has taken it away.
"""

import asyncio
import pathlib
import signal
import socket
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "e2e"), str(HERE.parent / "soak")]

import servers
import world

POLL_S = 0.05


class ActivatedNode(world.Node):
    """A node on a socket that the supervisor holds, as systemd does: while the node is away, connects
    wait in the kernel."""

    def __init__(self, directory, redis_url, name, settings):
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=4096)
        super().__init__(directory, redis_url, name, settings)

    def command_prefix(self):
        # bash, because dash knows descriptors of one digit only.
        return ["bash", "-c", f'exec 3<&{self.socket.fileno()}; export LISTEN_PID=$$; exec "$@"',
                "bash"]

    def start(self):
        self.env = {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "client"}
        self.pass_fds = (self.socket.fileno(),)
        return super().start()


class Fleet:
    def __init__(self, directory, count, settings):
        self.dir = pathlib.Path(directory)
        self.redis = servers.DurableRedis(self.dir / "redis")
        self.redis.start()
        self.nodes = [ActivatedNode(self.dir, self.redis.url, f"n{i + 1}",
                                    settings | {"node.workers": 1 + i % 2})
                      for i in range(count)]
        self.restarts = []
        self.killed = []

    async def start(self):
        for node in self.nodes:
            await asyncio.to_thread(node.start)
        for node in self.nodes:
            await asyncio.to_thread(node.wait_ready, 30)

    def restart_command(self):
        return (f"touch {self.dir}/{{id}}.restart; "
                f"while [ -e {self.dir}/{{id}}.restart ]; do sleep 0.05; done")

    async def supervise(self):
        """Does what the restart command asks for, and starts again what has died."""
        while True:
            for node in self.nodes:
                wish = self.dir / f"{node.name}.restart"
                if wish.exists():
                    await asyncio.to_thread(node.stop)
                    await asyncio.to_thread(node.start)
                    self.restarts.append(node.name)
                    wish.unlink()
                elif not node.alive():
                    node.process.stdout.close()
                    await asyncio.to_thread(node.start)
            await asyncio.sleep(POLL_S)

    def kill(self, node):
        self.killed.append(node)
        node.process.send_signal(signal.SIGKILL)

    async def restart_redis(self):
        await asyncio.to_thread(self.redis.kill)
        await asyncio.sleep(1)
        await asyncio.to_thread(self.redis.start)

    def end(self):
        for node in self.nodes:
            if node.process is not None and node.process.poll() is None:
                node.process.kill()
                node.process.wait(10)
            node.socket.close()
        self.redis.kill()


async def rolling_restart(fleet, drain_seconds, *options):
    """Starts the script; the process, with its output to be read."""
    return await asyncio.create_subprocess_exec(
        str(world.ROOT / "scripts/rolling-restart"), "--redis", fleet.redis.url,
        "--drain-seconds", str(drain_seconds), "--restart", fleet.restart_command(), *options,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
