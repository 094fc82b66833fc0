"""What durability costs, and how fast the history is: a real file, real fsync."""

from __future__ import annotations

import json
import sqlite3
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

import trio

import ccm
from ccm.storage import Accept, Archive, Said, Settle, SqliteStorage
from ccm.storage._codec import encode_message

from ._measure import Void

SENDERS = 500
TEXT = "a message of the length that messages have, about two hundred bytes with its keys around it; " * 2
CONFIG = ccm.Config(
    limit=50, queue_limit=10_000_000, conversation_limit=1_000_000, max_sessions=100_000, rate_limit=None,
    timeout=1e6, drain=0,
)  # fmt: skip
WORDS = ("order", "bicycle", "printer", "holiday", "invoice", "garden", "coffee", "window", "letter", "music")


async def _never(turn: ccm.Turn) -> None:
    await trio.sleep_forever()


async def _senders(n: int, storage: Path | None) -> float:
    each = max(1, n // SENDERS)
    load = [[ccm.Message(f"c{s}", f"u{s}", TEXT) for _ in range(each)] for s in range(SENDERS)]
    elapsed = 0.0
    with trio.CancelScope() as scope:
        async with ccm.open_manager(_never, config=CONFIG, storage=storage) as manager:

            async def send(messages: list[ccm.Message]) -> None:
                for message in messages:
                    await manager.submit(message)

            start = perf_counter()
            async with trio.open_nursery() as nursery:
                for messages in load:
                    nursery.start_soon(send, messages)
            elapsed = perf_counter() - start
            if manager.statistics().received != each * SENDERS:
                raise Void(f"{each * SENDERS} sent, {manager.statistics().received} received")
            scope.cancel()
    return each * SENDERS / elapsed


def durable(n: int) -> float:
    """Messages per second from 500 senders, each of which waits until one is on the disk."""
    with tempfile.TemporaryDirectory() as folder:
        return trio.run(_senders, n, Path(folder) / "bot.db")


def memory(n: int) -> float:
    """The same without a storage."""
    return trio.run(_senders, n, None)


def lone(n: int) -> float:
    """Median microseconds of one sender's `submit` with a storage."""

    async def program(path: Path) -> float:
        times = []
        with trio.CancelScope() as scope:
            async with ccm.open_manager(_never, config=CONFIG, storage=path) as manager:
                for number in range(n):
                    message = ccm.Message(f"c{number}", "u", TEXT)
                    start = perf_counter()
                    await manager.submit(message)
                    times.append(perf_counter() - start)
                scope.cancel()
        return statistics.median(times) * 1e6

    with tempfile.TemporaryDirectory() as folder:
        return trio.run(program, Path(folder) / "bot.db")


def _bare(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO t (body) VALUES (?)", (TEXT,))
    connection.execute("COMMIT")


@contextmanager
def _bare_file() -> Iterator[sqlite3.Connection]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bare.db"
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, body TEXT)")
        yield connection
        connection.close()


def bare(n: int) -> float:
    """Median microseconds of a transaction with one such row, and nothing around it."""
    times = []
    with _bare_file() as connection:
        for _ in range(n):
            start = perf_counter()
            _bare(connection)
            times.append(perf_counter() - start)
    return statistics.median(times) * 1e6


def bare_in_thread(n: int) -> float:
    """The same from a Trio program, which must not stand still meanwhile: there in a thread, and back."""

    async def program() -> float:
        times = []
        with _bare_file() as connection:
            for _ in range(n):
                start = perf_counter()
                await trio.to_thread.run_sync(_bare, connection)
                times.append(perf_counter() - start)
        return statistics.median(times) * 1e6

    return trio.run(program)


def _turns(storage: SqliteStorage, n: int) -> None:
    """`n` turns: a question of 62 characters and an answer of 124, in conversations of 20 turns."""
    question, answer = "when does the shop in the old town open on a sunday in winter?", "x" * 124
    for first in range(0, n, 500):
        numbers = range(first, min(n, first + 500))
        keys = {i: (f"channel-{i // 20}", f"user-{i // 20 % 1000}") for i in numbers}
        accepts = [
            Accept(
                conversation=keys[i][0], tenant="", user=keys[i][1], at=float(i),
                body=encode_message(ccm.Message(*keys[i], question), 0.0),
            )
            for i in numbers
        ]  # fmt: skip
        seqs = [result.seq for result in storage.commit(accepts)]
        storage.commit(
            [
                Settle(
                    seq=seq, conversation=keys[i][0], tenant="", user=keys[i][1], route="chat",
                    outcome="replied", accepted=float(i), ended=i + 1.0, attempts=1, message_id=f"{i:036}",
                    detail=json.dumps({"text": answer, "turn_id": seq}), waited=0.01, served=1.0,
                    said=(Said(role="user", user=keys[i][1], text=question, message_id=f"{i:036}"),
                          Said(role="assistant", text=answer)),
                )
                for seq, i in zip(seqs, numbers, strict=True)
            ]
        )  # fmt: skip


def _bytes_a_turn(n: int, *, archived: bool) -> float:
    with tempfile.TemporaryDirectory() as folder:
        storage = SqliteStorage(Path(folder) / "bot.db")
        storage.open()
        _turns(storage, n)
        while archived and storage.commit([Archive(None, before=n + 2.0, at=n + 3.0)])[0]:
            pass
        if archived:
            storage.vacuum()
        storage.close()  # which moves all of the write-ahead log into the file
        return storage.path.stat().st_size / n


def file_size(n: int) -> float:
    """Bytes of the file for a turn with 186 characters of text, search index and statistics included."""
    return _bytes_a_turn(n, archived=False)


def file_size_archived(n: int) -> float:
    """The same after all conversations were archived, and the file vacuumed."""
    return _bytes_a_turn(n, archived=True)


def _filled(folder: str, n: int) -> SqliteStorage:
    """A file with `n` utterances in 1,000 conversations."""
    storage = SqliteStorage(Path(folder) / "bot.db")
    storage.open()
    connection = sqlite3.connect(storage.path, isolation_level=None)
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("BEGIN")
    connection.executemany(
        "INSERT INTO conversations (id, key, tenant, channel, created, updated) VALUES (?, ?, '', '', 0, ?)",
        ((number + 1, f"c{number}", float(number)) for number in range(1000)),
    )
    connection.executemany(
        "INSERT INTO entries (conversation, turn, role, user, text, at, message_id, partial, handled, kind,"
        " data) VALUES (?, ?, 'user', ?, ?, ?, '', 0, 1, '', '{}')",
        (
            (
                i % 1000 + 1,
                i + 1,
                f"u{i % 5000}",
                f"{WORDS[i % 10]} {WORDS[i // 10 % 10]} rare{i % 50_000}",
                float(i),
            )
            for i in range(n)
        ),
    )
    connection.execute("INSERT INTO search (rowid, text) SELECT id, text FROM entries")
    connection.execute("COMMIT")
    connection.close()
    return storage


def _timed(n: int, question: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        storage = _filled(folder, n)
        times = []
        for number in range(60):
            start = perf_counter()
            if question == "history":
                storage.history(f"c{number}", before=n - 20_000 + number, limit=50)
            elif question == "rare":
                storage.search(f"rare{number * 7}")
            else:
                storage.search(f"{WORDS[number % 10]} {WORDS[number // 10]}")
            times.append(perf_counter() - start)
        storage.close()
    return statistics.median(times[10:]) * 1e3


def history(n: int) -> float:
    """Median milliseconds of a page of 50 lines."""
    return _timed(n, "history")


def search_rare(n: int) -> float:
    """Median milliseconds of a search for a word that few lines have."""
    return _timed(n, "rare")


def search_common(n: int) -> float:
    """Median milliseconds of a search for two words that every tenth line has."""
    return _timed(n, "common")
