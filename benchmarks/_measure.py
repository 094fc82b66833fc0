"""Taking turns: two programs measured alternately, so that a machine that slows down slows both."""

from __future__ import annotations

import gc
from collections.abc import Callable
from statistics import median

import attrs

Measure = Callable[[int], float]
"""Does `n` messages of work and returns its figure; raises `Void` when not every one was answered."""


class Void(Exception):
    """The work was not done completely, so its speed means nothing."""


class Absent(Exception):
    """What is compared with is not installed here."""


@attrs.frozen(kw_only=True)
class Series:
    """The figures of a comparison, round by round; `reference` is empty when there is none."""

    ours: tuple[float, ...]
    reference: tuple[float, ...]
    more_is_better: bool

    def best(self, figures: tuple[float, ...]) -> float:
        """The figure of the round that was disturbed least."""
        return max(figures) if self.more_is_better else min(figures)

    @property
    def ratio(self) -> float | None:
        """Ours over the reference's, each at its best."""
        if not self.reference:
            return None
        return self.best(self.ours) / self.best(self.reference)

    @property
    def pair_ratio(self) -> float | None:
        """The median over the rounds of ours over the reference's that ran next to it."""
        if not self.reference:
            return None
        return median(a / b for a, b in zip(self.ours, self.reference, strict=True))


def interleave(
    ours: Measure, reference: Measure | None, *, n: int, rounds: int, more_is_better: bool
) -> Series:
    """Measure ours, reference, ours, reference, ...; the heap is collected before each."""
    figures: list[float] = []
    others: list[float] = []
    for _ in range(rounds):
        gc.collect()
        figures.append(ours(n))
        if reference is not None:
            gc.collect()
            others.append(reference(n))
    return Series(ours=tuple(figures), reference=tuple(others), more_is_better=more_is_better)
