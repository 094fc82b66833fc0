"""Between the connections and the application: bounded, in order, and putting into it never waits.

When it is full the least important event goes: what shows presence before messages, messages before
commands. What was given up is counted, and told as one `Gap` in the place where the first was missing.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Final, final

import attrs
import trio

from ._models import Event, Gap, Ready, Resumed
from ._progress import Place

__all__ = ["COMMANDS", "Inbox", "Item"]

Item = Event | Ready | Resumed | Gap

YIELD_EVERY = 16
"""Items that one task may take in a row without letting the others run."""

CONTROL, COMMAND, MESSAGE, OTHER = range(4)
COMMANDS: Final = ("INTERACTION_CREATE",)
RANKS: Final = {
    **dict.fromkeys(COMMANDS, COMMAND),
    "MESSAGE_CREATE": MESSAGE,
    "MESSAGE_UPDATE": MESSAGE,
    "MESSAGE_DELETE": MESSAGE,
    "MESSAGE_DELETE_BULK": MESSAGE,
}


@final
@attrs.define(eq=False)
class _Shed:
    """A gap that grows until it is read; `serial`: where it is."""

    shard: int
    serial: int
    count: int = 0
    messages: int = 0
    first: Place | None = None


@final
class Inbox:
    """Items for one reader.

    Args:
        capacity: items at most; gaps are not among them, there is at most one of each shard.

    Attributes:
        shed: events given up so far.
    """

    # _items   serial -> item, in order of arrival
    # _ranks   rank -> the serials of its items, ascending
    # _gaps    shard -> its gap in _items; never the key of one that was read

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._items: OrderedDict[int, Item | _Shed] = OrderedDict()
        self._ranks: tuple[deque[int], ...] = (deque(), deque(), deque(), deque())
        self._gaps: dict[int, _Shed] = {}
        self._serial = 0
        self._error: BaseException | None = None
        self._reader: trio.lowlevel.Task | None = None
        self._taken = 0
        self.shed = 0

    def __len__(self) -> int:
        """Items that wait, gaps left out. O(1)."""
        return len(self._items) - len(self._gaps)

    def put_nowait(self, item: Item) -> Event | None:
        """Add an item; returns what was given up for it, which may be itself. O(1)."""
        rank = RANKS.get(item.type, OTHER) if isinstance(item, Event) else CONTROL
        victim: Event | None = None
        if len(self._items) - len(self._gaps) >= self._capacity:
            worst = max(number for number in range(4) if self._ranks[number])
            if rank != CONTROL and worst <= rank:
                assert isinstance(item, Event)
                self._note(item)
                return item
            serial = self._ranks[worst].popleft()
            old = self._items[serial]
            if isinstance(old, Event):
                victim = old
                self._note(old, serial)
            else:
                del self._items[serial]
        self._add(item)
        self._ranks[rank].append(self._serial)
        self._wake()
        return victim

    def _add(self, item: Item | _Shed) -> None:
        self._serial += 1
        self._items[self._serial] = item

    def _note(self, event: Event, serial: int | None = None) -> None:
        """Count what was given up; `serial`: of its place, None when it had none yet. O(1)."""
        self.shed += 1
        gap = self._gaps.get(event.shard)
        if serial is None:
            if gap is None:
                gap = self._gaps[event.shard] = _Shed(event.shard, self._serial + 1)
                self._add(gap)
        elif gap is not None and gap.serial < serial:
            del self._items[serial]
        else:  # it must be told before what came behind
            if gap is None:
                gap = self._gaps[event.shard] = _Shed(event.shard, serial)
            else:
                del self._items[gap.serial]
            gap.serial = serial
            self._items[serial] = gap
        gap.count += 1
        gap.messages += event.type in RANKS
        if event.seq is not None:
            place = event.session, event.seq
            gap.first = place if gap.first is None else min(gap.first, place)
        self._wake()

    def missing(self, shard: int) -> Place | None:
        """The first event of a shard that was given up and that nobody was told of yet. O(1)."""
        gap = self._gaps.get(shard)
        return None if gap is None else gap.first

    def fail(self, error: BaseException) -> None:
        """No more will come: once it is empty, its reader gets this error; the first one counts. O(1)."""
        if self._error is None:
            self._error = error
            self._wake()

    def take_commands(self) -> list[Event]:
        """Take out the commands that wait, in order. O(commands)."""
        found = [self._items.pop(serial) for serial in self._ranks[COMMAND]]
        self._ranks[COMMAND].clear()
        return [item for item in found if isinstance(item, Event)]

    async def get(self) -> Item:
        """The next item; waits for one. When cancelled, none is lost.

        Raises:
            trio.BusyResourceError: somebody else waits.
            BaseException: what `fail` was given, as often as it is asked.
        """
        if self._reader is not None:
            raise trio.BusyResourceError("the gateway is read by one task; let it hand events to others")
        # Others get a turn at every so many: a burst is not read without a pause, and the pauses are not
        # most of the work.
        self._taken += 1
        if self._items and self._taken % YIELD_EVERY:
            await trio.lowlevel.checkpoint_if_cancelled()
        else:
            await trio.lowlevel.checkpoint()
        while not self._items:
            if self._error is not None:
                raise self._error
            await self._wait()
        _, item = self._items.popitem(last=False)
        if isinstance(item, _Shed):
            del self._gaps[item.shard]
            session, seq = item.first or (0, None)
            return Gap("shed", item.count, item.messages, item.shard, seq, session)
        self._ranks[RANKS.get(item.type, OTHER) if isinstance(item, Event) else CONTROL].popleft()
        return item

    async def _wait(self) -> None:
        self._reader = trio.lowlevel.current_task()

        def abort(_: object) -> trio.lowlevel.Abort:
            self._reader = None
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def _wake(self) -> None:
        if self._reader is not None:
            trio.lowlevel.reschedule(self._reader)
            self._reader = None

    def _check(self) -> None:
        """Assert every invariant. O(items)."""
        assert len(self) <= self._capacity
        serials = sorted(serial for rank in self._ranks for serial in rank)
        assert serials == [key for key, item in self._items.items() if not isinstance(item, _Shed)]
        assert list(self._items) == sorted(self._items)
        assert all(self._items[gap.serial] is gap for gap in self._gaps.values())
        gaps = [item for item in self._items.values() if isinstance(item, _Shed)]
        assert {gap.shard: gap for gap in gaps} == self._gaps
        assert len(gaps) == len(self._gaps)
        assert all(gap.count >= max(gap.messages, 1) for gap in gaps)
