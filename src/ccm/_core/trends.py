"""What happened second by second for five minutes, and minute by minute for a day.

Nothing is done for a single message. Its owner compares the time with `edge` before anything counted changes,
and calls `close` with the counters when the time has come: everything since the last call then belongs to the
second that was open, and the seconds that were skipped are known to be empty. So there is no timer, and
nobody is woken when nothing happens.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from itertools import repeat
from math import floor
from operator import sub
from types import MappingProxyType
from typing import Any, Final, TypeAlias, final

import attrs

from .._message import Priority
from .._outcome import OUTCOMES
from .histogram import Increments, LatencyHistogram, Tally

__all__ = ["GAUGES", "MINUTES", "SECONDS", "Reading", "Timeline", "Trends", "WaitTrend"]

SECONDS: Final = 300
"""Rows of one second that are kept."""
MINUTES: Final = 1440
"""Rows of sixty seconds that are kept."""
GAUGES: Final = ("running", "waiting", "retrying", "slots_in_use", "limit")
_MINUTE: Final = 60
_COUNTS: Final = 1 + len(OUTCOMES)
_NO_COUNTS: Final = (0,) * _COUNTS
_FIGURES: Final = 4
_NO_FIGURES: Final = (0, None, None, None)
_NO_WAITS: Final = _NO_FIGURES * len(Priority)
_WIDTH: Final = _COUNTS + len(_NO_WAITS) + len(GAUGES) + 2

# Counts, four figures of each class's waits, gauges, memory, cpu. Flat, because a day has many of them; a
# tuple, so that all seconds of a silence are one object.
_Row: TypeAlias = tuple[Any, ...]


@final
@attrs.frozen(kw_only=True)
class WaitTrend:
    """The waits of one class, a value for each row: how many turns began to be handled, and for how long
    they had waited, in seconds; None where no turn began.

    `mean` is exact, `p50` and `p99` are within 5 %.
    """

    count: tuple[int, ...]
    mean: tuple[float | None, ...]
    p50: tuple[float | None, ...]
    p99: tuple[float | None, ...]


@final
@attrs.frozen(kw_only=True)
class Trends:
    """What happened lately, in rows of `step` seconds, the oldest first. Each column has one value per row.

    A row is there when its time is over, not before. Rows lie on whole multiples of `step` of Trio's clock,
    so the first one may begin before the manager was opened. Counts are of the row. Gauges are as they were
    at its end; in a row of sixty seconds they are the highest among its seconds' ends.

    Attributes:
        step: seconds in a row, 1 or 60.
        epoch: the zero of Trio's clock in seconds since 1970 (UTC), judged when this was taken: by the wall
            clock, a row begins at `epoch + at`.
        at: when the row begins, on Trio's clock.
        received: messages that reached the manager.
        outcomes: messages that got each outcome, by its name.
        wait: how long turns waited for their start, by class (side turns included).
        running, waiting, retrying: gauges of messages without an outcome, by place.
        slots_in_use, limit: gauges of slots taken (side turns included) and slots existing.
        memory: gauge of the process's resident memory in bytes, measured when the first thing happened after
            the row's end; None without `pip install 'ccm[metrics]'`.
        cpu: processor seconds used by the process. It is measured at the same moment, and shared evenly by
            the rows that have ended since it was measured before.
    """

    step: int
    epoch: float
    at: tuple[float, ...]
    received: tuple[int, ...]
    outcomes: Mapping[str, tuple[int, ...]]
    wait: Mapping[Priority, WaitTrend]
    running: tuple[int, ...]
    waiting: tuple[int, ...]
    retrying: tuple[int, ...]
    slots_in_use: tuple[int, ...]
    limit: tuple[int, ...]
    memory: tuple[int | None, ...]
    cpu: tuple[float, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON: the same names, classes by name, columns as lists. O(rows)."""
        plain: dict[str, Any] = attrs.asdict(self, recurse=False)
        plain["outcomes"] = {name: list(column) for name, column in self.outcomes.items()}
        plain["wait"] = {
            priority.name: {name: list(column) for name, column in attrs.asdict(wait, recurse=False).items()}
            for priority, wait in self.wait.items()
        }
        return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}


@final
@attrs.frozen(kw_only=True)
class Reading:
    """What a manager's counters and gauges show at one instant.

    Attributes:
        counts: messages received, and those with each outcome in the order of `OUTCOMES`; they never fall.
        gauges: the values of `GAUGES`.
        memory: bytes; None when not known.
        cpu: processor seconds used so far.
    """

    counts: tuple[int, ...]
    gauges: tuple[int, ...]
    memory: int | None
    cpu: float


@final
class _Minute:
    """Some seconds added up: counts, waits and cpu as sums, gauges and memory as the highest."""

    __slots__ = ("counts", "cpu", "gauges", "memory", "waits")

    def __init__(self) -> None:
        self.counts = _NO_COUNTS
        self.waits = tuple(Tally() for _ in Priority)
        self.gauges: tuple[int, ...] = (0,) * len(GAUGES)
        self.memory: int | None = None
        self.cpu = 0.0

    def add(self, gauges: tuple[int, ...], memory: int | None, cpu: float) -> None:
        """Seconds that ended with these gauges. O(1)."""
        self.gauges = tuple(map(max, self.gauges, gauges))
        if memory is not None:
            self.memory = max(memory, self.memory or 0)
        self.cpu += cpu

    def count(self, counts: tuple[int, ...], waits: Sequence[Tally]) -> None:
        """What happened in one second. O(buckets of the waits)."""
        self.counts = tuple(a + b for a, b in zip(self.counts, counts, strict=True))
        for own, other in zip(self.waits, waits, strict=True):
            if other.count:
                own.merge(other)

    def row(self) -> _Row:
        """All of it. O(buckets of the waits)."""
        return (*self.counts, *_figures(self.waits), *self.gauges, self.memory, self.cpu)


@final
class Timeline:
    """Rows of seconds and of minutes, made of counters that only grow and of gauges.

    A second that is over is closed by the first `close` at or after its end. That must come before anything
    that is counted changes; then the rows are exact, however late it comes. Should the clock go back, it is
    taken to stand still in the second that is open. Memory is bounded: 1,740 rows of at most 0.8 KB, and a
    copy of each histogram.

    Args:
        now: seconds; the second it lies in is the first.
        reading: the counters at `now`: what was counted before belongs to no row.
        waits: for each class, the histograms in which its waits are recorded.
        seconds, minutes: rows kept of each kind, 1 or more.

    Attributes:
        edge: when the second that is open ends, and `close` has something to do.
        second: the second that is open.
    """

    __slots__ = ("_increments", "_last", "_minute", "_minutes", "_seconds", "edge", "second")

    # _seconds    the rows of the seconds before `second`, no gap between them; none is older than the first
    # _minutes    the rows of the minutes before the one that `second` lies in, likewise
    # _minute     that minute's seconds before `second`, added up
    # _last       the counters at the last close, and so at the beginning of `second`
    # edge        second + 1

    def __init__(
        self, now: float, reading: Reading, waits: Sequence[Sequence[LatencyHistogram]], *,
        seconds: int = SECONDS, minutes: int = MINUTES,
    ) -> None:  # fmt: skip
        self.second = floor(now)
        self.edge = self.second + 1.0
        self._increments = tuple(tuple(map(Increments, histograms)) for histograms in waits)
        self._last = reading
        self._seconds: deque[_Row] = deque(maxlen=seconds)
        self._minutes: deque[_Row] = deque(maxlen=minutes)
        self._minute = _Minute()

    def close(self, now: float, reading: Reading) -> None:
        """Close the second that is open, and those up to `now` as empty ones, if they are over.

        Nothing counted may have changed since the open second ended. O(histograms that have changed), and
        O(rows kept) after a long silence.

        Raises:
            ValueError: a count has fallen; nothing was changed.
        """
        if now < self.edge:
            return
        present, last = floor(now), self._last
        counts = tuple(map(sub, reading.counts, last.counts))
        if min(counts) < 0:
            raise ValueError(f"counts must not fall, got {reading.counts!r} after {last.counts!r}")
        closed = present - self.second
        waits = tuple(map(_taken, self._increments))
        gauges, memory = reading.gauges, reading.memory
        cpu = max(0.0, reading.cpu - last.cpu) / closed
        self._seconds.append((*counts, *_figures(waits), *gauges, memory, cpu))
        _extend(self._seconds, (*_NO_COUNTS, *_NO_WAITS, *gauges, memory, cpu), closed - 1)

        self._minute.count(counts, waits)
        left = _MINUTE - self.second % _MINUTE
        self._minute.add(gauges, memory, cpu * min(closed, left))
        if closed >= left:
            whole, begun = divmod(closed - left, _MINUTE)
            self._minutes.append(self._minute.row())
            _extend(self._minutes, (*_NO_COUNTS, *_NO_WAITS, *gauges, memory, cpu * _MINUTE), whole)
            self._minute = _Minute()
            if begun:
                self._minute.add(gauges, memory, cpu * begun)
        self._last = reading
        self.second = present
        self.edge = present + 1.0

    def trends(self, step: int, epoch: float) -> Trends:
        """The rows that are closed. O(rows).

        Raises:
            ValueError: there are no rows of `step` seconds.
        """
        if step not in (1, _MINUTE):
            raise ValueError(f"step must be 1 or 60 seconds, got {step!r}; add up the rows for other steps")
        rows = self._seconds if step == 1 else self._minutes
        columns = iter(tuple(zip(*rows, strict=True)) or ((),) * _WIDTH)
        after = self.second // step
        return Trends(
            step=int(step),
            epoch=epoch,
            at=tuple(float(number * step) for number in range(after - len(rows), after)),
            received=next(columns),
            outcomes=MappingProxyType({name: next(columns) for name in OUTCOMES}),
            wait=MappingProxyType({priority: _wait(columns) for priority in Priority}),
            **{name: next(columns) for name in (*GAUGES, "memory", "cpu")},
        )

    def _check(self) -> None:
        """Assert every invariant. O(rows)."""
        assert self.edge == self.second + 1
        rows = [*self._seconds, *self._minutes]
        assert all(len(row) == _WIDTH for row in rows)
        assert all(count >= 0 for row in rows for count in row[:_COUNTS])
        for wait in self._minute.waits:
            wait._check()
        begun = self.second % _MINUTE
        if begun <= len(self._seconds):
            counts = [row[:_COUNTS] for row in list(self._seconds)[len(self._seconds) - begun :]]
            assert self._minute.counts == tuple(map(sum, zip(_NO_COUNTS, *counts, strict=True)))


def _taken(increments: Sequence[Increments]) -> Tally:
    """What the histograms of one class have counted since they were asked last."""
    tally = Tally()
    for increment in increments:
        increment.take(tally)
    return tally


def _figures(waits: Sequence[Tally]) -> _Row:
    """The figures of all classes, one after the other."""
    return tuple(figure for wait in waits for figure in (wait.figures() if wait.count else _NO_FIGURES))


def _extend(rows: deque[_Row], row: _Row, times: int) -> None:
    """Add the same row so many times, but no more than are kept."""
    assert rows.maxlen is not None
    rows.extend(repeat(row, min(times, rows.maxlen)))


def _wait(columns: Any) -> WaitTrend:
    """The next columns, as one class's."""
    return WaitTrend(count=next(columns), mean=next(columns), p50=next(columns), p99=next(columns))
