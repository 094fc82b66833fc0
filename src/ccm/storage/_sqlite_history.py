"""The history of conversations in SQLite: lists, pages, search, export, analytics."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

from . import _sqlite_archive as archive
from ._analytics import Analytics, sum_up
from ._cursors import decode_cursor, encode_cursor
from ._records import Conversation, Entry, Hit, Page
from ._shared import COLUMNS, conversation_as_dict, entry_as_dict
from ._sqlite_write import SELECT_CONVERSATION, make_conversation, read_conversation
from ._words import Query, parse

_NEWEST = (1 << 63) - 1
RANKED = 500
"""Matches that are ranked; if there are more, the newest of them."""
SCANNED = 10_000
"""Matches that are looked at for those of one conversation, user or tenant, the newest first."""
_FEW = 2000
"""Lines that are read one by one, instead of searching all for those of one conversation, user or tenant."""


@contextmanager
def _snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """Several statements see the same state: lines may be moved to the archive between them."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")


def conversations(
    connection: sqlite3.Connection, user: str | None, tenant: str | None, status: str | None,
    stage: str | None, paused: bool | None, cursor: str | None, limit: int,
) -> Page[Conversation]:  # fmt: skip
    """See `Storage.conversations`. O(limit) without filters or with `tenant` alone, O(conversations of the
    user) with `user`, else O(conversations that changed later than the last one shown)."""
    source, where, arguments = "conversations AS c", list[str](), list[Any]()
    if user is not None:
        source = "members AS m CROSS JOIN conversations AS c ON c.id = m.conversation"
        where.append("m.user = ?")
        arguments.append(user)
    elif paused:
        source = "conversations AS c INDEXED BY conversations_paused"
    for name, value in (("tenant", tenant), ("status", status), ("stage", stage)):
        if value is not None:
            where.append(f"c.{name} = ?")
            arguments.append(value)
    if paused is not None:
        where.append("c.paused" if paused else "NOT c.paused")
    if cursor is not None:
        where.append("(c.updated, c.id) < (?, ?)")
        arguments.extend(decode_cursor(cursor))
    columns = ", ".join(f"c.{name}" for name in ("id", *COLUMNS))
    condition = f" WHERE {' AND '.join(where)}" if where else ""
    rows = connection.execute(
        f"SELECT {columns} FROM {source}{condition} ORDER BY c.updated DESC, c.id DESC LIMIT ?",  # noqa: S608
        (*arguments, limit + 1),
    ).fetchall()
    items = [(row[0], make_conversation(row[1:])) for row in rows[:limit]]
    following = encode_cursor(items[-1][1].updated, items[-1][0]) if len(rows) > limit else None
    return Page(tuple(conversation for _, conversation in items), following)


def history(
    connection: sqlite3.Connection, key: str, before: int | None, after: int | None, limit: int
) -> Page[Entry]:
    """See `Storage.history`. O(limit + log n), archived lines too."""
    with _snapshot(connection):
        found = read_conversation(connection, key)
        if found is None:
            return Page(())
        number = found[0]
        select = f"SELECT {archive.LINE} FROM entries WHERE conversation = ?"  # noqa: S608 - names of ours
        if after is not None:
            lines = list(islice(archive.newer(connection, number, after), limit + 1))
            missing = limit + 1 - len(lines)
            lines += connection.execute(f"{select} AND id > ? ORDER BY id LIMIT ?", (number, after, missing))
        else:
            below = _NEWEST if before is None else before
            lines = connection.execute(
                f"{select} AND id < ? ORDER BY id DESC LIMIT ?", (number, below, limit + 1)
            ).fetchall()
            lines += islice(archive.older(connection, number, below), limit + 1 - len(lines))
    cursor = str(lines[limit - 1][archive.ID]) if len(lines) > limit else None
    shown = lines[:limit] if after is not None else lines[:limit][::-1]
    return Page(tuple(archive.make_entry(key, line) for line in shown), cursor)


# -- search ------------------------------------------------------------------------------------------------

_FOUND = (
    "e.id, e.turn, e.role, e.user, e.text, e.at, e.message_id, e.partial, e.handled, e.kind, e.data,"
    " e.conversation"
)
_THEIR_LINES = "CROSS JOIN entries AS e ON e.conversation = c.id"


def search(
    connection: sqlite3.Connection, text: str, conversation: str | None, user: str | None,
    tenant: str | None, limit: int, offset: int,
) -> list[Hit]:  # fmt: skip
    """See `Storage.search`. Ranks the newest `RANKED` matches; those after them follow newest first.

    Of a conversation, user or tenant with more than `_FEW` lines, only what is among the `SCANNED` newest
    matches of all is found: a search does not cost a tenant more because others have said much.

    O(matches) for rare words, O(RANKED + offset + limit + SCANNED) for common ones.
    """
    query = parse(text)
    with _snapshot(connection):
        number = None
        if conversation is not None:
            found = read_conversation(connection, conversation)
            if found is None or tenant not in (None, found[1].tenant):
                return []
            number, tenant = found[0], None
        lines = _lines_of(connection, number, user, tenant)
        if lines is None:
            lines = _matches(connection, query, number, user, tenant, max(RANKED, offset + limit))
            ranked = _rank(query, lines[:RANKED]) + [(0.0, line) for line in lines[RANKED:]]
        else:
            ranked = _rank(query, [line for line in lines if user in (None, line[archive.USER])])
        hits = ranked[offset : offset + limit]
        keys: dict[int, str] = {
            id: connection.execute("SELECT key FROM conversations WHERE id = ?", (id,)).fetchone()[0]
            for id in {line[-1] for _, line in hits}
        }
    return [
        Hit(
            entry=archive.make_entry(keys[line[-1]], line[:-1]),
            snippet=query.snippet(line[archive.TEXT]),
            rank=rank,
        )
        for rank, line in hits
    ]


def _lines_of(
    connection: sqlite3.Connection, number: int | None, user: str | None, tenant: str | None
) -> list[Any] | None:
    """All utterances of the conversation, or of those that the user is in, or of the tenant's; None if they
    are many."""
    arguments: list[Any]
    # CROSS JOIN: in this order, so that it ends with the limit however much there is.
    if number is not None:
        scope, arguments = "entries AS e WHERE e.conversation = ?", [number]
    elif user is not None:
        scope = "members AS m CROSS JOIN conversations AS c ON c.id = m.conversation"
        scope, arguments = f"{scope} {_THEIR_LINES} WHERE m.user = ?", [user]
        if tenant is not None:
            scope, arguments = f"{scope} AND c.tenant = ?", [user, tenant]
    elif tenant is not None:
        scope, arguments = f"conversations AS c {_THEIR_LINES} WHERE c.tenant = ?", [tenant]
    else:
        return None
    rows = connection.execute(
        f"SELECT e.id FROM {scope} LIMIT ?",  # noqa: S608
        (*arguments, _FEW + 1),
    ).fetchall()
    if len(rows) > _FEW:
        return None
    return connection.execute(
        f"SELECT {_FOUND} FROM {scope} AND e.role <> 'event' ORDER BY e.id DESC",  # noqa: S608
        arguments,
    ).fetchall()


def _matches(
    connection: sqlite3.Connection, query: Query, number: int | None, user: str | None, tenant: str | None,
    most: int,
) -> list[Any]:  # fmt: skip
    """Utterances that FTS5 finds, newest first.

    The last word counts as a beginning only if as it stands it gives few: for a short beginning of common
    words FTS5 has to merge the lists of all of them.
    """
    below = _NEWEST
    where, arguments = "", list[Any]()
    if number is not None:
        where = " AND e.conversation = ?"
        arguments.append(number)
        (below,) = connection.execute(
            "SELECT max(id) FROM entries WHERE conversation = ?", (number,)
        ).fetchone()
    if user is not None:
        where += " AND e.user = ?"
        arguments.append(user)
    if tenant is not None:
        where += " CROSS JOIN conversations AS c ON c.id = e.conversation AND c.tenant = ?"
        arguments.append(tenant)
    deep = SCANNED if where else most
    statement = (
        f"SELECT {_FOUND} FROM (SELECT rowid FROM search WHERE search MATCH ? AND rowid <= ?"  # noqa: S608
        f" ORDER BY rowid DESC LIMIT ?) AS s CROSS JOIN entries AS e ON e.id = s.rowid{where} LIMIT ?"
    )
    for match in (query.fts, query.fts_beginning):
        lines = connection.execute(statement, (match, below, deep, *arguments, most)).fetchall()
        if len(lines) >= RANKED or match == query.fts_beginning:
            break
    return lines


def _rank(query: Query, lines: list[Any]) -> list[tuple[float, Any]]:
    """The lines that match with their ranks, the best first, then the newest."""
    ranked = []
    for line in lines:
        score = query.score(line[archive.TEXT])
        if score is not None:
            ranked.append((score, line))
    ranked.sort(key=lambda pair: (pair[0], -pair[1][archive.ID]))
    return ranked


# -- everything --------------------------------------------------------------------------------------------


def export(connection: sqlite3.Connection, key: str | None) -> Iterator[dict[str, Any]]:
    """See `Storage.export`. What it shows is as it was at the first step, however long it takes."""
    with _snapshot(connection):
        condition, arguments = ("", ()) if key is None else (" WHERE key = ?", (key,))
        rows = connection.execute(f"{SELECT_CONVERSATION}{condition} ORDER BY id", arguments)
        for number, *columns in rows:
            conversation = make_conversation(columns)
            yield conversation_as_dict(conversation)
            for line in archive.newer(connection, number, 0):
                yield entry_as_dict(archive.make_entry(conversation.key, line))
            hot = connection.execute(
                f"SELECT {archive.LINE} FROM entries WHERE conversation = ? ORDER BY id",  # noqa: S608
                (number,),
            )
            for line in hot:
                yield entry_as_dict(archive.make_entry(conversation.key, line))


def analytics(connection: sqlite3.Connection, since: float, until: float) -> Analytics:
    """See `Storage.analytics`. O(turns in the span)."""
    span = "FROM turns WHERE ended >= ? AND ended < ?"
    with _snapshot(connection):
        groups = connection.execute(
            "SELECT date(ended, 'unixepoch'), route, outcome, count(*), sum(waited >= 0),"
            " total(CASE WHEN waited >= 0 THEN waited END),"
            f" total(CASE WHEN waited >= 0 THEN served END) {span}"
            " GROUP BY 1, 2, 3",
            (since, until),
        ).fetchall()
        (users,) = connection.execute(f"SELECT count(DISTINCT user) {span}", (since, until)).fetchone()
        kinds = connection.execute(
            "SELECT stage, agent, count(*) FROM conversations WHERE id IN"  # noqa: S608
            f" (SELECT conversation {span}) GROUP BY 1, 2",
            (since, until),
        ).fetchall()
    return sum_up(groups, users, kinds)
