"""A client in the words of the protocol, over someone else's WebSocket library.

The `websockets` library runs in one background thread; tests stay plain sequential code. Every
receive is bounded. Messages are judged by the library: a frame that breaks the RFC fails the test.
"""

import asyncio
import itertools
import json
import threading
import time

import websockets
from websockets.exceptions import ConnectionClosed

from world import WAIT


class _Loop:
    """The background event loop, made on first use."""

    def __init__(self):
        self.loop = None

    def run(self, coroutine, timeout):
        if self.loop is None:
            self.loop = asyncio.new_event_loop()
            threading.Thread(target=self.loop.run_forever, daemon=True).start()
        future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        try:
            return future.result(timeout)
        except BaseException:
            future.cancel()
            raise


LOOP = _Loop()


class Closed(Exception):
    """The server closed the connection."""

    def __init__(self, code, reason):
        super().__init__(f"closed with {code} {reason!r}")
        self.code = code
        self.reason = reason


class Client:
    def __init__(self, url, **options):
        options.setdefault("compression", None)
        options.setdefault("max_size", None)
        options.setdefault("max_queue", None)
        options.setdefault("ping_interval", None)
        options.setdefault("close_timeout", WAIT)
        self.ids = itertools.count(1)
        self.hello = None
        self.pending = []  # items of pushes read but not yet asked for
        self.others = []  # messages that wait_items met on its way
        self.ws = LOOP.run(self._connect(url, options), WAIT)

    @staticmethod
    async def _connect(url, options):
        return await websockets.connect(url, **options)

    # --- text ------------------------------------------------------------------------------

    def send_text(self, text):
        LOOP.run(self.ws.send(text), WAIT)

    def recv_text(self, timeout=None):
        """The next message, as text or bytes. Raises Closed, or TimeoutError."""
        timeout = WAIT if timeout is None else timeout
        try:
            return LOOP.run(asyncio.wait_for(self.ws.recv(), timeout), timeout + WAIT)
        except ConnectionClosed as end:
            code = end.rcvd.code if end.rcvd else 1006
            raise Closed(code, end.rcvd.reason if end.rcvd else "") from None
        except asyncio.TimeoutError:
            raise TimeoutError("nothing received") from None

    def protocol_ping(self, payload=b"", timeout=None):
        async def ping():
            waiter = await self.ws.ping(payload)
            await asyncio.wait_for(waiter, timeout or WAIT)
        LOOP.run(ping(), (timeout or WAIT) + 1)

    def close(self):
        if self.ws is not None:
            try:
                LOOP.run(self.ws.close(), WAIT + 1)
            except ConnectionClosed:
                pass  # its node has just ended without a word
            finally:
                self.ws = None

    def is_open(self):
        return self.ws is not None and self.ws.open

    # --- protocol --------------------------------------------------------------------------

    def send(self, **members):
        self.send_text(json.dumps(members))

    def recv(self, timeout=None):
        message = json.loads(self.recv_text(timeout))
        assert isinstance(message, dict) and "action" in message, message
        return message

    def expect(self, action, timeout=None):
        """The very next message, which must be of that action."""
        message = self.recv(timeout)
        assert message["action"] == action, message
        return message

    def wait_for(self, action, timeout=None, **members):
        """Reads until a message of that action with these members; the others are kept."""
        deadline = time.monotonic() + (WAIT if timeout is None else timeout)
        while True:
            message = self.recv(max(0.01, deadline - time.monotonic()))
            if message["action"] == "push":
                self.pending += message["items"]
            if message["action"] == action and members.items() <= message.items():
                return message
            if message["action"] != "push":
                self.others.append(message)

    def ask(self, action, **members):
        """Sends a command with an id and returns its single reply."""
        number = next(self.ids)
        self.send(action=action, id=number, **members)
        deadline = time.monotonic() + WAIT
        while True:
            message = self.recv(max(0.01, deadline - time.monotonic()))
            if message.get("id") == number:
                return message
            if message["action"] == "push":
                self.pending += message["items"]
            else:
                self.others.append(message)

    def subscribe(self, *channels, **members):
        ack = self.ask("subscribe", channels=list(channels), **members)
        assert ack["action"] == "ack", ack
        return ack

    def items(self, count, timeout=None):
        """The next count items, whatever pushes they come in. Other messages are kept."""
        deadline = time.monotonic() + (WAIT if timeout is None else timeout)
        while len(self.pending) < count:
            left = deadline - time.monotonic()
            try:
                message = self.recv(max(0.01, left))
            except TimeoutError:
                raise AssertionError(f"{len(self.pending)} items of {count}: "
                                     f"{self.pending[-3:]}") from None
            if message["action"] == "push":
                assert isinstance(message["items"], list) and message["items"], message
                self.pending += message["items"]
            else:
                self.others.append(message)
        taken, self.pending = self.pending[:count], self.pending[count:]
        return taken

    def item(self, timeout=None):
        return self.items(1, timeout)[0]

    def nothing_more(self):
        """Nothing is queued for us: the answer to a ping is the next message, and no item waits."""
        assert self.pending == []
        mark = f"nothing{next(self.ids)}"
        self.send(action="ping", echo=mark)
        message = self.recv()
        assert message["action"] == "pong" and message["echo"] == mark, message

    def closed(self, timeout=None):
        """Waits for the server to close; returns the code."""
        deadline = time.monotonic() + (WAIT if timeout is None else timeout)
        while True:
            try:
                message = json.loads(self.recv_text(max(0.01, deadline - time.monotonic())))
                self.others.append(message)
            except Closed as end:
                return end.code
