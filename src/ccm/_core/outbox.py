"""Which reply is delivered next: in order inside a conversation, any number of conversations side by side."""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush
from math import inf
from typing import Generic, Protocol, TypeVar, final


class Parcel(Protocol):
    """What is delivered."""

    @property
    def seq(self) -> int:
        """Its number, unique; rising within a conversation."""

    @property
    def conversation(self) -> str:
        """Where replies are delivered in order."""


P = TypeVar("P", bound=Parcel)


@final
class Outbox(Generic[P]):
    """Replies that have to be delivered, at most `limit` of them; the rest stays where it is kept.

    Args:
        limit: replies held at most, 1 or more.

    Invariants: a conversation with replies is in one of `_ready`, `_later` and `_out` only; `count` are the
    replies held, also those that are out; `missed` tells that a reply was not taken, and from then on none is
    until `refill`, so that none overtakes it.
    """

    __slots__ = (
        "_failures",
        "_gone",
        "_lanes",
        "_later",
        "_limit",
        "_out",
        "_ready",
        "_skipped",
        "count",
        "missed",
    )

    def __init__(self, *, limit: int = 1000) -> None:
        if limit < 1:
            raise ValueError(f"limit must be 1 or more, not {limit!r}")
        self._limit = limit
        self._lanes: dict[str, deque[P]] = {}
        self._ready: deque[str] = deque()
        self._later: list[tuple[float, int, str]] = []
        self._out: dict[str, P] = {}
        self._failures: dict[str, int] = {}
        # While what is kept elsewhere is being read: what has left since, and what was not taken since.
        self._gone: set[int] | None = None
        self._skipped: set[int] = set()
        self.count = 0
        self.missed = False

    def put(self, parcel: P) -> bool:
        """Take a reply in; False: there is no room, see `refill`. O(1)."""
        if self.missed or self.count >= self._limit:
            self.missed = True
            if self._gone is not None:
                self._skipped.add(parcel.seq)
            return False
        self._append(parcel)
        return True

    def _append(self, parcel: P) -> None:
        lane = self._lanes.get(parcel.conversation)
        if lane is None:
            lane = self._lanes[parcel.conversation] = deque()
            self._ready.append(parcel.conversation)
        lane.append(parcel)
        self.count += 1

    @property
    def hungry(self) -> bool:
        """Whether it is time for `refill`. O(1)."""
        return self.missed and self.count <= self._limit // 2

    def begin(self) -> int:
        """What is kept elsewhere is about to be read: how many replies `refill` wants at least. O(1)."""
        self.missed = True
        self._gone, self._skipped = set(), set()
        return 2 * self._limit

    def refill(self, parcels: list[P], *, last: bool) -> None:
        """Take what was kept elsewhere after `begin`, in order, as far as there is room. O(parcels).

        Args:
            parcels: the first ones that were kept, those that are held already among them.
            last: there were no others.
        """
        if self._gone is None:
            raise ValueError("refill needs begin before it")
        known = {parcel.seq for lane in self._lanes.values() for parcel in lane} | self._gone
        self.missed = not (last and self._skipped <= {parcel.seq for parcel in parcels})
        self._gone = None
        for parcel in parcels:
            if parcel.seq in known:
                continue
            if self.count >= self._limit:
                self.missed = True
                break
            self._append(parcel)

    def give_up(self) -> None:
        """What is kept elsewhere could not be read; try again later. O(1)."""
        self._gone = None

    def take(self, now: float) -> P | None:
        """The next reply to deliver; None: there is none now. O(log n)."""
        self.wake(now)
        if not self._ready:
            return None
        key = self._ready.popleft()
        parcel = self._out[key] = self._lanes[key][0]
        return parcel

    def wake(self, now: float) -> None:
        """Conversations that have waited long enough may be tried again. O(log n) each."""
        while self._later and self._later[0][0] <= now:
            self._ready.append(heappop(self._later)[2])

    def delivered(self, parcel: P) -> None:
        """It has been delivered, or given up. O(1)."""
        key = parcel.conversation
        self._return(parcel)
        self._failures.pop(key, None)
        lane = self._lanes[key]
        lane.popleft()
        self.count -= 1
        if self._gone is not None:
            self._gone.add(parcel.seq)
        if lane:
            self._ready.append(key)
        else:
            del self._lanes[key]

    def failed(self, parcel: P) -> int:
        """It could not be delivered: how often now. `again` or `delivered` follows. O(1)."""
        key = parcel.conversation
        if self._out.get(key) is not parcel:
            raise ValueError(f"reply {parcel.seq} is not out")
        count = self._failures[key] = self._failures.get(key, 0) + 1
        return count

    def again(self, parcel: P, at: float) -> None:
        """Try again at `at`; the conversation waits for that. O(log n)."""
        self._return(parcel)
        heappush(self._later, (at, parcel.seq, parcel.conversation))

    def _return(self, parcel: P) -> None:
        if self._out.get(parcel.conversation) is not parcel:
            raise ValueError(f"reply {parcel.seq} is not out")
        del self._out[parcel.conversation]

    @property
    def startable(self) -> int:
        """Conversations whose next reply can be delivered now. O(1)."""
        return len(self._ready)

    @property
    def waiting(self) -> int:
        """Conversations that wait for another try. O(1)."""
        return len(self._later)

    def next_deadline(self) -> float:
        """When a conversation has waited long enough for another try; inf: none does. O(1)."""
        return self._later[0][0] if self._later else inf

    def _check(self) -> None:
        """Assert every invariant. O(replies)."""
        later = [key for _, _, key in self._later]
        places = [*self._ready, *later, *self._out]
        assert len(places) == len(set(places))
        assert set(places) == set(self._lanes)
        assert self.count == sum(map(len, self._lanes.values())) <= self._limit
        for key, lane in self._lanes.items():
            seqs = [parcel.seq for parcel in lane]
            assert seqs == sorted(set(seqs)), (key, seqs)
        assert all(self._lanes[key][0] is parcel for key, parcel in self._out.items())
        assert self._failures.keys() <= self._lanes.keys()
