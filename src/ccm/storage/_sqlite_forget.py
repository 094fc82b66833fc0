"""Erasing a user from a SQLite storage."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

Unsay = Callable[[str, tuple[Any, ...]], int]


def forget(connection: sqlite3.Connection, unsay: Unsay, user: str) -> int:
    raise NotImplementedError
