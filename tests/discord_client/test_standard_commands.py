"""The slash commands that every bot can use as they are."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

import ccm
from ccm.discord import STANDARD_COMMANDS, addressed
from ccm.testing import simulate
from tests.discord_client.commands_kit import bot
from tests.discord_fake.fake import CHANNEL


def test_stop_ends_what_is_answered_here() -> None:
    async def forever(turn: ccm.Turn) -> str:
        await trio.sleep_forever()

    async def main() -> None:
        async with bot(STANDARD_COMMANDS, forever) as there:
            assert await there.use("stop") == "There was nothing to stop here."
            for text in ("one", "two"):
                there.fake.world.say(text)
            await there.until(lambda: there.manager.statistics().received == 2)
            await there.until(lambda: there.manager.statistics().running == 1)
            assert await there.use("stop") == "Stopped: 1 running, 1 waiting."
            assert there.manager.statistics().outcomes["cancelled"] == 2

    simulate(main, limit=60.0)


def test_performance_shows_each_class() -> None:
    async def main() -> None:
        async with bot(STANDARD_COMMANDS) as there:
            there.fake.world.say("hi")
            await there.until(lambda: there.manager.statistics().outcomes["replied"])
            text = await there.use("performance")
            assert "1 messages: replied 1." in text
            assert "0 of 50 slots in use (at most 1 so far)" in text
            rows = [line.split()[0] for line in text.split("```")[1].splitlines()[2:]]
            assert rows == [priority.name for priority in ccm.Priority]

    simulate(main, limit=60.0)


def test_handoff_lets_a_human_take_over(tmp_path: Path) -> None:
    async def main() -> None:
        async with bot(STANDARD_COMMANDS, sockets=True, storage=tmp_path / "bot.db") as there:
            assert await there.use("handoff", back=True) == "Nobody has taken over here."
            assert (await there.use("handoff")).startswith("You have taken over")
            there.fake.world.say("anybody?")
            await there.until(lambda: there.manager.statistics().outcomes["replied"])
            found = await there.manager.conversations.get(CHANNEL)
            assert found is not None
            assert (found.paused, found.agent) == (True, "person")
            assert (await there.use("handoff")).startswith("person has taken over here already")
            assert await there.use("handoff", back=True) == "I answer here again."
            there.fake.world.say("and now?")
            mine = there.fake.world.bot["id"]
            messages = there.fake.world.messages[CHANNEL]
            await there.until(
                lambda: [m["content"] for m in messages.values()
                         if m["author"]["id"] == mine and not m.get("application_id")] == ["re and now?"]
            )  # fmt: skip

    trio.run(main)


def test_handoff_without_a_storage_says_so() -> None:
    async def main() -> None:
        async with bot(STANDARD_COMMANDS) as there:
            assert "without a storage" in await there.use("handoff")

    simulate(main, limit=60.0)


@pytest.mark.parametrize("durable", [False, True])
def test_a_load_test_has_a_verdict_per_class_and_leaves_nothing(durable: bool, tmp_path: Path) -> None:
    router = ccm.Router()

    @router.route("chat", when=addressed)
    async def chat(turn: ccm.Turn) -> str:
        await trio.sleep(0.01)
        return "fine"

    async def main() -> None:
        storage = tmp_path / "bot.db" if durable else None
        async with bot(STANDARD_COMMANDS, router, sockets=True, storage=storage) as there:
            text = await there.use("test_concurrent", count=10)
            rows = {line.split()[0]: line.split() for line in text.split("```")[1].splitlines()[2:]}
            assert [row[1] for row in rows.values()] == ["3/3", "3/3", "2/2", "2/2"]
            assert there.manager.statistics().outcomes["replied"] == 10
            mine = there.fake.world.bot["id"]
            said = there.fake.world.messages[CHANNEL].values()
            assert sum(each["author"]["id"] == mine for each in said) == 1  # the verdict alone
            if durable:
                assert not (await there.manager.conversations.list()).items
            assert "up to 100" in await there.use("test_concurrent", count=101)

    trio.run(main)


def test_a_load_test_that_misses_its_targets_says_so() -> None:
    async def slow(turn: ccm.Turn) -> str:
        await trio.sleep(1 if "1" in turn.text else 2000)
        return "late"

    async def main() -> None:
        async with bot(STANDARD_COMMANDS, slow) as there:
            first = there.fake.world.ask("test_concurrent", {"count": 12})
            await there.until(lambda: there.manager.statistics().received == 12)
            assert await there.use("test_concurrent", count=1) == "A load test is running already."
            await trio.sleep(125)
            text = await there.answer(first)
            assert "some targets were missed" in text
            assert "MISSED" in text
            assert there.manager.statistics().running == 0

    simulate(main, limit=600.0)
