"""The permits of a provider: a state machine against plain lists, and each rule by itself."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ccm import AdaptiveLimit
from ccm._core.adaptive import Aimd
from ccm._core.permits import (
    FINE,
    HELD,
    LATE,
    NEW,
    NOTHING,
    REFUSED,
    RETURNED,
    WAITING,
    Permit,
    Permits,
    Returned,
)

CRITICAL, HIGH, NORMAL, LOW = range(4)


def no_headroom(limit: int) -> tuple[int, ...]:
    return (0, 0, 0, 0)


def some_headroom(limit: int) -> tuple[int, ...]:
    """One for CRITICAL, another one for HIGH, as far as the limit allows."""
    return tuple(min(reserved, limit - 1) for reserved in (0, 1, 2, 2))


class Machine(RuleBasedStateMachine):
    @initialize(
        limit=st.integers(1, 25), reserved=st.booleans(), adapts=st.booleans(), floor=st.integers(1, 3)
    )  # fmt: skip
    def begin(self, limit: int, reserved: bool, adapts: bool, floor: int) -> None:
        policy = AdaptiveLimit(floor=floor, increase=1.0, window=1.0)
        self.headroom = some_headroom if reserved else no_headroom
        self.permits = Permits(limit, self.headroom, Aimd(policy, limit) if adapts else None)
        # The controller has a machine of its own; here a second one is told the same.
        self.controller = Aimd(policy, limit) if adapts else None
        self.ceiling, self.limit, self.few = limit, limit, max(1, limit // 10)
        self.now, self.until = 0.0, -inf
        self.line: list[Permit] = []
        self.held: dict[Permit, int] = {}  # and how many refusals there were before it
        self.past: list[tuple[str, bool]] = []  # who came out fine or was refused; since the last refusal?
        self.orders = self.granted = self.held_back = self.timeouts = 0

    # -- what is expected ------------------------------------------------------------------------

    @property
    def refusals(self) -> int:
        return sum(what == "refused" for what, _ in self.past)

    @property
    def proven(self) -> bool:
        """Somebody came out fine since the last refusal."""
        for what, _ in reversed(self.past):
            return what == "fine"
        return True

    @property
    def careful(self) -> bool:
        """Refused twice with nobody fine in between; nobody who asked since came out fine."""
        careful, fine = False, True
        for what, fresh in self.past:
            if what == "fine":
                fine, careful = True, careful and not fresh
            else:
                careful = careful or (fresh and not fine)
                fine = False
        return careful

    def may_have(self, permit: Permit) -> bool:
        fresh = sum(before == self.refusals for before in self.held.values())
        cap = self.limit - self.headroom(self.limit)[permit.priority]
        return len(self.held) < cap and not (self.careful and fresh >= self.few)

    def grant(self, permit: Permit) -> None:
        self.held[permit] = self.refusals
        self.granted += 1
        assert permit.state == HELD

    # -- what happens ----------------------------------------------------------------------------

    @rule(step=st.sampled_from([0.0, 0.25, 1.0, 8.0]))
    def wait(self, step: float) -> None:
        self.now += step

    @rule(priority=st.integers(0, 3), again=st.booleans(), times=st.integers(1, 8))
    def ask(self, priority: int, again: bool, times: int) -> None:
        for _ in range(times):
            if not again or not self.orders:
                self.orders += 1
            permit = Permit(priority, self.orders)
            state = self.permits.ask(permit, self.now)
            assert state == permit.state
            if self.now < self.until:
                assert state == NEW
                self.held_back += 1
            elif self.may_have(permit):
                self.grant(permit)
            else:
                assert state == WAITING
                self.line.append(permit)
                self.line.sort(key=lambda p: (p.priority, p.order))
            self.permits._check()

    @rule(data=st.data())
    @precondition(lambda self: self.line)
    def give_up(self, data: st.DataObject) -> None:
        permit = self.line.pop(data.draw(st.integers(0, len(self.line) - 1)))
        self.permits.give_up(permit)
        with pytest.raises(ValueError, match="does not wait"):
            self.permits.give_up(permit)

    @rule(
        data=st.data(), how=st.sampled_from([FINE, FINE, REFUSED, LATE, NOTHING]),
        retry_after=st.sampled_from([0.0, 0.5, 2.0, 16.0]),
    )  # fmt: skip
    @precondition(lambda self: self.held)
    def give_back(self, data: st.DataObject, how: int, retry_after: float) -> None:
        permit = data.draw(st.sampled_from(list(self.held)))
        running, least = len(self.held), self.limit - self.headroom(self.limit)[LOW]
        fresh = self.held.pop(permit) == self.refusals
        alike = how == REFUSED and not self.proven
        sent_away: list[Permit] = []
        if how == FINE:
            self.past.append(("fine", fresh))
        elif how == REFUSED:
            self.past.append(("refused", fresh))
            self.until = max(self.until, self.now + retry_after)
            if self.now < self.until:
                sent_away, self.line = self.line, []
        self.timeouts += how == LATE
        if self.controller is not None and how != NOTHING:
            self.limit = self.controller.observe(
                self.now, running, overloaded=how != FINE, full=running >= least
            )
        returned = self.permits.give_back(permit, self.now, how, retry_after)
        granted = []
        while self.line and self.may_have(self.line[0]):
            granted.append(self.line.pop(0))
            self.grant(granted[-1])
        assert returned == Returned(tuple(granted), tuple(sent_away), alike)
        assert permit.state == RETURNED
        assert all(other.state == RETURNED for other in sent_away)
        self.held_back += len(sent_away)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def misuse(self, data: st.DataObject) -> None:
        permit = data.draw(st.sampled_from(list(self.held)))
        with pytest.raises(ValueError, match="asked for before"):
            self.permits.ask(permit, self.now)
        with pytest.raises(ValueError, match="does not wait"):
            self.permits.give_up(permit)
        with pytest.raises(ValueError, match="is not held"):
            self.permits.give_back(Permit(NORMAL, 0), self.now, FINE)

    @invariant()
    def holds(self) -> None:
        if not hasattr(self, "permits"):
            return
        self.permits._check()
        figures = self.permits.statistics(self.now)
        assert (figures.limit, figures.ceiling) == (self.limit, self.ceiling)
        assert (figures.used, figures.waiting) == (len(self.held), len(self.line))
        assert figures.paused == self.permits.left(self.now) == max(0.0, self.until - self.now)
        assert (figures.granted, figures.held_back) == (self.granted, self.held_back)
        assert (figures.busy, figures.timeouts) == (self.refusals, self.timeouts)
        assert not self.line or not self.may_have(self.line[0])

    def teardown(self) -> None:
        """No permit is lost: when all have come back, all can be taken."""
        if not hasattr(self, "permits"):
            return
        for permit in list(self.line):
            self.permits.give_up(permit)
        for permit in list(self.held):
            self.permits.give_back(permit, self.now, NOTHING)
        later = max(self.now, self.until)
        first = Permit(CRITICAL, 0)
        assert self.permits.ask(first, later) == HELD
        self.permits.give_back(first, later, FINE)
        again = [Permit(CRITICAL, 0) for _ in range(self.permits.limit + 1)]
        states = [self.permits.ask(permit, later) for permit in again]
        assert states == [HELD] * self.permits.limit + [WAITING]


TestPermits = Machine.TestCase


# -- single rules ----------------------------------------------------------------------------------


def holders(permits: Permits, *priorities: int, now: float = 0.0) -> list[Permit]:
    """Permits of so many turns, asked for in this order."""
    asked = [Permit(priority, order) for order, priority in enumerate(priorities)]
    for permit in asked:
        permits.ask(permit, now)
        permits._check()
    return asked


def states(permits: list[Permit]) -> list[int]:
    return [permit.state for permit in permits]


def test_the_most_urgent_waiter_is_next_and_in_a_class_who_came_first() -> None:
    permits = Permits(1, no_headroom)
    first, *rest = holders(permits, LOW, LOW, NORMAL, CRITICAL, NORMAL)
    order: list[Permit] = []
    while first is not None:
        granted = permits.give_back(first, 1.0, FINE).granted
        first = granted[0] if granted else None  # type: ignore[assignment]
        order += granted
    assert [rest.index(permit) for permit in order] == [2, 1, 3, 0]


def test_permits_are_kept_for_urgent_classes() -> None:
    permits = Permits(5, some_headroom)
    asked = holders(permits, *[NORMAL] * 4, HIGH, HIGH, CRITICAL)
    assert states(asked) == [HELD, HELD, HELD, WAITING, HELD, WAITING, HELD]


def test_a_pause_sends_away_who_waits_and_who_comes() -> None:
    permits = Permits(2, no_headroom)
    a, b, c, d = holders(permits, *[NORMAL] * 4)
    returned = permits.give_back(a, 1.0, REFUSED, 3.0)
    assert (returned.granted, returned.sent_away) == ((), (c, d))
    late = Permit(CRITICAL, 9)
    assert permits.ask(late, 3.5) == NEW
    assert permits.left(3.5) == 0.5
    assert permits.ask(late, 4.0) == HELD
    assert permits.give_back(b, 4.0, FINE).granted == ()


@given(
    refusals=st.lists(st.tuples(st.integers(0, 64), st.integers(0, 256)), min_size=1, max_size=30),
    others=st.lists(st.sampled_from([FINE, LATE, NOTHING]), max_size=30),
)
def test_nothing_in_flight_shortens_a_pause(refusals: list[tuple[int, int]], others: list[int]) -> None:
    """Trap 20: a request that was on its way before a 429, and fares well, does not open the door again."""
    permits = Permits(60, no_headroom)
    held = holders(permits, *[NORMAL] * (len(refusals) + len(others)))
    now = until = 0.0
    for step, seconds in refusals:
        now += step / 64
        permits.give_back(held.pop(), now, REFUSED, seconds / 64)
        until = max(until, now + seconds / 64)
        if others and now < until:
            permits.give_back(held.pop(), now, others.pop())
        assert permits.until == until
        assert (permits.ask(Permit(CRITICAL, 99), now) == NEW) == (now < until)


def test_after_one_refusal_all_may_ask_again() -> None:
    permits = Permits(20, no_headroom)
    first, _ = holders(permits, NORMAL, NORMAL)
    assert not permits.give_back(first, 0.0, REFUSED, 1.0).alike
    assert states(holders(permits, *[NORMAL] * 19, now=1.0)) == [HELD] * 19


def test_in_an_outage_few_try_until_one_of_them_is_fine() -> None:
    permits = Permits(20, no_headroom)
    before, first = holders(permits, NORMAL, NORMAL)
    permits.give_back(first, 0.0, REFUSED, 1.0)
    second, third = holders(permits, NORMAL, NORMAL, now=1.0)
    assert permits.give_back(second, 1.0, REFUSED, 1.0).alike
    permits.give_back(third, 1.0, REFUSED, 1.0)
    asked = holders(permits, *[NORMAL] * 5, now=2.0)
    assert states(asked) == [HELD, HELD, WAITING, WAITING, WAITING]
    assert permits.give_back(before, 3.0, FINE).granted == ()  # it asked before the outage
    assert permits.give_back(asked[0], 3.0, NOTHING).granted == (asked[2],)
    assert permits.give_back(asked[1], 3.0, FINE).granted == (asked[3], asked[4])


def test_those_refused_together_are_one_refusal() -> None:
    """Two too many at one instant are no outage: when the pause is over, all may ask."""
    permits = Permits(20, no_headroom)
    held = holders(permits, *[NORMAL] * 20)
    for permit in held[:2]:
        permits.give_back(permit, 0.0, REFUSED, 1.0)
    assert states(holders(permits, NORMAL, NORMAL, now=1.0)) == [HELD, HELD]


def test_a_refusal_is_like_others_until_somebody_is_fine() -> None:
    permits = Permits(9, no_headroom)
    held = holders(permits, *[NORMAL] * 5)
    hows = [REFUSED, REFUSED, FINE, REFUSED, REFUSED]
    alike = [permits.give_back(permit, 0.0, how).alike for permit, how in zip(held, hows, strict=True)]
    assert alike == [False, True, False, False, True]


def test_a_refusal_without_delay_is_no_pause() -> None:
    permits = Permits(1, no_headroom)
    first, second = holders(permits, NORMAL, NORMAL)
    assert permits.give_back(first, 0.0, REFUSED, 0.0) == Returned((second,))


def test_a_raise_is_given_out_at_once() -> None:
    permits = Permits(10, no_headroom, Aimd(AdaptiveLimit(window=1.0, increase=3.0), 10))
    for now in (0.0, 1.0):
        [permit] = holders(permits, NORMAL, now=now)
        permits.give_back(permit, now, LATE)
    assert permits.limit == 1
    first, *rest = holders(permits, *[NORMAL] * 5, now=2.0)
    [second] = permits.give_back(first, 2.5, FINE).granted
    assert second is rest[0]
    assert permits.give_back(second, 3.5, FINE).granted == tuple(rest[1:])
    assert permits.limit == 4


def test_after_a_decrease_nobody_gets_one_until_enough_have_come_back() -> None:
    permits = Permits(4, no_headroom, Aimd(AdaptiveLimit(), 4))
    held = holders(permits, *[NORMAL] * 6)
    for left, permit in ((3, held[0]), (2, held[1])):
        assert permits.give_back(permit, 0.0, LATE).granted == ()
        assert permits.limit == permits.used == left
    assert permits.give_back(held[2], 0.0, NOTHING).granted == (held[4],)


def test_figures_are_a_picture() -> None:
    permits: Any = Permits(2, no_headroom)
    before = permits.statistics(0.0)
    holders(permits, NORMAL)
    assert (before.used, permits.statistics(0.0).used) == (0, 1)
    assert (permits.adapts, permits.share) == (False, 0.0)
