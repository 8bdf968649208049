#!/usr/bin/env python3
"""A rolling restart under load: scripts/rolling-restart over a whole fleet, with clients connected
and a steady stream of publications. Nobody in mode `all` may miss or repeat one, no connect may be
refused, and no node may let clients in faster than it is told to.

    tests/fleet/run.py [--clients 3000] [--disturb none|kill|redis|interrupt] ...

Prints what it saw, and ends with 1 when something was wrong.
"""

import argparse
import asyncio
import json
import pathlib
import random
import re
import resource
import signal
import sys
import tempfile
import time

import nodes as fleet_nodes
import crowd
import publisher
import world

CHANNELS = 60
CHANNELS_EACH = 2
HISTORY = 10000
TICK_S = 0.02
SETTLE_S = 20
TRIES_MAX = 8  # of the script, where it is disturbed
ACCESS = re.compile(r"time=(\S+) .*event=access .*path=/ws status=101")


class Market:
    """Publishes on the channels in turn, by the script that stamps, whatever happens to Redis."""

    def __init__(self, redis, per_second):
        self.redis = redis
        self.per_second = per_second
        self.script = world.PUBLISH_LUA.read_text()
        self.channels = [f"trade:C{i}" for i in range(CHANNELS)]
        self.published = 0
        self.is_on = True

    async def _publish(self):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.redis.port)
        try:
            due = time.monotonic()
            while self.is_on:
                due = max(due + TICK_S, time.monotonic() - 1)
                count = max(1, round(self.per_second * TICK_S))
                for _ in range(count):
                    self.published += 1
                    channel = self.channels[self.published % CHANNELS]
                    writer.write(publisher.encode("EVAL", self.script, 1, f"{{tc:{channel}}}",
                                                  self.published, HISTORY, 0))
                for _ in range(count):
                    if isinstance(await publisher.read_reply(reader), publisher.RedisReply):
                        raise OSError("Redis refuses")
                await asyncio.sleep(max(0, due - time.monotonic()))
        finally:
            writer.close()

    async def run(self):
        while self.is_on:
            try:
                await self._publish()
            except (OSError, EOFError):
                await asyncio.sleep(0.1)

    def newest(self):
        """{channel: [epoch, seq]} as Redis has it."""
        found = {}
        for channel in self.channels:
            epoch, seq = self.redis("HMGET", f"{{tc:{channel}}}", "epoch", "seq")
            found[channel] = [epoch.decode(), int(seq)]
        return found


async def read_lines(process, lines):
    while line := await process.stdout.readline():
        lines.append(line.decode().rstrip())
        print("    " + lines[-1], flush=True)


async def run_script(fleet, args):
    """Over the whole fleet, however often it has to be run again. Returns the number of runs."""
    lines, disturbed = [], False
    for tries in range(1, TRIES_MAX + 1):
        process = await fleet_nodes.rolling_restart(fleet, args.drain_seconds)
        reading = asyncio.create_task(read_lines(process, lines))
        if not disturbed and args.disturb != "none":
            disturbed = True
            while not fleet.restarts and process.returncode is None:
                await asyncio.sleep(0.1)
            await asyncio.sleep(args.drain_seconds / 2)
            await disturb(fleet, process, args.disturb)
        status = await process.wait()
        await reading
        if status == 0:
            return tries
        if args.disturb == "none":
            raise AssertionError(f"the script ended with {status}")
        await asyncio.sleep(1)
    raise AssertionError(f"the script was tried {TRIES_MAX} times")


async def while_all_go_on(task, others):
    """The task's result, unless one of the others, which never end by themselves, fails first."""
    done, _ = await asyncio.wait([task, *others], return_when=asyncio.FIRST_COMPLETED)
    for other in done - {task}:
        other.result()
    return await task


async def disturb(fleet, process, how):
    print(f"  {how}", flush=True)
    if how == "kill":
        fleet.kill(fleet.nodes[-1])
    elif how == "redis":
        await fleet.restart_redis()
    elif how == "interrupt":
        process.send_signal(signal.SIGINT)


def fastest_second(node):
    """The most clients that a node let in within one second, by its access lines."""
    times = [time.mktime(time.strptime(t[:19], "%Y-%m-%dT%H:%M:%S")) + float(t[19:-1])
             for t in ACCESS.findall(node.log())]
    most = first = 0
    for i, at in enumerate(times):
        while times[first] <= at - 1:
            first += 1
        most = max(most, i - first + 1)
    return most, len(times)


async def settle(market, clients):
    """Publishing has ended: everybody must come to have everything. Returns who has not."""
    market.is_on = False
    await asyncio.sleep(0.5)
    newest = market.newest()
    deadline = time.monotonic() + SETTLE_S
    while True:
        behind = [c for c in clients if not c.has_all(newest)]
        if not behind or time.monotonic() > deadline:
            return behind
        await asyncio.sleep(0.1)


def judge(fleet, counts, behind, runs, args):
    """What was wrong."""
    faults = list(counts.faults)
    if args.disturb == "interrupt" and runs < 2:
        faults.append("the script was not interrupted")
    faults += [f"{c.name} does not have everything: {c.positions}" for c in behind[:5]]
    if args.disturb == "none":
        if counts.refused_connects or counts.lost:
            faults.append(f"{counts.refused_connects} connects refused, "
                          f"{counts.lost} connections lost")
        if counts.unrecovered:
            faults.append(f"{counts.unrecovered} positions were not recovered")
    for node in fleet.nodes:
        if node.name not in fleet.restarts and node not in fleet.killed:
            faults.append(f"{node.name} was never restarted")
        most, total = fastest_second(node)
        print(f"  {node.name}: {total} upgrades, at most {most} in a second")
        if total == 0 or most > args.accepts:
            faults.append(f"{node.name} let {most} of {total} in within a second")
    return faults


def report(counts, market, runs, took_s):
    gaps = sorted(counts.gaps_s) or [0]
    print(json.dumps({
        "seconds": round(took_s, 1), "script_runs": runs, "published": market.published,
        "items": counts.items, "reconnects": counts.reconnects, "drained": counts.drained,
        "lost": counts.lost, "refused_connects": counts.refused_connects,
        "told_to_wait": counts.told_to_wait, "not_recovered": counts.unrecovered,
        "gap_median_s": round(gaps[len(gaps) // 2], 3), "gap_worst_s": round(gaps[-1], 3)}))


async def run(args, directory):
    rng = random.Random(args.seed)
    fleet = fleet_nodes.Fleet(directory, args.nodes, {
        "limits.accepts_per_s": args.accepts, "listen.drain_grace_s": 1,
        "namespace.trade.mode": "all", "namespace.trade.history": HISTORY,
        "node.log_level": "info"})
    tasks = []
    try:
        await fleet.start()
        counts = crowd.Counts()
        market = Market(fleet.redis, args.rate)
        balancer = crowd.Balancer(fleet.nodes, rng)
        clients = [crowd.Client(f"c{i}", rng.sample(market.channels, CHANNELS_EACH), balancer,
                                counts) for i in range(args.clients)]
        tasks = [asyncio.create_task(task.run()) for task in (balancer, market)]
        tasks.append(asyncio.create_task(fleet.supervise()))
        for client in clients:
            tasks.append(asyncio.create_task(client.run()))
            await asyncio.sleep(1 / args.accepts)
        while any(c.is_first for c in clients):
            await asyncio.sleep(0.1)
        begun = time.monotonic()
        script = asyncio.create_task(run_script(fleet, args))
        runs = await while_all_go_on(script, tasks)
        took_s = time.monotonic() - begun
        behind = await settle(market, clients)
        report(counts, market, runs, took_s)
        return judge(fleet, counts, behind, runs, args)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        fleet.end()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--clients", type=int, default=3000)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--rate", type=float, default=60, help="publications per second")
    parser.add_argument("--accepts", type=int, default=300, help="limits.accepts_per_s of a node")
    parser.add_argument("--drain-seconds", type=int, default=10)
    parser.add_argument("--disturb", default="none", choices=["none", "kill", "redis", "interrupt"])
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    args = parser.parse_args()
    print(f"seed {args.seed}", flush=True)
    # Where it is started in the background SIGINT is ignored, and no child of bash could undo that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    with tempfile.TemporaryDirectory(prefix="tc-fleet-") as directory:
        faults = asyncio.run(run(args, pathlib.Path(directory)))
    for fault in faults:
        print(f"  FAULT {fault}")
    print(f"{len(faults)} faults, seed {args.seed}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
