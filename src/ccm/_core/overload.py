"""Whether too much is waiting, and whose messages are given up meanwhile.

The signal is how long the lack of a slot has kept turns from starting, never how long answers take. As in
CoDel (Nichols, Jacobson, "Controlling Queue Delay", ACM Queue 2012) it is the *least* delay of an interval
that counts: a burst that is worked off leaves it at 0, only a queue that stands raises it.

What is given up is, at first, as much as is offered beyond what the slots can take; from there it changes
in small steps: first the LOW messages of one user after another, then the NORMAL ones. Users are chosen by a
hash that changes every `rotate` seconds, so that for a while the same people are answered as usual, all of
what they say, and then others: as in DAGOR (Zhou et al., "Overload Control for Scaling WeChat Microservices",
SoCC 2018). HIGH and CRITICAL messages are never given up.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import floor
from typing import TYPE_CHECKING, Final, final
from zlib import crc32

import attrs

from .lanes import CLASSES, INF, LOW

if TYPE_CHECKING:
    from .._policies import Shedding

__all__ = ["Judgement", "Overload"]

STEPS: Final = 64
"""Groups of users per class: the level is a number of groups, LOW ones first."""
_UP: Final = 2
_DOWN: Final = 1
_FAST: Final = STEPS // 2
_STEEP: Final = 2.0
"""Times its target that a wait must be for the level to jump to what the load needs."""
_MEMORY: Final = 4
"""Intervals over which the load is averaged."""
_NORMAL: Final = LOW - 1
_CALM: Final = 0.9
"""Part of the slots that all that is offered needs at most, once the load is over."""


@attrs.frozen
class Judgement:
    """What an interval showed: the level from now on, what it was, and whether a class was overloaded."""

    level: int
    before: int
    over: bool


@final
class Overload:
    """Raises and lowers the level of what is given up.

    Args:
        policy: targets, interval, rotation.

    Attributes:
        level: groups of users whose messages are given up, 0 to 2 * `STEPS`.

        patience: seconds a turn must have waited before it is given up while it waits.

    Invariants: `_least[c]` is the least delay of the turns of class c that started since the last judgement,
    inf when none did; `_stalled[c]` is when class c was first seen to have turns ready and start none, inf
    when it is not so; `_judged` is when the last judgement was, `_next` when the next one is due, inf while
    nothing waits and nothing is given up; `_offered[c]` counts the turns of class c that were offered since
    the last judgement, `_rates[c]` is their number per second, averaged over some intervals.
    """

    __slots__ = (
        "_judged", "_least", "_next", "_offered", "_policy", "_rates", "_stalled", "_targets", "level",
        "patience",
    )  # fmt: skip

    def __init__(self, policy: Shedding) -> None:
        self._policy = policy
        targets: dict[int, float] = {int(klass): seconds for klass, seconds in policy.targets.items()}
        self._targets = tuple(targets.get(klass, INF) for klass in range(CLASSES))
        self.patience = targets.get(_NORMAL, max(targets.values(), default=INF))
        self._least = [INF] * CLASSES
        self._stalled = [INF] * CLASSES
        self._offered = [0] * CLASSES
        self._rates = [0.0] * CLASSES
        self._judged = 0.0
        self._next = INF
        self.level = 0

    def next_deadline(self) -> float:
        """When `judge` must be called; inf when there is nothing to judge. O(1)."""
        return self._next

    def arrived(self, priority: int) -> None:
        """One more turn of the class is offered, given up or not. O(1)."""
        self._offered[priority] += 1

    def started(self, klass: int, delay: float) -> None:
        """A turn of effective class `klass` starts, kept waiting by the lack of a slot for `delay`. O(1)."""
        if delay < self._least[klass]:
            self._least[klass] = delay

    def waits(self, now: float) -> None:
        """Something waits for a slot: from now on there is something to judge. O(1)."""
        if self._next == INF:
            self._judged = now
            self._next = now + self._policy.interval
            self._offered = [0] * CLASSES
            self._rates = [0.0] * CLASSES
            self._least = [INF] * CLASSES
            self._stalled = [INF] * CLASSES

    def judge(self, now: float, ready: Sequence[int], slots: int, seconds: float) -> Judgement:
        """Judge the interval that ends now. O(classes).

        Args:
            now: not before `next_deadline()`.
            ready: lanes of each class that could start but for a slot.
            slots: how many NORMAL turns may use.
            seconds: what a turn takes on average.

        Raises:
            RuntimeError: nothing is to be judged yet; nothing was changed.
        """
        if now < self._next:
            raise RuntimeError(f"the next judgement is due at {self._next!r}, not at {now!r}")
        worst = max(self._excess(klass, now, ready) for klass in range(CLASSES))
        needed = self._needed(now, slots, seconds)
        before = self.level
        if worst > 1.0:
            step = self.level + _UP
            self.level = min(max(step, needed) if worst > _STEEP else step, 2 * STEPS)
        elif self.level > needed:
            # The end of the load is seen from what is offered, given up or not. Below what it needs the
            # level does not sink, or the waits would rise again: what finds a slot comes in at any level, so
            # a level that is too high leaves no slot unused.
            self.level = max(self.level - (_DOWN if needed else _FAST), needed)
        self._least = [INF] * CLASSES
        self._judged = now
        self._next = now + self._policy.interval if self.level or any(ready) else INF
        return Judgement(self.level, before, worst > 1.0)

    def _needed(self, now: float, slots: int, seconds: float) -> int:
        """The level at which what still comes in is what the slots can take. O(classes)."""
        elapsed, fresh = now - self._judged, not any(self._rates)
        for klass, count in enumerate(self._offered):
            known = self._rates[klass]
            self._rates[klass] = count / elapsed if fresh else known + (count / elapsed - known) / _MEMORY
        self._offered = [0] * CLASSES
        left = sum(self._rates) - _CALM * slots / max(seconds, 1e-9)
        level = 0.0
        for klass in (LOW, _NORMAL):
            rate = self._rates[klass]
            part = min(max(left, 0.0), rate)
            level += STEPS * part / rate if rate else float(STEPS if left > 0.0 else 0)
            left -= part
        return round(level)

    def _excess(self, klass: int, now: float, ready: Sequence[int]) -> float:
        """By what factor the waits of a class are above its target; at most 1 when they are not."""
        least, target = self._least[klass], self._targets[klass]
        if least < INF:
            self._stalled[klass] = INF
            return least / target
        if not ready[klass]:
            self._stalled[klass] = INF
            return 0.0
        # Nothing started and something could have: the delay of what waits is at least as long.
        self._stalled[klass] = min(self._stalled[klass], self._judged)
        return (now - self._stalled[klass]) / target

    def gives_up(self, priority: int, tenant: str, user: str, now: float) -> bool:
        """Whether a message of this user and class is given up now. O(1)."""
        groups = self.level - STEPS * (LOW - priority)
        if groups <= 0:  # always, for classes more urgent than NORMAL
            return False
        epoch = floor(now / self._policy.rotate)
        return crc32(f"{epoch}\0{tenant}\0{user}".encode("utf-8", "surrogatepass")) % STEPS < groups

    def rotates_in(self, now: float) -> float:
        """Seconds until other users are chosen. O(1)."""
        rotate = self._policy.rotate
        return (floor(now / rotate) + 1) * rotate - now

    def share(self, priority: int) -> float:
        """The part of the users whose messages of this class are given up, 0 to 1. O(1)."""
        return min(max(self.level - STEPS * (LOW - priority), 0), STEPS) / STEPS

    def _check(self) -> None:
        assert 0 <= self.level <= 2 * STEPS
        assert min(self._offered) >= 0
        assert min(self._rates) >= 0.0
        assert self._next == INF or self._next == self._judged + self._policy.interval
        assert self.level == 0 or self._next < INF
        assert all(stalled == INF or stalled <= self._judged for stalled in self._stalled)
