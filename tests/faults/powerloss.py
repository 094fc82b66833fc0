"""Cuts the power at every disk operation of SQLite: `python -m tests.faults.powerloss --cuts 100000`.

The disk is a VFS in memory that notes each operation. What was not synced when the power went may be there or
not, sector by sector, as a disk's cache does it. After each cut the file is opened again: everything that
`commit` had returned from must be there, and the file must be sound.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import apsw

from ccm.storage import Accept, Accepted, Attempted, Delivered, Delivery, Letter, Said, Settle, SqliteStorage
from ccm.storage import _sqlite as module

LOG = 32 + 40 * (24 + 4096)
"""Bytes of the write-ahead log at the beginning: it is overwritten at first, then starts anew, or grows."""
SECTOR = 512
CHECKED = 50
"""Every so many cuts the whole file is checked, which takes longer than all else."""


@dataclass
class Image:
    """One file: what is on the platter, what programs see, and which sectors differ in what ways."""

    synced: bytes = b""
    current: bytearray = field(default_factory=bytearray)
    versions: dict[int, list[bytes]] = field(default_factory=dict)

    def write(self, data: bytes, offset: int) -> None:
        end = offset + len(data)
        if len(self.current) < end:
            self.current.extend(bytes(end - len(self.current)))
        self.current[offset:end] = data
        for sector in range(offset // SECTOR, (end - 1) // SECTOR + 1):
            seen = bytes(self.current[sector * SECTOR : (sector + 1) * SECTOR])
            self.versions.setdefault(sector, []).append(seen)

    def sync(self) -> None:
        self.synced = bytes(self.current)
        self.versions = {}

    def truncate(self, size: int) -> None:
        del self.current[size:]

    def copy(self) -> Image:
        return Image(self.synced, bytearray(self.current), {n: list(v) for n, v in self.versions.items()})

    def after_cut(self, draw: random.Random) -> bytes:
        """What a cut leaves: of each sector that was not synced, one of its contents."""
        size = draw.choice((len(self.synced), len(self.current)))
        left = bytearray(self.synced[:size].ljust(size, b"\0"))
        mood = draw.random()
        for sector, versions in self.versions.items():
            start = sector * SECTOR
            if start < size and draw.random() < mood:
                content = draw.choice(versions)[: size - start]
                left[start : start + len(content)] = content
        return bytes(left)


class Disk(apsw.VFS):
    """Files in memory; `watch` is called before each operation that changes something."""

    def __init__(self, name: str) -> None:
        self.vfs_name = name
        self.files: dict[str, Image] = {}
        self.watch: Any = lambda: None
        super().__init__(name, "")

    def xOpen(self, name: Any, flags: list[int]) -> Any:
        key = name.filename() if isinstance(name, apsw.URIFilename) else name or f"temp-{len(self.files)}"
        flags[1] = flags[0]
        return OpenFile(self, self.files.setdefault(key, Image()))

    def xAccess(self, path: str, flags: int) -> bool:
        return path in self.files

    def xDelete(self, path: str, sync: bool) -> None:
        self.watch()
        self.files.pop(path, None)

    def xFullPathname(self, path: str) -> str:
        return path


class OpenFile:
    """An open file of the disk."""

    def __init__(self, disk: Disk, image: Image) -> None:
        self.disk = disk
        self.image = image

    def xRead(self, amount: int, offset: int) -> bytes:
        return bytes(self.image.current[offset : offset + amount])

    def xWrite(self, data: bytes, offset: int) -> None:
        self.disk.watch()
        self.image.write(bytes(data), offset)

    def xTruncate(self, size: int) -> None:
        self.disk.watch()
        self.image.truncate(size)

    def xSync(self, flags: int) -> None:
        self.disk.watch()
        self.image.sync()

    def xFileSize(self) -> int:
        return len(self.image.current)

    def xLock(self, level: int) -> None:
        pass

    def xUnlock(self, level: int) -> None:
        pass

    def xCheckReservedLock(self) -> bool:
        return False

    def xFileControl(self, op: int, pointer: int) -> bool:
        return False

    def xSectorSize(self) -> int:
        return SECTOR

    def xDeviceCharacteristics(self) -> int:
        return 0

    def xClose(self) -> None:
        pass


class Rows:
    """What the storage expects of a cursor."""

    def __init__(self, cursor: Any, changes: int) -> None:
        self._cursor = cursor
        self.rowcount = changes

    def __iter__(self) -> Iterator[Any]:
        return iter(self._cursor)

    def fetchone(self) -> Any:
        return next(iter(self._cursor), None)

    def fetchall(self) -> list[Any]:
        return list(self._cursor)


class Connection:
    """What the storage expects of `sqlite3`, on a file of the disk."""

    def __init__(self, disk: Disk, path: str) -> None:
        self._connection = apsw.Connection(path, vfs=disk.vfs_name)
        # Without shared memory, which the disk does not have, only one connection can use a WAL.
        self.execute("PRAGMA locking_mode = EXCLUSIVE")
        self.execute("PRAGMA wal_autocheckpoint = 30")

    @property
    def in_transaction(self) -> bool:
        return bool(self._connection.in_transaction)

    def execute(self, statement: str, arguments: Sequence[Any] = ()) -> Rows:
        cursor = self._connection.execute(statement, tuple(arguments))
        return Rows(cursor, self._connection.changes())

    def close(self) -> None:
        self._connection.close()


@dataclass
class Moment:
    """The disk right before an operation, and what had been promised by then."""

    files: dict[str, Image]
    accepted: frozenset[int]
    settled: dict[int, str]
    delivered: frozenset[int]
    leaving: frozenset[int]


def record(path: Path, draw: random.Random, commits: int) -> list[Moment]:
    """Run a storage once; every moment at which the power might go."""
    disk = Disk("ccm-power")
    shim = SimpleNamespace(
        connect=lambda path, **_: Connection(disk, str(path)), Error=apsw.Error, Connection=apsw.Connection
    )
    moments: list[Moment] = []
    accepted: set[int] = set()
    settled: dict[int, str] = {}
    delivered: set[int] = set()
    leaving: set[int] = set()

    def watch() -> None:
        files = {name: image.copy() for name, image in disk.files.items()}
        moments.append(
            Moment(files, frozenset(accepted), dict(settled), frozenset(delivered), frozenset(leaving))
        )

    def lengthen(log: str, size: int) -> None:
        image = disk.files[log]
        image.write(bytes(LOG - len(image.current)), len(image.current))
        image.sync()

    path.touch()
    with (
        mock.patch.object(module, "sqlite3", shim),
        mock.patch.object(module, "_READERS", 0),
        mock.patch.object(module, "lengthen", lengthen),
    ):
        storage = SqliteStorage(path)
        storage.open()
        disk.watch = watch
        for number in range(commits):
            operations: list[Any] = [_message(draw, number, place) for place in range(draw.randint(0, 4))]
            waiting = sorted(accepted - set(settled))
            ends = draw.sample(waiting, min(len(waiting), draw.randint(0, 4)))
            operations += [_end(draw, seq) for seq in ends]
            sent = [seq for seq in settled if seq not in delivered and draw.random() < 0.3]
            operations += [Delivered(seq) for seq in sent]
            operations += [Attempted(seq) for seq in waiting if draw.random() < 0.1]
            leaving.clear()
            leaving.update(sent)
            results = storage.commit(operations)
            # Only now, when commit has returned, it has been promised.
            accepted.update(result.seq for result in results if isinstance(result, Accepted))
            settled.update((op.seq, op.outcome) for op in operations if isinstance(op, Settle))
            delivered.update(sent)
            leaving.clear()
        watch()
        storage.close()
    disk.unregister()
    return moments


def _message(draw: random.Random, number: int, place: int) -> Accept:
    return Accept(
        conversation=f"c{draw.randrange(5)}", tenant="", user=f"u{draw.randrange(5)}",
        body='{"text": "' + "x" * draw.randrange(600) + '"}', at=float(number),
        message_id=f"{number}.{place}" if draw.random() < 0.5 else "",
    )  # fmt: skip


def _end(draw: random.Random, seq: int) -> Settle:
    outcome = draw.choice(("replied", "replied", "failed", "expired"))
    key = f"c{draw.randrange(5)}"
    said = (Said(role="user", user="u", text="hello " * draw.randrange(50)),)
    return Settle(
        seq=seq, conversation=key, tenant="", user="u", route="chat", outcome=outcome, accepted=1.0,
        ended=2.0, said=said,
        delivery=Delivery(seq=seq, conversation=key, body="{}", text="re") if outcome == "replied" else None,
        letter=Letter(id=seq, body="{}", route="chat", attempts=1, error="e", at=2.0)
        if outcome == "failed" else None,
    )  # fmt: skip


def judge(moment: Moment, draw: random.Random, path: str, thorough: bool) -> list[str]:
    """Cut the power at this moment, open the file again, and compare it with what was promised."""
    disk = Disk("ccm-after")
    for name, image in moment.files.items():
        left = image.after_cut(draw)
        disk.files[name] = Image(left, bytearray(left))
    found = []
    try:
        connection = Connection(disk, path)
        inbox = {seq for (seq,) in connection.execute("SELECT seq FROM inbox")}
        turns: dict[int, str] = dict(connection.execute("SELECT seq, outcome FROM turns").fetchall())
        outbox = {seq for (seq,) in connection.execute("SELECT seq FROM outbox")}
        letters = {id for (id,) in connection.execute("SELECT id FROM letters")}
        if lost := moment.accepted - inbox - set(turns):
            found.append(f"accepted and lost: {sorted(lost)}")
        for seq, outcome in moment.settled.items():
            if turns.get(seq) != outcome or seq in inbox:
                found.append(f"{seq} was settled as {outcome}, the file has {turns.get(seq)}")
        for seq, outcome in turns.items():
            if seq in inbox:
                found.append(f"{seq} has an outcome and waits for one")
            gone = outbox | moment.delivered | moment.leaving
            if outcome == "replied" and seq in moment.settled and seq not in gone:
                found.append(f"the reply of {seq} is lost")
            if outcome == "failed" and seq not in letters:
                found.append(f"the dead letter of {seq} is lost")
        if again := outbox & moment.delivered:
            found.append(f"delivered and still in the outbox: {sorted(again)}")
        if thorough and (wrong := connection.execute("PRAGMA integrity_check").fetchall()) != [("ok",)]:
            found.append(f"corrupt: {wrong}")
        connection.close()
    except apsw.Error as error:
        found.append(f"cannot be opened: {error!r}")
    disk.unregister()
    return found


def power_cuts(path: Path, cuts: int, seed: int = 0, progress: bool = False) -> tuple[int, int, list[str]]:
    """So many cuts, spread over all operations of some runs; operations, cuts, what was found."""
    draw, done, operations = random.Random(seed), 0, 0
    while done < cuts:
        moments = record(path, draw, commits=25)
        path.unlink()
        operations += len(moments)
        for number, moment in enumerate(moments):
            for _ in range(4):
                done += 1
                found = judge(moment, draw, str(path), done % CHECKED == 0)
                if found:
                    return operations, done, [f"operation {number}: {what}" for what in found]
        if progress:
            print(f"\r{done}/{cuts} cuts", end="", file=sys.stderr)
    return operations, done, []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cuts", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        operations, cuts, found = power_cuts(
            Path(folder) / "bot.db", arguments.cuts, arguments.seed, sys.stderr.isatty()
        )
    seconds = time.monotonic() - began
    print(f"{cuts} cuts at {operations} disk operations in {seconds:.0f} s (seed {arguments.seed})")
    for what in found:
        print("FOUND:", what)
    print("nothing lost, nothing corrupt" if not found else f"{len(found)} found")
    return bool(found)


if __name__ == "__main__":
    raise SystemExit(main())
