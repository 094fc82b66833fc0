"""Latencies in constant memory: a log-linear histogram of integer microseconds.

The idea is that of HdrHistogram (Gil Tene, http://hdrhistogram.org): each power of two is cut into the
same number of equal buckets, so the relative error is the same everywhere and a bucket's number is a
shift and an addition.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import compress
from math import ceil
from operator import ne
from typing import Final, final

import attrs

__all__ = ["Increments", "LatencyHistogram", "LatencySummary", "Tally"]

# 16 buckets per octave: no value is further than 1/32 of itself from the middle of its bucket.
# `record` spells these numbers out, because a global costs it a tenth of its time.
_BITS: Final = 4
_OCTAVES: Final = 34  # 2**34 microseconds are 4.7 hours
_BUCKETS: Final = (_OCTAVES - _BITS + 1) << _BITS


def _middle(index: int) -> float:
    """The value, in seconds, that stands for all samples of a bucket. O(1)."""
    if index == 0:
        return 0.0
    shift = max(0, (index >> _BITS) - 1)
    return ((index - (shift << _BITS)) + 0.5) * (1 << shift) / 1e6


def _rank(q: float, count: int) -> int:
    """Which of `count` samples, the shortest being the first, is the quantile `q`. O(1)."""
    # The factor undoes rounding: 0.07 * 100 is a little more than 7 in floats and means rank 7.
    return max(1, ceil(q * count * (1 - 1e-14)))


def _at_rank(buckets: Iterable[tuple[int, int]], rank: int) -> float:
    """Seconds of the sample of that rank; `buckets` are (number, samples), ascending. O(buckets)."""
    seen = 0
    for index, held in buckets:
        seen += held
        if seen >= rank:
            return _middle(index)
    raise AssertionError("the buckets hold fewer samples than were counted")


@final
@attrs.frozen(kw_only=True)
class LatencySummary:
    """What a histogram held at one instant; times in seconds, all zero when nothing was recorded."""

    count: int
    mean: float
    p50: float
    p90: float
    p99: float
    max: float


@final
class LatencyHistogram:
    """Counts, total, maximum and quantiles of durations.

    Count and maximum are exact. A quantile is within 5 % of the sample at that rank for samples from 10 µs
    to 4.7 hours, within 1 µs below that, and never above the maximum. Longer samples share the last
    bucket. Negative durations count as zero. Memory is constant: 496 counters.
    """

    __slots__ = ("_counts", "count", "max", "total")

    # _counts[i]  samples in bucket i; the sum over all i is count
    # total       sum of the samples in seconds, >= 0
    # max         the longest sample in seconds, 0.0 when there is none

    def __init__(self) -> None:
        self._counts = [0] * _BUCKETS
        self.count = 0
        self.total = 0.0
        self.max = 0.0

    def record(self, seconds: float) -> None:
        """Count one duration. O(1).

        Raises:
            ValueError: `seconds` is not a number or infinite; nothing is counted.
        """
        try:
            micros = int(seconds * 1e6)
        except (ValueError, OverflowError):
            raise ValueError(f"seconds must be finite, not {seconds!r}; subtract two times") from None
        if micros > 31:
            shift = micros.bit_length() - 5
            micros = (shift << 4) + (micros >> shift)
            if micros > 495:
                micros = 495
        elif micros < 0 or seconds < 0.0:
            micros = 0
            seconds = 0.0
        self._counts[micros] += 1
        self.count += 1
        self.total += seconds
        if seconds > self.max:
            self.max = seconds

    def merge(self, other: LatencyHistogram) -> None:
        """Add everything that `other` counted; `other` stays as it is. O(buckets)."""
        self._counts = [mine + theirs for mine, theirs in zip(self._counts, other._counts, strict=True)]
        self.count += other.count
        self.total += other.total
        self.max = max(self.max, other.max)

    def quantile(self, q: float) -> float:
        """The nearest-rank quantile in seconds: the sample of rank ceil(q * count). O(buckets).

        Args:
            q: from 0.0 (the shortest sample) to 1.0 (the longest).

        Returns:
            Seconds; 0.0 when nothing was recorded.

        Raises:
            ValueError: `q` is outside its range.
        """
        if not 0.0 <= q <= 1.0:
            raise ValueError(f"q must be from 0 to 1, not {q!r}; for percentiles divide by 100")
        rank = _rank(q, self.count)
        return self.max if rank >= self.count else min(_at_rank(enumerate(self._counts), rank), self.max)

    def summary(self) -> LatencySummary:
        """A frozen picture of this instant. O(buckets)."""
        return LatencySummary(
            count=self.count,
            mean=self.total / self.count if self.count else 0.0,
            p50=self.quantile(0.50),
            p90=self.quantile(0.90),
            p99=self.quantile(0.99),
            max=self.max,
        )

    def _check(self) -> None:
        """Assert every invariant. O(buckets)."""
        assert len(self._counts) == _BUCKETS == 496
        assert all(held >= 0 for held in self._counts)
        assert sum(self._counts) == self.count
        assert self.total >= 0.0
        assert self.max >= 0.0
        if self.count == 0:
            assert self.total == self.max == 0.0


@final
class Tally:
    """The samples of a part of the time, as a few buckets: count and mean are exact, quantiles within 5 %.

    Attributes:
        count: how many there are.
        total: their sum in seconds.
        bound: no sample is longer, seconds. (The longest one is not known: see `Increments`.)
    """

    __slots__ = ("_held", "bound", "count", "total")

    # _held   samples by bucket, none of them 0; at most 496; their sum is count

    def __init__(self) -> None:
        self._held: dict[int, int] = {}
        self.count = 0
        self.total = 0.0
        self.bound = 0.0

    def add(self, held: Iterable[tuple[int, int]], count: int, total: float, bound: float) -> None:
        """Count samples in: `count` of them, by bucket, `total` seconds together. O(buckets)."""
        own = self._held
        for index, n in held:
            own[index] = own.get(index, 0) + n
        self.count += count
        self.total += total
        self.bound = max(self.bound, bound)

    def merge(self, other: Tally) -> None:
        """Add everything that `other` counted; `other` stays as it is. O(buckets of `other`)."""
        self.add(other._held.items(), other.count, other.total, other.bound)

    def figures(self) -> tuple[int, float | None, float | None, float | None]:
        """Count, mean, p50, p99; the last three are None when there is no sample. O(n log n) in buckets."""
        count = self.count
        if not count:
            return (0, None, None, None)
        held = sorted(self._held.items())
        p50, p99 = (min(_at_rank(held, _rank(q, count)), self.bound) for q in (0.50, 0.99))
        return (count, self.total / count, p50, p99)

    def _check(self) -> None:
        """Assert every invariant. O(buckets)."""
        assert all(0 <= index < _BUCKETS and held > 0 for index, held in self._held.items())
        assert sum(self._held.values()) == self.count
        assert self.total >= 0.0


@final
class Increments:
    """What a histogram has counted since it was asked last, by comparing its counters with a copy.

    So whoever records durations does nothing for those who want to know them by the second. The price:
    of the longest sample only the bucket is known. Memory is constant: 496 counters.
    """

    __slots__ = ("_before", "_count", "_histogram", "_total")

    # _before, _count, _total   the histogram's counters, count and total when it was asked last

    def __init__(self, histogram: LatencyHistogram) -> None:
        self._histogram = histogram
        self._before = histogram._counts.copy()
        self._count = histogram.count
        self._total = histogram.total

    def take(self, into: Tally) -> None:
        """Count what is new into a tally. O(1) when there is nothing new, else O(buckets)."""
        histogram, before = self._histogram, self._before
        new = histogram.count - self._count
        if new:
            now = histogram._counts
            held = [(i, now[i] - before[i]) for i in compress(range(_BUCKETS), map(ne, now, before))]
            into.add(held, new, histogram.total - self._total, histogram.max)
            before[:] = now
            self._count, self._total = histogram.count, histogram.total
