"""`turn.history`: what was said in a conversation, in the order in which it was handled (trap 16)."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from ccm import (
    OnBusy,
    Turn,
)
from tests.manager.kit import opened, say, simulated

PATIENT: dict[str, Any] = {"drain": 1000, "timeout": 500}


async def reads_late(turn: Turn) -> str:
    """Reads what it was handed after two seconds, and goes on for two more."""
    await trio.sleep(2)
    seen = [turn.text]
    while True:
        try:
            seen.append(turn.steered.receive_nowait().text)
        except trio.WouldBlock:
            break
    await trio.sleep(2)
    return " ".join(seen)


class Speaker:
    """Says two words, a second each, and notes the history that "look" finds."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, bool]] = []

    async def __call__(self, turn: Turn) -> None:
        if turn.text == "look":
            self.seen = [(e.role, e.text, e.partial) for e in await turn.history()]
            return
        await turn.history()
        for word in ("well, ", "yes"):
            await turn.send(word)
            await trio.sleep(1)


USER, ANSWER, CUT = ("user", "old", False), ("assistant", "well, yes", False), ("assistant", "well, ", True)
LOOK = ("user", "look", False)


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("nothing", [USER, ANSWER, LOOK]),
        ("interrupt", [USER, CUT, LOOK]),
        ("rollback", [LOOK]),
        ("stop", [USER, CUT, LOOK]),
        ("retract", [LOOK]),
        ("retract later", [LOOK]),
        ("edit", [("user", "new", False), ANSWER, LOOK]),
    ],
)
@simulated
async def test_the_history_has_what_counts_in_the_order_in_which_it_was_handled(
    how: str, expected: list[tuple[str, str, bool]]
) -> None:
    """Trap 16."""
    speaker = Speaker()
    async with opened(speaker, **PATIENT) as manager:
        manager.submit_nowait(say("old", id="a"))
        await trio.sleep(0.5)
        policy = OnBusy(how) if how in ("interrupt", "rollback") else OnBusy.ENQUEUE
        if how == "stop":
            await manager.stop("c")
        elif how == "retract":
            await manager.retract("a")
        elif how == "edit":
            await manager.edit("a", "new")
        elif how == "retract later":
            await manager.wait_idle()
            await manager.retract("a")
        await manager.ask(say("look", on_busy=policy))
    assert speaker.seen == expected


@simulated
async def test_the_history_has_all_messages_that_a_turn_has_answered() -> None:
    seen: list[str] = []

    async def handler(turn: Turn) -> str:
        seen[:] = [e.text for e in await turn.history()]
        return await reads_late(turn)

    async with opened(handler, on_busy="steer", **PATIENT) as manager:
        for text in ("a", "b"):
            manager.submit_nowait(say(text))
        await manager.wait_idle()
        await manager.ask(say("c"))
    assert seen == ["a", "b", "a b", "c"]


@simulated
async def test_what_several_interrupted_turns_said_stands_in_order() -> None:
    speaker = Speaker()
    async with opened(speaker, on_busy="interrupt", **PATIENT) as manager:
        for number in range(3):
            manager.submit_nowait(say(str(number)))
            await trio.sleep(0.5)
        await manager.ask(say("look"))
    said = [entry for n in range(3) for entry in (("user", str(n), False), CUT)]
    assert speaker.seen == [*said, LOOK]


@simulated
async def test_the_history_of_the_last_words_is_as_long_as_was_asked_for() -> None:
    seen: list[tuple[str, ...]] = []

    async def handler(turn: Turn) -> str:
        for limit in (0, 1, 3):
            seen.append(tuple(entry.text for entry in await turn.history(limit)))
        with pytest.raises(ValueError, match="limit must be"):
            await turn.history(-1)
        return f"re: {turn.text}"

    async with opened(handler) as manager:
        for text in "ab":
            await manager.ask(say(text))
    assert seen[3:] == [(), ("b",), ("a", "re: a", "b")]
