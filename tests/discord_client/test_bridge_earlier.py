"""A question that is deleted takes its reply with it, also when the bot has been restarted in between."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import trio

import ccm
from tests.discord_client.commands_kit import Bot, bot
from tests.discord_fake.fake import CHANNEL, GUILD, FakeDiscord, open_fake

pytestmark = pytest.mark.trio
HISTORY = "GET /channels/{channel}/messages"
LONG = ["a " * 700, "b " * 700, "c " * 700]


async def answer(turn: ccm.Turn) -> str:
    return "\n\n".join(LONG).strip() if turn.text == "long" else f"re {turn.text}"


def texts(fake: FakeDiscord) -> list[str]:
    found: Sequence[Any] = list(fake.world.messages.get(CHANNEL, {}).values())
    return [each["content"] for each in found]


def asked(fake: FakeDiscord) -> int:
    """How often what was said in a channel was asked for."""
    return sum(each.route == HISTORY for each in fake.api.seen)


async def say(there: Bot, *questions: str) -> list[str]:
    """Ask one after the other; returns the ids of the questions."""
    ids = []
    for text in questions:
        count = len(texts(there.fake))
        ids.append(there.fake.world.say(text)["id"])
        parts = len(LONG) if text == "long" else 1
        await there.until(lambda count=count, parts=parts: len(texts(there.fake)) == count + 1 + parts)  # type: ignore[misc]
        await there.manager.wait_idle()
    return ids


async def settled(there: Bot) -> None:
    """One more message has been answered: what was deleted before it has been heard of."""
    await say(there, "last")
    await trio.sleep(0.2)


async def test_after_a_restart_a_deleted_question_takes_its_reply_with_it(tmp_path: Path) -> None:
    async with open_fake(identify_spacing=0.0) as fake:
        async with bot((), answer, fake=fake, storage=tmp_path / "a.db") as there:
            first, second, third = await say(there, "one", "two", "three")
        async with bot((), answer, fake=fake, storage=tmp_path / "a.db") as there:
            await settled(there)  # the channel has been backfilled
            before = asked(fake)
            fake.world.delete(CHANNEL, second)
            await there.until(lambda: "re two" not in texts(fake))
            assert asked(fake) == before + 1
            fake.world.delete(CHANNEL, first, third)
            await there.until(lambda: texts(fake) == ["last", "re last"])
            assert asked(fake) == before + 3
            lines = (await there.manager.conversations.history(CHANNEL)).items
            assert [line.text for line in lines] == ["last", "re last"]  # nor does the bot remember it


async def test_all_parts_of_a_long_reply_go_and_nothing_else(tmp_path: Path) -> None:
    async with open_fake(identify_spacing=0.0) as fake:
        world = fake.world
        async with bot((), answer, fake=fake, storage=tmp_path / "a.db") as there:
            (question,) = await say(there, "long")
            (other,) = await say(there, "other")
        _, _, second, third, *_ = list(world.messages[CHANNEL])
        world.delete(CHANNEL, second, third)  # and they come later, behind what others say
        program = world.user("program", bot=True)
        b, c = LONG[1].strip(), LONG[2].strip()
        world.say(b, author=program)
        world.say("a warning", author=world.bot)
        world.say(b, author=world.bot, reply_to=other)
        world.say(b, author=world.bot)
        world.say(c, author=world.bot)
        world.say(c, author=world.bot)  # once more than it has parts
        async with bot((), answer, fake=fake, storage=tmp_path / "a.db") as there:
            world.delete(CHANNEL, question)
            await there.until(lambda: texts(fake).count(c) == 1)
            await settled(there)
            assert texts(fake) == ["other", "re other", b, "a warning", b, c, "last", "re last"]


async def test_what_was_not_answered_costs_no_request(tmp_path: Path) -> None:
    async with open_fake(identify_spacing=0.0) as fake:
        async with bot((), answer, fake=fake, storage=tmp_path / "a.db") as there:
            await say(there, "one")
        quiet = fake.world.channel(fake.world.guilds[GUILD], "quiet")
        said = fake.world.say("where nobody asks anything", channel=quiet, author=fake.world.bot)
        stray = [fake.world.say("not heard", author=fake.world.bot)["id"] for _ in range(3)]
        async with bot((), answer, fake=fake, storage=tmp_path / "a.db") as there:
            await settled(there)
            before = asked(fake)
            fake.world.delete(quiet, said["id"])
            fake.world.delete(CHANNEL, *stray[:2])
            fake.world.delete(CHANNEL, stray[2])
            await say(there, "two")
            assert asked(fake) == before


async def test_a_reply_to_several_messages_stays(tmp_path: Path) -> None:
    free = trio.Event()

    async def slow(turn: ccm.Turn) -> str:
        await free.wait()
        return f"re {turn.text}"

    router = ccm.Router()
    router.route("chat", busy=ccm.OnBusy.MERGE)(slow)
    async with open_fake(identify_spacing=0.0) as fake:
        async with bot((), router, fake=fake, storage=tmp_path / "a.db") as there:
            ids = [fake.world.say(text)["id"] for text in ("a", "b", "c")]
            await there.until(lambda: there.manager.statistics().received == 3)
            free.set()
            await there.until(lambda: "re b\nc" in texts(fake))
            await there.manager.wait_idle()
        async with bot((), router, fake=fake, storage=tmp_path / "a.db") as there:
            fake.world.delete(CHANNEL, ids[1])
            await settled(there)
            assert "re b\nc" in texts(fake)


async def test_without_a_storage_nothing_is_known_and_nothing_goes() -> None:
    async with open_fake(identify_spacing=0.0) as fake:
        async with bot((), answer, fake=fake) as there:
            (question,) = await say(there, "one")
        async with bot((), answer, fake=fake) as there:
            before = asked(fake)
            fake.world.delete(CHANNEL, question)
            await settled(there)
            assert "re one" in texts(fake)
            assert asked(fake) == before
