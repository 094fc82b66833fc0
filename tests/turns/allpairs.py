"""Rows in which every pair of values of any two axes meets at least once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, product
from typing import Any

Row = dict[str, Any]
Pair = tuple[str, Any, str, Any]


def pairs_of(row: Mapping[str, Any]) -> set[Pair]:
    """The pairs that meet in a row."""
    return {(a, row[a], b, row[b]) for a, b in combinations(sorted(row), 2)}


def all_pairs(axes: Mapping[str, Sequence[Any]], given: Iterable[Mapping[str, Any]] = ()) -> list[Row]:
    """Few rows that, together with the rows `given`, contain all pairs; the same ones every time.

    Greedy: each row begins with the first pair that is still missing and takes, axis by axis, the value
    that brings the most missing pairs.
    """
    missing: dict[Pair, None] = {
        (a, x, b, y): None for a, b in combinations(sorted(axes), 2) for x, y in product(axes[a], axes[b])
    }
    for row in given:
        _strike_out(missing, row)
    rows: list[Row] = []
    while missing:
        a, x, b, y = next(iter(missing))
        row = {a: x, b: y}
        for axis in sorted(axes, key=lambda axis: -len(axes[axis])):
            if axis not in row:
                row[axis] = _best(missing, row, axis, axes[axis], len(rows))
        _strike_out(missing, row)
        rows.append({axis: row[axis] for axis in axes})
    return rows


def _strike_out(missing: dict[Pair, None], row: Mapping[str, Any]) -> None:
    for pair in pairs_of(row):
        missing.pop(pair, None)


def _best(missing: dict[Pair, None], row: Row, axis: str, values: Sequence[Any], turn: int) -> Any:
    """The value with the most missing pairs; of equal ones another in each row, so that all get about."""
    shifted = [values[(turn + k) % len(values)] for k in range(len(values))]
    return max(shifted, key=lambda value: sum(pair in missing for pair in pairs_of({**row, axis: value})))
