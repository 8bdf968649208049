"""Fixtures: each test owns its world, runs under a time limit, and shows the logs when it fails."""

import os
import shutil
import signal
import subprocess
import tempfile

import pytest

import world as world_module
from client import Client
from fake_redis import FakeStore
from operator_tool import Operator
from wire import Wire
from world import SLOWER, World, eventually

# A job in the background of a shell script is started with SIGINT ignored, and hands that on to what
# it starts; a shell cannot even trap it then. Here it means what it means at a terminal.
signal.signal(signal.SIGINT, signal.default_int_handler)

LIMIT_S = 40  # for one test; a test that needs more says @pytest.mark.limit(seconds)
WORLDS = []  # those alive now, for their logs


def pytest_configure(config):
    config.addinivalue_line("markers", "limit(seconds): time limit of this test")
    config.addinivalue_line("markers", "plain: says nothing more under a sanitizer")


def pytest_make_parametrize_id(val):
    """Frames are masked with a key of their own in each process, which must agree on names."""
    if isinstance(val, bytes) and len(val) > 2:
        return f"{val[:2].hex()}-{len(val)}"
    return None


def pytest_collection_modifyitems(items):
    if not world_module.SANITIZER:
        return
    skip = pytest.mark.skip(reason=f"{world_module.SANITIZER} sanitizer distorts the figures")
    for item in items:
        if item.get_closest_marker("plain"):
            item.add_marker(skip)


def pytest_sessionstart(session):
    if session.config.option.collectonly:
        return
    for program in (world_module.TICKCAST, world_module.TICKCASTCTL):
        if not program.exists():
            pytest.exit(f"{program} is not there: run make first", 2)


class TimeLimit(Exception):
    pass


def _limited(item, seconds):
    def on_alarm(*_):
        raise TimeLimit(f"{item.nodeid} took longer than {seconds} s")

    signal.signal(signal.SIGALRM, on_alarm)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    mark = item.get_closest_marker("limit")
    yield from _limited(item, int((mark.args[0] if mark else LIMIT_S) * SLOWER))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_setup(item):
    yield from _limited(item, LIMIT_S * SLOWER)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_teardown(item):
    yield from _limited(item, LIMIT_S * SLOWER)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for world in WORLDS:
            for node in world.nodes:
                report.sections.append((f"log of {node.name}", node.log()[-6000:]))


def _world():
    # Not pytest's tmp_path: a unix socket's path has to be short.
    directory = tempfile.mkdtemp(prefix="tc-")
    world = World(directory)
    WORLDS.append(world)
    try:
        yield world
        world.close()
    finally:
        for node in world.nodes:
            if node.process is not None and node.process.poll() is None:
                node.process.kill()
                node.process.wait(10)
        for server in world.redises:
            server.kill()
        WORLDS.remove(world)
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def world():
    """Servers for one test."""
    yield from _world()


@pytest.fixture(scope="module")
def module_world():
    """Servers shared by the tests of one file, none of which may disturb them."""
    yield from _world()


@pytest.fixture
def redis(world):
    return world.redis()


@pytest.fixture
def store():
    """What a node takes for Redis, and does as the test says."""
    fake = FakeStore()
    yield fake
    fake.lets_through.set()
    fake.close()


@pytest.fixture
def node(world, redis):
    """A node with the shipped namespaces, alone on its Redis."""
    return world.node(redis)


@pytest.fixture
def node_of(world, redis):
    """node_of(settings) -> a node with these, ready."""
    return lambda settings: world.node(redis, settings=settings)


@pytest.fixture
def operator(redis):
    return Operator(redis)


@pytest.fixture
def connect():
    """connect(node, **query) -> Client that has read its hello. raw=True: a raw client."""
    opened = []

    def make(node, raw=False, path="/ws", options=None, **query):
        if raw:
            query["format"] = "raw"
            before = node.metric("tickcast_subscriptions")
        client = Client(node.url(path, **query), **(options or {}))
        opened.append(client)
        if not raw and path == "/ws":
            client.hello = client.expect("hello")
        else:
            client.protocol_ping()
        if raw and "channels" in query:  # nothing is said to it, so the node must be asked
            eventually(lambda: node.metric("tickcast_subscriptions") > before,
                       what="the raw client's subscription")
        return client

    yield make
    for client in opened:
        client.close()


@pytest.fixture
def wire():
    """wire(node) -> Wire"""
    opened = []

    def make(node, **options):
        opened.append(Wire(node, **options))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


@pytest.fixture
def ctl(world):
    """ctl(*arguments) runs tickcastctl to its end; ctl.start(...) leaves it running."""
    running = []

    def run(*args, timeout=20, check=True, **options):
        command = [str(world_module.TICKCASTCTL), *map(str, args)]
        return subprocess.run(command, capture_output=True, text=True, check=check,
                              timeout=timeout * SLOWER, stdin=subprocess.DEVNULL, **options)

    def start(*args, **options):
        command = [str(world_module.TICKCASTCTL), *map(str, args)]
        options.setdefault("stdout", subprocess.PIPE)
        process = subprocess.Popen(command, stderr=subprocess.PIPE, **options)
        running.append(process)
        return process

    run.start = start
    yield run
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()


os.environ.pop("http_proxy", None)
