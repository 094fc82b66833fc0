"""What commands on a storage share: opening the file beside its owner, asking before something is erased."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime

from ccm import StorageError
from ccm.storage import SqliteStorage

from ._console import UsageError


def add_file(parser: argparse.ArgumentParser) -> None:
    """Add the options that all these commands have."""
    parser.add_argument(
        "--storage", metavar="FILE", required=True, help="the SQLite file; a bot may be using it meanwhile"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON, nothing else")


def add_yes(parser: argparse.ArgumentParser) -> None:
    """Add the option that answers the question."""
    parser.add_argument("--yes", action="store_true", help="do not ask")


@contextlib.contextmanager
def opened(path: str) -> Iterator[SqliteStorage]:
    """The storage of `path`, which must exist: looking at a file must not make one.

    Raises:
        UsageError: there is none, or it cannot be used.
    """
    if not os.path.isfile(path):
        raise UsageError(
            f"there is no file {path!r}; name the one that open_manager(storage=...) has, or make one with "
            f"'ccm demo --storage {path}'"
        )
    storage = SqliteStorage(path, owned=False)
    try:
        storage.open()
        yield storage
    except StorageError as error:
        raise UsageError(str(error)) from None
    finally:
        storage.close()


def confirm(what: str, arguments: argparse.Namespace) -> bool:
    """Whether the person at the terminal wants it.

    Raises:
        UsageError: there is nobody to ask.
    """
    if arguments.yes:
        return True
    if not sys.stdin.isatty():
        raise UsageError(f"{what}: this cannot be undone, and there is no terminal to ask at; add --yes")
    answer = input(f"{what}. This cannot be undone. Go on? [y/N] ")
    return answer.strip().lower() in ("y", "yes")


def moment(seconds: float) -> str:
    """A time since 1970 as people read it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
