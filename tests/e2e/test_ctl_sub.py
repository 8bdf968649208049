"""tickcastctl sub, against servers that the tests play themselves."""

import asyncio
import contextlib
import http
import json
import socket
import subprocess
import threading

import pytest
import websockets

from world import WAIT, eventually


class FakeServer:
    """A WebSocket server of someone else's making that plays a script to one client."""

    def __init__(self, script, **options):
        self.script, self.heard, self.request = script, [], None
        options.setdefault("subprotocols", ["tickcast.v1+json", "tickcast.v1+raw"])
        self.options = options
        self.ready = threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self.thread.start()
        assert self.ready.wait(WAIT)

    async def _serve(self):
        self.loop, self.end = asyncio.get_running_loop(), asyncio.Event()
        async with websockets.serve(self._play, "127.0.0.1", 0, **self.options) as server:
            self.port = server.sockets[0].getsockname()[1]
            self.ready.set()
            await self.end.wait()

    async def _play(self, ws, path):
        self.ws, self.path = ws, path
        await self.script(self, ws)

    async def command(self, ws):
        self.heard.append(json.loads(await ws.recv()))
        return self.heard[-1]

    @property
    def url(self):
        return f"ws://127.0.0.1:{self.port}"

    def close(self):
        self.loop.call_soon_threadsafe(self.end.set)
        self.thread.join(WAIT)


@pytest.fixture
def serve():
    made = []

    def make(script, **options):
        made.append(FakeServer(script, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def push(*items):
    return '{"action":"push","items":[' + ",".join(items) + "]}"


ITEMS = ['{"channel":"quote:A","seq":1,"ts":5,"data":{"price":1.10,"t":"},{"}}',
         '{"channel":"quote:A","seq":2,"ts":6,"data":[1,"\\"",{}]}',
         '{"channel":"quote:B","seq":1,"ts":7,"data":null}']


async def play_items(server, ws):
    await ws.send('{"action":"hello","version":"1"}')
    command = await server.command(ws)
    await ws.send(json.dumps({"action": "ack", "id": command["id"], "accepted": 2, "rejected": [
        {"channel": "x:y", "code": 404, "name": "unknown_namespace"}]}))
    await ws.send('{"action":"state","feed":"suspect"}')
    await ws.send('{"action":"of a later version"}')
    await ws.send(push(*ITEMS[:2]))
    await (await ws.ping())
    await ws.send(push(ITEMS[2].replace(",", ",\r\n")))
    await ws.wait_closed()


def test_sub_prints_items_as_they_were_sent(ctl, serve):
    server = serve(play_items)
    done = ctl("sub", server.url, "quote:A", "x:y", "quote:B", "--count", 3)
    assert done.stdout.splitlines() == ITEMS[:2] + [ITEMS[2].replace(",", ",  ")]
    assert server.heard == [{"action": "subscribe", "id": 1,
                             "channels": ["quote:A", "x:y", "quote:B"]}]
    assert 'rejected: {"channel": "x:y"' in done.stderr
    assert '"feed":"suspect"' in done.stderr and "later version" not in done.stderr
    assert server.path == "/ws"
    eventually(lambda: server.ws.close_code == 1000, what="a goodbye")


def test_sub_passes_its_options_on(ctl, serve):
    server = serve(play_items)
    ctl("sub", server.url, "a:b", "--count", 1, "--mode", "all", "--no-snapshot")
    assert server.heard[0]["mode"] == "all" and server.heard[0]["snapshot"] is False


@pytest.mark.parametrize("compression", ["deflate", None])
def test_sub_compressed(ctl, serve, compression):
    big = '{"channel":"quote:A","seq":1,"ts":5,"data":"' + "ab" * 200000 + '"}'

    async def script(server, ws):
        await server.command(ws)
        server.extensions = [e.name for e in ws.extensions]
        await ws.send(push(big))
        await ws.send([push(ITEMS[0])[:10], push(ITEMS[0])[10:]])
        await ws.wait_closed()

    server = serve(script, compression=compression)
    done = ctl("sub", "--compress", server.url, "quote:A", "--count", 2)
    assert done.stdout == big + "\n" + ITEMS[0] + "\n"
    assert server.extensions == (["permessage-deflate"] if compression else [])
    assert ("does not compress" in done.stderr) == (compression is None)


def test_sub_raw(ctl, serve):
    async def script(server, ws):
        await ws.send('{"price":1.10}')
        await ws.send("no JSON")
        await ws.wait_closed()

    server = serve(script)
    done = ctl("sub", "--raw", server.url + "/ws?token=a", "quote:A&B%", "quote:C", "--count", 2)
    assert done.stdout == '{"price":1.10}\nno JSON\n'
    assert server.path == "/ws?token=a&channels=quote:A%26B%25,quote:C"
    assert server.ws.subprotocol == "tickcast.v1+raw"


def test_sub_says_why_it_was_closed(ctl, serve):
    async def script(server, ws):
        await server.command(ws)
        await ws.close(4005, "kicked by é")

    done = ctl("sub", serve(script).url, "quote:A", check=False)
    assert done.returncode == 1 and "closed by the server: 4005 kicked by é" in done.stderr


def test_sub_ends_when_nothing_is_accepted(ctl, serve):
    async def script(server, ws):
        await server.command(ws)
        await ws.send('{"action":"ack","id":1,"accepted":0,"rejected":[{"name":"bad_channel"}]}')
        await ws.wait_closed()

    done = ctl("sub", serve(script).url, "nonsense", check=False)
    assert done.returncode == 1 and "bad_channel" in done.stderr
    assert "no channel was accepted" in done.stderr


def test_sub_times_out(ctl, serve):
    async def script(server, ws):
        await server.command(ws)
        await ws.send(push(ITEMS[0]))
        await ws.wait_closed()

    server = serve(script)
    done = ctl("sub", server.url, "quote:A", "--timeout", 0.4, "--count", 2, check=False)
    assert done.returncode == 1 and "1 of 2 items in time" in done.stderr
    assert ctl("sub", server.url, "quote:A", "--timeout", 0.4).stdout == ITEMS[0] + "\n"


def test_sub_is_line_buffered(ctl, serve):
    server = serve(play_items)
    process = ctl.start("sub", server.url, "quote:A")
    assert process.stdout.readline().decode() == ITEMS[0] + "\n"
    assert process.poll() is None


def test_sub_subscribes_in_bounded_commands(ctl, serve):
    async def script(server, ws):
        seen = 0
        while seen < 1000:
            seen += len((await server.command(ws))["channels"])
        await ws.send(push(ITEMS[0]))
        await ws.wait_closed()

    server = serve(script)
    channels = [f"quote:{'x' * 100}{n}" for n in range(1000)]
    ctl("sub", server.url, *channels, "--count", 1)
    assert [c for command in server.heard for c in command["channels"]] == channels
    assert 3 <= len(server.heard) < 10
    assert all(len(json.dumps(command)) < 40000 for command in server.heard)


def test_sub_reports_a_refused_upgrade(ctl, serve):
    async def refuse(path, headers):
        return http.HTTPStatus.SERVICE_UNAVAILABLE, {"Retry-After": "5"}, b'{"name":"draining"}'

    done = ctl("sub", serve(play_items, process_request=refuse).url, "a:b", check=False)
    assert done.returncode == 1
    assert "refused with 503 Service Unavailable" in done.stderr and "draining" in done.stderr


def test_sub_does_not_wait_behind_a_refusal_on_a_connection_that_stays(ctl):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process = ctl.start("sub", f"ws://127.0.0.1:{listener.getsockname()[1]}", "a:b")
        peer, _ = listener.accept()
        with peer:
            assert peer.recv(10).startswith(b"GET /ws")
            peer.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 6\r\n\r\nnobody")
            _, err = process.communicate(timeout=4)
    assert process.returncode == 1 and b"refused with 404 Not Found: nobody" in err


def test_sub_when_the_server_hangs_up(ctl):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process = ctl.start("sub", f"ws://127.0.0.1:{listener.getsockname()[1]}", "a:b")
        peer, _ = listener.accept()
        with peer:
            assert peer.recv(10).startswith(b"GET /ws")
            peer.sendall(b"HTTP/1.1 101 Sw")
    _, err = process.communicate(timeout=WAIT)
    assert process.returncode == 1 and b"ended before the answer" in err


def test_sub_wants_our_subprotocol(ctl, serve):
    done = ctl("sub", serve(play_items, subprotocols=None).url, "a:b", check=False)
    assert done.returncode == 1 and "subprotocol" in done.stderr


def test_sub_without_a_server(ctl):
    done = ctl("sub", "ws://127.0.0.1:1", "a:b", check=False)
    assert done.returncode == 1 and "Connection refused" in done.stderr


def test_sub_into_a_closed_pipe_ends(ctl, serve):
    async def script(server, ws):
        await server.command(ws)
        with contextlib.suppress(websockets.ConnectionClosed):
            while True:
                await ws.send(push(ITEMS[0]))

    process = ctl.start("sub", serve(script).url, "quote:A", stdout=subprocess.PIPE)
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(WAIT) == 1
    process.stdout = None
