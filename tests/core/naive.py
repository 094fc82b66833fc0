"""The scheduler's rules without its data structures: one list, searched anew for every question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf

from ccm._core.lanes import DONE, NEW, RETRYING, RUNNING, WAITING, Entry

HIGH, LOW = 1, 3

Lane = tuple[list[Entry], Entry | None]
"""The entries of one lane that wait, in order of arrival, and the one that runs."""


class NaiveScheduler:
    """Knows every entry it was told of and keeps a state of its own for each."""

    def __init__(
        self, limit: int, headroom: Sequence[int], ageing: float, conversation_limit: int,
        tenant_limits: Mapping[str, int] | None = None,
    ) -> None:  # fmt: skip
        self.tenant_limits = tenant_limits or {}
        self.ageing = ageing
        self.conversation_limit = conversation_limit
        self.set_limit(limit, headroom)
        self.entries: list[Entry] = []
        self.states: dict[int, int] = {}
        self.retry_at: dict[int, float] = {}
        self.expires: dict[int, float] = {}

    def set_limit(self, limit: int, headroom: Sequence[int]) -> None:
        self.limit = limit
        self.headroom = headroom

    def put(self, entry: Entry, state: int, not_before: float = 0.0, expires: float = inf) -> None:
        if entry.id not in self.states:
            self.entries.append(entry)
        self.states[entry.id] = state
        self.retry_at[entry.id] = not_before
        self.expires[entry.id] = expires

    def end(self, entry: Entry) -> None:
        self.entries.remove(entry)
        self.states[entry.id] = DONE

    def of(self, *states: int) -> list[Entry]:
        return [entry for entry in self.entries if self.states[entry.id] in states]

    @property
    def pending(self) -> list[Entry]:
        return self.of(WAITING, RETRYING)

    @property
    def running(self) -> list[Entry]:
        return self.of(RUNNING)

    def cap(self, klass: int) -> int:
        return self.limit - self.headroom[klass]

    def lane_of(self, entry: Entry) -> Lane:
        """The lane that `entry` is in, or would be in."""
        mates = [
            other
            for other in self.entries
            if other is entry or (entry.ordered and other.ordered and other.key == entry.key)
        ]
        waiting = sorted((e for e in mates if self.states[e.id] in (WAITING, RETRYING)), key=lambda e: e.id)
        return waiting, next((e for e in mates if self.states[e.id] == RUNNING), None)

    def effective(self, lane: Lane, now: float) -> int:
        """Inheritance from all that wait, and the head's class raised once per `ageing` seconds."""
        waiting, _ = lane
        head = waiting[0]
        aged, boundary = head.priority, head.arrived + self.ageing
        while aged > HIGH and boundary <= now:
            aged, boundary = aged - 1, boundary + self.ageing
        return min(aged, *(e.priority for e in waiting))

    def ready_heads(self, now: float) -> dict[int, tuple[Entry, int]]:
        """Of each lane that runs nothing and whose head's time has come: the head, and the lane's class."""
        found = {}
        for entry in self.pending:
            waiting, running = self.lane_of(entry)
            head = waiting[0]
            if running is None and self.retry_at[head.id] <= now:
                found[head.id] = (head, self.effective((waiting, running), now))
        return found

    def full(self, tenant: str) -> bool:
        """Whether the tenant uses all the slots that it may."""
        return sum(e.tenant == tenant for e in self.running) >= self.tenant_limits.get(tenant, inf)

    def startable(self, now: float) -> dict[int, tuple[Entry, int]]:
        used = len(self.running)
        return {
            id: (head, klass)
            for id, (head, klass) in self.ready_heads(now).items()
            if used < self.cap(klass) and not self.full(head.tenant)
        }

    def starts_at_once(self, entry: Entry, now: float) -> bool:
        waiting, running = self.lane_of(entry)
        free = not waiting and running is None and len(self.running) < self.cap(entry.priority)
        free = free and not self.full(entry.tenant)
        return free and entry.not_before <= now < entry.expires

    def overdue(self, now: float) -> list[Entry]:
        return [entry for entry in self.pending if self.expires[entry.id] <= now]

    def has_room(self, key: str) -> bool:
        return sum(entry.key == key for entry in self.pending) < self.conversation_limit

    def queued(self, klass: int) -> list[Entry]:
        return sorted((e for e in self.of(WAITING) if e.priority == klass), key=lambda e: e.id)

    def victim(self, priority: int, tenant: str | None = None) -> Entry | None:
        """The youngest of the least urgent class that is less urgent than `priority`."""
        for klass in range(LOW, priority, -1):
            own = [entry for entry in self.queued(klass) if tenant in (None, entry.tenant)]
            if own:
                return own[-1]
        return None

    def ahead(self, entry: Entry) -> int:
        if self.states.get(entry.id, NEW) != WAITING:
            return 0
        waiting, running = self.lane_of(entry)
        own = waiting.index(entry) + (running is not None)
        above = sum(
            e.priority < entry.priority or (e.priority == entry.priority and e.id < entry.id)
            for e in self.of(WAITING)
        )
        return max(own, above)
