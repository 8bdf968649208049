"""What an operator does with the units, under the real systemd. Runs inside tests/systemd/boot.

Prints each step as it passes; the last line of FOLDER/result is `passed`, or tells what is wrong.
"""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback

ROOT = pathlib.Path(os.environ["ROOT"])
FOLDER = pathlib.Path(os.environ["FOLDER"])
UNITS = pathlib.Path("/run/units")
sys.path.insert(0, str(ROOT / "tests/e2e"))

from client import Client, Closed  # noqa: E402
from halted import WALL, halted, thread_of  # noqa: E402
from world import RedisServer, eventually, http_request  # noqa: E402

A = "tickcast@a.service"
B = "tickcast@b.service"
CLIENTS_OF_A = "127.0.0.1:8081"
CLIENTS_OF_B = "127.0.0.1:8082"
WAIT = 20
REDIS = RedisServer("/tmp/redis")


def systemctl(*args, check=True):
    done = subprocess.run(["systemctl", "--no-pager", *args], capture_output=True, text=True,
                          timeout=60)
    assert not check or done.returncode == 0, f"systemctl {args}: {done.stdout}{done.stderr}"
    return done


def show(unit, name):
    return systemctl("show", "--value", "-p", name, unit).stdout.strip()


def wait_for(unit, name, value):
    eventually(lambda: show(unit, name) == value, WAIT, f"{name}={value} of {unit}: {show(unit, name)}")


def pid_of(unit):
    return int(show(unit, "MainPID"))


def write(path, text):
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def is_ready(ops):
    try:
        return http_request(ops, "/readyz").status == 200
    except OSError:
        return False


def set_up():
    write("/etc/tickcast/tickcast.env", f"TICKCAST_REDIS_URL={REDIS.url}\n"
          "TICKCAST_REDIS_CANARY_MS=300\nTICKCAST_LISTEN_DRAIN_GRACE_S=0\nTICKCAST_NODE_WORKERS=2\n"
          "TICKCAST_LISTEN_DRAIN_S=1\n")
    write("/etc/tickcast/a.env", "TICKCAST_OPS_ADDRESS=127.0.0.1:9181\n")
    write("/etc/tickcast/b.env", "TICKCAST_OPS_ADDRESS=127.0.0.1:9182\n"
          f"TICKCAST_LISTEN_ADDRESS={CLIENTS_OF_B}\nTICKCAST_LISTEN_DRAIN_S=4\n")
    write("/etc/tickcast/c.env", "TICKCAST_NODE_WORKERS=many\n")
    write(UNITS / "tickcast@.service.d/test.conf", "[Service]\nWatchdogSec=2\n"
          f"StandardOutput=append:{FOLDER}/%i.out\nStandardError=append:{FOLDER}/%i.log\n")
    write(UNITS / "tickcast@b.service.d/stop.conf", "[Service]\nTimeoutStopSec=1\n")
    for name, address in (("a", CLIENTS_OF_A), ("c", "127.0.0.1:8083")):
        write(UNITS / f"tickcast@{name}.socket.d/listen.conf",
              f"[Socket]\nListenStream=\nListenStream={address}\n")
    systemctl("daemon-reload")


# --- steps -----------------------------------------------------------------------------------------


def start():
    systemctl("start", "tickcast.target", "tickcast@a.socket", A, B)
    assert (FOLDER / "a.out").read_text() == f"ready listen={CLIENTS_OF_A} ops=127.0.0.1:9181 node=a\n"
    assert f"listen={CLIENTS_OF_B} " in (FOLDER / "b.out").read_text()
    for unit in (A, B):
        assert show(unit, "SubState") == "running"
        wait_for(unit, "StatusText", "feed ok, clients: 0")


def sandbox():
    fields = dict(line.split(":\t", 1) for line in
                  pathlib.Path(f"/proc/{pid_of(A)}/status").read_text().splitlines() if ":\t" in line)
    assert int(fields["CapEff"], 16) == 0 and int(fields["CapBnd"], 16) == 0
    assert fields["NoNewPrivs"] == "1" and fields["Seccomp"] == "2"
    assert "0" not in fields["Uid"].split()


def reload():
    pid = pid_of(A)
    config = pathlib.Path("/etc/tickcast/tickcast.conf")
    text = config.read_text()
    write(config, text + "[node]\nlog_level = debug\n")
    systemctl("reload", A)
    eventually(lambda: "event=reloaded" in (FOLDER / "a.log").read_text(), WAIT)
    write(config, text + "[node]\nlog_level = nonsense\n")
    systemctl("reload", A)
    eventually(lambda: "event=reload_failed" in (FOLDER / "a.log").read_text(), WAIT)
    write(config, text)
    wait_for(A, "SubState", "running")
    assert pid_of(A) == pid


class Connecting(threading.Thread):
    """Connects again and again, and is to be answered each time."""

    def __init__(self):
        super().__init__(daemon=True)
        self.answered = 0
        self.longest = 0
        self.faults = []
        self.go_on = True

    def run(self):
        while self.go_on:
            before = time.monotonic()
            try:
                status = http_request(CLIENTS_OF_A, "/healthz").status
                assert status == 200, status
                self.answered += 1
            except Exception as fault:  # whatever it is, it is a client that was turned away
                self.faults.append(repr(fault))
            self.longest = max(self.longest, time.monotonic() - before)
            time.sleep(0.002)

    def finish(self):
        self.go_on = False
        self.join(WAIT)
        assert not self.faults, self.faults[:5]
        return f"{self.answered} connects answered, none refused, longest {self.longest:.2f} s"


def restart_without_a_refused_connect():
    client = Client(f"ws://{CLIENTS_OF_A}/ws")
    client.expect("hello")
    connecting = Connecting()
    connecting.start()
    for _ in range(3):
        pid = pid_of(A)
        systemctl("restart", A)
        assert pid_of(A) != pid
    text = connecting.finish()
    client.wait_for("drain")
    try:
        client.recv()
    except Closed as end:
        assert end.code == 4200
    client.close()
    return text


def crash():
    """Killed, and a client that comes before the next process is there is served by that."""
    pid = pid_of(A)
    os.kill(pid, signal.SIGKILL)
    with socket.create_connection(("127.0.0.1", 8081), timeout=WAIT) as waiting:
        waiting.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert waiting.recv(4096).startswith(b"HTTP/1.1 200 ")
    wait_for(A, "SubState", "running")
    assert pid_of(A) != pid


def watchdog():
    """One of two worker threads hangs; the rest of the node is well."""
    pid = pid_of(A)
    restarts = int(show(A, "NRestarts"))
    assert show(A, "WatchdogUSec") == "2s"
    thread = thread_of(pid, "worker 1")
    with halted(thread):
        # Whoever halts a thread is told of its end first.
        eventually(lambda: os.waitpid(thread, WALL | os.WNOHANG)[0], WAIT, "the watchdog to bite")
    eventually(lambda: int(show(A, "NRestarts")) > restarts, WAIT, "the node to be restarted")
    wait_for(A, "SubState", "running")
    assert pid_of(A) != pid
    assert "event=loop_late worker=1" in (FOLDER / "a.log").read_text()
    assert "Failed with result 'watchdog'" in (FOLDER / "systemd.log").read_text()
    eventually(lambda: is_ready("127.0.0.1:9181"), WAIT)


def stop_with_a_drain():
    """Longer than TimeoutStopSec, because the node asks for the time."""
    clients = [Client(f"ws://{CLIENTS_OF_B}/ws") for _ in range(12)]
    before = time.monotonic()
    systemctl("stop", "--no-block", B)
    for client in clients:
        client.wait_for("drain", 10)
    eventually(lambda: show(B, "StatusText").startswith("stopping: closing"), WAIT)
    wait_for(B, "ActiveState", "inactive")
    took = time.monotonic() - before
    assert show(B, "Result") == "success" and show(B, "ExecMainStatus") == "0"
    for client in clients:
        try:
            while True:
                client.recv(10)
        except Closed as end:
            assert end.code == 4200
    assert took > 1.5, f"only {took:.2f} s, not longer than TimeoutStopSec=1"
    return f"{took:.1f} s, TimeoutStopSec=1"


def rolling_restart():
    """The script as it is installed, with the restart command that it has by default."""
    systemctl("start", B)
    eventually(lambda: is_ready("127.0.0.1:9181") and is_ready("127.0.0.1:9182"), WAIT)
    pids = pid_of(A), pid_of(B)
    done = subprocess.run(["/usr/local/share/tickcast/rolling-restart", "--redis", REDIS.url],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert pid_of(A) != pids[0] and pid_of(B) != pids[1]


def a_wrong_configuration_is_not_tried_again():
    systemctl("start", "tickcast@c.service", check=False)
    wait_for("tickcast@c.service", "ActiveState", "failed")
    assert show("tickcast@c.service", "ExecMainStatus") == "2"
    assert show("tickcast@c.service", "NRestarts") == "0"
    systemctl("start", "tickcast@c.socket")
    with socket.create_connection(("127.0.0.1", 8083), timeout=WAIT):
        wait_for("tickcast@c.socket", "ActiveState", "failed")
    assert show("tickcast@c.socket", "Result") in ("trigger-limit-hit", "service-start-limit-hit")
    write("/etc/tickcast/c.env", "TICKCAST_OPS_ADDRESS=127.0.0.1:9183\n")
    systemctl("reset-failed", "tickcast@c.service", "tickcast@c.socket")
    systemctl("start", "tickcast@c.socket")
    assert http_request("127.0.0.1:8083", "/healthz").status == 200


def stop_the_target():
    systemctl("stop", "tickcast.target")
    for unit in (A, "tickcast@a.socket"):
        wait_for(unit, "ActiveState", "inactive")
    try:
        socket.create_connection(("127.0.0.1", 8081), timeout=1).close()
    except ConnectionRefusedError:
        return
    raise AssertionError("somebody still listens")


STEPS = [start, sandbox, reload, restart_without_a_refused_connect, crash, watchdog,
         stop_with_a_drain, rolling_restart, a_wrong_configuration_is_not_tried_again, stop_the_target]


def main():
    REDIS.start()
    set_up()
    with open(FOLDER / "result", "w", encoding="utf-8") as result:
        for step in STEPS:
            before = time.monotonic()
            try:
                said = step()
            except Exception:
                result.write(f"{step.__name__}: FAILED\n{traceback.format_exc()}")
                break
            took = time.monotonic() - before
            result.write(f"{step.__name__}: ok, {took:.1f} s{': ' + said if said else ''}\n")
            result.flush()
        else:
            result.write("passed\n")
    REDIS.stop()


main()
