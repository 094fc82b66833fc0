"""The bot's token is reset while it runs: everything stops, nothing that was accepted is lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

import ccm
from ccm import discord
from ccm.discord._errors import held_back
from ccm.testing import simulate
from tests.discord_fake.crash import INTENTS
from tests.discord_fake.fake import CHANNEL, FakeDiscord, open_fake

NEW = "MQ.new.token"
WARNING = "Please do not post that here."


class Bot:
    """One process after the other, in a folder of their own: a storage, a gateway's state and a bridge.

    Attributes:
        private: the channel where everything is said.
        handled: texts that a handler has begun with.
        gate: a turn whose text has "hold" in it waits for this before it answers.
        error: what ended the last process, None while it has not.
    """

    def __init__(self, fake: FakeDiscord, folder: Path | None, **more: Any) -> None:
        self.fake = fake
        self.folder = folder
        self.more = more
        self.private = fake.world.private(fake.world.person)
        self.handled: list[str] = []
        self.gate = trio.Event()
        self.error: BaseException | None = None
        self.manager: ccm.ConversationManager
        self.gateway: discord.Gateway

    async def answer(self, turn: ccm.Turn) -> str:
        self.handled.append(turn.text)
        if "hold" in turn.text:
            await self.gate.wait()
        return f"re {turn.text}"

    def say(self, text: str) -> None:
        self.fake.world.say(text, channel=self.private)

    def answers(self) -> Counter[str]:
        messages = self.fake.world.messages[self.private].values()
        me = self.fake.world.bot["id"]
        return Counter(each["content"] for each in messages if each["author"]["id"] == me)

    async def run(self, **settings: Any) -> None:
        """A process, until it ends with an error."""
        state = None if self.folder is None else self.folder / "state.json"
        kept = None if self.folder is None else self.folder / "bot.db"
        more: dict[str, Any] = {"state": state, "acknowledge": True, "intents": INTENTS}
        config = ccm.Config(rate_limit=None, drain=0.5, **self.more)
        try:
            async with self.fake.open_gateway(**{**more, **settings}) as self.gateway:
                bridge = discord.Bridge(self.gateway)
                async with ccm.open_manager(
                    self.answer, config=config, storage=kept, deliver=bridge.deliver
                ) as self.manager:
                    await bridge.run(self.manager)
        except discord.DiscordError as error:
            self.error = error

    @asynccontextmanager
    async def life(self) -> AsyncIterator[None]:
        """A process that is connected when the block begins, and over when it ends."""
        self.error = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.run)
            await self.fake.until(lambda: any(link.session for link in self.fake.links))
            yield
            nursery.cancel_scope.cancel()


def refusals(fake: FakeDiscord) -> int:
    return sum(each.status == 401 for each in fake.api.seen)


def assert_names_the_remedy(error: BaseException | None) -> None:
    assert isinstance(error, discord.GatewayClosed)
    assert error.code == 4004
    for word in (
        "reset or revoked",
        "developer portal",
        "DISCORD_TOKEN",
        "start again",
        "401",
        error.request,
    ):
        assert word in str(error)
    assert error.request


@pytest.mark.trio
async def test_what_was_accepted_is_delivered_once_by_the_next_process_with_a_good_token(
    tmp_path: Path,
) -> None:
    async with open_fake(identify_spacing=0.0) as fake:
        bot = Bot(fake, tmp_path)
        async with bot.life():
            bot.say("0")
            await fake.until(lambda: bot.answers() == {"re 0": 1})
            bot.say("hold 1")
            await fake.until(lambda: "hold 1" in bot.handled)
            bot.say("2")  # waits behind it
            await fake.until(lambda: bot.manager.statistics().waiting == 1)
            fake.rules.token = NEW
            bot.gate.set()
            await fake.until(lambda: bot.error)
        assert_names_the_remedy(bot.error)
        asked = len(fake.api.seen)
        (link,) = fake.hub.links
        await fake.until(lambda: link.over)
        assert link.code == 4000  # the session lives on
        assert 1 <= refusals(fake) <= 2  # a reply, and the bot may have been about to type
        assert bot.answers() == {"re 0": 1}
        bot.say("3")  # while nobody is there
        async with bot.life():
            await fake.until(lambda: len(bot.answers()) == 4)
            await bot.manager.wait_idle()
            assert bot.manager.statistics().dead_letters == 0
        assert bot.answers() == {"re 0": 1, "re hold 1": 1, "re 2": 1, "re 3": 1}
        assert all(each.status < 400 for each in fake.api.seen[asked:])
        assert len(fake.hub.identified) == 1


@pytest.mark.trio
async def test_a_moderation_that_was_cut_short_is_done_by_the_next_process(tmp_path: Path) -> None:
    async def main(fake: FakeDiscord, token: str, until: Any) -> None:
        more: dict[str, Any] = {"token": token, "acknowledge": True, "intents": INTENTS}
        async with fake.open_gateway(**more) as gateway:
            router = ccm.Router()
            rule = ccm.matches("spam")
            router.route("moderation", when=rule, ordered=False, answers=False)(
                discord.Moderator(gateway.rest)
            )
            bridge = discord.Bridge(gateway)
            config = ccm.Config(drain=0.5, retry=ccm.RetryPolicy(attempts=2, base=0.01))
            storage = tmp_path / "bot.db"
            opened = ccm.open_manager(router, config=config, storage=storage, deliver=bridge.deliver)
            async with opened as manager, trio.open_nursery() as nursery:
                nursery.start_soon(bridge.run, manager)
                await until(manager)
                nursery.cancel_scope.cancel()

    async with open_fake(identify_spacing=0.0) as fake:

        def said() -> list[str]:
            return [each["content"] for each in fake.world.messages[CHANNEL].values()]

        async def revoked(manager: ccm.ConversationManager) -> None:
            await fake.until(lambda: any(each.route == "GET /users/@me" for each in fake.api.seen))
            await fake.until(lambda: fake.hub.live)
            fake.rules.token = NEW
            fake.world.say("spam")
            await trio.sleep_forever()

        async def done(manager: ccm.ConversationManager) -> None:
            await fake.until(lambda: said() == [WARNING])
            await manager.wait_idle()
            assert manager.statistics().dead_letters == 0

        with pytest.RaisesGroup(discord.GatewayClosed, flatten_subgroups=True, allow_unwrapped=True):
            await main(fake, fake.rules.token, revoked)
        assert said() == ["spam"]
        await main(fake, NEW, done)


# -- on virtual time -------------------------------------------------------------------------------


def test_the_loop_ends_when_it_has_read_what_had_come() -> None:
    async def main() -> None:
        async with open_fake(memory=True) as fake:
            async with fake.open_gateway(intents=INTENTS, events={"MESSAGE_CREATE"}) as gateway:
                assert isinstance(await anext(gateway), discord.Ready)
                fake.world.say("before")
                await fake.until(lambda: gateway.statistics().waiting)
                fake.rules.token = NEW
                for _ in range(2):
                    with pytest.raises(discord.RestError):
                        await gateway.rest.typing(CHANNEL)
                await fake.until(lambda: not fake.links)
                fake.world.say("after")
                event = await anext(gateway)
                assert isinstance(event, discord.Event)
                assert event.data["content"] == "before"
                for _ in range(2):
                    with pytest.raises(discord.GatewayClosed) as caught:
                        await anext(gateway)
                    assert_names_the_remedy(caught.value)
                await trio.sleep(600)
                assert gateway.statistics().live == 0
            (link,) = fake.hub.links
            assert link.code == 1000  # nobody keeps the session: the bot is shown as offline
            assert refusals(fake) == 1

    simulate(main, limit=3600.0)


def test_a_bridge_that_waits_for_room_ends_all_the_same() -> None:
    async def main() -> None:
        async with open_fake(memory=True) as fake:
            more = {
                "limit": 1,
                "headroom": {},
                "queue_limit": 1,
                "overflow": ccm.Overflow.WAIT,
                "timeout": 900,
            }
            bot = Bot(fake, None, **more)
            async with bot.life():
                for number in range(4):
                    bot.say(f"hold {number}")
                await fake.until(lambda: bot.manager.statistics().waiting == 1)
                await trio.sleep(60)
                fake.rules.token = NEW
                began = trio.current_time()
                with pytest.raises(discord.RestError):
                    await bot.gateway.rest.react(bot.private, "1", "x")
                await fake.until(lambda: bot.error)
                assert trio.current_time() - began < 7
            assert_names_the_remedy(bot.error)

    simulate(main, limit=3600.0)


@pytest.mark.parametrize("asked", [False, True])
def test_a_token_that_is_no_good_from_the_start_is_told_in_the_same_way(asked: bool) -> None:
    async def main() -> None:
        async with open_fake(memory=True) as fake:
            bot = Bot(fake, None)
            fake.rules.token = NEW
            await bot.run(token="wrong", **({} if asked else {"gateway_url": fake.gateway_url}))
            assert_names_the_remedy(bot.error)
            assert bot.handled == []
            assert refusals(fake) == 1

    simulate(main, limit=600.0)


@pytest.mark.parametrize("pause", [300.0, 7200.0])
def test_a_manager_is_told_how_long_requests_are_held_back(pause: float) -> None:
    """A shorter wait would use up the tries of a delivery before any could succeed."""
    busy = held_back(discord.RestStopped("POST /x", "banned", pause))
    assert busy is not None
    assert busy.retry_after == pause
    for error in (discord.RestError("POST /x", 401), discord.RestStopped("POST /x", "401", float("inf"))):
        busy = held_back(error)
        assert busy is not None
        assert busy.retry_after == 86_400.0
    assert held_back(discord.RestError("POST /x", 403)) is None
