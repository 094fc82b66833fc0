"""A bot behind a bridge: what people see on Discord."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

import ccm
from ccm.discord import snowflake_at
from tests.discord_client.bridge_kit import Rest, stage

pytestmark = pytest.mark.trio
NOW = int(snowflake_at(1_750_000_000.0))


async def echo(turn: ccm.Turn) -> str:
    return f"re {turn.text}"


@pytest.mark.parametrize("durable", [False, True])
async def test_a_message_is_answered_once_as_a_reply(durable: bool, tmp_path: Path) -> None:
    async with stage(echo, storage=tmp_path / "bot.db" if durable else None) as bot:
        await bot.event("MESSAGE_CREATE", {"id": None, "author": []})  # a bad one ends nothing
        await bot.say(NOW, "hi")
        await bot.say(NOW, "hi")  # Discord says it twice
        await bot.until("re hi")
        await bot.say(NOW + 1, "more")
        await bot.until("re hi", "re more")
        sent = next(iter(bot.rest.messages.values()))
        assert sent["message_reference"] == {"message_id": str(NOW), "fail_if_not_exists": False}
        assert sent["allowed_mentions"] == {"parse": []}
        assert sent["nonce"] == f"{NOW}.0"


async def test_a_reply_is_shown_while_it_is_written_and_the_bot_as_typing() -> None:
    go_on = trio.Event()

    async def write(turn: ccm.Turn) -> None:
        await turn.send("one")
        await go_on.wait()
        await turn.send(" two")

    async with stage(write, every=0.5) as bot:
        await bot.say(NOW, "hi")
        await bot.until("one")
        await bot.called("POST", "/channels/5/typing")
        go_on.set()
        await bot.until("one two")


async def test_what_is_being_written_does_not_overtake_the_reply_before_it(tmp_path: Path) -> None:
    done = trio.Event()

    class Choosy(Rest):
        fails = True

        def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
            if self.fails and method == "POST" and body and body["content"] == "re 1":
                return 500, None
            return super().answer(method, path, body)

    async def reply(turn: ccm.Turn) -> str:
        if turn.text == "2":
            await turn.send("re")
            await done.wait()
        return f"re {turn.text}"

    rest = Choosy()
    config = ccm.Config(delivery_retry=ccm.RetryPolicy(attempts=100, base=0.5, cap=0.5))
    async with stage(reply, storage=tmp_path / "bot.db", config=config, rest=rest, every=0.5) as bot:
        await bot.say(NOW, "1")
        await bot.say(NOW + 1, "2")
        await trio.sleep(1.5)  # twice as long as it takes to be shown
        assert rest.texts() == []
        rest.fails = False
        await bot.until("re 1", "re")
        done.set()
        await bot.until("re 1", "re 2")


async def test_a_long_reply_takes_several_messages() -> None:
    async def long(turn: ccm.Turn) -> str:
        return "word " * 700

    async with stage(long) as bot:
        await bot.say(NOW, "hi")
        await bot.wait(lambda: len(bot.rest.messages) == 2)
        assert "".join(bot.rest.texts()).split() == ["word"] * 700
        assert all(len(text) <= 2000 for text in bot.rest.texts())


async def test_an_edit_starts_anew_and_a_deletion_takes_the_reply_back() -> None:
    async def slow(turn: ccm.Turn) -> str:
        if turn.text == "old":
            await trio.sleep_forever()
        return f"re {turn.text}"

    async with stage(slow) as bot:
        message = {"id": str(NOW), "channel_id": "5", "edited_timestamp": "2026-01-01T00:00:00+00:00"}
        await bot.say(NOW, "old")
        await bot.event("MESSAGE_UPDATE", {**message, "content": "new"})
        await bot.until("re new")
        await bot.event("MESSAGE_DELETE_BULK", {"ids": [str(NOW)], "channel_id": "5"})
        await bot.until()


async def test_a_failure_and_a_refusal_are_told() -> None:
    async def broken(turn: ccm.Turn) -> str:
        raise ccm.Permanent("no")

    config = ccm.Config(rate_limit=ccm.RateLimit(1, per=60))
    async with stage(broken, config=config) as bot:
        await bot.say(NOW, "hi")
        await bot.until("Something went wrong on my side; it has been noted.")
        await bot.say(NOW + 1, "again")
        await bot.wait(lambda: len(bot.rest.messages) == 2)
        assert "Please try again in " in bot.rest.texts()[1]
        await bot.say(NOW + 2, "and again")
        await bot.called("PUT", f"/channels/5/messages/{NOW + 2}/reactions/%E2%8F%B3/@me")
        assert len(bot.rest.messages) == 2


async def test_a_channel_that_is_gone_ends_that_reply_alone() -> None:
    async with stage(echo) as bot:
        bot.rest.refuse["/channels/5/"] = (404, 10_003)
        await bot.say(NOW, "hi")
        await bot.called("POST", "/channels/5/messages")
        await bot.say(NOW + 1, "hello", channel_id="6")
        await bot.until("re hello")


async def test_messages_that_share_a_turn_get_a_reaction() -> None:
    free = trio.Event()

    async def first_waits(turn: ccm.Turn) -> str:
        if turn.message.conversation == "6":
            free.set()
        await free.wait()
        return f"re {turn.text}"

    async with stage(first_waits, config=ccm.Config(on_busy=ccm.OnBusy.MERGE)) as bot:
        for number, text in enumerate(("a", "b", "c")):
            await bot.say(NOW + number, text)
        await bot.say(NOW + 3, "d", channel_id="6")  # comes when the others have come
        await bot.wait(lambda: sorted(bot.rest.texts()) == ["re a", "re b\nc", "re d"])
        await bot.called("PUT", f"/channels/5/messages/{NOW + 2}/reactions/%E2%9C%85/@me")
