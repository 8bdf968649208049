"""What the tests of current values share: namespaces of every kind, and many numbered values."""

import json
import signal

SETTINGS = {
    "node.workers": 2,
    "namespace.quote.mode": "latest", "namespace.quote.modes": "latest all",
    "namespace.trade.mode": "all", "namespace.trade.history": 5000,
    "namespace.trade.snapshot": "yes",
    "namespace.chat.mode": "all", "namespace.chat.publish": "anyone",
    "namespace.brief.mode": "latest", "namespace.brief.history_ttl_s": 1,
    "limits.commands_per_s": 100000,
}


def stamp_many(redis, channel, count, history=0, start=0):
    return [redis.stamp(channel, json.dumps({"n": n}), history) for n in range(start, start + count)]


def numbers(items):
    return [item["seq"] for item in items]


def deaf(redis, node, publish):
    """Runs publish() while the node cannot hear: stopped, and its subscriber link cut."""
    node.process.send_signal(signal.SIGSTOP)
    redis("CLIENT", "KILL", "TYPE", "pubsub")
    publish()
    node.process.send_signal(signal.SIGCONT)
