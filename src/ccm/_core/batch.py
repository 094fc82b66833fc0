"""Which keys are fetched together, and which batch is fetched next.

A window opens with the first key nobody waits for yet. It takes keys until `max_size` is reached; it may
start once it is full or `max_delay` has passed, whichever comes first, and it goes on taking keys while
all fetches are taken. Among those that may start, the batch with the most urgent caller is the next.
"""

from __future__ import annotations

from collections.abc import Hashable
from heapq import heappop, heappush
from typing import Generic, TypeVar, final

import attrs

from .lanes import CLASSES, INF

K = TypeVar("K", bound=Hashable)

OPEN, FULL, RUNNING, ENDED = range(4)


@final
@attrs.define(eq=False, slots=True)
class Batch(Generic[K]):
    """Keys that are fetched together.

    Attributes:
        number: rises in the order in which windows open.
        since: when its window opened.
        callers: for each key, the tickets of those who wait for it, in the order of their calls.
    """

    number: int
    since: float
    callers: dict[K, list[Ticket[K]]] = attrs.field(factory=dict)
    state: int = OPEN
    # How many callers each class has, and the classes under which the heap lists it (as bits).
    by_class: list[int] = attrs.field(factory=lambda: [0] * CLASSES)
    listed: int = 0

    @property
    def wanted(self) -> int:
        """Callers that still wait for it. O(classes)."""
        return sum(self.by_class)

    @property
    def urgency(self) -> int:
        """The class of its most urgent caller; `CLASSES` when it has none. O(classes)."""
        return next((k for k in range(CLASSES) if self.by_class[k]), CLASSES)


@final
@attrs.define(eq=False, slots=True)
class Ticket(Generic[K]):
    """One caller's place: the key it waits for and the batch that will bring it."""

    key: K
    priority: int
    batch: Batch[K]
    waits: bool = True


@final
@attrs.frozen(kw_only=True)
class BatchStatistics:
    """What a batcher has done so far.

    Attributes:
        calls: calls of callers; `shared` of them found their key asked for already.
        answered, cancelled, waiting: where these calls are: `calls` is their sum.
        batches, keys: fetches begun, and keys fetched by them.
        running: fetches under way.
        queued: batches that have not started.
    """

    calls: int
    shared: int
    answered: int
    cancelled: int
    waiting: int
    batches: int
    keys: int
    running: int
    queued: int


@final
class BatchQueue(Generic[K]):
    """Groups keys into batches and starts the most urgent first, at most `concurrency` at a time.

    A fetch answers only those who asked before it started, so that nobody gets a value older than the
    question.

    Args:
        max_size: keys of one batch, >= 1.
        max_delay: seconds the first key waits for company, >= 0.
        concurrency: fetches at the same time, >= 1.

    Invariants: `_waiting[key]` is the one batch that has not started and holds `key`; `_open` is the one
    batch whose window takes keys, or None; `_heap` lists every full batch under its urgency (and perhaps
    under others); calls == answered + cancelled + callers of all batches.
    """

    def __init__(self, *, max_size: int, max_delay: float, concurrency: int) -> None:
        self.max_size = max_size
        self.max_delay = max_delay
        self.concurrency = concurrency
        self._open: Batch[K] | None = None
        self._heap: list[tuple[int, int, Batch[K]]] = []
        self._waiting: dict[K, Batch[K]] = {}
        self._full: dict[int, Batch[K]] = {}
        self._running: dict[int, Batch[K]] = {}
        self._numbers = self._calls = self._shared = self._answered = self._cancelled = self._keys = 0
        self._begun = 0
        self._flushing = False

    def join(self, key: K, priority: int, now: float) -> Ticket[K]:
        """Wait for `key`. O(log batches).

        Raises:
            TypeError: the key cannot be hashed; nothing has changed.
        """
        batch = self._waiting.get(key)
        if batch is None:
            batch = self._window(now)
            batch.callers[key] = []
            self._waiting[key] = batch
            if len(batch.callers) >= self.max_size:
                batch.state = FULL
                self._full[batch.number] = batch
                self._open = None
        else:
            self._shared += 1
        ticket = Ticket(key, priority, batch)
        batch.callers[key].append(ticket)
        batch.by_class[priority] += 1
        self._calls += 1
        self._list(batch)
        return ticket

    def _window(self, now: float) -> Batch[K]:
        if self._open is None:
            self._numbers += 1
            self._open = Batch(self._numbers, now)
        return self._open

    def _list(self, batch: Batch[K]) -> None:
        """Have a full batch listed under its urgency."""
        bit = 1 << batch.urgency
        if batch.state == FULL and not batch.listed & bit:
            batch.listed |= bit
            heappush(self._heap, (batch.urgency, batch.number, batch))
            if len(self._heap) > 2 * CLASSES * len(self._full) + 64:
                self._heap = sorted(entry for entry in self._heap if entry[2].state == FULL)

    def leave(self, ticket: Ticket[K]) -> bool:
        """The caller waits no more. O(callers of the key + log batches).

        Returns:
            Whether nobody is left who wants the fetch that is under way for it.

        Raises:
            ValueError: it does not wait; nothing has changed.
        """
        if not ticket.waits:
            raise ValueError("this caller does not wait any more; a ticket is left once")
        ticket.waits = False
        batch, key = ticket.batch, ticket.key
        batch.callers[key].remove(ticket)
        batch.by_class[ticket.priority] -= 1
        self._cancelled += 1
        if batch.state == RUNNING:
            return not batch.wanted
        if not batch.callers[key]:
            del batch.callers[key], self._waiting[key]
        if not batch.callers:
            self._drop(batch)
        else:
            self._list(batch)
        return False

    def _drop(self, batch: Batch[K]) -> None:
        batch.state = ENDED
        self._full.pop(batch.number, None)
        if self._open is batch:
            self._open = None

    def start(self, now: float) -> Batch[K] | None:
        """The next batch to fetch, or None while none may start. O(log batches), amortised."""
        if len(self._running) >= self.concurrency:
            return None
        full = self._most_urgent()
        batch = self._open if self._open is not None and now >= self._due(self._open) else None
        if full is not None and (batch is None or full.urgency <= batch.urgency):
            batch = full
        if batch is None:
            return None
        if batch is self._open:
            self._open = None
        self._full.pop(batch.number, None)
        batch.state = RUNNING
        for key in batch.callers:
            del self._waiting[key]
        self._running[batch.number] = batch
        self._begun += 1
        self._keys += len(batch.callers)
        return batch

    def _most_urgent(self) -> Batch[K] | None:
        heap = self._heap
        while heap:
            urgency, _, batch = heap[0]
            if batch.state == FULL and batch.urgency == urgency:
                return batch
            heappop(heap)
            batch.listed &= ~(1 << urgency)
        return None

    def _due(self, batch: Batch[K]) -> float:
        return batch.since if self._flushing else batch.since + self.max_delay

    def finish(self, batch: Batch[K]) -> list[Ticket[K]]:
        """The fetch of `batch` has ended: whom to tell. O(callers).

        Raises:
            ValueError: it is not under way; nothing has changed.
        """
        if batch.state != RUNNING:
            raise ValueError(f"batch {batch.number!r} is not being fetched; finish it once, after start")
        batch.state = ENDED
        del self._running[batch.number]
        return self._end(batch)

    def _end(self, batch: Batch[K]) -> list[Ticket[K]]:
        told = [ticket for tickets in batch.callers.values() for ticket in tickets]
        for ticket in told:
            ticket.waits = False
        batch.by_class = [0] * CLASSES
        batch.callers = {}
        self._answered += len(told)
        return told

    def flush(self) -> None:
        """From now on a window may start as soon as it opens. O(1)."""
        self._flushing = True

    def drop_all(self) -> list[Ticket[K]]:
        """Give up what has not started and what is under way: whom to tell. O(callers)."""
        opened = [] if self._open is None else [self._open]
        batches = [*self._running.values(), *self._full.values(), *opened]
        told = []
        for batch in batches:
            batch.state = ENDED
            told += self._end(batch)
        self._open = None
        self._running.clear()
        self._full.clear()
        self._heap.clear()
        self._waiting.clear()
        return told

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is fetched. O(1)."""
        return not self._running and not self._waiting

    def next_deadline(self) -> float:
        """When `start` should be asked again although nothing else has happened; inf for never. O(1)."""
        if self._open is None or len(self._running) >= self.concurrency:
            return INF
        return self._due(self._open)

    def statistics(self) -> BatchStatistics:
        """A frozen picture of this instant. O(1)."""
        return BatchStatistics(
            calls=self._calls,
            shared=self._shared,
            answered=self._answered,
            cancelled=self._cancelled,
            waiting=self._calls - self._answered - self._cancelled,
            batches=self._begun,
            keys=self._keys,
            running=len(self._running),
            queued=len(self._full) + (self._open is not None),
        )

    def _check(self) -> None:
        """Assert every invariant. O(callers)."""
        queued = [*self._full.values(), *([] if self._open is None else [self._open])]
        assert all(batch.state == FULL for batch in self._full.values())
        assert self._open is None or self._open.state == OPEN
        assert all(batch.state == RUNNING for batch in self._running.values())
        assert len(self._running) <= self.concurrency
        assert self._waiting == {key: batch for batch in queued for key in batch.callers}
        listed = [(urgency, number) for urgency, number, _ in self._heap]
        assert len(set(listed)) == len(listed)
        for batch in queued:
            assert 1 <= len(batch.callers) <= self.max_size
            assert all(batch.callers.values()), "a key nobody waits for"
            assert batch.state == OPEN or (batch.urgency, batch.number) in listed
        waiting = 0
        for batch in [*queued, *self._running.values()]:
            tickets = [ticket for tickets in batch.callers.values() for ticket in tickets]
            assert all(ticket.waits and ticket.batch is batch for ticket in tickets)
            assert batch.by_class == [sum(t.priority == k for t in tickets) for k in range(CLASSES)]
            waiting += len(tickets)
        assert self._calls == self._answered + self._cancelled + waiting
