"""Kills a bot with SIGKILL at random moments between a message and its answer, and starts it again:
`python -m tests.discord_fake.crash --kills 50`.

The bot is a child process with a SQLite file, a gateway state and the bridge; the fake Discord lives in this
one. Kills are aimed: shortly after Discord has sent a message, after its handler has begun (the child says
so), or after a reply has arrived at Discord. Some messages are said while no bot is there, and some sessions
are lost, so that only a backfill finds them. Every message must be answered in the end, and nobody may see
an answer twice.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

import ccm
from ccm import discord
from tests.discord_fake.fake import CHANNEL, GUILD, FakeDiscord, open_fake
from tests.discord_fake.rest import Seen

INTENTS = discord.Intents.GUILDS | discord.Intents.GUILD_MESSAGES | discord.Intents.DIRECT_MESSAGES
INTENTS |= discord.Intents.MESSAGE_CONTENT
POINTS = ("sent", "accepted", "replied")
"""What a kill is aimed at."""
REPLY = "POST /channels/{channel}/messages"
LATENCY = 0.01


async def bot(folder: Path, token: str, api_url: str) -> None:
    """What the child does, until it is killed."""

    async def answer(turn: ccm.Turn) -> str:
        print(turn.message.text, flush=True)  # accepted, and not answered
        await trio.sleep(random.choice((0.0, 0.01, 0.05)))
        return f"re {turn.message.text}"

    settings = discord.DiscordSettings(
        token=token, api_url=api_url, state=folder / "state.json", acknowledge=True, intents=INTENTS
    )
    async with discord.open_gateway(settings) as gateway:
        bridge = discord.Bridge(gateway)
        config = ccm.Config(rate_limit=None, max_attempts=1000, conversation_limit=1000)
        async with ccm.open_manager(
            answer, config=config, storage=folder / "bot.db", deliver=bridge.deliver
        ) as manager:
            await bridge.run(manager)


class Result:
    """What came of it.

    Attributes:
        said: messages.
        kills: and `between`: those of them while answers were outstanding, by what they were aimed at.
        answers: how often each message was answered.
    """

    def __init__(self) -> None:
        self.said = 0
        self.kills = 0
        self.between = Counter[str]()
        self.answers: Counter[str] = Counter()

    @property
    def wrong(self) -> list[str]:
        """Messages that were not answered exactly once."""
        return [f"{n}: {self.answers[f're {n}']} answers" for n in range(self.said)
                if self.answers[f"re {n}"] != 1]  # fmt: skip

    @property
    def idle(self) -> bool:
        """Whether too few kills hit anything: it proves nothing then."""
        return 3 * self.between.total() < self.kills


class Life:
    """A bot that lives, and what happens to it.

    Attributes:
        happened: how often each of `POINTS` has come.
    """

    def __init__(self) -> None:
        self.happened = Counter[str]()
        self._changed = trio.Event()

    def happens(self, point: str) -> None:
        self.happened[point] += 1
        self._changed.set()
        self._changed = trio.Event()

    async def reaches(self, point: str, times: int) -> None:
        """Wait until something has happened so many times."""
        with trio.fail_after(60):
            while self.happened[point] < times:
                await self._changed.wait()


class Stage:
    """The fake Discord, and one bot after the other in the same folder."""

    def __init__(self, fake: FakeDiscord, folder: Path) -> None:
        self.fake = fake
        self.folder = folder
        self.result = Result()
        self.channels = [fake.world.private(fake.world.person), CHANNEL]
        fake.faults.rest_latency = LATENCY

    def say(self, channel: str) -> None:
        self.fake.world.say(str(self.result.said), channel=channel)
        self.result.said += 1

    def new_channel(self) -> str:
        """One that no bot was told of."""
        world = self.fake.world
        self.channels.append(world.channel(world.guilds[GUILD], "new", silently=True))
        return self.channels[-1]

    def outstanding(self) -> int:
        """Messages without an answer; brings `result.answers` up to date."""
        world, me = self.fake.world, self.fake.world.bot["id"]
        self.result.answers = Counter(
            message["content"]
            for channel in self.channels
            for message in world.messages.get(channel, {}).values()
            if message["author"]["id"] == me
        )
        return self.result.said - len(self.result.answers)

    async def finish(self) -> None:
        """A bot that may live until all is answered, and a second longer: nothing is answered twice."""
        async with self.life():
            await self.fake.until(lambda: not self.outstanding(), 120)
            await trio.sleep(1.0)
        self.outstanding()

    @asynccontextmanager
    async def life(self) -> AsyncIterator[Life]:
        """One process; it is connected when the block begins, and killed when that ends."""
        fake, life = self.fake, Life()
        command = [sys.executable, "-m", "tests.discord_fake.crash", "--bot", str(self.folder)]
        process = await trio.lowlevel.open_process(
            [*command, fake.rules.token, fake.api_url], stdout=subprocess.PIPE
        )

        def watch(seen: Seen) -> None:
            life.happens("replied" if seen.route == REPLY else seen.route)

        async def listen() -> None:
            assert process.stdout is not None
            async for data in process.stdout:
                for _ in data.splitlines():
                    life.happens("accepted")

        fake.api.watch = watch
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            try:
                await fake.until(lambda: any(link.session for link in fake.links), 30)
                yield life
            finally:
                process.kill()
                with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
                    await process.wait()
                with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
                    await fake.until(lambda: not fake.links)


@asynccontextmanager
async def open_stage(folder: Path) -> AsyncIterator[Stage]:
    async with open_fake(identify_spacing=0.0, global_rate=10_000, session_total=100_000) as fake:
        yield Stage(fake, folder)


async def crash(kills: int, seed: int, folder: Path) -> Result:
    """Lives until so many were ended by SIGKILL, and one that may finish."""
    draw = random.Random(seed)
    async with open_stage(folder) as stage:
        result = stage.result
        async with stage.life():
            await stage.fake.until((folder / "state.json").exists)
            # Nobody can find a private chat that no bot has ever answered in, once its session is lost.
            for channel in stage.channels:
                stage.say(channel)
            await stage.fake.until(lambda: not stage.outstanding(), 60)
        while result.kills < kills:
            stage.fake.faults.refuse_resume = draw.random() < 0.3  # the session is lost
            for _ in range(draw.choice((0, 0, 1, 3))):
                stage.say(draw.choice(stage.channels[:2]))
            point, spoken = draw.choice(POINTS), draw.randint(1, 5)
            times, delay = draw.randint(1, spoken), draw.uniform(0.0, 0.03)
            async with stage.life() as life:
                for _ in range(spoken):
                    stage.say(draw.choice(stage.channels[:2]))
                    life.happens("sent")
                    if point == "sent" and life.happened[point] == times:
                        break
                await life.reaches(point, times)
                await trio.sleep(delay)
                result.between[point] += stage.outstanding() > 0
            result.kills += 1
        stage.fake.faults.refuse_resume = False
        await stage.finish()
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bot", nargs=3, metavar=("FOLDER", "TOKEN", "URL"), help=argparse.SUPPRESS)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    if options.bot:
        trio.run(bot, Path(options.bot[0]), *options.bot[1:])
        return 0
    with tempfile.TemporaryDirectory() as folder:
        result = trio.run(crash, options.kills, options.seed, Path(folder))
    print(
        f"{result.kills} kills (seed {options.seed}), {result.between.total()} with answers outstanding "
        f"({dict(result.between)}), {result.said} messages: {result.wrong or 'each answered once'}"
    )
    return bool(result.wrong or result.idle)


if __name__ == "__main__":
    raise SystemExit(main())
