"""Many rows with one statement, which has all their values.

Python gives its lock up for each step of a statement and has to get it back from a busy event loop, which can
take milliseconds: with a statement for each row the commit of a thousand messages would take seconds. To read
the rows from a JSON array would do as well, but takes SQLite four times as long.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from functools import cache
from itertools import chain
from typing import Any, Final

MOST: Final = 512
"""Rows that one statement has; more rows need several."""


@cache
def _statement(head: str, tail: str, columns: int, size: int) -> str:
    row = f"({', '.join('?' * columns)})"
    return f"{head} FROM (VALUES {', '.join([row] * size)}) AS v {tail}"


def run_with(
    run: Callable[[str, Sequence[Any]], sqlite3.Cursor], head: str, tail: str,
    rows: Sequence[Sequence[Any]], *more: Any,
) -> int:  # fmt: skip
    """Run a statement that reads `rows` as a table `v` with columns `column1`, `column2`, ...

    Statements have 1, 2, 4, ... rows, so that few have to be prepared and kept. They are filled up with rows
    of NULL, which `tail` has to leave out.

    Args:
        run: executes a statement.
        head, tail: what stands before and behind `FROM v`.
        rows: equally long; without any, nothing is run.
        more: values for the placeholders in `tail`.

    Returns:
        How many rows were changed. O(rows).
    """
    changed = 0
    for start in range(0, len(rows), MOST):
        part = rows[start : start + MOST]
        columns, size = len(part[0]), 1 << (len(part) - 1).bit_length()
        values = [*chain.from_iterable(part), *(None,) * (columns * (size - len(part))), *more]
        changed += run(_statement(head, tail, columns, size), values).rowcount
    return changed
