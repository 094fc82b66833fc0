"""Side routes that look at edits: nobody gets past moderation by editing a harmless message."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

import ccm
from ccm.testing import simulate


def moderated(seen: list[tuple[str, str]], **chat: float) -> ccm.Router:
    """Chat that takes a second, moderation of "bad" that looks at edits, and analytics that do not."""

    async def answer(turn: ccm.Turn) -> str:
        await trio.sleep(1)
        return f"re {turn.text}"

    async def moderate(turn: ccm.Turn) -> None:
        seen.append((turn.message.id, turn.text))

    async def count(turn: ccm.Turn) -> None:
        seen.append(("counted", turn.text))

    router = ccm.Router.default(answer, moderation=moderate, violations=["bad"])
    router.route("counting", answers=False, ordered=False)(count)
    return router


def say(text: str, id: str = "1") -> ccm.Message:
    return ccm.Message("c", "u", text, id=id)


@pytest.mark.parametrize("when", ["waits", "runs", "ended"])
def test_an_edit_is_looked_at_in_whatever_state_the_message_is(when: str) -> None:
    seen: list[tuple[str, str]] = []

    async def main() -> None:
        config = ccm.Config(limit=4, rate_limit=None)
        async with ccm.open_manager(moderated(seen), config=config) as manager:
            receipts = [await manager.submit(say("first", "0"))] if when == "waits" else []
            receipts.append(await manager.submit(say("good")))
            await trio.sleep(5 if when == "ended" else 0.5)
            change = await manager.edit("1", "bad")
            assert change.name == {"waits": "REPLACED", "runs": "RESTARTED", "ended": "ENDED"}[when]
            await manager.edit("1", "bad")  # shown anew, maybe with a preview
            await manager.edit("1", "fine")
            for receipt in receipts:
                await receipt.outcome()
            await manager.wait_idle()
            statistics = manager.statistics()
            assert statistics.received == len(receipts)
            assert statistics.side_received == len(seen)

    simulate(main, limit=60.0)
    once = [("1", "bad")] * (
        2 if when == "ended" else 1
    )  # what has ended keeps the text it was answered with
    assert [each for each in seen if each[0] != "counted"] == once
    assert [text for id, text in seen if id == "counted"] == ["first", "good"][when != "waits" :]


def test_what_a_manager_does_not_know_any_more_is_handed_in() -> None:
    seen: list[tuple[str, str]] = []

    async def main() -> None:
        async with ccm.open_manager(moderated(seen)) as manager:
            assert (await manager.edit("1", "bad")).name == "UNKNOWN"
            assert (await manager.edit("1", "fine", whole=say("fine"))).name == "UNKNOWN"
            assert (await manager.edit("1", "bad", whole=say("bad"))).name == "UNKNOWN"
            await manager.wait_idle()
            assert manager.statistics().received == 0

    simulate(main, limit=60.0)
    assert seen == [("1", "bad")]


@pytest.mark.trio
async def test_with_a_storage_an_edit_is_looked_at_and_leaves_no_line(tmp_path: Path) -> None:
    seen: list[tuple[str, str]] = []
    async with ccm.open_manager(moderated(seen), storage=tmp_path / "a.db") as manager:
        await (await manager.submit(say("good"))).outcome()
        await manager.edit("1", "bad")
        await manager.wait_idle()
        lines = (await manager.conversations.history("c")).items
        assert [line.text for line in lines] == ["good", "re good"]
    async with ccm.open_manager(moderated(seen), storage=tmp_path / "a.db") as manager:
        await manager.edit("1", "bad", whole=say("bad"))
        await manager.wait_idle()
    assert [each for each in seen if each[0] != "counted"] == [("1", "bad")] * 2


def test_when_a_manager_drains_or_is_closed_an_edit_starts_nothing() -> None:
    seen: list[tuple[str, str]] = []

    async def main() -> None:
        async with ccm.open_manager(moderated(seen)) as manager:
            await manager.drain()
            await manager.edit("1", "bad", whole=say("bad"))
        assert (await manager.edit("1", "bad", whole=say("bad"))).name == "UNKNOWN"  # nor when it is closed

    simulate(main, limit=60.0)
    assert seen == []


def test_an_answering_route_does_not_look_at_edits() -> None:
    with pytest.raises(ValueError, match=r"^edits must be False"):
        ccm.Router().route("chat", edits=True)
