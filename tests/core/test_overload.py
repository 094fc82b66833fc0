"""When messages are given up, whose, and how the level comes back: rules, and examples of each."""

from __future__ import annotations

from collections import Counter
from math import inf

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ccm import CRITICAL, HIGH, LOW, NORMAL, Priority, Shedding
from ccm._core.overload import STEPS, Overload

IDLE, BUSY = [0, 0, 0, 0], [0, 0, 1, 1]


def judged(core: Overload, now: float, *, delay: float | None = None, ready: list[int] = BUSY) -> None:
    """An interval in which one NORMAL turn started after `delay` (None: nothing started)."""
    core.waits(now - 0.5)
    if delay is not None:
        core.started(NORMAL, delay)
    core.judge(now, ready, 10, 1.0)
    core._check()


class OverloadMachine(RuleBasedStateMachine):
    """Whatever happens, the level obeys its rules and the deadline is kept."""

    @initialize(interval=st.sampled_from((0.25, 0.5, 1.0)), rotate=st.sampled_from((1.0, 60.0)))
    def begin(self, interval: float, rotate: float) -> None:
        self.policy = Shedding(interval=interval, rotate=rotate)
        self.core = Overload(self.policy)
        self.now = 0.0
        self.delays: dict[int, list[float]] = {klass: [] for klass in range(4)}

    @rule(klass=st.integers(0, 3), delay=st.integers(0, 640).map(lambda n: n / 64))
    def start(self, klass: int, delay: float) -> None:
        self.core.started(klass, delay)
        self.delays[klass].append(delay)

    @rule(klass=st.integers(0, 3), count=st.integers(1, 50))
    def arrive(self, klass: int, count: int) -> None:
        for _ in range(count):
            self.core.arrived(klass)
        if self.core.next_deadline() == inf:
            self.delays = {klass: [] for klass in range(4)}  # what was seen while nothing waited is forgotten
        self.core.waits(self.now)

    @precondition(lambda self: self.core.next_deadline() > self.now)
    @rule()
    def judge_too_early(self) -> None:
        before = self.core.level
        with pytest.raises(RuntimeError, match="due at"):
            self.core.judge(self.now, BUSY, 1, 1.0)
        assert self.core.level == before

    @precondition(lambda self: self.core.next_deadline() < inf)
    @rule(late=st.integers(0, 64), ready=st.lists(st.integers(0, 2), min_size=4, max_size=4),
          seconds=st.integers(0, 64).map(lambda n: n / 64))  # fmt: skip
    def judge(self, late: int, ready: list[int], seconds: float) -> None:
        self.now = self.core.next_deadline() + late / 64
        judgement = self.core.judge(self.now, ready, 5, seconds)
        assert judgement.level == self.core.level
        least = {klass: min(delays, default=None) for klass, delays in self.delays.items()}
        over = {k: d is not None and d > self.policy.targets.get(Priority(k), inf) for k, d in least.items()}
        if any(over.values()):
            assert judgement.over
            assert judgement.level > judgement.before or judgement.before == 2 * STEPS
        if judgement.over:
            # Nobody is called overloaded who let turns start in time or has nothing ready.
            assert any(over[k] or (least[k] is None and ready[k]) for k in range(3))
        else:
            assert judgement.level <= judgement.before
        self.delays = {klass: [] for klass in range(4)}
        if not judgement.level and not any(ready):
            assert self.core.next_deadline() == inf
        else:
            assert self.core.next_deadline() == self.now + self.policy.interval

    @invariant()
    def never_the_urgent(self) -> None:
        self.core._check()
        for user in ("ann", "bob"):
            assert not self.core.gives_up(CRITICAL, "", user, self.now)
            assert not self.core.gives_up(HIGH, "", user, self.now)
            # Whoever is not answered when NORMAL is not answered when LOW either.
            assert self.core.gives_up(NORMAL, "", user, self.now) <= self.core.gives_up(
                LOW, "", user, self.now
            )
        assert self.core.share(CRITICAL) == self.core.share(HIGH) == 0.0
        assert self.core.share(NORMAL) == 0.0 or self.core.share(LOW) == 1.0


TestOverload = OverloadMachine.TestCase


def test_a_burst_that_is_worked_off_is_no_overload() -> None:
    """One turn that started in time shows that no queue stands, however long others had waited."""
    core = Overload(Shedding())
    core.waits(0.0)
    for delay in (9.0, 4.0, 0.5):
        core.started(NORMAL, delay)
    judged(core, 0.5)
    assert core.level == 0


def test_waits_of_low_are_no_signal() -> None:
    core = Overload(Shedding())
    core.waits(0.0)
    core.started(LOW, 500.0)
    core.judge(0.5, [0, 0, 0, 9], 10, 1.0)
    assert core.level == 0


def test_nothing_starts_and_something_could() -> None:
    """Every slot is held by long answers: the wait of what is ready is known without any start."""
    core = Overload(Shedding())
    for now in (0.5, 1.0):
        judged(core, now)
        assert core.level == 0  # waited for at most the target, 1 s
    judged(core, 1.5)
    assert core.level > 0


def test_a_pause_between_two_stalls_is_not_counted() -> None:
    core = Overload(Shedding())
    judged(core, 0.5)
    judged(core, 1.0, ready=IDLE)
    judged(core, 5.5)
    assert core.level == 0


def test_at_first_as_much_as_is_offered_too_much() -> None:
    core = Overload(Shedding())
    core.waits(0.0)
    for klass, count in ((HIGH, 2), (NORMAL, 8), (LOW, 4)):
        for _ in range(count):
            core.arrived(klass)
    core.started(NORMAL, 3.0)
    core.judge(0.5, BUSY, 10, 1.0)  # 28 turns a second are offered to 10 slots that take 9 with ease
    assert core.share(LOW) == 1.0
    assert core.share(NORMAL) == pytest.approx((28 - 9 - 8) / 16, abs=1 / STEPS)


def test_it_is_over_within_seconds_when_nothing_is_offered_any_more() -> None:
    core = Overload(Shedding())
    core.level = 2 * STEPS
    core.waits(0.0)
    now, steps = 0.5, 0
    while core.next_deadline() < inf:
        core.judge(now, IDLE, 10, 1.0)
        now, steps = now + 0.5, steps + 1
    assert core.level == 0
    assert steps <= 5


def test_it_does_not_sink_below_what_the_load_needs() -> None:
    core = Overload(Shedding())
    core.level = 2 * STEPS
    now, levels = 0.0, []
    core.waits(now)
    for _ in range(200):
        now += 0.5
        for _ in range(10):
            core.arrived(NORMAL)
        core.started(NORMAL, 0.0)
        core.judge(now, BUSY, 10, 1.0)
        levels.append(core.level)
    assert levels == sorted(levels, reverse=True)
    assert core.share(NORMAL) == pytest.approx((20 - 9) / 20, abs=1 / STEPS)


def test_users_take_turns() -> None:
    """Over many rotations everybody is given up about as often as anybody else."""
    core = Overload(Shedding(rotate=60.0))
    core.level = STEPS // 2
    users = [f"user {n}" for n in range(50)]
    given_up = Counter(user for k in range(200) for user in users if core.gives_up(LOW, "", user, 60.0 * k))
    assert sum(given_up.values()) == pytest.approx(50 * 100, rel=0.05)
    assert max(given_up.values()) < 135
    assert min(given_up.values()) > 65


def test_a_rotation_keeps_who_is_answered() -> None:
    core = Overload(Shedding(rotate=60.0))
    core.level = STEPS // 2
    for user in map(str, range(50)):
        assert len({core.gives_up(LOW, "", user, now) for now in (60.0, 75.5, 119.9)}) == 1
    assert core.rotates_in(75.5) == 44.5
    assert core.rotates_in(120.0) == 60.0


def test_the_choice_is_the_same_in_every_process() -> None:
    core = Overload(Shedding())
    core.level = STEPS // 2
    chosen = [user for user in "abcdefghij" if core.gives_up(LOW, "guild", user, 0.0)]
    assert chosen == ["a", "d", "e", "j"]
