"""What the scheduler arranges: `Entry` (one turn), `Lane` (one conversation), `Group` (one tenant)."""

from __future__ import annotations

import math

import attrs

from .fair import FairQueue

INF = math.inf
CLASSES = 4
HIGH = 1
NORMAL = 2
LOW = 3


# Where a turn is: NEW > WAITING > RUNNING > (RETRYING > RUNNING)* > DONE, and RUNNING > WAITING when it is
# preempted. Plain numbers: they index lists on the path of every message, where an enum is slow.
NEW, WAITING, RUNNING, RETRYING, DONE = range(5)
STATES = ("new", "waiting", "running", "retrying", "done")


class Entry:
    """One turn as the scheduler sees it.

    Attributes:
        id: place in the order of arrival; larger is later.
        key: the conversation, whose ordered entries form a lane.
        tenant: who is charged for it.
        priority: its class, 0 (most urgent) to 3.
        arrived: when it arrived, seconds.
        expires: when it expires unless it runs, or inf.
        not_before: when it may start at the earliest.
        ordered: False makes it a lane of its own.
        wake: the time of its one valid timer, or inf.
        cost: what it is charged, in turns or (estimated, then real) seconds.
    """

    __slots__ = (
        "arrived", "cost", "expires", "id", "key", "lane", "next", "not_before", "ordered",
        "previous", "priority", "state", "tenant", "wake",
    )  # fmt: skip

    def __init__(
        self, id: int, key: str, tenant: str, priority: int, arrived: float, expires: float = INF,
        ordered: bool = True,
    ) -> None:  # fmt: skip
        self.id = id
        self.key = key
        self.tenant = tenant
        self.priority = priority
        self.arrived = arrived
        self.expires = expires
        self.wake = INF
        self.ordered = ordered
        self.not_before = 0.0
        self.cost = 1.0
        self.state = NEW
        self.lane: Lane | None = None
        self.previous: Entry | None = None
        self.next: Entry | None = None


class Lane:
    """The waiting entries of one conversation in the order of arrival, and the one that runs.

    Invariants: entries are linked by `next`/`previous` with growing ids; `counts[c]` is the number of
    linked entries of class c and `size` their sum; `group` is set exactly while the lane is ready
    (has a head whose `not_before` has come, runs nothing), and then `klass` is its effective class and
    `since` the time from which only the lack of a slot has kept it from starting.
    """

    __slots__ = (
        "counts", "debt", "group", "head", "key", "klass", "running", "since", "size", "tail", "wake",
    )  # fmt: skip

    def __init__(self, key: str) -> None:
        self.key = key
        self.head: Entry | None = None
        self.tail: Entry | None = None
        self.size = 0
        self.counts = [0, 0, 0, 0]
        self.running: Entry | None = None
        self.group: Group | None = None
        self.klass = CLASSES
        self.wake = INF
        self.debt = 0.0
        self.since = 0.0

    def entries(self) -> tuple[Entry, ...]:
        """The waiting entries in order. O(size)."""
        found, entry = [], self.head
        while entry is not None:
            found.append(entry)
            entry = entry.next
        return tuple(found)

    def append(self, entry: Entry) -> None:
        """Link `entry` behind the last one. O(1)."""
        tail = self.tail
        entry.lane = self
        entry.previous = tail
        if tail is None:
            self.head = entry
        else:
            tail.next = entry
        self.tail = entry
        self.size += 1
        self.counts[entry.priority] += 1

    def insert(self, entry: Entry) -> None:
        """Link `entry` at the place of its id. O(entries before it): 1 for a turn that ran."""
        after = self.head
        while after is not None and after.id < entry.id:
            after = after.next
        if after is None:
            self.append(entry)
            return
        before = after.previous
        entry.lane, entry.previous, entry.next = self, before, after
        after.previous = entry
        if before is None:
            self.head = entry
        else:
            before.next = entry
        self.size += 1
        self.counts[entry.priority] += 1

    def unlink(self, entry: Entry) -> None:
        """Take `entry` out, wherever it is. O(1)."""
        before, after = entry.previous, entry.next
        if before is None:
            self.head = after
        else:
            before.next = after
        if after is None:
            self.tail = before
        else:
            after.previous = before
        entry.previous = entry.next = None
        self.size -= 1
        self.counts[entry.priority] -= 1

    def effective(self, now: float, ageing: float) -> tuple[int, float]:
        """The class the lane competes in at `now`, and when ageing will lift it next (inf: never)."""
        head: Entry = self.head  # type: ignore[assignment]
        klass = head.priority
        if self.size > 1:
            counts = self.counts
            klass = 0
            while not counts[klass]:
                klass += 1
        if klass <= HIGH:
            return klass, INF
        # Boundaries are compared, never divided: a quotient that rounds the other way would announce a lift
        # that has come already, and whoever waits for it would never get past it.
        lift = head.arrived + ageing
        if now < lift:
            return klass, lift
        lift = head.arrived + 2 * ageing
        if head.priority < LOW or lift <= now:
            return HIGH, INF
        return min(klass, LOW - 1), lift

    def _check(self) -> None:
        linked = []
        entry = self.head
        while entry is not None:
            assert entry.lane is self
            assert entry.next is None or entry.next.previous is entry
            assert entry.state in (WAITING, RETRYING)
            linked.append(entry)
            entry = entry.next
        assert [e.id for e in linked] == sorted(e.id for e in linked)
        assert self.size == len(linked)
        assert self.counts == [sum(e.priority == c for e in linked) for c in range(CLASSES)]
        assert (self.tail is None) == (self.head is None)
        assert self.running is None or self.running.state == RUNNING


class Group:
    """The ready lanes of one tenant in one class; empty ones are kept for a while, to be used again.

    `since` is when the tenant last had no slot more that it may use.
    """

    __slots__ = ("klass", "lanes", "since", "tenant", "weight")

    def __init__(self, tenant: str, klass: int, weight: float) -> None:
        self.tenant = tenant
        self.klass = klass
        self.weight = weight
        self.since = 0.0
        self.lanes: FairQueue[Lane] = FairQueue()

    def __repr__(self) -> str:
        return f"Group({self.tenant!r}, class {self.klass})"


@attrs.frozen(kw_only=True)
class QueueStatistics:
    """The waiting turns of one class: how many, and when the oldest arrived (None: there is none)."""

    waiting: int
    oldest: float | None

    @classmethod
    def of(cls, queued: dict[int, Entry], oldest: float | None) -> QueueStatistics:
        """The statistics of a queue whose oldest turn arrived at `oldest`."""
        return cls(waiting=len(queued), oldest=oldest)


def ahead(entry: Entry, queued: list[dict[int, Entry]]) -> int:
    """Turns before a waiting `entry`: in its lane, or in its class and above, the more. O(waiting)."""
    lane, before = entry.lane, entry.previous
    own = 1 if lane is not None and lane.running is not None else 0
    while before is not None:
        own, before = own + 1, before.previous
    above = sum(len(others) for others in queued[: entry.priority])
    for other in queued[entry.priority]:
        if other == entry.id:
            break
        above += 1
    return max(own, above)
