"""What the publishers publish: values that can be made again from a channel and a number.

Nobody has to keep them: whoever reads a value finds its number in it, makes the value again and
compares. Their bytes are such that parsing and printing them anew would show (spaces, trailing
zeros), and from one to the next members change, stay, come and go, as patches need it.
"""

import functools
import json
import zlib

NAMESPACES = {  # what the nodes are told about them, and how they are published
    "quote": {"mode": "latest", "modes": "latest all", "snapshot": "yes", "history": 0},
    "trade": {"mode": "all", "modes": "latest all", "history": 5000},
    "chat": {"mode": "all", "modes": "latest all", "history": 0},
}
STAMPED = ("quote", "trade")  # the others are published plainly
PAD_BYTES = (20, 60, 200, 1200)  # of a channel's values, in turn


def namespace(channel):
    return channel.split(":", 1)[0]


def is_stamped(channel):
    return namespace(channel) in STAMPED


@functools.lru_cache(maxsize=100_000)
def text(channel, n):
    """The value of that number, as it is published."""
    mixed = zlib.crc32(b"%s %d" % (channel.encode(), n))
    pad = "x" * PAD_BYTES[zlib.crc32(channel.encode()) % len(PAD_BYTES)]
    members = [
        f'"c":"{channel}"', f'"n":{n}', f'"price":{mixed % 500}.{mixed % 100:02d}0',
        f'"side":"{"buy" if n // 4 % 2 else "sell"}"', f'"book":{{ "a" : [{n // 10}, 2.50] }}',
        f'"pad":"{pad}"']
    if mixed % 3 == 0:
        members.append(f'"halt":{n // 7}')
    return "{" + ",".join(members) + "}"


@functools.lru_cache(maxsize=20_000)
def members(channel, n):
    """The same as a dict, which must not be changed."""
    return json.loads(text(channel, n))


def patched(state, patch):
    """A shallow merge; null removes."""
    merged = {**state, **patch}
    return {k: v for k, v in merged.items() if v is not None}
