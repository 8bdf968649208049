"""scripts/rolling-restart against a fake fleet, where anything can be made to go wrong."""

import fcntl
import itertools
import os
import pty
import re
import select
import signal
import subprocess
import termios
import threading
import time

import pytest

from fake_fleet import FakeFleet, FakeNode, Listener
from world import ROOT, WAIT, eventually

pytestmark = pytest.mark.plain  # no node runs here

SCRIPT = ROOT / "scripts/rolling-restart"
LOCK = "tc:rolling-restart:lock"
DONE = 0
FAILED = 1
MISUSED = 2
UNFIT = 3
LOCKED = 4
NO_REDIS = 5


class Rolling:
    def __init__(self, redis, fleet):
        self.redis = redis
        self.fleet = fleet
        self.running = []

    def command(self, *args):
        return [str(SCRIPT), "--redis", self.redis.url, "--restart", self.fleet.restart_command(),
                *map(str, args)]

    def __call__(self, *args, timeout=30):
        return subprocess.run(self.command(*args), capture_output=True, text=True, timeout=timeout,
                              stdin=subprocess.DEVNULL, check=False)

    def start(self, *args):
        process = subprocess.Popen(self.command(*args), stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)
        self.running.append(process)
        return process

    def end(self, process, timeout=30):
        """(status, output, errors) of one that was started."""
        output, errors = process.communicate(timeout=timeout)
        return process.returncode, output, errors


@pytest.fixture
def fleet(redis):
    made = FakeFleet(redis)
    eventually(lambda: redis("ZCARD", "tc:nodes") == 3)
    yield made
    made.close()


@pytest.fixture
def rolling(redis, fleet):
    made = Rolling(redis, fleet)
    yield made
    for process in made.running:
        if process.poll() is None:
            process.kill()
        process.communicate()


def seen(redis, name, **fields):
    """Waits until the registry shows this."""
    want = [str(v).encode() for v in fields.values()]
    eventually(lambda: redis("HMGET", f"tc:node:{name}", *fields) == want, what=f"{name} {fields}")


def is_draining(fleet):
    return lambda: any(entry[0] == "drain" for entry in fleet.log)


WHOLE = [(what, name) for name in ("n1", "n2", "n3") for what in ("drain", "restart")]


def test_the_whole_fleet_one_after_the_other(rolling, fleet, redis):
    done = rolling("--drain-seconds", 7)
    assert done.returncode == DONE, done.stderr
    assert [entry[:2] for entry in fleet.log] == WHOLE
    assert all(entry[2] == 7 for entry in fleet.log if entry[0] == "drain")
    assert sum(node.clients for node in fleet.nodes.values()) == 15
    assert redis("KEYS", "tc:rolling*") == []
    for name in fleet.nodes:
        assert re.search(rf"^{name} +\d+ +\d+\.\d", done.stdout, re.M), done.stdout
    assert "3 nodes in" in done.stdout


def test_dry_run_changes_nothing(rolling, fleet, redis):
    done = rolling("--dry-run")
    assert done.returncode == DONE, done.stderr
    assert f"/restart/n2" in done.stdout
    fleet["n3"].state = "starting"
    seen(redis, "n3", state="starting")
    done = rolling("--dry-run")
    assert done.returncode == UNFIT and "n3 is starting" in done.stdout
    assert fleet.log == []
    assert redis("KEYS", "tc:rolling*") == []


def test_one_node(rolling, fleet):
    assert rolling("--node", "n2").returncode == DONE
    assert [entry[:2] for entry in fleet.log] == [("drain", "n2"), ("restart", "n2")]


def test_a_node_that_is_not_there(rolling, fleet):
    done = rolling("--node", "n9")
    assert done.returncode == MISUSED and "n9" in done.stderr
    assert fleet.log == []


def test_one_node_that_is_drained_already(rolling, fleet, redis):
    fleet["n1"].command({"cmd": "drain", "seconds": 1})
    seen(redis, "n1", state="draining", clients=0)
    done = rolling()
    assert done.returncode == UNFIT and "n1 is draining, and not by this run" in done.stderr
    assert rolling("--node", "n1").returncode == DONE
    assert [entry[:2] for entry in fleet.log] == [("drain", "n1"), ("restart", "n1")]


@pytest.mark.parametrize("args", [
    ["--colour"], ["n1"], ["--node"], ["--node", "$(id)"], ["--node", "-x"], ["--node", "a/b"],
    ["--restart", "systemctl restart tickcast"], ["--drain-seconds", "soon"],
    ["--drain-seconds", "3601"], ["--tolerance", "101"], ["--tolerance", "-1"],
    ["--ready-timeout", "1e3"], ["--else-timeout", "3"], ["--redis", "http://x"],
    ["--redis", "redis://nobody@x"], ["--redis", "redis://a b"], ["--redis", "redis://:%zz@x"],
    ["--prefix", "a b"], ["--prefix", 'a"b'],
])
def test_wrong_use_is_told_in_one_line(args):
    done = subprocess.run([str(SCRIPT), *args], capture_output=True, text=True, check=False,
                          timeout=20)
    assert done.returncode == MISUSED
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("rolling-restart: ")


def test_help():
    done = subprocess.run([str(SCRIPT), "--help"], capture_output=True, text=True, check=True,
                          timeout=20)
    text = SCRIPT.read_text()
    for option in re.findall(r"^    (--[a-z-]+)\)", text, re.M):
        assert option in done.stdout
    assert "Exit status" in done.stdout and "set -" not in done.stdout


# --- the fleet is not fit for it ------------------------------------------------------------------

def unready(fleet):
    fleet["n2"].state = "starting"
    return "n2", {"state": "starting"}


def crowded(fleet):
    fleet["n2"].capacity = fleet["n3"].capacity = 7  # room for two each
    return "n3", {"capacity": 7}


def lying(fleet):
    """The registry says ready, /readyz does not."""
    fleet["n2"].state = "starting"
    fleet["n2"].extra["state"] = "ready"
    fleet["n2"].extra["channels"] = 8
    return "n2", {"channels": 8}


def test_a_node_that_is_full_is_no_obstacle(rolling, fleet):
    """Where the others have room."""
    fleet["n2"].state = "full"  # what its /readyz says
    fleet["n2"].extra["state"] = "ready"
    done = rolling("--node", "n1")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("spoil, why", [
    (unready, "n2 is starting"),
    (crowded, "room for 4 clients, and it has 5"),
    (lying, "n2 is not ready"),
])
def test_it_does_not_begin(rolling, fleet, redis, spoil, why):
    name, fields = spoil(fleet)
    seen(redis, name, **fields)
    done = rolling()
    assert done.returncode == UNFIT and why in done.stderr, done.stderr
    assert fleet.log == []
    assert redis("EXISTS", LOCK) == 0


def test_a_capacity_that_is_not_told_counts_as_enough(rolling, fleet, redis):
    for node in fleet.nodes.values():
        node.capacity = None
    eventually(lambda: not any(redis("HEXISTS", f"tc:node:{n}", "capacity") for n in fleet.nodes))
    assert rolling("--dry-run").returncode == DONE


def test_the_last_node_alone(world, redis):
    lone = FakeFleet(redis, clients=(3,))
    try:
        eventually(lambda: redis("ZCARD", "tc:nodes") == 1)
        rolling = Rolling(redis, lone)
        done = rolling()
        assert done.returncode == UNFIT and "no other node" in done.stderr
        lone["n1"].clients = 0
        seen(redis, "n1", clients=0)
        assert rolling("--alone").returncode == DONE
    finally:
        lone.close()


def test_no_nodes(redis):
    done = subprocess.run([str(SCRIPT), "--redis", redis.url], capture_output=True, text=True,
                          check=False, timeout=20)
    assert done.returncode == UNFIT and "no nodes" in done.stderr


def test_no_redis():
    done = subprocess.run([str(SCRIPT), "--redis", "redis://127.0.0.1:1"], capture_output=True,
                          text=True, check=False, timeout=20)
    assert done.returncode == NO_REDIS and "refused" in done.stderr


def test_a_password(world):
    redis = world.redis(password="p%:/w")
    command = [str(SCRIPT), "--dry-run", "--redis"]
    for password, status, why in (("p%25%3a%2fw", UNFIT, "no nodes"), ("x", NO_REDIS, "NOAUTH")):
        url = f"redis://:{password}@127.0.0.1:{redis.port}/0"
        done = subprocess.run(command + [url], capture_output=True, text=True, check=False,
                              timeout=20)
        assert done.returncode == status and (why in done.stderr or "AUTH" in done.stderr)
    done = subprocess.run(command + [f"unix://:p%25%3a%2fw@{redis.path}?db=0"], text=True,
                          capture_output=True, check=False, timeout=20)
    assert done.returncode == UNFIT and "no nodes" in done.stderr


# --- entries that no node has written -------------------------------------------------------------

ODD_IDS = ["$(touch {dir}/owned)", "`touch {dir}/owned`", "x;touch {dir}/owned", "a\nb", "*", "-rf",
           "../n1", "", "a b", "x" * 65, "\u20ac", "n1\x00", "{id}", "'", '"', "\x1b[2J", "&"]


def test_odd_ids(rolling, fleet, redis):
    soon = int(time.time() * 1000) + 60000
    for odd in ODD_IDS:
        name = odd.format(dir=redis.dir, id="{id}")
        redis("ZADD", "tc:nodes", soon, name)
        done = rolling("--node", "n1")
        assert done.returncode == UNFIT, (odd, done.stdout)
        assert "not a node's entry" in done.stderr and "\x1b" not in done.stderr
        redis("ZREM", "tc:nodes", name)
    for odd in ODD_IDS:
        redis("ZADD", "tc:nodes", soon, odd.format(dir=redis.dir, id="{id}"))
    done = rolling("--ignore-odd", "--node", "n1")
    assert done.returncode == DONE, done.stderr
    assert [entry[:2] for entry in fleet.log] == [("drain", "n1"), ("restart", "n1")]
    assert not (redis.dir / "owned").exists()


ODD_FIELDS = [
    ({"address": "$(touch /tmp/x):1"}, "its address is"),
    ({"address": "127.0.0.1:1/../../x"}, "its address is"),
    ({"address": None}, "its address is missing"),
    ({"state": "bored"}, "its state is 'bored'"),
    ({"state": None}, "its state is missing"),
    ({"clients": "-1"}, "its clients is '-1'"),
    ({"clients": "a[$(touch /tmp/x)]"}, "its clients is"),
    ({"clients": "99999999999999999999"}, "its clients is"),
    ({"capacity": "lots"}, "its capacity is 'lots'"),
    ({"started": "now\nthen"}, "its started is"),
    ({"id": "n2"}, "its id is 'n2'"),
]


def test_odd_fields(rolling, fleet, redis):
    for number, (spoil, why) in enumerate(ODD_FIELDS):
        fleet["n3"].extra = {"channels": number, **spoil}
        seen(redis, "n3", channels=number)
        done = rolling()
        assert done.returncode == UNFIT and f"n3: {why}" in done.stderr, done.stderr
    assert fleet.log == []


def test_keys_of_another_type(rolling, fleet, redis):
    soon = int(time.time() * 1000) + 60000
    redis("SET", "tc:node:n7", "x")
    redis("ZADD", "tc:nodes", soon, "n7")
    done = rolling()
    assert done.returncode == UNFIT and "n7: WRONGTYPE" in done.stderr
    redis("DEL", "tc:node:n7")
    done = rolling()
    assert done.returncode == UNFIT and "n7: its id is ''" in done.stderr
    redis("ZREM", "tc:nodes", "n7")
    redis("ZADD", "tc:nodes", "+inf", "n7")
    assert "its expiry is 'inf'" in rolling().stderr
    redis("ZADD", "tc:nodes", 1000, "n7")  # gone long ago: nobody's business
    assert rolling("--dry-run").returncode == DONE
    redis("DEL", "tc:nodes")
    for key in ("tc:rolling-restart", LOCK):
        redis("SET" if key != LOCK else "HSET", key, "x", *([] if key != LOCK else ["y"]))
        done = rolling()
        assert done.returncode in (UNFIT, NO_REDIS) and key in done.stderr
        redis("DEL", key)
    assert fleet.log == []


def test_entries_of_megabytes(rolling, fleet, redis):
    """Larger than what is read of all answers: the entry is odd, the others are seen all the same."""
    soon = int(time.time() * 1000) + 60000
    fields = {"id": "n7", "address": "127.0.0.1:1", "state": "ready", "clients": 0,
              "started": "1" * 9_000_000}
    redis("HSET", "tc:node:n7", *[text for field in fields.items() for text in field])
    redis("ZADD", "tc:nodes", soon, "n7", soon, "x" * 9_000_000)
    done = rolling("--dry-run")
    assert done.returncode == UNFIT, done.stderr
    assert "n7: its started is '9000000 bytes long'" in done.stderr
    assert "xxx...\": no node is named like that" in done.stderr
    done = rolling("--dry-run", "--ignore-odd")
    assert done.returncode == DONE and "3 of 3 nodes" in done.stdout


def test_an_odd_entry_that_comes_in_the_middle(rolling, fleet, redis):
    fleet["n1"].gets_ready = False
    process = rolling.start("--ready-timeout", 3)
    eventually(lambda: ("restart", "n1") in fleet.log)
    redis("ZADD", "tc:nodes", int(time.time() * 1000) + 60000, "a b")
    fleet["n1"].state = "ready"
    status, _, errors = rolling.end(process)
    assert status == UNFIT and "n2 is not restarted" in errors, errors
    assert 'no node has written: "a b"' in errors
    assert [entry[:2] for entry in fleet.log] == [("drain", "n1"), ("restart", "n1")]


def test_numbers_with_leading_zeros(rolling, fleet, redis):
    fleet["n2"].extra = {"clients": "008", "capacity": "00100"}
    seen(redis, "n2", clients="008")
    done = rolling("--dry-run")
    assert done.returncode == DONE and "18 clients" in done.stdout


# --- steps that fail ------------------------------------------------------------------------------

def test_a_node_that_never_gets_ready(rolling, fleet, redis):
    fleet["n2"].gets_ready = False
    done = rolling("--ready-timeout", 1)
    assert done.returncode == FAILED and "n2 does not get ready: it says it is starting" in done.stderr
    assert [entry[:2] for entry in fleet.log] == WHOLE[:4]
    fleet["n2"].state = "ready"
    done = rolling()
    assert done.returncode == DONE, done.stderr
    assert "n1: done already" in done.stdout and "n2: has been restarted already" in done.stdout
    assert [entry[:2] for entry in fleet.log] == WHOLE


def test_a_node_that_refuses_to_drain(rolling, fleet):
    """And a run that is begun anew instead of being taken up."""
    fleet["n2"].refuses = "no"
    done = rolling()
    assert done.returncode == FAILED and "n2 refuses to drain: no" in done.stderr
    fleet["n2"].refuses = None
    assert rolling("--fresh").returncode == DONE
    assert [entry[:2] for entry in fleet.log] == WHOLE[:2] + WHOLE


def test_a_node_that_does_not_get_empty(rolling, fleet):
    fleet["n1"].stays = 2
    done = rolling("--drain-seconds", 1, "--empty-timeout", 0)
    assert done.returncode == FAILED and "n1 does not get empty: 2 clients are left" in done.stderr
    assert "undrain" in done.stderr
    assert [entry[:2] for entry in fleet.log] == [("drain", "n1")]


def test_a_restart_command_that_fails(rolling, fleet):
    done = rolling("--restart", "echo no such unit {id} >&2; exit 5")
    assert done.returncode == FAILED
    assert "no such unit n1" in done.stderr and "failed with 5" in done.stderr
    done = rolling("--restart", "sleep 30; echo {id}", "--restart-timeout", 1)
    assert done.returncode == FAILED and "did not end within 1 s" in done.stderr
    done = rolling()
    assert done.returncode == DONE, done.stderr
    assert [entry[:2] for entry in fleet.log] == WHOLE  # n1 is not drained again


def test_clients_that_do_not_come_back(rolling, fleet):
    fleet.loses = 2
    done = rolling("--return-timeout", 1)
    assert done.returncode == FAILED and "13 of 15 clients" in done.stderr
    done = rolling("--tolerance", 50)
    assert done.returncode == DONE, done.stderr
    assert "n1: has been restarted already" in done.stdout


def kill(node):
    node.listener.shutdown()
    node.listener.server_close()
    node.is_silent = True


def revive(node):
    node.listener = Listener(node._answer)
    node.is_silent = False
    FakeNode.restart(node)


def test_a_node_that_dies_in_the_middle(rolling, fleet, redis):
    """While it is drained; nobody sees it again until it is restarted."""
    node = fleet["n1"]
    node.stays = 2
    process = rolling.start()
    eventually(is_draining(fleet))
    kill(node)
    node.clients = 0
    fleet["n2"].clients += 2
    redis("ZREM", "tc:nodes", "n1")
    node.restart = lambda: revive(node)
    status, output, errors = rolling.end(process)
    assert status == DONE, output + errors
    assert [entry[:2] for entry in fleet.log] == WHOLE


@pytest.mark.parametrize("when", ["before its turn", "as it is drained"])
def test_a_node_that_others_restart_meanwhile(rolling, fleet, redis, when):
    """Its entry is still there when its turn comes, so it must be asked itself."""
    node = fleet["n2"]
    if when == "before its turn":
        fleet["n1"].restart = lambda: (kill(node), FakeNode.restart(fleet["n1"]))
    else:
        def die():
            kill(node)
            raise OSError  # and does not answer
        node.on_drain = die
    process = rolling.start()
    eventually(lambda: node.is_silent and b"n1=" in (redis("HGET", "tc:rolling-restart", "done") or b""),
               10)
    revive(node)
    status, output, errors = rolling.end(process)
    assert status == DONE, output + errors
    log = [key for key, _ in itertools.groupby(entry[:2] for entry in fleet.log)]
    assert [entry for entry in log if entry[1] != "n2"] == WHOLE[:2] + WHOLE[4:]
    if when == "before its turn":
        assert [entry for entry in log if entry[1] == "n2"] == [("restart", "n2")]  # revive


# --- two at once, interruptions ---------------------------------------------------------------------

def test_two_at_once(rolling, fleet, redis):
    fleet["n1"].stays = 1
    first = rolling.start()
    eventually(is_draining(fleet))
    second = rolling()
    assert second.returncode == LOCKED and f"pid {first.pid} since" in second.stderr
    third = rolling("--node", "n2")
    assert third.returncode == LOCKED
    fleet.move(fleet["n1"], 0)
    status, _, errors = rolling.end(first)
    assert status == DONE, errors
    assert [entry[:2] for entry in fleet.log] == WHOLE


def test_a_lock_that_was_lost(rolling, fleet, redis):
    fleet["n1"].stays = 1
    first = rolling.start()
    eventually(is_draining(fleet))
    redis("SET", LOCK, "somebody@else pid 1 since then 4711")
    status, _, errors = rolling.end(first)
    assert status == LOCKED and "lost the lock to another run: somebody@else pid 1" in errors
    assert redis("GET", LOCK).startswith(b"somebody")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_taken_up_where_it_was_left(rolling, fleet, redis, how):
    """Left while n2 drains."""
    fleet["n2"].stays = 1
    process = rolling.start()
    eventually(lambda: len(fleet.log) >= 3)
    process.send_signal(how)
    status, _, errors = rolling.end(process)
    if how == signal.SIGKILL:
        assert 0 < redis("PTTL", LOCK) <= 15000
        redis("DEL", LOCK)
        fleet.move(fleet["n2"], 0)
        seen(redis, "n2", clients=0)
        again = []
    else:
        assert status == 128 + how and "n2 had clients left and serves on" in errors, errors
        assert redis("EXISTS", LOCK) == 0
        assert fleet.log.pop() == ("undrain", "n2")
        fleet["n2"].stays = 0
        seen(redis, "n2", state="ready")
        again = [("drain", "n2")]
    done = rolling()
    assert done.returncode == DONE, done.stderr
    assert "takes up the run" in done.stdout and "n1: done already" in done.stdout
    assert [entry[:2] for entry in fleet.log] == WHOLE[:3] + again + WHOLE[3:]


def test_ctrl_c_leaves_an_empty_node_drained(rolling, fleet, redis):
    fleet["n1"].extra = {"state": "ready"}  # else it would be restarted at once
    process = rolling.start()
    eventually(is_draining(fleet))
    seen(redis, "n1", clients=0)
    process.send_signal(signal.SIGINT)
    status, _, errors = rolling.end(process)
    assert status == 130 and "n1 is drained and empty, and stays so" in errors
    assert [entry[:2] for entry in fleet.log] == [("drain", "n1")]


def test_ctrl_c_during_a_restart(rolling, fleet, redis):
    process = rolling.start("--restart", fleet.restart_command() + "; sleep 2")
    eventually(lambda: ("restart", "n1") in fleet.log)
    process.send_signal(signal.SIGINT)
    status, _, errors = rolling.end(process)
    assert status == 130 and "the restart of n1 was under way" in errors
    done = rolling()
    assert done.returncode == DONE, done.stderr
    assert [entry[:2] for entry in fleet.log] == WHOLE


@pytest.mark.parametrize("how", ["Ctrl-C", "hang up"])
def test_at_a_terminal(rolling, fleet, redis, how):
    """A live count is shown. Ctrl-C goes to everything that runs in the foreground; a terminal that
    was closed takes no more text, which must not keep the drain from being taken back."""
    fleet["n1"].stays = 2
    screen, terminal = pty.openpty()

    def take_terminal():
        os.setsid()
        fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(rolling.command(), stdin=terminal, stdout=terminal, stderr=terminal,
                               preexec_fn=take_terminal)
    os.close(terminal)
    rolling.running.append(process)
    shown = b""

    def read_until(text):
        nonlocal shown
        while text not in shown:
            assert select.select([screen], [], [], WAIT)[0], shown
            try:
                shown += os.read(screen, 4096)
            except OSError:  # how a terminal says that nobody has it any more
                break
        assert text in shown, shown

    read_until(b"n1: draining, 2 clients left")
    if how == "Ctrl-C":
        os.write(screen, b"\x03")
        read_until(b"n1 had clients left and serves on")
    os.close(screen)
    assert process.wait(20) == {"Ctrl-C": 130, "hang up": 129}[how]
    assert fleet.log[-1] == ("undrain", "n1") and redis("EXISTS", LOCK) == 0


def test_a_pipe_that_nobody_reads(rolling, fleet):
    """As with `| tee`, which the same Ctrl-C has ended."""
    fleet["n1"].stays = 2
    process = rolling.start()
    eventually(is_draining(fleet))
    process.stdout.close()
    process.stderr.close()
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    assert fleet.log[-1] == ("undrain", "n1")
    process.stdout = process.stderr = None


def test_progress_that_is_none_of_ours(rolling, fleet, redis):
    for field, value in (("before", "n1=$(id)"), ("before", ""), ("run", "a b"), ("baseline", "x"),
                         ("current", "*"), ("done", "n1")):
        fields = {"run": "1", "begun": "1780000000000", "before": "n1=1", "done": "", "current": "",
                  "step": "", "baseline": "0", field: value}
        redis("HSET", "tc:rolling-restart", *[x for pair in fields.items() for x in pair])
        done = rolling()
        assert done.returncode == UNFIT and "--fresh" in done.stderr
    assert fleet.log == []


# --- Redis ------------------------------------------------------------------------------------------

def test_redis_restarted_in_the_middle(rolling, fleet, redis):
    """Everything in it is lost: registry, lock and progress."""
    fleet["n2"].stays = 1
    process = rolling.start()
    eventually(lambda: len(fleet.log) >= 3)
    redis.restart()
    eventually(lambda: redis("EXISTS", LOCK), timeout=10)
    fleet.move(fleet["n2"], 0)
    status, output, errors = rolling.end(process)
    assert status == DONE, output + errors
    # The answer to a drain may have been lost, and then it is asked for again.
    assert [key for key, _ in itertools.groupby(entry[:2] for entry in fleet.log)] == WHOLE


def test_redis_away_for_too_long(rolling, fleet, redis):
    fleet["n1"].stays = 1
    process = rolling.start("--redis-timeout", 1)
    eventually(is_draining(fleet))
    redis.kill()
    status, _, errors = rolling.end(process)
    assert status == NO_REDIS and "n1 is left as it is" in errors
    redis.start()


def test_a_redis_that_is_slow(rolling, fleet, redis):
    """Each second it hangs for a while."""
    ends = threading.Event()

    def hang():
        while not ends.is_set():
            redis.pause()
            ends.wait(0.7)
            redis.resume()
            ends.wait(0.3)

    thread = threading.Thread(target=hang)
    thread.start()
    try:
        done = rolling("--node", "n1")
    finally:
        ends.set()
        thread.join()
    assert done.returncode == DONE, done.stdout + done.stderr
    assert [entry[:2] for entry in fleet.log] == WHOLE[:2]
