"""What goes wrong: Redis restarted, hanging or refusing, links to it stalled, reset, half-closed and
delayed, nodes killed. At times and in ways that a seed decides; one thing at a time or two that
overlap.
"""

import asyncio

import proxy


class Adversary:
    def __init__(self, fleet, rng, log, on_rewind=None, refusable=()):
        self.fleet = fleet
        self.refusable = refusable  # channels
        self.rng = rng
        self.log = log
        self.on_rewind = on_rewind  # called while Redis is put back; None: it never is
        self.acts = [self.reset, self.stall, self.half_close, self.delay, self.kill_node,
                     self.restart_redis, self.hang_redis, self.busy_redis]
        if refusable:
            self.acts.append(self.refuse)
        if on_rewind is not None:
            self.acts.append(self.rewind_redis)
        self.redis_lock = asyncio.Lock()
        self.node_locks = [asyncio.Lock() for _ in fleet.nodes]

    async def run(self, mean_s):
        """Goes on until cancelled; what it began is then finished by heal()."""
        under_way = set()
        try:
            while True:
                await asyncio.sleep(self.rng.expovariate(1 / mean_s))
                act = self.rng.choice(self.acts)
                task = asyncio.create_task(act())
                under_way.add(task)
                if self.rng.random() < 0.6:
                    await asyncio.wait({task})  # which does not cancel it when we are
                for done in [t for t in under_way if t.done()]:
                    under_way.discard(done)
                    done.result()
        finally:
            if under_way:  # they end by themselves in a few seconds
                await asyncio.wait(under_way, timeout=60)

    def heal(self):
        for gate in self.fleet.proxies:
            gate.heal()

    def _some_proxy(self):
        index = self.rng.randrange(len(self.fleet.proxies))
        return f"n{index + 1}", self.fleet.proxies[index]

    def _ways(self):
        return self.rng.choice([(proxy.UP,), (proxy.DOWN,), (proxy.UP, proxy.DOWN)])

    # --- the network -----------------------------------------------------------------------------

    async def reset(self):
        name, gate = self._some_proxy()
        self.log(f"reset the links of {name}")
        gate.reset()

    async def half_close(self):
        name, gate = self._some_proxy()
        way = self._ways()[0]
        self.log(f"half-close the links of {name} {way}")
        gate.half_close(way)

    async def stall(self):
        name, gate = self._some_proxy()
        ways, seconds = self._ways(), self.rng.uniform(0.1, 5)
        self.log(f"stall the links of {name} {'+'.join(ways)} for {seconds:.1f} s")
        gate.stall(ways)
        await asyncio.sleep(seconds)
        gate.heal()

    async def delay(self):
        name, gate = self._some_proxy()
        delay, seconds = self.rng.uniform(0.005, 0.3), self.rng.uniform(1, 6)
        self.log(f"delay the links of {name} by {delay * 1000:.0f} ms for {seconds:.1f} s")
        gate.delay(delay)
        await asyncio.sleep(seconds)
        gate.heal()

    async def refuse(self):
        """As a slot of a Cluster without a master does."""
        name, gate = self._some_proxy()
        seconds = self.rng.uniform(1, 8)
        channels = self.rng.sample(self.refusable, self.rng.randint(1, len(self.refusable)))
        self.log(f"refuse {name} what is stored of {len(channels)} channels for {seconds:.1f} s")
        gate.refuse(b"{tc:%s}" % c.encode() for c in channels)
        await asyncio.sleep(seconds)
        gate.heal()

    # --- processes -------------------------------------------------------------------------------

    async def kill_node(self):
        index = self.rng.randrange(len(self.fleet.nodes))
        node, seconds = self.fleet.nodes[index], self.rng.uniform(0.1, 3)
        async with self.node_locks[index]:
            self.log(f"kill {node.name} for {seconds:.1f} s")
            await self.fleet.kill_node(node)
            await asyncio.sleep(seconds)
            await self.fleet.restart_node(node)

    async def restart_redis(self):
        seconds = self.rng.uniform(0, 3)
        async with self.redis_lock:
            self.log(f"kill Redis for {seconds:.1f} s")
            await asyncio.to_thread(self.fleet.redis.kill)
            await asyncio.sleep(seconds)
            await asyncio.to_thread(self.fleet.redis.start)

    async def hang_redis(self):
        seconds = self.rng.uniform(0.2, 4)
        async with self.redis_lock:
            self.log(f"hang Redis for {seconds:.1f} s")
            self.fleet.redis.pause()
            await asyncio.sleep(seconds)
            self.fleet.redis.resume()

    async def busy_redis(self):
        seconds = self.rng.uniform(0.2, 4)
        async with self.redis_lock:
            self.log(f"Redis refuses everything for {seconds:.1f} s")
            with self.fleet.redis.busy():
                await asyncio.sleep(seconds)

    async def rewind_redis(self):
        async with self.redis_lock:
            await asyncio.to_thread(self.fleet.redis.copy)
            await asyncio.sleep(self.rng.uniform(0.5, 3))
            self.log("put Redis back to an older copy")
            await asyncio.to_thread(self.fleet.redis.put_back)
            self.on_rewind()
            await asyncio.to_thread(self.fleet.redis.start)
