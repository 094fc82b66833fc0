"""Commands do not wait in line: each is acknowledged in time, whatever messages and requests hang."""

from __future__ import annotations

from typing import Any

import trio

from ccm.discord import STANDARD_COMMANDS, Command, Event, Invocation, Ready
from ccm.discord._command_wording import TEXTS
from ccm.discord._commanding import AT_ONCE
from ccm.discord._inbox import Inbox
from ccm.testing import simulate
from tests.discord_client.commands_kit import INTENTS, Bot, bot
from tests.discord_fake.fake import CHANNEL, GUILD, open_fake
from tests.discord_fake.world import APPLICATION, Asked
from tests.storage.durable_kit import Slow

IN_TIME = 3.0
MANY = 30
"""Channels: more than the requests that may be on their way at a time."""


class Failing(Slow):
    """Commits fail as often as they are told to, at once."""

    def latency(self) -> float:
        return 0.0


def took(there: Bot, asked: Asked) -> float:
    """Seconds from the moment a command was used until Discord had its first answer."""
    paths = {f"/interactions/{asked.id}/{asked.token}/callback"}
    (seen,) = [each for each in there.fake.api.seen if each.path in paths]
    assert seen.status == 204
    return there.fake._began + seen.at - asked.at


async def in_time(there: Bot, *commands: str) -> list[str]:
    """Use commands one after the other; returns their answers."""
    answers = []
    for command in commands:
        asked = there.fake.world.ask(command)
        with trio.fail_after(IN_TIME):
            while not asked.answered:  # noqa: ASYNC110  # whatever the fake was told
                await trio.sleep(1 / 64)
        assert took(there, asked) < IN_TIME
        answers.append(await there.answer(asked))
    return answers


def test_a_command_is_acknowledged_in_time_while_a_backfill_hangs() -> None:
    async def main() -> None:
        async with bot(STANDARD_COMMANDS, attempts=2, compress=None) as there:
            fake = there.fake
            guild = fake.world.guilds[GUILD]
            channels = [fake.world.channel(guild, f"room-{number}") for number in range(MANY)]
            for channel in channels:
                fake.world.say("hi", channel=channel)
            await there.until(lambda: there.manager.statistics().received == MANY)
            fake.faults.held.add("GET /api/v10/channels/")
            fake.faults.corrupt = 1
            fake.world.say("cannot be read")
            fake.world.say("waits behind the backfill")
            await trio.sleep(1)
            held_back = []
            for _ in range(2):  # while requests hang, and while others are held back because those failed
                held_back.append(there.gateway.rest.requests.breaker.open)
                answers = await in_time(there, "performance", "stop")
                assert "slots in use" in answers[0]
                await trio.sleep(10.5)
            assert held_back == [False, True]
            assert there.manager.statistics().received == MANY  # the line stands still
            fake.faults.held.clear()
            await there.until(lambda: there.manager.statistics().received >= MANY + 1, 100)

    simulate(main, limit=300.0)


def test_a_command_is_acknowledged_in_time_while_the_storage_fails() -> None:
    async def main() -> None:
        disk = Failing()
        async with bot(STANDARD_COMMANDS, storage=disk) as there:
            disk.fail += [False] * 100
            for number in range(5):  # each is tried for 2.6 s
                there.fake.world.say(str(number))
            await trio.sleep(0.1)
            answers = await in_time(there, "performance", "handoff")
            assert "slots in use" in answers[0]
            assert "could not be noted down" in answers[1]
            assert len(disk.fail) > 80  # the first message is being tried all the while

    simulate(main, limit=120.0)


def test_a_command_that_came_before_the_bridge_is_taken_up_before_messages() -> None:
    order: list[str] = []

    async def note(invocation: Invocation) -> str:
        order.append("command")
        return ""

    async def answer(turn: Any) -> str:
        order.append(turn.text)
        return "ok"

    async def main() -> None:
        async with open_fake(memory=True) as fake:
            fake.faults.held.add("GET /api/v10/users/@me")  # the bridge does not know who the bot is

            async def use() -> None:
                await fake.until(lambda: fake.links and fake.links[0].session)
                fake.world.say("hi")
                asked = fake.world.ask("note")
                await fake.until(lambda: asked.answered, IN_TIME)
                assert order == ["command"]
                fake.faults.held.clear()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(use)
                async with bot([Command("note", "note", note)], answer, fake=fake) as there:
                    await there.until(lambda: order == ["command", "hi"])

    simulate(main, limit=60.0)


def test_commands_that_wait_in_the_inbox_are_taken_first_and_the_loop_goes_on_without_them() -> None:
    async def main() -> None:
        async with open_fake(memory=True) as fake, fake.open_gateway(intents=INTENTS) as gateway:
            assert isinstance(await anext(gateway), Ready)
            fake.world.say("a")
            asked = [fake.world.ask("first")]
            fake.world.say("b")
            await fake.until(lambda: gateway.statistics().waiting == 4)
            taken: list[Event] = []
            gateway.divert(taken.append)
            assert [event.data["id"] for event in taken] == [asked[0].id]
            asked.append(fake.world.ask("second"))
            await fake.until(lambda: len(taken) == 2)
            assert [event.data["id"] for event in taken] == [each.id for each in asked]
            gateway.divert(None)
            fake.world.ask("third")
            fake.world.say("c")
            kinds = [(await anext(gateway)).type for _ in range(5)]  # type: ignore[union-attr]
            say = "MESSAGE_CREATE"
            assert kinds == ["GUILD_CREATE", say, say, "INTERACTION_CREATE", say]

    simulate(main, limit=60.0)


def test_many_commands_at_once_are_all_answered_in_time_and_no_more_than_the_bound_run() -> None:
    running = most = 0
    free = trio.Event()

    async def wait(invocation: Invocation) -> str:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await free.wait()
        running -= 1
        return "free"

    async def main() -> None:
        async with bot([Command("wait", "wait", wait)]) as there:
            there.fake.faults.rest_latency = 0.1
            asked = [there.fake.world.ask("wait") for _ in range(AT_ONCE + 200)]
            await there.until(lambda: all(each.answered for each in asked), IN_TIME)
            assert [await there.answer(each) for each in asked[AT_ONCE:]] == [TEXTS["full"]] * 200
            assert most == AT_ONCE
            free.set()
            assert {await there.answer(each) for each in asked[:AT_ONCE]} == {"free"}

    simulate(main, limit=120.0)


def test_a_command_counts_as_handled_when_it_is_taken_up() -> None:
    async def main() -> None:
        async with bot(STANDARD_COMMANDS) as there:
            (link,) = there.fake.links
            progress = there.gateway._progress[0]
            there.fake.faults.held.add("callback")
            there.fake.world.ask("performance")
            assert link.session is not None
            number = link.session.seq
            await there.until(lambda: there.gateway._shards[0].protocol.seq == number)
            assert progress.safe(1, number) == number

    simulate(main, limit=60.0)


def test_what_is_taken_out_of_an_inbox_leaves_the_rest_in_order() -> None:
    inbox = Inbox(5)
    kinds = ["MESSAGE_CREATE", "INTERACTION_CREATE", "TYPING_START", "INTERACTION_CREATE", "MESSAGE_CREATE"]
    for number, kind in enumerate(kinds):
        inbox.put_nowait(Event(kind, None, number))
    assert [event.seq for event in inbox.take_commands()] == [1, 3]
    inbox._check()
    assert inbox.take_commands() == []
    assert len(inbox) == 3


def test_what_an_earlier_process_may_have_done_is_not_done_again_though_an_answer_was_lost() -> None:
    """A slow clock must not make an old command look new, nor a lost answer make another's look like ours."""
    called: list[str] = []

    async def note(invocation: Invocation) -> str:
        called.append(invocation.interaction.id)
        return "done"

    async def main() -> None:
        async with bot([Command("note", "note", note)]) as there:
            world = there.fake.world
            asked = world.ask("gone")  # answered at once, by whatever knows it
            await there.answer(asked)
            data = {
                "application_id": APPLICATION, "type": 2, "token": asked.token, "channel_id": CHANNEL,
                "user": world.person, "data": {"name": "note"},
            }  # fmt: skip
            asked.id = world.new_id()  # Discord's clock is ahead: it seems to be of this process
            world.tell("INTERACTION_CREATE", {**data, "id": asked.id}, everywhere=True)
            await trio.sleep(5)
            there.fake.api.lose(route="callback", carried_out=False)
            asked.id = "7"  # of long ago
            world.tell("INTERACTION_CREATE", {**data, "id": "7"}, everywhere=True)
            await trio.sleep(5)
            assert called == []

    simulate(main, limit=60.0)
