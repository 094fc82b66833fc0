"""What a message costs, counted instead of timed; and that nothing piles up over many operations (G8)."""

from __future__ import annotations

import random
import sys
from math import inf
from types import FrameType
from typing import Any

import pytest

from ccm._core.fair import FairQueue
from ccm._core.lanes import Entry
from ccm._core.ready import _SLACK
from ccm._core.scheduler import Scheduler

from .kit import LOW, NORMAL, Owner


def calls(work: Any) -> int:
    """How many functions `work` calls, those written in C included."""
    count = 0

    def profile(frame: FrameType, event: str, arg: Any) -> None:
        nonlocal count
        if event in ("call", "c_call"):
            count += 1

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


def calls_per_message(waiting: int, *, tenants: int, ordered: bool, expires: float, depth: int = 1) -> float:
    """Of a message that waits in a queue of constant length, from its arrival to its end."""
    owner = Owner(4, queue_limit=inf, conversation_limit=inf)
    messages = 1000

    def add(number: int) -> None:
        tenant = str(number % tenants)
        owner.add(f"lane {number // depth}", tenant, NORMAL, ordered=ordered, expires=owner.now + expires)

    for number in range(waiting):
        add(number)
    running = list(owner.scheduler.running.values())

    def work() -> None:
        for number in range(waiting, waiting + messages):
            owner.now += 1 / 1024
            add(number)
            running.extend(owner.finish(running.pop(0), 0.5))

    total = calls(work)
    assert len(owner.started) == messages + 4
    return total / messages


@pytest.mark.parametrize("tenants", [1, 50])
@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("expires", [inf, 3600.0])
def test_the_cost_of_a_message_does_not_grow_with_the_lanes_that_wait(
    tenants: int, ordered: bool, expires: float
) -> None:
    few = calls_per_message(100, tenants=tenants, ordered=ordered, expires=expires)
    many = calls_per_message(10_000, tenants=tenants, ordered=ordered, expires=expires)
    assert many <= 1.2 * few, (few, many)


def test_the_cost_of_a_message_does_not_grow_with_the_messages_of_its_conversation() -> None:
    short = calls_per_message(100, tenants=1, ordered=True, expires=inf, depth=5)
    long = calls_per_message(2_000, tenants=1, ordered=True, expires=inf, depth=500)
    assert long <= 1.2 * short, (short, long)


@pytest.mark.parametrize("expires", [inf, 3600.0])
def test_giving_up_a_message_costs_the_same_however_many_wait(expires: float) -> None:
    def per_message(waiting: int) -> float:
        owner = Owner(1)
        entries = [owner.add(f"lane {n}", str(n % 7), expires=expires) for n in range(waiting)]
        victims = random.Random(1).sample(entries[1:], 90)

        def work() -> None:
            for entry in victims:
                owner.scheduler.cancel(entry, 0.0)

        return calls(work) / len(victims)

    few, many = per_message(100), per_message(10_000)
    assert many <= 1.2 * few, (few, many)


def heaps(scheduler: Scheduler) -> list[FairQueue[Any]]:
    groups = [group for groups in scheduler.ready._groups for group in groups.values()]
    return [*scheduler.ready._queues, *(group.lanes for group in groups)]


def test_nothing_piles_up_over_a_hundred_thousand_operations() -> None:
    """Stale heap entries, timers, groups, lanes: bounded by what waits at most."""
    rng = random.Random(7)
    bound = 200
    owner = Owner(5, ageing=0.25, by_seconds=True, weights={"tenant 1": 3.0})
    scheduler = owner.scheduler
    pending: list[Entry] = []
    worst = {"timers": 0, "heap": 0, "groups": 0}
    for step in range(100_000):
        owner.now += rng.choice((0.0, 1 / 64))
        owner.until(owner.now)
        running = list(scheduler.running.values())
        action = rng.random()
        if action < 0.45:
            if scheduler.waiting + scheduler.retrying < bound:
                pending.append(random_message(owner, rng))
        elif action < 0.55:
            pending = [entry for entry in pending if entry.state in (1, 3)]
            if pending:
                scheduler.cancel(rng.choice(pending), owner.now)
        elif running:
            entry = rng.choice(running)
            if action < 0.85:
                scheduler.finish(entry, owner.now, rng.random())
            elif action < 0.93:
                scheduler.requeue(entry, owner.now)
            else:
                scheduler.retry(entry, owner.now, owner.now + rng.random(), 0.1, owner.now + 10.0)
            pending.append(entry)
        owner.fill()
        owner.started.clear()
        worst["timers"] = max(worst["timers"], len(scheduler.timers))
        worst["heap"] = max(worst["heap"], *(queue.kept for queue in scheduler.ready._queues))
        worst["groups"] = max(worst["groups"], *(len(groups) for groups in scheduler.ready._groups))
        if step % 2000 == 0:
            scheduler._check()
            assert max(queue.kept for queue in heaps(scheduler)) <= 2 * bound + _SLACK + 1
    assert worst["timers"] <= 2 * (3 * bound + scheduler.limit) + _SLACK + 1, worst
    assert worst["heap"] <= 2 * bound + _SLACK + 1, worst
    assert worst["groups"] <= 2 * bound + _SLACK + 1, worst
    scheduler.drop_all(owner.now)
    for entry in list(scheduler.running.values()):
        scheduler.finish(entry, owner.now)
    assert not scheduler._lanes
    assert not scheduler.loose
    assert not scheduler._retrying
    assert not scheduler._charges.uncharged
    assert scheduler.used == scheduler.ready.count == scheduler.waiting == 0


def random_message(owner: Owner, rng: random.Random) -> Entry:
    return owner.add(
        f"lane {rng.randrange(300)}",
        f"tenant {rng.randrange(1000)}",
        rng.randrange(4),
        expires=owner.now + rng.choice((0.5, 100.0, inf)),
        ordered=rng.random() < 0.8,
    )


def test_preempting_one_turn_again_and_again_leaves_no_timers() -> None:
    owner = Owner(1)
    entry = owner.add("a", priority=LOW, expires=3600.0)
    for _ in range(1000):
        owner.scheduler.requeue(entry, 0.0)
        assert owner.fill() == [entry]
    assert len(owner.scheduler.timers) <= 2 * 3 + _SLACK + 1


def test_retrying_in_short_steps_leaves_no_timers() -> None:
    owner = Owner(1, ageing=1000.0)
    entry = owner.add("a")
    for _ in range(1000):
        owner.scheduler.retry(entry, owner.now, owner.now + 0.25)
        owner.until(owner.now + 0.25)
        assert owner.fill() == [entry]
    assert len(owner.scheduler.timers) <= 2 * 3 + _SLACK + 1
