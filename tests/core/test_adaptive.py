"""The limit that adapts: against a plain reckoning over its whole past, and each trap by itself."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ccm import AdaptiveLimit, ConfigError, LimitController
from ccm._core.adaptive import NEGLIGIBLE, PATIENCE, Aimd, controller

# -- the plain reckoning ---------------------------------------------------------------------------


@attrs.define
class Window:
    """One window as it was: the limit at its start, whether a raise was tried, and what ended in it."""

    start: int
    size: float
    tried: bool = False
    raised_from: int | None = None
    ends: list[tuple[int, bool, bool]] = attrs.Factory(list)
    limit: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.limit = self.start

    def add(self, running: int, overloaded: bool, full: bool, policy: AdaptiveLimit, floor: int) -> None:
        self.ends.append((running, overloaded, full))
        share = sum(end[1] for end in self.ends) / (len(self.ends) + running - 1)
        if overloaded and share >= NEGLIGIBLE:
            self.limit = min(self.limit, max(floor, int(self.start * (1.0 - policy.decrease * share))))

    @property
    def refused(self) -> bool:
        return any(end[1] for end in self.ends)

    @property
    def in_use(self) -> bool:
        return any(end[2] for end in self.ends)


class Plain:
    """Keeps every window and looks at all of them again."""

    def __init__(self, policy: AdaptiveLimit, ceiling: int) -> None:
        self.policy, self.ceiling = policy, ceiling
        self.floor = min(ceiling, policy.floor or max(1, ceiling // 10))
        self.increase = policy.increase or max(1, ceiling / 25)
        self.past: list[Window] = []
        self.window = Window(ceiling, float(ceiling))
        self.opened: float | None = None

    def observe(self, now: float, running: int, overloaded: bool, full: bool) -> int:
        if self.opened is None:
            self.opened = now
        elif now >= self.opened + self.policy.window:
            self.past.append(self.window)
            self.window = self.next_window()
            while self.opened + self.policy.window <= now:
                self.opened += self.policy.window
        self.window.add(running, overloaded, full, self.policy, self.floor)
        return self.window.limit

    def next_window(self) -> Window:
        limit = self.window.limit
        size = float(limit) if limit < self.window.start else self.window.size
        if self.calm() < self.patience():
            return Window(limit, size)
        size = min(size + self.increase, self.ceiling)
        return Window(int(size), size, True, limit if int(size) > limit else None)

    def calm(self) -> int:
        """How many windows in use without a refusal there were since a refusal or since the last try."""
        calm = 0
        for window in reversed(self.past):
            if window.refused:
                break
            calm += window.in_use
            if window.tried:
                break
        return calm

    def patience(self) -> int:
        """Doubled by each raise that was refused; 1 again after one that was not, or when more was."""
        patience, tried_from, trying = 1, 0, False
        for window in self.past:
            if window.raised_from is not None:
                tried_from, trying = window.raised_from, True
            if window.refused:
                if window.limit < tried_from:
                    patience = 1
                elif trying:
                    patience = min(2 * patience, PATIENCE)
                trying = False
            elif window.in_use and trying:
                patience, trying = 1, False
        return patience


class Machine(RuleBasedStateMachine):
    @initialize(
        ceiling=st.integers(1, 60),
        floor=st.none() | st.integers(1, 70),
        increase=st.none() | st.sampled_from([0.5, 1.0, 3.0]),
        decrease=st.sampled_from([0.01, 0.25, 0.5, 0.7, 0.99]),
    )
    def begin(self, ceiling: int, floor: int | None, increase: float | None, decrease: float) -> None:
        policy = AdaptiveLimit(floor=floor, increase=increase, decrease=decrease, window=1.0)
        self.aimd, self.plain = Aimd(policy, ceiling), Plain(policy, ceiling)
        self.now = 0.0
        assert self.aimd.limit == ceiling

    @rule(step=st.integers(0, 96))
    def wait(self, step: int) -> None:
        self.now += step / 64

    @rule(running=st.integers(1, 60), overloaded=st.booleans(), full=st.booleans(), times=st.integers(1, 3))
    def ends(self, running: int, overloaded: bool, full: bool, times: int) -> None:
        for _ in range(times):
            self.observe(running, overloaded, full)

    @rule(windows=st.sampled_from([1, 1, 2, 3, 5, 9, 33]))
    def all_is_well(self, windows: int) -> None:
        for _ in range(windows):
            self.now += 1.0
            self.observe(self.aimd.limit, False, True)

    @rule(refused=st.integers(1, 8))
    def one_too_many(self, refused: int) -> None:
        for _ in range(refused):
            self.observe(self.aimd.limit, True, True)
        self.now += 1.0

    def observe(self, running: int, overloaded: bool, full: bool) -> None:
        limit = self.aimd.observe(self.now, running, overloaded=overloaded, full=full)
        assert limit == self.aimd.limit == self.plain.observe(self.now, running, overloaded, full)
        self.aimd._check()

    @invariant()
    def holds(self) -> None:
        if hasattr(self, "aimd"):
            self.aimd._check()


TestAimd = Machine.TestCase


# -- traps and examples ----------------------------------------------------------------------------


class Load:
    """Slots that are all in use, and a provider that answers each attempt after `seconds`, or refuses."""

    def __init__(self, ceiling: int = 50, **policy: Any) -> None:
        self.aimd = Aimd(AdaptiveLimit(**policy), ceiling)
        self.now = 0.0

    @property
    def limit(self) -> int:
        return self.aimd.limit

    def window(
        self, *, fine: int = 0, refused: int = 0, running: int | None = None, full: bool = True
    ) -> int:
        """So many attempts end within one second, spread over it; returns the limit afterwards."""
        ends = [False] * fine + [True] * refused
        for number, overloaded in enumerate(ends):
            at = self.now + number / len(ends)
            now_running = self.limit if running is None else running
            self.aimd.observe(at, now_running, overloaded=overloaded, full=full)
            self.aimd._check()
        self.now += 1.0
        return self.limit


@pytest.mark.parametrize("refused", [50, 500])
def test_an_outage_brings_it_to_the_floor_within_three_windows(refused: int) -> None:
    load = Load()
    limits = [load.window(fine=40)] + [load.window(refused=refused, running=1) for _ in range(3)]
    assert limits == [50, 15, 5, 5]


def test_in_one_window_it_falls_once_however_many_are_refused() -> None:
    load = Load()
    load.window(refused=10_000, running=1)
    assert load.limit == 15


def test_after_an_outage_it_is_back_in_23_windows() -> None:
    load = Load()
    for _ in range(60):
        load.window(refused=50, running=1)
    assert load.limit == 5
    limits = [load.window(fine=5) for _ in range(24)]
    assert (limits[0], limits[-1]) == (5, 50)  # the first window only shows that it was quiet
    assert [b - a for a, b in pairwise(limits)] == [2] * 22 + [1]


def test_a_window_with_one_end_counts_as_any_other() -> None:
    """A provider that answers nothing to anybody is down, however few ask it."""
    load = Load()
    assert load.window(refused=1, running=1) == 15
    assert load.window(fine=1, running=1, full=False) == 15


def test_one_refusal_takes_one_slot_when_the_others_run_on() -> None:
    """At once refused is only who is too many: those that run, or are answered, have their share."""
    load = Load(22)
    load.aimd.observe(0.0, 22, overloaded=True, full=True)
    assert load.limit == 21
    load.aimd.observe(0.0, 21, overloaded=True, full=True)
    assert load.limit == 20


def overrun(load: Load, takes: int, seconds: int) -> list[int]:
    """A provider that takes so many, answers after a second and refuses at once; when the limit was above."""
    above = []
    for second in range(seconds):
        load.aimd.observe(load.now, load.limit, overloaded=False, full=True)
        if load.limit > takes:
            above.append(second)
        while load.limit > takes:
            load.aimd.observe(load.now, load.limit, overloaded=True, full=True)
        load.window(fine=takes - 1, running=takes)
        assert load.limit == takes
    return above


def test_a_raise_that_is_refused_is_tried_again_after_pauses_that_double() -> None:
    tries = overrun(Load(30, increase=2), 20, 150)
    assert [b - a for a, b in pairwise(tries)] == [2, 3, 5, 9, 17, 33, 33, 33]


def test_what_was_learned_is_forgotten_when_the_provider_changes() -> None:
    load = Load(30, increase=2)
    overrun(load, 20, 60)
    for _ in range(3):
        load.window(refused=30, running=1)
    assert load.limit == 3
    limits = [load.window(fine=3) for _ in range(6)]
    assert limits == [3, 5, 7, 9, 11, 13]


def test_a_gap_without_events_counts_once() -> None:
    load = Load()
    for _ in range(5):
        load.window(refused=50, running=1)
    load.window(fine=5)
    load.now = 1e6
    assert load.window(fine=5) == 7


def test_windows_are_on_a_grid() -> None:
    """An event that is late by 0.9 s does not make its window end later."""
    load = Load(10)
    load.window(refused=10, running=1)
    load.aimd.observe(1.9, 3, overloaded=False, full=True)
    assert load.aimd.observe(2.0, 3, overloaded=False, full=True) == 4


def test_a_share_below_a_hundredth_is_no_overload_and_no_health() -> None:
    load = Load(60)
    load.window(fine=50, refused=50, running=1)
    before = load.limit
    load.window(fine=200)
    for _ in range(5):
        limit = load.limit
        load.window(fine=400, refused=2)
        assert load.limit in (limit, before + 2)
    assert load.limit == before + 2


def test_small_increases_add_up() -> None:
    load = Load(10, increase=0.5, floor=1)
    for _ in range(4):
        load.window(refused=10, running=1)
    assert load.limit == 1
    assert [load.window(fine=4) for _ in range(6)] == [1, 1, 2, 2, 3, 3]


def test_the_floor_is_no_higher_than_the_ceiling() -> None:
    load = Load(3, floor=8)
    assert load.window(refused=9, running=1) == 3


@pytest.mark.parametrize(("ceiling", "floor"), [(1, 1), (9, 1), (10, 1), (25, 2), (50, 5), (1000, 100)])
def test_by_default_the_floor_is_a_tenth(ceiling: int, floor: int) -> None:
    load = Load(ceiling)
    for _ in range(10):
        load.window(refused=2000, running=1)
    assert load.limit == floor


ENDS = st.tuples(st.integers(0, 128), st.integers(1, 60), st.booleans())


@given(ends=st.lists(ENDS, max_size=200), ceiling=st.integers(1, 60), settle=st.integers(0, 5))
def test_steady_time_outs_are_never_taken_for_health(
    ends: list[tuple[int, int, bool]], ceiling: int, settle: int
) -> None:
    """Trap 15. Whatever the load is, while everything times out the limit does not grow."""
    load = Load(ceiling)
    for _ in range(settle):
        load.window(refused=1, running=1)
    now, limit = load.now, load.limit
    for step, running, full in ends:
        now += step / 64
        after = load.aimd.observe(now, running, overloaded=True, full=full)
        assert after <= limit
        limit = after


@given(ends=st.lists(ENDS, max_size=200), ceiling=st.integers(1, 60))
def test_a_limit_that_is_not_used_does_not_grow(ends: list[tuple[int, int, bool]], ceiling: int) -> None:
    load = Load(ceiling)
    load.window(refused=3, running=1)
    now, limit = load.now, load.limit
    for step, running, overloaded in ends:
        now += step / 64
        after = load.aimd.observe(now, running, overloaded=overloaded, full=False)
        assert after <= limit
        limit = after


def test_misuse_changes_nothing() -> None:
    load = Load(10)
    with pytest.raises(ValueError, match=r"running must be 1 or more.*got 0"):
        load.aimd.observe(0.0, 0, overloaded=True, full=True)
    assert load.limit == 10
    with pytest.raises(ValueError, match="ceiling must be 1 or more, got 0"):
        Aimd(AdaptiveLimit(), 0)


# -- a controller of one's own ---------------------------------------------------------------------


class Own:
    """A controller that says what it is told to say."""

    def __init__(self, ceiling: int, first: Any = 7) -> None:
        self.limit = first
        self.ceiling = ceiling
        self.says: Any = 0
        self.seen: list[tuple[float, int, bool, bool]] = []

    def observe(self, now: float, running: int, *, overloaded: bool, full: bool) -> int:
        self.seen.append((now, running, overloaded, full))
        return self.says  # type: ignore[no-any-return]


def test_one_may_bring_a_controller() -> None:
    made: list[Own] = []

    def make(ceiling: int) -> Own:
        made.append(Own(ceiling))
        return made[-1]

    control = controller(make, 20)
    [own] = made
    assert isinstance(own, LimitController)
    assert (own.ceiling, control.limit) == (20, 7)
    for says, limit in ((3, 3), (0, 1), (-5, 1), (21, 20)):
        own.says = says
        assert control.observe(1.0, 4, overloaded=True, full=False) == control.limit == limit
    assert own.seen[0] == (1.0, 4, True, False)


def test_what_a_controller_says_is_checked() -> None:
    with pytest.raises(ConfigError, match="adaptive must be a function that returns an object with"):
        controller(lambda ceiling: object(), 20)  # type: ignore[arg-type,return-value]
    for bad in (2.5, None, True, "7"):
        with pytest.raises(TypeError, match="limit must be a whole number, got"):
            controller(lambda ceiling, bad=bad: Own(ceiling, bad), 20)  # type: ignore[misc]


def test_a_policy_makes_its_own_controller() -> None:
    assert controller(AdaptiveLimit(floor=2), 20).limit == 20
