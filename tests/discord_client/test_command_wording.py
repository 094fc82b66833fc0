"""What commands say can be put in other words, and in the language of who asked."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import trio

from ccm.discord import (
    STANDARD_COMMANDS,
    Answer,
    Command,
    Interaction,
    Invocation,
    Option,
    User,
    friendly_answer,
)
from ccm.discord._command_wording import TEXTS
from ccm.discord._commanding import AT_ONCE
from ccm.testing import simulate
from tests.discord_client.commands_kit import bot

PAGE = Path(__file__).parents[2] / "docs" / "discord.md"


def worded(answer: Answer, interaction: Interaction) -> str:
    values = " ".join(f"{name}={value!r}" for name, value in answer.values.items())
    return f"{interaction.raw['locale']} {answer.kind} {values}".strip()[:200]


async def fail(invocation: Invocation) -> str:
    raise ValueError


async def hang(invocation: Invocation) -> None:
    await trio.sleep_forever()


async def nothing(invocation: Invocation) -> None:
    await trio.lowlevel.checkpoint()


COMMANDS = (
    *STANDARD_COMMANDS, Command("fail", "f", fail), Command("hang", "h", hang, timeout=5.0),
    Command("nothing", "n", nothing, options=(Option("size", "s", int, high=3),)),
)  # fmt: skip


def test_everything_that_commands_say_is_worded_by_who_was_asked_to() -> None:
    async def main() -> None:
        async with bot(COMMANDS, command_wording=worded) as there:
            assert await there.use("nothing") == "en-US done"
            assert await there.use("fail") == "en-US failed"
            assert await there.use("hang") == "en-US late"
            assert await there.use("gone") == "en-US unknown"
            wrong = "option='size' kind=<class 'int'> low=None high=3 given=7"
            assert await there.use("nothing", size=7) == f"en-US wrong {wrong}"
            assert await there.use("test_concurrent") == "en-US missing option='count'"
            assert await there.use("stop") == "en-US nothing_to_stop"
            assert await there.use("handoff") == "en-US no_storage"
            assert (await there.use("performance")).startswith("en-US performance statistics=Statistics(")
            tested = await there.use("test_concurrent", count=1)
            assert tested.startswith(
                "en-US load_test tested=[Tested(priority=<Priority.CRITICAL: 0>, sent=1,"
            )
            private = there.fake.world.private(there.fake.world.person)
            asked = there.fake.world.ask("performance", channel=private)
            assert await there.answer(asked) == "en-US elsewhere"
            hanging = [there.fake.world.ask("hang") for _ in range(AT_ONCE + 1)]
            assert await there.answer(hanging[-1]) == "en-US full"

    simulate(main, limit=120.0)


def test_with_a_storage_a_handover_is_worded(tmp_path: Path) -> None:
    async def main() -> None:
        async with bot(COMMANDS, command_wording=worded, storage=tmp_path / "a.db", sockets=True) as there:
            assert await there.use("handoff", back=True) == "en-US not_taken_over"
            assert await there.use("handoff") == "en-US taken_over"
            assert await there.use("handoff") == "en-US taken_already agent='person'"
            assert await there.use("handoff", back=True) == "en-US given_back"

    trio.run(main)


@pytest.mark.parametrize("text", ["", "  ", "x" * 5000, "\ud800"])
def test_words_that_discord_does_not_take_end_nothing(text: str) -> None:
    async def main() -> None:
        async with bot(COMMANDS, command_wording=lambda answer, interaction: text) as there:
            for command in ("gone", "nothing"):
                said = await there.use(command)
                assert 0 < len(said) <= 2000
                assert text.replace("\ud800", "?").startswith(said) or not text.strip()

    simulate(main, limit=60.0)


def test_every_kind_is_documented_with_its_values() -> None:
    page = PAGE.read_text(encoding="utf-8")
    table = page.partition("| kind of answer |")[2].partition("\n\n")[0]
    rows = [line.split("|") for line in table.splitlines()[2:]]
    kinds = {kind for row in rows for kind in re.findall(r"`(\w+)`", row[1])}
    assert kinds == TEXTS.keys()
    interaction = Interaction("1", "2", "t", 2, User("3"))
    for kind, text in TEXTS.items():
        if isinstance(text, str):
            told = next(row[3] for row in rows if f"`{kind}`" in row[1])
            names = re.findall(r"{(\w+)}", text)
            assert all(f"`{name}`" in told for name in names)
            said = friendly_answer(Answer(kind, dict.fromkeys(names, "it")), interaction)
            assert said == re.sub(r"{\w+}", "it", text)
