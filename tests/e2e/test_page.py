"""The live page in a real browser: with a node, and with a server that misbehaves on purpose."""

import asyncio
import http
import json
import threading

import pytest
import websockets

from browser import Browser
from world import ROOT, WAIT, eventually

pytestmark = pytest.mark.plain  # the browser is what is tried; the node does nothing new for it

PAGE_WAIT = 2 * WAIT  # a browser is not quick to start a page on a busy machine


@pytest.fixture(scope="module")
def started():
    browser = Browser()
    yield browser
    browser.close()


@pytest.fixture
def browser(started):
    started.open("about:blank")
    started.errors()  # of the test before
    yield started
    started.open("about:blank")


def open_page(browser, listen, query=""):
    browser.open(f"http://{listen}/{query}")
    expect(browser, "#connection", "open")


def expect(browser, css, text):
    eventually(lambda: browser.text(css) == text, PAGE_WAIT, f"{css} to be {text!r}", interval=0.05)


def cell(channel, field="price"):
    return f'tr[data-channel="{channel}"] [data-field={field}]'


# --- with a node ---------------------------------------------------------------------------------


def test_a_published_quote_changes_its_cell(browser, redis, node):
    open_page(browser, node.listen)
    expect(browser, "#node", node.id)
    expect(browser, "#feed", "ok")
    redis.wait_listeners("quote:TEST")
    redis.cli("PUBLISH", "tc:quote:TEST", '{"price":"1.23","volume":7}')
    expect(browser, cell("quote:TEST"), "1.23")
    redis.cli("PUBLISH", "tc:quote:TEST", '{"price":1.240,"volume":8}')
    expect(browser, cell("quote:TEST"), "1.240")  # a number keeps its digits
    expect(browser, cell("quote:TEST", "volume"), "8")
    expect(browser, cell("quote:TEST", "updates"), "2")
    assert browser.errors() == []


def test_the_whole_simulated_market_is_shown(browser, redis, node, ctl):
    open_page(browser, node.listen)
    redis.wait_listeners("quote:TEST")
    sim = ctl.start("sim", "--redis", redis.url, "--rate", "1000", "--trades", "0")
    expect(browser, "#channels", "200 of 201")  # all but quote:TEST
    eventually(lambda: int(browser.text("#updates")) > 0, PAGE_WAIT, "updates to be counted")
    assert browser.text(cell("quote:AAPL", "quote")).count(" / ") == 1
    assert browser.text(cell("quote:AAPL", "change")) != ""
    sim.terminate()
    sim.wait(WAIT)


def test_what_is_published_is_only_ever_text(browser, redis, node):
    mark = "<img src=x onerror=\"document.title='broken'\">"
    open_page(browser, node.listen, "?channels=quote:A,quote:B,quote:C,quote:__proto__")
    redis.publish("quote:A", json.dumps({"price": mark, "symbol": mark, "bid": mark}))
    redis.publish("quote:B", mark)
    redis.publish("quote:C", json.dumps({"text": mark}))
    redis.publish("quote:__proto__", '{"price":"1","__proto__":{"price":"2"}}')
    expect(browser, cell("quote:A"), mark)
    expect(browser, cell("quote:B"), mark)
    expect(browser, cell("quote:C"), json.dumps({"text": mark}, separators=(",", ":")))
    expect(browser, cell("quote:__proto__"), "1")
    redis("PUBLISH", "tc:admin", json.dumps({"cmd": "notice", "data": {"text": mark}}))
    eventually(lambda: (browser.text("#notices span") or "").endswith(mark), PAGE_WAIT, "a notice")
    assert browser.run("return document.images.length;") == 0
    assert browser.text("title") == f"tickcast {node.id}"


def test_channels_are_added_and_taken_away_by_keyboard(browser, redis, node):
    open_page(browser, node.listen, "?channels=quote:A%2Ctrade:x+y")
    expect(browser, "#channels", "0 of 2")
    browser.type("#box", "chat:lobby, x:y\ue007")
    expect(browser, "#message", "Rejected: x:y: unknown_namespace")
    redis.publish("chat:lobby", '{"price":"1"}')
    redis.publish("trade:x+y", '{"price":"2"}')  # a plus is no space
    expect(browser, cell("chat:lobby"), "1")
    expect(browser, cell("trade:x+y"), "2")
    browser.type("#box", "chat:lobby")
    browser.type("#remove", "\ue007")
    expect(browser, cell("chat:lobby"), None)
    eventually(lambda: node.metric("tickcast_subscriptions") == 2, what="one subscription less")


def test_feed_lost_and_healed_under_the_page(browser, redis, node):
    open_page(browser, node.listen, "?channels=quote:A")
    redis.publish("quote:A", '{"price":"1"}')
    expect(browser, cell("quote:A"), "1")
    redis.kill()
    expect(browser, "#feed", "suspect (redis_lost)")
    assert browser.text("#connection") == "open"
    redis.start()
    expect(browser, "#feed", "ok")
    redis.publish("quote:A", '{"price":"2"}')
    expect(browser, cell("quote:A"), "2")
    assert node.metric("tickcast_connections_opened_total") == 1


def test_a_restarted_node_is_found_again(browser, redis, node):
    open_page(browser, node.listen, "?channels=quote:A")
    redis.publish("quote:A", '{"price":"1"}')
    expect(browser, cell("quote:A"), "1")
    node.stop()
    node.start().wait_ready()
    redis.publish("quote:A", '{"price":"2"}')  # a new numbering, from 1
    expect(browser, cell("quote:A"), "2")
    expect(browser, "#connection", "open")


# --- with a server that says whatever a test wants ------------------------------------------------


class Standin:
    """Serves the page's file and a WebSocket that sends only what it is told to."""

    def __init__(self):
        self.page = (ROOT / "src/surface/page.html").read_bytes()
        self.sockets = []  # every connection ever made
        self.received = []
        self.heartbeat_ms = 15000
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.server = self._run(self._serve())
        host, port = self.server.sockets[0].getsockname()
        self.listen = f"{host}:{port}"

    async def _serve(self):
        return await websockets.serve(self._on_client, "127.0.0.1", 0, process_request=self._get,
                                      subprotocols=["tickcast.v1+json"], ping_interval=None,
                                      close_timeout=1)

    def _run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(WAIT)

    async def _get(self, path, _headers):
        if path == "/ws":
            return None
        return http.HTTPStatus.OK, [("Content-Type", "text/html; charset=utf-8")], self.page

    async def _on_client(self, ws, _path):
        await ws.send(json.dumps({
            "action": "hello", "version": "1", "node": "standin", "conn": "standin-1",
            "time": 1, "heartbeat_ms": self.heartbeat_ms, "ping_ms": 25000, "feed": "ok",
            "limits": {"channels": 3000, "message_bytes": 65536, "commands_per_s": 50}}))
        self.sockets.append(ws)
        async for text in ws:
            self.received.append(json.loads(text))

    def send(self, **message):
        self._run(self.sockets[-1].send(json.dumps(message)))

    def push(self, **item):
        self.send(action="push", items=[{"channel": "quote:A", "ts": 1, **item}])

    def end(self, code):
        self._run(self.sockets[-1].close(code, "told to"))

    def wait_connections(self, count):
        eventually(lambda: len(self.sockets) >= count, PAGE_WAIT, f"{count} connections")

    async def _end(self):
        # Not the library's close(): it waits for sockets that a browser opened to spare.
        self.server.server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def close(self):
        self._run(self._end())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(WAIT)
        self.loop.close()


@pytest.fixture
def standin(browser):
    server = Standin()
    open_page(browser, server.listen, "?channels=quote:A")
    browser.run("""
        window.states = [];
        const e = document.querySelector('#connection');
        new MutationObserver(() => states.push(e.textContent)).observe(e, {childList: true});""")
    yield server
    browser.open("about:blank")
    server.close()


def waits(browser, code, count=1):
    """How many seconds the page said that it would wait, each time it was closed with this code."""
    def found():
        texts = browser.run("return window.states;")
        return [float(t.split()[1]) for t in texts if t.startswith("waiting ") and f"({code}" in t]

    eventually(lambda: len(found()) >= count, PAGE_WAIT, f"{count} closes with {code}")
    return found()


# What arrives, and what is shown after it.
RULE = [
    ({"seq": 5, "epoch": "a", "data": {"price": "1"}}, "1"),
    ({"seq": 5, "data": {"price": "2"}}, "1"),  # not larger
    ({"seq": 4, "data": {"price": "2"}}, "1"),
    ({"seq": 6, "data": {"price": "3"}}, "3"),
    ({"plain": True, "data": {"price": "4"}}, "4"),  # shown, no part of the sequence
    ({"seq": 6, "data": {"price": "5"}}, "4"),
    ({"seq": 7, "data": {"price": "6"}}, "6"),
    ({"seq": 1, "epoch": "b", "data": {"price": "7"}}, "7"),  # another epoch
    ({"seq": 9, "data": {"price": "8"}}, "8"),
    ({"seq": 2, "epoch": "b", "snap": True, "data": {"price": "9"}}, "9"),  # replaces
    ({"seq": 3, "cleared": True}, "ended"),
    ({"seq": 4, "data": {"a": 1}}, '{"a":1}'),
    ({"seq": 5, "data": {"price": "10"}}, "10"),
]


def test_the_clients_whole_rule(browser, standin):
    for number, (item, shown) in enumerate(RULE):
        standin.push(**item)
        standin.send(action="notice", data=number)  # comes behind the item
        eventually(lambda: (browser.text("#notices span") or "").endswith(f"  {number}"),
                   PAGE_WAIT, "the notice")
        expect(browser, cell("quote:A"), shown)


def test_members_and_actions_that_it_does_not_know_are_ignored(browser, standin):
    standin.send(action="constructor", items=3)
    standin.send(action="later", x=1)
    standin.push(seq=1, epoch="a", data={"price": "1"}, later=True)
    expect(browser, cell("quote:A"), "1")
    assert browser.errors() == []


def test_a_40xx_is_not_tried_again(browser, standin):
    standin.end(4005)
    expect(browser, "#connection", "closed (4005 told to)")
    assert len(standin.sockets) == 1
    browser.click("#again")  # but by hand
    standin.wait_connections(2)
    expect(browser, "#connection", "open")


def test_a_41xx_and_anything_else_backs_off(browser, standin):
    for number, code in enumerate((4101, 1001, 4102)):
        standin.end(code)
        most = 0.5 * 2 ** number
        wait = waits(browser, code)[0]
        assert most / 2 - 0.06 <= wait <= most + 0.06, (code, wait)  # shown with one digit
        standin.wait_connections(number + 2)


def test_a_42xx_is_followed_at_once_but_not_in_a_loop(browser, standin):
    standin.end(4200)
    assert waits(browser, 4200) == [0.0]
    standin.wait_connections(2)
    standin.end(4200)
    assert waits(browser, 4200, 2)[1] > 0.1
    standin.wait_connections(3)


def test_a_drain_is_followed_when_the_node_said(browser, standin):
    standin.send(action="drain", reconnect_in_ms=3000)
    expect(browser, "#message",
           "The node is draining and will hand this client to another one.")
    standin.end(4200)
    assert 0 < waits(browser, 4200)[0] <= 3.0
    standin.wait_connections(2)


@pytest.mark.limit(60)
def test_a_silent_node_is_asked_and_then_left(browser, standin):
    standin.heartbeat_ms = 300
    standin.end(4200)
    standin.wait_connections(2)
    eventually(lambda: {"action": "ping"} in standin.received, PAGE_WAIT, "a ping")
    standin.wait_connections(3)  # the second is still open on this side
    assert waits(browser, 1006)[0] > 0.1
