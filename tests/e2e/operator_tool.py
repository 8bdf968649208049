"""Somebody who sends admin commands through Redis and reads what the nodes answer."""

import itertools
import json

from world import eventually


class Operator:
    def __init__(self, redis):
        self.redis = redis
        self.ids = itertools.count(1)

    def send(self, heard_by=1, **command):
        self.redis.publish("admin", json.dumps(command), heard_by)

    def replies(self, name, count=1):
        key = f"tc:admin:reply:{name}"
        eventually(lambda: self.redis("LLEN", key) >= count, what=f"{count} replies to {name}")
        return sorted((json.loads(r) for r in self.redis("LRANGE", key, 0, -1)),
                      key=lambda r: r["node"])

    def ask(self, count=1, **command):
        """Sends a command; returns all replies, of which there must be count."""
        name = f"op{next(self.ids)}"
        self.send(count, id=name, **command)
        replies = self.replies(name, count)
        assert len(replies) == count
        return replies
