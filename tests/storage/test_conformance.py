"""Every storage passes the suite; the suite notices broken promises."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from ccm.storage import Accept, Archive, Forget, MemoryStorage, Settle, SqliteStorage, Storage
from ccm.testing import check_storage


def test_memory() -> None:
    check_storage(MemoryStorage)


def test_sqlite(tmp_path: Path) -> None:
    names = itertools.count()
    check_storage(lambda: SqliteStorage(tmp_path / f"{next(names)}.db"))


def broken(change: Callable[[Sequence[Any]], Sequence[Any]]) -> Storage:
    """A storage that does something else than it is told."""
    storage = MemoryStorage()
    commit = storage.commit
    storage.commit = lambda operations: commit(change(operations))  # type: ignore[method-assign]
    return storage


@pytest.mark.parametrize(
    ("change", "promise"),
    [
        (lambda ops: [op for op in ops if type(op) is not Settle], "is a repetition .with its outcome"),
        (
            lambda ops: [Forget("x") if type(op) is Archive else op for op in ops],
            "conversations are listed by filters",
        ),
        (lambda ops: [Archive("x", 0, 0) if type(op) is Forget else op for op in ops], "`Forget` erases"),
        (lambda ops: ops[:1], "rising numbers"),
        (lambda ops: [op for op in ops if type(op) is Accept or len(ops) < 4], "a transaction that fails"),
    ],
)
def test_the_suite_names_the_broken_promise(change: Callable[[Any], Any], promise: str) -> None:
    with pytest.raises(AssertionError, match=promise):
        check_storage(lambda: broken(change))
