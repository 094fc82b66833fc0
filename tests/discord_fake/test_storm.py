"""A whole bot in storms of faults; `nox -s discord_storm` has 300 of them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import trio

from ccm.discord import Rest, RestError, split
from ccm.testing import simulate

from .fake import CHANNEL, FakeDiscord, open_fake
from .storm import Storm, draw_storm, reply_of, run
from .wire import dialler, open_wired

SEEDS = range(30)
CREATE = "POST /channels/{channel}/messages"


@pytest.mark.parametrize("seed", SEEDS)
def test_each_message_is_answered_once_and_in_order_whatever_goes_wrong(seed: int, tmp_path: Path) -> None:
    assert run(seed, tmp_path).wrong == []


def test_the_same_seed_gives_the_same_storm(tmp_path: Path) -> None:
    assert draw_storm(7) == draw_storm(7) != draw_storm(8)
    (tmp_path / "again").mkdir()
    assert run(7, tmp_path) == run(7, tmp_path / "again")


# -- what judges ------------------------------------------------------------------------------------


def test_the_judge_sees_what_is_missing_doubled_swapped_and_strange() -> None:
    async def main() -> None:
        async with open_fake(memory=True) as fake:
            storm = Storm(fake)
            world = fake.world
            for style in ("quick", "long", "quick"):
                storm.say(CHANNEL, style)

            def reply(text: str) -> str:
                return str(world.say(text, channel=CHANNEL, author=world.bot)["id"])

            assert storm.wrong() == [f"{number} has no reply" for number in range(3)]
            reply("re 2.0 quick")
            first = reply("re 0.0 quick")
            assert storm.wrong() == [f"out of order in {CHANNEL}: [2, 0]", "1 has no reply"]
            world.delete(CHANNEL, first)
            storm.said[0].deleted = True
            one, two = split(reply_of("1.0 long"))
            reply(one)
            assert [line[:5] for line in storm.wrong()] == ["out o", "1 has"]
            storm.late.add(CHANNEL)
            reply(two)
            assert storm.wrong() == []
            reply("re 2.0 quick")
            assert storm.wrong() == ["2 has ['re 2.0 quick', 're 2.0 quick']"]
            reply("re 0.0 quick")
            reply("re 0.0 quick")
            reply("sorry")
            assert [line[:12] for line in storm.wrong()] == ["somebody see", "0 is deleted", "2 has ['re 2"]

    simulate(main)


# -- one fault at a time ----------------------------------------------------------------------------


@pytest.mark.parametrize("on_sockets", [False, True], ids=["memory", "sockets"])
@pytest.mark.parametrize("how", ["late", "never", "never and not done", "told", "untold"])
def test_a_message_whose_answer_is_late_or_cut_off_is_there_once(how: str, on_sockets: bool) -> None:
    async def play(fake: FakeDiscord, rest: Rest) -> None:
        if how in ("told", "untold"):
            fake.api.cut(how, times=2, route=CREATE)
        else:
            later = 0.75 if how == "late" else math.inf
            fake.api.delay(later, times=2, route=CREATE, carried_out=how != "never and not done")
        message = await rest.create_message(CHANNEL, "hi")
        assert message.content == "hi"
        assert [each["content"] for each in fake.world.messages[CHANNEL].values()] == ["hi"]
        assert sum(seen.route == CREATE for seen in fake.api.seen) == 3

    async def main() -> None:
        async with open_fake(memory=not on_sockets) as fake, trio.open_nursery() as nursery:
            settings = fake.settings(request_timeout=0.5)
            if on_sockets:
                async with fake.open_rest(request_timeout=0.5) as rest:
                    await play(fake, rest)
            else:
                async with open_wired(settings, dialler(fake, nursery)) as rest:
                    await play(fake, rest)
            nursery.cancel_scope.cancel()

    if on_sockets:
        trio.run(main)
    else:
        simulate(main)


def test_a_page_that_is_cut_off_for_ever_is_an_error() -> None:
    async def main() -> None:
        async with open_fake(memory=True) as fake, trio.open_nursery() as nursery:
            fake.world.say("hi")
            async with open_wired(fake.settings(), dialler(fake, nursery)) as rest:
                fake.api.cut("untold", times=5)
                with pytest.raises(RestError):
                    await rest.messages_after(CHANNEL, "1")
                assert [each.content for each in await rest.messages_after(CHANNEL, "1")] == ["hi"]
            nursery.cancel_scope.cancel()

    simulate(main)
