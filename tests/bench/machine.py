"""The machine that is measured on: its cores, its processes, and what the kernel says of itself.

What is measured has one core for itself; Redis, the publisher and the reader share another.
"""
import os
import pathlib
import platform
import re
import resource
import select
import subprocess
import sys
import time

# What the benchmarks share with the tests.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))

BUILD = os.environ.get("BUILD", "build")
NODE_CORE, LOAD_CORE = "0", "1"
BOTH_CORES = f"{NODE_CORE},{LOAD_CORE}"
START_LIMIT_S = 20


class Failure(Exception):
    """A run that could not be done; the message is for people."""


# --- processes -----------------------------------------------------------------------------------


def pinned(core, *command):
    return ["taskset", "-c", core, *map(str, command)]


def ready_line(process):
    """The words of a program's first line, `ready name=value ...`, within the limit."""
    readable, _, _ = select.select([process.stdout], [], [], START_LIMIT_S)
    line = process.stdout.readline() if readable else ""
    if not line.startswith("ready"):
        raise Failure(f"{process.args[3]} did not become ready")
    return dict(word.split("=", 1) for word in line.split()[1:])


def end(process):
    process.terminate()
    try:
        process.wait(START_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


# --- what the kernel counts ----------------------------------------------------------------------


def read_text(path):
    with open(path, encoding="ascii", errors="replace") as f:
        return f.read()


def peak_resident_bytes(pid):
    return int(re.search(r"VmHWM:\s*(\d+) kB", read_text(f"/proc/{pid}/status")).group(1)) * 1024


def kernel_bytes():
    """What the kernel holds for everybody: its objects, and the pages of sockets' buffers."""
    slab = int(re.search(r"Slab:\s*(\d+) kB", read_text("/proc/meminfo")).group(1)) * 1024
    pages = int(re.search(r"TCP: .* mem (\d+)", read_text("/proc/net/sockstat")).group(1))
    return slab + pages * resource.getpagesize()


def await_few_closed_sockets(limit_s=70):
    """Waits for connections of before, which the kernel remembers for a minute."""
    limit = time.monotonic() + limit_s
    while int(re.search(r"TCP: .* tw (\d+)", read_text("/proc/net/sockstat")).group(1)) > 1000:
        if time.monotonic() > limit:
            return
        time.sleep(1)


def sockets_per_loop(pid):
    """How many descriptors each event loop of a process watches, the most first."""
    folder = f"/proc/{pid}/fdinfo"
    counts = [read_text(f"{folder}/{fd}").count("tfd:") for fd in os.listdir(folder)
              if os.readlink(f"/proc/{pid}/fd/{fd}") == "anon_inode:[eventpoll]"]
    return sorted(counts, reverse=True)


def descriptor_limit():
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def describe():
    model = re.search(r"model name\s*: (.*)", read_text("/proc/cpuinfo"))
    return {"cpu": model.group(1) if model else platform.machine(), "cores": os.cpu_count(),
            "kernel": platform.release(), "load": os.getloadavg()[0]}
