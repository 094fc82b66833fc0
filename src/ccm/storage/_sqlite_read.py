"""What `SqliteStorage` reads: one object for each reading connection."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any, final

from . import _sqlite_history as history
from ._analytics import Analytics
from ._records import Conversation, Delivery, Ended, Entry, Hit, Letter, Page, Stored
from ._sqlite_write import read_conversation


@final
class Reader:
    """Questions to the database. All are answered by one statement each, or say how they stay consistent."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def recover(self, after: int, limit: int) -> list[Stored]:
        """See `Storage.recover`. O(limit)."""
        rows = self.connection.execute(
            "SELECT seq, body, at, attempts FROM inbox WHERE seq > ? ORDER BY seq LIMIT ?", (after, limit)
        )
        return [Stored(seq=seq, body=body, at=at, attempts=attempts) for seq, body, at, attempts in rows]

    def ended(self, seq: int) -> Ended | None:
        """See `Storage.ended`. O(log n)."""
        row = self.connection.execute(
            "SELECT t.seq, c.key, t.tenant, t.message_id, t.outcome, t.detail, t.accepted FROM turns AS t"
            " JOIN conversations AS c ON c.id = t.conversation WHERE t.seq = ?",
            (seq,),
        ).fetchone()
        if row is None:
            return None
        names = ("seq", "conversation", "tenant", "message_id", "outcome", "detail", "accepted")
        return Ended(**dict(zip(names, row, strict=True)))

    def undelivered(self, after: int, limit: int) -> list[Delivery]:
        """See `Storage.undelivered`. O(limit)."""
        rows = self.connection.execute(
            "SELECT seq, conversation, body, text, metadata FROM outbox WHERE seq > ? ORDER BY seq LIMIT ?",
            (after, limit),
        )
        return [
            Delivery(seq=seq, conversation=key, body=body, text=text, metadata=metadata)
            for seq, key, body, text, metadata in rows
        ]

    def letters(self, limit: int) -> list[Letter]:
        """See `Storage.letters`. O(limit)."""
        rows = self.connection.execute(
            "SELECT id, body, route, attempts, error, at FROM letters ORDER BY id DESC LIMIT ?", (limit,)
        ).fetchall()
        return [
            Letter(id=id, body=body, route=route, attempts=attempts, error=error, at=at)
            for id, body, route, attempts, error, at in reversed(rows)
        ]

    def counts(self) -> tuple[int, int, int, int]:
        """Rows of the inbox, the outbox, dead letters, conversations."""
        row: tuple[int, int, int, int] = self.connection.execute(
            "SELECT (SELECT count(*) FROM inbox), (SELECT count(*) FROM outbox),"
            " (SELECT count(*) FROM letters), (SELECT count(*) FROM conversations)"
        ).fetchone()
        return row

    def conversation(self, key: str) -> Conversation | None:
        """See `Storage.conversation`. O(log n)."""
        found = read_conversation(self.connection, key)
        return None if found is None else found[1]

    def conversations(
        self, user: str | None, tenant: str | None, status: str | None, stage: str | None,
        paused: bool | None, cursor: str | None, limit: int,
    ) -> Page[Conversation]:  # fmt: skip
        """See `Storage.conversations`."""
        return history.conversations(self.connection, user, tenant, status, stage, paused, cursor, limit)

    def history(self, key: str, before: int | None, after: int | None, limit: int) -> Page[Entry]:
        """See `Storage.history`."""
        return history.history(self.connection, key, before, after, limit)

    def search(
        self, text: str, conversation: str | None, user: str | None, tenant: str | None, limit: int,
        offset: int,
    ) -> list[Hit]:  # fmt: skip
        """See `Storage.search`."""
        return history.search(self.connection, text, conversation, user, tenant, limit, offset)

    def export(self, key: str | None) -> Iterator[dict[str, Any]]:
        """See `Storage.export`."""
        return history.export(self.connection, key)

    def analytics(self, since: float, until: float) -> Analytics:
        """See `Storage.analytics`."""
        return history.analytics(self.connection, since, until)
