"""An owner of a scheduler: follows the protocol, and remembers what was started."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf
from typing import Any

from ccm._core.lanes import Entry
from ccm._core.scheduler import Scheduler

CRITICAL, HIGH, NORMAL, LOW = range(4)


def weighs(weights: Mapping[str, float]) -> Callable[[str], float]:
    """What a scheduler asks: the weight of a tenant, 1 where not named."""
    return lambda tenant: weights.get(tenant, 1.0)


class Owner:
    """Gives out ids, keeps the time, and calls `due` before each decision."""

    def __init__(self, limit: int = 1, **settings: Any) -> None:
        weights = settings.pop("weights", {})
        self.scheduler = Scheduler(limit=limit, weight_of=weighs(weights), **settings)
        self.now = 0.0
        self.ids = 0
        self.started: list[Entry] = []

    def add(
        self,
        key: str = "a",
        tenant: str = "",
        priority: int = NORMAL,
        *,
        expires: float = inf,
        not_before: float = 0.0,
        ordered: bool = True,
    ) -> Entry:
        self.ids += 1
        entry = Entry(self.ids, key, tenant, priority, self.now, expires, ordered)
        entry.not_before = not_before
        if self.scheduler.add(entry, self.now):
            self.started.append(entry)
        return entry

    def fill(self) -> list[Entry]:
        """Start whatever may start now."""
        self.scheduler.due(self.now)
        filled = []
        while (entry := self.scheduler.next(self.now)) is not None:
            filled.append(entry)
        self.started += filled
        return filled

    def finish(self, entry: Entry, seconds: float = 0.0) -> list[Entry]:
        """End a running turn and start what follows."""
        self.scheduler.finish(entry, self.now, seconds)
        return self.fill()

    def until(self, now: float) -> list[Entry]:
        """Let the time come; returns what expired."""
        self.now = now
        return self.scheduler.due(now)

    def drain(self) -> list[Entry]:
        """Finish turn after turn, the one that started first before the others; the starts in order."""
        begun = len(self.started)
        self.fill()
        while self.scheduler.running:
            self.finish(next(iter(self.scheduler.running.values())))
        return self.started[begun:]
