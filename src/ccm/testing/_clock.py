"""A clock that is the list of everything that will happen, for simulations of millions of messages.

Trio asks its clock how long to sleep exactly when every task is blocked. A clock of virtual time answers by
moving on to whatever comes next. `MockClock` knows only deadlines, so each thing that happens costs a cancel
scope with a deadline, and Trio looks twice before it jumps. Here things that happen are entries of one heap:
a task to be woken or a function to be called. That costs a tenth, and the order is the same: by time, then
by the order in which they were asked for.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from heapq import heappop, heappush
from typing import Any, final

import trio
from trio.lowlevel import Abort, current_task, reschedule, wait_task_rescheduled

_INF = math.inf
_PATIENCE = 1000
_LAST = 1 << 62


@final
class EventClock(trio.abc.Clock):
    """Virtual time that starts at 0 and jumps from event to event; Trio's own deadlines are events, too.

    Args:
        on_stuck: called, inside the run loop, when every task is blocked and nothing is left to happen.

    Attributes:
        now: the time, in seconds.
        error: what a function raised that was called at its time. None are called after that; `on_error`,
            if set, is called once.

    Invariants: `_heap` is a heap of lists `[time, number, task, function]`, of which one of the last two is
    set, or none if it has been given up; numbers rise.
    """

    def __init__(self, on_stuck: Callable[[], object]) -> None:
        self.now = 0.0
        self.error: Exception | None = None
        self.on_error: Callable[[], object] | None = None
        self._on_stuck = on_stuck
        self._heap: list[list[Any]] = []
        self._number = 0
        self._idle = 0

    def start_clock(self) -> None:
        """Trio starts a run; nothing to do."""

    def current_time(self) -> float:
        """The time, in seconds."""
        return self.now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Let the next event happen, or time reach Trio's next `deadline`; never sleeps. O(log events)."""
        heap = self._heap
        while heap and heap[0][2] is None and heap[0][3] is None:
            heappop(heap)
        if heap and heap[0][0] <= deadline:
            self._idle = 0
            at, _, task, function = heappop(heap)
            if at > self.now:
                self.now = at
            if task is not None:
                reschedule(task)
            elif self.error is None:
                self._call(function)
        elif deadline < _INF:
            self._idle = 0
            if deadline > self.now:
                self.now = deadline
        else:
            # Trio itself needs a few passes without an event, at the start and at the end of a run.
            self._idle += 1
            if self._idle >= _PATIENCE:
                self._idle = 0
                self._on_stuck()
        return 0.0

    def _call(self, function: Callable[[], object]) -> None:
        try:
            function()
        except Exception as error:  # an error here would be an internal error of Trio
            self.error = error
            if self.on_error is not None:
                self.on_error()

    def call_at(self, at: float, function: Callable[[], object], *, last: bool = False) -> None:
        """Have `function()` called at `at`, inside the run loop: it may do what an instrument may. O(log
        events).

        A time that has passed counts as now. `last`: after all else that happens at that time, but for Trio's
        own deadlines.
        """
        self._number += 1
        heappush(self._heap, [at, self._number + _LAST if last else self._number, None, function])

    async def sleep_until(self, at: float) -> None:
        """Block until `at`, at least until all that is due now has happened. O(log events).

        When cancelled, it ends at once.
        """
        self._number += 1
        entry = [at, self._number, current_task(), None]
        heappush(self._heap, entry)

        def abort(_: Any) -> Abort:
            entry[2] = None
            return Abort.SUCCEEDED

        await wait_task_rescheduled(abort)


def sleep(seconds: float) -> Awaitable[None]:
    """`await sleep(seconds)` is `trio.sleep`, at a tenth of its cost under an `EventClock`."""
    clock = trio.lowlevel.current_clock()
    if type(clock) is EventClock:
        return clock.sleep_until(clock.now + seconds)
    return trio.sleep(seconds)  # noqa: ASYNC105 - handed on, which saves a coroutine
