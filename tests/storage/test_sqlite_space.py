"""Space: full disks, bounds of what is remembered, archives and vacuum, long and odd texts."""

from __future__ import annotations

import errno
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccm import StorageError
from ccm.storage import (
    Accept,
    Accepted,
    Archive,
    Letter,
    Repeated,
    SqliteStorage,
    _shared,
    _sqlite,
    _sqlite_write,
)
from tests.storage.kit import accept, body, found, keys, talk, texts

FULL = """
import resource, signal, sys
from ccm import StorageError
from ccm.storage import SqliteStorage
from tests.storage.kit import accept

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
storage = SqliteStorage(sys.argv[1])
storage.open()
accept(storage)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
last, error = 1, None
while error is None and last < 10_000:
    try:
        last = accept(storage, text="x" * 5000)
    except StorageError as refused:
        error = refused
print(last, error.unknown, error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
try:
    accept(storage)
    print("goes on")
except StorageError as refused:
    print(refused)
storage.close()
storage.open()
print(len(storage.recover(0, 100_000)), accept(storage), storage.check())
storage.close()
"""


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[SqliteStorage]:
    storage = SqliteStorage(tmp_path / "chat.db")
    storage.open()
    yield storage
    storage.close()


def test_a_write_that_the_system_refuses(tmp_path: Path) -> None:
    """It is final for the object; nothing accepted is lost, and a new start goes on."""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path / "chat.db")], cwd=root, capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, second, third = done.stdout.splitlines()
    last, unknown, error = first.split(" ", 2)
    assert int(last) > 10
    assert unknown == "True"
    assert "cannot write to the storage" in error
    assert "the disk may be failing" in error
    assert "is not used any more" in second
    kept, number, wrong = third.split(" ", 2)
    # What nobody could tell may be there as well.
    assert int(kept) in (int(last), int(last) + 1)
    assert int(number) == int(kept) + 1
    assert wrong == "[]"


def as_a_crash_leaves_it(storage: SqliteStorage, folder: Path) -> Path:
    """A copy of file and log, without what closing them does."""
    folder.mkdir()
    for name in (storage.path.name, f"{storage.path.name}-wal"):
        shutil.copy(storage.path.with_name(name), folder)
    return folder / storage.path.name


def test_the_log_has_its_length_before_it_is_needed(storage: SqliteStorage, tmp_path: Path) -> None:
    log = Path(f"{storage.path}-wal")
    assert log.stat().st_size == _sqlite._LOG
    for number in range(100):
        accept(storage, text=f"text {number}")
    assert log.stat().st_size == _sqlite._LOG
    copy = SqliteStorage(as_a_crash_leaves_it(storage, tmp_path / "after"))
    copy.open()
    assert len(copy.recover(0, 1000)) == 100
    assert copy.check() == []
    copy.close()


def test_what_a_short_log_holds_is_kept_when_it_is_lengthened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(_sqlite, "_LOG", 0)
        storage = SqliteStorage(tmp_path / "chat.db")
        storage.open()
        for number in range(20):
            accept(storage, text=f"text {number}")
        copied = as_a_crash_leaves_it(storage, tmp_path / "after")
        storage.close()
    copy = SqliteStorage(copied)
    copy.open()
    assert len(copy.recover(0, 1000)) == 20
    accept(copy)
    again = SqliteStorage(as_a_crash_leaves_it(copy, tmp_path / "later"))
    copy.close()
    again.open()
    assert len(again.recover(0, 1000)) == 21
    assert again.check() == []
    again.close()


def test_without_room_for_a_long_log_it_is_used_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(_sqlite, "lengthen", refuse)
    storage = SqliteStorage(tmp_path / "chat.db")
    storage.open()
    assert accept(storage) == 1
    storage.close()


def test_a_disk_that_fails_while_the_log_is_lengthened_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str, size: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(_sqlite, "lengthen", refuse)
        storage = SqliteStorage(tmp_path / "chat.db")
        with pytest.raises(StorageError, match=r"cannot open .*chat.db: .*Input/output error; look after"):
            storage.open()
    storage.open()  # it was closed, and is not locked
    storage.close()


def test_a_full_disk_is_told_and_it_goes_on_once_there_is_room(storage: SqliteStorage) -> None:
    connection = storage._connection
    assert connection is not None
    seq = accept(storage)
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages + 4}")
    error = None
    while error is None:
        try:
            seq = accept(storage, text="x" * 5000)
        except StorageError as refused:
            error = refused
    assert "full; make room on the disk" in str(error)
    assert not error.unknown
    assert len(storage.recover(0, 1000)) == seq
    connection.execute("PRAGMA max_page_count = 1000000")
    assert accept(storage, text="x" * 5000) == seq + 1
    assert len(storage.recover(0, 1000)) == seq + 1


def test_long_and_odd_texts(storage: SqliteStorage) -> None:
    long = ("wörter ohne Ende " * 3000)[:32768]
    talk(storage, text=long, answer="half \ud83d here", conversation="odd")
    talk(storage, text="before\0after", answer="\ud800\ud800", conversation="odd")
    assert texts(storage, "odd") == [long, "half \ufffd here", "before\ufffdafter", "\ufffd\ufffd"]
    assert found(storage, "after") == ["before\ufffdafter"]
    assert found(storage, "half \udfff here") == ["half \ufffd here"]
    storage.commit([Archive("odd", 0.0, 300.0)])
    assert texts(storage, "odd")[0] == long
    assert storage.check() == []


def test_archives_take_little_space_and_vacuum_gives_it_back(storage: SqliteStorage) -> None:
    rng = random.Random(1)
    vocabulary = ["".join(rng.choices("abcdefghij", k=6)) for _ in range(500)]
    for number in range(1500):
        talk(storage, text=" ".join(rng.choices(vocabulary, k=30)), conversation=f"c{number % 20}")
    storage.vacuum()
    before = storage.health().bytes
    everything = [texts(storage, f"c{n}") for n in range(20)]
    assert storage.commit([Archive(None, 1e9, 1e9)]) == [20]
    assert found(storage, vocabulary[0]) == []
    storage.vacuum()
    assert storage.health().bytes < 0.5 * before
    assert [texts(storage, f"c{n}") for n in range(20)] == everything
    assert keys(storage, status="open") == []
    assert storage.check() == []


def test_letters_are_bounded(storage: SqliteStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_sqlite_write, "MAX_LETTERS", 10)
    for number in range(1, 31):
        talk(storage, letter=number)
    assert [letter.id for letter in storage.letters(100)] == list(range(21, 31))
    assert all(isinstance(letter, Letter) and letter.error == "oops" for letter in storage.letters(100))
    assert _shared.MAX_LETTERS == 100_000


def remembered(storage: SqliteStorage) -> int:
    assert storage._connection is not None
    (count,) = storage._connection.execute("SELECT count(*) FROM seen").fetchone()
    return int(count)


def test_an_id_costs_the_same_however_many_are_remembered(storage: SqliteStorage) -> None:
    """Counted in steps of SQLite's machine, one of which counts all rows of a table."""
    statements: list[str] = []

    def hand_in(*numbers: int) -> int:
        steps = 0

        def step() -> int:
            nonlocal steps
            steps += 1
            return 0

        assert storage._connection is not None
        storage._connection.set_progress_handler(step, 1)
        statements.clear()
        storage._connection.set_trace_callback(statements.append)
        storage.accept(
            [Accept(conversation="c", tenant="t", user="ada", body="{}", at=1e9, message_id=f"m{number}")
             for number in numbers]
        )  # fmt: skip
        storage._connection.set_progress_handler(None, 1)
        storage._connection.set_trace_callback(None)
        return steps

    hand_in(0)
    few = hand_in(1)
    hand_in(*range(2, 5000))
    assert remembered(storage) == 5000
    assert hand_in(5000) <= 1.2 * few
    assert statements
    assert not [statement for statement in statements if "count(" in statement]


def test_many_ids_at_once_are_bounded_as_well(
    storage: SqliteStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_sqlite_write, "MAX_SEEN", 50)
    monkeypatch.setattr(_sqlite_write, "PRUNED", 10)
    for first in range(0, 300, 30):
        storage.accept(
            [Accept(conversation="c", tenant="t", user="ada", body="{}", at=1e9, message_id=f"m{number}")
             for number in range(first, first + 30)]
        )  # fmt: skip
        assert remembered(storage) < 60


def test_remembered_ids_are_bounded_and_the_oldest_go_first(
    storage: SqliteStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_sqlite_write, "MAX_SEEN", 50)
    monkeypatch.setattr(_sqlite_write, "PRUNED", 10)

    def handed_in(number: int) -> Accepted | Repeated:
        (result,) = storage.accept(
            [Accept(conversation="c", tenant="t", user="ada", body=body("ada", "x"), at=100.0 + number,
                    message_id=f"m{number}")]
        )  # fmt: skip
        return result

    for number in range(200):
        assert isinstance(handed_in(number), Accepted)
    assert 50 <= remembered(storage) < 60
    assert isinstance(handed_in(199), Repeated)
    assert isinstance(handed_in(151), Repeated)
    assert isinstance(handed_in(100), Accepted)
