"""A Redis that does what a test tells it to: up but wrong, slow at the worst moment, behind."""
import socket
import threading


def array(*elements):
    return b"*%d\r\n" % len(elements) + b"".join(elements)


def text(value):
    return b"$%d\r\n%s\r\n" % (len(value), value)


def bulk(*parts):
    return array(*map(text, parts))


class FakeRedis:
    """Confirms subscriptions and answers commands, but publishes only what the test tells it to."""

    def __init__(self, refuse=None):
        self.refuse = refuse  # a channel whose SUBSCRIBE is denied
        self.accepted = 0
        self.subscribers = []
        self.others = []  # connections that have not subscribed to anything
        self.confirmed = set()  # names that somebody has subscribed to
        self.is_closed = False  # to new connections
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            if self.is_closed:
                sock.close()
                continue
            self.accepted += 1
            self.others.append(sock)
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock):
        stream = sock.makefile("rb")
        try:
            while True:
                count = int(stream.readline()[1:])
                args = []
                for _ in range(count):
                    length = int(stream.readline()[1:])
                    args.append(stream.read(length + 2)[:-2])
                self._answer(sock, args)
        except (OSError, ValueError):
            pass
        for connections in (self.subscribers, self.others):
            if sock in connections:
                connections.remove(sock)

    def _answer(self, sock, args):
        if args[0].upper() in (b"SUBSCRIBE", b"PSUBSCRIBE"):
            self._subscribe(sock, args)
        else:
            sock.sendall(self.command(args))

    def command(self, args):
        answers = {b"CLIENT": b"+OK\r\n", b"PTTL": b":-1\r\n"}
        return answers.get(args[0].upper(), b":1\r\n")

    def _subscribe(self, sock, args):
        if self.refuse in args:
            sock.sendall(b"-NOPERM this user has no permissions to access that channel\r\n")
            return
        if sock not in self.subscribers:
            self.subscribers.append(sock)
            self.others.remove(sock)
        for n, name in enumerate(args[1:], 1):
            sock.sendall(array(text(args[0].lower()), text(name), b":%d\r\n" % n))
            self.confirmed.add(name)

    def publish(self, channel, payload):
        for sock in list(self.subscribers):
            try:
                sock.sendall(bulk(b"message", channel, payload))
            except OSError:
                pass

    def cut(self, sockets):
        for sock in list(sockets):
            sock.shutdown(socket.SHUT_RDWR)

    def close(self):
        self.listener.close()


class FakeStore(FakeRedis):
    """Sends canaries round, and keeps a value and a log for each channel. Answers to scripts can be
    held back (they wait for `lets_through`), and each passes `on_script` first."""

    def __init__(self):
        self.values = {}  # b"quote:A" -> (epoch, seq, data)
        self.logs = {}  # the same -> [(seq, data)], the oldest first
        self.page = 256  # entries of a log per answer
        self.clock = 1000  # number 5 was stored at 1005
        self.life_ms = -1  # of every value: for ever
        self.lets_through = threading.Event()
        self.lets_through.set()
        self.scripts = []  # (b"read" or b"renew", channel)
        self.renewed_anyhow = []  # of each renewal: is the epoch to be changed whatever is stored?
        self.on_script = lambda kind, channel: None  # bytes to answer with, or None
        super().__init__()

    def command(self, args):
        verb = args[0].upper()
        if verb == b"PUBLISH":
            self.publish(args[1], args[2])
        if verb == b"PTTL":
            return b":%d\r\n" % self.life_ms
        is_channel = verb == b"EVAL" and args[3].startswith(b"{")  # else it is the registry
        return self._script(args) if is_channel else super().command(args)

    def _script(self, args):
        kind = b"renew" if b"'HSET'" in args[1] else b"read"
        channel = args[3][len(b"{tc:"):-1]
        self.scripts.append((kind, channel))
        if kind == b"renew":
            self.renewed_anyhow.append(args[8] == b"1")
        self.lets_through.wait()
        answer = self.on_script(kind, channel)
        if answer is not None:
            return answer
        value = array(*[b"$-1\r\n"] * 4)
        if channel in self.values:
            epoch, seq, data = self.values[channel]
            value = bulk(epoch, b"%d" % seq, b"%d" % (self.clock + seq), data)
        if kind == b"renew":
            return value
        start = int(args[6].split(b"-")[0] or 2 ** 53)
        entries = [array(text(b"%d-0" % seq), bulk(b"ts", b"%d" % (self.clock + seq), b"data", data))
                   for seq, data in self.logs.get(channel, []) if seq >= start]
        return array(value, b":%d\r\n" % self.life_ms, array(*entries[:self.page]),
                     b":%d\r\n" % (len(entries) > self.page))

    def stamp(self, channel, epoch, seq, data=b"1"):
        """A publication as everybody hears it; what is stored stays as it is."""
        self.publish(b"tc:" + channel, b"@%s:%d:%d %s" % (epoch, seq, self.clock + seq, data))

    def renew_to(self, epoch, seq, if_anyhow=False):
        """From now on a renewal leaves this value; or only one whatever is stored."""
        def on_script(kind, channel):
            if kind == b"renew" and (self.renewed_anyhow[-1] or not if_anyhow):
                self.values[channel] = (epoch, seq, b"%d" % seq)

        self.on_script = on_script

    def waiting(self, count, kind=b"read"):
        return lambda: len([k for k, _ in self.scripts if k == kind]) >= count
