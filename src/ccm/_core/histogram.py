"""Latencies in constant memory: a log-linear histogram of integer microseconds.

The idea is that of HdrHistogram (Gil Tene, http://hdrhistogram.org): each power of two is cut into the
same number of equal buckets, so the relative error is the same everywhere and a bucket's number is a
shift and an addition.
"""

from __future__ import annotations

from math import ceil
from typing import Final, final

import attrs

__all__ = ["LatencyHistogram", "LatencySummary"]

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
        # The factor undoes rounding: 0.07 * 100 is a little more than 7 in floats and means rank 7.
        rank = max(1, ceil(q * self.count * (1 - 1e-14)))
        if rank >= self.count:
            return self.max
        seen = 0
        for index, held in enumerate(self._counts):
            seen += held
            if seen >= rank:
                return min(_middle(index), self.max)
        raise AssertionError("the buckets hold fewer samples than were counted")

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
