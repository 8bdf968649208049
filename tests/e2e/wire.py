"""A socket that can break every rule: HTTP by hand and WebSocket frames bit by bit."""

import base64
import collections
import hashlib
import os
import socket
import struct
import time

from world import WAIT

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

Frame = collections.namedtuple("Frame", "fin rsv opcode payload")


def mask_bytes(payload, key):
    if not payload:
        return b""
    stream = (key * (len(payload) // 4 + 1))[:len(payload)]
    size = len(payload)
    return (int.from_bytes(payload, "big") ^ int.from_bytes(stream, "big")).to_bytes(size, "big")


def header(opcode, size, fin=True, rsv=0, masked=True, form=None):
    """form: 7, 16 or 64 to use a length form that is not the shortest."""
    first = (0x80 if fin else 0) | (rsv << 4) | opcode
    flag = 0x80 if masked else 0
    form = form or (7 if size < 126 else 16 if size < 65536 else 64)
    if form == 7:
        return struct.pack("!BB", first, flag | size)
    if form == 16:
        return struct.pack("!BBH", first, flag | 126, size)
    return struct.pack("!BBQ", first, flag | 127, size)


def frame(opcode, payload=b"", fin=True, rsv=0, masked=True, form=None, key=None):
    if isinstance(payload, str):
        payload = payload.encode()
    head = header(opcode, len(payload), fin, rsv, masked, form)
    if not masked:
        return head + payload
    key = os.urandom(4) if key is None else key
    return head + key + mask_bytes(payload, key)


def close_frame(code=None, reason=b""):
    return frame(CLOSE, b"" if code is None else struct.pack("!H", code) + reason)


class Wire:
    def __init__(self, node, receive_buffer=None, source=None):
        self.sock = socket.socket()
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if source:
            self.sock.bind((source, 0))
        self.sock.settimeout(WAIT)
        self.sock.connect((node.host, node.port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.node = node
        self.buffer = b""
        self.headers = {}

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # --- bytes -----------------------------------------------------------------------------

    def send(self, data, chunk=None):
        """chunk: bytes per segment."""
        if not chunk:
            self.sock.sendall(data)
            return
        for at in range(0, len(data), chunk):
            self.sock.sendall(data[at:at + chunk])

    def try_send(self, data):
        """For a peer that may have closed already."""
        try:
            self.sock.sendall(data)
        except OSError:
            pass

    def _more(self):
        try:
            data = self.sock.recv(1 << 20)
        except ConnectionResetError:
            data = b""
        self.buffer += data
        return bool(data)

    def take(self, size):
        while len(self.buffer) < size:
            if not self._more():
                raise EOFError(f"end of stream, {len(self.buffer)} bytes left")
        taken, self.buffer = self.buffer[:size], self.buffer[size:]
        return taken

    def read_to_end(self, timeout=None):
        """Everything until the peer closes; fails when it does not in time."""
        deadline = time.monotonic() + (WAIT if timeout is None else timeout)
        try:
            while True:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError
                self.sock.settimeout(left)
                if not self._more():
                    break
        except (TimeoutError, socket.timeout):
            raise AssertionError(f"not closed; received {self.buffer[-200:]!r}") from None
        finally:
            self.sock.settimeout(WAIT)
        taken, self.buffer = self.buffer, b""
        return taken

    # --- HTTP ------------------------------------------------------------------------------

    def read_head(self):
        while b"\r\n\r\n" not in self.buffer:
            if not self._more():
                raise EOFError(f"no HTTP head but {self.buffer!r}")
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        lines = head.decode("latin-1").split("\r\n")
        self.headers = {}
        for line in lines[1:]:
            name, value = line.split(":", 1)
            self.headers[name.strip().lower()] = value.strip()
        version, status = lines[0].split(" ")[:2]
        assert version == "HTTP/1.1", lines[0]
        return int(status)

    def request(self, path="/ws", method="GET", key=None, omit=(), version="HTTP/1.1", **headers):
        """The bytes of an upgrade request. Header names with _ for -; None leaves one out."""
        fields = {
            "Host": f"{self.node.host}:{self.node.port}",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": key or "dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Version": "13",
        }
        for name, value in headers.items():
            fields[name.replace("_", "-")] = value
        lines = [f"{method} {path} {version}"]
        lines += [f"{k}: {v}" for k, v in fields.items() if v is not None and k not in omit]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def upgrade(self, path="/ws", then=b"", **headers):
        """Upgrades and checks the 101. then: bytes sent in the same segment."""
        key = base64.b64encode(os.urandom(16)).decode()
        self.send(self.request(path, key=key, **headers) + then)
        status = self.read_head()
        assert status == 101, (status, self.headers, self.buffer)
        assert self.headers["upgrade"].lower() == "websocket"
        assert "upgrade" in self.headers["connection"].lower()
        accept = base64.b64encode(hashlib.sha1(key.encode() + GUID).digest()).decode()
        assert self.headers["sec-websocket-accept"] == accept
        return self

    # --- frames ----------------------------------------------------------------------------

    def send_frame(self, opcode, payload=b"", **options):
        self.send(frame(opcode, payload, **options))

    def recv_frame(self):
        first, second = self.take(2)
        assert not second & 0x80, "a server must not mask"
        size = second & 0x7F
        if size == 126:
            size = struct.unpack("!H", self.take(2))[0]
            assert size >= 126, "not the shortest length form"
        elif size == 127:
            size = struct.unpack("!Q", self.take(8))[0]
            assert size >= 65536, "not the shortest length form"
        opcode = first & 0x0F
        assert opcode < 8 or (size <= 125 and first & 0x80), "illegal control frame"
        return Frame(bool(first & 0x80), first >> 4 & 7, opcode, self.take(size))

    def expect(self, opcode, payload):
        """The next frame, unfragmented and uncompressed."""
        if isinstance(payload, str):
            payload = payload.encode()
        got = self.recv_frame()
        assert (got.fin, got.rsv, got.opcode) == (True, 0, opcode), (got[:3], got.payload[:100])
        assert got.payload == payload, (len(got.payload), got.payload[:100], payload[:100])

    def expect_close(self, *codes, before=None):
        """Reads up to the close frame, which must carry one of codes (None: no code), then to the
        end. before: list that takes the data frames met on the way."""
        while True:
            got = self.recv_frame()
            if got.opcode == CLOSE:
                break
            assert before is not None, f"a frame instead of a close: {got}"
            before.append(got)
        code = struct.unpack("!H", got.payload[:2])[0] if got.payload else None
        got.payload[2:].decode()
        assert code in codes, (code, got.payload[2:])
        self.try_send(close_frame(code))
        rest = self.read_to_end()
        assert rest == b"", f"bytes behind the close frame: {rest!r}"
        return code
