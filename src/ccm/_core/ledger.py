"""The books of law G1: every message received is in exactly one place, and the books say in which."""

from __future__ import annotations

from .._errors import Reason
from .._outcome import OUTCOMES
from .lanes import DONE, NEW, STATES


class Ledger:
    """Counts messages by place and by outcome; one call for each step of a message.

    Invariants: every count is >= 0; `received` equals the places and outcomes added up.
    """

    __slots__ = ("by_reason", "outcomes", "places", "received")

    def __init__(self) -> None:
        self.received = 0
        self.places = [0] * len(STATES)
        self.outcomes = dict.fromkeys(OUTCOMES, 0)
        self.by_reason: dict[str, int] = {}

    def accept(self, state: int) -> None:
        """A message came in and is now in `state`. O(1)."""
        self.received += 1
        self.places[state] += 1

    def move(self, before: int, after: int) -> None:
        """A message went from one place to another. O(1)."""
        self.places[before] -= 1
        self.places[after] += 1

    def end(self, state: int, outcome: str) -> None:
        """A message left its place with its outcome. O(1)."""
        self.places[state] -= 1
        self.outcomes[outcome] += 1

    def reject(self, reason: Reason) -> None:
        """A message came in and was refused. O(1)."""
        self.received += 1
        self.outcomes["rejected"] += 1
        self.by_reason[reason.value] = self.by_reason.get(reason.value, 0) + 1

    @property
    def live(self) -> int:
        """Messages without an outcome."""
        return sum(self.places)

    def _check(self) -> None:
        assert self.places[NEW] == self.places[DONE] == 0, dict(zip(STATES, self.places, strict=True))
        assert min(self.places) >= 0, dict(zip(STATES, self.places, strict=True))
        assert self.received == self.live + sum(self.outcomes.values()), (self.received, self.outcomes)
        assert sum(self.by_reason.values()) == self.outcomes["rejected"]
