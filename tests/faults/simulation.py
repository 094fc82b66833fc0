"""The whole manager with a storage on virtual time: lives that end at any step of the run loop, disks that
fail, senders that give up, handlers that fail; `python -m tests.faults.simulation --seeds 5000`.

Everything is drawn from the seed. What holds is checked from outside after every event: what senders,
handlers and receivers were told is compared with what the disk holds at that moment.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import random
import sys
import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import trio

import ccm
from ccm import Config, Message, OnBusy, Overflow, Reply, RetryPolicy, Turn, open_manager
from ccm.testing import CancelAt, WhenIdle, simulate

from .disk import Disk

TICK = 1 / 64


@dataclass
class World:
    """One seed: the disk, what was said, and what is wrong with it."""

    seed: int
    disk: Disk
    draw: random.Random
    policy: OnBusy
    config: Config
    alive: bool = False
    life: int = 0
    told: dict[int, str] = field(default_factory=dict)
    accepted: dict[int, str] = field(default_factory=dict)
    running: set[str] = field(default_factory=set)
    last: dict[str, int] = field(default_factory=dict)
    sent: dict[str, int] = field(default_factory=dict)
    found: list[str] = field(default_factory=list)
    trace: Any = field(default_factory=hashlib.sha256)
    events: int = 0
    kills: int = 0

    def note(self, *what: object) -> None:
        """An event: part of the trace that must be the same in every process."""
        self.events += 1
        self.trace.update(repr((self.life, trio.current_time(), *what)).encode())

    def find(self, what: str) -> None:
        self.found.append(f"life {self.life}, {trio.current_time():g} s: {what}")

    # -- what is told ------------------------------------------------------------------------------

    def is_accepted(self, turn: int, text: str) -> None:
        """A sender was told so (law G9)."""
        if not self.alive:
            return
        self.note("accepted", turn, text)
        self.accepted[turn] = text
        if turn not in self.disk.inbox and turn not in self.disk.turns:
            self.find(f"turn {turn} ({text}) is called accepted and is not on the disk")

    def is_told(self, turn: int, outcome: str, text: str) -> None:
        """Somebody was told an outcome."""
        if not self.alive:
            return
        self.note("told", turn, outcome, text)
        ended = self.disk.turns.get(turn)
        if ended is None or ended.outcome != outcome:
            kept = outcome == "cancelled" and not self.disk.ever_failed and turn in self.disk.inbox
            if not (self.disk.ever_failed or kept):
                self.find(f"turn {turn} was told {outcome}; the disk has {ended and ended.outcome}")
            return
        if self.told.setdefault(turn, outcome) != outcome:
            self.find(f"turn {turn} was told {self.told[turn]}, then {outcome}")

    # -- handlers and receivers --------------------------------------------------------------------

    async def handle(self, turn: Turn) -> str | None:
        key, number = turn.message.conversation, turn.id
        if self.alive:
            self.note("start", number, turn.attempt, turn.redelivered)
            if number in self.told:
                self.find(f"turn {number} starts although {self.told[number]} was told")
            if number < self.last.get(key, 0):
                self.find(f"turn {number} of {key} starts after {self.last[key]}")
            if key in self.running:
                self.find(f"turn {number} of {key} starts beside another")
            self.last[key] = number
        self.running.add(key)
        draw = random.Random(f"{self.seed}/{turn.message.text}/{self.life}/{turn.attempt}")
        try:
            await trio.sleep(draw.choice((0, 0, 1, 2, 5)) * TICK)
            if draw.random() < 0.15:
                raise ValueError("made to fail")
            if draw.random() < 0.2:
                await turn.send("piece")
        finally:
            self.running.discard(key)
        return f"re {turn.text}"

    async def deliver(self, reply: Reply, message: Message) -> None:
        draw = random.Random(f"{self.seed}/{reply.turn_id}/{self.life}/{trio.current_time()}")
        await trio.sleep(draw.choice((0, 0, 1)) * TICK)
        if draw.random() < 0.2:
            raise ConnectionError("made to fail")
        if not self.alive:
            return
        self.note("deliver", reply.turn_id)
        if reply.turn_id not in self.disk.outbox:
            self.find(f"the reply of turn {reply.turn_id} is delivered and is not in the outbox")
        if reply.turn_id < self.sent.get(message.conversation, 0):
            self.find(f"reply {reply.turn_id} comes after {self.sent[message.conversation]}")
        self.sent[message.conversation] = reply.turn_id

    # -- senders -------------------------------------------------------------------------------------

    async def send(self, manager: ccm.ConversationManager, number: int, draw: random.Random) -> None:
        await trio.sleep(draw.randrange(40) * TICK)
        text = f"{self.life}.{number}"
        message = Message(
            f"c{draw.randrange(3)}", "u", text, id=text, priority=draw.choice((None, ccm.HIGH, ccm.LOW)),
            deadline=trio.current_time() + 20 * TICK if draw.random() < 0.1 else None,
        )  # fmt: skip
        patience = draw.choice((0, 1, 3, 200)) * TICK if draw.random() < 0.3 else 1e6
        with trio.move_on_after(patience):
            for _ in range(3):  # whoever is not told tries again with the same id
                try:
                    await self.hand_in(manager, message, draw)
                    return
                except ccm.StorageError:
                    await trio.sleep(TICK)
                except (ccm.CcmError, trio.ClosedResourceError):
                    return

    async def hand_in(self, manager: ccm.ConversationManager, message: Message, draw: random.Random) -> None:
        if draw.random() < 0.3:
            reply = await manager.ask(message)
            self.is_told(reply.turn_id, "replied", message.text) if self.policy is OnBusy.ENQUEUE else None
            return
        try:
            receipt: Any = await manager.submit(message)
        except ccm.Duplicate as repeated:
            receipt = repeated.receipt
        self.is_accepted(receipt.turn_id, message.text)
        if draw.random() < 0.1:
            self.note("retract", await manager.retract(message.id))
        outcome = await receipt.outcome()
        self.is_told(receipt.turn_id, outcome.name, message.text)

    # -- lives ---------------------------------------------------------------------------------------

    async def live(self, messages: int, scope: trio.CancelScope, idle: list[Any]) -> None:
        """One process."""
        draw = random.Random(f"{self.seed}/{self.life}")
        self.alive = True
        self.running.clear()
        self.last.clear()
        self.sent.clear()
        with scope:
            opened = open_manager(self.handle, config=self.config, storage=self.disk, deliver=self.deliver)
            async with opened as manager:
                idle.append(manager)
                async with trio.open_nursery() as nursery:
                    for number in range(messages):
                        nursery.start_soon(self.send, manager, number, random.Random(draw.random()))
                if not messages:
                    await manager.wait_idle()
            statistics = manager.statistics()
            statistics.check()
            inbox, durable = manager._intake.inbox, manager._durable
            assert inbox is not None
            assert durable is not None
            if inbox.on_its_way or durable.journal.pending:
                self.find("at the end of a life something is on its way")
            if statistics.slots_in_use or statistics.sessions.active or statistics.senders:
                self.find(f"at the end of a life something is held: {statistics}")
        self.alive = False
        self.disk.start += trio.current_time() + 1

    def die(self, scope: trio.CancelScope) -> None:
        """SIGKILL: whatever the process still does is not seen by anybody."""
        if self.alive:
            self.kills += 1
        self.alive = False
        self.disk.kill()
        scope.cancel()

    def one_life(self, messages: int, kill_at: int | None) -> None:
        self.life += 1
        scope, managers = trio.CancelScope(), []  # type: tuple[trio.CancelScope, list[Any]]

        def nothing_waits() -> object:
            if not (managers and self.alive):
                return None
            scheduler = managers[0]._dispatcher.scheduler
            return scheduler.startable()

        instruments: list[Any] = [WhenIdle(nothing_waits)]
        if kill_at is not None:
            instruments.append(CancelAt(kill_at, partial(self.die, scope)))
        simulate(
            self.live, messages, scope, managers, seed=self.seed * 100 + self.life, instruments=instruments
        )

    def end(self) -> None:
        """After the last life, which nothing has disturbed."""
        disk = self.disk
        for name in ("inbox", "outbox"):
            if left := getattr(disk, name):
                self.found.append(f"{name} still holds {sorted(left)}")
        for turn, text in self.accepted.items():
            if turn not in disk.turns:
                self.found.append(f"turn {turn} ({text}) was accepted and has no outcome")
        ids = [settle.message_id for settle in disk.turns.values()]
        if len(ids) != len(set(ids)):
            self.found.append(f"a message was handled as two: {sorted(ids)}")


def run(seed: int) -> World:
    """One seed from the first life to the last."""
    draw = random.Random(seed)
    disk = Disk(
        f"{seed}/disk", failures=draw.choice((0, 0, 0.1)), unknown=draw.choice((0, 0, 0.05)),
        slow=draw.choice((0, 0.5, 1)),
    )  # fmt: skip
    policy = draw.choice((OnBusy.ENQUEUE, OnBusy.ENQUEUE, OnBusy.MERGE, OnBusy.INTERRUPT, OnBusy.REJECT))
    config = Config(
        limit=draw.randint(1, 3), queue_limit=draw.choice((3, 1000)), rate_limit=None, debug=True,
        overflow=draw.choice((Overflow.REJECT_NEW, Overflow.WAIT, Overflow.SHED_LOWEST)),
        retry=RetryPolicy(attempts=2, base=0.05, cap=0.05), on_busy=policy, max_attempts=1000,
        conversation_limit=draw.choice((2, 20)), drain=draw.choice((0, 1, 100)),
        delivery_retry=RetryPolicy(attempts=100, base=0.05, cap=0.05),
    )  # fmt: skip
    world = World(seed, disk, draw, policy, config)
    for _ in range(draw.randint(1, 3)):
        world.one_life(draw.randint(1, 10), draw.choice((None, draw.randint(1, 400), draw.randint(1, 400))))
        if world.found:
            return world
    disk.failures = disk.unknown = 0.0
    world.one_life(0, None)
    world.end()
    return world


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--trace", action="store_true", help="print one hash of all traces, nothing else")
    arguments = parser.parse_args()
    logging.getLogger("ccm").setLevel(logging.CRITICAL)
    began, events, kills, found, trace = time.monotonic(), 0, 0, 0, hashlib.sha256()
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        try:
            world = run(seed)
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
        events += world.events
        kills += world.kills
        trace.update(world.trace.digest())
        for what in world.found:
            found += 1
            print(f"FOUND with seed {seed}: {what}")
        if sys.stderr.isatty() and seed % 50 == 0:
            print(f"\r{seed - arguments.first}/{arguments.seeds}", end="", file=sys.stderr)
    if arguments.trace:
        print(trace.hexdigest())
        return bool(found)
    seconds = time.monotonic() - began
    print(
        f"{arguments.seeds} seeds in {seconds:.0f} s: {events} events, {kills} kills, {found} violations,"
        f" {arguments.seeds / seconds * 60:.0f} seeds a minute"
    )
    return bool(found)


if __name__ == "__main__":
    raise SystemExit(main())
