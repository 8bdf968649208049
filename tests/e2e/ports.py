"""Ports for servers that are told theirs, and may come back on it.

The kernel hands out ports by itself: to whoever connects, and to whoever binds port 0. A port from
that range, free a moment ago, may be somebody's connection when a server wants it, or wants it back
after a restart. These come from below the range, so that only a server can have one; tests that run
at the same time take theirs from different residues.
"""

import errno
import itertools
import os
import pathlib
import random
import socket

FIRST = 20000
RANGE = pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range")


def _mine():
    end = int(RANGE.read_text().split()[0])
    if end < FIRST + 4096:
        raise RuntimeError(f"the kernel hands out ports from {end} on: too few are left below")
    step = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
    residue = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % step
    ports = range(FIRST + residue, end, step)
    start = random.randrange(len(ports))
    return itertools.cycle([*ports[start:], *ports[:start]])


def _free(port):
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        try:
            with socket.socket(family) as s:
                # A connection that has ended and is still remembered is in nobody's way.
                s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                s.bind((address, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False  # anything else, as a machine without IPv6, the server says better
    return True


_ports = _mine()


def free_port():
    """A port of the loopback, IPv4 and IPv6, that nobody listens on; another one at each call."""
    for port in itertools.islice(_ports, 4096):
        if _free(port):
            return port
    raise RuntimeError("no port is free")
