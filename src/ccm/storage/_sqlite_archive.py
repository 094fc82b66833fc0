"""Archived lines of conversations: compressed, in pieces, out of the way of everything that is hot.

A piece holds lines in a row. The pieces of a conversation do not overlap, and all their lines are older than
those that are still in `entries`, because ids are never given again.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

from ._records import Entry

Line: TypeAlias = "list[Any] | tuple[Any, ...]"
"""A row of `entries` without its conversation: the columns of `LINE`."""

LINE = "id, turn, role, user, text, at, message_id, partial, handled, kind, data"
ID, TURN, ROLE, USER, TEXT, AT, MESSAGE_ID, PARTIAL, HANDLED, KIND, DATA = range(11)
# A page of history must not have to unpack much more than it shows.
_LINES = 200
_BYTES = 256 * 1024


def make_entry(key: str, line: Line) -> Entry:
    """A line as an `Entry`."""
    id, turn, role, user, text, at, message_id, partial, handled, kind, data = line
    return Entry(
        id=id, conversation=key, turn_id=turn, role=role, user=user, text=text, at=at, message_id=message_id,
        partial=bool(partial), handled=bool(handled), kind=kind, data=data,
    )  # fmt: skip


def pack(lines: list[Line]) -> bytes:
    """Lines as they are kept."""
    return zlib.compress(json.dumps(lines).encode(), 6)


def unpack(blob: bytes) -> list[Line]:
    """What `pack` has made."""
    lines: list[Line] = json.loads(zlib.decompress(blob))
    return lines


def store(connection: sqlite3.Connection, number: int, lines: Iterable[Line]) -> None:
    """Append lines, oldest first, to the archive of conversation `number`. Memory: one piece."""
    piece: list[Line] = []
    size = 0
    for line in lines:
        piece.append(line)
        size += len(line[TEXT])
        if len(piece) == _LINES or size >= _BYTES:
            _insert(connection, number, piece)
            piece, size = [], 0
    if piece:
        _insert(connection, number, piece)


def _insert(connection: sqlite3.Connection, number: int, piece: list[Line]) -> None:
    connection.execute(
        "INSERT INTO archive (conversation, first, last, lines) VALUES (?, ?, ?, ?)",
        (number, piece[0][ID], piece[-1][ID], pack(piece)),
    )


def older(connection: sqlite3.Connection, number: int, before: int) -> Iterator[Line]:
    """Archived lines with an id below `before`, newest first. O(log n) for the first."""
    pieces = connection.execute(
        "SELECT lines FROM archive WHERE conversation = :number AND last <= coalesce((SELECT min(last)"
        " FROM archive WHERE conversation = :number AND last >= :before), :before) ORDER BY last DESC",
        {"number": number, "before": before},
    )
    for (blob,) in pieces:
        for line in reversed(unpack(blob)):
            if line[ID] < before:
                yield line


def newer(connection: sqlite3.Connection, number: int, after: int) -> Iterator[Line]:
    """Archived lines with an id above `after`, oldest first. O(log n) for the first."""
    pieces = connection.execute(
        "SELECT lines FROM archive WHERE conversation = ? AND last > ? ORDER BY last", (number, after)
    )
    for (blob,) in pieces:
        for line in unpack(blob):
            if line[ID] > after:
                yield line


def rewrite(connection: sqlite3.Connection, number: int, keep: Callable[[Line], bool]) -> list[Line]:
    """Drop the archived lines of conversation `number` that `keep` refuses; returns them."""
    dropped: list[Line] = []
    pieces = connection.execute("SELECT id FROM archive WHERE conversation = ?", (number,)).fetchall()
    for (id,) in pieces:
        (blob,) = connection.execute("SELECT lines FROM archive WHERE id = ?", (id,)).fetchone()
        lines = unpack(blob)
        kept = [line for line in lines if keep(line)]
        if len(kept) == len(lines):
            continue
        dropped += [line for line in lines if not keep(line)]
        if kept:
            connection.execute(
                "UPDATE archive SET first = ?, last = ?, lines = ? WHERE id = ?",
                (kept[0][ID], kept[-1][ID], pack(kept), id),
            )
        else:
            connection.execute("DELETE FROM archive WHERE id = ?", (id,))
    return dropped
