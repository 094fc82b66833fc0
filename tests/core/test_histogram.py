"""The latency histogram against a sorted list of the samples."""

from __future__ import annotations

from fractions import Fraction
from math import ceil, inf, nan

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ccm._core.histogram import Increments, LatencyHistogram, LatencySummary, Tally

LONGEST = 2**34 / 1e6
IN_RANGE = (
    st.floats(0.0, LONGEST, exclude_max=True)
    | st.floats(0.0, 0.001)
    | st.integers(0, 2**20).map(lambda n: n / 1e6)
)
ANY = IN_RANGE | st.floats(-10.0, 1e12)
SHARES = (
    st.floats(0.0, 1.0)
    | st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0])
    | st.integers(0, 100).map(lambda n: n / 100)
)


def nearest_rank(samples: list[float], q: float) -> float:
    exact = Fraction(q).limit_denominator(10**9)
    return sorted(samples)[max(1, ceil(exact * len(samples))) - 1]


def filled(samples: list[float]) -> LatencyHistogram:
    histogram = LatencyHistogram()
    for sample in samples:
        histogram.record(sample)
    histogram._check()
    return histogram


class HistogramMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.histogram = LatencyHistogram()
        self.samples: list[float] = []

    @rule(sample=ANY)
    def record(self, sample: float) -> None:
        self.histogram.record(sample)
        self.samples.append(max(0.0, sample))

    @rule(samples=st.lists(ANY, max_size=20))
    def merge(self, samples: list[float]) -> None:
        other = filled(samples)
        before = other.summary()
        self.histogram.merge(other)
        self.samples += [max(0.0, sample) for sample in samples]
        assert other.summary() == before

    @rule(bad=st.sampled_from([nan, inf, -inf]))
    def refuse(self, bad: float) -> None:
        with pytest.raises(ValueError, match="finite"):
            self.histogram.record(bad)

    @precondition(lambda self: self.samples)
    @rule(q=SHARES)
    def quantile(self, q: float) -> None:
        true, found = nearest_rank(self.samples, q), self.histogram.quantile(q)
        assert found <= self.histogram.max
        if true < 10e-6:
            assert abs(found - true) <= 1e-6
        elif true < LONGEST * 0.95:
            assert found == pytest.approx(true, rel=0.05)
        else:
            assert found >= LONGEST * 0.9

    @invariant()
    def holds(self) -> None:
        self.histogram._check()
        assert self.histogram.count == len(self.samples)
        assert self.histogram.max == max(self.samples, default=0.0)
        assert self.histogram.total == pytest.approx(sum(self.samples))


TestHistogram = HistogramMachine.TestCase


@given(st.lists(ANY, max_size=50), st.lists(ANY, max_size=50))
def test_merging_is_recording_together(first: list[float], second: list[float]) -> None:
    merged, together = filled(first), filled(first + second)
    merged.merge(filled(second))
    assert merged._counts == together._counts
    assert [merged.quantile(n / 10) for n in range(11)] == [together.quantile(n / 10) for n in range(11)]


@given(st.lists(ANY, min_size=1), SHARES, SHARES)
def test_quantiles_ascend(samples: list[float], one: float, other: float) -> None:
    histogram = filled(samples)
    assert histogram.quantile(min(one, other)) <= histogram.quantile(max(one, other))


@given(IN_RANGE)
@example(2**34 / 1e6 * (1 - 1e-16))
@example(31e-6)
@example(32e-6)
@example(0.0)
def test_a_quantile_below_the_maximum_is_near_its_sample(sample: float) -> None:
    found = filled([sample, 1e9]).quantile(0.5)
    assert abs(found - sample) <= max(1e-6, 0.05 * sample)


def test_every_microsecond_falls_into_the_bucket_that_spans_it() -> None:
    edges = [n << shift for shift in range(30) for n in range(16, 32)]
    found = [filled([edge / 1e6 + 1e-8, 1e9]).quantile(0.5) for edge in edges]
    assert len(set(found)) == len(edges)
    assert found == sorted(found)


@pytest.mark.parametrize("micros", [2**34 - 1, 2**34, 2**34 + 1, 2**35, 2**60])
def test_samples_beyond_the_last_bucket_are_counted_in_it(micros: int) -> None:
    histogram = filled([micros / 1e6, 1e15])
    assert histogram.quantile(0.5) == pytest.approx(LONGEST, rel=0.05)
    assert histogram.max == 1e15


def test_the_rank_is_not_moved_by_rounding() -> None:
    histogram = filled([float(n) for n in range(1, 101)])
    assert 0.07 * 100 > 7
    assert histogram.quantile(0.07) == pytest.approx(7.0, rel=0.05)
    assert histogram.quantile(0.07) < histogram.quantile(0.08)


def test_the_longest_sample_is_exact_and_never_exceeded() -> None:
    histogram = filled([1.0] * 99 + [1.01])
    assert histogram.quantile(1.0) == histogram.max == 1.01
    # 63/64 lies below the middle of its bucket.
    assert filled([63 / 64] * 8).summary() == LatencySummary(
        count=8, mean=63 / 64, p50=63 / 64, p90=63 / 64, p99=63 / 64, max=63 / 64
    )


def test_nothing_recorded_is_all_zeros() -> None:
    assert LatencyHistogram().summary() == LatencySummary(count=0, mean=0, p50=0, p90=0, p99=0, max=0)


@pytest.mark.parametrize("q", [-0.01, 1.01, 99.0, nan])
def test_a_quantile_outside_its_range_is_refused(q: float) -> None:
    with pytest.raises(ValueError, match="q must be from 0 to 1"):
        LatencyHistogram().quantile(q)


@given(parts=st.lists(st.lists(ANY, max_size=20), max_size=6), before=st.lists(ANY, max_size=20))
def test_increments_are_what_was_recorded_since_the_last_time(
    parts: list[list[float]], before: list[float]
) -> None:
    histogram = filled(before)
    increments, whole = Increments(histogram), Tally()
    for part in parts:
        for sample in part:
            histogram.record(sample)
        tally = Tally()
        increments.take(tally)
        tally._check()
        compare(tally, part)
        summary = histogram.summary()
        again = Tally()
        increments.take(again)
        assert again.figures() == (0, None, None, None)
        assert histogram.summary() == summary, "looking changes nothing"
        whole.merge(tally)
        compare(tally, part)
    whole._check()
    compare(whole, [sample for part in parts for sample in part])


def compare(tally: Tally, samples: list[float]) -> None:
    samples = [max(0.0, sample) for sample in samples]
    count, mean, *quantiles = tally.figures()
    assert count == len(samples)
    if not samples:
        assert [mean, *quantiles] == [None, None, None]
        return
    # The sum is a difference of the histogram's sums, so what came before decides how exact it is.
    assert mean == pytest.approx(sum(samples) / count, rel=1e-9, abs=1e-2)
    for q, found in zip((0.50, 0.99), quantiles, strict=True):
        true = nearest_rank(samples, q)
        assert found is not None
        if true < LONGEST * 0.95:
            assert found == pytest.approx(true, rel=0.05, abs=1e-6)
        else:
            assert found >= LONGEST * 0.9


def test_increments_of_two_histograms_make_one_tally() -> None:
    one, other = filled([]), filled([])
    increments, tally = [Increments(one), Increments(other)], Tally()
    one.record(1.0)
    for _ in range(3):
        other.record(2.0)
    for increment in increments:
        increment.take(tally)
    count, mean, p50, p99 = tally.figures()
    assert (count, mean) == (4, 1.75)
    assert p50 == p99 == pytest.approx(2.0, rel=0.05)
    assert tally.bound == 2.0
