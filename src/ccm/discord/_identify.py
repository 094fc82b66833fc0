"""How often sessions may be begun: `max_concurrency` per 5 s, and so many a day that the token survives.

Discord resets a bot's token when it begins more sessions than it may in 24 hours. The count is kept here,
over restarts, next to what Discord itself says is left; the last ones are refused.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from typing import Final, final

import attrs

from ._models import GatewayInfo
from ._sharding import bucket_of

__all__ = ["DAY", "SPACING", "Granted", "IdentifyBudget", "Later", "Refused"]

DAY: Final = 86_400.0
SPACING: Final = 5.0
"""Seconds between two sessions of one bucket."""
TOTAL: Final = 1000


@final
@attrs.frozen
class Granted:
    """Begin it; it is counted already."""


@final
@attrs.frozen
class Later:
    """Ask again at this time."""

    at: float


@final
@attrs.frozen
class Refused:
    """The day's are used up; ask again after so many seconds."""

    retry_after: float


@final
class IdentifyBudget:
    """Decides whether one more session may be begun.

    There are two clocks. The 5 s are counted on `now`, which never steps; the day on `wall`, seconds since
    1970, as it has to outlive the process. When `wall` steps back, what lies in the future counts as new.

    Args:
        info: what Discord says, at `wall`.
        reserve: of 1,000 a day, those that are never begun.
        begun: when sessions were begun, in `wall`, by this process and those before it.
    """

    __slots__ = ("_begun", "_info", "_last", "_left", "_reserve", "_reset_at")

    # _begun  ascending, none older than a day and none in the future when last looked at
    # _left   what Discord has left, until _reset_at
    # _last   bucket -> when its last session was begun

    def __init__(self, info: GatewayInfo, reserve: int, begun: Iterable[float], wall: float) -> None:
        self._info = info
        self._reserve = math.ceil(reserve * info.total / TOTAL)
        self._begun = deque(sorted(time for time in begun if math.isfinite(time)))
        self._left = info.remaining
        self._reset_at = wall + info.reset_after
        self._last: dict[int, float] = {}

    def take(self, shard: int, now: float, wall: float) -> Granted | Later | Refused:
        """Ask for one. O(1) amortized."""
        bucket = bucket_of(shard, self._info.max_concurrency)
        again = self._last.get(bucket, -math.inf) + SPACING
        if now < again:
            return Later(again)
        self._tidy(wall)
        if len(self._begun) + self._reserve >= self._info.total:
            return Refused(self._begun[0] + DAY - wall if self._begun else DAY)
        if self._left <= self._reserve:
            return Refused(max(self._reset_at - wall, SPACING))
        self._begun.append(wall)
        self._left -= 1
        self._last[bucket] = now
        return Granted()

    def _tidy(self, wall: float) -> None:
        if self._begun and self._begun[-1] > wall:  # the clock was set back
            self._begun = deque(min(time, wall) for time in self._begun)
        while self._begun and self._begun[0] + DAY <= wall:
            self._begun.popleft()
        if wall >= self._reset_at:
            self._left, self._reset_at = self._info.total, wall + DAY

    def begun(self) -> tuple[float, ...]:
        """When sessions were begun: to be kept for the next process. O(sessions)."""
        return tuple(self._begun)

    def _check(self) -> None:
        """Assert every invariant. O(sessions)."""
        assert list(self._begun) == sorted(self._begun)
        assert all(0 <= bucket < self._info.max_concurrency for bucket in self._last)
