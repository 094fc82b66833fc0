"""Batches: a state machine against a list of calls, and the rules one by one."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ccm._core.batch import Batch, BatchQueue, Ticket


@attrs.define(eq=False)
class Group:
    """The model of a batch: who waits for what, in the order of the keys' first calls."""

    number: int
    since: float
    calls: list[Ticket[str]] = attrs.field(factory=list)
    full: bool = False

    @property
    def keys(self) -> list[str]:
        return list(dict.fromkeys(call.key for call in self.calls))

    @property
    def urgency(self) -> int:
        return min(call.priority for call in self.calls)


class Machine(RuleBasedStateMachine):
    SIZE, DELAY, FETCHES = 3, 4.0, 2

    def __init__(self) -> None:
        super().__init__()
        self.queue = BatchQueue[str](max_size=self.SIZE, max_delay=self.DELAY, concurrency=self.FETCHES)
        self.now = 0.0
        self.groups: list[Group] = []
        self.running: list[tuple[Batch[str], Group]] = []
        self.order: list[str] = []
        self.number = self.told = self.left = 0

    @rule(key=st.sampled_from("abcdefgh"), priority=st.integers(0, 3))
    def join(self, key: str, priority: int) -> None:
        ticket = self.queue.join(key, priority, self.now)
        group = next((g for g in self.groups if key in g.keys), None)
        if group is None:
            group = next((g for g in self.groups if not g.full), None)
        if group is None:
            self.number += 1
            group = Group(self.number, self.now)
            self.groups.append(group)
        group.calls.append(ticket)
        group.full = group.full or len(group.keys) == self.SIZE

    @rule(data=st.data())
    @precondition(lambda self: self.groups or self.running)
    def leave(self, data: st.DataObject) -> None:
        groups = [*self.groups, *(group for _, group in self.running)]
        calls = [(group, call) for group in groups for call in group.calls]
        if not calls:
            return
        group, call = data.draw(st.sampled_from(calls))
        unwanted = self.queue.leave(call)
        group.calls.remove(call)
        self.left += 1
        assert unwanted == (group not in self.groups and not group.calls)
        if group in self.groups and not group.calls:
            self.groups.remove(group)
        with pytest.raises(ValueError, match="a ticket is left once"):
            self.queue.leave(call)

    @rule(seconds=st.sampled_from([0.0, 1.0, 4.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def start(self) -> None:
        batch = self.queue.start(self.now)
        ready = [g for g in self.groups if g.full or self.now >= g.since + self.DELAY]
        if not ready or len(self.running) == self.FETCHES:
            assert batch is None
            return
        group = min(ready, key=lambda g: (g.urgency, not g.full, g.number))
        assert batch is not None
        assert list(batch.callers) == [key for key in batch.callers if key in group.keys]
        assert sorted(batch.callers) == sorted(group.keys)
        self.groups.remove(group)
        self.running.append((batch, group))

    @rule(data=st.data())
    @precondition(lambda self: self.running)
    def finish(self, data: st.DataObject) -> None:
        pair = data.draw(st.sampled_from(self.running))
        self.running.remove(pair)
        batch, group = pair
        told = self.queue.finish(batch)
        assert sorted(map(id, told)) == sorted(map(id, group.calls))
        self.told += len(told)
        with pytest.raises(ValueError, match="is not being fetched"):
            self.queue.finish(batch)

    @rule(dice=st.integers(0, 9))
    @precondition(lambda self: self.groups)
    def drop_all(self, dice: int) -> None:
        if dice:  # or hardly a run would get far
            return
        told = self.queue.drop_all()
        groups = [*self.groups, *(group for _, group in self.running)]
        assert sorted(map(id, told)) == sorted(id(call) for group in groups for call in group.calls)
        self.told += len(told)
        self.groups.clear()
        self.running.clear()

    @invariant()
    def agrees(self) -> None:
        self.queue._check()
        figures = self.queue.statistics()
        waiting = sum(len(g.calls) for g in [*self.groups, *(g for _, g in self.running)])
        assert (figures.answered, figures.cancelled, figures.waiting) == (self.told, self.left, waiting)
        assert (figures.running, figures.queued) == (len(self.running), len(self.groups))
        window = next((g for g in self.groups if not g.full), None)
        free = len(self.running) < self.FETCHES
        due = window.since + self.DELAY if window is not None and free else float("inf")
        assert self.queue.next_deadline() == due
        assert self.queue.idle == (not self.groups and not self.running)


TestMachine = Machine.TestCase


def queue(*, max_size: int = 2, max_delay: float = 1.0, concurrency: int = 1) -> BatchQueue[str]:
    return BatchQueue(max_size=max_size, max_delay=max_delay, concurrency=concurrency)


def keys(batch: Batch[str] | None) -> list[str]:
    assert batch is not None
    return list(batch.callers)


def test_a_key_asked_for_during_its_fetch_is_fetched_again() -> None:
    """Or the second caller would get a value older than the question."""
    it = queue(max_delay=0.0, concurrency=2)
    it.join("a", 2, 0.0)
    assert keys(it.start(0.0)) == ["a"]
    it.join("a", 2, 0.0)
    assert keys(it.start(0.0)) == ["a"]


def test_a_late_urgent_caller_of_a_shared_key_pulls_its_batch_forward() -> None:
    it = queue(max_size=1)
    running = it.join("running", 2, 0.0)
    assert keys(it.start(0.0)) == ["running"]
    it.join("first", 2, 0.0)
    it.join("second", 3, 0.0)
    it.join("second", 0, 0.0)
    it.finish(running.batch)
    assert keys(it.start(0.0)) == ["second"]


def test_a_batch_whose_urgent_caller_has_left_falls_back() -> None:
    it = queue(max_size=1)
    it.join("first", 2, 0.0)
    it.join("second", 3, 0.0)
    it.leave(it.join("second", 0, 0.0))
    assert keys(it.start(0.0)) == ["first"]
    assert it.start(0.0) is None


def test_a_batch_that_fell_back_is_pulled_forward_again() -> None:
    it = queue(max_size=1, concurrency=2)
    it.join("first", 2, 0.0)
    it.join("second", 3, 0.0)
    it.leave(it.join("second", 0, 0.0))
    assert keys(it.start(0.0)) == ["first"]  # after a look at the place the second one had
    it.join("third", 1, 0.0)
    it.join("second", 0, 0.0)
    it._check()
    assert keys(it.start(0.0)) == ["second"]


def test_a_window_goes_on_taking_keys_while_all_fetches_are_taken() -> None:
    it = queue(max_size=3, max_delay=1.0)
    first = it.join("a", 2, 0.0)
    assert keys(it.start(1.0)) == ["a"]
    it.join("b", 2, 1.0)
    it.join("c", 2, 9.0)
    it.finish(first.batch)
    assert keys(it.start(9.0)) == ["b", "c"]


@pytest.mark.parametrize(("priority", "first"), [(1, ["late"]), (2, ["a", "b"]), (3, ["a", "b"])])
def test_a_window_that_is_due_comes_before_a_full_batch_only_when_it_is_more_urgent(
    priority: int, first: list[str]
) -> None:
    it = queue(max_size=2, max_delay=1.0)
    for key in ("a", "b"):
        it.join(key, 2, 0.0)
    it.join("late", priority, 0.0)
    assert keys(it.start(1.0)) == first


def test_a_flushed_window_does_not_wait() -> None:
    it = queue(max_size=9, max_delay=9.0)
    it.join("a", 2, 0.0)
    assert it.start(0.0) is None
    it.flush()
    assert it.next_deadline() == 0.0
    assert keys(it.start(0.0)) == ["a"]


def test_a_key_that_cannot_be_hashed_changes_nothing() -> None:
    it = queue()
    with pytest.raises(TypeError):
        it.join([], 2, 0.0)  # type: ignore[arg-type]
    it._check()
    assert it.idle
    assert it.statistics().calls == 0


def test_callers_that_come_and_go_leave_nothing_behind() -> None:
    it = queue(max_size=1)
    it.join("kept", 0, 0.0)
    for n in range(1000):
        it.leave(it.join(f"k{n}", n % 4, 0.0))
    it._check()
    assert len(it._heap) <= 8 * 1 + 64
    assert keys(it.start(0.0)) == ["kept"]
