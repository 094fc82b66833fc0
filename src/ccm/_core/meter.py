"""Events per second over the last seconds, from a ring of cumulative counts.

One addition per event; the ring is touched once per second. What a window covers of the second in which
it begins is interpolated, as if that second's events had been spread evenly over it.
"""

from __future__ import annotations

from math import floor
from typing import Final, final

__all__ = ["RateMeter"]

_LONGEST: Final = 60
_SIZE: Final = 64  # a window of 60 s reaches back into the 61st second; 64 makes the modulus a mask
_MASK: Final = _SIZE - 1


@final
class RateMeter:
    """How many events there were, and how many per second lately.

    Seconds are whole seconds of the caller's clock. With ``n`` events in a window, of which ``m`` lie in the
    second in which the window begins, `rate` is within ``m / window`` of the true one; it is exact when
    the window begins on a whole second. The clock must not go backwards; if it does, it is taken to
    stand still at the second last seen. Before the first event nothing is assumed to have happened.
    """

    __slots__ = ("_edge", "_ring", "_second", "total")

    # total             all events ever added
    # _second           the second that is being counted; None before the first event
    # _edge             the end of that second, from which on `add` must turn the ring; -inf before the first
    # _ring[k & _MASK]  total at the beginning of second k, for _second - 64 < k <= _second;
    #                   ascending with k, never above total

    def __init__(self) -> None:
        self.total = 0
        self._second: int | None = None
        self._edge = float("-inf")
        self._ring = [0] * _SIZE

    def add(self, now: float, n: int = 1) -> None:
        """Count `n` events at `now`. O(1) amortised; O(64) in the first call of a second at worst."""
        if now >= self._edge:
            self._turn(floor(now))
        self.total += n

    def rate(self, window: float, now: float) -> float:
        """Events per second in the last `window` seconds. O(1).

        Args:
            window: from 1 to 60 seconds.
            now: seconds.

        Raises:
            ValueError: `window` is outside its range.
        """
        if not 1.0 <= window <= _LONGEST:
            raise ValueError(f"window must be from 1 to {_LONGEST} seconds, not {window!r}")
        if self._second is None:
            return 0.0
        begin = max(now, self._second) - window
        second = floor(begin)
        before = self._at(second)
        inside = self._at(second + 1) - before
        return (self.total - before - inside * (begin - second)) / window

    def _at(self, second: int) -> int:
        """The total at the beginning of a second that is at most 61 s older than the present one. O(1)."""
        assert self._second is not None
        return self._ring[second & _MASK] if second <= self._second else self.total

    def _turn(self, second: int) -> None:
        """Begin to count `second`; the seconds skipped since the last one had no events. O(64)."""
        ring, total = self._ring, self.total
        skipped = 1 if self._second is None else min(_SIZE, second - self._second)
        for past in range(second - skipped + 1, second + 1):
            ring[past & _MASK] = total
        self._second = second
        self._edge = second + 1.0

    def _check(self) -> None:
        """Assert every invariant. O(64)."""
        assert len(self._ring) == _SIZE
        if self._second is None:
            assert self.total == 0
            assert self._edge == float("-inf")
            return
        assert self._edge == self._second + 1
        turned = [self._ring[k & _MASK] for k in range(self._second - _MASK, self._second + 1)]
        assert turned == sorted(turned)
        assert turned[0] >= 0
        assert turned[-1] <= self.total
