"""What an earlier process answered can be taken back, if it is said where that was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import trio

import ccm
from ccm import Change, Config, Message, OnBusy, Router, Turn
from ccm import events as told
from ccm.storage import MemoryStorage, Storage

pytestmark = pytest.mark.trio
CONFIG = Config(rate_limit=None, debug=True)
KINDS: dict[str, Callable[[Path], Storage | Path]] = {
    "memory": lambda folder: MemoryStorage(), "sqlite": lambda folder: folder / "a.db",
}  # fmt: skip


async def remember(turn: Turn) -> str:
    """What the handler knows of the conversation."""
    return " ".join(entry.text for entry in await turn.history() if entry.role == "user")


def say(text: str) -> Message:
    return Message("c", "u", text, id=text)


async def lines(manager: ccm.ConversationManager) -> list[str]:
    found = (await manager.conversations.history("c")).items
    return [line.text for line in found if line.role == "user"]


@pytest.mark.parametrize("kind", KINDS)
async def test_it_goes_out_of_the_history_and_front_ends_are_told(kind: str, tmp_path: Path) -> None:
    storage = KINDS[kind](tmp_path)
    async with ccm.open_manager(remember, config=CONFIG, storage=storage) as manager:
        for text in ("a", "b", "c"):
            await manager.ask(say(text))
    async with (
        ccm.open_manager(remember, config=CONFIG, storage=storage) as manager,
        manager.events() as stream,
    ):
        assert (await manager.ask(say("d"))).text == "a b c d"  # the session is live, and knows it
        assert await manager.retract("b") is Change.UNKNOWN
        assert await manager.retract("b", conversation="elsewhere") is Change.UNKNOWN
        assert await manager.retract("b", conversation="c") is Change.RETRACTED
        assert await manager.retract("b", conversation="c") is Change.UNKNOWN
        assert (await manager.ask(say("e"))).text == "a c d e"
        assert await lines(manager) == ["a", "c", "d", "e"]
        with trio.fail_after(5):
            while not isinstance(event := await anext(stream), told.Retracted):
                continue
        assert (event.message_id, event.conversation) == ("b", "c")
        assert event.turn_id > 0


@pytest.mark.parametrize("kind", KINDS)
async def test_a_turn_of_several_messages_stays_without_the_one(kind: str, tmp_path: Path) -> None:
    storage = KINDS[kind](tmp_path)
    router = Router()
    router.route("chat", busy=OnBusy.MERGE, settle=0.05)(remember)
    async with ccm.open_manager(router, config=CONFIG, storage=storage) as manager:
        for text in ("a", "b"):
            await manager.submit(say(text))
        await manager.wait_idle()
        assert await lines(manager) == ["a", "b"]
    async with ccm.open_manager(router, config=CONFIG, storage=storage) as manager:
        assert await manager.retract("a", conversation="c") is Change.WITHDRAWN
        assert await lines(manager) == ["b"]
        assert await manager.retract("b", conversation="c") is Change.RETRACTED  # the last one takes it along
        assert not (await manager.conversations.history("c")).items


async def test_what_was_not_answered_has_ended(tmp_path: Path) -> None:
    async def fail(turn: Turn) -> str:
        raise ccm.Permanent("no")

    storage = tmp_path / "a.db"
    async with ccm.open_manager(fail, config=CONFIG, storage=storage) as manager:
        await manager.submit(say("a"))
        await manager.wait_idle()
        kept = await lines(manager)
    async with ccm.open_manager(fail, config=CONFIG, storage=storage) as manager:
        change = await manager.retract("a", conversation="c")
        assert change is (Change.ENDED if kept else Change.UNKNOWN)
        assert await lines(manager) == kept
