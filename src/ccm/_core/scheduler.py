"""Which turn is next: lanes, classes, headroom, fairness, ageing, expiry, bounds.

The scheduler decides and does nothing else: it knows no Trio, no clock and no handler. Whoever owns it
tells it what happened (`add`, `finish`, `retry`, ...) and when, and asks `next` what to start.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import final

from .charges import Charges
from .invariants import check
from .lanes import (
    CLASSES,
    DONE,
    INF,
    LOW,
    NEW,
    RETRYING,
    RUNNING,
    STATES,
    WAITING,
    Entry,
    Lane,
    QueueStatistics,
    ahead,
)
from .ready import ReadyLanes
from .timers import Timers


@final
class Scheduler:
    """Decides which waiting turn starts next.

    Args:
        limit: slots, >= 1.
        headroom: for each class, the slots reserved for more urgent ones; each < limit.
        queue_limit: waiting turns, >= 1.
        conversation_limit: waiting turns of one conversation, >= 1.
        ageing: seconds of waiting that lift a head by one class, > 0; inf switches ageing off.
        weight_of: share of a tenant, > 0; None: all have the same.
        limit_of: slots that a tenant may use at a time, inf for all; None: no tenant has such a limit.
        count_tenants: whether to count the waiting turns of each tenant, in `waiting_of`.
        by_seconds: charge the handler's seconds instead of one per turn.

    Invariants, besides those of `Lane`, `ReadyLanes` and `FairQueue`: `running` entries are in state RUNNING
    and hold one slot each; a lane is in `_lanes` while it has an entry waiting or running; `_queued[c]` are
    the WAITING entries of class c in order of arrival, `_retrying` those in state RETRYING. Every waiting
    lane whose class may change or whose head may become ready later has a timer no later than that time, and
    so has every waiting entry that expires. Stale timers are at most twice as many as ever waited at once.
    `lane(key)` is for looking. `waiting_of` counts `waiting` by tenant, unless it is None. `delay` is for how
    long only the lack of a slot had kept the turn that `next` started last.
    """

    def __init__(
        self, *, limit: int, headroom: Sequence[int] = (0, 0, 0, 0), queue_limit: int = 1000,
        conversation_limit: int = 20, ageing: float = 30.0, by_seconds: bool = False,
        weight_of: Callable[[str], float] | None = None, limit_of: Callable[[str], float] | None = None,
        count_tenants: bool = False,
    ) -> None:  # fmt: skip
        self.set_limit(limit, headroom)
        self.queue_limit = queue_limit
        self.conversation_limit = conversation_limit
        self._ageing = ageing
        self._by_seconds = by_seconds
        self._charges = Charges(by_seconds)
        self._lanes: dict[str, Lane] = {}
        self.loose: dict[str, int] = {}
        self.lane: Callable[[str], Lane | None] = self._lanes.get
        self.ready = ReadyLanes(self._charges, weight_of, limit_of)
        self._queued: list[dict[int, Entry]] = [{} for _ in range(CLASSES)]
        self.timers: Timers[Lane | Entry] = Timers()
        self.running: dict[int, Entry] = {}
        self.used = 0
        self.delay = 0.0
        self.waiting = 0
        self.waiting_of: dict[str, int] | None = {} if count_tenants else None
        self._retrying: dict[int, Entry] = {}

    # -- bounds ----------------------------------------------------------------------------------

    def set_limit(self, limit: int, headroom: Sequence[int] = (0, 0, 0, 0)) -> None:
        """Change the number of slots; running turns keep theirs, `next` tells what may start. O(1)."""
        if limit < 1:
            raise ValueError(f"limit must be >= 1, got {limit!r}")
        if (
            len(headroom) != CLASSES
            or not all(0 <= h < limit for h in headroom)
            or [*headroom] != sorted(headroom)
        ):
            raise ValueError(
                f"headroom must be {CLASSES} rising numbers from 0 to limit - 1, got {headroom!r}"
            )
        self.limit = limit
        self._caps = tuple(limit - h for h in headroom)

    def slots(self, priority: int) -> int:
        """How many slots turns of the class may use. O(1)."""
        return self._caps[priority]

    def may_start(self, key: str, tenant: str, priority: int, *, ordered: bool = True) -> bool:
        """Whether a turn arriving now would start at once. O(1)."""
        free = self.used < self._caps[priority] and tenant not in self.ready.full
        return free and (not ordered or key not in self._lanes)

    def lifted(self, entry: Entry) -> bool:
        """Whether a turn that was just added lets its conversation start: it may have lifted it. O(1)."""
        lane = entry.lane
        if lane is None or lane.group is None or self.used >= self._caps[lane.klass]:
            return False
        return lane.group.tenant not in self.ready.full

    def conversation_has_room(self, key: str, more: int = 0) -> bool:
        """Whether the conversation, with `more` waiting turns, may have yet another one. O(1)."""
        lane = self._lanes.get(key)
        loose = self.loose.get(key, 0) if self.loose else 0
        return (lane.size if lane is not None else 0) + loose + more < self.conversation_limit

    def ahead(self, entry: Entry) -> int:
        """Turns ahead of a waiting entry: of its conversation, or of its class and above. O(waiting)."""
        return ahead(entry, self._queued) if entry.state == WAITING else 0

    def victim(self, priority: int, tenant: str | None = None) -> Entry | None:
        """The entry to shed for a newcomer: the youngest of the least urgent class below it. O(1).

        With `tenant`, of its own entries: O(waiting).
        """
        for klass in range(LOW, priority, -1):
            for entry in reversed(self._queued[klass].values()):
                if tenant is None or entry.tenant == tenant:
                    return entry
        return None

    def preemptible(self) -> list[Entry]:
        """The running LOW turns, the one that started last first. O(limit)."""
        return [entry for entry in reversed(self.running.values()) if entry.priority == LOW]

    # -- what happened ---------------------------------------------------------------------------

    def add(self, entry: Entry, now: float) -> bool:
        """Take in a new turn; True if it starts at once. O(log ready lanes).

        Starting at once needs no comparison with what waits: while every startable turn is started
        as soon as it may be (law G7), a free slot of a class means that nobody waits for it.
        If False, the turn may still have lifted its conversation past the headroom: see `lifted`.
        """
        if entry.state != NEW:
            raise ValueError(f"turn {entry.id} was added before; it is {STATES[entry.state]}")
        lanes = self._lanes
        lane = lanes.get(entry.key) if entry.ordered else None
        if lane is None:
            lane = Lane(entry.key)
            if entry.ordered:
                lanes[entry.key] = lane
            free = self.used < self._caps[entry.priority] and entry.not_before <= now and now < entry.expires
            if free and not (self.ready.limited and entry.tenant in self.ready.full):
                entry.lane = lane
                entry.state = RUNNING
                entry.cost = self._charges.mean
                lane.running = entry
                self.used += 1
                self.running[entry.id] = entry
                if self._by_seconds:
                    self._charges.uncharged.add(entry.id)
                if self.ready.limited:
                    self.ready.occupy(entry.tenant)
                return True
            if not entry.ordered:
                # Tags in a row, as if one lane: many unordered turns earn no more than ordered ones.
                count = self.loose[entry.key] = self.loose.get(entry.key, 0) + 1
                lane.debt = count - 1.0
        elif lane.tail is not None and lane.tail.id >= entry.id:
            raise ValueError(f"turn {entry.id} arrived before {lane.tail.id}; ids must grow")
        entry.state = WAITING
        self.waiting += 1
        if self.waiting_of is not None:
            self.waiting_of[entry.tenant] = self.waiting_of.get(entry.tenant, 0) + 1
        self._queued[entry.priority][entry.id] = entry
        lane.append(entry)
        if entry.expires < INF:
            self._remind(entry.expires, entry)
        if lane.running is None:
            self._refresh(lane, now)
        return False

    def next(self, now: float) -> Entry | None:
        """Start the turn that is next, or None when none may start. O(log ready lanes).

        Raises:
            RuntimeError: a timer has come due; call `due(now)` first.
        """
        if self.timers.next <= now:
            raise RuntimeError(f"a timer was due at {self.timers.next!r}; call due({now!r}) first")
        if not self.ready.count:
            return None
        for klass, ready in enumerate(self.ready.counts):
            if ready:
                if self.used >= self._caps[klass]:
                    # A less urgent class may use no more slots than this one.
                    return None
                return self._start(klass, now)
        return None

    def finish(self, entry: Entry, now: float, seconds: float = 0.0) -> None:
        """The running `entry` ended after `seconds` of work; its lane may go on. O(log ready lanes)."""
        lane = self._stop(entry, seconds, now)
        entry.state = DONE
        if lane.head is not None:
            self._refresh(lane, now)
        else:
            lane.wake = INF
            if entry.ordered:
                del self._lanes[lane.key]

    def retry(
        self, entry: Entry, now: float, not_before: float, seconds: float = 0.0, expires: float = INF
    ) -> None:
        """The running `entry` failed and starts again at `not_before`, in its place. O(log ready lanes)."""
        lane = self._stop(entry, seconds, now)
        entry.state = RETRYING
        entry.expires = expires
        entry.not_before = not_before
        self._retrying[entry.id] = entry
        self._put_back(entry, lane, now)

    def requeue(self, entry: Entry, now: float) -> None:
        """The running `entry` lost its slot (preempted); it waits in its old place. O(waiting)."""
        lane = self._stop(entry, entry.cost, now)
        self._enqueue(entry)
        self._put_back(entry, lane, now)

    def cancel(self, entry: Entry, now: float) -> None:
        """The waiting or retrying `entry` is given up: cancelled, shed or expired. O(log ready lanes)."""
        lane = entry.lane
        if lane is None or entry.state not in (WAITING, RETRYING):
            raise ValueError(f"turn {entry.id} does not wait; it is {STATES[entry.state]}")
        self._unqueue(entry)
        lane.unlink(entry)
        entry.state = DONE
        self._release(lane, now)

    def waiting_in(self, klass: int) -> list[Entry]:
        """The waiting turns of a class, in order of arrival. O(waiting)."""
        return list(self._queued[klass].values())

    def waiting_entries(self) -> list[Entry]:
        """Everything that waits or retries, in order of arrival. O(n log n)."""
        entries = [entry for queued in self._queued for entry in queued.values()]
        entries += self._retrying.values()
        entries.sort(key=lambda entry: entry.id)
        return entries

    def drop_all(self, now: float) -> list[Entry]:
        """Give up everything that waits or retries; returns it in order of arrival. O(n log n)."""
        dropped = self.waiting_entries()
        for entry in dropped:
            self.cancel(entry, now)
        return dropped

    def insert(self, entry: Entry, now: float) -> None:
        """Take in a turn that arrived earlier (its id says when), at its own place. O(turns before it)."""
        lane = self._lanes.get(entry.key)
        if lane is None:
            lane = self._lanes[entry.key] = Lane(entry.key)
        self._enqueue(entry)
        lane.insert(entry)
        if entry.expires < INF:
            self._remind(entry.expires, entry)
        if lane.running is None:
            self._refresh(lane, now)

    def postpone(self, entry: Entry, now: float, not_before: float) -> None:
        """The waiting `entry` starts at `not_before` at the earliest. O(log ready lanes)."""
        lane = self._waiting_lane(entry)
        entry.not_before = not_before
        if lane.head is entry and lane.running is None:
            self._refresh(lane, now)

    def hasten(self, entry: Entry, expires: float) -> None:
        """The waiting `entry` expires earlier than it would have. O(log n), amortised."""
        self._waiting_lane(entry)
        entry.expires = expires
        self._remind(expires, entry)

    def promote(self, entry: Entry, now: float, priority: int) -> None:
        """The waiting `entry` becomes as urgent as `priority`, in its place. O(waiting of that class)."""
        lane = self._waiting_lane(entry)
        if priority >= entry.priority:
            return
        del self._queued[entry.priority][entry.id]
        lane.counts[entry.priority] -= 1
        entry.priority = priority
        lane.counts[priority] += 1
        self._sort_in(entry)
        if lane.running is None:
            self._refresh(lane, now)

    def _waiting_lane(self, entry: Entry) -> Lane:
        if entry.lane is None or entry.state != WAITING:
            raise ValueError(f"turn {entry.id} does not wait; it is {STATES[entry.state]}")
        return entry.lane

    def _enqueue(self, entry: Entry) -> None:
        """Count a turn that arrived earlier as waiting (again). O(waiting of its class)."""
        entry.state = WAITING
        self.waiting += 1
        if self.waiting_of is not None:
            self.waiting_of[entry.tenant] = self.waiting_of.get(entry.tenant, 0) + 1
        self._sort_in(entry)

    def _sort_in(self, entry: Entry) -> None:
        """Put a turn among the waiting ones of its class by its id."""
        queued = self._queued[entry.priority]
        younger = [other for other in queued.values() if other.id > entry.id]
        queued[entry.id] = entry
        for other in younger:
            del queued[other.id]
            queued[other.id] = other

    def due(self, now: float) -> list[Entry]:
        """Bring classes and readiness up to `now`; the entries that expired, in order of time.

        Expired entries are taken out already. O(log n) for each timer that came due.
        """
        expired = []
        while (item := self.timers.take(now)) is not None:
            if isinstance(item, Entry):
                self.cancel(item, now)
                expired.append(item)
            elif item.head is not None and item.running is None:
                self._refresh(item, now)
        return expired

    def next_deadline(self) -> float:
        """When `due` must be called at the latest; inf when nothing can come due. O(1)."""
        return self.timers.next

    # -- inside ----------------------------------------------------------------------------------

    def _start(self, klass: int, now: float) -> Entry:
        lane, alone = self.ready.take(klass)
        entry: Entry = lane.head  # type: ignore[assignment]
        self._unqueue(entry)
        lane.unlink(entry)
        entry.state = RUNNING
        entry.cost = self._charges.mean
        lane.running = entry
        self.used += 1
        self.running[entry.id] = entry
        self.delay = now - lane.since
        if alone and self._by_seconds:
            self._charges.uncharged.add(entry.id)
        if self.ready.limited:
            self.ready.occupy(entry.tenant)
        return entry

    def _stop(self, entry: Entry, seconds: float, now: float) -> Lane:
        if self.running.pop(entry.id, None) is not entry:
            raise ValueError(f"turn {entry.id} does not run; it is {STATES[entry.state]}")
        self.used -= 1
        if self.ready.limited:
            self.ready.vacate(entry.tenant, now)
        lane: Lane = entry.lane  # type: ignore[assignment]
        lane.running = None
        if self._by_seconds:
            self._charges.correct(entry, lane, seconds)
        return lane

    def _put_back(self, entry: Entry, lane: Lane, now: float) -> None:
        lane.insert(entry)
        if not entry.ordered:
            self.loose[entry.key] = self.loose.get(entry.key, 0) + 1
        if entry.expires < INF:
            self._remind(entry.expires, entry)
        self._refresh(lane, now)

    def _unqueue(self, entry: Entry) -> None:
        entry.wake = INF
        if entry.state == WAITING:
            self.waiting -= 1
            del self._queued[entry.priority][entry.id]
            if self.waiting_of is not None:
                left = self.waiting_of[entry.tenant] = self.waiting_of[entry.tenant] - 1
                if not left:
                    del self.waiting_of[entry.tenant]
        else:
            del self._retrying[entry.id]
        if not entry.ordered:
            left = self.loose[entry.key] - 1
            if left:
                self.loose[entry.key] = left
            else:
                del self.loose[entry.key]

    def _release(self, lane: Lane, now: float) -> None:
        """After an entry left: the lane is dropped when it is empty, else its readiness is brought up."""
        if lane.head is not None:
            if lane.running is None:
                self._refresh(lane, now)
            return
        if lane.group is not None:
            self.ready.withdraw(lane)
        lane.wake = INF
        if lane.running is None and self._lanes.get(lane.key) is lane:
            del self._lanes[lane.key]

    def _refresh(self, lane: Lane, now: float) -> None:
        """Put an idle lane with a head where it belongs now: its class's queue, or behind a timer."""
        head: Entry = lane.head  # type: ignore[assignment]
        if head.not_before > now:
            if lane.group is not None:
                self.ready.withdraw(lane)
            self._remind(head.not_before, lane)
            return
        klass, lift = lane.effective(now, self._ageing)
        if lift < lane.wake:
            self._remind(lift, lane)
        self.ready.put(lane, klass, head.tenant, now)

    def _remind(self, time: float, item: Lane | Entry) -> None:
        live = len(self._lanes) + 2 * (self.waiting + len(self._retrying))  # entries, and lanes of one
        self.timers.remind(time, item, live)

    # -- reading ---------------------------------------------------------------------------------

    @property
    def retrying(self) -> int:
        """Turns that wait for their next attempt."""
        return len(self._retrying)

    def queues(self) -> tuple[QueueStatistics, ...]:
        """For each class, what waits in it. O(classes)."""
        oldest = [q[next(iter(q))].arrived if q else None for q in self._queued]
        return tuple(map(QueueStatistics.of, self._queued, oldest))

    def startable(self) -> list[int]:
        """The effective classes that have a startable lane and a slot they may use (law G7: none)."""
        return [c for c in range(CLASSES) if self.ready.counts[c] and self.used < self._caps[c]]

    def _check(self) -> None:
        check(self)
