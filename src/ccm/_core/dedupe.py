"""What was seen lately: a bounded map whose entries are forgotten after a fixed time."""

from __future__ import annotations

from collections import OrderedDict
from math import inf
from typing import Final, Generic, TypeVar, final

__all__ = ["DedupeWindow"]

V = TypeVar("V")

_SWEEP: Final = 2  # expired entries forgotten per new one: more than come in, so they cannot pile up


@final
class DedupeWindow(Generic[V]):
    """Remembers a value per (tenant, id) for `window` seconds.

    A value put at ``t`` is found at every ``now < t + window`` and never after. At `max_rows` the oldest row
    is dropped for a new one and counted in `dropped`: a duplicate of that message is then taken for a new
    one. The clock must not go backwards; if it does, it is taken to stand still.

    Args:
        window: seconds, above 0.
        max_rows: rows held at most, 1 or more.
    """

    __slots__ = ("_latest", "_max_rows", "_rows", "_window", "dropped")

    # _rows    key -> (expiry, value), ascending by expiry; at most _max_rows
    # _latest  the expiry given to the newest row: a row never expires before one that was put earlier
    # dropped  rows that went because of the bound, before their time

    def __init__(self, *, window: float, max_rows: int = 100_000) -> None:
        if not 0.0 < window < inf:
            raise ValueError(f"window must be above 0 seconds and finite, not {window!r}")
        if max_rows < 1:
            raise ValueError(f"max_rows must be 1 or more, not {max_rows!r}")
        self._window = window
        self._max_rows = max_rows
        self._rows: OrderedDict[tuple[str, str], tuple[float, V]] = OrderedDict()
        self._latest = -inf
        self.dropped = 0

    def __len__(self) -> int:
        """Rows held, among them perhaps expired ones that were not swept yet. O(1)."""
        return len(self._rows)

    def get(self, key: tuple[str, str], now: float) -> V | None:
        """The value put for `key` within the window, else None. Changes nothing. O(1)."""
        row = self._rows.get(key)
        if row is None or row[0] <= now:
            return None
        return row[1]

    def put(self, key: tuple[str, str], value: V, now: float) -> None:
        """Remember `value` from now on, in place of an older one of the same key. O(1)."""
        rows = self._rows
        expiry = now + self._window
        if expiry < self._latest:
            expiry = self._latest
        else:
            self._latest = expiry
        if key in rows:
            rows.move_to_end(key)
        rows[key] = (expiry, value)
        for _ in range(_SWEEP):
            if not self._drop_expired(now):
                break
        if len(rows) > self._max_rows:
            rows.popitem(last=False)
            self.dropped += 1

    def forget(self, key: tuple[str, str]) -> bool:
        """Forget `key`; says whether it was held, expired or not. O(1)."""
        return self._rows.pop(key, None) is not None

    def expire(self, now: float) -> int:
        """Forget every row whose time is over and return how many. O(forgotten)."""
        before = len(self._rows)
        while self._drop_expired(now):
            pass
        return before - len(self._rows)

    def next_deadline(self) -> float:
        """When the oldest row expires; infinity when there is none. O(1)."""
        for expiry, _ in self._rows.values():
            return expiry
        return inf

    def _drop_expired(self, now: float) -> bool:
        """Drop the oldest row if its time is over; says whether it did. O(1)."""
        rows = self._rows
        for key, (expiry, _) in rows.items():
            if expiry <= now:
                del rows[key]
                return True
            break
        return False

    def _check(self) -> None:
        """Assert every invariant. O(rows)."""
        expiries = [expiry for expiry, _ in self._rows.values()]
        assert expiries == sorted(expiries)
        assert len(expiries) <= self._max_rows
        assert not expiries or expiries[-1] <= self._latest
        assert self.dropped >= 0
