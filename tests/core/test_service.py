"""A service's queue: a state machine against a list, cycles against brute force, and single rules."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ccm import RetryPolicy
from ccm._core.cycles import cycle
from ccm._core.service import (
    BLOCKED,
    BUSY_LIMIT,
    ENDED,
    NEW,
    RETRYING,
    RUNNING,
    WAITING,
    Item,
    ServiceQueue,
    bottlenecks,
)

INF = float("inf")


def queue(
    name: str = "s", *, capacity: int = 3, concurrency: int = 1, attempts: int = 3, now: float = 0.0
) -> ServiceQueue:
    policy = RetryPolicy(attempts=attempts, base=1.0, cap=4.0)
    return ServiceQueue(name, capacity=capacity, concurrency=concurrency, policy=policy, now=now)


def place(item: Item) -> tuple[int, int]:
    return item.priority, item.id


class Machine(RuleBasedStateMachine):
    CAPACITY, INSTANCES, ATTEMPTS = 3, 2, 3

    def __init__(self) -> None:
        super().__init__()
        self.queue = queue(capacity=self.CAPACITY, concurrency=self.INSTANCES, attempts=self.ATTEMPTS)
        self.now = 0.0
        self.blocked: list[Item] = []
        self.waiting: list[Item] = []
        self.running: list[Item] = []
        self.retrying: dict[Item, float] = {}
        self.failures: dict[Item, int] = {}
        self.busies: dict[Item, int] = {}
        self.received = self.done = self.dead = self.cancelled = self.refused = self.errors = 0
        self.begun = self.over = 0
        self.last = 0.0

    @initialize(uniforms=st.lists(st.sampled_from([0.5, 1.0]), max_size=CAPACITY))
    def begin(self, uniforms: list[float]) -> None:
        """Items have failed before: otherwise hardly a run has several of them that wait for their time."""
        for uniform in uniforms:
            self.offer(2, patient=True)
            self.take()
            self.end(self.running.pop(), uniform, None, permanent=False)

    def room(self) -> bool:
        return len(self.waiting) + len(self.retrying) < self.CAPACITY

    @rule(priority=st.integers(0, 3), patient=st.booleans())
    def offer(self, priority: int, patient: bool) -> None:
        item = Item(self.queue, None, "", priority)
        room = self.room()
        assert self.queue.offer(item, self.now, patient=patient) == room
        if room:
            self.waiting.append(item)
            self.received += 1
            self.last = self.now
        elif patient:
            self.blocked.append(item)
        else:
            self.refused += 1
            assert item.state == NEW

    @rule()
    def take(self) -> None:
        for item in [item for item, wake in self.retrying.items() if wake <= self.now]:
            del self.retrying[item]
            self.waiting.append(item)
        taken = self.queue.take(self.now)
        if not self.waiting or len(self.running) == self.INSTANCES:
            assert taken is None
            return
        expected = min(self.waiting, key=place)
        assert taken is expected
        self.waiting.remove(expected)
        self.running.append(expected)
        self.begun += expected.attempt == 1
        self.last = self.now
        self.let_in()

    def let_in(self) -> None:
        came = self.queue.admit(self.now)
        expected = sorted(self.blocked, key=place)[
            : max(0, self.CAPACITY - len(self.waiting) - len(self.retrying))
        ]
        assert came == expected
        for item in came:
            self.blocked.remove(item)
            self.waiting.append(item)
            self.received += 1
            self.last = self.now

    @rule(data=st.data())
    @precondition(lambda self: self.running)
    def succeed(self, data: st.DataObject) -> None:
        item = self.pick(data)
        self.queue.succeed(item, self.now)
        self.done += 1
        self.over += 1
        with pytest.raises(ValueError, match="state"):
            self.queue.succeed(item, self.now)

    @rule(
        data=st.data(),
        uniform=st.sampled_from([0.0, 0.5, 1.0]),
        busy=st.sampled_from([None, None, 0.25, 9.0]),
        permanent=st.sampled_from([False, False, False, True]),
    )
    @precondition(lambda self: self.running)
    def fail(self, data: st.DataObject, uniform: float, busy: float | None, permanent: bool) -> None:
        self.end(self.pick(data), uniform, busy, permanent=permanent)

    def end(self, item: Item, uniform: float, busy: float | None, *, permanent: bool) -> None:
        delay = self.queue.fail(item, self.now, uniform, busy=busy, permanent=permanent)
        self.errors += 1
        self.over += 1
        self.last = self.now
        counts = self.failures if busy is None else self.busies
        counts[item] = counts.get(item, 0) + 1
        if permanent or (busy is None and counts[item] == self.ATTEMPTS):
            assert delay is None
            self.dead += 1
            return
        expected = uniform * min(4.0, 2.0 ** (counts[item] - (busy is None)))
        assert delay == max(expected, busy or 0.0)
        self.retrying[item] = self.now + delay

    def pick(self, data: st.DataObject) -> Item:
        item = data.draw(st.sampled_from(self.running))
        self.running.remove(item)
        self.last = self.now
        return item

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        items = [*self.blocked, *self.waiting, *self.retrying, *self.running]
        if not items:
            return
        item = data.draw(st.sampled_from(items))
        self.queue.cancel(item, self.now)
        if item in self.blocked:
            self.blocked.remove(item)
        else:
            self.cancelled += 1
            self.last = self.now
            self.over += item in self.running
            self.retrying.pop(item, None)
            for line in (self.waiting, self.running):
                if item in line:
                    line.remove(item)
        self.let_in()
        with pytest.raises(ValueError, match="cancelled once"):
            self.queue.cancel(item, self.now)

    @rule(seconds=st.sampled_from([0.0, 0.25, 1.0, 60.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def agrees(self) -> None:
        self.queue._check()
        figures = self.queue.statistics(self.now)
        figures.check()
        assert figures.waiting == len(self.waiting)
        assert figures.processing == len(self.running)
        assert figures.retrying == len(self.retrying)
        assert figures.senders == len(self.blocked)
        assert (figures.received, figures.done, figures.dead) == (self.received, self.done, self.dead)
        assert (figures.cancelled, figures.refused) == (self.cancelled, self.refused)
        assert figures.errors == self.errors == figures.retries + figures.dead
        assert (figures.wait.count, figures.processing_time.count) == (self.begun, self.over)
        assert figures.last_activity == self.last
        busy = self.waiting or self.running or self.retrying or self.blocked
        assert figures.idle == (0.0 if busy else self.now - self.last)
        assert self.queue.next_deadline() <= min(self.retrying.values(), default=INF)
        places = {
            WAITING: self.waiting,
            RUNNING: self.running,
            RETRYING: self.retrying,
            BLOCKED: self.blocked,
        }
        for state, items in places.items():
            assert all(item.state == state for item in items)
        left = self.queue.left()
        assert len(left) == len(set(left)) == len(self.waiting) + len(self.retrying) + len(self.blocked)


TestMachine = Machine.TestCase


def hand_in(it: ServiceQueue, priority: int = 2, now: float = 0.0) -> Item:
    item = Item(it, None, "", priority)
    it.offer(item, now, patient=True)
    return item


def take(it: ServiceQueue, now: float = 0.0) -> Item:
    item = it.take(now)
    assert item is not None
    return item


def test_an_item_that_is_tried_again_keeps_its_place() -> None:
    it = queue()
    first, second = hand_in(it), hand_in(it)
    it.fail(take(it), 0.0, 0.0)
    assert take(it) is first
    it.succeed(first, 0.0)
    assert take(it) is second


def test_who_is_busy_uses_up_no_attempt_but_patience() -> None:
    it = queue(attempts=1)
    item = hand_in(it)
    for busies in range(1, BUSY_LIMIT):
        delay = it.fail(take(it, 1e6 * busies), 1e6 * busies, 1.0, busy=3.0)
        assert delay == max(3.0, min(4.0, 2.0**busies))
    assert it.fail(take(it, 1e9), 1e9, 1.0, busy=3.0) is None
    assert item.state == ENDED
    assert it.dead == 1


def test_whoever_was_busy_still_has_all_attempts() -> None:
    it = queue(attempts=2)
    hand_in(it)
    assert it.fail(take(it), 0.0, 1.0, busy=3.0) == 3.0
    assert it.fail(take(it, 3.0), 3.0, 1.0, busy=0.0) == 4.0
    assert it.fail(take(it, 7.0), 7.0, 1.0) == 1.0
    assert it.fail(take(it, 8.0), 8.0, 1.0) is None


def test_items_that_wait_for_their_next_attempt_keep_their_room() -> None:
    it = queue(capacity=2)
    first, second = hand_in(it), hand_in(it)
    for item in (first, second):
        assert take(it) is item
        it.fail(item, 0.0, 1.0)
    assert not it.has_room
    blocked = hand_in(it)
    assert blocked.state == BLOCKED
    it.cancel(first, 0.5)
    assert it.admit(0.5) == [blocked]
    assert take(it, 1.0) is second  # the one that was given up is not tried again
    it.succeed(second, 1.0)
    assert take(it, 1.0) is blocked
    it._check()


def test_a_wait_is_counted_once_and_ends_with_the_first_attempt() -> None:
    it = queue()
    hand_in(it)
    it.fail(take(it, 2.0), 2.0, 1.0)
    it.succeed(take(it, 9.0), 10.0)
    figures = it.statistics(10.0)
    assert (figures.wait.count, figures.wait.mean) == (1, 2.0)
    assert (figures.processing_time.count, figures.processing_time.mean) == (2, 0.5)


def test_nothing_overtakes_a_sender_that_waits() -> None:
    it = queue(capacity=1)
    hand_in(it)
    blocked = hand_in(it)
    take(it)
    assert it.has_room  # and nobody has been let in yet
    assert not it.offer(Item(it, None, "", 0), 0.0, patient=False)
    assert it.admit(0.0) == [blocked]


def test_items_that_come_and_go_leave_nothing_behind() -> None:
    it = queue(capacity=1)
    hand_in(it)
    take(it)
    hand_in(it)
    for n in range(1000):
        it.cancel(hand_in(it, n % 4), 0.0)
    it._check()
    assert len(it._senders._heap) <= 64


def test_misuse_changes_nothing() -> None:
    it, other = queue(), queue("other")
    item = hand_in(it)
    for wrong in (
        lambda: it.offer(item, 0.0, patient=True),
        lambda: it.succeed(item, 0.0),
        lambda: it.fail(item, 0.0, 0.5),
        lambda: other.offer(Item(it, None, "", 0), 0.0, patient=True),
        lambda: it.cancel(Item(it, None, "", 0), 0.0),
    ):
        with pytest.raises(ValueError, match="item"):
            wrong()
    it._check()
    assert it.statistics(0.0).waiting == 1
    assert other.statistics(0.0).received == 0


def test_utilisation_is_the_share_of_time_at_work() -> None:
    it = queue()
    item = hand_in(it)
    take(it)
    assert it.utilisation(0.0) == 0.0
    assert it.utilisation(60.0) == pytest.approx(1 - 1 / 2.718281828)
    it.succeed(item, 600.0)
    assert it.utilisation(600.0) == pytest.approx(1.0, abs=1e-4)
    assert it.utilisation(1200.0) == pytest.approx(0.0, abs=1e-4)


def test_bottlenecks_are_sorted_by_how_full_they_are() -> None:
    half, full, easy, worn = (
        queue("half", capacity=4),
        queue("full", capacity=2),
        queue("easy"),
        queue("worn"),
    )
    for it, items in ((half, 2), (full, 3), (easy, 1), (worn, 2)):
        for _ in range(items):
            hand_in(it)
    take(worn)  # and is at work ever since, while one more waits
    figures = {it.name: it.statistics(1000.0) for it in (half, full, easy, worn)}
    assert bottlenecks(figures) == ("full", "half", "worn")


# -- cycles ----------------------------------------------------------------------------------------


def running(*queues: ServiceQueue) -> list[Item]:
    for it in queues:
        hand_in(it)
    return [take(it) for it in queues]


def test_a_service_that_calls_itself_with_its_only_instance() -> None:
    a = queue("a")
    (holder,) = running(a)
    assert cycle(holder, Item(a, None, "", 2)) == ("a", "a")
    assert holder.waits == []


def test_a_service_that_calls_itself_with_an_instance_to_spare() -> None:
    a = queue("a", concurrency=2)
    (holder,) = running(a)
    assert cycle(holder, Item(a, None, "", 2)) == ()


def test_two_services_that_wait_for_each_others_instances() -> None:
    """Neither is in the chain of the other's call; that they wait for each other shows only in the whole."""
    a, b = queue("a"), queue("b")
    in_a, in_b = running(a, b)
    to_b = hand_in(b)
    assert cycle(in_a, to_b) == ()
    in_a.waits.append(to_b)
    assert cycle(in_b, Item(a, None, "", 2)) == ("b", "a", "b")


def test_an_instance_that_works_breaks_the_cycle() -> None:
    a, b = queue("a"), queue("b", concurrency=2)
    in_a, in_b, _works = running(a, b, b)
    in_a.waits.append(hand_in(b))
    assert cycle(in_b, Item(a, None, "", 2)) == ()


def test_a_wait_for_an_item_with_an_instance_counts_on_nobody_else() -> None:
    a, b = queue("a"), queue("b", concurrency=2)
    in_a, in_b, _works = running(a, b, b)
    in_a.waits.append(in_b)  # its own item, not any instance of b
    assert cycle(in_b, Item(a, None, "", 2)) == ("b", "a", "b")


def test_an_item_waits_for_all_that_its_tasks_wait_for() -> None:
    a, b, c = queue("a"), queue("b"), queue("c")
    in_a, in_b, in_c = running(a, b, c)
    in_a.waits += [in_c, in_b]  # two tasks side by side; c works, b does not
    assert cycle(in_b, Item(a, None, "", 2)) == ("b", "a", "b")
    assert cycle(in_c, Item(a, None, "", 2)) == ("c", "a", "c")


@given(st.data())
def test_cycles_against_brute_force(data: st.DataObject) -> None:
    """Stuck items are those that are left over when whatever can end is ended, again and again."""
    queues = [queue(name, concurrency=data.draw(st.integers(1, 2))) for name in "abc"]
    items = running(*(it for it in queues for _ in range(data.draw(st.integers(0, it.concurrency)))))
    if not items:
        return
    targets: list[Any] = [*items, *(Item(it, None, "", 2) for it in queues)]
    for item in items:
        item.waits = data.draw(st.lists(st.sampled_from(targets), max_size=2))
    holder, wanted = data.draw(st.sampled_from(items)), data.draw(st.sampled_from(targets))

    held = {item: [*item.waits, wanted] if item is holder else item.waits for item in items}
    alive = list(items)
    for _ in items:
        for item in list(alive):
            if all(
                target not in alive if target in items else has_free(target, alive) for target in held[item]
            ):
                alive.remove(item)
    stuck = wanted in alive if wanted in items else not has_free(wanted, alive)
    names = cycle(holder, wanted)
    assert bool(names) == stuck
    if names:
        assert names[0] == names[-1]
        assert set(itertools.pairwise(names)) <= {
            (item.queue.name, target.queue.name) for item in alive for target in held[item]
        }


def has_free(target: Item, alive: list[Item]) -> bool:
    held = sum(item.queue is target.queue for item in alive)
    return held < target.queue.concurrency
