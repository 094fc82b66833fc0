"""Slots of a tenant: who has its share waits although slots are free, and is owed nothing for it."""

from __future__ import annotations

from math import inf
from typing import Any

from .kit import CRITICAL, LOW, NORMAL, Owner


def limited(limit: int, **tenants: int) -> Owner:
    settings: dict[str, Any] = {"limit_of": lambda tenant: tenants.get(tenant, inf), "ageing": inf}
    return Owner(limit, **settings)


def test_a_tenant_uses_no_more_slots_than_its_own() -> None:
    owner = limited(4, x=2)
    for key in "abc":
        owner.add(key, "x")
    assert [entry.key for entry in owner.started] == ["a", "b"]
    owner.add("d", "y")
    assert [entry.key for entry in owner.started] == ["a", "b", "d"]
    assert owner.scheduler.startable() == []
    assert [entry.key for entry in owner.finish(owner.started[0])] == ["c"]
    owner.scheduler._check()


def test_urgency_does_not_lift_it_over_its_limit() -> None:
    owner = limited(4, x=1)
    owner.add("a", "x", LOW)
    owner.add("b", "x", LOW)
    warning = owner.add("c", "x", CRITICAL)
    assert owner.started == [owner.scheduler.running[1]]
    assert owner.finish(owner.started[0]) == [warning]


def test_a_conversation_is_held_by_the_tenant_of_its_first_waiting_turn() -> None:
    owner = limited(4, x=1)
    owner.add("a", "x")
    first = owner.add("b", "x")
    second = owner.add("b", "y")
    owner.scheduler.cancel(first, owner.now)
    assert owner.fill() == [second]


def test_a_retry_needs_a_slot_of_its_tenant_again() -> None:
    owner = limited(4, x=1)
    first = owner.add("a", "x")
    second = owner.add("b", "x")
    owner.scheduler.retry(first, owner.now, owner.now)
    assert owner.fill() == [second]  # the lane that waited for longer
    assert owner.finish(second) == [first]


def test_a_tenant_that_was_held_joins_as_if_it_had_just_come() -> None:
    """Others were served meanwhile; it does not catch up."""
    owner = limited(3, x=1)
    owner.add("x0", "x")
    for n in range(4):
        owner.add(f"y{n}", "y")
    for n in range(1, 4):
        owner.add(f"x{n}", "x")
    for _ in range(2):
        owner.finish(next(e for e in owner.scheduler.running.values() if e.tenant == "y"))
    assert [e.key for e in owner.started] == ["x0", "y0", "y1", "y2", "y3"]
    assert [e.key for e in owner.drain()] == ["x1", "x2", "x3"]


def test_the_delay_does_not_count_while_the_tenant_has_its_share() -> None:
    owner = limited(4, x=1)
    first = owner.add("a", "x")
    owner.add("b", "x")
    owner.until(5.0)
    owner.finish(first)
    assert owner.started[-1].key == "b"
    assert owner.scheduler.delay == 0.0


def test_the_delay_is_what_the_lack_of_a_slot_has_cost() -> None:
    owner = Owner(1)
    first = owner.add("a")
    owner.add("a", priority=NORMAL)
    owner.until(2.0)
    owner.add("b")
    owner.until(3.0)
    assert [entry.key for entry in owner.finish(first)] == ["b"]
    assert owner.scheduler.delay == 1.0
    owner.until(7.0)
    owner.finish(owner.started[-1])
    assert owner.started[-1].key == "a"
    assert owner.scheduler.delay == 4.0  # from 3 to 7: before that it waited for its own conversation


def test_a_conversation_that_an_urgent_message_lifted_sinks_when_that_is_withdrawn() -> None:
    owner = Owner(1)
    running = owner.add("r")
    owner.add("a", priority=LOW)
    urgent = owner.add("a", priority=CRITICAL)
    normal = owner.add("b", priority=NORMAL)
    owner.scheduler.cancel(urgent, owner.now)
    assert owner.finish(running) == [normal]
    owner.scheduler._check()
