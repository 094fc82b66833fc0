"""The thread that writes, beside a program that goes on: a real file, real threads, senders that leave."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

import ccm
from ccm import Config, Message, StorageError, Turn
from ccm._journal import Journal
from ccm.storage import Accept, Accepted, Operation, SqliteStorage
from ccm.testing import CancelAt
from tests.faults.disk import Disk

CONFIG = Config(rate_limit=None, drain=0, conversation_limit=10_000, queue_limit=10_000, debug=True)


async def never(turn: Turn) -> None:
    await trio.sleep_forever()


def slow_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> SqliteStorage:
    """It takes its time, so that some have left before they are written, however busy the machine is."""
    disk = SqliteStorage(path)
    commit = disk.commit

    def slowly(operations: Sequence[Operation]) -> list[Any]:
        time.sleep(0.002)
        return commit(operations)

    monkeypatch.setattr(disk, "commit", slowly)
    return disk


@pytest.mark.parametrize("seed", range(6))
def test_senders_that_leave_while_others_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Whoever has a receipt is in the file, in the order of the numbers; nobody else is."""
    draw, told = random.Random(seed), dict[str, int]()

    async def send(manager: ccm.ConversationManager, number: int, patience: int) -> None:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:

                async def leave() -> None:
                    for _ in range(patience):
                        await trio.lowlevel.checkpoint()
                    scope.cancel()

                nursery.start_soon(leave)
                receipt = await manager.submit(Message(f"c{number % 7}", "u", f"text {number}"))
                told[f"text {number}"] = receipt.turn_id
                nursery.cancel_scope.cancel()

    async def program() -> None:
        with trio.fail_after(60):
            disk = slow_disk(tmp_path / "bot.db", monkeypatch)
            async with ccm.open_manager(never, config=CONFIG, storage=disk) as manager:
                async with trio.open_nursery() as nursery:
                    for number in range(300):
                        nursery.start_soon(send, manager, number, draw.choice((0, 1, 2, 5, 50, 100_000)))
                        if number % 40 == 0:
                            await trio.sleep(draw.choice((0, 0.001, 0.004)))
                assert manager.statistics().received == len(told)

    trio.run(program)
    storage = SqliteStorage(tmp_path / "bot.db")
    storage.open()
    found = storage.recover(0, 1000)
    storage.close()
    assert {stored.seq for stored in found} == set(told.values())
    assert all(f'"{text}"' in next(s.body for s in found if s.seq == seq) for text, seq in told.items())
    assert 0 < len(told) < 300


def test_a_message_that_comes_as_the_writer_leaves(tmp_path: Path) -> None:
    """The thread has found nothing more to write, but nobody knows yet that it has ended."""

    async def program() -> None:
        async with (
            ccm.open_manager(never, config=CONFIG, storage=tmp_path / "bot.db") as manager,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(manager.submit, Message("c", "u", "first"))
            await trio.testing.wait_all_tasks_blocked()
            # Holds Trio's thread until the other one is through, so its news cannot be heard before the next
            # message is there.
            time.sleep(0.2)  # noqa: ASYNC251
            with trio.fail_after(20):
                await manager.submit(Message("c", "u", "second"))
            assert manager.statistics().received == 2

    trio.run(program)


class Broken(Disk):
    """Blocks like a file, and its code has a bug."""

    blocking = True

    def __init__(self) -> None:
        super().__init__("broken")
        self.bug = False

    def commit(self, operations: Sequence[Operation]) -> list[Any]:
        if self.bug:
            raise ZeroDivisionError("a bug in a storage")
        return super().commit(operations)


def test_a_bug_in_a_storage_ends_the_manager_and_every_sender_is_told() -> None:
    storage, told = Broken(), list[StorageError]()

    async def program() -> None:
        async with ccm.open_manager(never, config=CONFIG, storage=storage) as manager:
            await manager.submit(Message("c", "u", "before"))
            storage.bug = True

            async def sender() -> None:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + 20):
                    try:
                        await manager.submit(Message("c", "u", "text"))
                    except StorageError as error:
                        told.append(error)

            async with trio.open_nursery() as nursery:
                for _ in range(20):
                    nursery.start_soon(sender)

    with pytest.raises(ZeroDivisionError):
        trio.run(program)
    assert len(told) == 20
    assert all(error.unknown for error in told)
    assert not writers()


def writers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "ccm storage"]


@pytest.mark.parametrize("cut", [False, True])
def test_the_thread_that_writes_ends_with_the_manager(tmp_path: Path, cut: bool) -> None:
    """Also when the block is cut off while it writes."""

    async def program() -> None:
        with trio.CancelScope() as scope:
            async with ccm.open_manager(never, config=CONFIG, storage=tmp_path / "bot.db") as manager:
                assert len(writers()) == 1
                await manager.submit(Message("c", "u", "text"))
                if cut:
                    async with trio.open_nursery() as nursery:
                        for number in range(50):
                            nursery.start_soon(manager.submit, Message("c", "u", str(number)))
                        await trio.testing.wait_all_tasks_blocked()
                        scope.cancel()

    trio.run(program)
    assert not writers()


@pytest.mark.parametrize("closing", [False, True])
def test_news_keep_their_order_and_an_error_in_one_does_not_hide_the_others(closing: bool) -> None:
    """The program is busy while several batches are written, and hears of them together."""
    told, journal = list[int](), Journal(Broken(), time.perf_counter)

    def fail() -> None:
        raise ZeroDivisionError("a bug in what follows from a commit")

    async def program() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(journal.run)
            await trio.testing.wait_all_tasks_blocked()
            for news in (lambda: told.append(1), fail, lambda: told.append(2), lambda: told.append(3)):
                journal._tell(news)
            if closing:
                journal.close()

    with pytest.RaisesGroup(ZeroDivisionError):
        trio.run(program)
    assert told == [1, 2, 3]
    assert not writers()


def test_another_program_puts_messages_in_between(tmp_path: Path) -> None:
    """Numbers are counted in memory, but what somebody else has written counts."""
    ours, theirs = SqliteStorage(tmp_path / "bot.db"), SqliteStorage(tmp_path / "bot.db", owned=False)
    ours.open()
    theirs.open()
    seqs = []
    for number in range(12):
        storage = theirs if number in (3, 7, 8) else ours
        accept = Accept(conversation="c", tenant="", user="u", body='{"text": "x"}', at=1.0)
        for result in storage.commit([accept] * (number % 3 + 1)):
            assert isinstance(result, Accepted)
            seqs.append(result.seq)
    assert seqs == [*range(1, len(seqs) + 1)]
    assert [stored.seq for stored in ours.recover(0, 100)] == seqs
    ours.close()
    theirs.close()


def test_handlers_see_the_context_in_which_the_manager_was_opened(tmp_path: Path) -> None:
    place: ContextVar[str] = ContextVar("place")
    seen = []

    async def look(turn: Turn) -> None:
        seen.append(place.get("nowhere"))

    async def program() -> None:
        place.set("here")
        async with ccm.open_manager(look, config=CONFIG, storage=tmp_path / "bot.db") as manager:
            await manager.ask(Message("c", "u", "text"))

    trio.run(program)
    assert seen == ["here"]


def test_closing_in_the_middle_of_it_loses_nothing(tmp_path: Path) -> None:
    """The block is left, by cancellation at one step after another, while messages are being written."""
    for step in range(1, 40, 3):
        path, receipts = tmp_path / f"{step}.db", list[int]()

        async def program(step: int = step, path: Path = path, receipts: list[int] = receipts) -> None:
            async def send(manager: ccm.ConversationManager, number: int) -> None:
                receipts.append((await manager.submit(Message("c", "u", str(number)))).turn_id)

            async def body() -> None:
                async with (
                    ccm.open_manager(never, config=CONFIG, storage=path) as manager,
                    trio.open_nursery() as nursery,
                ):
                    for number in range(30):
                        nursery.start_soon(send, manager, number)

            with trio.move_on_after(20) as scope, CancelAt(step, scope):
                await body()

        trio.run(program)
        storage = SqliteStorage(path)
        storage.open()
        assert {stored.seq for stored in storage.recover(0, 100)} >= set(receipts), step
        storage.close()
