"""The file of a SQLite storage: what is refused, who may use it, what happens when it goes away."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from ccm import StorageError
from ccm.storage import SqliteStorage, _schema
from ccm.testing._storage_kit import everything
from tests.storage.kit import accept, talk, texts

CHILD = """
import sys
from ccm.storage import SqliteStorage
storage = SqliteStorage(sys.argv[1])
storage.open()
print("open", flush=True)
sys.stdin.read()
"""


def opened(path: Path, *, owned: bool = True) -> SqliteStorage:
    storage = SqliteStorage(path, owned=owned)
    storage.open()
    return storage


def made(path: Path) -> Path:
    """A file with a conversation in it."""
    storage = opened(path)
    talk(storage)
    storage.close()
    return path


def read_all(path: Path) -> None:
    """Look at all there is, and whether it is sound."""
    storage = opened(path)
    try:
        everything(storage)
        wrong = storage.check()
    finally:
        storage.close()
    if wrong:
        raise StorageError(f"malformed: {wrong}")


def refused(path: Path, text: str) -> None:
    """It cannot be opened, says why, and holds nothing afterwards."""
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(StorageError, match=text):
        opened(path)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_newer_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = made(tmp_path / "chat.db")
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {_schema.VERSION + 1}")
    connection.close()
    before = path.read_bytes()
    refused(path, rf"has version {_schema.VERSION + 1} of the schema, .*; update ccm")
    assert path.read_bytes() == before


def test_the_database_of_another_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE mine (x)")
    connection.close()
    before = path.read_bytes()
    refused(path, "is no storage of ccm; name another file")
    assert path.read_bytes() == before
    assert sorted(name.name for name in tmp_path.iterdir()) == ["other.db", "other.db.lock"]


@pytest.mark.parametrize("content", [b"this is no database, but it is long enough" * 100, b"short"])
def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    refused(path, "file is not a database; this is no SQLite file; name another one")
    assert path.read_bytes() == content


def test_a_damaged_file_says_so_and_is_not_used_any_more(tmp_path: Path) -> None:
    path = made(tmp_path / "chat.db")
    content = bytearray(path.read_bytes())
    for page in range(1, len(content) // 4096):
        content[page * 4096 : page * 4096 + 200] = b"\xff" * 200
    path.write_bytes(content)
    with pytest.raises(StorageError, match=r"malformed|corrupt|'ccm storage check'"):
        read_all(path)


def test_a_cut_off_file_says_so(tmp_path: Path) -> None:
    path = made(tmp_path / "chat.db")
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 8192)
    with pytest.raises(StorageError, match="malformed"):
        read_all(path)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    refused(tmp_path, "unable to open database file; check the path and its permissions")


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    refused(tmp_path / "missing" / "chat.db", "the folder of the storage .* does not exist; make it first")


def test_a_second_process_is_refused_and_told_which_one_has_it(tmp_path: Path) -> None:
    path = made(tmp_path / "chat.db")
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == b"open\n"
        refused(path, f"is in use by process {child.pid}; stop that one, or name another file")
        beside = opened(path, owned=False)
        assert texts(beside) == ["hello", "hi"]
        beside.close()
    finally:
        child.kill()
        child.wait()
        child.stdin.close()
        child.stdout.close()
    opened(path).close()


def test_two_objects_of_one_process_do_not_share_a_file(tmp_path: Path) -> None:
    storage = opened(tmp_path / "chat.db")
    with pytest.raises(StorageError, match=f"is in use by process {os.getpid()}"):
        opened(tmp_path / "chat.db")
    with pytest.raises(StorageError, match="is open already"):
        storage.open()
    storage.close()


def test_a_file_that_was_deleted_is_noticed_and_stays_failed(tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    storage = opened(path)
    accept(storage)
    os.unlink(path)
    for _ in range(2):
        with pytest.raises(StorageError, match="was deleted or replaced while it was in use") as raised:
            accept(storage)
        assert not raised.value.unknown
    made(tmp_path / "other.db")
    shutil.copy(tmp_path / "other.db", path)
    with pytest.raises(StorageError, match="is not used any more"):
        accept(storage)
    with pytest.raises(StorageError, match="is not used any more"):
        storage.recover(0, 9)
    storage.close()


def test_migrations_are_done_once(tmp_path: Path) -> None:
    path = made(tmp_path / "chat.db")
    connection = sqlite3.connect(path)
    before = connection.execute("SELECT sql FROM sqlite_master ORDER BY name").fetchall()
    for _ in range(3):
        opened(path).close()
    assert connection.execute("SELECT sql FROM sqlite_master ORDER BY name").fetchall() == before
    assert connection.execute("PRAGMA user_version").fetchone() == (_schema.VERSION,)
    connection.close()


def test_a_migration_that_fails_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = made(tmp_path / "chat.db")
    broken = (*_schema.MIGRATIONS, "CREATE TABLE extra (x);\nCREATE TABLE inbox (x);\n")
    with monkeypatch.context() as patch:
        patch.setattr(_schema, "MIGRATIONS", broken)
        patch.setattr(_schema, "VERSION", len(broken))
        refused(path, "table inbox already exists")
    storage = opened(path)
    assert texts(storage) == ["hello", "hi"]
    storage.close()
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'extra'").fetchone() == (0,)
    connection.close()


def test_a_file_of_the_version_before_is_brought_up_to_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = made(tmp_path / "chat.db")
    monkeypatch.setattr(_schema, "MIGRATIONS", (*_schema.MIGRATIONS, "CREATE TABLE extra (x);\n"))
    monkeypatch.setattr(_schema, "VERSION", len(_schema.MIGRATIONS))
    for _ in range(2):
        storage = opened(path)
        assert texts(storage) == ["hello", "hi"]
        assert storage.health().version == _schema.VERSION
        storage.close()
