"""A circuit breaker, without I/O: while Discord fails, one request at a time finds out whether it is back."""

from __future__ import annotations

from typing import final

__all__ = ["Breaker"]

FAILURES = 10
PAUSE = 5.0


@final
class Breaker:
    """Opens after ten failures in a row, and lets one request through every five seconds.

    Source: M. Nygard, "Release It!", chapter "Circuit Breaker".
    """

    __slots__ = ("_failures", "_probe_at")

    # _failures  in a row
    # _probe_at  while it is open: when the next one may go

    def __init__(self) -> None:
        self._failures = 0
        self._probe_at = 0.0

    @property
    def open(self) -> bool:
        """Whether it holds requests back. O(1)."""
        return self._failures >= FAILURES

    def ask(self, now: float) -> float | None:
        """None: go; else when to ask again. O(1)."""
        if not self.open:
            return None
        if now < self._probe_at:
            return self._probe_at
        self._probe_at = now + PAUSE
        return None

    def succeeded(self) -> None:
        """There was an answer that shows Discord at work. O(1)."""
        self._failures = 0

    def failed(self, now: float) -> None:
        """There was none. O(1)."""
        self._failures += 1
        if self.open:
            self._probe_at = max(self._probe_at, now + PAUSE)
