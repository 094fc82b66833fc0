"""The scheduler against a naive model, step by step: laws G2, G3, G4, G7, G8, expiry and ageing.

All times are multiples of 1/64 s, so the model's sums and the scheduler's are the same numbers.
"""

from __future__ import annotations

from math import inf
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ccm._core.lanes import DONE, NEW, RETRYING, RUNNING, WAITING, Entry
from ccm._core.scheduler import Scheduler

from .kit import weighs
from .naive import NaiveScheduler

TICK = 1 / 64
KEYS = st.sampled_from("abcde")
TENANTS = st.sampled_from("xyz")
PRIORITIES = st.sampled_from((0, 1, 2, 2, 2, 3, 3))
SOME_TIME = st.integers(0, 256).map(lambda n: n * TICK)
LATER = st.none() | st.just(0.0) | SOME_TIME
LIMITS = st.sampled_from((1, 1, 2, 4)).flatmap(
    lambda limit: st.tuples(
        st.just(limit), st.lists(st.integers(0, limit - 1), min_size=4, max_size=4).map(sorted)
    )
)


def photograph(scheduler: Scheduler) -> Any:
    """Everything that misuse might change, as plain values."""
    lanes = {
        key: (lane.size, lane.counts[:], lane.running, lane.head, lane.klass, lane.wake)
        for key, lane in scheduler._lanes.items()
    }
    queued = [list(queue) for queue in scheduler._queued]
    counts = (scheduler.waiting, scheduler.retrying, scheduler.ready.count, scheduler.limit, scheduler._caps)
    return lanes, queued, counts, list(scheduler.running), sorted(scheduler.loose.items())


class SchedulerMachine(RuleBasedStateMachine):
    """After every step the owner's protocol is followed: `due`, then `next` until it returns None."""

    @initialize(
        sizes=LIMITS,
        ageing=st.sampled_from((0.5, 1.0, 2.0, inf)),
        weights=st.dictionaries(TENANTS, st.sampled_from((0.5, 2.0, 4.0))),
        by_seconds=st.booleans(),
        tenant_limits=st.none() | st.dictionaries(TENANTS, st.integers(1, 2), min_size=1),
    )
    def begin(
        self, sizes: tuple[int, list[int]], ageing: float, weights: dict[str, float], by_seconds: bool,
        tenant_limits: dict[str, int] | None,
    ) -> None:  # fmt: skip
        limit, headroom = sizes
        self.now = 0.0
        self.ids = 0
        self.scheduler = Scheduler(
            limit=limit,
            headroom=headroom,
            ageing=ageing,
            weight_of=weighs(weights),
            limit_of=None if tenant_limits is None else lambda tenant: tenant_limits.get(tenant, inf),
            count_tenants=True,
            conversation_limit=3,
            by_seconds=by_seconds,
        )
        self.model = NaiveScheduler(limit, headroom, ageing, 3, tenant_limits)
        self.skipped: list[Entry] = []

    # -- what happens ----------------------------------------------------------------------------

    @rule(
        key=KEYS,
        tenant=TENANTS,
        priority=PRIORITIES,
        wait=LATER,
        delay=st.none() | st.none() | SOME_TIME,
        ordered=st.sampled_from((True, True, True, False)),
        times=st.integers(1, 3),
    )
    def add(
        self,
        key: str,
        tenant: str,
        priority: int,
        wait: float | None,
        delay: float | None,
        ordered: bool,
        times: int,
    ) -> None:
        for _ in range(times):
            expires = inf if wait is None else self.now + wait
            entry = Entry(self.ids + 1, key, tenant, priority, self.now, expires, ordered)
            entry.not_before = 0.0 if delay is None else self.now + delay
            self.add_one(entry)

    def add_one(self, entry: Entry) -> None:
        self.ids += 1
        at_once = self.model.starts_at_once(entry, self.now)
        assert (
            self.scheduler.may_start(entry.key, entry.tenant, entry.priority, ordered=entry.ordered)
            >= at_once
        )
        assert self.scheduler.add(entry, self.now) == at_once
        self.model.put(entry, RUNNING if at_once else WAITING, entry.not_before, entry.expires)
        self.settle()

    @rule(key=KEYS, priorities=st.lists(PRIORITIES, min_size=2, max_size=3), ordered=st.booleans())
    def burst(self, key: str, priorities: list[int], ordered: bool) -> None:
        """What makes lanes long enough to have an inside."""
        for priority in priorities:
            self.add_one(Entry(self.ids + 1, key, "x", priority, self.now, inf, ordered))

    @rule(step=SOME_TIME)
    def time_passes(self, step: float) -> None:
        self.now += step
        self.settle()

    @precondition(lambda self: self.scheduler.next_deadline() < inf)
    @rule()
    def sleep_until_the_deadline(self) -> None:
        """What the owner does when nothing else happens."""
        before = self.model.startable(self.now)
        self.now = self.scheduler.next_deadline()
        assert not before
        self.settle()

    @precondition(lambda self: self.model.running)
    @rule(data=st.data(), seconds=SOME_TIME)
    def finish(self, data: st.DataObject, seconds: float) -> None:
        entry = data.draw(st.sampled_from(self.model.running))
        self.scheduler.finish(entry, self.now, seconds)
        self.model.end(entry)
        assert entry.state == DONE
        self.settle()

    @precondition(lambda self: self.model.running)
    @rule(data=st.data(), delay=SOME_TIME, wait=LATER)
    def retry(self, data: st.DataObject, delay: float, wait: float | None) -> None:
        entry = data.draw(st.sampled_from(self.model.running))
        expires = inf if wait is None else self.now + wait
        self.scheduler.retry(entry, self.now, self.now + delay, 0.5, expires)
        self.model.put(entry, RETRYING, self.now + delay, expires)
        assert entry.state == RETRYING
        self.settle()

    @precondition(lambda self: self.model.running)
    @rule(data=st.data())
    def requeue(self, data: st.DataObject) -> None:
        entry = data.draw(st.sampled_from(self.model.running))
        self.scheduler.requeue(entry, self.now)
        self.model.put(entry, WAITING, self.model.retry_at[entry.id], self.model.expires[entry.id])
        assert entry.state == WAITING
        self.settle()

    @precondition(lambda self: self.model.pending)
    @rule(data=st.data(), urgent=st.booleans())
    def cancel(self, data: st.DataObject, urgent: bool) -> None:
        pending = self.model.pending
        if urgent:
            pending = [e for e in pending if e.priority == min(e.priority for e in pending)]
        entry = data.draw(st.sampled_from(pending))
        self.scheduler.cancel(entry, self.now)
        self.model.end(entry)
        assert entry.state == DONE
        self.settle()

    @rule(key=KEYS, tenant=TENANTS, priority=PRIORITIES, wait=LATER)
    def set_aside(self, key: str, tenant: str, priority: int, wait: float | None) -> None:
        """A turn takes its place in the order, and comes in later or never."""
        self.ids += 1
        expires = inf if wait is None else self.now + wait
        self.skipped.append(Entry(self.ids, key, tenant, priority, self.now, expires))

    @precondition(lambda self: self.skipped)
    @rule(which=st.integers(0, 100))
    def insert(self, which: int) -> None:
        entry = self.skipped.pop(which % len(self.skipped))
        self.scheduler.insert(entry, self.now)
        self.model.put(entry, WAITING, 0.0, entry.expires)
        self.settle()

    @precondition(lambda self: self.model.of(WAITING))
    @rule(data=st.data(), delay=SOME_TIME)
    def postpone(self, data: st.DataObject, delay: float) -> None:
        entry = data.draw(st.sampled_from(self.model.of(WAITING)))
        self.scheduler.postpone(entry, self.now, self.now + delay)
        self.model.put(entry, WAITING, self.now + delay, self.model.expires[entry.id])
        self.settle()

    @precondition(lambda self: self.model.of(WAITING))
    @rule(data=st.data(), priority=PRIORITIES)
    def promote(self, data: st.DataObject, priority: int) -> None:
        entry = data.draw(st.sampled_from(self.model.of(WAITING)))
        expected = min(entry.priority, priority)
        self.scheduler.promote(entry, self.now, priority)
        assert entry.priority == expected
        self.settle()

    @rule(sizes=LIMITS)
    def set_limit(self, sizes: tuple[int, list[int]]) -> None:
        self.scheduler.set_limit(*sizes)
        self.model.set_limit(*sizes)
        self.settle()

    @precondition(lambda self: self.ids % 8 == 7)
    @rule()
    def drop_all(self) -> None:
        expected = sorted(self.model.pending, key=lambda entry: entry.id)
        assert self.scheduler.drop_all(self.now) == expected
        for entry in expected:
            self.model.end(entry)
        self.settle()

    # -- the owner's protocol, each decision compared with the model -----------------------------

    def settle(self) -> None:
        if self.scheduler.next_deadline() <= self.now:
            with pytest.raises(RuntimeError, match="due"):
                self.scheduler.next(self.now)
        expected = self.model.overdue(self.now)
        expired = self.scheduler.due(self.now)
        assert sorted(e.id for e in expired) == sorted(e.id for e in expected)
        assert [e.expires for e in expired] == sorted(e.expires for e in expired)
        for entry in expired:
            self.model.end(entry)
        self.scheduler._check()
        while self.start_one():
            self.scheduler._check()

    def start_one(self) -> bool:
        startable = self.model.startable(self.now)
        assert self.scheduler.startable() == sorted({klass for _, klass in startable.values()})
        entry = self.scheduler.next(self.now)
        if entry is None:
            assert not startable, "a startable turn waits while a slot it may use is free (law G7)"
            return False
        assert entry.id in startable, "not the head of an idle lane, or no slot for its class (G2, G3)"
        most_urgent = min(klass for _, klass in startable.values())
        assert startable[entry.id][1] == most_urgent, "a more urgent class was passed over (law G4)"
        self.model.put(entry, RUNNING, expires=self.model.expires[entry.id])
        assert entry.state == RUNNING
        return True

    # -- misuse ----------------------------------------------------------------------------------

    @precondition(lambda self: self.model.entries)
    @rule(data=st.data())
    def misuse_changes_nothing(self, data: st.DataObject) -> None:
        entry = data.draw(st.sampled_from(self.model.entries))
        stranger = Entry(10**6, "a", "x", 2, self.now)
        before = photograph(self.scheduler)
        if self.model.states[entry.id] != WAITING:
            with pytest.raises(ValueError, match="does not wait"):
                self.scheduler.postpone(entry, self.now, self.now)
            with pytest.raises(ValueError, match="does not wait"):
                self.scheduler.promote(entry, self.now, 0)
        with pytest.raises(ValueError, match="added before"):
            self.scheduler.add(entry, self.now)
        with pytest.raises(ValueError, match="does not run"):
            self.scheduler.finish(stranger, self.now)
        with pytest.raises(ValueError, match="does not wait"):
            self.scheduler.cancel(stranger, self.now)
        if self.model.states[entry.id] == RUNNING:
            with pytest.raises(ValueError, match="does not wait"):
                self.scheduler.cancel(entry, self.now)
        else:
            with pytest.raises(ValueError, match="does not run"):
                self.scheduler.finish(entry, self.now)
            with pytest.raises(ValueError, match="does not run"):
                self.scheduler.retry(entry, self.now, self.now)
            with pytest.raises(ValueError, match="does not run"):
                self.scheduler.requeue(entry, self.now)
        assert photograph(self.scheduler) == before
        assert stranger.state == NEW

    # -- what can be read ------------------------------------------------------------------------

    @invariant()
    def counts_agree(self) -> None:
        scheduler, model = self.scheduler, self.model
        scheduler._check()
        assert sorted(scheduler.running) == sorted(e.id for e in model.running)
        assert scheduler.used == len(model.running)
        assert scheduler.waiting == len(model.of(WAITING))
        assert scheduler.retrying == len(model.of(RETRYING))
        heads = [head for head, _ in model.ready_heads(self.now).values() if not model.full(head.tenant)]
        assert scheduler.ready.count == len(heads)
        waiting = [entry.tenant for entry in model.of(WAITING)]
        assert scheduler.waiting_of == {tenant: waiting.count(tenant) for tenant in waiting}
        for klass, statistics in enumerate(scheduler.queues()):
            queued = model.queued(klass)
            assert statistics.waiting == len(queued)
            assert statistics.oldest == (queued[0].arrived if queued else None)
        assert all(entry.state == model.states[entry.id] for entry in model.entries)

    @invariant()
    def classes_agree(self) -> None:
        """Inheritance and ageing, of every lane that could start and not only of the one that does."""
        for head, klass in self.model.ready_heads(self.now).values():
            assert head.lane is not None
            assert head.lane.klass == klass

    @invariant()
    def answers_agree(self) -> None:
        scheduler, model = self.scheduler, self.model
        for key in "abcdef":
            assert scheduler.conversation_has_room(key) == model.has_room(key)
        for priority in range(4):
            for tenant in (None, "x", "z"):
                assert scheduler.victim(priority, tenant) is model.victim(priority, tenant)
        for entry in model.entries:
            assert scheduler.ahead(entry) == model.ahead(entry)
        assert {e.id for e in scheduler.preemptible()} == {e.id for e in model.running if e.priority == 3}

    @invariant()
    def wakes_in_time(self) -> None:
        """The owner sleeps until the deadline: nothing may expire or become startable before it."""
        deadline = self.scheduler.next_deadline()
        assert deadline > self.now
        for entry in self.model.pending:
            assert deadline <= self.model.expires[entry.id]
            waiting, running = self.model.lane_of(entry)
            if running is None and self.model.retry_at[waiting[0].id] > self.now:
                assert deadline <= self.model.retry_at[waiting[0].id]
        classes = {id: klass for id, (_, klass) in self.model.ready_heads(self.now).items()}
        if deadline < inf:
            just_before = self.model.ready_heads(deadline - TICK / 2)
            assert {id: klass for id, (_, klass) in just_before.items()} == classes


TestScheduler = SchedulerMachine.TestCase
