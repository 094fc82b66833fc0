"""`Limits`: the permits behind `Turn.limit`, and the tasks that wait for them.

A turn that waits for a permit keeps its slot. So slots and permits cannot wait for each other in a circle:
who holds a permit has its slot already. Among permits, the order of their names does the same: inside a block
a turn asks only for later names, so whoever holds the last name that is waited for can go on (Havender,
"Avoiding deadlock in multitasking systems", 1968).

What makes the hand-over safe: a permit is in its key's line exactly while its task is parked. Whoever takes
it out reschedules the task in the same synchronous step; if the task is cancelled while parked, the abort
function takes it out. A task that was handed a permit and is cancelled as well has no checkpoint between its
waking and the block, whose end gives the permit back.
"""

from __future__ import annotations

from contextvars import ContextVar
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, final

import outcome
import trio
from trio.lowlevel import (
    Abort,
    cancel_shielded_checkpoint,
    checkpoint_if_cancelled,
    current_task,
    reschedule,
    wait_task_rescheduled,
)

from . import _events as events
from ._core.adaptive import Aimd
from ._core.lanes import DONE
from ._core.permits import (
    FINE,
    HELD,
    LATE,
    NEW,
    NOTHING,
    REFUSED,
    WAITING,
    Permit,
    Permits,
    ProviderStatistics,
)
from ._errors import Busy
from ._message import Priority

if TYPE_CHECKING:
    from ._bus import Bus
    from ._config import Config
    from ._record import TurnRecord

_asked: ContextVar[tuple[Block, ...]] = ContextVar("ccm_limit_blocks")


@final
class Limits:
    """The providers of one manager.

    Attributes:
        clocks: the time-outs of attempts that hold a permit or wait for one, by turn and attempt.
    """

    __slots__ = ("_bus", "_permits", "clocks")

    def __init__(self, config: Config, bus: Bus) -> None:
        self._bus = bus
        self.clocks: dict[tuple[int, int], _Clock] = {}
        self._permits = {
            key: Permits(
                policy.limit,
                lambda limit: [config.headroom_of(priority, limit) for priority in Priority],
                None if policy.adaptive is None else Aimd(policy.adaptive, policy.limit),
            )
            for key, policy in config.provider_limits.items()
        }

    def block(self, record: TurnRecord, key: str) -> Block:
        """`Turn.limit`. O(1)."""
        if key not in self._permits:
            known = ", ".join(map(repr, self._permits)) or "none"
            raise KeyError(f"no limit {key!r}; known: {known}; Config.provider_limits names them")
        return Block(self, self._permits[key], record, key)

    def statistics(self, now: float) -> MappingProxyType[str, ProviderStatistics]:
        """The figures of each provider; also when Trio no longer runs. O(providers)."""
        return MappingProxyType({key: permits.statistics(now) for key, permits in self._permits.items()})

    def give_back(self, block: Block, error: BaseException | None, now: float) -> None:
        """A block was left, with `error` if there is one: what that says of its provider, and who is next."""
        permits = block.permits
        how, busy = block.left_with(error, now)
        before, until = permits.limit, permits.until
        returned = permits.give_back(block, now, how, 0.0 if busy is None else busy.retry_after)
        if busy is not None:
            busy._key, busy._judged, busy._alike = block.key, permits.adapts, returned.alike
        elif how == LATE and permits.adapts:
            block.record.more.judged = block.record.attempt
        for other in returned.granted:
            assert isinstance(other, Block)
            reschedule(other.waiter())
        for other in returned.sent_away:
            assert isinstance(other, Block)
            reschedule(other.waiter(), outcome.Error(other.held_back(now)))
        if self._bus.active:
            if permits.limit != before:
                change = events.LimitChanged(now, block.key, permits.limit, before, permits.share)
                self._bus.publish(change)
            if permits.until > max(until, now):
                self._bus.publish(events.ProviderPaused(now, block.key, permits.until))


@final
class Block(Permit):
    """One `async with turn.limit(key)`: the permit, whose it is, and the task that waits for it."""

    __slots__ = ("_attempt", "_clock", "_late", "_limits", "_outer", "_task", "key", "permits", "record")

    def __init__(self, limits: Limits, permits: Permits, record: TurnRecord, key: str) -> None:
        super().__init__(record.priority, record.id)
        self._limits = limits
        self._task: trio.lowlevel.Task | None = None
        self._clock: _Clock
        self._attempt = record.attempt
        self._outer: tuple[Block, ...] = ()
        self._late = False
        self.permits = permits
        self.record = record
        self.key = key

    async def __aenter__(self) -> None:
        await checkpoint_if_cancelled()
        self._outer = self._blocks_around()
        now = trio.current_time()
        if self.permits.ask(self, now) == NEW:
            raise self.held_back(now)
        clocks, of = self._limits.clocks, (self.record.id, self._attempt)
        self._clock = clocks.get(of) or clocks.setdefault(of, _Clock(clocks, self.record))
        if self.state == WAITING:
            await self._wait()
        else:
            self._clock.changed(holds=1)
            await cancel_shielded_checkpoint()
        _asked.set((*self._outer, self))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:  # noqa: ASYNC910 - nothing to wait for
        _asked.set(tuple(block for block in _asked.get(()) if block is not self))
        self._limits.give_back(self, error, trio.current_time())
        self._clock.changed(holds=-1)

    def left_with(self, error: BaseException | None, now: float) -> tuple[int, Busy | None]:
        """What it says of the provider that the block is left with `error`, or without: FINE, REFUSED, ...

        Of nested blocks, only the innermost one that an error leaves has to do with it.
        """
        busy = _busy(error)
        if busy is not None:
            return (REFUSED, busy) if busy._key is None else (NOTHING, None)
        if self._timed_out(now):
            for block in self._outer:
                block._late = True
            return (NOTHING if self._late else LATE), None
        return (FINE if error is None else NOTHING), None

    def _timed_out(self, now: float) -> bool:
        """Whether its attempt has run into the time-out of the route, and not into the message's deadline."""
        record = self.record
        return record.attempt == self._attempt and record.cancel_by == "timeout" and now < record.useless

    def held_back(self, now: float) -> Busy:
        """What is raised instead of giving a permit while the key pauses."""
        busy = Busy(self.permits.left(now))
        busy._key = self.key
        busy._judged = busy._alike = True
        return busy

    def waiter(self) -> trio.lowlevel.Task:
        """The task that waits for it, which must be woken by whoever takes it out."""
        task, self._task = self._task, None
        assert task is not None
        return task

    def _blocks_around(self) -> tuple[Block, ...]:
        """The blocks this task is in already; raises unless all of them have earlier names.

        A worker inherits what the task that started it was in: blocks of other turns do not count.
        """
        if self.state != NEW:
            raise RuntimeError(
                f"this block of limit {self.key!r} was used before; call turn.limit() each time"
            )
        if self.record.place == DONE or self.record.attempt != self._attempt:
            raise RuntimeError(
                f"this attempt of turn {self.record.turn_id} is over; a turn is for its handler only"
            )
        blocks = tuple(b for b in _asked.get(()) if b.state == HELD and b.record is self.record)
        for block in blocks:
            if block.key == self.key:
                raise RuntimeError(
                    f"limit {self.key!r} was asked for inside its own block; one permit is enough: "
                    "pass it on, or leave the block first"
                )
            if block.key > self.key:
                raise RuntimeError(
                    f"limit {self.key!r} was asked for inside the block of {block.key!r}; ask in the order "
                    f"of the names, {self.key!r} first: else turns could wait for each other for ever"
                )
        return blocks

    async def _wait(self) -> None:
        self._task = current_task()

        def abort(_: Any) -> Abort:
            self._task = None
            self.permits.give_up(self)
            return Abort.SUCCEEDED

        self._clock.changed(waits=1)
        try:
            await wait_task_rescheduled(abort)
        except BaseException:
            if self._timed_out(trio.current_time()):
                for block in self._outer:
                    block._late = True  # what it waited for is not theirs
            self._clock.changed(waits=-1)
            raise
        self._clock.changed(waits=-1, holds=1)


@final
class _Clock:
    """The time-out of one attempt. It stands still while the attempt waits for a permit and holds none.

    The time-out is for what the handler does. Were it for this waiting, too, a limit that falls would make
    turns time out, those would lower it further, and it would stay down. Who holds a permit is bounded by it
    in any case, so that whoever waits does get one.
    """

    __slots__ = ("_attempt", "_clocks", "_holds", "_left", "_record", "_waits")

    def __init__(self, clocks: dict[tuple[int, int], _Clock], record: TurnRecord) -> None:
        self._clocks = clocks
        self._record = record
        self._attempt = record.attempt
        self._holds = self._waits = 0
        self._left: float | None = None

    def changed(self, *, holds: int = 0, waits: int = 0) -> None:
        """So many more blocks of the attempt hold a permit, or wait for one. O(1)."""
        self._holds += holds
        self._waits += waits
        record = self._record
        if not self._holds and not self._waits:
            del self._clocks[record.id, self._attempt]
        if record.attempt != self._attempt or record.cancel_by is not None or record.degraded is not None:
            return  # it has ended, is told to, or is a fallback, which has little time in any case
        stands_still = self._waits > 0 and not self._holds
        if stands_still and self._left is None:
            self._left = record.deadline - trio.current_time()
            record.deadline = record.useless
        elif not stands_still and self._left is not None:
            record.deadline = min(trio.current_time() + self._left, record.useless)
            self._left = None
            record.book.tools.remind(record.deadline)


def _busy(error: BaseException | None) -> Busy | None:
    """The `Busy` in an error, of several the one that says to wait longest."""
    if isinstance(error, Busy):
        return error
    if isinstance(error, BaseExceptionGroup):
        found = error.split(Busy)[0]
        return None if found is None else max(_leaves(found), key=lambda busy: busy.retry_after)
    return None


def _leaves(group: BaseExceptionGroup[Any]) -> list[Busy]:
    leaves: list[Busy] = []
    for error in group.exceptions:
        leaves += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return leaves
