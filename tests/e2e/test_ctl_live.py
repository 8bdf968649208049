"""tickcastctl and the demo, as a user runs them."""

import json
import os
import signal
import subprocess

import pytest

from world import ROOT, SANITIZER, SLOWER, eventually


def test_pub_and_sub(world, redis, ctl):
    node = world.node(redis)
    sub = ctl.start("sub", "--count", 2, node.url(), "quote:CTL")
    redis.wait_listeners("quote:CTL")
    for n in (1, 2):
        done = ctl("pub", "--redis", redis.url, "quote:CTL", json.dumps({"n": n}))
        assert done.returncode == 0
    out, _ = sub.communicate(timeout=10 * SLOWER)
    assert sub.returncode == 0
    assert b'{"n": 1}' in out and b'{"n": 2}' in out


def test_sub_raw(world, redis, ctl):
    node = world.node(redis)
    sub = ctl.start("sub", "--raw", "--count", 1, node.url(), "quote:CTL")
    redis.wait_listeners("quote:CTL")
    redis.publish("quote:CTL", '{"price":"1.10"}')
    out, _ = sub.communicate(timeout=10 * SLOWER)
    assert out == b'{"price":"1.10"}\n'


def test_sim_is_a_market(world, redis, ctl, connect):
    """Many symbols, random-walk prices between low and high, volume that only grows; the same
    again from the same seed."""
    node = world.node(redis)
    redis.prefix = ""
    runs = []
    for _ in range(2):
        subscriber = redis.client().__class__(redis.port)
        subscriber("PSUBSCRIBE", "tc:*:*")
        ctl("sim", "--redis", redis.url, "--symbols", 5, "--rate", 2000, "--seed", 42,
            "--count", 500, "--no-ts")
        seen = []
        while len(seen) < 500:
            kind, _, channel, payload = subscriber._reply()
            if kind == b"pmessage" and not channel.startswith((b"tc:canary", b"tc:node")):
                seen.append((channel, payload))
        subscriber.close()
        runs.append(seen)
    assert runs[0] == runs[1]
    quotes = [json.loads(p) for c, p in runs[0] if c.startswith(b"tc:quote:")]
    assert quotes and any(c.startswith(b"tc:trade:") for c, _ in runs[0])
    assert len({c for c, _ in runs[0] if c.startswith(b"tc:quote:")}) == 5
    for quote in quotes:
        assert float(quote["low"]) <= float(quote["open"]) <= float(quote["high"]), quote
    assert node.alive()


@pytest.mark.parametrize("args", [[], ["nonsense"], ["pub"], ["pub", "quote:A"], ["sub"],
                                  ["sim", "--symbols", "0"], ["sim", "--colour"],
                                  ["replay"], ["admin"]])
def test_misuse_of_ctl(ctl, args):
    done = ctl(*args, check=False)
    assert done.returncode == 2
    assert done.stderr.strip() and done.stdout == ""


@pytest.mark.parametrize("args", [["pub", "quote:A", "1"], ["admin", "{\"cmd\":\"ping\"}"]])
def test_ctl_without_redis_fails_and_says_so(ctl, args):
    done = ctl(args[0], "--redis", "redis://127.0.0.1:1", *args[1:], check=False)
    assert done.returncode == 1
    assert done.stderr.strip()


# --- the demo -------------------------------------------------------------------------------------

demo = pytest.mark.skipif(bool(SANITIZER), reason="the demo builds a plain program")


def children_of(pid):
    done = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    return [int(line) for line in done.stdout.split()]


@demo
@pytest.mark.limit(120)
def test_demo_check():
    """From a clone to a quote on all three nodes."""
    done = subprocess.run([ROOT / "scripts" / "demo", "--check"], capture_output=True, text=True,
                          timeout=110, check=False, env={**os.environ, "BUILD": "build"})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all 3 nodes" in done.stdout
    assert done.stdout.count("http://127.0.0.1:") == 3
    assert "PUBLISH tc:quote:TEST" in done.stdout


@demo
@pytest.mark.limit(120)
@pytest.mark.parametrize("how", ["seconds", signal.SIGINT, signal.SIGTERM])
def test_demo_leaves_nothing_running(how):
    command = [str(ROOT / "scripts" / "demo")]
    if how == "seconds":
        command += ["--seconds", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          start_new_session=True,
                          env={**os.environ, "BUILD": "build"}) as process:
        try:
            for line in process.stdout:
                if "Ctrl-C" in line or "Ends by itself" in line:
                    break
            children = children_of(process.pid)
            assert len(children) >= 5  # Redis, three nodes, the market
            if how != "seconds":
                process.send_signal(how)
            assert process.wait(30) == 0
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    eventually(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in children), 5)
