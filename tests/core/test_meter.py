"""The rate meter against the list of all events."""

from __future__ import annotations

from math import floor, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ccm._core.meter import RateMeter

WINDOWS = st.sampled_from([1.0, 10.0, 60.0]) | st.floats(1.0, 60.0)
STEPS = st.integers(0, 200).map(lambda n: n / 64) | st.integers(0, 80).map(float) | st.floats(0.0, 1000.0)


class MeterMachine(RuleBasedStateMachine):
    @initialize(start=st.floats(-1e6, 1e6) | st.just(0.0))
    def begin(self, start: float) -> None:
        self.meter = RateMeter()
        self.now = start
        self.events: list[tuple[float, int]] = []

    @rule(step=STEPS)
    def pass_time(self, step: float) -> None:
        self.now += step

    @rule(n=st.integers(1, 1000))
    def add(self, n: int) -> None:
        self.meter.add(self.now, n)
        self.events.append((self.now, n))

    @rule(times=st.integers(1, 30), step=STEPS)
    def add_steadily(self, times: int, step: float) -> None:
        for _ in range(times):
            self.now += step
            self.meter.add(self.now)
            self.events.append((self.now, 1))

    def since(self, time: float) -> int:
        return sum(n for at, n in self.events if at >= time)

    @rule(window=WINDOWS)
    def rate(self, window: float) -> None:
        begin = self.now - window
        second = floor(begin)
        whole, part = self.since(second + 1), self.since(second) - self.since(second + 1)
        expected = (whole + part * (second + 1 - begin)) / window
        assert self.meter.rate(window, self.now) == pytest.approx(expected, rel=1e-9, abs=1e-9)

    @rule(window=WINDOWS)
    def rate_is_near_the_true_one(self, window: float) -> None:
        begin = self.now - window
        true = self.since(begin) / window
        in_first_second = self.since(floor(begin)) - self.since(floor(begin) + 1)
        assert abs(self.meter.rate(window, self.now) - true) <= in_first_second / window + 1e-9

    @invariant()
    def holds(self) -> None:
        if hasattr(self, "meter"):
            self.meter._check()
            assert self.meter.total == sum(n for _, n in self.events)


TestMeter = MeterMachine.TestCase


def test_a_steady_stream_is_measured_exactly() -> None:
    meter = RateMeter()
    for n in range(8 * 100):
        meter.add(n / 8)
    assert [meter.rate(window, 100.0) for window in (1, 10, 60)] == [8.0, 8.0, 8.0]
    assert [meter.rate(window, 105.0) for window in (1, 10, 60)] == [0.0, 4.0, 8.0 * 55 / 60]
    assert meter.rate(60, 1e9) == 0.0


@given(st.lists(st.floats(-100.0, 100.0), min_size=1), WINDOWS)
def test_a_clock_that_goes_back_loses_nothing_and_never_shows_a_negative_rate(
    times: list[float], window: float
) -> None:
    meter = RateMeter()
    for now in times:
        meter.add(now)
        meter._check()
        assert meter.rate(window, now) >= 0.0
    assert meter.total == len(times)
    assert meter.rate(window, -1e9) == meter.rate(window, floor(max(times)))


def test_an_empty_meter_shows_zero() -> None:
    assert RateMeter().rate(10, 5.0) == 0.0


@pytest.mark.parametrize("window", [0.0, 0.99, 60.1, -1.0, nan])
def test_a_window_outside_its_range_is_refused(window: float) -> None:
    with pytest.raises(ValueError, match="window must be from 1 to 60"):
        RateMeter().rate(window, 0.0)
