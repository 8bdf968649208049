"""A WebSocket client that is cheap enough for hundreds in one process: RFC 6455 over an asyncio
Protocol, with permessage-deflate without context takeover, as nodes speak it.

What breaks the RFC is a ValueError that ends the connection and is told to the owner as a fault.
"""

import asyncio
import base64
import os
import socket
import struct
import subprocess
import zlib

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
WIDE_BYTES = 1 << 20
LOST = 1006  # no close frame was seen
TAIL = b"\x00\x00\xff\xff"


class Refused(Exception):
    def __init__(self, status, head):
        super().__init__(f"refused with {status}")
        self.status = status
        told = [line.split(":")[1] for line in head if line.lower().startswith("retry-after:")]
        self.retry_after_s = int(told[0]) if told else None


def _mask(payload, key):
    if not payload:
        return b""
    pad = (key * (len(payload) // 4 + 1))[:len(payload)]
    size = len(payload)
    return (int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")).to_bytes(size, "big")


class Link(asyncio.Protocol):
    """on_text(str), on_end(code), on_broken(text) are called from the loop."""

    def __init__(self, on_text, on_end, on_broken):
        self.on_text = on_text
        self.on_end = on_end
        self.on_broken = on_broken
        self.buffer = bytearray()
        self.transport = None
        self.is_open = False
        self.is_ended = False
        self.code = LOST
        self.deflate = False
        self.is_paused = False
        self.upgraded = asyncio.get_running_loop().create_future()
        self.heard_at = asyncio.get_running_loop().time()

    async def open(self, host, port, path, deflate=False, receive_bytes=None, timeout=10):
        loop = asyncio.get_running_loop()
        sock = socket.socket()
        sock.setblocking(False)
        if receive_bytes:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        try:
            await asyncio.wait_for(loop.sock_connect(sock, (host, port)), timeout)
            await loop.create_connection(lambda: self, sock=sock)
        except BaseException:
            sock.close()
            raise
        extension = "Sec-WebSocket-Extensions: permessage-deflate\r\n" if deflate else ""
        key = base64.b64encode(os.urandom(16)).decode()
        self.transport.write(
            f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n{extension}"
            f"Sec-WebSocket-Key: {key}\r\n\r\n".encode())
        try:
            await asyncio.wait_for(asyncio.shield(self.upgraded), timeout)
        except BaseException:
            self.abort()
            raise

    # --- asyncio ---------------------------------------------------------------------------------

    def connection_made(self, transport):
        self.transport = transport

    def connection_lost(self, _error):
        if not self.upgraded.done():
            self.upgraded.set_exception(ConnectionResetError("closed before the 101"))
            self.upgraded.exception()
        was_open, self.is_open = self.is_open, False
        if was_open and not self.is_ended:
            self.is_ended = True
            self.on_end(self.code)

    def data_received(self, data):
        self.heard_at = asyncio.get_running_loop().time()
        self.buffer += data
        try:
            if not self.is_open and not self._read_head():
                return
            self._read_frames()
        except Exception as error:  # the owner must hear of it, whatever it is
            self.on_broken(f"{type(error).__name__}: {error}")
            self.abort()

    def _read_head(self):
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = bytes(self.buffer[:end]).decode("latin-1").split("\r\n")
        del self.buffer[:end + 4]
        status = int(head[0].split()[1])
        if self.upgraded.done():
            return False
        if status != 101:
            self.upgraded.set_exception(Refused(status, head))
            self.upgraded.exception()
            return False
        self.deflate = any(line.lower().startswith("sec-websocket-extensions:") for line in head)
        self.is_open = True
        self.upgraded.set_result(None)
        return True

    def _read_frames(self):
        data, at = bytes(self.buffer), 0
        while len(data) - at >= 2:
            size, body = data[at + 1], at + 2
            if size & 0x80:
                raise ValueError("a masked frame from a server")
            if size == 126:
                if len(data) - at < 4:
                    break
                size, body = struct.unpack_from(">H", data, at + 2)[0], at + 4
            elif size == 127:
                if len(data) - at < 10:
                    break
                size, body = struct.unpack_from(">Q", data, at + 2)[0], at + 10
            if len(data) - body < size:
                break
            first, payload = data[at], data[body:body + size]
            at = body + size
            self._on_frame(first, payload)
        del self.buffer[:at]

    def _on_frame(self, first, payload):
        opcode = first & 0x0F
        if not first & 0x80 or first & 0x30:
            raise ValueError(f"frame byte {first:#x}")
        if opcode == TEXT:
            if first & 0x40:
                if not self.deflate:
                    raise ValueError("compressed though it was not agreed")
                payload = zlib.decompressobj(-15).decompress(payload + TAIL)
            self.on_text(payload.decode())
        elif opcode == PING:
            self._send(PONG, payload)
        elif opcode == CLOSE:
            self.code = struct.unpack(">H", payload[:2])[0] if payload else 1005
            self._send(CLOSE, payload[:2])
            self.transport.close()
        elif opcode != PONG:
            raise ValueError(f"opcode {opcode}")

    # --- the owner's side ------------------------------------------------------------------------

    def _send(self, opcode, payload):
        if self.transport is None or self.transport.is_closing():
            return
        key = os.urandom(4)
        size = len(payload)
        head = bytes((0x80 | opcode, 0x80 | size)) if size < 126 else \
            bytes((0x80 | opcode, 0x80 | 126)) + struct.pack(">H", size)
        self.transport.write(head + key + _mask(payload, key))

    def send(self, text):
        self._send(TEXT, text.encode())

    def pause(self):
        if self.transport is not None and not self.transport.is_closing() and not self.is_paused:
            self.is_paused = True
            self.transport.pause_reading()

    def resume(self):
        if self.is_paused:
            self.is_paused = False
            self.heard_at = asyncio.get_running_loop().time()
            if not self.transport.is_closing():
                self.transport.resume_reading()

    def close(self, code=1000):
        """A polite end; on_end is not called."""
        self.is_ended = True
        self._send(CLOSE, struct.pack(">H", code))
        if self.transport is not None:
            self.transport.close()

    def widen(self):
        """Gives the socket room, if it had little."""
        if self.transport is not None and not self.transport.is_closing():
            sock = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WIDE_BYTES)

    def describe(self):
        """The state of the socket, for a fault that is about silence."""
        silent = asyncio.get_running_loop().time() - self.heard_at
        try:
            port = self.transport.get_extra_info("sockname")[1]
            sockets = subprocess.run(["ss", "-tnoi", f"sport = :{port} or dport = :{port}"],
                                     capture_output=True, text=True, timeout=5, check=False).stdout
        except (OSError, TypeError, subprocess.SubprocessError) as error:
            sockets = str(error)
        return [f"silent for {silent:.1f} s, paused {self.is_paused}, "
                f"ended {self.is_ended}, {len(self.buffer)} bytes of a message",
                *sockets.splitlines()]

    def abort(self):
        """The socket is gone at once; on_end is not called."""
        self.is_ended = True
        if self.transport is not None:
            self.transport.abort()
