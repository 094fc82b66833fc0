"""One service's queue: which item an instance takes next, what follows a failure, and the figures.

Items wait by class, and within a class in the order in which they were handed in; an item that is tried
again keeps its place in that order. At the bound, senders wait in the same order and come in as room
comes; nobody overtakes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from heapq import heapify, heappop, heappush
from math import exp
from typing import TYPE_CHECKING, Any, Final, final

import attrs

from .histogram import LatencyHistogram, LatencySummary
from .lanes import INF
from .retry import backoff
from .timers import Timers

if TYPE_CHECKING:
    from .._policies import RetryPolicy

# An item's way: NEW > (BLOCKED >) WAITING > RUNNING > (RETRYING > WAITING > RUNNING)* > ENDED.
NEW, BLOCKED, WAITING, RUNNING, RETRYING, ENDED = range(6)

BUSY_LIMIT: Final = 100
"""How often an item may be told to come back later before it counts as failed."""
_MEMORY: Final = 60.0
_FULL: Final = 0.5
_WORN: Final = 0.9


class Item:
    """One piece of work for a service.

    Attributes:
        queue: where it belongs.
        id: place in the order in which items were handed in.
        data, source, priority: what to do, who sent it, and its class from 0 (most urgent) to 3.
        state: where it is.
        attempt: attempts begun; `failures` of them failed, after `busies` it was told to come back later.
        arrived, begun: when it was handed in, and when the present attempt began.
        wake: when it is tried again, or inf.
        waits: items of services whose progress its own handling waits for.
    """

    __slots__ = (
        "arrived", "attempt", "begun", "busies", "data", "failures", "id", "priority", "queue", "source",
        "state", "waits", "wake",
    )  # fmt: skip

    def __init__(self, queue: ServiceQueue, data: Any, source: str, priority: int) -> None:
        self.queue = queue
        self.id = 0
        self.data = data
        self.source = source
        self.priority = priority
        self.state = NEW
        self.attempt = self.failures = self.busies = 0
        self.arrived = self.begun = 0.0
        self.wake = INF
        self.waits: list[Item] = []


@final
class _Line:
    """Items of one state by class and place; those that have left it otherwise are skipped when met.

    Invariant: every item whose state is `state` is in `_heap`, which holds at most `2 * size + 64` items.
    """

    __slots__ = ("_heap", "size", "state")

    def __init__(self, state: int) -> None:
        self.state = state
        self.size = 0
        self._heap: list[tuple[int, int, Item]] = []

    def push(self, item: Item) -> None:
        """Take `item` in. O(log n)."""
        item.state = self.state
        self.size += 1
        heappush(self._heap, (item.priority, item.id, item))

    def pop(self) -> Item:
        """Take the most urgent one out; there must be one. O(log n), amortised."""
        while (item := heappop(self._heap)[2]).state != self.state:
            pass
        self.size -= 1
        return item

    def forget(self, item: Item) -> None:
        """`item` has left by itself: its state was changed. O(1), amortised."""
        self.size -= 1
        if len(self._heap) > 2 * self.size + 64:
            self._heap = [entry for entry in self._heap if entry[2].state == self.state]
            heapify(self._heap)

    def items(self) -> list[Item]:
        """All of them, the most urgent first. O(n log n)."""
        return [item for _, _, item in sorted(self._heap, key=lambda e: e[:2]) if item.state == self.state]


@final
@attrs.frozen(kw_only=True)
class ServiceStatistics:
    """One service at one instant. Times in seconds.

    Attributes:
        received: items that were accepted: the sum of the next six.
        waiting, processing, retrying: items in hand, by place.
        done, dead, cancelled: items that ended: handled, failed for good, given up.
        senders: tasks that wait for room, each with an item that is not accepted yet.
        refused: items that were not accepted because nobody waited for room.
        errors: attempts that failed.
        retries: attempts that followed a failed one.
        capacity: items that may wait; `concurrency` may be processed at the same time.
        wait, processing_time: from acceptance to the first start, and how long attempts took.
        utilisation: share of the instances that were at work in about the last minute, 0 to 1.
        idle: how long nothing has been in hand; 0 while something is.
        last_activity: when an item last came, began or ended (at first, when the service was made).
    """

    received: int
    waiting: int
    processing: int
    retrying: int
    done: int
    dead: int
    cancelled: int
    senders: int
    refused: int
    errors: int
    retries: int
    capacity: int
    concurrency: int
    wait: LatencySummary
    processing_time: LatencySummary
    utilisation: float
    idle: float
    last_activity: float

    @property
    def depth(self) -> int:
        """How many items wait for an instance, for their next attempt, or for room."""
        return self.waiting + self.retrying + self.senders

    @property
    def fullness(self) -> float:
        """`depth` as a share of `capacity`; above 1 when senders wait."""
        return self.depth / self.capacity

    @property
    def is_bottleneck(self) -> bool:
        """Whether it is half full, or at work for nearly the whole last minute while something waits."""
        return self.fullness >= _FULL or (self.depth > 0 and self.utilisation >= _WORN)

    def check(self) -> None:
        """Raise AssertionError unless every item that was accepted is accounted for."""
        in_hand = self.waiting + self.processing + self.retrying
        ended = self.done + self.dead + self.cancelled
        if self.received != in_hand + ended:
            raise AssertionError(
                f"items are missing: received {self.received} != {in_hand} in hand + {ended} ended"
            )


@final
class ServiceQueue:
    """Items, instances and figures of one service.

    Args:
        name: what it is called.
        capacity: items that may wait or be about to be tried again, >= 1. Items whose attempt fails come
            back above it, so that in hand are never more than `capacity + concurrency`.
        concurrency: items that may be processed at the same time, >= 1.
        policy: attempts and their delays.
        now: seconds.

    Invariants: senders wait only while there is no room; every item that is RETRYING has a timer;
    received == waiting + running + retrying + done + dead + cancelled.
    """

    def __init__(
        self, name: str, *, capacity: int, concurrency: int, policy: RetryPolicy, now: float
    ) -> None:  # fmt: skip
        self.name = name
        self.capacity = capacity
        self.concurrency = concurrency
        self.policy = policy
        self.running: dict[int, Item] = {}
        self._waiting = _Line(WAITING)
        self._senders = _Line(BLOCKED)
        self._retrying: dict[int, Item] = {}
        self.timers: Timers[Item] = Timers()
        self._ids = self.received = self.done = self.dead = self.cancelled = 0
        self.refused = self.errors = self.retries = 0
        self._wait = LatencyHistogram()
        self._processing = LatencyHistogram()
        self._last = self._load_at = now
        self._load = 0.0

    @property
    def depth(self) -> int:
        """Items that wait for an instance, for their next attempt, or for room. O(1)."""
        return self._waiting.size + len(self._retrying) + self._senders.size

    @property
    def busy(self) -> int:
        """Items in hand, and senders. O(1)."""
        return self.depth + len(self.running)

    @property
    def has_room(self) -> bool:
        """Whether one more item may come in at once. O(1)."""
        return self._waiting.size + len(self._retrying) < self.capacity

    @property
    def has_instance(self) -> bool:
        """Whether an instance is free. O(1)."""
        return len(self.running) < self.concurrency

    # -- in ----------------------------------------------------------------------------------------

    def offer(self, item: Item, now: float, *, patient: bool) -> bool:
        """Hand in a new item. O(log n).

        Args:
            item: of this queue, NEW.
            now: seconds.
            patient: without room, it waits as BLOCKED; else it is refused and stays NEW.

        Returns:
            Whether it was accepted.
        """
        self._must_be(item, NEW)
        room = self.has_room and not self._senders.size
        if not room and not patient:
            self.refused += 1
            return False
        self._ids += 1
        item.id = self._ids
        item.arrived = now
        if not room:
            self._senders.push(item)
            return False
        self._accept(item, now)
        return True

    def _accept(self, item: Item, now: float) -> None:
        self.received += 1
        self._last = now
        self._waiting.push(item)

    def admit(self, now: float) -> list[Item]:
        """Let senders in while there is room: those that came in. O(log n) each."""
        came: list[Item] = []
        while self._senders.size and self.has_room:
            came.append(item := self._senders.pop())
            self._accept(item, now)
        return came

    # -- attempts ----------------------------------------------------------------------------------

    def take(self, now: float) -> Item | None:
        """The next item for an instance, or None when none waits or no instance is free. O(log n)."""
        if now >= self.timers.next:
            self._due(now)
        if not self._waiting.size or not self.has_instance:
            return None
        item = self._waiting.pop()
        self._note(now)
        self.running[item.id] = item
        item.state = RUNNING
        item.attempt += 1
        item.begun = now
        if item.attempt == 1:
            self._wait.record(now - item.arrived)
        return item

    def _due(self, now: float) -> None:
        while (item := self.timers.take(now)) is not None:
            del self._retrying[item.id]
            self._waiting.push(item)

    def succeed(self, item: Item, now: float) -> None:
        """The attempt went well. O(1)."""
        self._leave(item, now)
        item.state = ENDED
        self.done += 1

    def fail(
        self, item: Item, now: float, uniform: float, *, busy: float | None = None, permanent: bool = False
    ) -> float | None:
        """The attempt failed. O(log n).

        Args:
            item: RUNNING.
            now: seconds.
            uniform: a random number from 0 to 1, drawn by the caller.
            busy: seconds after which to come back at the earliest: the item is not to blame, its attempts
                are not used up.
            permanent: trying again would not help.

        Returns:
            Seconds until it is tried again, or None: it failed for good.
        """
        self._leave(item, now)
        self.errors += 1
        delay = None if permanent else self._delay(item, uniform, busy)
        if delay is None:
            item.state = ENDED
            self.dead += 1
        else:
            item.state = RETRYING
            self.retries += 1
            self._retrying[item.id] = item
            self.timers.remind(now + delay, item, len(self._retrying))
        return delay

    def _delay(self, item: Item, uniform: float, busy: float | None) -> float | None:
        if busy is None:
            item.failures += 1
            return backoff(self.policy, item.failures, uniform)
        item.busies += 1
        if item.busies >= BUSY_LIMIT:
            return None
        ceiling = min(self.policy.cap, self.policy.base * 2.0 ** min(item.busies, 60))
        return max(busy, uniform * ceiling)

    def _leave(self, item: Item, now: float) -> None:
        self._must_be(item, RUNNING)
        self._note(now)
        del self.running[item.id]
        self._processing.record(now - item.begun)

    def cancel(self, item: Item, now: float) -> None:
        """Give an item up, wherever it is. O(log n), amortised.

        A RUNNING one must have ended. One that is BLOCKED was never accepted and is not counted.
        """
        state = item.state
        if state == RUNNING:
            self._leave(item, now)
        elif state not in (BLOCKED, WAITING, RETRYING):
            raise ValueError(f"item {item.id!r} is not in hand; it can be cancelled once")
        item.state = ENDED
        if state == BLOCKED:
            self._senders.forget(item)
            return
        if state == WAITING:
            self._waiting.forget(item)
        elif state == RETRYING:
            item.wake = INF
            del self._retrying[item.id]
        self._last = now
        self.cancelled += 1

    def left(self) -> list[Item]:
        """What is not RUNNING and has not ended, the most urgent first. O(n log n)."""
        return [*self._waiting.items(), *self._retrying.values(), *self._senders.items()]

    # -- figures -----------------------------------------------------------------------------------

    def _note(self, now: float) -> None:
        """The number of instances at work is about to change."""
        self._load = self.utilisation(now)
        self._load_at = self._last = now

    def utilisation(self, now: float) -> float:
        """Share of the instances at work: a mean over time, each minute weighing e times the one before."""
        share = len(self.running) / self.concurrency
        return share + (self._load - share) * exp((self._load_at - now) / _MEMORY)

    def idle(self, now: float) -> float:
        """For how many seconds nothing has been in hand. O(1)."""
        return 0.0 if self.busy else now - self._last

    def next_deadline(self) -> float:
        """When an item may have to be tried again; inf for never. O(1)."""
        return self.timers.next if self._retrying else INF

    def statistics(self, now: float) -> ServiceStatistics:
        """A frozen picture of this instant. O(buckets of a histogram)."""
        return ServiceStatistics(
            received=self.received,
            waiting=self._waiting.size,
            processing=len(self.running),
            retrying=len(self._retrying),
            done=self.done,
            dead=self.dead,
            cancelled=self.cancelled,
            senders=self._senders.size,
            refused=self.refused,
            errors=self.errors,
            retries=self.retries,
            capacity=self.capacity,
            concurrency=self.concurrency,
            wait=self._wait.summary(),
            processing_time=self._processing.summary(),
            utilisation=self.utilisation(now),
            idle=self.idle(now),
            last_activity=self._last,
        )

    def _must_be(self, item: Item, state: int) -> None:
        if item.queue is not self or item.state != state:
            name = item.queue.name
            raise ValueError(f"item {item.id!r} of {name!r} is in state {item.state!r}, not {state!r}")

    def _check(self) -> None:
        """Assert every invariant. O(n log n)."""
        for line in (self._waiting, self._senders):
            assert len(line.items()) == line.size
            assert len(line._heap) <= 2 * line.size + 64
        assert all(item.state == RUNNING and item.id == id for id, item in self.running.items())
        assert all(item.state == RETRYING for item in self._retrying.values())
        assert all(self.timers.holds(item) for item in self._retrying.values())
        assert len(self.running) <= self.concurrency
        assert self.busy - self._senders.size <= self.capacity + self.concurrency
        assert not (self._senders.size and self.has_room), "a sender waits although there is room"
        in_hand = self.busy - self._senders.size
        assert self.received == in_hand + self.done + self.dead + self.cancelled
        assert 0.0 <= self._load <= 1.0
        self.timers._check()


def bottlenecks(services: Mapping[str, ServiceStatistics]) -> tuple[str, ...]:
    """The services that hold others up, the fullest first (then the one most at work). O(n log n)."""
    worst = sorted(services.items(), key=lambda s: (-s[1].fullness, -s[1].utilisation, s[0]))
    return tuple(name for name, figures in worst if figures.is_bottleneck)
