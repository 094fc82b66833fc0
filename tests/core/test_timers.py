"""Timers: against a list of items with their times; one valid timer per item, and no pile of stale ones."""

from __future__ import annotations

from math import inf

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ccm._core.timers import _SLACK, Timers


class Item:
    def __init__(self, name: str) -> None:
        self.name = name
        self.wake = inf

    def __repr__(self) -> str:
        return self.name


class TimersMachine(RuleBasedStateMachine):
    """An item is taken once, at the earliest time it was reminded of since it was taken or withdrawn."""

    def __init__(self) -> None:
        super().__init__()
        self.timers: Timers[Item] = Timers()
        self.items = [Item(name) for name in "abcdef"]
        self.due: dict[str, float] = {}
        self.now = 0.0

    @rule(which=st.integers(0, 5), after=st.integers(1, 100))
    def remind(self, which: int, after: int) -> None:
        item, time = self.items[which], self.now + after
        self.timers.remind(time, item, len(self.items))
        self.due[item.name] = min(time, self.due.get(item.name, inf))

    @rule(which=st.integers(0, 5))
    def withdraw(self, which: int) -> None:
        self.items[which].wake = inf
        self.due.pop(self.items[which].name, None)

    @rule(step=st.integers(0, 60))
    def time_passes(self, step: int) -> None:
        self.now += step
        taken = []
        while (item := self.timers.take(self.now)) is not None:
            taken.append((self.due.pop(item.name), item.name))
        assert [time for time, _ in taken] == sorted(time for time, _ in taken)
        assert all(time <= self.now for time, _ in taken)
        assert all(time > self.now for time in self.due.values())
        assert self.timers.next > self.now

    @rule(which=st.integers(0, 5))
    def change_of_mind_leaves_no_pile(self, which: int) -> None:
        for _ in range(50):
            self.withdraw(which)
            self.remind(which, 500)

    @invariant()
    def agrees_with_the_model(self) -> None:
        self.timers._check()
        for item in self.items:
            assert item.wake == self.due.get(item.name, inf)
            assert item.wake == inf or self.timers.holds(item)
        assert self.timers.next <= min(self.due.values(), default=inf)
        assert len(self.timers) <= 2 * len(self.items) + _SLACK + 1


TestTimers = TimersMachine.TestCase
