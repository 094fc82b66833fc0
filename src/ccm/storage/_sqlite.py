"""`SqliteStorage`: one file, the standard library, real fsync."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, final

from .._errors import StorageError
from . import _schema
from ._abc import Storage
from ._analytics import Analytics
from ._records import (
    Conversation,
    Delivery,
    Ended,
    Entry,
    Forget,
    Health,
    Hit,
    Letter,
    Operation,
    Page,
    Stored,
)
from ._sqlite_read import Reader
from ._sqlite_write import Writer

_BUSY_SECONDS = 5.0
_READERS = 4
_LOG = 32 + 1024 * (24 + 4096)
"""Bytes of the write-ahead log: its header, and a little more than the 1,000 pages after which it starts
anew."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# After these, what the disk holds is anybody's guess: SQLite's own codes for I/O that has failed.
_UNKNOWN = ("SQLITE_IOERR",)


@final
class SqliteStorage(Storage):
    """Everything in one SQLite file: WAL, `synchronous=FULL`, full-text search by FTS5.

    A commit is on the disk when it returns. One process at a time may own the file (an OS lock on
    `<path>.lock`, and a row that tells who); others may read it meanwhile, as `ccm conversations` does.

    Args:
        path: the file; made if there is none. Its folder must exist.
        owned: False opens the file beside its owner, for looking at it and for small changes.

    An I/O error while committing is final: the storage refuses everything from then on, because the
    operating system may have dropped what it could not write. What was being committed may be there or not
    (`StorageError.unknown`); opening the file again tells.
    """

    kind = "sqlite"
    shared = True

    def __init__(self, path: str | os.PathLike[str], *, owned: bool = True) -> None:
        self.path = Path(path)
        self._name = str(self.path)
        self._owned = owned
        self._lock: int | None = None
        self._connection: sqlite3.Connection | None = None
        self._writer: Writer
        self._readers: SimpleQueue[Reader] = SimpleQueue()
        self._identity: tuple[int, int] | None = None
        self._failed: str | None = None
        self._seen = -1
        self._traces = False  # the write-ahead log may hold what was erased

    def __repr__(self) -> str:
        return f"SqliteStorage({str(self.path)!r})"

    # -- open and close --------------------------------------------------------------------------

    def open(self) -> None:
        if self._connection is not None:
            raise StorageError(f"the storage {self.path} is open already; use one object for each manager")
        if not self.path.parent.is_dir():
            raise StorageError(f"the folder of the storage {self.path} does not exist; make it first")
        self._failed = None
        if self._owned:
            self._take()
        try:
            with self._telling("open"):
                self._connection = connection = self._connect(readonly=False)
                self._migrate(connection)
                if self._owned:
                    self._lengthen_log(connection)
                    owner = f"process {os.getpid()}"
                    connection.execute("UPDATE meta SET value = ? WHERE key = 'owner'", (owner,))
                for _ in range(_READERS):
                    self._readers.put(Reader(self._connect(readonly=True)))
            found = os.stat(self.path)
            self._identity = (found.st_dev, found.st_ino)
            self._writer = Writer(connection)
        except BaseException:
            self.close()
            raise

    def _connect(self, *, readonly: bool) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False,
            cached_statements=256,
        )  # fmt: skip
        try:
            if not readonly:
                self._version(connection)  # before anything in the file is changed
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA secure_delete = ON")
            connection.execute("PRAGMA cache_size = -16000")
            if readonly:
                connection.execute("PRAGMA query_only = ON")
        except BaseException:
            connection.close()
            raise
        return connection

    def _version(self, connection: sqlite3.Connection) -> int:
        """The version of the file's schema.

        Raises:
            StorageError: it is newer than this program, or the file belongs to another one.
        """
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if version > _schema.VERSION:
            raise StorageError(
                f"{self.path} has version {version} of the schema, this is older; update ccm, which knows "
                f"version {_schema.VERSION}"
            )
        if version == 0 and tables > 0:
            raise StorageError(f"{self.path} is no storage of ccm; name another file")
        return int(version)

    def _migrate(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        try:
            # Once more: now nobody else changes it.
            for number in range(self._version(connection), _schema.VERSION):
                for statement in _statements(_schema.MIGRATIONS[number]):
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {_schema.VERSION}")
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise

    def _lengthen_log(self, connection: sqlite3.Connection) -> None:
        """Make the write-ahead log as long as it gets before it is needed.

        Writing over a file takes a third less time than growing it, because with each commit that grows it
        the file system must write down its new length as well. SQLite reads no further than to the last frame
        that is sealed, and leaves the file as long as it is when it starts again from its beginning.
        """
        connection.execute("BEGIN IMMEDIATE")  # until it is rolled back, nobody else can write to the log
        try:
            lengthen(f"{self.path}-wal", _LOG)
        except OSError as error:
            if error.errno not in _FULL:  # without room it is only slower
                raise StorageError(
                    f"cannot open the storage {self.path}: {error}; look after the disk"
                ) from error
        finally:
            connection.execute("ROLLBACK")

    def _take(self) -> None:
        """Take the OS lock, which ends with the process however it ends."""
        lock = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            _lock_file(lock)
        except OSError:
            os.close(lock)
            raise StorageError(
                f"the storage {self.path} is in use{self._owner()}; stop that one, or name another file"
            ) from None
        self._lock = lock

    def _owner(self) -> str:
        try:
            with contextlib.closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)) as connection:
                row = connection.execute("SELECT value FROM meta WHERE key = 'owner'").fetchone()
        except sqlite3.Error:
            return ""
        return f" by {row[0]}" if row and row[0] else ""

    def close(self) -> None:
        with contextlib.suppress(Empty):
            while True:
                self._readers.get_nowait().connection.close()
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    # -- errors ----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _telling(self, what: str) -> Iterator[None]:
        """Turn SQLite's errors into ours."""
        try:
            yield
        except sqlite3.Error as error:
            raise self._ours(what, error) from error

    def _ours(self, what: str, error: sqlite3.Error) -> StorageError:
        """What to raise instead of an error of SQLite; some are final."""
        name = getattr(error, "sqlite_errorname", "") or ""
        unknown = name.startswith(_UNKNOWN)
        if unknown or name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            self._failed = f"it has failed before ({error})"
        return StorageError(f"cannot {what} the storage {self.path}: {_advice(error, name)}", unknown=unknown)

    def _usable(self) -> sqlite3.Connection:
        if self._failed is not None:
            raise StorageError(
                f"the storage {self.path} is not used any more: {self._failed}; look after the disk, then "
                "start again"
            )
        if self._connection is None:
            raise StorageError(f"the storage {self.path} is closed; open it first")
        return self._connection

    def _look(self) -> None:
        """Whether the file is still the one that was opened."""
        # Not by a descriptor kept open: closing it would give up all locks that the process has on the file.
        try:
            found = os.stat(self._name)
        except OSError:
            found = None
        if found is None or (found.st_dev, found.st_ino) != self._identity:
            self._failed = "its file was deleted or replaced while it was in use"
            self._usable()

    def changed(self) -> bool:
        (version,) = self._usable().execute("PRAGMA data_version").fetchone()
        before, self._seen = self._seen, version
        return bool(version != before)

    # -- transactions ----------------------------------------------------------------------------

    def commit(self, operations: Sequence[Operation]) -> list[Any]:
        connection = self._usable()
        try:  # no context manager: it would take longer than the rest of the Python here
            results = None if self._traces else self._writer.accept_alone(operations)
            alone = results is not None
            if results is None:
                results = self._transaction(connection, operations)
        except sqlite3.Error as error:
            self._writer.rolled_back()
            raise self._ours("write to", error) from error
        # Afterwards, so that nothing is promised that went into a file which is no more. Before, it would let
        # the program go on with what was committed last, too, and this thread wait for Python's lock.
        self._look()
        if not alone:
            self._clean_up(connection, operations)
        return results

    def _transaction(self, connection: sqlite3.Connection, operations: Sequence[Operation]) -> list[Any]:
        """Do all of it or nothing."""
        connection.execute("BEGIN IMMEDIATE")
        try:
            results = self._writer.apply(operations)
            connection.execute("COMMIT")
        except BaseException:
            self._writer.rolled_back()
            if connection.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
            raise
        return results

    def _clean_up(self, connection: sqlite3.Connection, operations: Sequence[Operation]) -> None:
        """Leave no trace in the write-ahead log of what was erased."""
        if any(type(operation) is Forget for operation in operations):
            self._clear_log(connection, patience=200)
        elif self._traces:
            self._clear_log(connection, patience=0)

    def _clear_log(self, connection: sqlite3.Connection, *, patience: int) -> None:
        """Empty the write-ahead log; after a later commit if somebody reads an older state just now."""
        self._traces = True
        with contextlib.suppress(sqlite3.Error):
            connection.execute(f"PRAGMA busy_timeout = {patience}")
            (busy, *_) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            self._traces = bool(busy)
        connection.execute(f"PRAGMA busy_timeout = {int(_BUSY_SECONDS * 1000)}")

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Reader]:
        """A connection of its own for each reader: what it sees does not change while it reads."""
        self._usable()
        reader = self._readers.get()
        try:
            with self._telling("read"):
                yield reader
        finally:
            self._readers.put(reader)

    def recover(self, after: int, limit: int) -> list[Stored]:
        with self._reading() as reader:
            return reader.recover(after, limit)

    def ended(self, seq: int) -> Ended | None:
        with self._reading() as reader:
            return reader.ended(seq)

    def undelivered(self, after: int, limit: int) -> list[Delivery]:
        with self._reading() as reader:
            return reader.undelivered(after, limit)

    def letters(self, limit: int) -> list[Letter]:
        with self._reading() as reader:
            return reader.letters(limit)

    def health(self) -> Health:
        size = sum(
            os.stat(path).st_size for path in (f"{self.path}", f"{self.path}-wal") if os.path.exists(path)
        )
        with self._reading() as reader:
            inbox, outbox, letters, conversations = reader.counts()
        return Health(
            kind=self.kind, durable=True, version=_schema.VERSION, inbox=inbox, outbox=outbox,
            letters=letters, conversations=conversations, bytes=size,
        )  # fmt: skip

    def conversation(self, key: str) -> Conversation | None:
        with self._reading() as reader:
            return reader.conversation(key)

    def conversations(
        self, *, user: str | None = None, tenant: str | None = None, status: str | None = None,
        stage: str | None = None, paused: bool | None = None, cursor: str | None = None, limit: int = 50,
    ) -> Page[Conversation]:  # fmt: skip
        with self._reading() as reader:
            return reader.conversations(user, tenant, status, stage, paused, cursor, limit)

    def history(
        self, key: str, *, before: int | None = None, after: int | None = None, limit: int = 50
    ) -> Page[Entry]:
        with self._reading() as reader:
            return reader.history(key, before, after, limit)

    def search(
        self, text: str, *, conversation: str | None = None, user: str | None = None,
        tenant: str | None = None, limit: int = 20, offset: int = 0,
    ) -> list[Hit]:  # fmt: skip
        with self._reading() as reader:
            return reader.search(text, conversation, user, tenant, limit, offset)

    def export(self, key: str | None) -> Iterator[dict[str, Any]]:
        # It may take long: a connection of its own, so that others do not wait for this one.
        self._usable()
        with self._telling("read"), contextlib.closing(self._connect(readonly=True)) as connection:
            yield from Reader(connection).export(key)

    def analytics(self, since: float, until: float) -> Analytics:
        with self._reading() as reader:
            return reader.analytics(since, until)

    # -- maintenance -----------------------------------------------------------------------------

    def check(self) -> list[str]:
        """What is wrong with the file, line by line; empty when nothing is. O(size of the file)."""
        with self._reading() as reader:
            rows = reader.connection.execute("PRAGMA integrity_check").fetchall()
        return [row[0] for row in rows if row[0] != "ok"]

    def vacuum(self) -> None:
        """Give unused space back to the file system, and leave no trace of what was erased. O(size of the
        file)."""
        connection = self._usable()
        with self._telling("vacuum"):
            connection.execute("INSERT INTO search (search) VALUES ('optimize')")
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def lengthen(path: str, size: int) -> None:
    """Fill a file up with zeros until it has so many bytes, and have them on the disk."""
    file = os.open(path, os.O_WRONLY | getattr(os, "O_BINARY", 0))
    try:
        missing = size - os.lseek(file, 0, os.SEEK_END)
        if missing > 0:
            os.write(file, bytes(missing))
            os.fsync(file)
    finally:
        os.close(file)


def _statements(script: str) -> list[str]:
    return [statement for statement in script.split(";\n") if statement.strip()]


def _advice(error: sqlite3.Error, name: str) -> str:
    remedies = {
        "SQLITE_FULL": "make room on the disk",
        "SQLITE_READONLY": "make the file and its folder writable",
        "SQLITE_CANTOPEN": "check the path and its permissions",
        "SQLITE_CORRUPT": "run 'ccm storage check', then restore a backup",
        "SQLITE_NOTADB": "this is no SQLite file; name another one",
        "SQLITE_BUSY": "another program holds it; stop that one",
        "SQLITE_IOERR": "the disk may be failing; restart once it is well, nothing accepted before is lost",
    }
    remedy = next((text for prefix, text in remedies.items() if name.startswith(prefix)), "see the cause")
    return f"{error}; {remedy}"


def _lock_file(descriptor: int) -> None:
    """Lock a file without waiting; OSError when another process has it."""
    if sys.platform == "win32":  # pragma: no cover
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
