"""What a rehearsal counts: figures of classes and tenants, and a timeline. No Trio here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import final

import attrs

from ccm._core.histogram import LatencyHistogram
from ccm._message import Priority
from ccm._outcome import OUTCOMES

ANSWERED = ("replied", "merged")


@final
@attrs.define(eq=False)
class GroupFigures:
    """The messages of one class or of one tenant.

    Attributes:
        outcomes: how many got each outcome, by its name.
        reasons: how many were rejected or shed, by outcome and reason, as `("rejected", "overloaded")`.
        wait: seconds from arrival to the first start, of those that started.
        service: seconds of the last attempt, of those that ended while they ran.
        response: seconds from arrival to the end, of those that were answered.
    """

    outcomes: dict[str, int] = attrs.field(factory=lambda: dict.fromkeys(OUTCOMES, 0))
    reasons: dict[tuple[str, str], int] = attrs.field(factory=dict)
    wait: LatencyHistogram = attrs.field(factory=LatencyHistogram)
    service: LatencyHistogram = attrs.field(factory=LatencyHistogram)
    response: LatencyHistogram = attrs.field(factory=LatencyHistogram)

    @property
    def messages(self) -> int:
        """Messages with an outcome."""
        return sum(self.outcomes.values())

    @property
    def answered(self) -> int:
        """Messages that got an answer, as `replied` and `merged` did."""
        return sum(self.outcomes[name] for name in ANSWERED)

    @property
    def loss(self) -> float:
        """Share of the messages that got no answer, 0.0 to 1.0; 0.0 when there were none."""
        messages = self.messages
        return (messages - self.answered) / messages if messages else 0.0

    def count_reason(self, outcome: str, reason: str) -> None:
        """One more message that got `outcome` for `reason`. O(1)."""
        key = (outcome, reason)
        self.reasons[key] = self.reasons.get(key, 0) + 1

    def merge(self, other: GroupFigures) -> None:
        """Add everything that `other` counted; `other` stays as it is. O(buckets)."""
        for name, count in other.outcomes.items():
            self.outcomes[name] += count
        for key, count in other.reasons.items():
            self.reasons[key] = self.reasons.get(key, 0) + count
        self.wait.merge(other.wait)
        self.service.merge(other.service)
        self.response.merge(other.response)

    @staticmethod
    def sum(groups: Sequence[GroupFigures]) -> GroupFigures:
        """All of them together. O(groups x buckets)."""
        total = GroupFigures()
        for group in groups:
            total.merge(group)
        return total


@final
@attrs.frozen(kw_only=True)
class Timeline:
    """What happened step by step: every sequence has one value for each step.

    Attributes:
        step: seconds, from after the end of the step before; the last step may be shorter.
        arrivals: messages that arrived.
        outcomes: messages that got each outcome, by its name.
        running: slots in use, averaged over the step.
        limit, waiting: slots that exist, and turns that wait, at the end of the step.
        wait_p50, wait_p99: by class, of the turns that started in the step; None where none did. Exact.
    """

    step: float
    arrivals: Sequence[int]
    outcomes: Mapping[str, Sequence[int]]
    running: Sequence[float]
    limit: Sequence[int]
    waiting: Sequence[int]
    wait_p50: Mapping[Priority, Sequence[float | None]]
    wait_p99: Mapping[Priority, Sequence[float | None]]


def _rank(ordered: Sequence[float], q: float) -> float | None:
    """The nearest-rank quantile of what is sorted. O(1)."""
    return ordered[ceil(q * len(ordered)) - 1] if ordered else None


@final
class Recorder:
    """Collects a `Timeline`: what happens in the present step, and the columns of those that are over.

    Invariants: all columns are equally long; `started[c]` are the waits of class c in this step.
    """

    def __init__(self, step: float) -> None:
        self.step = step
        self.arrivals = 0
        self.outcomes = dict.fromkeys(OUTCOMES, 0)
        self.started: tuple[list[float], ...] = tuple([] for _ in Priority)
        self._arrivals: list[int] = []
        self._outcomes: dict[str, list[int]] = {name: [] for name in OUTCOMES}
        self._running: list[float] = []
        self._limit: list[int] = []
        self._waiting: list[int] = []
        self._p50: dict[Priority, list[float | None]] = {priority: [] for priority in Priority}
        self._p99: dict[Priority, list[float | None]] = {priority: [] for priority in Priority}

    def __len__(self) -> int:
        """Steps that are over."""
        return len(self._arrivals)

    @property
    def pending(self) -> bool:
        """Whether something has happened in this step. O(1)."""
        return self.arrivals > 0 or any(self.outcomes.values()) or any(self.started)

    def turn_page(self, *, running: float, limit: int, waiting: int) -> None:
        """The step is over. O(n log n) in the turns that started in it."""
        self._arrivals.append(self.arrivals)
        self.arrivals = 0
        for name, count in self.outcomes.items():
            self._outcomes[name].append(count)
            self.outcomes[name] = 0
        self._running.append(running)
        self._limit.append(limit)
        self._waiting.append(waiting)
        for priority in Priority:
            waits = self.started[priority]
            waits.sort()
            self._p50[priority].append(_rank(waits, 0.50))
            self._p99[priority].append(_rank(waits, 0.99))
            waits.clear()

    def timeline(self) -> Timeline:
        """The columns so far. O(1)."""
        return Timeline(
            step=self.step, arrivals=self._arrivals, outcomes=self._outcomes, running=self._running,
            limit=self._limit, waiting=self._waiting, wait_p50=self._p50, wait_p99=self._p99,
        )  # fmt: skip
