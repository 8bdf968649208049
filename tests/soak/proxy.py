"""A TCP proxy between one node and Redis that can misbehave as networks do.

    node ──up──> proxy ──> Redis        stall: stops reading, so that the sender's buffers fill
         <─down─                        delay: everything comes later, in order
                                        reset: both ends get a RST; half-close: one end gets a FIN
                                        refuse: what is asked of some channels is answered with an error
"""

import asyncio
import contextlib
import socket
import struct

import publisher

UP, DOWN = "up", "down"


# Asked in the place of what is refused, so that replies keep their order.
REFUSED = publisher.encode("EVAL", "return redis.error_reply('CLUSTERDOWN Hash slot not served')", 0)


class _Commands:
    """What a node sends, cut into commands."""

    def __init__(self):
        self.pending = b""

    def feed(self, data):
        """The commands that are whole now: [(arguments, bytes)]."""
        self.pending += data
        commands, at = [], 0
        while (found := self._one(at)) is not None:
            args, end = found
            commands.append((args, self.pending[at:end]))
            at = end
        self.pending = self.pending[at:]
        return commands

    def _number(self, at):
        end = self.pending.find(b"\r\n", at)
        return (int(self.pending[at + 1:end]), end + 2) if end >= 0 else None

    def _one(self, at):
        head = self._number(at) if at < len(self.pending) else None
        if head is None:
            return None
        count, at = head
        args = []
        for _ in range(count):
            size = self._number(at) if at < len(self.pending) else None
            if size is None or size[1] + size[0] + 2 > len(self.pending):
                return None
            args.append(self.pending[size[1]:size[1] + size[0]])
            at = size[1] + size[0] + 2
        return args, at


class _Pair:
    """One proxied connection."""

    def __init__(self, proxy, node_writer, redis_writer):
        self.proxy = proxy
        self.writers = {UP: redis_writer, DOWN: node_writer}
        self.tasks = []
        self.commands = _Commands()

    def _as_sent_on(self, data):
        return b"".join(REFUSED if self.proxy.refuses(args) else raw
                        for args, raw in self.commands.feed(data))

    async def pump(self, reader, way):
        writer = self.writers[way]
        with contextlib.suppress(OSError, RuntimeError, asyncio.CancelledError):
            while True:
                await self.proxy.open[way].wait()
                data = await reader.read(65536)
                await self.proxy.open[way].wait()
                if self.proxy.delay_s:
                    await asyncio.sleep(self.proxy.delay_s)
                if not data:
                    break
                writer.write(self._as_sent_on(data) if way == UP else data)
                await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()
        with contextlib.suppress(OSError):
            if all(task.done() or task is asyncio.current_task() for task in self.tasks):
                self.close()

    def close(self):
        for writer in self.writers.values():
            writer.close()
        self.proxy.pairs.discard(self)

    def reset(self):
        for writer in self.writers.values():
            sock = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        self.end()

    def end(self):
        for task in self.tasks:
            task.cancel()
        self.proxy.pairs.discard(self)

    def half_close(self, way):
        with contextlib.suppress(OSError, RuntimeError):
            self.writers[way].write_eof()


class Proxy:
    def __init__(self, port):
        self.to_port = port
        self.pairs = set()
        self.delay_s = 0
        self.refused = frozenset()  # keys
        self.open = {UP: asyncio.Event(), DOWN: asyncio.Event()}
        self.heal()

    async def start(self):
        self.server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    @property
    def url(self):
        return f"redis://127.0.0.1:{self.port}/0"

    async def _accept(self, reader, writer):
        try:
            to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self.to_port)
        except OSError:
            writer.transport.abort()
            return
        pair = _Pair(self, writer, to_writer)
        self.pairs.add(pair)
        pair.tasks = [asyncio.create_task(pair.pump(reader, UP)),
                      asyncio.create_task(pair.pump(to_reader, DOWN))]

    # --- misbehaviour ----------------------------------------------------------------------------

    def stall(self, ways=(UP, DOWN)):
        for way in ways:
            self.open[way].clear()

    def delay(self, seconds):
        self.delay_s = seconds

    def refuse(self, keys):
        self.refused = frozenset(keys)

    def refuses(self, args):
        return len(args) > 3 and args[0] == b"EVAL" and args[3] in self.refused

    def heal(self):
        self.delay_s = 0
        self.refused = frozenset()
        for event in self.open.values():
            event.set()

    def reset(self):
        for pair in list(self.pairs):
            pair.reset()

    def half_close(self, way):
        for pair in list(self.pairs):
            pair.half_close(way)

    async def stop(self):
        self.server.close()
        self.reset()
        await asyncio.sleep(0)
