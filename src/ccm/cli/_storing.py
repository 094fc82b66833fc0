"""The option `--storage` of commands that send messages through a manager."""

from __future__ import annotations

import argparse
import os
import time

from ccm import StorageError
from ccm.storage import SqliteStorage

from ._console import UsageError


def add_storage(parser: argparse.ArgumentParser) -> None:
    """Add the option."""
    parser.add_argument(
        "--storage",
        metavar="FILE",
        help="keep messages and conversations in this SQLite file (default: memory)",
    )


def check_storage(path: str | None) -> str | None:
    """`path`, if it can be used and holds nothing unfinished from before.

    Raises:
        UsageError: it cannot, or it does.
    """
    if path is None:
        return None
    storage = SqliteStorage(path)
    try:
        storage.open()
        health = storage.health()
    except StorageError as error:
        raise UsageError(str(error)) from None
    finally:
        storage.close()
    if health.inbox or health.outbox:
        raise UsageError(
            f"{path} holds {health.inbox} messages without an outcome and {health.outbox} undelivered "
            "replies, which would be mixed up with these; name another file"
        )
    return path


def run_prefix(path: str | None) -> str:
    """What ids of messages begin with: another run's messages are no repetitions of this one's."""
    return "" if path is None else f"{time.time_ns():x}.{os.getpid()}/"
