"""The generator of the pairwise matrix: all pairs, few rows, always the same."""

from __future__ import annotations

from itertools import combinations, product

from hypothesis import given
from hypothesis import strategies as st

from .allpairs import all_pairs, pairs_of

SIZES = st.lists(st.integers(1, 5), min_size=2, max_size=7)


def axes_of(sizes: list[int]) -> dict[str, list[int]]:
    return {f"axis {number}": list(range(size)) for number, size in enumerate(sizes)}


@given(SIZES)
def test_every_pair_of_values_meets(sizes: list[int]) -> None:
    axes = axes_of(sizes)
    rows = all_pairs(axes)
    for a, b in combinations(axes, 2):
        assert {(row[a], row[b]) for row in rows} == set(product(axes[a], axes[b]))


@given(SIZES)
def test_rows_are_complete_few_and_none_is_for_nothing(sizes: list[int]) -> None:
    axes = axes_of(sizes)
    rows = all_pairs(axes)
    largest = sorted(sizes)[-2:]
    assert len(rows) <= 2 * largest[0] * largest[1] + len(sizes)
    seen: set[tuple[str, int, str, int]] = set()
    for row in rows:
        assert list(row) == list(axes)
        assert pairs_of(row) - seen
        seen |= pairs_of(row)


@given(SIZES)
def test_the_same_axes_give_the_same_rows(sizes: list[int]) -> None:
    assert all_pairs(axes_of(sizes)) == all_pairs(axes_of(sizes))


@given(SIZES, st.integers(0, 30))
def test_rows_that_are_there_are_completed(sizes: list[int], kept: int) -> None:
    axes = axes_of(sizes)
    there = all_pairs(axes)[:kept]
    added = all_pairs(axes, there)
    assert len(added) <= len(all_pairs(axes)) or kept
    met = {pair for row in [*there, *added] for pair in pairs_of(row)}
    assert met == {pair for row in all_pairs(axes) for pair in pairs_of(row)}
