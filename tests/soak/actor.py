"""One client of a soak: connects, subscribes, changes its mind, reads slowly, comes back elsewhere.

It does what its random numbers say and shows everything it sees to its ledger. One command at a
time is on its way, so it is always clear what the ledger may expect.
"""

import asyncio
import json

import judge
import values
import wslink

ANSWER_S = 30  # in which a command is answered; stretched under sanitizers, as all limits are
SLOW_BYTES = 8192  # receive buffer of slow clients: the node soon has to wait for them
SILENCE_S = 10  # the longest of a connection, with a heartbeat every 2 s
RAW_S = 1  # in which a raw client's subscriptions are there
LEGAL_CODES = {4101, 4200}
BACK = 0.85  # of reconnects say where they were


class Setting:
    """What all clients of a run share."""

    def __init__(self, fleet, truths, rules, stats, on_fault):
        self.fleet = fleet
        self.truths = truths
        self.rules = rules
        self.stats = stats
        self.on_fault = on_fault  # (actor, Fault)
        self.is_quiet = False  # the end has begun: stay where you are, read, do nothing
        self.is_over = False  # the nodes are being stopped


class Actor:
    def __init__(self, name, setting, rng):
        self.name = name
        self.setting = setting
        self.rng = rng
        self.ledger = judge.Ledger(setting.truths, setting.rules, setting.stats)
        self.kind = rng.choices(["json", "raw"], [9, 1])[0]
        self.deflate = rng.random() < 0.4
        self.is_slow = rng.random() < 0.15  # a small socket and long pauses
        self.node = None
        self.link = None
        self.answers = {}  # {id: future}
        self.next_id = 1
        self.ended = asyncio.Event()
        self.wanted = set()  # channels to subscribe to on the next connection
        self.is_ready = False  # has all it asked for

    # --- what comes ------------------------------------------------------------------------------

    def _fault(self, fault):
        self.setting.on_fault(self, fault)

    def _on_text(self, text):
        self.ledger.note(text)
        try:
            if self.kind == "raw":
                self.ledger.raw_value(text)
            elif text.startswith('{"action":"push"'):
                self.ledger.push(text)
            else:
                self._on_message(json.loads(text))
        except judge.Fault as fault:
            self._fault(fault)

    def _on_message(self, message):
        action = message["action"]
        self.setting.stats[action] += 1
        if "feed" in message:
            self.ledger.feed(message["feed"])
        if action in ("ack", "pong", "error"):
            waiter = self.answers.pop(message.get("id"), None)
            if waiter is None:
                raise judge.Fault(f"an {action} that nothing asked for")
            then, future = waiter
            if action == "error":
                raise judge.Fault(f"an error: {message}")
            then(message)
            if not future.done():
                future.set_result(message)
        elif action == "drain" and self.setting.is_over:
            pass
        elif action not in ("hello", "heartbeat", "state", "slow"):
            raise judge.Fault(f"an unexpected {action}")

    def _on_broken(self, text):
        self._fault(judge.Fault(f"what {self.node.name} sent is broken: {text}"))
        self._on_end(None)

    def _on_end(self, code):
        self.ledger.note(f"[closed with {code} by {self.node.name}]")
        self.setting.stats[f"closed {code}"] += 1
        self.ended.set()
        self.is_ready = False
        self.ledger.disconnect()
        if code is None or code in LEGAL_CODES:
            return
        killed_at = self.setting.fleet.killed_at.get(self.node.name, -1e9)
        if code == wslink.LOST and (self.setting.is_over or not self.node.alive()
                                    or self._now() - killed_at < 10 * self.setting.rules.stretch):
            return
        self._fault(judge.Fault(f"{self.node.name} closed with {code}"))

    @staticmethod
    def _now():
        return asyncio.get_running_loop().time()

    # --- commands --------------------------------------------------------------------------------

    async def _ask(self, then, **members):
        """Sends a command and waits for its answer, which `then` sees before what follows it.
        False when the connection ended."""
        number, self.next_id = self.next_id, self.next_id + 1
        future = asyncio.get_running_loop().create_future()
        self.answers[number] = (then, future)
        text = json.dumps({**members, "id": number})
        self.ledger.note(f"> {text}")
        self.link.send(text)
        return await self._answered(future)

    async def _answered(self, future):
        ended = asyncio.ensure_future(self.ended.wait())
        try:
            done, _ = await asyncio.wait({future, ended}, return_when=asyncio.FIRST_COMPLETED,
                                         timeout=ANSWER_S * self.setting.rules.stretch)
        finally:
            ended.cancel()
        if not done:
            self._fault(judge.Fault(f"{self.node.name} does not answer a command"))
            self._leave(abort=True)
        return not self.ended.is_set()

    def _position_of(self, channel, is_on):
        sub = self.ledger.subs.get(channel)
        return sub.position() if sub is not None and not is_on else None

    async def _subscribe(self, channels, say_where=True, options=None):
        command = dict(options or {})
        self.wanted.update(channels)
        since = {}
        for channel in channels:
            sub = self.ledger.subs.get(channel)
            position = self._position_of(channel, sub is not None and sub.is_on)
            if say_where and position:
                since[channel] = position
        if since:
            command["since"] = since

        def then(ack):
            if ack.get("rejected") or ack["accepted"] != len(channels):
                raise judge.Fault(f"not all accepted: {ack}")
            self._on_subscribed(channels, command, ack, since)

        return await self._ask(then, action="subscribe", channels=channels, **command)

    def _on_subscribed(self, channels, command, ack, since):
        recovered = set(ack.get("recovered", ()))
        doubtful = set(ack.get("suspect", ()))
        if recovered - set(since):
            raise judge.Fault(f"recovered {recovered} but asked for {set(since)}")
        wrong = None
        for channel in channels:
            old = self.ledger.subs.get(channel)
            is_new = old is None or not old.is_on
            mode = command.get("mode")
            if mode is None:
                usual = values.NAMESPACES[values.namespace(channel)]["mode"]
                mode = usual if is_new else old.mode
            try:
                self.ledger.subscribed(
                    channel, mode, recovered=channel in recovered, back=channel in since,
                    delta=command.get("delta", False if is_new else None),
                    max_rate=command.get("max_rate", 0 if is_new else None),
                    snapshot=command.get("snapshot", True),
                    feed="suspect" if channel in doubtful else ack.get("feed", "ok"))
            except judge.Fault as fault:
                wrong = fault
            rate = self.ledger.subs[channel].max_rate
            granted = ack.get("granted", {})
            if granted.get("mode", mode) != mode or granted.get("max_rate", rate) != rate:
                wrong = judge.Fault(f"granted {granted} instead of {mode}, {rate}", channel)
        if wrong:
            raise wrong

    async def _unsubscribe(self, channels):
        self.wanted.difference_update(channels)

        def then(_ack):
            for channel in channels:
                self.ledger.unsubscribed(channel)
        return await self._ask(then, action="unsubscribe", channels=channels)

    def _options(self):
        """For a subscribe: any mode, rate and delta, or nothing said about them."""
        options = {}
        if self.rng.random() < 0.3:
            options["mode"] = self.rng.choice(["latest", "all"])
        if self.rng.random() < 0.3:
            options["max_rate"] = self.rng.choice([0, 1, 2, 5, 20])
        if self.rng.random() < 0.4:
            options["delta"] = self.rng.random() < 0.8
        if self.rng.random() < 0.1:
            options["snapshot"] = False
        return options

    # --- a connection ----------------------------------------------------------------------------

    def _some_channels(self, most=8):
        channels = sorted(self.setting.truths)
        return self.rng.sample(channels, self.rng.randint(1, min(most, len(channels))))

    async def _connect(self):
        self.node = self.rng.choice(self.setting.fleet.nodes)
        path, channels = "/ws", ()
        if self.kind == "raw":
            channels = self._some_channels()
            path += "?format=raw&channels=" + ",".join(channels)
        self.ended.clear()
        self.answers.clear()
        self.link = wslink.Link(self._on_text, self._on_end, self._on_broken)
        self.ledger.connect(raw=self.kind == "raw")
        self.ledger.note(f"[connects to {self.node.name} {path}]")
        try:
            await self.link.open(self.node.host, self.node.port, path, self.deflate,
                                 self._receive_bytes(), 10 * self.setting.rules.stretch)
        except wslink.Refused as refused:
            if refused.status != 503:
                self._fault(judge.Fault(f"{self.node.name}: {refused}"))
            return False
        except (OSError, asyncio.TimeoutError):
            return False
        self.setting.stats["connections"] += 1
        self.ledger.raw_subscribed(channels)
        return True

    def _receive_bytes(self):
        return SLOW_BYTES if self.is_slow and not self.setting.is_quiet else None

    def hurry(self):
        """The end has begun. With a window below a segment, the kernel sends a slow client what
        waits for it at no more than some 13 KB/s, five segments a second."""
        if self.link is not None:
            self.link.widen()

    def _leave(self, abort=None):
        """Ends the connection from this side."""
        if self.rng.random() < 0.5 if abort is None else abort:
            self.link.abort()
        else:
            self.link.close()
        self.ledger.note(f"[left {self.node.name}]")
        self.ledger.disconnect()
        self.ended.set()
        self.is_ready = False

    async def _act(self):
        """One thing at random. False: not connected any more."""
        act = self.rng.choices(["leave", "pause", "subscribe", "unsubscribe", "change", "snapshot"],
                               [15, 30 if self.is_slow else 8, 25, 20, 20, 8])[0]
        on = sorted(c for c, s in self.ledger.subs.items() if s.is_on)
        if act == "leave":
            self._leave()
            return False
        if act == "pause":
            await self._pause(self.rng.uniform(0.1, 8 if self.is_slow else 1))
        elif self.kind == "raw":
            pass
        elif act == "subscribe" and len(on) < 10:
            fresh = [c for c in self._some_channels(4) if c not in on]
            if fresh:
                await self._subscribe(fresh, self.rng.random() < BACK, self._options())
        elif act == "unsubscribe" and len(on) > 3:
            await self._unsubscribe(self.rng.sample(on, self.rng.randint(1, 3)))
        elif act == "change" and on:
            options = self._options()
            options.pop("snapshot", None)
            some = self.rng.sample(on, self.rng.randint(1, len(on)))
            await self._subscribe(some, options=options)
        elif act == "snapshot" and on:
            await self._ask(lambda ack: None, action="snapshot", channels=[self.rng.choice(on)])
        return not self.ended.is_set()

    async def _pause(self, seconds):
        self.link.pause()
        until = self._now() + seconds
        while self._now() < until and not self.setting.is_quiet:
            await asyncio.sleep(0.2)
        self.link.resume()

    async def _stay(self):
        """Lives on this connection until it ends."""
        if self.kind == "json":
            channels = sorted(self.wanted) or self._some_channels()
            if not await self._subscribe(channels, self.rng.random() < BACK, self._options()):
                return
        else:  # nobody tells it when its subscriptions are there
            await self._wait_ended(RAW_S * self.setting.rules.stretch)
        self.is_ready = not self.ended.is_set()
        while not self.ended.is_set():
            await self._wait_ended(self.rng.uniform(0.3, 6))
            if self.ended.is_set():
                return
            self._check_alive()
            if not self.setting.is_quiet and not await self._act():
                return

    async def _wait_ended(self, seconds):
        try:
            await asyncio.wait_for(self.ended.wait(), seconds)
        except asyncio.TimeoutError:
            pass

    def _check_alive(self):
        limit_s = SILENCE_S * self.setting.rules.stretch
        if self.kind == "json" and self._now() - self.link.heard_at > limit_s:
            self._fault(judge.Fault(f"{self.node.name} says nothing, not even a heartbeat"))
            self._leave(abort=True)

    async def run(self):
        while not self.setting.is_over:
            self.is_ready = False
            if await self._connect():
                await self._stay()
            await asyncio.sleep(self.rng.uniform(0.02, 1))
