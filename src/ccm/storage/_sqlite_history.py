"""The history of conversations in SQLite: lists, pages, search, export, analytics."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

from ._records import Analytics, Conversation, Entry, Hit, Page


def conversations(
    connection: sqlite3.Connection, user: str | None, tenant: str | None, status: str | None,
    stage: str | None, paused: bool | None, cursor: str | None, limit: int,
) -> Page[Conversation]:  # fmt: skip
    raise NotImplementedError


def history(
    connection: sqlite3.Connection, key: str, before: int | None, after: int | None, limit: int
) -> Page[Entry]:
    raise NotImplementedError


def search(
    connection: sqlite3.Connection, text: str, conversation: str | None, user: str | None, limit: int,
    offset: int,
) -> list[Hit]:  # fmt: skip
    raise NotImplementedError


def export(connection: sqlite3.Connection, key: str | None) -> Iterator[dict[str, Any]]:
    raise NotImplementedError


def analytics(connection: sqlite3.Connection, since: float, until: float) -> Analytics:
    raise NotImplementedError
