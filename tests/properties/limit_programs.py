"""Generated programs of turns that take limits of providers, and what can be seen of a run from outside.

A turn's plan is a tree: blocks of limits in blocks, branches side by side, pauses, and how a block is left.
The interpreter notes who waits for a key and who is inside, by what the handlers see; it asks the manager's
permits only whether they agree.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import attrs
import trio
from hypothesis import strategies as st

import ccm
from ccm.testing import WhenIdle, simulate

TICK = 1 / 64
KEYS = ("a", "b", "c")
PROBE = "probe"


class How(enum.Enum):
    """How a block is left, in the first attempts of its turn; later it is left as it should be."""

    FINE = "at its end"
    BUSY = "the provider says: later"
    ERROR = "something fails"
    HANG = "the provider does not answer"
    CATCH = "something fails, and the handler goes on"


@attrs.frozen
class Wait:
    """Do nothing for so many seconds."""

    seconds: float


@attrs.frozen
class Take:
    """A block of `turn.limit(key)` with `inside` in it."""

    key: str
    inside: tuple[Any, ...]
    how: How = How.FINE
    retry_after: float = 1.0


@attrs.frozen
class Branches:
    """`turn.gather` of plans, in so many seconds."""

    of: tuple[tuple[Any, ...], ...]
    within: float | None = None


@attrs.frozen
class Ask:
    """At `at`, a new task asks; it gives up after `until`, and the answer is useless after `patience`."""

    at: float
    conversation: str
    priority: ccm.Priority
    plan: tuple[Any, ...]
    until: float | None = None
    patience: float | None = None


@attrs.frozen
class Program:
    """The messages, the settings and a schedule."""

    asks: tuple[Ask, ...]
    config: ccm.Config
    seed: int


SECONDS = st.integers(0, 96).map(lambda n: n * TICK)
HOWS = st.sampled_from([How.FINE, How.FINE, How.FINE, *How])
PATIENCE = st.none() | st.none() | SECONDS.map(lambda seconds: seconds + TICK)
SOON = st.integers(0, 16).map(lambda n: n * TICK)


@st.composite
def plans(draw: st.DrawFn, keys: tuple[str, ...] = KEYS, depth: int = 2) -> tuple[Any, ...]:
    """What one task of a handler does; inside a block it takes only later keys."""
    acts: list[Any] = []
    for _ in range(draw(st.integers(1, 2))):
        kinds = [Wait, *[Take] * (2 if keys else 0), *[Branches] * (depth > 0)]
        kind = draw(st.sampled_from(kinds))
        if kind is Wait:
            acts.append(Wait(draw(SECONDS)))
        elif kind is Take:
            key = draw(st.sampled_from(keys))
            inside: tuple[Any, ...] = (Wait(draw(SECONDS)),)
            if depth and draw(st.booleans()):
                inside += draw(plans(tuple(k for k in keys if k > key), depth - 1))
            acts.append(Take(key, inside, draw(HOWS), draw(st.sampled_from([0.0, 0.5, 1.0, 3.0]))))
        else:
            of = [draw(plans(keys, depth - 1)) for _ in range(draw(st.integers(1, 3)))]
            acts.append(Branches(tuple(of), draw(st.none() | SECONDS)))
    return tuple(acts)


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """Turns that meet at three providers, nearly at once."""
    adaptive = st.none() | st.just(ccm.AdaptiveLimit(window=0.5))
    limits = {key: ccm.ProviderLimit(draw(st.integers(1, 3)), adaptive=draw(adaptive)) for key in KEYS}
    config = ccm.Config(
        limit=draw(st.integers(1, 10)), provider_limits=limits, timeout=4.0,
        retry=ccm.RetryPolicy(attempts=3, base=0.25, cap=1.0), rate_limit=None, debug=True,
        headroom=draw(st.sampled_from([{}, {ccm.CRITICAL: 1}])), adaptive=draw(adaptive),
    )  # fmt: skip
    asks = [
        Ask(
            draw(SOON), f"c{number}", draw(st.sampled_from(ccm.Priority)), draw(plans()),
            draw(PATIENCE), draw(PATIENCE),
        )
        for number in range(draw(st.integers(1, 10)))
    ]  # fmt: skip
    return Program(tuple(asks), config, draw(st.integers(0, 2**32)))


class Crossed(Exception):
    """What handlers raise here."""


class Interpreter:
    """Runs one program once; what is wrong is in `errors`."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.errors: list[str] = []
        self.scopes = [trio.CancelScope() for _ in program.asks]
        self.inner = [trio.CancelScope() for _ in program.asks]
        self.surrounding = trio.CancelScope()
        self.manager: ccm.ConversationManager | None = None
        self.inside: dict[str, dict[object, tuple[int, int]]] = {key: {} for key in KEYS}
        self.waiting: dict[str, dict[object, tuple[tuple[int, int], float]]] = {key: {} for key in KEYS}
        self.passed: dict[object, float] = {}  # waiters that a less urgent one has passed, and when
        self.pauses: dict[str, list[tuple[float, float]]] = {key: [] for key in KEYS}
        self.entered = 0

    # -- handlers --------------------------------------------------------------------------------

    async def handle(self, turn: ccm.Turn) -> str:
        if turn.text == PROBE:
            return await self.probe(turn)
        number = int(turn.text)
        with self.inner[number] if turn.attempt == 1 else trio.CancelScope():
            await self.follow(turn, self.program.asks[number].plan)
        return "ok"

    async def follow(self, turn: ccm.Turn, plan: tuple[Any, ...]) -> None:
        for act in plan:
            match act:
                case Wait():
                    await trio.sleep(act.seconds)
                case Take():
                    await self.take(turn, act)
                case Branches():
                    branches = {f"b{number}": self.branch(of) for number, of in enumerate(act.of)}
                    await turn.gather(act.within, **branches)

    def branch(self, plan: tuple[Any, ...]) -> Any:
        async def analyse(turn: ccm.Turn) -> None:
            await self.follow(turn, plan)

        return analyse

    async def take(self, turn: ccm.Turn, act: Take) -> None:
        token, rank, now = object(), (turn._record.priority, turn.id), trio.current_time()
        self.waiting[act.key][token] = rank, now
        try:
            async with turn.limit(act.key):
                self.enter(act.key, token, rank)
                try:
                    await self.follow(turn, act.inside)
                    await self.leave(turn, act)
                finally:
                    del self.inside[act.key][token]
        except Crossed:
            if act.how is not How.CATCH:
                raise
        finally:
            self.no_longer_waits(act.key, token)

    async def leave(self, turn: ccm.Turn, act: Take) -> None:
        if turn.attempt > 2:
            return
        match act.how:
            case How.BUSY:
                now = trio.current_time()
                self.pauses[act.key].append((now, now + act.retry_after))
                raise ccm.Busy(act.retry_after)
            case How.ERROR | How.CATCH:
                raise Crossed
            case How.HANG if turn.attempt == 1:
                await trio.sleep_forever()

    # -- what is seen ----------------------------------------------------------------------------

    def enter(self, key: str, token: object, rank: tuple[int, int]) -> None:
        now = trio.current_time()
        self.entered += 1
        self.no_longer_waits(key, token)
        self.inside[key][token] = rank
        ceiling = self.program.config.provider_limits[key].limit
        if len(self.inside[key]) > ceiling:
            self.errors.append(f"at {now}: {len(self.inside[key])} are inside {key!r}, {ceiling} may be")
        if any(begin < now < end for begin, end in self.pauses[key]):
            self.errors.append(f"at {now}: {key!r} was entered during one of its pauses {self.pauses[key]}")
        for other, (other_rank, since) in self.waiting[key].items():
            # One that is cancelled at this instant is taken out a moment later.
            if other_rank < rank and since < now:
                self.passed.setdefault(other, now)

    def no_longer_waits(self, key: str, token: object) -> None:
        waited = self.waiting[key].pop(token, None) is not None
        if waited and self.passed.get(token, 9e9) < trio.current_time():
            self.errors.append(f"at {self.passed[token]}: somebody less urgent went first into {key!r}")

    def idle(self) -> str | None:
        """What is wrong while every task is blocked."""
        if self.manager is None:
            return None
        now = self.manager.statistics()
        now.check()
        if classes := self.manager._dispatcher.scheduler.startable():
            return f"turns of classes {classes} could start"
        for key, permits in self.permits():
            permits._check()
            seen = len(self.inside[key]), len(self.waiting[key])
            if seen != (permits.used, now.providers[key].waiting):
                return f"{key!r}: {seen} are inside and wait, the permits say {now.providers[key]}"
        return None

    def permits(self) -> list[tuple[str, Any]]:
        assert self.manager is not None
        return list(self.manager._dispatcher.books.tools.limits._permits.items())

    # -- the run ---------------------------------------------------------------------------------

    async def main(self) -> None:
        async with trio.open_nursery() as callers:
            with self.surrounding:
                async with ccm.open_manager(self.handle, config=self.program.config) as self.manager:
                    for number, ask in enumerate(self.program.asks):
                        callers.start_soon(self.call, number, ask)
                    await trio.sleep(2.0)
                    await self.manager.wait_idle()
                    await self.probe_all()
        left = {key: (permits.used, len(permits._line)) for key, permits in self.permits()}
        assert self.manager is not None
        clocks = self.manager._dispatcher.books.tools.limits.clocks
        if clocks or any(used or waiting for used, waiting in left.values()):
            self.errors.append(f"left over at the end: {left}, {clocks}")

    async def call(self, number: int, ask: Ask) -> None:
        assert self.manager is not None
        await trio.sleep_until(ask.at)
        message = ccm.Message(
            ask.conversation, "ann", str(number), priority=ask.priority,
            deadline=None if ask.patience is None else ask.at + ask.patience,
        )  # fmt: skip
        patience = trio.CancelScope(deadline=9e9 if ask.until is None else ask.at + ask.until)
        with self.scopes[number], patience, suppress(ccm.CcmError, trio.ClosedResourceError):
            await self.manager.ask(message)

    # -- is every permit still there? ------------------------------------------------------------

    async def probe_all(self) -> None:
        """When all pauses are over and a first one has come out fine, all permits can be taken at once."""
        assert self.manager is not None
        await trio.sleep_until(max([0.0, *(permits.until for _, permits in self.permits())]))
        for key, permits in self.permits():
            for most in (1, permits.limit):
                # The slots may be fewer than the permits, and who has a permit has a slot.
                self.wanted = min(most, self.manager.statistics().limit)
                self.key, self.got, self.all_in = key, 0, trio.Event()
                with trio.move_on_after(TICK) as late:
                    async with trio.open_nursery() as nursery:
                        for number in range(self.wanted):
                            name = f"{PROBE} {number}"
                            message = ccm.Message(name, name, PROBE, priority=ccm.CRITICAL)
                            nursery.start_soon(self.manager.ask, message)
                if late.cancelled_caught:
                    self.errors.append(f"{self.got} of {self.wanted} permits of {key!r} could be taken")

    async def probe(self, turn: ccm.Turn) -> str:
        token = object()
        self.waiting[self.key][token] = (-1, turn.id), trio.current_time()
        async with turn.limit(self.key):
            self.enter(self.key, token, (-1, turn.id))
            try:
                self.got += 1
                if self.got == self.wanted:
                    self.all_in.set()
                await self.all_in.wait()
            finally:
                del self.inside[self.key][token]
        return "here"


def run(
    program: Program, interpreter: Interpreter | None = None, instruments: Iterable[Any] = ()
) -> Interpreter:
    """Interpret `program` to its end, looking whenever every task is blocked.

    Raises:
        AssertionError: something was wrong.
        ccm.testing.Deadlock: somebody waited for ever.
    """
    interpreter = interpreter or Interpreter(program)
    watch = WhenIdle(interpreter.idle)
    simulate(interpreter.main, seed=program.seed, limit=900.0, instruments=[watch, *instruments])
    assert interpreter.errors == []
    return interpreter


def scope_of(interpreter: Interpreter, what: str, which: int) -> Callable[[], None]:
    """What cancels the manager, one of its callers, or the inside of a handler's first attempt."""
    asks = len(interpreter.scopes)
    return {
        "manager": interpreter.surrounding.cancel,
        "caller": interpreter.scopes[which % asks].cancel,
        "handler": interpreter.inner[which % asks].cancel,
    }[what]
