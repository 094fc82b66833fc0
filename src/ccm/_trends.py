"""Gives a manager's figures to its timeline when a second is over."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, final

from ._core.lanes import RETRYING, RUNNING, WAITING
from ._core.trends import Reading, Timeline, Trends
from ._message import Priority

if TYPE_CHECKING:
    from ._books import Books
    from ._core.scheduler import Scheduler


@final
class Recorder:
    """One manager's trends, from its opening on.

    Whoever changes what is counted calls `close` first when `now >= timeline.edge`: before a message is
    judged, before a turn ends, starts or goes back to wait, before the limit changes. That comparison is all
    that a message costs.

    Attributes:
        timeline: the rows.
    """

    __slots__ = ("_books", "_memory", "_scheduler", "timeline")

    def __init__(self, books: Books, scheduler: Scheduler, now: float) -> None:
        self._books = books
        self._scheduler = scheduler
        self._memory = _memory_meter()
        waits = [[book.wait[priority] for book in books.routes.values()] for priority in Priority]
        self.timeline = Timeline(now, self._reading(), waits)

    def close(self, now: float) -> None:
        """Close the seconds that are over, if any. 50 to 350 µs, at most once a second."""
        if now >= self.timeline.edge:
            self.timeline.close(now, self._reading())

    def trends(self, step: int, now: float) -> Trends:
        """The rows up to `now`. O(rows)."""
        self.close(now)
        return self.timeline.trends(step, time.time() - now)

    def _reading(self) -> Reading:
        messages, sides = self._books.messages, self._books.sides
        places = messages.places
        slots = places[RUNNING] + sides.places[RUNNING]
        return Reading(
            counts=(messages.received, *messages.outcomes.values()),
            gauges=(places[RUNNING], places[WAITING], places[RETRYING], slots, self._scheduler.limit),
            memory=self._memory(),
            cpu=time.process_time(),
        )


def _memory_meter() -> Callable[[], int | None]:
    """A function that tells the process's resident memory in bytes, or None when that cannot be known."""
    try:
        import psutil
    except ImportError:
        return lambda: None
    process: Any = None

    def memory() -> int | None:
        nonlocal process
        try:
            process = process or psutil.Process()
            rss: int = process.memory_info().rss
        except (psutil.Error, OSError):  # a system that does not tell, or not now
            return None
        return rss

    return memory
