"""A fleet that is not there: registry entries, /readyz and answers to admin commands, without nodes.

Each fake node has a number of clients and does what a test tells it to: it may refuse to drain,
never get ready, say odd things. A drained node's clients go to the others at once. One more HTTP
listener stands for the supervisor: GET /restart/<id> starts that node anew.
"""
import http.server
import json
import socket
import threading
import time

from world import RedisClient

ENTRY_MS = 6000
PERIOD_S = 0.05


class Listener(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, answer):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                status, body = answer(self.path)
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_):
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def address(self):
        return "127.0.0.1:%d" % self.server_address[1]


class FakeNode:
    def __init__(self, fleet, name, clients):
        self.fleet = fleet
        self.name = name
        self.clients = clients
        self.capacity = 1000
        self.state = "ready"
        self.lives = 1
        self.extra = {}  # fields of its entry that replace its own; None: left out
        self.refuses = None  # text of the error that it answers to drain with
        self.on_drain = None  # called first
        self.stays = 0  # clients that a drain does not get rid of
        self.gets_ready = True  # after a restart
        self.is_silent = False  # neither entry nor answer: dead
        self.listener = Listener(self._answer)

    def _answer(self, _path):
        if self.is_silent:
            return 500, ""
        if self.state == "ready":
            return 200, '{"status":"ready"}\n'
        return 503, '{"status":"not_ready","reason":"%s"}\n' % self.state

    def entry(self):
        fields = {"id": self.name, "address": self.listener.address, "ops": "127.0.0.1:1",
                  "version": "0.1.0", "started": 1780000000000 + self.lives, "state": self.state,
                  "clients": self.clients, "channels": 7, "in_per_s": 10, "out_per_s": 100,
                  "canary_ms": 1, "capacity": self.capacity}
        fields.update(self.extra)
        return [part for name, value in fields.items() if value is not None
                for part in (name, value)]

    def command(self, command):
        if command["cmd"] == "drain":
            if self.on_drain:
                self.on_drain()
            if self.refuses:
                return {"ok": False, "error": self.refuses}
            if self.state != "draining":
                self.fleet.log.append(("drain", self.name, command["seconds"]))
                self.state = "draining"
                self.fleet.move(self, self.stays)
            return {"ok": True, "affected": self.clients,
                    "state": "closing" if self.clients else "drained"}
        elif command["cmd"] == "undrain":
            self.fleet.log.append(("undrain", self.name))
            self.state = "ready"
        return {"ok": True, "affected": 0}

    def restart(self):
        self.fleet.log.append(("restart", self.name))
        self.fleet.move(self, 0)
        self.lives += 1
        self.state = "ready" if self.gets_ready else "starting"


class FakeFleet:
    def __init__(self, redis, clients=(5, 5, 5)):
        self.redis = redis
        self.log = []  # what the nodes were made to do, in order
        self.loses = 0  # clients that do not come back from each drain
        self.lock = threading.Lock()
        self.nodes = {f"n{i}": FakeNode(self, f"n{i}", count) for i, count in enumerate(clients, 1)}
        self.supervisor = Listener(self._supervise)
        self.ends = threading.Event()
        self.subscriber = None  # the socket that hears commands
        self.threads = [threading.Thread(target=self._keep_on, args=(what,), daemon=True)
                        for what in (self._register, self._obey)]
        for thread in self.threads:
            thread.start()

    def __getitem__(self, name):
        return self.nodes[name]

    def move(self, source, stays):
        with self.lock:
            going = max(0, source.clients - stays)
            source.clients -= going
            others = [n for n in self.nodes.values() if n.state == "ready" and n is not source]
            if others:
                others[0].clients += max(0, going - self.loses)

    def _supervise(self, path):
        node = self.nodes.get(path.removeprefix("/restart/"))
        if node is None:
            return 404, ""
        node.restart()
        return 200, ""

    def restart_command(self):
        return f"curl -fsS http://{self.supervisor.address}/restart/{{id}}"

    def _keep_on(self, what):
        """Redis may come and go."""
        while not self.ends.is_set():
            try:
                client = RedisClient(self.redis.port)
                try:
                    what(client)
                finally:
                    client.close()
            except OSError:
                time.sleep(PERIOD_S)

    def _register(self, client):
        while not self.ends.wait(PERIOD_S):
            for node in self.nodes.values():
                if node.is_silent:
                    continue
                key = f"tc:node:{node.name}"
                client.many([("MULTI",), ("DEL", key), ("HSET", key, *node.entry()),
                             ("PEXPIRE", key, ENTRY_MS),
                             ("ZADD", "tc:nodes", int(time.time() * 1000) + ENTRY_MS, node.name),
                             ("EXEC",)])

    def _obey(self, client):
        other = RedisClient(self.redis.port)
        client("SUBSCRIBE", "tc:admin")
        client.sock.settimeout(None)
        self.subscriber = client.sock
        while True:
            message = client._reply()
            command = json.loads(message[2])
            for node in self.nodes.values():
                if node.is_silent or command.get("node", node.name) != node.name:
                    continue
                reply = {"node": node.name, "cmd": command["cmd"], **node.command(command)}
                if "id" in command:
                    other("RPUSH", f"tc:admin:reply:{command['id']}",
                          json.dumps(reply, separators=(",", ":")))

    def close(self):
        self.ends.set()
        if self.subscriber is not None:
            try:
                self.subscriber.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for thread in self.threads:
            thread.join(5)
        for listener in [n.listener for n in self.nodes.values()] + [self.supervisor]:
            listener.shutdown()
            listener.server_close()
