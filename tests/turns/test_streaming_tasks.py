"""A handler that speaks from several tasks: every reader gets one and the same text, each piece once."""

from __future__ import annotations

import trio
import trio.lowlevel
from hypothesis import given
from hypothesis import strategies as st

import ccm
from ccm import Turn
from ccm.storage import MemoryStorage
from ccm.testing import simulate
from tests.manager.kit import opened, say, simulated
from tests.turns.stream_kit import Reader


async def chatter(turn: Turn) -> None:
    """Three tasks that all speak, none waiting for another."""

    async def speak(name: str) -> None:
        for number in range(3):
            await turn.send(f"{name}{number} ")

    async with trio.open_nursery() as nursery:
        for name in "abc":
            nursery.start_soon(speak, name)


EVERY = sorted(f"{name}{number}" for name in "abc" for number in range(3))


@simulated
async def test_the_pieces_are_the_reply_whoever_says_them() -> None:
    async with opened(chatter) as manager:
        async with manager.stream(say()) as chunks:
            pieces = [text async for text in chunks]
        assert sorted("".join(pieces).split()) == EVERY
        assert pieces == [f"{piece} " for piece in "".join(pieces).split()]
        assert sorted((await manager.ask(say())).text.split()) == EVERY


@given(seed=st.integers(0, 2**32), pause=st.integers(0, 3), late=st.integers(0, 20))
def test_a_reader_that_comes_late_gets_each_piece_once(seed: int, pause: int, late: int) -> None:
    """The second message joins while the first one's reader is being given pieces."""
    texts: list[str] = []

    async def handler(turn: Turn) -> None:
        async def join() -> None:
            for _ in range(late):
                await trio.lowlevel.checkpoint()
            async for _ in turn.steered:
                pass

        async with trio.open_nursery() as nursery:
            nursery.start_soon(join)
            await chatter(turn)
            nursery.cancel_scope.cancel()

    async def read(manager: object, text: str) -> None:
        async with manager.stream(say(text)) as chunks:  # type: ignore[attr-defined]
            parts = []
            async for piece in chunks:
                parts.append(piece)
                for _ in range(pause):
                    await trio.lowlevel.checkpoint()
            texts.append("".join(parts))

    async def program() -> None:
        async with opened(handler, on_busy="steer", drain=1000) as manager, trio.open_nursery() as nursery:
            nursery.start_soon(read, manager, "first")
            await trio.lowlevel.checkpoint()
            nursery.start_soon(read, manager, "second")

    simulate(program, seed=seed)
    assert [sorted(text.split()) for text in texts] == [EVERY, EVERY]


@given(seed=st.integers(0, 2**32))
def test_what_was_said_before_the_reader_was_there_is_read_at_once(seed: int) -> None:
    """With a storage the turn may run before whoever handed the message in hears that it is durable."""
    readers = [Reader() for _ in range(3)]

    async def handler(turn: Turn) -> None:
        for piece in "abc":
            await turn.send(piece)
        await trio.sleep(10)
        await turn.send("d")

    async def program() -> None:
        async with ccm.open_manager(handler, storage=MemoryStorage()) as manager:
            for number, reader in enumerate(readers):
                await reader(manager, say(conversation=f"c{number}"))

    simulate(program, seed=seed)
    assert [reader.pieces for reader in readers] == [["a", "b", "c", "d"]] * 3
    assert [[time - reader.times[0] for time in reader.times] for reader in readers] == [[0, 0, 0, 10]] * 3
