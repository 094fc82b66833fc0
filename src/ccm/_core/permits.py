"""The permits of one provider: who gets the next one, and when nobody may ask it.

A turn holds a permit while it talks to the provider. The most urgent waiter is served first, in a class the
message that came first; some permits are kept for urgent classes, as slots are. When the provider says
*later*, the key pauses: nobody gets a permit until then, and nothing that was on its way before can shorten
that. Should it be refused again although nothing has come out fine in between, it looks like an outage, and
when that pause is over only a few try, until one of them comes out fine (a circuit breaker's half-open state:
Nygard, "Release It!", 2007).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Sequence
from math import inf
from typing import TYPE_CHECKING, Final, final

import attrs

from .lanes import CLASSES

if TYPE_CHECKING:
    from .adaptive import Aimd

__all__ = [
    "FINE", "HELD", "LATE", "NEW", "NOTHING", "REFUSED", "RETURNED", "WAITING",
    "Permit", "Permits", "ProviderStatistics", "Returned",
]  # fmt: skip

# A permit's way: NEW > (WAITING >) HELD > RETURNED, or NEW > WAITING > RETURNED.
NEW, WAITING, HELD, RETURNED = range(4)
# How its holder came out: answered, told to come later, timed out, or nothing that says how the provider is.
FINE, REFUSED, LATE, NOTHING = range(4)

_FEW: Final = 10
"""After an outage, a tenth of the permits is given out until the provider is known to answer."""


class Permit:
    """One request for a permit, and the permit.

    Attributes:
        priority: class of the turn, from 0 (most urgent) to 3.
        order: place of the turn in the order of arrival.
        state: NEW, WAITING, HELD or RETURNED.
        epoch: how many pauses there had been when it was given out.
    """

    __slots__ = ("epoch", "order", "priority", "rank", "state")

    def __init__(self, priority: int, order: int) -> None:
        self.priority = priority
        self.order = order
        self.state = NEW
        self.rank = (priority, order, 0)
        self.epoch = 0


def _rank(permit: Permit) -> tuple[int, int, int]:
    return permit.rank


@final
@attrs.frozen
class Returned:
    """What follows the return of a permit.

    Attributes:
        granted: those who waited and have a permit now.
        sent_away: those who waited and shall come back when the pause is over.
        alike: the refusal is nothing about this turn: nobody has come out fine since the one before.
    """

    granted: tuple[Permit, ...] = ()
    sent_away: tuple[Permit, ...] = ()
    alike: bool = False


@final
@attrs.frozen(kw_only=True)
class ProviderStatistics:
    """One provider's permits at one instant.

    Attributes:
        limit: permits that exist now; `ceiling` is the configured number.
        used: permits that are held; above `limit` for a while after a decrease.
        waiting: turns that wait for one.
        paused: seconds until the provider may be asked again, 0 when it may.
        granted: permits given out so far.
        busy, timeouts: how many of their holders were told `Busy`, or ran into their turn's time-out.
        held_back: how often a turn was sent away because of a pause, without asking the provider.
    """

    limit: int
    ceiling: int
    used: int
    waiting: int
    paused: float
    granted: int
    busy: int
    timeouts: int
    held_back: int


@final
class Permits:
    """The permits of one provider.

    Args:
        limit: permits, >= 1.
        headroom: for a limit, how many permits each class must leave to more urgent ones: 4 rising numbers,
            each below the limit.
        controller: what adapts the limit; None keeps it.

    Attributes:
        limit: permits that exist now.
        used: permits that are held.
        until: when the pause ends; -inf before the first one. It never goes back.

    Invariants: `_line` is sorted and holds exactly the WAITING permits; nobody waits during a pause, nor
    while their class may have a permit; `_trials` of the held ones were given out since the last pause.
    """

    __slots__ = (
        "_asked", "_busy", "_caps", "_careful", "_ceiling", "_controller", "_epoch", "_few", "_fine",
        "_granted", "_headroom", "_held_back", "_line", "_now", "_timeouts", "_trials", "limit", "until",
        "used",
    )  # fmt: skip

    # _fine     somebody has come out fine since the last refusal
    # _careful  after this pause only `_few` may try, until one of them comes out fine
    # _epoch    pauses so far

    def __init__(
        self, limit: int, headroom: Callable[[int], Sequence[int]], controller: Aimd | None = None
    ) -> None:  # fmt: skip
        self._ceiling = limit
        self._headroom = headroom
        self._controller = controller
        self._few = max(1, limit // _FEW)
        self._line: list[Permit] = []
        self._caps: tuple[int, ...] = ()
        self.limit = 0
        self.used = self._trials = self._epoch = 0
        self.until = self._now = -inf
        self._fine, self._careful = True, False
        self._asked = self._granted = self._busy = self._timeouts = self._held_back = 0
        self._set_limit(limit if controller is None else controller.limit)

    @property
    def share(self) -> float:
        """Of those who asked the provider lately, how many were refused, 0 to 1; 0 unless it adapts."""
        return 0.0 if self._controller is None else self._controller.share

    @property
    def adapts(self) -> bool:
        """Whether its limit follows what the provider can take."""
        return self._controller is not None

    def left(self, now: float) -> float:
        """Seconds until the pause is over, 0.0 when there is none. O(1)."""
        return max(0.0, self.until - now)

    def ask(self, permit: Permit, now: float) -> int:
        """Ask for a permit; what became of it. O(waiting), at most the turns that run.

        Returns:
            HELD, WAITING, or, during a pause, NEW: nothing has happened, come back when it is over.

        Raises:
            ValueError: it has been asked for before.
        """
        if permit.state != NEW:
            raise ValueError("this permit has been asked for before; make one for each time")
        self._now = now
        if now < self.until:
            self._held_back += 1
        elif self._may_have(permit):
            # Nobody as urgent can wait: they would have got it before.
            self._grant(permit)
        else:
            self._asked += 1
            permit.rank = (permit.priority, permit.order, self._asked)
            permit.state = WAITING
            insort(self._line, permit, key=_rank)
        return permit.state

    def give_up(self, permit: Permit) -> None:
        """A waiting one is not wanted any more. Nobody else moves up by that. O(waiting).

        Raises:
            ValueError: it does not wait.
        """
        if permit.state != WAITING:
            raise ValueError("this permit does not wait")
        del self._line[bisect_left(self._line, permit.rank, key=_rank)]
        permit.state = RETURNED

    def give_back(self, permit: Permit, now: float, how: int, retry_after: float = 0.0) -> Returned:
        """The holder has come out, and `how`. O(waiting).

        Args:
            permit: what it held.
            now: seconds.
            how: FINE, REFUSED, LATE or NOTHING.
            retry_after: after how many seconds a refused one may ask the provider again, >= 0.

        Raises:
            ValueError: it is not held.
        """
        if permit.state != HELD:
            raise ValueError("this permit is not held; it is given back once, by whoever got it")
        self._now = now
        running, full = self.used, self.used >= self._caps[CLASSES - 1]
        permit.state = RETURNED
        self.used -= 1
        trial = permit.epoch == self._epoch
        self._trials -= trial
        sent_away: tuple[Permit, ...] = ()
        alike = how == REFUSED and not self._fine
        if how == FINE:
            self._fine = True
            if trial:
                self._careful = False
        elif how == REFUSED:
            self._busy += 1
            if trial and not self._fine:
                self._careful = True
            sent_away = self._pause(now, retry_after)
        elif how == LATE:
            self._timeouts += 1
        if self._controller is not None and how != NOTHING:
            overloaded = how != FINE
            limit = self._controller.observe(now, running, overloaded=overloaded, full=full)
            if limit != self.limit:
                self._set_limit(limit)
        return Returned(tuple(self._serve()), sent_away, alike)

    def statistics(self, now: float) -> ProviderStatistics:
        """Its figures. O(1)."""
        return ProviderStatistics(
            limit=self.limit, ceiling=self._ceiling, used=self.used, waiting=len(self._line),
            paused=self.left(now), granted=self._granted, busy=self._busy, timeouts=self._timeouts,
            held_back=self._held_back,
        )  # fmt: skip

    def _pause(self, now: float, retry_after: float) -> tuple[Permit, ...]:
        """Refused: nobody asks until then; whoever waits is sent away."""
        self._fine = False
        self._epoch += 1
        self._trials = 0
        if now + retry_after > self.until:
            self.until = now + retry_after
        if now >= self.until:
            return ()
        sent_away, self._line = tuple(self._line), []
        for permit in sent_away:
            permit.state = RETURNED
        self._held_back += len(sent_away)
        return sent_away

    def _serve(self) -> list[Permit]:
        """Give out what may be given out, the most urgent first: whoever is less urgent may use fewer."""
        served = []
        while self._line and self._may_have(self._line[0]):
            permit = self._line.pop(0)
            self._grant(permit)
            served.append(permit)
        return served

    def _may_have(self, permit: Permit) -> bool:
        trusted = not self._careful or self._trials < self._few
        return trusted and self.used < self._caps[permit.priority]

    def _grant(self, permit: Permit) -> None:
        permit.state = HELD
        permit.epoch = self._epoch
        self.used += 1
        self._trials += 1
        self._granted += 1

    def _set_limit(self, limit: int) -> None:
        self.limit = limit
        self._caps = tuple(limit - reserved for reserved in self._headroom(limit))

    def _check(self) -> None:
        ranks = [permit.rank for permit in self._line]
        assert ranks == sorted(set(ranks))
        assert all(permit.state == WAITING for permit in self._line)
        assert not self._line or not self._may_have(self._line[0])
        assert not self._line or self._now >= self.until
        assert 0 <= self._trials <= self.used
        assert 1 <= self.limit <= self._ceiling
        assert all(1 <= cap <= self.limit for cap in self._caps)
        assert list(self._caps) == sorted(self._caps, reverse=True)
        assert self._granted >= self.used
        if self._controller is not None:
            self._controller._check()
