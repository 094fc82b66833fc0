"""The timeline against the list of everything that happened."""

from __future__ import annotations

import json
from itertools import pairwise
from math import floor, fsum, inf, nan
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ccm import Priority
from ccm._core.histogram import LatencyHistogram
from ccm._core.trends import GAUGES, MINUTES, SECONDS, Reading, Timeline, Trends
from ccm._outcome import OUTCOMES

ROUTES = 2
COUNTS = ("received", *OUTCOMES)
STEPS = st.integers(0, 200).map(lambda n: n / 64) | st.integers(0, 400).map(float) | st.floats(0.0, 5.0)
WAITS = st.integers(0, 2**12).map(lambda n: n / 64) | st.floats(-1.0, 2000.0)
BIG = 10**6


class Source:
    """Counters and gauges as a manager has them, and an owner that keeps the timeline's rule."""

    def __init__(self, now: float = 0.0, **kept: int) -> None:
        self.now = now
        self.counts = [0] * len(COUNTS)
        self.gauges = [0] * len(GAUGES)
        self.waits = [[LatencyHistogram() for _ in range(ROUTES)] for _ in Priority]
        self.memory: int | None = None
        self.cpu = 0.0
        self.timeline = Timeline(now, self.reading(), self.waits, **kept)

    def reading(self) -> Reading:
        return Reading(counts=tuple(self.counts), gauges=tuple(self.gauges), memory=self.memory, cpu=self.cpu)

    def touch(self) -> None:
        """What comes before every change, and before somebody looks."""
        if self.now >= self.timeline.edge:
            self.timeline.close(self.now, self.reading())

    def count(self, name: str, times: int = 1) -> None:
        self.touch()
        self.counts[COUNTS.index(name)] += times

    def gauge(self, name: str, value: int) -> None:
        self.touch()
        self.gauges[GAUGES.index(name)] = value

    def wait(self, seconds: float, priority: Priority = Priority.NORMAL, route: int = 0) -> None:
        self.touch()
        self.waits[priority][route].record(seconds)

    def at(self, now: float) -> Source:
        self.now = now
        return self

    def trends(self, step: int = 1) -> Trends:
        self.touch()
        self.timeline._check()
        return self.timeline.trends(step, 0.0)


# -- what the rows must be -------------------------------------------------------------------------


class TimelineMachine(RuleBasedStateMachine):
    """Everything is noted with the second it happened in; rows are made of the notes, one by one."""

    @initialize(
        start=st.floats(-1e5, 1e5) | st.integers(-64, 64 * 200).map(lambda n: n / 64),
        seconds=st.integers(1, 200),
        minutes=st.integers(1, 12),
    )
    def begin(self, start: float, seconds: int, minutes: int) -> None:
        self.kept = {1: seconds, 60: minutes}
        self.source = Source(start, seconds=seconds, minutes=minutes)
        self.first = self.second = floor(start)
        self.notes: list[tuple[int, str, Any]] = []
        # When a second was found to be over: the second that was begun, and what was measured then.
        self.looks: list[tuple[int, int | None, float]] = [(self.second, None, 0.0)]

    def note(self, what: str, value: Any) -> None:
        self.second = max(self.second, floor(self.source.now))
        if self.second > self.looks[-1][0]:
            self.looks.append((self.second, self.source.memory, self.source.cpu))
        self.notes.append((self.second, what, value))

    @rule(step=STEPS)
    def pass_time(self, step: float) -> None:
        self.source.now += step

    @rule(step=st.integers(0, 5000))
    def be_silent(self, step: int) -> None:
        self.source.now += step

    @rule(step=st.floats(0.0, 100.0))
    def clock_goes_back(self, step: float) -> None:
        self.source.now -= step

    @rule(name=st.sampled_from(COUNTS), times=st.integers(1, 5))
    def count(self, name: str, times: int) -> None:
        self.note(name, times)
        self.source.count(name, times)

    @rule(name=st.sampled_from(GAUGES), value=st.integers(0, 50))
    def gauge(self, name: str, value: int) -> None:
        self.note(name, value)
        self.source.gauge(name, value)

    @rule(
        priority=st.sampled_from(Priority),
        route=st.integers(0, ROUTES - 1),
        waits=st.lists(WAITS, max_size=9),
    )
    def wait(self, priority: Priority, route: int, waits: list[float]) -> None:
        for seconds in waits:
            self.note(f"wait {priority}", max(0.0, seconds))
            self.source.wait(seconds, priority, route)

    @rule(memory=st.none() | st.integers(0, BIG), cpu=st.integers(0, 64).map(lambda n: n / 64))
    def measure(self, memory: int | None, cpu: float) -> None:
        self.source.memory = memory
        self.source.cpu += cpu

    @rule()
    def a_count_falls(self) -> None:
        source = self.source
        source.touch()
        self.note("nothing", 0)
        reading = attrs.evolve(source.reading(), counts=(-1, *source.counts[1:]))
        with pytest.raises(ValueError, match="counts must not fall"):
            source.timeline.close(source.timeline.edge, reading)

    @rule(step=st.sampled_from([1, 60]))
    def look(self, step: int) -> None:
        self.note("nothing", 0)
        rows = self.source.trends(step)
        present = self.second // step
        begin = max(self.first // step, present - self.kept[step])
        numbers = range(begin, present)
        assert rows.at == tuple(float(number * step) for number in numbers)
        for index, number in enumerate(numbers):
            seconds = range(max(self.first, number * step), (number + 1) * step)
            self.compare(rows, index, seconds)

    def compare(self, rows: Trends, index: int, seconds: range) -> None:
        here = [(what, value) for second, what, value in self.notes if second in seconds]
        assert rows.received[index] == sum(value for what, value in here if what == "received")
        for name in OUTCOMES:
            assert rows.outcomes[name][index] == sum(value for what, value in here if what == name)
        for priority in Priority:
            samples = [value for what, value in here if what == f"wait {priority}"]
            compare_waits(attrs.astuple(rows.wait[priority], recurse=False), index, samples)
        for name in GAUGES:
            assert getattr(rows, name)[index] == max(self.levels(name, seconds))
        measured = [self.measured(second) for second in seconds]
        known = [memory for memory, _ in measured if memory is not None]
        assert rows.memory[index] == (max(known) if known else None)
        assert rows.cpu[index] == pytest.approx(fsum(cpu for _, cpu in measured), abs=1e-9)

    def levels(self, name: str, seconds: range) -> list[int]:
        """A gauge at the end of each of these seconds."""
        changes = [(second, value) for second, what, value in self.notes if what == name]
        before = [value for second, value in changes if second < seconds.start]
        level, levels = before[-1] if before else 0, []
        changed = dict(changes)  # of several in one second, the last
        for second in seconds:
            level = changed.get(second, level)
            levels.append(level)
        return levels

    def measured(self, second: int) -> tuple[int | None, float]:
        """Memory when the second was found to be over, and its share of the cpu used up to then."""
        for (begun, _, used), (next_, memory, cpu) in pairwise(self.looks):
            if begun <= second < next_:
                return memory, (cpu - used) / (next_ - begun)
        raise AssertionError(f"{second} is not over")

    @invariant()
    def holds(self) -> None:
        if hasattr(self, "source"):
            self.source.timeline._check()


def compare_waits(columns: tuple[Any, ...], index: int, samples: list[float]) -> None:
    count, mean, p50, p99 = (column[index] for column in columns)
    assert count == len(samples)
    if not samples:
        assert (mean, p50, p99) == (None, None, None)
        return
    assert mean == pytest.approx(fsum(samples) / count, abs=1e-6)
    ordered = sorted(samples)
    for found, rank in ((p50, -(-count * 50 // 100)), (p99, -(-count * 99 // 100))):
        assert found == pytest.approx(ordered[rank - 1], rel=0.05, abs=1e-6)


TestTimeline = TimelineMachine.TestCase


# -- by example ------------------------------------------------------------------------------------


def test_seconds_are_rows() -> None:
    source = Source(10.25)
    source.count("received", 3)
    source.gauge("running", 3)
    source.at(11.0).count("received")
    source.gauge("running", 4)
    source.at(11.75).count("replied", 2)
    source.gauge("running", 2)
    source.at(14.5).count("replied", 2)
    trends = source.trends()
    assert trends.at == (10.0, 11.0, 12.0, 13.0)
    assert trends.received == (3, 1, 0, 0)
    assert trends.outcomes["replied"] == (0, 2, 0, 0)
    assert trends.running == (3, 2, 2, 2)
    assert trends.limit == (0, 0, 0, 0)
    assert source.at(15.0).trends().outcomes["replied"] == (0, 2, 0, 0, 2)


def test_before_the_first_second_is_over_there_is_no_row() -> None:
    source = Source(10.0)
    source.at(10.999).count("received")
    for step in (1, 60):
        trends = source.trends(step)
        assert trends.at == trends.received == trends.cpu == trends.wait[Priority.LOW].p99 == ()
    assert set(trends.outcomes) == set(OUTCOMES)


def test_what_was_counted_before_the_timeline_began_is_in_no_row() -> None:
    source = Source()
    source.count("received", 5)
    source.wait(1.0)
    source.timeline = Timeline(7.5, source.reading(), source.waits)
    source.at(8.0).count("received")
    assert source.trends().received == (0,)
    assert source.trends().wait[Priority.NORMAL].count == (0,)
    assert source.at(9.0).trends().received == (0, 1)


def test_waits_of_all_routes_and_of_a_whole_minute_are_taken_together() -> None:
    source = Source()
    for second in range(120):
        # One wait in most seconds is a long one: the mean of the seconds' medians would be near it.
        source.at(float(second)).wait(8.0)
        for _ in range(100 * (second % 10 == 0)):
            source.wait(1.0, route=1)
    trends = source.at(120.0).trends(60)
    assert trends.at == (0.0, 60.0)
    waits = trends.wait[Priority.NORMAL]
    assert waits.count == (660, 660)
    assert waits.mean == (1080 / 660, 1080 / 660)
    assert waits.p50 == pytest.approx((1.0, 1.0), rel=0.05)
    assert waits.p99 == pytest.approx((8.0, 8.0), rel=0.05)


def test_a_gauge_of_a_minute_is_the_highest_among_its_seconds_ends() -> None:
    source = Source()
    source.gauge("waiting", 9)  # and gone before the second ends
    source.gauge("waiting", 2)
    source.at(30.0).gauge("waiting", 5)
    source.at(31.5).gauge("waiting", 1)
    source.at(61.0).gauge("waiting", 0)
    assert source.at(180.0).trends(60).waiting == (5, 1, 0)


def test_memory_is_that_of_the_look_and_cpu_is_shared_by_the_seconds_that_ended() -> None:
    source = Source()
    source.memory, source.cpu = 1000, 0.5
    source.at(1.25).touch()
    source.memory, source.cpu = 5000, 2.5
    source.at(1.75).touch()  # the second goes on: nobody looks at the figures
    source.at(5.0).touch()
    trends = source.trends()
    assert trends.memory == (1000, 5000, 5000, 5000, 5000)
    assert trends.cpu == (0.5, 0.5, 0.5, 0.5, 0.5)
    assert source.at(60.0).trends(60).cpu == (2.5,)
    source.cpu = 0.0  # such a clock is broken, but nothing else shall be
    source.at(120.0).touch()
    assert source.trends(60).cpu == (2.5, 0.0)


def test_only_so_many_rows_are_kept() -> None:
    source = Source()
    for second in range(SECONDS + 50):
        source.at(float(second)).count("received", second)
    trends = source.at(SECONDS + 50.0).trends()
    assert trends.at == tuple(float(second) for second in range(50, SECONDS + 50))
    assert trends.received == tuple(range(50, SECONDS + 50))
    for minute in range(6, MINUTES + 5):
        source.at(60.0 * minute).count("received", minute)
    trends = source.at(60.0 * (MINUTES + 5)).trends(60)
    assert trends.at == tuple(60.0 * minute for minute in range(5, MINUTES + 5))
    assert trends.received == (300 * 50 + sum(range(50)), *range(6, MINUTES + 5))


@pytest.mark.parametrize("silence", [1e3, 1e9, 1e15])
def test_a_long_silence_costs_no_more_than_the_rows_that_are_kept(silence: float) -> None:
    source = Source(0.5)
    source.gauge("limit", 7)
    source.count("received")
    source.at(silence).count("received")
    for step, kept in ((1, SECONDS), (60, MINUTES)):
        trends = source.trends(step)
        assert len(trends.at) == min(kept, silence // step)
        assert trends.at[-1] == (silence // step - 1) * step
        assert set(trends.limit) == {7}
        assert sum(trends.received) == (silence // step <= kept)


@given(st.integers(0, 400), st.integers(1, 400), st.integers(0, 59))
def test_minutes_are_the_same_whether_their_seconds_are_closed_one_by_one_or_all_at_once(
    begin: int, silence: int, rest: int
) -> None:
    sources = [Source(float(begin)) for _ in range(2)]
    for source in sources:
        source.gauge("limit", 3)
        source.count("received", 2)
    end = begin + silence
    for second in range(begin, end):
        sources[0].at(float(second)).touch()
    for source in sources:
        source.at(float(end)).count("failed")
        source.at(end + 60.0 + rest).touch()
    for step in (1, 60):
        assert sources[0].trends(step) == sources[1].trends(step)


def test_a_clock_that_goes_back_stands_still() -> None:
    source = Source(100.0)
    source.at(90.0).count("received")
    source.at(100.5).count("received")
    source.at(101.0).count("received")
    source.at(-1e9).count("received")
    assert source.at(102.0).trends().received == (2, 2)
    assert source.at(0.0).trends().received == (2, 2)


@pytest.mark.parametrize("now", [inf, nan])
def test_a_time_that_is_none_changes_nothing(now: float) -> None:
    source = Source()
    source.count("received")
    with pytest.raises((OverflowError, ValueError), match="cannot convert float"):
        source.timeline.close(now, source.reading())
    assert source.at(1.0).trends().received == (1,)


@pytest.mark.parametrize("step", [0, 2, 59, -1, 1.5, nan, None, "1", "minute"])
def test_there_are_no_rows_of_other_lengths(step: Any) -> None:
    with pytest.raises(ValueError, match=r"step must be 1 or 60 seconds, got .*; add up"):
        Source().trends(step)


# -- as plain data ---------------------------------------------------------------------------------


def test_trends_are_frozen() -> None:
    trends: Any = Source().at(5.0).trends()
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        trends.step = 60
    for mapping in (trends.outcomes, trends.wait):
        with pytest.raises(TypeError):
            mapping["replied"] = ()


def test_plain_data_is_json_without_its_extensions() -> None:
    source = Source()
    source.count("received", 2)
    source.wait(0.0, Priority.HIGH)
    source.gauge("limit", 8)
    source.memory = 4096
    trends = source.at(2.0).trends()
    plain = trends.as_dict()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    nothing = {"count": [0, 0], "mean": [None, None], "p50": [None, None], "p99": [None, None]}
    assert plain == {
        "step": 1, "epoch": 0.0, "at": [0.0, 1.0], "received": [2, 0],
        "outcomes": {name: [0, 0] for name in OUTCOMES},
        "wait": {
            "CRITICAL": nothing, "NORMAL": nothing, "LOW": nothing,
            "HIGH": {"count": [1, 0], "mean": [0.0, None], "p50": [0.0, None], "p99": [0.0, None]},
        },
        "running": [0, 0], "waiting": [0, 0], "retrying": [0, 0], "slots_in_use": [0, 0], "limit": [8, 8],
        "memory": [4096, 4096], "cpu": [0.0, 0.0],
    }  # fmt: skip
    assert list(plain) == [field.name for field in attrs.fields(Trends)]
