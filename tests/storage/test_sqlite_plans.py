"""No everyday statement goes through a whole table, however large it is: SQLite's own plans say so."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ccm.storage import (
    Accept,
    Annotate,
    Archive,
    Attempted,
    Delivered,
    Discard,
    Retract,
    Rewrite,
    SqliteStorage,
)
from tests.storage.kit import accept, settle, talk

GROWING = "inbox|seen|conversations|members|actors|turns|entries|archive|letters"
WHOLE = re.compile(rf"^SCAN ({GROWING}|[a-u])\b(?!.* VIRTUAL TABLE|.* conversations_paused)")
"""A table, or an alias of one (`v` are the values of the statement). With an index it is a scan, too, if that
has all rows: few conversations are paused."""
statements: dict[str, Any] = {}


class Recording(sqlite3.Connection):
    """Remembers the statements with their values, which SQLite does not know when it makes its plan."""

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        statements.setdefault(sql, parameters)
        return super().execute(sql, parameters)


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqliteStorage]:
    connect = sqlite3.connect

    def recording(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        return connect(*args, factory=Recording, **kwargs)

    monkeypatch.setattr(sqlite3, "connect", recording)
    storage = SqliteStorage(tmp_path / "bot.db")
    storage.open()
    yield storage
    storage.close()


def plan(storage: SqliteStorage, statement: str) -> list[str]:
    assert storage._connection is not None
    rows = sqlite3.Connection.execute(
        storage._connection, f"EXPLAIN QUERY PLAN {statement}", statements[statement]
    )
    return [row[3] for row in rows]


def whole(lines: list[str], statement: str) -> list[str]:
    """What goes through all of a table: not what reads along an index as far as a limit."""
    if "LIMIT" in statement and not any("TEMP B-TREE" in line for line in lines):
        return []
    return [line for line in lines if WHOLE.match(line)]


def everyday(storage: SqliteStorage) -> None:
    """What a manager asks of it while it serves."""
    for number in range(3):
        talk(storage, conversation=f"c{number}", deliver=True, message_id=f"id{number}")
        talk(storage, conversation=f"c{number}", letter=number + 1)
    several = [
        Accept(conversation=f"c{n}", tenant="", user="ada", body="{}", at=1.0, letter=n) for n in range(2)
    ]
    storage.commit(several)
    seq = accept(storage)
    storage.commit([Attempted(seq), Rewrite(seq, "{}")])
    settle(storage, seq)
    storage.commit([Retract(seq, None), Retract(1, "m1"), Retract(2, "nobody's"), Delivered(1, None)])
    storage.commit([Annotate(conversation="c1", at=3.0, kind="note", text="t", by="eve"), Discard(1)])
    storage.commit([Archive("c0", before=0.0, at=9.0)])
    storage.recover(0, 10)
    storage.undelivered(0, 10)
    storage.letters(10)
    storage.ended(1)
    storage.conversation("c0")
    for key in ("c0", "c1"):
        storage.history(key, limit=2)
        storage.history(key, before=5, limit=2)
        storage.history(key, after=1, limit=2)
    for where in ({}, {"user": "ada"}, {"tenant": "t"}, {"paused": True}):
        storage.conversations(limit=2, **where)
    storage.changed()


def test_no_everyday_statement_goes_through_a_whole_table(storage: SqliteStorage) -> None:
    statements.clear()
    everyday(storage)
    del statements["SELECT count(*) FROM seen"]  # once when it is opened, see test_sqlite_space.py
    asked = [sql for sql in statements if re.match("SELECT|INSERT|UPDATE|DELETE", sql)]
    assert len(asked) > 30
    assert {sql: lines for sql in asked if (lines := whole(plan(storage, sql), sql))} == {}
