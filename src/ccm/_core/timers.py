"""Reminders by time, one valid one per item, on a heap with lazy deletion."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Generic, Protocol, TypeVar, final

from .lanes import INF

_SLACK = 64


class Remindable(Protocol):
    """What can be reminded of: `wake` is the time of its one valid timer, or inf."""

    wake: float


R = TypeVar("R", bound=Remindable)


@final
class Timers(Generic[R]):
    """What has to be looked at when.

    A timer is valid while its time is the item's `wake`; whoever sets `wake` to inf has taken it back.

    Attributes:
        next: the time of the earliest timer, valid or not; inf when there is none.

    Invariants: every item whose `wake` is finite has a timer of that time in `_heap`; after `remind`, there
    are at most `2 * live + _SLACK` timers.
    """

    __slots__ = ("_count", "_heap", "next")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, R]] = []
        self._count = 0
        self.next = INF

    def __len__(self) -> int:
        return len(self._heap)

    def remind(self, time: float, item: R, live: int) -> None:
        """Set a timer, unless the item has one as early: a timer that is early does no harm.

        O(log n), amortised. `live` is the number of items that may have a timer.
        """
        if item.wake <= time:
            return
        item.wake = time
        self._count += 1
        heap = self._heap
        heappush(heap, (time, self._count, item))
        if len(heap) > 2 * live + _SLACK:
            # By item: one that was taken back and reminded of the same time again has two.
            valid = {id(timer[2]): timer for timer in heap if timer[2].wake == timer[0]}
            self._heap = heap = list(valid.values())
            heapify(heap)
        self.next = heap[0][0]

    def take(self, now: float) -> R | None:
        """The next item whose time has come, its timer used up; None when there is none. O(log n) each."""
        heap = self._heap
        while heap and heap[0][0] <= now:
            time, _, item = heappop(heap)
            if item.wake == time:
                item.wake = INF
                self.next = heap[0][0] if heap else INF
                return item
        self.next = heap[0][0] if heap else INF
        return None

    def holds(self, item: R) -> bool:
        """Whether the item's timer is there. O(n), for checks."""
        return any(timer[2] is item and timer[0] == item.wake for timer in self._heap)

    def _check(self) -> None:
        assert self.next == (self._heap[0][0] if self._heap else INF)
