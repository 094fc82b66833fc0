"""Slash commands of a bridge, against a fake Discord that decides by its own rules."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from ccm.discord import (
    MANAGE_GUILD,
    STANDARD_COMMANDS,
    Command,
    Invocation,
    Option,
)
from ccm.discord._command_wording import TEXTS
from ccm.discord._commanding import AT_ONCE
from ccm.discord._commands import arguments_of, definitions, same, table
from ccm.testing import simulate
from tests.discord_client.commands_kit import HIDDEN, LOADING, bot
from tests.discord_fake.fake import CHANNEL, open_fake
from tests.discord_fake.world import APPLICATION


async def greet(invocation: Invocation) -> str:
    return f"hello {invocation.arguments.get('name', 'world')} in {invocation.conversation}"


GREET = Command("greet", "Say hello", greet, options=(Option("name", "whom", high=20),))


def test_a_command_is_registered_announced_and_answered() -> None:
    async def main() -> None:
        async with bot([GREET], sockets=True) as there:
            await there.until(lambda: there.fake.world.commands.get(""))
            (known,) = there.fake.world.commands[""]
            assert known["name"] == "greet"
            assert known["options"][0]["max_length"] == 20
            asked = there.fake.world.ask("greet", {"name": "ada"})
            assert await there.answer(asked) == f"hello ada in {CHANNEL}"
            assert there.sent(asked)[0]["flags"] & HIDDEN
            assert there.gateway.rest.requests.sent >= 3

    trio.run(main)


def test_commands_are_registered_only_when_they_changed() -> None:
    async def main() -> None:
        async with open_fake(memory=True) as fake:
            versions = []
            for commands in (STANDARD_COMMANDS, STANDARD_COMMANDS, STANDARD_COMMANDS[:2], ()):
                async with bot(commands, fake=fake) as there:
                    await trio.sleep(5)
                    versions.append([each["version"] for each in fake.world.commands[""]])
                    if commands:
                        assert await there.use("performance")
            assert versions[0] == versions[1]
            assert [len(each) for each in versions] == [4, 4, 2, 2]
            assert not {*versions[0]} & {*versions[2]}

    simulate(main, limit=600.0)


def test_registering_is_tried_again_and_commands_work_meanwhile() -> None:
    async def main() -> None:
        async with open_fake(memory=True) as fake:
            fake.api.fail(502, times=2, route="oauth2")
            async with bot([GREET], fake=fake, attempts=1) as there:
                assert await there.use("greet") == f"hello world in {CHANNEL}"
                await there.until(lambda: fake.world.commands.get(""), 200)

    simulate(main, limit=600.0)


def test_discord_is_told_at_once_and_the_answer_may_take_its_time() -> None:
    async def slow(invocation: Invocation) -> str:
        await trio.sleep(300)
        return "here"

    async def main() -> None:
        async with bot([Command("slow", "slow", slow, hidden=False)]) as there:
            asked = there.fake.world.ask("slow")
            await there.until(lambda: asked.answered, 3)
            assert there.sent(asked)[0]["flags"] & LOADING
            await trio.sleep(301)
            assert await there.answer(asked) == "here"
            assert not there.sent(asked)[0]["flags"] & HIDDEN

    simulate(main, limit=900.0)


def test_a_long_answer_takes_several_messages_that_only_who_asked_sees() -> None:
    async def long(invocation: Invocation) -> str:
        return "word " * 1000

    async def main() -> None:
        async with bot([Command("long", "long", long)]) as there:
            asked = there.fake.world.ask("long")
            await there.until(lambda: len(there.sent(asked)) == 3)
            parts = there.sent(asked)
            assert " ".join(each["content"] for each in parts).split() == ["word"] * 1000
            assert all(each["flags"] & HIDDEN for each in parts)

    simulate(main, limit=60.0)


def test_a_command_that_fails_or_says_nothing_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(invocation: Invocation) -> str:
        raise ZeroDivisionError("oh")

    async def wrong(invocation: Invocation) -> Any:
        return 7

    async def half(invocation: Invocation) -> str:
        return "half \ud800"

    async def silent(invocation: Invocation) -> None:
        pass

    async def hang(invocation: Invocation) -> str:
        await trio.sleep_forever()

    commands = [
        Command("broken", "b", broken), Command("wrong", "w", wrong), Command("half", "h", half),
        Command("silent", "s", silent), Command("hang", "h", hang, timeout=5.0), GREET,
    ]  # fmt: skip

    async def main() -> None:
        async with bot(commands) as there:
            failed = "Something went wrong on my side; it has been noted."
            assert await there.use("broken") == failed
            assert await there.use("wrong") == failed
            assert await there.use("half") == "half ?"
            assert await there.use("silent") == "Done."
            assert await there.use("hang") == "That took too long; I have given up."
            assert await there.use("greet") == f"hello world in {CHANNEL}"

    with caplog.at_level(logging.WARNING, "ccm.discord"):
        simulate(main, limit=60.0)
    texts = [record.getMessage() for record in caplog.records]
    assert [text.split(" ", 1)[0] for text in texts] == ["/broken", "/wrong", "/hang"]
    assert "ZeroDivisionError: oh" in caplog.text


def test_what_is_not_known_or_makes_no_sense_is_harmless() -> None:
    async def main() -> None:
        guild_only = Command("boss", "b", greet, permissions=MANAGE_GUILD)
        async with bot([GREET, guild_only]) as there:
            world = there.fake.world
            assert await there.use("gone") == "I do not know this command any more."
            wrong = "name must be a text up to 20 characters, got "
            assert await there.use("greet", name=7) == f"{wrong}7."
            assert await there.use("greet", name="x" * 21) == f"{wrong}{'x' * 21!r}."
            private = world.ask("boss", channel=world.private(world.person))
            assert await there.answer(private) == "This command is for servers only."
            known = {"id": "1", "application_id": APPLICATION, "type": 2, "token": "t"}
            junks: list[Any] = [None, [], {}, {"id": "1"}, known, {**known, "user": 7, "data": [1]}]
            for junk in junks:
                world.tell("INTERACTION_CREATE", junk)
            assert await there.use("boss") == f"hello world in {CHANNEL}"

    simulate(main, limit=60.0)


def test_a_command_is_carried_out_once_also_when_its_answer_is_lost() -> None:
    count = 0

    async def add(invocation: Invocation) -> str:
        nonlocal count
        count += 1
        return str(count)

    async def main() -> None:
        async with bot([Command("add", "add", add)]) as there:
            world = there.fake.world
            await there.until(lambda: world.commands.get(""))
            asked = world.ask("add")
            assert await there.answer(asked) == "1"
            data = {
                "id": asked.id, "application_id": APPLICATION, "type": 2, "token": asked.token,
                "channel_id": CHANNEL, "user": world.person, "data": {"name": "add"},
            }  # fmt: skip
            there.fake.api.lose(route="callback", carried_out=False)
            world.tell("INTERACTION_CREATE", data, everywhere=True)  # again, and it must not look like ours
            world.tell("INTERACTION_CREATE", {**data, "id": world.new_id()}, everywhere=True)  # not known
            await trio.sleep(5)
            there.fake.api.lose(route="callback")  # it was carried out all the same
            assert await there.use("add") == "2"
            assert count == 2

    simulate(main, limit=120.0)


def test_what_an_earlier_process_answered_is_not_carried_out_again() -> None:
    called = []

    async def note(invocation: Invocation) -> str:
        called.append(invocation.user)
        return "done"

    async def main() -> None:
        async with open_fake() as fake:
            asked = fake.world.ask("note")
            asked.answered = True
            await trio.sleep(0.01)  # on the real clock, by which ids tell what was before
            async with bot([Command("note", "note", note)], fake=fake) as there:
                there.fake.world.tell(
                    "INTERACTION_CREATE",
                    {"id": asked.id, "application_id": APPLICATION, "type": 2, "token": asked.token,
                     "channel_id": CHANNEL, "user": fake.world.person, "data": {"name": "note"}},
                    everywhere=True,
                )  # fmt: skip
                await there.use("note")
                assert len(called) == 1

    trio.run(main)


def test_there_is_a_bound_and_who_is_beyond_it_is_told() -> None:
    free = trio.Event()

    async def wait(invocation: Invocation) -> str:
        await free.wait()
        return "free"

    async def main() -> None:
        async with bot([Command("wait", "wait", wait)]) as there:
            asked = [there.fake.world.ask("wait") for _ in range(AT_ONCE + 3)]
            await there.until(lambda: all(each.answered for each in asked), 3)
            assert [await there.answer(each) for each in asked[AT_ONCE:]] == [TEXTS["full"]] * 3
            free.set()
            assert {await there.answer(each) for each in asked[:AT_ONCE]} == {"free"}
            assert await there.use("wait") == "free"  # there is room again

    simulate(main, limit=120.0)


def test_a_bot_without_commands_leaves_them_to_others() -> None:
    async def main() -> None:
        async with bot([]) as there:
            asked = there.fake.world.ask("greet")
            await trio.sleep(5)
            assert not asked.answered
            assert not there.fake.world.commands

    simulate(main, limit=60.0)


# -- parts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Command("Up", "d", greet), "name"),
        (lambda: Command("a b", "d", greet), "name"),
        (lambda: Command("a", "", greet), "description"),
        (lambda: Command("a", "d", greet, permissions=-1), "permissions"),
        (lambda: Command("a", "d", greet, timeout=900.0), "timeout"),
        (lambda: Command("a", "d", greet, options=(Option("x", "x"), Option("x", "y"))), "options"),
        (lambda: Command("a", "d", greet, options=(Option("x", "x"), Option("y", "y", required=True))),
         "options"),
        (lambda: Option("x", "x", list), "kind"),
        (lambda: table([GREET, GREET]), "commands"),
    ],
)  # fmt: skip
def test_bad_commands_are_refused_by_name(make: Callable[[], Any], field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field} must be"):
        make()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda each: st.lists(each, max_size=2),
)


@given(st.dictionaries(st.sampled_from(["text", "whole", "flag", "size", "other"]), VALUES))
def test_arguments_are_what_their_options_ask_for_or_refused(found: dict[str, Any]) -> None:
    options = (
        Option("text", "t", low=1, high=5), Option("whole", "w", int, low=-3, high=3),
        Option("flag", "f", bool), Option("size", "s", float),
    )  # fmt: skip
    try:
        arguments = arguments_of(Command("a", "d", greet, options=options), found)
    except ValueError:
        return  # it is refused
    assert arguments.keys() == found.keys() - {"other"}
    for option in options:
        if option.name in arguments:
            value = arguments[option.name]
            assert type(value) is option.kind
            assert value == found[option.name]
    assert -3 <= arguments.get("whole", 0) <= 3
    assert 1 <= len(arguments.get("text", "x")) <= 5


def test_what_discord_adds_makes_no_other_command() -> None:
    told = definitions(table(STANDARD_COMMANDS))
    known = [{**each, "id": str(n), "version": "1", "nsfw": False} for n, each in enumerate(told)]
    assert same(told, known[::-1])
    for each in known:
        each["options"] = [{k: v for k, v in option.items() if v is not False} for option in each["options"]]
        if not each["options"]:
            del each["options"]
    assert same(told, known)
    assert not same(told, known[1:])
    assert not same(told, [{**known[0], "default_member_permissions": None}, *known[1:]])
    assert not same(told, [])
    assert not same(told, [{"name": None, "options": 7}])
