"""A limit that follows what a provider takes: additive increase, decrease in proportion to its refusals.

Sources: additive increase and multiplicative decrease, Chiu and Jain, "Analysis of the increase and decrease
algorithms for congestion avoidance", 1989; the decrease in proportion to the share of marks, Alizadeh et al.,
"Data center TCP (DCTCP)", SIGCOMM 2010. Two things differ, each for a measured reason:

* The share is that of the attempts that ended *or still run*, and it is judged at each refusal. A provider
  that is overrun by one refuses at once, and as long as a slot is free for it, one waiting turn after the
  other: within an instant nearly all attempts that ended were refused, though only one was too many. Those
  that still run have not been refused; and as the first refusal takes that slot away, no further one follows.
* A raise that was refused is tried again after a pause that doubles. Each such trial costs its refusals, and
  the pauses they impose on others; a provider that takes 20 today mostly takes 20 a second later.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any, Final, Protocol, final, runtime_checkable

from .._checks import refuse
from .._policies import AdaptiveLimit

__all__ = ["NEGLIGIBLE", "PATIENCE", "Aimd", "LimitController", "controller"]

NEGLIGIBLE: Final = 0.01
"""A smaller share of refusals does not lower the limit; nor does the limit grow then."""
PATIENCE: Final = 32
"""After how many quiet windows, at most, a raise that was refused is tried again."""


@runtime_checkable
class LimitController(Protocol):
    """Decides how many may run at the same time. `Config.adaptive` may be a function that makes one.

    It is called with the configured limit, which is also the most that is used of what it says.
    """

    @property
    def limit(self) -> int:
        """How many may run now, 1 or more."""

    def observe(self, now: float, running: int, *, overloaded: bool, full: bool) -> int:
        """An attempt is about to end; returns the limit from now on. Synchronous; must not raise.

        Args:
            now: seconds.
            running: how many run, this one included; above `limit` for a while after a decrease.
            overloaded: it was told `Busy`, or ran into its time-out; else it was answered. Attempts that
                fail otherwise are not reported.
            full: whether all that is not reserved for more urgent classes is in use.
        """


@final
class Aimd:
    """The controller of an `AdaptiveLimit`.

    Args:
        policy: its numbers.
        ceiling: the limit at first and at most, >= 1.

    Attributes:
        limit: how many may run now.
        share: of the attempts of this window and those that run, how many were refused, 0 to 1.

    Invariants: floor <= limit = int(size) <= ceiling; within a window the limit does not rise, and it does
    not fall below `1 - decrease` of `start` (or the floor); `patience` is a power of two.
    """

    __slots__ = (
        "_calm",
        "_ceiling",
        "_closes",
        "_decrease",
        "_fine",
        "_floor",
        "_full",
        "_increase",
        "_patience",
        "_refused",
        "_size",
        "_start",
        "_tried_from",
        "_trying",
        "_window",
        "limit",
        "share",
    )  # fmt: skip

    # _closes      when the window ends; -inf before the first
    # _start       the limit when it began
    # _fine, _refused, _full  what has ended in it, and whether the limit was in use at an end
    # _calm        windows in a row in which nothing was refused and the limit was in use, since it changed
    # _patience    how many of them a raise needs
    # _trying      the limit was raised, and no window has yet shown whether that is too much
    # _tried_from  what it was before the last raise

    def __init__(self, policy: AdaptiveLimit, ceiling: int) -> None:
        if ceiling < 1:
            raise ValueError(f"ceiling must be 1 or more, got {ceiling!r}")
        floor = max(1, ceiling // 10) if policy.floor is None else policy.floor
        self._ceiling = ceiling
        self._floor = min(floor, ceiling)
        self._increase = max(1.0, ceiling / 25) if policy.increase is None else policy.increase
        self._decrease = policy.decrease
        self._window = policy.window
        self._size = float(ceiling)
        self.limit = self._start = ceiling
        self.share = 0.0
        self._closes = -inf
        self._fine = self._refused = self._calm = self._tried_from = 0
        self._full = self._trying = False
        self._patience = 1

    def observe(self, now: float, running: int, *, overloaded: bool, full: bool) -> int:
        """See `LimitController`. O(1).

        Raises:
            ValueError: `running` is less than 1: the attempt that ends runs until then.
        """
        if running < 1:
            raise ValueError(
                f"running must be 1 or more, as it counts the attempt that ends, got {running!r}"
            )
        if now >= self._closes:
            self._judge()
            # On a grid, so that what a window's first event is late by does not add up.
            late = (now - self._closes) % self._window if self._closes > -inf else 0.0
            self._closes = now - late + self._window
        self._full = self._full or full
        if overloaded:
            self._refused += 1
            self.share = self._refused / (self._refused + self._fine + running - 1)
            self._fall()
        else:
            self._fine += 1
        return self.limit

    def _judge(self) -> None:
        """A window is over: raise the limit if it was in use and nothing was refused. O(1)."""
        if self._refused:
            if self.limit < self._tried_from:
                self._patience = 1  # more is refused than what was tried: the provider has changed
            elif self._trying:
                self._patience = min(2 * self._patience, PATIENCE)
            self._trying = False
            self._calm = 0
        elif self._full:
            if self._trying:
                self._trying = False
                self._patience = 1
            self._calm += 1
            if self._calm >= self._patience:
                self._grow()
        self._start = self.limit
        self._fine = self._refused = 0
        self._full = False
        self.share = 0.0

    def _grow(self) -> None:
        self._calm = 0
        before = self.limit
        self._size = min(self._size + self._increase, float(self._ceiling))
        self.limit = int(self._size)
        if self.limit > before:
            self._trying = True
            self._tried_from = before

    def _fall(self) -> None:
        """Lower the limit to what the share of this window asks for: at least one less than at its start."""
        if self.share >= NEGLIGIBLE:
            size = max(self._floor, int(self._start * (1.0 - self._decrease * self.share)))
            if size < self.limit:
                self.limit = size
                self._size = float(size)

    def _check(self) -> None:
        assert 1 <= self._floor <= self.limit == int(self._size) <= self._ceiling
        assert self.limit <= self._start
        assert self.limit >= min(self._start, max(self._floor, int(self._start * (1.0 - self._decrease))))
        assert self._patience in (1, 2, 4, 8, 16, 32)
        assert 0 <= self._calm < self._patience
        assert 0.0 <= self.share <= 1.0
        assert not self._trying or self._tried_from < self._ceiling


@final
class _Clamped:
    """A controller that somebody else wrote, kept between 1 and `ceiling`."""

    __slots__ = ("_ceiling", "_other", "limit", "share")

    def __init__(self, other: LimitController, ceiling: int) -> None:
        self._other = other
        self._ceiling = ceiling
        self.share = 0.0
        self.limit = self._clamp(other.limit)

    def observe(self, now: float, running: int, *, overloaded: bool, full: bool) -> int:
        self.limit = self._clamp(self._other.observe(now, running, overloaded=overloaded, full=full))
        return self.limit

    def _clamp(self, limit: Any) -> int:
        if not isinstance(limit, int) or isinstance(limit, bool):
            raise TypeError(f"a LimitController's limit must be a whole number, got {limit!r}")
        return min(max(limit, 1), self._ceiling)


def controller(policy: AdaptiveLimit | Callable[[int], LimitController], ceiling: int) -> Aimd | _Clamped:
    """The controller of a policy, or the one that a user's function makes for `ceiling`.

    Raises:
        ConfigError: the function returned something else.
    """
    if isinstance(policy, AdaptiveLimit):
        return Aimd(policy, ceiling)
    made = policy(ceiling)
    if not isinstance(made, LimitController):
        raise refuse("adaptive", made, "a function that returns an object with `limit` and `observe`")
    return _Clamped(made, ceiling)
