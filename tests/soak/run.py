#!/usr/bin/python3
"""The soak: a fleet under noise, hundreds of clients, and a judge who has seen everything.

    BUILD=build tests/soak/run.py [--seconds 600] [--seed N] [--clients 300] [--calm] [--rewind] [--refuse]

Three nodes reach one Redis through proxies that misbehave. Publishers write numbered values;
clients do as they like; an adversary breaks links and processes. Every item that a client gets is
held against what was published (judge.py). When the noise is over, everybody must hold the newest
values: first with nothing published any more, then once more after a last value on each channel.

The seed is printed first and decides what is tried; when exactly it happens is up to the machine.
On a fault: what is wrong, the client's last messages, the record around it, and exit status 1.
"""

import argparse
import asyncio
import collections
import os
import pathlib
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback

import actor
import adversary
import judge
import publisher
import servers
import values
import world
from truth import Truth

FAULTS_MAX = 5  # shown; the run ends early then
NEWEST_S = 2  # in which everyone holds the newest value
ACT_S = 1.0  # what a client had begun before the quiet ends in this
SETTLE_S = 40  # in which clients are back after the noise


def parse(args):
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--clients", type=int, default=300)
    parser.add_argument("--channels", type=int, default=8, help="of each namespace")
    parser.add_argument("--rate", type=float, default=90, help="publications per second in all")
    parser.add_argument("--calm", action="store_true", help="no adversary, and no mercy")
    parser.add_argument("--rewind", action="store_true",
                        help="put Redis back to older copies of itself, too")
    parser.add_argument("--refuse", action="store_true",
                        help="refuse what is stored of some channels, as slots without a master do")
    parser.add_argument("--mean", type=float, default=3, help="seconds between two acts of noise")
    parser.add_argument("--script", default=world.ROOT / "scripts" / "publish.lua",
                        help="what publishes stamped values")
    parser.add_argument("--without", nargs="*", default=[], choices=judge.WITHOUT,
                        help="what to forgive: " + "; ".join(
                            f"{name}: {text}" for name, text in judge.WITHOUT.items()))
    parser.add_argument("--keep", action="store_true", help="keep the logs of the nodes")
    return parser.parse_args(args)


class Soak:
    def __init__(self, options, directory):
        self.options = options
        self.begun = time.monotonic()
        self.stats = collections.Counter()
        self.faults = 0
        self.is_spoiled = asyncio.Event()
        names = [f"{ns}:{i}" for ns in values.NAMESPACES for i in range(options.channels)]
        self.truths = {name: Truth(name) for name in names}
        self.rules = judge.Rules(calm=options.calm, rewinds=options.rewind,
                                 refuses=options.refuse,
                                 without=options.without, stretch=world.SLOWER)
        self.fleet = servers.Fleet(directory)
        self.setting = actor.Setting(self.fleet, self.truths, self.rules, self.stats,
                                     self.on_client_fault)
        self.tasks = []

    # --- telling ---------------------------------------------------------------------------------

    def say(self, text):
        print(f"{time.monotonic() - self.begun:7.1f} {text}", flush=True)

    def fault(self, lines):
        self.faults += 1
        if self.faults <= FAULTS_MAX:
            for line in [*lines, f"  seed {self.options.seed}"]:
                self.say(line)
        if self.faults >= FAULTS_MAX:
            self.is_spoiled.set()

    def on_client_fault(self, client, fault):
        self.fault(client.ledger.explain(fault, f"{client.name} on {client.node.name}"))

    # --- parts -----------------------------------------------------------------------------------

    def rng(self, *what):
        """A stream of random numbers for each part, so that one does not disturb another."""
        return random.Random(f"{self.options.seed}/{what}")

    def spawn(self, coroutine):
        task = asyncio.create_task(coroutine)
        task.add_done_callback(self._on_task_end)
        self.tasks.append(task)
        return task

    def _on_task_end(self, task):
        if not task.cancelled() and task.exception() is not None:
            text = "".join(traceback.format_exception(task.exception()))
            self.fault(["FAULT of the soak itself:", text])

    def on_rewind(self):
        for truth in self.truths.values():
            truth.rewind()

    async def start(self):
        await self.fleet.start()
        script = pathlib.Path(self.options.script).read_text()
        self.publisher = publisher.Publisher(
            self.fleet.redis.port, script, list(self.truths.values()), self.rng("publisher"),
            lambda text: self.fault([f"FAULT {text}"]), self.options.rate)
        self.spawn(self.publisher.run())
        self.clients = []
        for i in range(self.options.clients):
            client = actor.Actor(f"c{i}", self.setting, self.rng("client", i))
            self.clients.append(client)
            self.spawn(client.run())
            await asyncio.sleep(0.005)
        self.adversary = adversary.Adversary(
            self.fleet, self.rng("adversary"), self.say,
            self.on_rewind if self.options.rewind else None,
            list(self.truths) if self.options.refuse else ())

    async def make_noise(self):
        """Until the time is over or too much went wrong. Publishing stops before the noise does, so
        that what is lost last has to be healed without help."""
        noise = None
        if not self.options.calm:
            noise = self.spawn(self.adversary.run(self.options.mean))
        end = time.monotonic() + self.options.seconds
        while time.monotonic() < end and not self.is_spoiled.is_set():
            try:
                left = end - time.monotonic()
                await asyncio.wait_for(self.is_spoiled.wait(), max(0.01, min(10, left)))
            except asyncio.TimeoutError:
                self.progress()
        self.publisher.is_busy = False
        if noise is not None:
            await asyncio.sleep(0.5)
            noise.cancel()
            await asyncio.wait([noise])
        self.adversary.heal()

    def progress(self):
        items = self.stats["items"]
        self.say(f"published {self.publisher.published}, items {items}, "
                 f"connections {self.stats['connections']}")

    # --- the end ---------------------------------------------------------------------------------

    async def until(self, check, seconds):
        """Polls check() until it is empty; returns what it is at last."""
        end = time.monotonic() + seconds * self.rules.stretch
        while True:
            left = check()
            if not left or time.monotonic() > end:
                return left
            await asyncio.sleep(0.02)

    def stale(self, **which):
        return [(c, channel) for c in self.clients for channel in c.ledger.stale(**which)
                if c.is_ready]

    def blame(self, stale, when):
        for client, channel in stale[:FAULTS_MAX]:
            client.ledger.recent.extend(client.link.describe())
            sub = client.ledger.subs[channel]
            fault = judge.Fault(f"does not hold the newest value {when} "
                                f"({len(stale)} like this): {self.truths[channel].newest}",
                                channel, sub.epoch, sub.seq, sub.n)
            self.on_client_fault(client, fault)

    async def settle(self):
        """Noise is over: nodes get ready, clients come back, nothing is published."""
        self.setting.is_quiet = True
        for client in self.clients:
            client.hurry()
        try:
            await self.fleet.wait_ready()
        except AssertionError as late:
            self.fault([f"FAULT of a node after the noise: {late}"])
            for node in self.fleet.nodes:
                reply = node.ops_get("/readyz")
                self.say(f"  {node.name}: {reply.status} {reply.body[:200]!r}, log:")
                for line in node.log().splitlines()[-20:]:
                    self.say(f"    {line}")
        await asyncio.wait_for(self.publisher.settle(), SETTLE_S)
        await asyncio.sleep(ACT_S)
        absent = await self.until(lambda: [c for c in self.clients if not c.is_ready], SETTLE_S)
        for client in absent:
            self.fault([f"FAULT {client.name} does not get back to {client.node.name}",
                        *client.ledger.recent])

    def ask_newest(self):
        """Redis, where the last that was published may have been taken back."""
        for truth in self.truths.values():
            if truth.is_stamped and truth.is_rewound:
                key = f"{{tc:{truth.channel}}}"
                epoch, seq, data = self.fleet.redis.client()("HMGET", key, "epoch", "seq", "data")
                truth.found(epoch, seq, data)

    async def judge_newest(self):
        self.ask_newest()
        if "stored" not in self.rules.without:
            stale = await self.until(lambda: self.stale(only_stamped=True, only_started=True),
                                     NEWEST_S)
            self.blame(stale, "after the noise, with nothing published")
        began = time.monotonic()
        await self.publisher.publish_all()
        stale = await self.until(self.stale, NEWEST_S)
        self.blame(stale, "after a last publication")
        if not stale:
            self.say(f"all hold the newest value after {time.monotonic() - began:.2f} s")

    async def finish(self):
        self.setting.is_over = True
        for wrong in await self.fleet.stop():
            self.fault([f"FAULT of a node: {wrong}"])
        for truth in self.truths.values():
            for wrong in truth.audit():
                self.fault([f"FAULT of the numbering: {wrong}"])
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.progress()
        self.say(", ".join(f"{k}: {v}" for k, v in sorted(self.stats.items())))

    async def run(self):
        try:
            await self.start()
            await self.make_noise()
            if not self.is_spoiled.is_set():
                await self.settle()
                await self.judge_newest()
            await self.finish()
        finally:
            self.fleet.end()
        return self.faults


def main():
    options = parse(sys.argv[1:])
    if options.seed is None:
        options.seed = int.from_bytes(os.urandom(4), "big")
    print(f"seed {options.seed}", flush=True)
    directory = tempfile.mkdtemp(prefix="tc-soak-")

    async def soak():
        task = asyncio.current_task()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await Soak(options, directory).run()

    faults = asyncio.run(soak())
    if faults or options.keep:
        print(f"the logs are in {directory}")
    else:
        shutil.rmtree(directory, ignore_errors=True)
    print(f"{faults} faults, seed {options.seed}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
